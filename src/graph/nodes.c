#include "graph/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory in the graph: give the worker more");
}

int nodes_create(struct nodes *nodes, const struct graph_settings *settings, struct error *err)
{
    *nodes = (struct nodes){.dimension = settings->dimension};
    nodes->embedding =
        embedding_create(settings->layers, settings->dimension, settings->push_threshold, settings->seed);
    return nodes->embedding == NULL ? out_of_memory(err) : 0;
}

void nodes_destroy(struct nodes *nodes)
{
    for (size_t i = 0; i < nodes->user_ids.count; i++) {
        free(nodes->users[i].edges.at);
        free(nodes->users[i].profile);
    }
    for (size_t i = 0; i < nodes->item_ids.count; i++) {
        free(nodes->items[i].edges.at);
        free(nodes->items[i].description);
        free(nodes->items[i].values);
    }
    free(nodes->users);
    free(nodes->items);
    table_free(&nodes->user_ids);
    table_free(&nodes->item_ids);
    table_free(&nodes->attribute_values);
    embedding_destroy(nodes->embedding);
    *nodes = (struct nodes){0};
}

int nodes_add_user(struct nodes *nodes, struct text id, struct error *err)
{
    size_t number = nodes->user_ids.count;
    if (array_reserve(&nodes->users, &nodes->user_capacity, number + 1, sizeof *nodes->users) != 0 ||
        table_add(&nodes->user_ids, id) != number)
        return out_of_memory(err);
    nodes->users[number] = (struct user_node){.embedding = GRAPH_NONE};
    return 0;
}

int nodes_add_erased_user(struct nodes *nodes, struct error *err)
{
    char name[24]; /* begins with NUL, which no id holds */
    int length = snprintf(name + 1, sizeof name - 1, "%zu", nodes->user_ids.count);
    name[0] = '\0';
    if (nodes_add_user(nodes, (struct text){name, (size_t)length + 1}, err) != 0)
        return -1;
    nodes->users[nodes->user_ids.count - 1].erased = true;
    nodes->erased_count++;
    return 0;
}

int nodes_add_item(struct nodes *nodes, struct text id, struct error *err)
{
    size_t number = nodes->item_ids.count;
    if (array_reserve(&nodes->items, &nodes->item_capacity, number + 1, sizeof *nodes->items) != 0 ||
        table_add(&nodes->item_ids, id) != number)
        return out_of_memory(err);
    nodes->items[number] = (struct item_node){.embedding = GRAPH_NONE};
    return 0;
}

/* Gives the node its place in the embeddings; the key is what its base vector is hashed from. */
static int embed(struct nodes *nodes, uint32_t *number, const char *kind, struct text id, struct error *err)
{
    if (*number != GRAPH_NONE)
        return 0;
    struct buffer key = {0};
    buffer_append_string(&key, kind);
    buffer_append_text(&key, id);
    int result = buffer_check(&key, "adding a node", err);
    if (result == 0)
        result = embedding_add_node(nodes->embedding, buffer_text(&key), err);
    if (result == 0)
        *number = nodes->embedding_count++;
    buffer_free(&key);
    return result;
}

static int embed_ends(struct nodes *nodes, uint32_t user, uint32_t item, struct error *err)
{
    if (embed(nodes, &nodes->users[user].embedding, "u:", table_key(&nodes->user_ids, user), err) != 0)
        return -1;
    return embed(nodes, &nodes->items[item].embedding, "i:", table_key(&nodes->item_ids, item), err);
}

/* How many are not later than `timestamp_ms`: where an edge of that time goes, behind those that came before it. */
static size_t edges_until(const struct edges *edges, int64_t timestamp_ms)
{
    if (timestamp_ms == INT64_MAX)
        return edges->count;
    return graph_edges_before(edges->at, edges->count, timestamp_ms + 1);
}

static int insert_edge(struct edges *edges, struct edge edge, struct error *err)
{
    if (array_reserve(&edges->at, &edges->capacity, edges->count + 1, sizeof *edges->at) != 0)
        return out_of_memory(err);
    size_t place = edges_until(edges, edge.timestamp_ms);
    memmove(edges->at + place + 1, edges->at + place, (edges->count - place) * sizeof *edges->at);
    edges->at[place] = edge;
    edges->count++;
    return 0;
}

static int take_edge(struct edges *edges, uint32_t other, int64_t timestamp_ms, struct error *err)
{
    size_t place = graph_edges_before(edges->at, edges->count, timestamp_ms);
    while (place < edges->count && edges->at[place].timestamp_ms == timestamp_ms && edges->at[place].other != other)
        place++;
    if (place == edges->count || edges->at[place].timestamp_ms != timestamp_ms)
        return error_set(err, ERROR_FATAL, "graph in memory and store disagree about an edge: start the worker anew");
    edges->count--;
    memmove(edges->at + place, edges->at + place + 1, (edges->count - place) * sizeof *edges->at);
    return 0;
}

static int insert_at_both_ends(struct nodes *nodes, uint32_t user, struct edge edge, struct error *err)
{
    uint32_t item = edge.other;
    if (insert_edge(&nodes->users[user].edges, edge, err) != 0)
        return -1;
    edge.other = user;
    return insert_edge(&nodes->items[item].edges, edge, err);
}

static int take_at_both_ends(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms, struct error *err)
{
    if (take_edge(&nodes->users[user].edges, item, timestamp_ms, err) != 0)
        return -1;
    return take_edge(&nodes->items[item].edges, user, timestamp_ms, err);
}

int nodes_load_edge(struct nodes *nodes, uint32_t user, struct edge edge, struct error *err)
{
    if (embed_ends(nodes, user, edge.other, err) != 0 || insert_at_both_ends(nodes, user, edge, err) != 0)
        return -1;
    nodes->edge_count++;
    return embedding_load_edge(nodes->embedding, nodes->users[user].embedding, nodes->items[edge.other].embedding, err);
}

int nodes_set_edge(struct nodes *nodes, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err)
{
    if (replaced_ms >= 0) { /* rated again: to the embeddings, which know no verdicts, nothing has changed */
        if (take_at_both_ends(nodes, user, edge.other, replaced_ms, err) != 0)
            return -1;
        return insert_at_both_ends(nodes, user, edge, err);
    }
    if (embed_ends(nodes, user, edge.other, err) != 0 || insert_at_both_ends(nodes, user, edge, err) != 0)
        return -1;
    nodes->edge_count++;
    return embedding_add_edge(nodes->embedding, nodes->users[user].embedding, nodes->items[edge.other].embedding, err);
}

int nodes_remove_edge(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms, struct error *err)
{
    if (take_at_both_ends(nodes, user, item, timestamp_ms, err) != 0)
        return -1;
    nodes->edge_count--;
    return embedding_remove_edge(nodes->embedding, nodes->users[user].embedding, nodes->items[item].embedding, err);
}

static bool has_title(const struct description *description)
{
    return description != NULL && description->title.data != NULL;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* A value may be several, separated by '|' (genres): each is one of its own. */
static int add_values(struct nodes *nodes, struct item_node *node, size_t *capacity, const struct attribute *attribute,
                      struct buffer *key)
{
    struct text rest = attribute->value;
    while (rest.size > 0) {
        struct text value = text_cut(&rest, '|');
        buffer_clear(key);
        buffer_append_text(key, attribute->name);
        buffer_append_byte(key, '\0');
        buffer_append_text(key, value);
        if (value.size > 0) {
            uint32_t number = key->failed ? TABLE_NONE : table_add(&nodes->attribute_values, buffer_text(key));
            if (number == TABLE_NONE ||
                array_reserve(&node->values, capacity, node->value_count + 1, sizeof *node->values) != 0)
                return -1;
            node->values[node->value_count++] = number;
        }
    }
    return 0;
}

static int number_values(struct nodes *nodes, struct item_node *node, struct error *err)
{
    free(node->values);
    node->values = NULL;
    node->value_count = 0;
    if (node->description == NULL)
        return 0;
    int result = 0;
    size_t capacity = 0;
    struct buffer key = {0};
    for (size_t i = 0; i < node->description->attribute_count && result == 0; i++)
        result = add_values(nodes, node, &capacity, &node->description->attributes[i], &key);
    buffer_free(&key);
    if (result != 0)
        return out_of_memory(err);
    if (node->value_count == 0)
        return 0;

    qsort(node->values, node->value_count, sizeof *node->values, compare_numbers);
    size_t kept = 1;
    for (size_t i = 1; i < node->value_count; i++)
        if (node->values[i] != node->values[kept - 1])
            node->values[kept++] = node->values[i];
    node->value_count = kept;
    return 0;
}

int nodes_describe_item(struct nodes *nodes, uint32_t item, struct description *description, struct error *err)
{
    struct item_node *node = &nodes->items[item];
    nodes->title_count -= has_title(node->description);
    nodes->title_count += has_title(description);
    free(node->description);
    node->description = description;
    return number_values(nodes, node, err);
}

void nodes_describe_user(struct nodes *nodes, uint32_t user, struct description *profile)
{
    free(nodes->users[user].profile);
    nodes->users[user].profile = profile;
}

int nodes_erase_user(struct nodes *nodes, uint32_t user, struct error *err)
{
    struct user_node *node = &nodes->users[user];
    while (node->edges.count > 0) {
        struct edge newest = node->edges.at[node->edges.count - 1];
        if (nodes_remove_edge(nodes, user, newest.other, newest.timestamp_ms, err) != 0)
            return -1;
    }
    free(node->edges.at);
    node->edges = (struct edges){0};
    nodes_describe_user(nodes, user, NULL);
    node->erased = true;
    nodes->erased_count++;
    return 0;
}

void nodes_revive_user(struct nodes *nodes, uint32_t user)
{
    nodes->users[user].erased = false;
    nodes->erased_count--;
}
