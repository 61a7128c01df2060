/* similar_keep.c - the table of similar users follows the embeddings */
#include <stdlib.h>

#include "graph/grow.h"
#include "graph/similar_table.h"
#include "graph/state.h"

static void keep_user(struct graph *graph, uint32_t user)
{
    float vector[GRAPH_DIMENSION_LIMIT];
    graph_user_embedding(graph, user, vector);
    similar_table_set(graph->similar_table, user, vector);
}

/* Whose embedding has this number; GRAPH_NONE: an item's. */
static int set_owner(struct graph *graph, uint32_t number, uint32_t user, struct error *err)
{
    size_t before = graph->owner_capacity;
    if (number == GRAPH_NONE)
        return 0;
    if (grow(&graph->owners, &graph->owner_capacity, (size_t)number + 1, sizeof *graph->owners) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for the table of similar users");
    for (size_t i = before; i < graph->owner_capacity; i++)
        graph->owners[i] = GRAPH_NONE;
    graph->owners[number] = user;
    return 0;
}

int similar_keep_begin(struct graph *graph, struct error *err)
{
    const struct nodes *nodes = &graph->nodes;
    if (!graph->settings.similar_table)
        return 0;
    graph->similar_table = similar_table_create(graph->settings.dimension, err);
    if (graph->similar_table == NULL || embedding_watch(nodes->embedding, err) != 0 ||
        similar_table_reserve(graph->similar_table, nodes->user_ids.count, err) != 0)
        return -1;
    for (uint32_t user = 0; user < nodes->user_ids.count; user++) {
        if (set_owner(graph, nodes->users[user].embedding, user, err) != 0)
            return -1;
        keep_user(graph, user);
    }
    return 0;
}

static void keep_changed(void *context, uint32_t number)
{
    struct graph *graph = context;
    uint32_t user = number < graph->owner_capacity ? graph->owners[number] : GRAPH_NONE;
    if (user != GRAPH_NONE && graph->nodes.users[user].embedding == number)
        keep_user(graph, user);
}

/* Only the ends of edges that were set or taken away have got a number, or lost it. */
int similar_keep_up(struct graph *graph, struct error *err)
{
    const struct nodes *nodes = &graph->nodes;
    if (graph->similar_table == NULL)
        return 0;
    if (similar_table_reserve(graph->similar_table, nodes->user_ids.count, err) != 0)
        return -1;
    for (size_t i = 0; i < graph->staged.change_count; i++) {
        const struct change *change = &graph->staged.changes[i];
        if (change->kind != CHANGE_SET_EDGE && change->kind != CHANGE_REMOVE_EDGE)
            continue;
        uint32_t of_user = nodes->users[change->node].embedding;
        uint32_t of_item = nodes->items[change->edge.other].embedding;
        if (set_owner(graph, of_item, GRAPH_NONE, err) != 0 || set_owner(graph, of_user, change->node, err) != 0)
            return -1;
        if (of_user == GRAPH_NONE)
            keep_user(graph, change->node);
    }
    embedding_each_changed(nodes->embedding, keep_changed, graph);
    return 0;
}

void similar_keep_end(struct graph *graph)
{
    similar_table_destroy(graph->similar_table);
    free(graph->owners);
}
