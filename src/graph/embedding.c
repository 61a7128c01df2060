#include "graph/embedding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "base/random.h"
#include "graph/embedding_state.h"
#include "graph/grow.h"

enum {
    HUGE_PAGE = 2 << 20,

    /* A hub that has shrunk so far is none any more; well below HUB_DEGREE, or one at the border would go to and fro.
     */
    HUB_NO_MORE = HUB_DEGREE / 2,

    RECOMPUTE_BLOCK = 256, /* nodes a task */
    AHEAD = 4,             /* neighbours whose rows are fetched */
    CACHE_LINE = 64,
};

/* The settings. */

static int check_settings(const struct embedding_settings *settings, struct error *err)
{
    if (settings->layers < 1 || settings->layers > EMBEDDING_LAYERS_LIMIT)
        return error_set(err, ERROR_FATAL, "embeddings: %zu layers; use 1 to %d", settings->layers,
                         EMBEDDING_LAYERS_LIMIT);
    if (settings->dimension < ROW_LANES || settings->dimension > EMBEDDING_DIMENSION_LIMIT ||
        settings->dimension % ROW_LANES != 0)
        return error_set(err, ERROR_FATAL, "embeddings: dimension %zu; use a multiple of %d, at most %d",
                         settings->dimension, ROW_LANES, EMBEDDING_DIMENSION_LIMIT);
    if (!(settings->epsilon >= 0.0f))
        return error_set(err, ERROR_FATAL, "embeddings: epsilon %g; use 0 or more", (double)settings->epsilon);
    return 0;
}

static int weigh_layers(struct embedding *embedding, struct error *err)
{
    const struct embedding_settings *settings = &embedding->settings;
    double total = 0;
    for (size_t i = 0; i < settings->layers; i++) {
        float weight = settings->result == EMBEDDING_MEAN       ? 1.0f
                       : settings->result == EMBEDDING_WEIGHTED ? settings->weights[i]
                                                                : (float)(i + 1 == settings->layers);
        if (!(weight >= 0.0f) || isinf(weight))
            return error_set(err, ERROR_FATAL, "embeddings: weight %g of layer %zu; use 0 or more", (double)weight,
                             i + 1);
        embedding->weights[i] = weight;
        total += (double)weight;
    }
    if (!(total > 0))
        return error_set(err, ERROR_FATAL, "embeddings: the weights of the layers are all 0");
    for (size_t i = 0; i < settings->layers; i++)
        embedding->weights[i] = (float)((double)embedding->weights[i] / total);
    return 0;
}

/* Memory. */

static int add_chunk(struct embedding *embedding)
{
    if (grow(&embedding->chunks, &embedding->chunk_capacity, embedding->chunk_count + 1, sizeof(int32_t *)) != 0)
        return -1;
    size_t size = chunk_size(embedding);
    int32_t *chunk = aligned_alloc(HUGE_PAGE, size);
    if (chunk == NULL)
        return -1;
    (void)madvise(chunk, size, MADV_HUGEPAGE);
    embedding->chunks[embedding->chunk_count++] = chunk;
    return 0;
}

/* A bit for each node that there is room for. */
static int reserve_changed(struct embedding *embedding)
{
    size_t words = embedding->node_capacity / 64 + 1;
    if (words <= embedding->changed_words)
        return 0;
    uint64_t *changed = realloc(embedding->changed, words * sizeof *changed);
    if (changed == NULL)
        return -1;
    memset(changed + embedding->changed_words, 0, (words - embedding->changed_words) * sizeof *changed);
    embedding->changed = changed;
    embedding->changed_words = words;
    return 0;
}

/* Every new node is looked at when something is added to it. */
static int reserve_looks(struct embedding *embedding, size_t count)
{
    size_t before = embedding->look_capacity, capacity = before;
    if (count <= before)
        return 0;
    for (size_t k = 1; k < embedding->settings.layers; k++) {
        capacity = before;
        if (grow(&embedding->looks[k], &capacity, count, sizeof *embedding->looks[k]) != 0)
            return -1; /* layers that have grown already only have room to spare */
        memset(embedding->looks[k] + before, 0, (capacity - before) * sizeof *embedding->looks[k]);
    }
    embedding->look_capacity = capacity;
    return 0;
}

int embedding_reserve_nodes(struct embedding *embedding, size_t count)
{
    if (count >= NODES_LIMIT ||
        grow(&embedding->nodes, &embedding->node_capacity, count, sizeof *embedding->nodes) != 0)
        return -1;
    while (count > embedding->chunk_count << embedding->chunk_bits)
        if (add_chunk(embedding) != 0)
            return -1;
    for (size_t k = 0; k < embedding->settings.layers; k++)
        if (largest_reserve(&embedding->unpublished[k], count) != 0)
            return -1;
    if (reserve_looks(embedding, count) != 0)
        return -1;
    return embedding->changed == NULL ? 0 : reserve_changed(embedding);
}

int embedding_reserve_base_changes(struct embedding *embedding, size_t count)
{
    struct base_changes *changes = &embedding->base_changes;
    size_t capacity = changes->capacity;
    if (grow(&changes->rows, &capacity, count, embedding->settings.dimension * sizeof *changes->rows) != 0)
        return -1;
    return grow(&changes->nodes, &changes->capacity, count, sizeof *changes->nodes);
}

static size_t high_size(const struct embedding *embedding)
{
    return embedding->settings.layers * embedding->settings.dimension * sizeof(int32_t);
}

static int make_hub(struct embedding *embedding, uint32_t node)
{
    size_t size = high_size(embedding);
    int32_t *high = aligned_alloc(ROW_ALIGNMENT, size);
    if (high == NULL)
        return -1;
    memset(high, 0, size);
    embedding->nodes[node].high = high;
    embedding->list_bytes += size;
    return 0;
}

int embedding_reserve_links(struct embedding *embedding, uint32_t node, size_t count, bool hub)
{
    struct node *state = &embedding->nodes[node];
    size_t capacity = state->capacity;
    if (grow(&state->links, &capacity, count, sizeof *state->links) != 0)
        return -1;
    embedding->list_bytes += (capacity - state->capacity) * sizeof *state->links;
    state->capacity = (uint32_t)capacity;
    return hub && state->high == NULL ? make_hub(embedding, node) : 0;
}

int embedding_reserve_edges(struct embedding *embedding, uint32_t node, size_t edges, struct error *err)
{
    struct node *state = &embedding->nodes[node];
    if (edges <= state->capacity)
        return 0;
    struct link *links = edges > UINT32_MAX ? NULL : realloc(state->links, edges * sizeof *links);
    if (links == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu edges of node %u of the embeddings", edges, node);
    embedding->list_bytes += (edges - state->capacity) * sizeof *links;
    state->links = links;
    state->capacity = (uint32_t)edges;
    return 0;
}

static void unmake_hub(struct embedding *embedding, uint32_t node)
{
    for (size_t k = 1; k <= embedding->settings.layers; k++)
        row_fold(sum_of(embedding, node, k), embedding->settings.dimension);
    free(embedding->nodes[node].high);
    embedding->nodes[node].high = NULL;
    embedding->list_bytes -= high_size(embedding);
}

struct embedding *embedding_create(const struct embedding_settings *settings, struct error *err)
{
    if (check_settings(settings, err) != 0)
        return NULL;
    struct embedding *embedding = calloc(1, sizeof *embedding);
    if (embedding == NULL)
        goto no_memory;
    embedding->settings = *settings;
    embedding->first_free = NOT_THERE;
    if (weigh_layers(embedding, err) != 0) {
        embedding_destroy(embedding);
        return NULL;
    }
    while ((row_size(embedding) << embedding->chunk_bits) % HUGE_PAGE != 0)
        embedding->chunk_bits++;
    size_t size = settings->dimension * sizeof(int32_t);
    embedding->delta = aligned_alloc(ROW_ALIGNMENT, size);
    embedding->before = aligned_alloc(ROW_ALIGNMENT, size);
    if (embedding->delta == NULL || embedding->before == NULL)
        goto no_memory;
    memset(embedding->delta, 0, size);
    memset(embedding->before, 0, size);
    return embedding;

no_memory:
    embedding_destroy(embedding);
    error_set(err, ERROR_FATAL, "out of memory for the embeddings");
    return NULL;
}

void embedding_destroy(struct embedding *embedding)
{
    if (embedding == NULL)
        return;
    clearing_end(embedding->clearing);
    for (size_t i = 0; i < embedding->node_count; i++) {
        free(embedding->nodes[i].links);
        free(embedding->nodes[i].high);
    }
    for (size_t i = 0; i < embedding->chunk_count; i++)
        free(embedding->chunks[i]);
    for (size_t k = 0; k < EMBEDDING_LAYERS_LIMIT; k++) {
        largest_free(&embedding->unpublished[k]);
        free(embedding->looks[k]);
    }
    free(embedding->nodes);
    free(embedding->chunks);
    free(embedding->base_changes.nodes);
    free(embedding->base_changes.rows);
    free(embedding->changed);
    free(embedding->delta);
    free(embedding->before);
    free(embedding);
}

size_t embedding_bytes(const struct embedding *embedding)
{
    size_t bytes = sizeof *embedding + embedding->list_bytes + embedding->node_count * row_size(embedding) +
                   embedding->node_capacity * sizeof *embedding->nodes +
                   embedding->changed_words * sizeof *embedding->changed +
                   embedding->base_changes.capacity * (embedding->settings.dimension + 1) * sizeof(int32_t);
    for (size_t k = 0; k < embedding->settings.layers; k++)
        bytes += largest_bytes(&embedding->unpublished[k]);
    bytes += (embedding->settings.layers - 1) * embedding->look_capacity * sizeof(float);
    return bytes;
}

/* Nodes and their base vectors. */

/* Each number in [-1, 1) is exact and sqrt is correctly rounded, so every machine computes the same. */
static void hash_base(const struct embedding *embedding, struct text key, int32_t *units)
{
    struct random random = {XXH3_64bits_withSeed(key.data, key.size, embedding->settings.seed)};
    double values[EMBEDDING_DIMENSION_LIMIT];
    double square = 0;
    for (size_t i = 0; i < embedding->settings.dimension; i++) {
        values[i] = 2 * random_uniform(&random) - 1;
        square += values[i] * values[i];
    }
    double scale = (1 << UNIT_BITS) / sqrt(square);
    for (size_t i = 0; i < embedding->settings.dimension; i++)
        units[i] = (int32_t)lrint(values[i] * scale);
}

void embedding_hashed_base(const struct embedding *embedding, struct text key, float *out)
{
    int32_t units[EMBEDDING_DIMENSION_LIMIT];
    hash_base(embedding, key, units);
    for (size_t i = 0; i < embedding->settings.dimension; i++)
        out[i] = (float)units[i] / (1 << UNIT_BITS);
}

static bool base_to_units(const float *z0, int32_t *units, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(z0[i]) < COMPONENT_LIMIT))
            return false;
        units[i] = (int32_t)lrint((double)z0[i] * (1 << UNIT_BITS));
    }
    return true;
}

static int check_node(const struct embedding *embedding, uint32_t node, struct error *err)
{
    if (node >= embedding->node_count || embedding->nodes[node].free)
        return error_set(err, ERROR_FATAL, "embeddings: there is no node %u", node);
    return 0;
}

int embedding_add_node(struct embedding *embedding, struct text key, uint32_t *number, struct error *err)
{
    uint32_t node = embedding->first_free;
    if (node != NOT_THERE) {
        embedding->first_free = embedding->nodes[node].next_free;
        embedding->nodes[node].free = false;
        embedding->nodes[node].base_change = NOT_THERE;
    } else {
        if (embedding_reserve_nodes(embedding, embedding->node_count + 1) != 0)
            return error_set(err, ERROR_FATAL, "out of memory for the embedding of node %zu (" TEXT_FORMAT ")",
                             embedding->node_count, TEXT_ARGS(key));
        node = (uint32_t)embedding->node_count++;
        embedding->nodes[node] = (struct node){.next = {NOT_THERE, NOT_THERE}, .base_change = NOT_THERE};
    }
    memset(node_rows(embedding, node), 0, row_size(embedding));
    hash_base(embedding, key, published(embedding, node, 0));
    *number = node;
    return 0;
}

int embedding_remove_node(struct embedding *embedding, uint32_t number, struct error *err)
{
    if (check_node(embedding, number, err) != 0)
        return -1;
    struct node *state = &embedding->nodes[number];
    if (state->degree > 0)
        return error_set(err, ERROR_FATAL, "embeddings: node %u to be removed still has %u edges", number,
                         state->degree);
    embedding->list_bytes -= state->capacity * sizeof *state->links;
    free(state->links);
    state->links = NULL;
    state->capacity = 0;
    state->free = true;
    state->next_free = embedding->first_free;
    embedding->first_free = number;
    return 0;
}

static int refuse_base(struct error *err, uint32_t node)
{
    return error_set(err, ERROR_BAD_INPUT,
                     "embeddings: base vector of node %u has a component that is no number or not below %g: scale the "
                     "vectors to a length of about 1",
                     node, (double)COMPONENT_LIMIT);
}

int embedding_load_base(struct embedding *embedding, uint32_t node, const float *z0, struct error *err)
{
    int32_t units[EMBEDDING_DIMENSION_LIMIT];
    size_t n = embedding->settings.dimension;
    if (check_node(embedding, node, err) != 0)
        return -1;
    if (!base_to_units(z0, units, n))
        return refuse_base(err, node);
    memcpy(published(embedding, node, 0), units, n * sizeof *units);
    return 0;
}

/* Where the z0 that this node has to publish goes. */
static int32_t *change_base(struct embedding *embedding, uint32_t node)
{
    struct base_changes *changes = &embedding->base_changes;
    size_t n = embedding->settings.dimension;
    uint32_t *at = &embedding->nodes[node].base_change;
    if (*at == NOT_THERE) {
        if (embedding_reserve_base_changes(embedding, changes->count + 1) != 0)
            return NULL;
        *at = (uint32_t)changes->count;
        changes->nodes[changes->count++] = node;
    }
    return changes->rows + *at * n;
}

int embedding_set_base(struct embedding *embedding, uint32_t node, const float *z0, struct error *err)
{
    if (check_node(embedding, node, err) != 0)
        return -1;
    if (embedding->nodes[node].degree == 0)
        return embedding_load_base(embedding, node, z0, err);
    int32_t units[EMBEDDING_DIMENSION_LIMIT];
    size_t n = embedding->settings.dimension;
    if (!base_to_units(z0, units, n))
        return refuse_base(err, node);
    int32_t *row = change_base(embedding, node);
    if (row == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the base vector of node %u", node);
    memcpy(row, units, n * sizeof *units);
    largest_set(&embedding->unpublished[0], node, row_distance(row, published(embedding, node, 0), n));
    wait_to_publish(embedding, node, 0);
    work(embedding);
    return 0;
}

/* Edges. */

/* Where b stands in the list of a, looked up in the shorter of both lists: a hub's is not searched for a small node. */
static uint32_t find_link(const struct embedding *embedding, uint32_t a, uint32_t b)
{
    const struct node *from = &embedding->nodes[a];
    const struct node *to = &embedding->nodes[b];
    bool forward = from->degree <= to->degree;
    const struct node *shorter = forward ? from : to;
    uint32_t wanted = forward ? b : a;
    for (uint32_t i = 0; i < shorter->degree; i++)
        if (shorter->links[i].node == wanted)
            return forward ? i : shorter->links[i].back;
    return NOT_THERE;
}

static int check_ends(const struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    struct error reason;
    if (check_node(embedding, a, &reason) != 0 || check_node(embedding, b, &reason) != 0)
        return error_set(err, ERROR_FATAL, "edge (%u, %u): %s", a, b, reason.message);
    if (a == b)
        return error_set(err, ERROR_FATAL, "embeddings: edge (%u, %u) from a node to itself", a, b);
    return 0;
}

static int link_ends(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    struct node *from = &embedding->nodes[a];
    struct node *to = &embedding->nodes[b];
    if (embedding_reserve_links(embedding, a, (size_t)from->degree + 1, from->degree >= HUB_DEGREE) != 0 ||
        embedding_reserve_links(embedding, b, (size_t)to->degree + 1, to->degree >= HUB_DEGREE) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for edge (%u, %u) of the embeddings", a, b);
    from->links[from->degree] = (struct link){b, to->degree};
    to->links[to->degree] = (struct link){a, from->degree};
    recount_backlog(embedding, a, from->degree++);
    recount_backlog(embedding, b, to->degree++);
    return 0;
}

int embedding_load_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (check_ends(embedding, a, b, err) != 0)
        return -1;
    return link_ends(embedding, a, b, err);
}

int embedding_add_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (check_ends(embedding, a, b, err) != 0)
        return -1;
    if (find_link(embedding, a, b) != NOT_THERE)
        return error_set(err, ERROR_FATAL, "embeddings: edge (%u, %u) is there already", a, b);
    if (link_ends(embedding, a, b, err) != 0)
        return -1;
    for (size_t k = 1; k <= embedding->settings.layers; k++) {
        receive(embedding, a, k, published(embedding, b, k - 1), false);
        receive(embedding, b, k, published(embedding, a, k - 1), false);
    }
    work(embedding);
    return 0;
}

static void move_link(struct embedding *embedding, uint32_t node, uint32_t from, uint32_t to)
{
    struct link *links = embedding->nodes[node].links;
    if (from == to)
        return; /* the gap itself, whose other end may be gone already */
    links[to] = links[from];
    embedding->nodes[links[to].node].links[links[to].back].back = to;
}

/* The gap is handed up through the parts of the list, see embedding_state.h. */
static void take_link(struct embedding *embedding, uint32_t node, uint32_t gap)
{
    struct flight *flight = &embedding->flight;
    if (flight->active && flight->node == node && gap < flight->end) {
        if (gap < flight->cursor) {
            move_link(embedding, node, --flight->cursor, gap);
            gap = flight->cursor;
        }
        move_link(embedding, node, --flight->end, gap);
        gap = flight->end;
    }
    struct node *state = &embedding->nodes[node];
    uint32_t before = state->degree--;
    move_link(embedding, node, state->degree, gap);
    recount_backlog(embedding, node, before);
}

/* The node's sums after the edge to `other` has gone, from which it had received `old`, where that is not published. */
static void give_back(struct embedding *embedding, uint32_t node, uint32_t other, bool old)
{
    for (size_t k = 1; k <= embedding->settings.layers; k++)
        receive(embedding, node, k,
                old && embedding->flight.layer == k - 1 ? embedding->before : published(embedding, other, k - 1), true);
}

static void settle(struct embedding *embedding, uint32_t node)
{
    if (embedding->nodes[node].degree == 0)
        forget_waiting(embedding, node);
    if (embedding->nodes[node].high != NULL && embedding->nodes[node].degree <= HUB_NO_MORE)
        unmake_hub(embedding, node);
}

int embedding_remove_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (check_ends(embedding, a, b, err) != 0)
        return -1;
    uint32_t at = find_link(embedding, a, b);
    if (at == NOT_THERE)
        return error_set(err, ERROR_FATAL, "embeddings: no edge (%u, %u) to remove", a, b);
    uint32_t back = embedding->nodes[a].links[at].back;
    bool a_has_old = has_not_received(embedding, b, back);
    bool b_has_old = has_not_received(embedding, a, at);
    take_link(embedding, a, at);
    take_link(embedding, b, back);
    give_back(embedding, a, b, a_has_old);
    give_back(embedding, b, a, b_has_old);
    settle(embedding, a);
    settle(embedding, b);
    work(embedding);
    return 0;
}

/* Everything afresh. */

struct layer {
    struct embedding *embedding;
    size_t k;
};

/* Always inline: gcc takes a function that does nothing but fetch for one without effect, and drops calls of it. */
static inline __attribute__((always_inline)) void fetch_published(const struct embedding *embedding, uint32_t node,
                                                                  size_t k)
{
    const char *row = (const char *)published(embedding, node, k);
    for (size_t at = 0; at < embedding->settings.dimension * sizeof(int32_t); at += CACHE_LINE)
        __builtin_prefetch(row + at);
}

static void sum_afresh(struct embedding *embedding, uint32_t node, size_t k)
{
    const struct node *state = &embedding->nodes[node];
    size_t n = embedding->settings.dimension;
    struct sum sum = sum_of(embedding, node, k);
    memset(sum.low, 0, n * sizeof *sum.low);
    if (sum.high != NULL)
        memset(sum.high, 0, n * sizeof *sum.high);
    for (uint32_t i = 0; i < state->degree; i++) {
        if (i + AHEAD < state->degree)
            fetch_published(embedding, state->links[i + AHEAD].node, k - 1);
        row_add(sum, published(embedding, state->links[i].node, k - 1), false, n);
    }
    if (k < embedding->settings.layers) {
        int32_t delta[EMBEDDING_DIMENSION_LIMIT] __attribute__((aligned(ROW_ALIGNMENT)));
        row_publish(sum, share_of(embedding, node), published(embedding, node, k), delta, n);
    }
}

static void recompute_block(void *job, size_t index, size_t worker)
{
    (void)worker;
    const struct layer *layer = job;
    size_t first = index * RECOMPUTE_BLOCK, end = first + RECOMPUTE_BLOCK;
    if (end > layer->embedding->node_count)
        end = layer->embedding->node_count;
    for (size_t node = first; node < end; node++)
        sum_afresh(layer->embedding, (uint32_t)node, layer->k);
}

void embedding_recompute(struct embedding *embedding, struct pool *pool)
{
    clearing_end(embedding->clearing);
    embedding->clearing = NULL;
    clear_waiting(embedding);
    size_t blocks = (embedding->node_count + RECOMPUTE_BLOCK - 1) / RECOMPUTE_BLOCK;
    for (size_t k = 1; k <= embedding->settings.layers; k++) {
        struct layer layer = {embedding, k};
        if (pool != NULL)
            pool_run(pool, blocks, recompute_block, &layer);
        else
            for (size_t i = 0; i < blocks; i++)
                recompute_block(&layer, i, 0);
    }
    for (uint32_t node = 0; node < embedding->node_count; node++)
        embedding->operations += (uint64_t)embedding->settings.layers * embedding->nodes[node].degree;
}

int embedding_watch(struct embedding *embedding, struct error *err)
{
    return reserve_changed(embedding) == 0 ? 0 : error_set(err, ERROR_FATAL, "out of memory for the embeddings");
}

void embedding_each_changed(struct embedding *embedding, void (*visit)(void *context, uint32_t node), void *context)
{
    for (size_t i = 0; i < embedding->changed_words; i++)
        for (; embedding->changed[i] != 0; embedding->changed[i] &= embedding->changed[i] - 1)
            visit(context, (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(embedding->changed[i]));
}

uint64_t embedding_operations(const struct embedding *embedding)
{
    return embedding->operations;
}
