#include "replay/audit.h"

#include "base/clock.h"

struct fact {
    const char *what;
    int64_t newest_ms; /* INT64_MIN: nothing is in it */
};

static int leak(const struct score_request *request, uint64_t row, struct text item, const struct fact *fact,
                struct error *err)
{
    char asked[32], known[32];
    clock_format(request->timestamp_ms, asked);
    clock_format(fact->newest_ms, known);
    return error_set(err, ERROR_FATAL,
                     "leak: row %llu, request \"" TEXT_FORMAT "\" of user \"" TEXT_FORMAT
                     "\" at %s, item \"" TEXT_FORMAT "\": %s of %s, which is not earlier",
                     (unsigned long long)row, TEXT_ARGS(text_prefix(request->request_id, 60)),
                     TEXT_ARGS(text_prefix(request->user_id, 60)), asked, TEXT_ARGS(text_prefix(item, 60)), fact->what,
                     known);
}

int audit_request(const struct audit *audit, const struct score_request *request, const struct plan *plan,
                  uint64_t first_row, bool judged, struct error *err)
{
    for (size_t c = 0; c < plan->candidate_count; c++) {
        const struct fact facts[] = {
            {"the prompt's history holds an event", plan->history_ms},
            {"the evidence holds an event", plan->candidates[c].evidence.newest_ms},
            {"the embeddings come from a graph that holds an event",
             plan->state.events_applied > 0 ? plan->state.newest_event_ms : INT64_MIN},
            {"graph.vectors were trained on an event", audit->vectors_ms},
            {"the heads were trained on an event", judged ? audit->heads_ms : INT64_MIN},
        };
        for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
            if (facts[i].newest_ms != INT64_MIN && facts[i].newest_ms >= request->timestamp_ms)
                return leak(request, first_row + c, request->candidates[c].item_id, &facts[i], err);
    }
    return 0;
}
