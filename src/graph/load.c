#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "graph/state.h"

struct loading {
    struct graph *graph;
    struct event *events; /* current ones, to be put in order */
    size_t count, capacity;
    int64_t told_ns;
};

static const int64_t progress_interval_ns = 5000000000;

static void tell_progress(struct loading *loading, const char *what, size_t count)
{
    int64_t now_ns = clock_monotonic_ns();
    if (now_ns - loading->told_ns < progress_interval_ns)
        return;
    log_info("graph", "loading %s: %zu %s so far", loading->graph->settings.directory, count, what);
    loading->told_ns = now_ns;
}

static int damaged(const struct graph *graph, const char *what, struct error *err)
{
    return error_set(err, ERROR_FATAL,
                     "the store %s is damaged: %s. Move it away and let the worker read the topics anew, or restore a "
                     "snapshot",
                     graph->settings.directory, what);
}

static int load_counts(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    (void)key;
    if (value.size != 16)
        return damaged(graph, "counts of a wrong size", err);
    graph->events = bytes_get_64(value.data);
    graph->newest_event_ms = (int64_t)bytes_get_64(value.data + 8);
    return SCAN_GO_ON;
}

static int load_id(void *context, struct text key, struct text id, struct error *err)
{
    struct loading *loading = context;
    struct nodes *nodes = &loading->graph->nodes;
    bool user = key.data[0] == 'u';
    size_t count = user ? nodes->user_ids.count : nodes->item_ids.count;
    if (key.size != 5 || bytes_get_32(key.data + 1) != count)
        return damaged(loading->graph, "a gap in the node numbers", err);
    tell_progress(loading, user ? "users" : "items", count);
    if (!user)
        return nodes_add_item(nodes, id, err);
    return id.size == 0 ? nodes_add_erased_user(nodes, err) : nodes_add_user(nodes, id, err);
}

static int load_item(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (key.size != 4 || bytes_get_32(key.data) >= graph->nodes.item_ids.count)
        return damaged(graph, "a title without its item", err);
    struct description *description = description_decode(value, err);
    if (description == NULL)
        return -1;
    return nodes_describe_item(&graph->nodes, bytes_get_32(key.data), description, err);
}

static int load_user(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (key.size != 4 || bytes_get_32(key.data) >= graph->nodes.user_ids.count)
        return damaged(graph, "a profile without its user", err);
    struct description *profile = description_decode(value, err);
    if (profile == NULL)
        return -1;
    nodes_describe_user(&graph->nodes, bytes_get_32(key.data), profile);
    return SCAN_GO_ON;
}

static int load_offset(void *context, struct text key, struct text value, struct error *err)
{
    struct graph *graph = ((struct loading *)context)->graph;
    if (value.size != 8)
        return damaged(graph, "an offset of a wrong size", err);
    uint32_t partition = graph_number_partition(graph, key);
    if (partition == GRAPH_NONE)
        return error_set(err, ERROR_FATAL, "out of memory while loading offsets");
    graph->next_offsets[partition] = (int64_t)bytes_get_64(value.data);
    return SCAN_GO_ON;
}

static int load_pair(void *context, struct text key, struct text value, struct error *err)
{
    struct loading *loading = context;
    const struct nodes *nodes = &loading->graph->nodes;
    struct event event;
    if (pair_decode(key, value, &event, err) != 0)
        return -1;
    if (event.user >= nodes->user_ids.count || event.item >= nodes->item_ids.count)
        return damaged(loading->graph, "an edge without its node", err);
    if (!event_is_edge(event.kind))
        return SCAN_GO_ON;
    if (array_reserve(&loading->events, &loading->capacity, loading->count + 1, sizeof event) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while loading %zu edges", loading->count);
    loading->events[loading->count++] = event;
    tell_progress(loading, "edges read", loading->count);
    return SCAN_GO_ON;
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? -1 : 1;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* Oldest first, so that every node's edges are appended in order. */
static int place_edges(struct loading *loading, struct error *err)
{
    struct graph *graph = loading->graph;
    if (loading->count > 0)
        qsort(loading->events, loading->count, sizeof *loading->events, compare_events);
    for (size_t i = 0; i < loading->count; i++) {
        const struct event *event = &loading->events[i];
        if (nodes_load_edge(&graph->nodes, event->user, graph_edge_of(graph, event, event->item), err) != 0)
            return -1;
        tell_progress(loading, "edges placed", i);
    }
    embedding_recompute(graph->nodes.embedding, NULL);
    return 0;
}

int graph_load(struct graph *graph, struct error *err)
{
    static const struct {
        enum family family;
        int (*visit)(void *context, struct text key, struct text value, struct error *err);
    } parts[] = {
        {FAMILY_COUNTS, load_counts}, {FAMILY_IDS, load_id},         {FAMILY_ITEMS, load_item},
        {FAMILY_USERS, load_user},    {FAMILY_OFFSETS, load_offset}, {FAMILY_PAIRS, load_pair},
    };
    static const struct text all = {"", 0};
    struct loading loading = {.graph = graph, .told_ns = clock_monotonic_ns()};
    int result = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && result == 0; i++)
        result = store_scan(&graph->store, parts[i].family, all, all, false, parts[i].visit, &loading, err);
    if (result == 0)
        result = place_edges(&loading, err);
    free(loading.events);
    return result;
}
