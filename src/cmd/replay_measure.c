/* replay_measure.c - candidates a second under the settings that matter */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "cmd/replay.h"
#include "graph/evidence.h"
#include "replay/evaluate.h"
#include "score/exit0.h"

/* A request's place in what is kept. */
struct kept {
    size_t prefix, prefix_length, tails; /* in tokens */
    size_t first, count;                 /* rows */
};

struct measuring {
    struct replay_answerer *answerer;
    size_t wanted;
    struct kept *requests;
    size_t request_count, request_capacity;
    struct tokens tokens;
    size_t *ends;    /* by row: where its tokens end, behind the request's first */
    float *features; /* (rows, EVIDENCE_FEATURES) */
    size_t rows, end_capacity, feature_capacity;

    /* Of one call. */
    struct tokens tails;
    size_t *offsets;
    float *evidence;
    struct engine_score *scores;
    size_t offset_capacity, evidence_capacity, score_capacity;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while measuring");
}

static int append(struct tokens *tokens, const int32_t *ids, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (tokens_append(tokens, ids[i], err) != 0)
            return -1;
    return 0;
}

static int keep_request(void *context, const struct replay_request *request, struct error *err)
{
    struct measuring *measuring = context;
    size_t candidates = request->request->candidate_count;
    if (request->rows->part != TRAJECTORY_TEST || !request->rendered)
        return 0;
    if (array_reserve(&measuring->requests, &measuring->request_capacity, measuring->request_count + 1,
                      sizeof *measuring->requests) != 0 ||
        array_reserve(&measuring->ends, &measuring->end_capacity, measuring->rows + candidates, sizeof(size_t)) != 0 ||
        array_reserve(&measuring->features, &measuring->feature_capacity,
                      (measuring->rows + candidates) * EVIDENCE_FEATURES, sizeof(float)) != 0)
        return out_of_memory(err);
    struct kept *kept = &measuring->requests[measuring->request_count++];
    *kept = (struct kept){measuring->tokens.count, request->prefix_length,
                          measuring->tokens.count + request->prefix_length, measuring->rows, 0};
    if (append(&measuring->tokens, request->prefix, request->prefix_length, err) != 0 ||
        append(&measuring->tokens, request->tokens, request->offsets[candidates], err) != 0)
        return -1;
    for (size_t c = 0; c < candidates; c++) {
        if (request->offsets[c + 1] == request->offsets[c])
            continue;
        measuring->ends[measuring->rows] = request->offsets[c + 1];
        memcpy(&measuring->features[measuring->rows++ * EVIDENCE_FEATURES], &request->features[c * EVIDENCE_FEATURES],
               EVIDENCE_FEATURES * sizeof(float));
        kept->count++;
    }
    return measuring->rows >= measuring->wanted;
}

/* The request's candidates that exit 0 does not settle; returns how many, -1 without memory. */
static int gather(struct measuring *measuring, const struct answering *view, const struct kept *kept, size_t *count,
                  struct error *err)
{
    const struct heads *heads = &view->heads;
    if (array_reserve(&measuring->offsets, &measuring->offset_capacity, kept->count + 1, sizeof(size_t)) != 0 ||
        array_reserve(&measuring->evidence, &measuring->evidence_capacity, kept->count * heads->count + 1,
                      sizeof(float)) != 0 ||
        array_reserve(&measuring->scores, &measuring->score_capacity, kept->count + 1, sizeof *measuring->scores) != 0)
        return out_of_memory(err);
    measuring->tails.count = *count = 0;
    measuring->offsets[0] = 0;
    for (size_t i = 0, start = 0; i < kept->count; i++) {
        const float *features = &measuring->features[(kept->first + i) * EVIDENCE_FEATURES];
        size_t end = measuring->ends[kept->first + i];
        if (!exit0_is_settled(heads, &view->rule, exit0_probability(heads, features))) {
            if (append(&measuring->tails, measuring->tokens.ids + kept->tails + start, end - start, err) != 0)
                return -1;
            heads_weigh_evidence(heads, features, &measuring->evidence[*count * heads->count]);
            measuring->offsets[++*count] = measuring->tails.count;
        }
        start = end;
    }
    return 0;
}

static int run(struct measuring *measuring, const struct answering *view, struct error *err)
{
    for (size_t i = 0; i < measuring->request_count; i++) {
        const struct kept *kept = &measuring->requests[i];
        size_t count = 0;
        if (gather(measuring, view, kept, &count, err) != 0)
            return -1;
        struct engine_prompt prompt = {.prefix = measuring->tokens.ids + kept->prefix,
                                       .prefix_length = kept->prefix_length,
                                       .tokens = measuring->tails.ids,
                                       .offsets = measuring->offsets,
                                       .candidate_count = count,
                                       .evidence = measuring->evidence};
        if (count > 0 && engine_score(view->engine, &prompt, 1, measuring->scores, err) != 0)
            return -1;
    }
    return 0;
}

static int time_setting(struct measuring *measuring, struct answering *view, const char *set, const char *setting,
                        struct replay_speeds *speeds, struct error *err)
{
    view->engine = NULL;
    if (setup_engine(measuring->answerer->config, view, err) != 0)
        return -1;
    int64_t start_ns = clock_monotonic_ns();
    int result = run(measuring, view, err);
    double rate = (double)measuring->rows / (clock_since_ms(start_ns) / 1000);
    engine_destroy(view->engine);
    view->engine = NULL;
    if (result != 0 || speeds->count == REPLAY_SPEEDS)
        return result;
    char *name = speeds->names[speeds->count];
    snprintf(name, sizeof speeds->names[0], "%s, %s", set, setting);
    printf("%s: %.1f candidates/s (%zu rows)\n", name, rate, measuring->rows);
    speeds->speeds[speeds->count++] = (struct report_speed){name, rate};
    return 0;
}

/* The layers above the reference exit are gone, as exit.max_layer would have it. */
static int time_reference(struct measuring *measuring, struct answering view, const char *set,
                          struct replay_speeds *speeds, struct error *err)
{
    struct heads all = view.heads;
    size_t reference = all.reference, kept = 0;
    char setting[48];
    while (kept < all.count && all.exits[kept].layer != reference)
        kept++;
    if (reference == 0 || kept == all.count)
        return 0; /* not known, or exit 0, which costs nothing */
    snprintf(setting, sizeof setting, "reference depth %zu", reference);
    view.heads.exits = &all.exits[kept];
    view.heads.count = 1;
    view.rule = (struct exit_rule){.kind = EXIT_RULE_FULL};
    return time_setting(measuring, &view, set, setting, speeds, err);
}

static int time_chosen(struct measuring *measuring, struct answering view, const char *set, const struct report *report,
                       struct replay_speeds *speeds, struct error *err)
{
    struct head exits[HEADS_MAX_EXITS];
    float leave[EVALUATE_EXITS + 1];
    size_t count;
    if (!report_chosen(report, set, &view.rule, leave, &count) || count != view.heads.count + 1)
        return 0;
    memcpy(exits, view.heads.exits, view.heads.count * sizeof *exits);
    view.heads.exits = exits;
    view.heads.exit0_leave = leave[0];
    for (size_t i = 0; i < view.heads.count; i++)
        exits[i].leave = leave[i + 1];
    return time_setting(measuring, &view, set, "chosen", speeds, err);
}

static int time_set(struct measuring *measuring, size_t at, const struct report *report, struct replay_speeds *speeds,
                    struct error *err)
{
    const char *set = measuring->answerer->sets[at].name;
    struct answering view = measuring->answerer->views[at];
    struct exit_rule served = view.rule;
    view.rule = (struct exit_rule){.kind = EXIT_RULE_FULL};
    if (time_setting(measuring, &view, set, "full depth", speeds, err) != 0 ||
        time_reference(measuring, view, set, speeds, err) != 0)
        return -1;
    view.rule = served;
    if (served.kind != EXIT_RULE_FULL &&
        time_setting(measuring, &view, set, setup_rule_name(served.kind), speeds, err) != 0)
        return -1;
    return report == NULL ? 0 : time_chosen(measuring, view, set, report, speeds, err);
}

int replay_measure(struct replay_making *making, const struct report *report, size_t rows, struct replay_speeds *speeds,
                   struct error *err)
{
    struct measuring measuring = {.answerer = making->answerer, .wanted = rows};
    const struct replay_visitor visitor = {&measuring, keep_request};
    struct replay_totals totals;
    struct replay_settings settings = making->logged->settings;
    settings.parts = 1u << TRAJECTORY_TEST;
    settings.speed = 0;
    settings.prompt = making->answerer->base.prompt;
    speeds->count = 0;
    int result = replay_run(making->logged->log, &settings, &visitor, &totals, err);
    for (size_t i = 0; result == 0 && measuring.rows > 0 && i < making->answerer->count; i++)
        result = time_set(&measuring, i, report, speeds, err);
    free(measuring.requests);
    tokens_free(&measuring.tokens);
    free(measuring.ends);
    free(measuring.features);
    tokens_free(&measuring.tails);
    free(measuring.offsets);
    free(measuring.evidence);
    free(measuring.scores);
    return result;
}
