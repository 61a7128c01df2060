#include <stdlib.h>

#include "graph/grow.h"
#include "graph/state.h"

/* A user's events of the past, newest first. */
struct past {
    struct graph *graph;
    int64_t start_ms;
    struct event *events;
    size_t count, capacity;
};

int64_t graph_history_start(const struct graph *graph)
{
    int64_t window_ms = graph->settings.window_ms;
    return window_ms == 0 || graph->newest_event_ms < window_ms ? 0 : graph->newest_event_ms - window_ms;
}

static int take_event(void *context, struct text key, struct text value, struct error *err)
{
    struct past *past = context;
    struct event event;
    if (event_decode(key, value, &event, err) != 0)
        return -1;
    if (event.timestamp_ms < past->start_ms)
        return SCAN_STOP;
    bool counts = event_is_edge(event.kind) || event.kind == INTERACTION_REMOVE;
    if (!counts || event.sequence >= past->graph->events) /* of a batch that is written and not in memory yet */
        return SCAN_GO_ON;
    if (grow(&past->events, &past->capacity, past->count + 1, sizeof event) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu events of a user", past->count);
    past->events[past->count++] = event;
    return SCAN_GO_ON;
}

static int compare_times(const struct event *a, const struct event *b)
{
    if (a->timestamp_ms != b->timestamp_ms)
        return a->timestamp_ms < b->timestamp_ms ? -1 : 1;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

/* By item, the newest first. */
static int compare_pairs(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    return x->item != y->item ? (x->item < y->item ? -1 : 1) : -compare_times(x, y);
}

static int compare_age(const void *a, const void *b)
{
    return compare_times(a, b);
}

/* Of each item the newest, unless it is a removal; oldest first. */
static void keep_edges(struct past *past)
{
    size_t kept = 0;
    uint32_t item = GRAPH_NONE;
    if (past->count == 0)
        return;
    qsort(past->events, past->count, sizeof *past->events, compare_pairs);
    for (size_t i = 0; i < past->count; i++) {
        if (past->events[i].item == item)
            continue;
        item = past->events[i].item;
        if (past->events[i].kind != INTERACTION_REMOVE)
            past->events[kept++] = past->events[i];
    }
    past->count = kept;
    qsort(past->events, past->count, sizeof *past->events, compare_age);
}

static int read_past(struct past *past, uint32_t user, int64_t before_ms, struct error *err)
{
    static const char classes[] = {'h', 'o'};
    for (size_t i = 0; i < sizeof classes; i++) {
        uint8_t start[EVENT_PREFIX_SIZE + 8];
        event_history_start(start, user, before_ms);
        event_prefix(start, classes[i], user);
        if (store_scan(&past->graph->store, FAMILY_EDGES, (struct text){(const char *)start, EVENT_PREFIX_SIZE},
                       (struct text){(const char *)start, sizeof start}, take_event, past, err) != 0)
            return -1;
    }
    return 0;
}

int graph_user_edges_at(struct graph *graph, uint32_t user, int64_t before_ms, struct edge **edges, size_t *count,
                        struct error *err)
{
    struct past past = {.graph = graph, .start_ms = graph_history_start(graph)};
    int result = before_ms <= 0 ? 0 : read_past(&past, user, before_ms, err);
    *edges = NULL;
    *count = 0;
    if (result != 0)
        goto out;
    keep_edges(&past);
    *edges = calloc(past.count + 1, sizeof **edges);
    if (*edges == NULL) {
        result = error_set(err, ERROR_FATAL, "out of memory for %zu edges", past.count);
        goto out;
    }
    for (; *count < past.count; ++*count)
        (*edges)[*count] = graph_edge_of(graph, &past.events[*count], past.events[*count].item);
out:
    free(past.events);
    return result;
}
