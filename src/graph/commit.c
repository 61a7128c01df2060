#include "graph/state.h"

static void stage_counts(struct graph *graph)
{
    uint64_t newest_ms =
        (uint64_t)(graph->staged.newest_event_ms > graph->newest_event_ms ? graph->staged.newest_event_ms
                                                                          : graph->newest_event_ms);
    uint8_t value[16];
    bytes_put_64(value, graph->events + graph->staged.events);
    bytes_put_64(value + 8, newest_ms);
    store_put(&graph->store, FAMILY_COUNTS, text_of("events"), (struct text){(const char *)value, sizeof value});
}

static int add_nodes(struct graph *graph, struct error *err)
{
    const struct staged *staged = &graph->staged;
    for (uint32_t i = 0; i < staged->user_ids.count; i++)
        if (nodes_add_user(&graph->nodes, table_key(&staged->user_ids, i), err) != 0)
            return -1;
    for (uint32_t i = 0; i < staged->item_ids.count; i++)
        if (nodes_add_item(&graph->nodes, table_key(&staged->item_ids, i), err) != 0)
            return -1;
    return 0;
}

static int apply_change(struct graph *graph, struct change *change, struct error *err)
{
    struct nodes *nodes = &graph->nodes;
    struct description *description = change->description;
    change->description = NULL; /* the node's from here on */
    switch (change->kind) {
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
        return nodes_erase_user(nodes, change->node, err);
    case CHANGE_REVIVE_USER:
        nodes_revive_user(nodes, change->node);
        return 0;
    case CHANGE_OFFSET:
        graph->next_offsets[change->node] = change->next_offset;
        return 0;
    }
    return 0;
}

static int apply_staged(struct graph *graph, struct error *err)
{
    int result = add_nodes(graph, err);
    for (size_t i = 0; i < graph->staged.change_count && result == 0; i++)
        result = apply_change(graph, &graph->staged.changes[i], err);
    graph->events += graph->staged.events;
    if (graph->staged.newest_event_ms > graph->newest_event_ms)
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
    stage_counts(graph);
    if (store_write(&graph->store, err) != 0)
        return -1;

    pthread_rwlock_wrlock(&graph->lock);
    int result = apply_staged(graph, err);
    pthread_rwlock_unlock(&graph->lock);
    graph_drop_staged(graph);
    return result;
}
