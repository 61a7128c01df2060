#include "graph/nodes.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "graph/grow.h"
#include "graph/z0.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory in the graph: give the worker more");
}

int nodes_create(struct nodes *nodes, const struct graph_settings *settings, struct error *err)
{
    struct embedding_settings embedding = {
        .layers = settings->layers,
        .dimension = settings->dimension,
        .epsilon = settings->push_threshold,
        .budget = settings->push_budget,
        .result = settings->result,
        .normalise = settings->normalise,
        .seed = settings->seed,
    };
    memcpy(embedding.weights, settings->weights, sizeof embedding.weights);
    *nodes = (struct nodes){.settings = settings};
    nodes->embedding = embedding_create(&embedding, err);
    return nodes->embedding == NULL ? -1 : 0;
}

static void free_edges(struct edges *edges)
{
    if (edges->at != NULL)
        free(edges->at - edges->front);
}

void nodes_destroy(struct nodes *nodes)
{
    for (size_t i = 0; i < nodes->user_ids.count; i++) {
        free_edges(&nodes->users[i].edges);
        free(nodes->users[i].profile);
    }
    for (size_t i = 0; i < nodes->item_ids.count; i++) {
        free_edges(&nodes->items[i].edges);
        free(nodes->items[i].description);
        free(nodes->items[i].values);
    }
    free(nodes->users);
    free(nodes->items);
    ids_free(&nodes->user_ids);
    ids_free(&nodes->item_ids);
    table_free(&nodes->attribute_values);
    embedding_destroy(nodes->embedding);
    buffer_free(&nodes->key);
    free(nodes->torn);
    *nodes = (struct nodes){0};
}

int nodes_add_free_user(struct nodes *nodes, uint32_t user, struct error *err)
{
    if (user < nodes->user_ids.count)
        return 0;
    if (grow(&nodes->users, &nodes->user_capacity, (size_t)user + 1, sizeof *nodes->users) != 0 ||
        ids_reserve(&nodes->user_ids, (size_t)user + 1) != 0)
        return out_of_memory(err);
    nodes->users[user] = (struct user_node){.embedding = GRAPH_NONE, .newest_ms = -1};
    return 0;
}

int nodes_add_user(struct nodes *nodes, uint32_t user, struct text id, struct error *err)
{
    if (nodes_add_free_user(nodes, user, err) != 0)
        return -1;
    return ids_put(&nodes->user_ids, user, id, ids_hash(id)) != 0 ? out_of_memory(err) : 0;
}

int nodes_add_item(struct nodes *nodes, uint32_t item, struct text id, struct error *err)
{
    if (grow(&nodes->items, &nodes->item_capacity, (size_t)item + 1, sizeof *nodes->items) != 0 ||
        ids_put(&nodes->item_ids, item, id, ids_hash(id)) != 0)
        return out_of_memory(err);
    nodes->items[item] = (struct item_node){.embedding = GRAPH_NONE};
    return 0;
}

/* Lists of edges. */

/* Bytes that the allocator takes for a list, its own header included. */
static size_t list_bytes(uint32_t capacity)
{
    return capacity == 0 ? 0 : (((size_t)capacity * sizeof(struct edge) + 8 + 15) & ~(size_t)15);
}

/* Another capacity, at least the count; the free places are at the end then. */
static int resize_edges(struct nodes *nodes, struct edges *edges, uint32_t capacity)
{
    struct edge *all = edges->at == NULL ? NULL : edges->at - edges->front;
    if (edges->front > 0)
        memmove(all, edges->at, edges->count * sizeof *all);
    nodes->edge_bytes += list_bytes(capacity) - list_bytes(edges->capacity);
    if (capacity == 0) {
        free(all);
        *edges = (struct edges){0};
        return 0;
    }
    all = realloc(all, capacity * sizeof *all);
    if (all == NULL)
        return -1;
    *edges = (struct edges){.at = all, .count = edges->count, .capacity = capacity, .torn = edges->torn};
    return 0;
}

static int make_room(struct nodes *nodes, struct edges *edges)
{
    if (edges->front + edges->count < edges->capacity)
        return 0;
    bool half_empty = edges->front > edges->capacity / 4;
    return resize_edges(nodes, edges, half_empty ? edges->capacity : edges->capacity + edges->capacity / 4 + 1);
}

/* How many are not later than `timestamp_ms`: where an edge of that time goes, behind those that came before it. */
static size_t edges_until(const struct edges *edges, int64_t timestamp_ms)
{
    if (edges->count == 0 || edges->at[edges->count - 1].timestamp_ms <= timestamp_ms)
        return edges->count;
    return graph_edges_before(edges->at, edges->count, timestamp_ms + 1);
}

static int insert_edge(struct nodes *nodes, struct edges *edges, struct edge edge, struct error *err)
{
    if (make_room(nodes, edges) != 0)
        return out_of_memory(err);
    size_t place = edges_until(edges, edge.timestamp_ms);
    memmove(edges->at + place + 1, edges->at + place, (edges->count - place) * sizeof *edges->at);
    edges->at[place] = edge;
    edges->count++;
    return 0;
}

static struct edges *edges_of(const struct nodes *nodes, bool of_user, uint32_t node)
{
    return of_user ? &nodes->users[node].edges : &nodes->items[node].edges;
}

static int note_hole(struct nodes *nodes, bool of_user, uint32_t node, int64_t timestamp_ms)
{
    struct edges *edges = edges_of(nodes, of_user, node);
    if (edges->torn == 0) {
        if (grow(&nodes->torn, &nodes->torn_capacity, nodes->torn_count + 1, sizeof *nodes->torn) != 0)
            return -1;
        nodes->torn[nodes->torn_count++] = (struct torn){.node = node, .of_user = of_user, .from_ms = timestamp_ms};
        edges->torn = (uint32_t)nodes->torn_count;
    }
    struct torn *torn = &nodes->torn[edges->torn - 1];
    torn->holes++;
    if (timestamp_ms < torn->from_ms)
        torn->from_ms = timestamp_ms;
    return 0;
}

static int take_edge(struct nodes *nodes, bool of_user, uint32_t node, uint32_t other, int64_t timestamp_ms,
                     struct edge *taken, struct error *err)
{
    const struct edges *edges = edges_of(nodes, of_user, node);
    size_t place = graph_edges_before(edges->at, edges->count, timestamp_ms);
    while (place < edges->count && edges->at[place].timestamp_ms == timestamp_ms && edges->at[place].other != other)
        place++;
    if (place == edges->count || edges->at[place].timestamp_ms != timestamp_ms)
        return error_set(err, ERROR_FATAL, "graph in memory and store disagree about an edge: start the worker anew");
    *taken = edges->at[place];
    edges->at[place].other = GRAPH_NONE;
    return note_hole(nodes, of_user, node, timestamp_ms) != 0 ? out_of_memory(err) : 0;
}

/* The oldest leave most often: then the list begins later, and nothing moves. */
static int close_holes(struct nodes *nodes, const struct torn *torn)
{
    struct edges *edges = edges_of(nodes, torn->of_user, torn->node);
    size_t holes = torn->holes, first = graph_edges_before(edges->at, edges->count, torn->from_ms);
    for (; first == 0 && holes > 0 && edges->at->other == GRAPH_NONE; holes--) {
        edges->at++;
        edges->front++;
        edges->count--;
    }
    size_t kept = first, next = first;
    for (; holes > 0; next++)
        if (edges->at[next].other == GRAPH_NONE)
            holes--;
        else
            edges->at[kept++] = edges->at[next];
    memmove(edges->at + kept, edges->at + next, (edges->count - next) * sizeof *edges->at);
    edges->count -= (uint32_t)(next - kept);
    edges->torn = 0;
    bool sparse = edges->count == 0 || edges->count < edges->capacity / 2;
    return sparse ? resize_edges(nodes, edges, edges->count + edges->count / 4) : 0;
}

int nodes_close_holes(struct nodes *nodes, struct error *err)
{
    for (size_t i = 0; i < nodes->torn_count; i++)
        if (close_holes(nodes, &nodes->torn[i]) != 0)
            return out_of_memory(err);
    nodes->torn_count = 0;
    return 0;
}

static const struct edge *search(const struct edges *edges, uint32_t other)
{
    for (size_t i = edges->count; i > 0; i--)
        if (edges->at[i - 1].other == other)
            return &edges->at[i - 1];
    return NULL;
}

const struct edge *nodes_find_edge(const struct nodes *nodes, uint32_t user, uint32_t item)
{
    if (user >= nodes->user_ids.count || item >= nodes->item_ids.count)
        return NULL;
    const struct edges *of_user = &nodes->users[user].edges, *of_item = &nodes->items[item].edges;
    return of_user->count <= of_item->count ? search(of_user, item) : search(of_item, user);
}

void nodes_prefetch(const struct nodes *nodes, uint32_t user, uint32_t item)
{
    if (user < nodes->user_ids.count)
        __builtin_prefetch(&nodes->users[user], 1);
    if (item < nodes->item_ids.count)
        __builtin_prefetch(&nodes->items[item], 1);
}

void nodes_prefetch_edges(const struct nodes *nodes, uint32_t user, uint32_t item)
{
    if (user < nodes->user_ids.count)
        __builtin_prefetch(nodes->users[user].edges.at + nodes->users[user].edges.count, 1);
    if (item < nodes->item_ids.count)
        __builtin_prefetch(nodes->items[item].edges.at + nodes->items[item].edges.count, 1);
}

/* Places in the embeddings. */

/* What a node's base vector is hashed from; holds until the next call. */
static struct text base_key(struct nodes *nodes, const char *kind, struct text id)
{
    buffer_clear(&nodes->key);
    buffer_append_string(&nodes->key, kind);
    buffer_append_text(&nodes->key, id);
    return buffer_text(&nodes->key);
}

static int embed_user(struct nodes *nodes, uint32_t user, struct error *err)
{
    struct user_node *node = &nodes->users[user];
    struct text id = ids_text(&nodes->user_ids, user);
    float z0[EMBEDDING_DIMENSION_LIMIT];
    if (node->embedding != GRAPH_NONE)
        return 0;
    if (embedding_add_node(nodes->embedding, base_key(nodes, "u:", id), &node->embedding, err) != 0)
        return -1;
    bool hashed = z0_of_user(nodes->settings, id, z0) == Z0_HASHED;
    return hashed ? 0 : embedding_load_base(nodes->embedding, node->embedding, z0, err);
}

static struct text title_of(const struct description *description)
{
    return description == NULL ? (struct text){0} : description->title;
}

static int embed_item(struct nodes *nodes, uint32_t item, struct error *err)
{
    struct item_node *node = &nodes->items[item];
    struct text id = ids_text(&nodes->item_ids, item);
    float z0[EMBEDDING_DIMENSION_LIMIT];
    if (node->embedding != GRAPH_NONE)
        return 0;
    if (embedding_add_node(nodes->embedding, base_key(nodes, "i:", id), &node->embedding, err) != 0)
        return -1;
    bool hashed = z0_of_item(nodes->settings, id, title_of(node->description), z0) == Z0_HASHED;
    return hashed ? 0 : embedding_load_base(nodes->embedding, node->embedding, z0, err);
}

/* A title has come, changed or gone: what follows from it is pushed. */
static int follow_title(struct nodes *nodes, uint32_t item, struct error *err)
{
    struct item_node *node = &nodes->items[item];
    struct text id = ids_text(&nodes->item_ids, item);
    float z0[EMBEDDING_DIMENSION_LIMIT];
    if (node->embedding == GRAPH_NONE || !z0_follows_titles(nodes->settings))
        return 0;
    enum z0_source source = z0_of_item(nodes->settings, id, title_of(node->description), z0);
    if (source == Z0_TRAINED)
        return 0;
    if (source == Z0_HASHED)
        embedding_hashed_base(nodes->embedding, base_key(nodes, "i:", id), z0);
    return embedding_set_base(nodes->embedding, node->embedding, z0, err);
}

static int embed_ends(struct nodes *nodes, uint32_t user, uint32_t item, struct error *err)
{
    return embed_user(nodes, user, err) != 0 ? -1 : embed_item(nodes, item, err);
}

static bool is_embedded(const struct nodes *nodes, const struct edge *edge)
{
    return nodes->settings->edges == GRAPH_EDGES_ALL || edge->verdict == VERDICT_LIKE;
}

static int embed_edge(struct nodes *nodes, uint32_t user, uint32_t item, struct error *err)
{
    if (embed_ends(nodes, user, item, err) != 0)
        return -1;
    nodes->users[user].embedded++;
    nodes->items[item].embedded++;
    return embedding_add_edge(nodes->embedding, nodes->users[user].embedding, nodes->items[item].embedding, err);
}

static int leave(struct nodes *nodes, uint32_t *embedding, uint32_t *embedded, struct error *err)
{
    if (--*embedded > 0)
        return 0;
    uint32_t number = *embedding;
    *embedding = GRAPH_NONE;
    return embedding_remove_node(nodes->embedding, number, err);
}

static int unembed_edge(struct nodes *nodes, uint32_t user, uint32_t item, struct error *err)
{
    struct user_node *of_user = &nodes->users[user];
    struct item_node *of_item = &nodes->items[item];
    if (embedding_remove_edge(nodes->embedding, of_user->embedding, of_item->embedding, err) != 0 ||
        leave(nodes, &of_user->embedding, &of_user->embedded, err) != 0)
        return -1;
    return leave(nodes, &of_item->embedding, &of_item->embedded, err);
}

/* Edges. */

static int insert_at_both_ends(struct nodes *nodes, uint32_t user, struct edge edge, struct error *err)
{
    uint32_t item = edge.other;
    if (insert_edge(nodes, &nodes->users[user].edges, edge, err) != 0)
        return -1;
    edge.other = user;
    return insert_edge(nodes, &nodes->items[item].edges, edge, err);
}

static int take_at_both_ends(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms,
                             struct edge *taken, struct error *err)
{
    if (take_edge(nodes, true, user, item, timestamp_ms, taken, err) != 0)
        return -1;
    return take_edge(nodes, false, item, user, timestamp_ms, taken, err);
}

int nodes_set_edge(struct nodes *nodes, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err)
{
    bool was_embedded = false;
    struct edge before;
    if (replaced_ms >= 0) {
        if (take_at_both_ends(nodes, user, edge.other, replaced_ms, &before, err) != 0)
            return -1;
        was_embedded = is_embedded(nodes, &before);
    }
    if (insert_at_both_ends(nodes, user, edge, err) != 0)
        return -1;
    nodes->edge_count += replaced_ms < 0;
    if (is_embedded(nodes, &edge) == was_embedded)
        return 0;
    return was_embedded ? unembed_edge(nodes, user, edge.other, err) : embed_edge(nodes, user, edge.other, err);
}

int nodes_remove_edge(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms, struct error *err)
{
    struct edge taken;
    if (take_at_both_ends(nodes, user, item, timestamp_ms, &taken, err) != 0)
        return -1;
    nodes->edge_count--;
    return is_embedded(nodes, &taken) ? unembed_edge(nodes, user, item, err) : 0;
}

int nodes_reserve_edges(struct nodes *nodes, const uint32_t *of_users, const uint32_t *of_items, struct error *err)
{
    for (size_t i = 0; i < nodes->user_ids.count; i++)
        if (of_users[i] > 0 && resize_edges(nodes, &nodes->users[i].edges, of_users[i]) != 0)
            return out_of_memory(err);
    for (size_t i = 0; i < nodes->item_ids.count; i++)
        if (of_items[i] > 0 && resize_edges(nodes, &nodes->items[i].edges, of_items[i]) != 0)
            return out_of_memory(err);
    return 0;
}

void nodes_load_edge(struct nodes *nodes, uint32_t user, struct edge edge)
{
    struct edges *of_user = &nodes->users[user].edges, *of_item = &nodes->items[edge.other].edges;
    of_user->at[of_user->count++] = edge;
    edge.other = user;
    of_item->at[of_item->count++] = edge;
    nodes->edge_count++;
}

int nodes_expect_edge(struct nodes *nodes, uint32_t user, const struct edge *edge, struct error *err)
{
    if (!is_embedded(nodes, edge))
        return 0;
    size_t before = nodes->expected;
    nodes->expected += nodes->users[user].embedded++ == 0;
    nodes->expected += nodes->items[edge->other].embedded++ == 0;
    return nodes->expected == before ? 0 : embedding_reserve(nodes->embedding, nodes->expected, err);
}

static int load_user_end(struct nodes *nodes, uint32_t user, struct error *err)
{
    const struct user_node *node = &nodes->users[user];
    return embed_user(nodes, user, err) != 0
               ? -1
               : embedding_reserve_edges(nodes->embedding, node->embedding, node->embedded, err);
}

static int load_item_end(struct nodes *nodes, uint32_t item, struct error *err)
{
    const struct item_node *node = &nodes->items[item];
    return embed_item(nodes, item, err) != 0
               ? -1
               : embedding_reserve_edges(nodes->embedding, node->embedding, node->embedded, err);
}

int nodes_embed_edge(struct nodes *nodes, uint32_t user, const struct edge *edge, struct error *err)
{
    const struct user_node *of_user = &nodes->users[user];
    const struct item_node *of_item = &nodes->items[edge->other];
    if (!is_embedded(nodes, edge))
        return 0;
    if ((of_user->embedding == GRAPH_NONE && load_user_end(nodes, user, err) != 0) ||
        (of_item->embedding == GRAPH_NONE && load_item_end(nodes, edge->other, err) != 0))
        return -1;
    return embedding_load_edge(nodes->embedding, of_user->embedding, of_item->embedding, err);
}

void nodes_finish_load(struct nodes *nodes, struct pool *pool)
{
    embedding_recompute(nodes->embedding, pool);
}

/* Descriptions. */

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
            if (number == TABLE_NONE || grow(&node->values, capacity, node->value_count + 1, sizeof *node->values) != 0)
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
    uint32_t kept = 1;
    for (uint32_t i = 1; i < node->value_count; i++)
        if (node->values[i] != node->values[kept - 1])
            node->values[kept++] = node->values[i];
    node->value_count = kept;
    return 0;
}

int nodes_describe_item(struct nodes *nodes, uint32_t item, struct description *description, struct error *err)
{
    struct item_node *node = &nodes->items[item];
    bool same_title = text_equal(title_of(node->description), title_of(description));
    nodes->title_count -= has_title(node->description);
    nodes->title_count += has_title(description);
    nodes->description_bytes += malloc_usable_size(description) - malloc_usable_size(node->description);
    free(node->description);
    node->description = description;
    if (!same_title && follow_title(nodes, item, err) != 0)
        return -1;
    return number_values(nodes, node, err);
}

void nodes_describe_user(struct nodes *nodes, uint32_t user, struct description *profile)
{
    nodes->description_bytes += malloc_usable_size(profile) - malloc_usable_size(nodes->users[user].profile);
    free(nodes->users[user].profile);
    nodes->users[user].profile = profile;
}

void nodes_erase_user(struct nodes *nodes, uint32_t user)
{
    struct user_node *node = &nodes->users[user];
    nodes_describe_user(nodes, user, NULL);
    node->newest_ms = -1;
    node->hidden = false;
    ids_take(&nodes->user_ids, user);
}

void nodes_memory(const struct nodes *nodes, struct graph_memory *memory)
{
    memory->ids = ids_bytes(&nodes->user_ids) + ids_bytes(&nodes->item_ids);
    memory->nodes = nodes->user_capacity * sizeof *nodes->users + nodes->item_capacity * sizeof *nodes->items;
    memory->edges = nodes->edge_bytes;
    memory->embeddings = embedding_bytes(nodes->embedding);
    memory->descriptions = nodes->description_bytes;
}
