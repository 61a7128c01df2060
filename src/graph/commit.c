#include "graph/image.h"
#include "graph/limits.h"
#include "graph/state.h"

/* Nodes and list ends of the changes to come are asked for this far ahead: out of cache, applying is waiting for them.
 */
enum { NODES_AHEAD = 8, EDGES_AHEAD = 4 };

static void stage_counts(struct graph *graph)
{
    uint8_t value[COUNTS_SIZE];
    bytes_put_64(value, graph->events + graph->staged.events);
    bytes_put_64(value + 8, (uint64_t)graph->staged.newest_event_ms);
    bytes_put_64(value + 16, graph->late_events + graph->staged.late_events);
    store_put(&graph->store, FAMILY_COUNTS, text_of("events"), (struct text){(const char *)value, sizeof value});
}

static int apply_change(struct graph *graph, struct change *change, struct error *err)
{
    struct nodes *nodes = &graph->nodes;
    struct description *description = change->description;
    change->description = NULL; /* the node's from here on */
    switch (change->kind) {
    case CHANGE_ADD_USER:
        return nodes_add_user(nodes, change->node, ids_text(&graph->staged.users.ids, change->name), err);
    case CHANGE_ADD_ITEM:
        return nodes_add_item(nodes, change->node, ids_text(&graph->staged.items.ids, change->name), err);
    case CHANGE_SET_EDGE:
        return nodes_set_edge(nodes, change->node, change->edge, change->replaced_ms, err);
    case CHANGE_REMOVE_EDGE:
        return nodes_remove_edge(nodes, change->node, change->edge.other, change->replaced_ms, err);
    case CHANGE_DESCRIBE_ITEM:
        return nodes_describe_item(nodes, change->node, description, err);
    case CHANGE_DESCRIBE_USER:
        nodes_describe_user(nodes, change->node, description);
        return 0;
    case CHANGE_ERASE_USER:
        nodes_erase_user(nodes, change->node);
        return 0;
    case CHANGE_OFFSET:
        graph->places[change->node] = change->place;
        return 0;
    }
    return 0;
}

static void prefetch(const struct graph *graph, size_t at)
{
    const struct staged *staged = &graph->staged;
    const struct change *change = &staged->changes[at + NODES_AHEAD];
    if (at + NODES_AHEAD < staged->change_count && change->kind == CHANGE_SET_EDGE)
        nodes_prefetch(&graph->nodes, change->node, change->edge.other);
    change = &staged->changes[at + EDGES_AHEAD];
    if (at + EDGES_AHEAD < staged->change_count && change->kind == CHANGE_SET_EDGE)
        nodes_prefetch_edges(&graph->nodes, change->node, change->edge.other);
}

static void apply_users(struct graph *graph)
{
    const struct overlay *overlay = &graph->staged.overlay;
    for (size_t i = 0; i < overlay->node_count; i++) {
        const struct overlay_node *node = &overlay->nodes[i];
        if (node->end != END_USER || node->number >= graph->nodes.user_ids.count)
            continue;
        graph->nodes.users[node->number].newest_ms = node->newest_ms;
        graph->nodes.users[node->number].hidden = node->hidden;
    }
}

static int apply_staged(struct graph *graph, struct error *err)
{
    int result = 0;
    for (size_t i = 0; i < graph->staged.change_count && result == 0; i++) {
        prefetch(graph, i);
        result = apply_change(graph, &graph->staged.changes[i], err);
    }
    if (result == 0)
        result = nodes_close_holes(&graph->nodes, err);
    apply_users(graph);
    graph->events += graph->staged.events;
    graph->late_events += graph->staged.late_events;
    graph->newest_event_ms = graph->staged.newest_event_ms;
    return result;
}

static int reopen_store(struct graph *graph, struct error *err)
{
    pthread_rwlock_wrlock(&graph->lock); /* no reader may be in the store */
    int result = store_reopen(&graph->store, err);
    pthread_rwlock_unlock(&graph->lock);
    return result;
}

int graph_commit(struct graph *graph, struct error *err)
{
    if (graph->staged.count == 0)
        return 0;
    if (graph->store.failed && reopen_store(graph, err) != 0)
        return -1;
    if (limits_delete_history(graph, err) != 0)
        return -1;
    stage_counts(graph);
    if (store_write(&graph->store, err) != 0)
        return -1;
    if (graph->has_image)
        image_delete(graph);

    pthread_rwlock_wrlock(&graph->lock);
    int result = apply_staged(graph, err);
    if (result == 0)
        result = similar_keep_up(graph, err);
    pthread_rwlock_unlock(&graph->lock);
    limits_batch_done(graph);
    graph_clear_staged(graph);
    return result;
}
