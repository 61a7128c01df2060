#include "replay/loop.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "replay/audit.h"
#include "replay/join.h"

enum { MOST_STAGED = 10000, OPEN_DIRECTORIES = 16, SHOWN_ERRORS = 10, NAP_MS = 100 };

struct run {
    const struct replay_settings *settings;
    const struct replay_visitor *visitor;
    struct replay_totals *totals;
    const struct source_message *messages;
    size_t message_count;
    size_t next; /* message to learn */
    struct joined joined;
    bool *rendered; /* by request: a part of it is asked for */
    struct graph *graph;
    char directory[PATH_MAX]; /* that is ours to remove; "" */
    int64_t start_ns;         /* of the first request, for its pace */

    /* Of one request. */
    struct arena arena;
    struct tokens prefix, tails;
    struct buffer system_text, user_text, tail_text;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while replaying");
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int open_graph(struct run *run, struct error *err)
{
    struct graph_settings settings = run->settings->graph;
    if (settings.directory == NULL) {
        const char *parent = getenv("TMPDIR");
        snprintf(run->directory, sizeof run->directory, "%s/headrace-replay-XXXXXX", parent != NULL ? parent : "/tmp");
        if (mkdtemp(run->directory) == NULL) {
            int failed = errno;
            run->directory[0] = '\0';
            return error_set(err, ERROR_FATAL, "no temporary directory for the graph (TMPDIR): %s", strerror(failed));
        }
        settings.directory = run->directory;
    }
    settings.read_only = false;
    return graph_open(&run->graph, &settings, err);
}

static void close_graph(struct run *run)
{
    graph_close(run->graph);
    if (run->directory[0] != '\0')
        nftw(run->directory, remove_entry, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

static int put(struct run *run, const struct source_message *message, struct error *err)
{
    const struct item *item = message->message;
    const struct user *user = message->message;
    switch ((enum source_topic)message->topic) {
    case SOURCE_ITEMS:
        return message->deleted ? graph_delete_item(run->graph, item->item_id, err)
                                : graph_put_item(run->graph, item, err);
    case SOURCE_USERS:
        return message->deleted ? graph_erase_user(run->graph, user->user_id, err)
                                : graph_put_user(run->graph, user, err);
    case SOURCE_INTERACTIONS:
        run->totals->events++;
        return graph_put_interaction(run->graph, message->message, err);
    case SOURCE_REQUESTS:
    case SOURCE_TOPICS:
        break;
    }
    return 0;
}

static int learn(struct run *run, const struct source_message *message, struct error *err)
{
    if (put(run, message, err) == 0)
        return graph_staged(run->graph) >= MOST_STAGED ? graph_commit(run->graph, err) : 0;
    if (err->kind != ERROR_BAD_INPUT)
        return -1;
    if (run->totals->refused++ < SHOWN_ERRORS)
        log_warn("replay", "partition %d, offset %lld: %s", (int)message->partition, (long long)message->offset,
                 err->message);
    run->totals->events -= message->topic == SOURCE_INTERACTIONS;
    return 0;
}

static bool is_description(const struct source_message *message)
{
    return message->topic == SOURCE_ITEMS || message->topic == SOURCE_USERS;
}

/* Items and users, and all events that are earlier. */
static int learn_until(struct run *run, int64_t before_ms, struct error *err)
{
    for (; run->next < run->message_count; run->next++) {
        const struct source_message *message = &run->messages[run->next];
        if (!is_description(message) && message->timestamp_ms >= before_ms)
            break;
        if (run->joined.targets != NULL && run->joined.targets[run->next])
            continue;
        if (learn(run, message, err) != 0)
            return -1;
    }
    return graph_commit(run->graph, err);
}

/* What is kept of all requests. */
struct keeping {
    const struct replay_settings *settings;
    int64_t from_ms, to_ms; /* earlier ones are warm */
    size_t rows;            /* kept so far, for settings->limit */
};

static bool is_in_range(void *context, const struct joined_request *request)
{
    const struct keeping *keeping = context;
    return request->timestamp_ms >= keeping->from_ms && request->timestamp_ms < keeping->to_ms;
}

static bool is_sampled(void *context, const struct joined_request *request)
{
    struct keeping *keeping = context;
    const struct replay_settings *settings = keeping->settings;
    XXH64_hash_t hash = XXH3_64bits_withSeed(request->user_id.data, request->user_id.size, settings->seed);
    if (settings->sample_requests)
        hash = XXH3_64bits_withSeed(&request->timestamp_ms, sizeof request->timestamp_ms, hash);
    if ((double)(hash >> 11) * 0x1p-53 >= settings->sample || (settings->limit > 0 && keeping->rows >= settings->limit))
        return false;
    keeping->rows += request->row_count;
    return true;
}

static void find_range(const struct joined *joined, struct keeping *keeping)
{
    const struct replay_settings *settings = keeping->settings;
    size_t warm = (size_t)((double)joined->row_count * settings->warm);
    keeping->from_ms = settings->from_ms;
    keeping->to_ms = settings->to_ms;
    if (warm > 0 && warm < joined->row_count && joined->rows[warm].timestamp_ms > keeping->from_ms)
        keeping->from_ms = joined->rows[warm].timestamp_ms;
    if (settings->limit == 0)
        return;
    struct keeping limited = *keeping;
    for (size_t i = 0; i < joined->request_count; i++)
        if (is_in_range(&limited, &joined->requests[i]) && is_sampled(&limited, &joined->requests[i]))
            keeping->to_ms = joined->requests[i].timestamp_ms + 1;
}

static bool is_wanted(const struct replay_settings *settings, unsigned part)
{
    return settings->parts == 0 || (settings->parts >> part & 1) != 0;
}

static int choose_rendered(struct run *run, struct error *err)
{
    const struct replay_settings *settings = run->settings;
    const struct joined *joined = &run->joined;
    struct split other = settings->split;
    other.protocol = SPLIT_PAPER;
    run->rendered = calloc(joined->request_count + 1, sizeof *run->rendered);
    if (run->rendered == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < joined->request_count; i++)
        run->rendered[i] = is_wanted(settings, joined->rows[joined->requests[i].first_row].part) ||
                           (settings->both_protocols && is_wanted(settings, split_draw(&other, i)));
    return 0;
}

/*
 * A chronological split cuts all requests of the range, whatever is sampled of them: a smaller sample has the same
 * cuts. A random one draws for those that are left.
 */
static int choose_requests(struct run *run, const struct replay_log *log, struct error *err)
{
    const struct replay_settings *settings = run->settings;
    struct joined *joined = &run->joined;
    const struct join_settings join = {.graph = &settings->graph,
                                       .label_window_ms = settings->label_window_ms,
                                       .untimed = replay_log_untimed(log),
                                       .seed = settings->seed};
    bool by_time = settings->split.protocol == SPLIT_CHRONOLOGICAL;
    struct keeping keeping = {.settings = settings};
    if (join.untimed && (by_time || settings->both_protocols))
        return error_set(err, ERROR_BAD_INPUT, "the events have no times: only --protocol paper can split them");
    if (join_requests(joined, run->messages, run->message_count, &join, err) != 0)
        return -1;
    find_range(joined, &keeping);
    if (joined_keep(joined, is_in_range, &keeping, err) != 0 ||
        (by_time && split_rows(joined->rows, joined->row_count, &settings->split, err) != 0) ||
        joined_keep(joined, is_sampled, &keeping, err) != 0)
        return -1;
    if (joined->row_count == 0)
        return error_set(err, ERROR_BAD_INPUT, "no request is left: too small a sample, or none in that range");
    if (!by_time && split_rows(joined->rows, joined->row_count, &settings->split, err) != 0)
        return -1;
    return choose_rendered(run, err);
}

static int make_request(struct run *run, size_t number, struct score_request *request, struct error *err)
{
    const struct joined_request *joined = &run->joined.requests[number];
    if (joined->logged != NULL) {
        *request = *joined->logged;
        return 0;
    }
    char *id = arena_allocate(&run->arena, 32);
    *request = (struct score_request){
        .user_id = joined->user_id, .timestamp_ms = joined->timestamp_ms, .candidate_count = joined->row_count};
    request->candidates = arena_allocate_array(&run->arena, joined->row_count, sizeof *request->candidates);
    if (id == NULL || request->candidates == NULL)
        return out_of_memory(err);
    snprintf(id, 32, "replay-%zu", number);
    request->request_id = text_of(id);
    for (size_t i = 0; i < joined->row_count; i++)
        request->candidates[i].item_id = run->joined.item_ids[joined->first_row + i];
    return 0;
}

static int render(struct run *run, const struct plan *plan, struct replay_request *out, struct error *err)
{
    const struct prompt_template *prompt = run->settings->prompt;
    bool texts = run->settings->texts;
    size_t *offsets = arena_allocate_array(&run->arena, plan->candidate_count + 1, sizeof *offsets);
    size_t *text_offsets = arena_allocate_array(&run->arena, plan->candidate_count + 1, sizeof *text_offsets);
    if (offsets == NULL || text_offsets == NULL)
        return out_of_memory(err);
    run->prefix.count = run->tails.count = 0;
    buffer_clear(&run->system_text);
    buffer_clear(&run->user_text);
    buffer_clear(&run->tail_text);
    if (prompt_system(prompt, &run->prefix, texts ? &run->system_text : NULL, err) != 0 ||
        prompt_user(prompt, &plan->user, &run->prefix, texts ? &run->user_text : NULL, err) != 0)
        return -1;
    for (size_t c = 0; c < plan->candidate_count; c++) {
        if (plan->candidates[c].prompt.title.data != NULL &&
            prompt_candidate(prompt, &plan->candidates[c].prompt, &run->tails, texts ? &run->tail_text : NULL, err) !=
                0)
            return -1;
        offsets[c + 1] = run->tails.count;
        text_offsets[c + 1] = run->tail_text.size;
        out->rows[c].tail_tokens = (uint32_t)(offsets[c + 1] - offsets[c]);
    }
    out->rendered = run->tails.count > 0;
    for (size_t c = 0; c < plan->candidate_count; c++)
        out->rows[c].prefix_tokens = out->rendered ? (uint32_t)run->prefix.count : 0;
    out->prefix = run->prefix.ids;
    out->prefix_length = run->prefix.count;
    out->tokens = run->tails.ids;
    out->offsets = offsets;
    out->system_text = buffer_text(&run->system_text);
    out->user_text = buffer_text(&run->user_text);
    out->tail_text = buffer_text(&run->tail_text);
    out->text_offsets = text_offsets;
    return 0;
}

static uint8_t status_of(const struct plan *plan, size_t candidate)
{
    return plan->candidates[candidate].prompt.title.data == NULL ? CANDIDATE_COLD_ITEM
           : plan->cold_user                                     ? CANDIDATE_COLD_USER
                                                                 : CANDIDATE_OK;
}

static int visit(struct run *run, size_t number, struct error *err)
{
    const struct joined_request *joined = &run->joined.requests[number];
    const struct replay_settings *settings = run->settings;
    const struct audit audit = {settings->vectors_ms, settings->heads_ms};
    struct trajectory_row *rows = &run->joined.rows[joined->first_row];
    struct score_request request;
    struct plan plan;
    arena_reset(&run->arena);
    float *features = arena_allocate_array(&run->arena, joined->row_count, EVIDENCE_FEATURES * sizeof *features);
    if (features == NULL)
        return out_of_memory(err);
    bool judged = settings->split.protocol == SPLIT_CHRONOLOGICAL && rows->part == TRAJECTORY_TEST;
    if (make_request(run, number, &request, err) != 0 ||
        plan_request(run->graph, &settings->plan, &request, &run->arena, &plan, err) != 0 ||
        audit_request(&audit, &request, &plan, joined->first_row, judged, err) != 0)
        return -1;
    for (size_t c = 0; c < plan.candidate_count; c++) {
        const struct evidence *evidence = &plan.candidates[c].evidence;
        rows[c].status = status_of(&plan, c);
        rows[c].user_events = (uint32_t)evidence->user_count;
        rows[c].item_events = (uint32_t)evidence->item_count;
        evidence_features(evidence, &features[c * EVIDENCE_FEATURES]);
    }
    struct replay_request out = {.number = (uint32_t)number,
                                 .request = &request,
                                 .plan = &plan,
                                 .first_row = joined->first_row,
                                 .rows = rows,
                                 .features = features};
    if (settings->prompt != NULL && run->rendered[number] && render(run, &plan, &out, err) != 0)
        return -1;
    return run->visitor->request(run->visitor->context, &out, err);
}

static bool is_interrupted(const struct run *run)
{
    return run->settings->interrupted != NULL && *run->settings->interrupted;
}

static int interrupted(const struct run *run, size_t number, struct error *err)
{
    return error_set(err, ERROR_RETRY, "interrupted at request %zu of %zu", number, run->joined.request_count);
}

/* Until the request is due. */
static void keep_pace(struct run *run, int64_t timestamp_ms)
{
    double since_ms = (double)(timestamp_ms - run->joined.requests[0].timestamp_ms);
    if (run->start_ns == 0)
        run->start_ns = clock_monotonic_ns();
    for (;;) {
        double left_ms = since_ms / run->settings->speed - clock_since_ms(run->start_ns);
        if (left_ms <= 0 || is_interrupted(run))
            return;
        long ns = (long)((left_ms < NAP_MS ? left_ms : NAP_MS) * 1e6);
        nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
    }
}

static int replay(struct run *run, struct error *err)
{
    for (size_t number = 0; number < run->joined.request_count; number++) {
        if (is_interrupted(run))
            return interrupted(run, number, err);
        const struct joined_request *request = &run->joined.requests[number];
        run->totals->requests++;
        run->totals->rows += request->row_count;
        if (number < run->settings->done_requests)
            continue; /* its events are learned before the next one that is not */
        if (run->settings->speed > 0)
            keep_pace(run, request->timestamp_ms);
        if (learn_until(run, request->timestamp_ms, err) != 0)
            return -1;
        int enough = visit(run, number, err);
        if (enough != 0)
            return enough < 0 ? -1 : 0;
    }
    /* Nobody sees a temporary graph any more. */
    return run->settings->graph.directory != NULL ? learn_until(run, run->settings->to_ms, err) : 0;
}

int replay_run(struct replay_log *log, const struct replay_settings *settings, const struct replay_visitor *visitor,
               struct replay_totals *totals, struct error *err)
{
    struct run run = {.settings = settings, .visitor = visitor, .totals = totals};
    *totals = (struct replay_totals){0};
    arena_init(&run.arena, 0);
    int result = replay_log_order(log, err);
    run.messages = replay_log_messages(log, &run.message_count);
    if (result == 0)
        result = choose_requests(&run, log, err);
    if (result == 0)
        result = open_graph(&run, err);
    if (result == 0)
        result = replay(&run, err);
    totals->users = run.joined.users;
    totals->items = run.joined.items;
    close_graph(&run);
    joined_free(&run.joined);
    free(run.rendered);
    tokens_free(&run.prefix);
    tokens_free(&run.tails);
    buffer_free(&run.system_text);
    buffer_free(&run.user_text);
    buffer_free(&run.tail_text);
    arena_free(&run.arena);
    return result;
}
