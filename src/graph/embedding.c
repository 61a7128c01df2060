#include "graph/embedding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "base/random.h"

/* Below this norm a node's change is measured against the floor: what is nearly 0 is not published for its noise. */
static const float NORM_FLOOR = 0.05f;

enum {
    LANES = 16,

    /*
     * Sums of so few rows are always taken afresh, in double: then they hardly depend on the order in which the edges
     * came, and users with the same few items have equal vectors, not nearly equal ones (similar.h promises ties).
     */
    SMALL_DEGREE = 4,

    /*
     * Every addition to a float sum rounds, so sums are also taken afresh after this many of them, or this many times
     * the degree when that is more: it costs at most 1 / DRIFT_CHANGES_A_ROW of the work and keeps the drift of a
     * random walk of n roundings, sqrt(n) * 2e-8 of the sum, at about 1e-6.
     */
    DRIFT_CHANGES = 4096,
    DRIFT_CHANGES_A_ROW = 16,

    NOT_THERE = UINT32_MAX,
};

/* An edge as it stands in the list of one end. */
struct link {
    uint32_t node;
    uint32_t back; /* where the edge stands in the list of `node` */
};

struct node {
    struct link *links; /* in no order */
    size_t capacity;
    uint32_t degree;
    uint32_t peak;   /* largest degree since all the sums were last taken afresh */
    uint32_t queued; /* bit k: in the queue of layer k */
};

struct embedding {
    size_t layers;
    size_t dimension;
    float epsilon;
    uint64_t seed;
    uint64_t operations;

    struct node *nodes;
    size_t node_count;
    size_t node_capacity;

    float *rows; /* (node, 2 * layers, dimension): P^0 … P^(K-1), S^1 … S^K */
    size_t rows_capacity;

    uint32_t *changes; /* (node, layers): additions to S^1 … S^K since they were taken afresh */
    size_t changes_capacity;

    /* Nodes that have to publish layer k, k in 1..K-1; each is there at most once, so adding never needs memory. */
    struct queue_of_layer {
        uint32_t *nodes;
        size_t count;
        size_t capacity;
    } * queues;

    /*
     * |z^k - P^k| of every node, k in 1..K-1, as the leaves of a heap-shaped tree in which each inner entry is the
     * larger of the two below it: its top is the largest at any time, without a pass over the nodes.
     */
    float *unpublished; /* (layers - 1, 2 * leaves); 1 is the top, leaf n is leaves + n */
    size_t leaves;      /* a power of two */

    float *delta;  /* (dimension): what a push hands on */
    double *total; /* (dimension): of sums taken afresh */
};

struct embedding *embedding_create(const struct embedding_settings *settings, struct error *err)
{
    size_t layers = settings->layers, dimension = settings->dimension;
    struct embedding *embedding = calloc(1, sizeof *embedding);
    if (embedding == NULL)
        goto fail;
    *embedding = (struct embedding){
        .layers = layers, .dimension = dimension, .epsilon = settings->epsilon, .seed = settings->seed};
    embedding->queues = calloc(layers, sizeof *embedding->queues);
    embedding->delta = calloc(dimension, sizeof *embedding->delta);
    embedding->total = calloc(dimension, sizeof *embedding->total);
    if (embedding->queues && embedding->delta && embedding->total)
        return embedding;
fail:
    embedding_destroy(embedding);
    error_set(err, ERROR_FATAL, "out of memory for the embeddings");
    return NULL;
}

void embedding_destroy(struct embedding *embedding)
{
    if (embedding == NULL)
        return;
    for (size_t i = 0; i < embedding->node_count; i++)
        free(embedding->nodes[i].links);
    for (size_t k = 0; embedding->queues != NULL && k < embedding->layers; k++)
        free(embedding->queues[k].nodes);
    free(embedding->nodes);
    free(embedding->rows);
    free(embedding->changes);
    free(embedding->queues);
    free(embedding->unpublished);
    free(embedding->delta);
    free(embedding->total);
    free(embedding);
}

/* Rows of a node: P^k for k in 0..K-1, S^k for k in 1..K. */

static float *published(const struct embedding *embedding, uint32_t node, size_t k)
{
    return embedding->rows + ((size_t)node * 2 * embedding->layers + k) * embedding->dimension;
}

static float *sums(const struct embedding *embedding, uint32_t node, size_t k)
{
    return published(embedding, node, embedding->layers + k - 1);
}

/* 1 / degree, which makes a sum the live z; 0 for a node without edges, whose sums are 0. */
static float share(const struct embedding *embedding, uint32_t node)
{
    uint32_t degree = embedding->nodes[node].degree;
    return degree == 0 ? 0.0f : 1.0f / (float)degree;
}

/* Vectors. */

static void add_scaled(float *restrict sum, const float *restrict row, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += scale * row[i];
}

/*
 * A sum over a vector goes in 16 lanes, so that it rounds the same on every machine. They are spelled out as a vector
 * type because gcc 12 makes shuffles of the plain loop: 112 against 68 ns for a whole operation.
 */
typedef float lanes __attribute__((vector_size(64)));

static float sum_of_lanes(const lanes *x)
{
    float quarter[4];
    for (size_t j = 0; j < 4; j++)
        quarter[j] = ((*x)[j] + (*x)[j + 4]) + ((*x)[j + 8] + (*x)[j + 12]);
    return (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
}

/* The squares of |z| and of |z - before|, where z = scale * sum. */
static void measure(const float *sum, float scale, const float *before, size_t n, float *norm, float *moved)
{
    lanes z_squares = {0}, moved_squares = {0};
    for (size_t i = 0; i < n; i += LANES) {
        lanes z, old;
        memcpy(&z, sum + i, sizeof z);
        memcpy(&old, before + i, sizeof old);
        z *= scale;
        old -= z;
        z_squares += z * z;
        moved_squares += old * old;
    }
    *norm = sum_of_lanes(&z_squares);
    *moved = sum_of_lanes(&moved_squares);
}

/* The largest unpublished difference of each layer. */

static float *unpublished_of_layer(const struct embedding *embedding, size_t k)
{
    return embedding->unpublished + (k - 1) * 2 * embedding->leaves;
}

static void set_unpublished(struct embedding *embedding, uint32_t node, size_t k, float distance)
{
    float *tree = unpublished_of_layer(embedding, k);
    size_t at = embedding->leaves + node;
    tree[at] = distance;
    while (at > 1) {
        float larger = tree[at] > tree[at ^ 1] ? tree[at] : tree[at ^ 1];
        at /= 2;
        if (tree[at] == larger)
            break;
        tree[at] = larger;
    }
}

static int grow_unpublished(struct embedding *embedding, size_t node_count)
{
    if (node_count <= embedding->leaves)
        return 0;
    struct embedding grown = *embedding;
    grown.leaves = embedding->leaves == 0 ? 1024 : embedding->leaves * 2;
    grown.unpublished = calloc((embedding->layers - 1) * 2 * grown.leaves + 1, sizeof *grown.unpublished);
    if (grown.unpublished == NULL)
        return -1;
    for (size_t k = 1; k < embedding->layers; k++)
        for (uint32_t node = 0; node < embedding->node_count; node++)
            set_unpublished(&grown, node, k, unpublished_of_layer(embedding, k)[embedding->leaves + node]);
    free(embedding->unpublished);
    embedding->unpublished = grown.unpublished;
    embedding->leaves = grown.leaves;
    return 0;
}

float embedding_bound(const struct embedding *embedding)
{
    if (embedding->node_count == 0)
        return 0.0f;
    double bound = 0;
    for (size_t k = 1; k < embedding->layers; k++)
        bound += (double)(embedding->layers - k) * (double)unpublished_of_layer(embedding, k)[1];
    return (float)(bound / (double)embedding->layers);
}

/* Sums and pushes. */

/* Queues the node to publish layer k when the live z^k has moved too far from P^k. */
static void look_at(struct embedding *embedding, uint32_t node, size_t k)
{
    float norm, moved; /* squares */
    measure(sums(embedding, node, k), share(embedding, node), published(embedding, node, k), embedding->dimension,
            &norm, &moved);
    set_unpublished(embedding, node, k, sqrtf(moved));
    float floor = NORM_FLOOR * NORM_FLOOR;
    float threshold = embedding->epsilon * embedding->epsilon * (norm > floor ? norm : floor);
    uint32_t bit = UINT32_C(1) << k;
    if (moved <= threshold || (embedding->nodes[node].queued & bit) != 0)
        return;
    struct queue_of_layer *queue = &embedding->queues[k];
    queue->nodes[queue->count++] = node;
    embedding->nodes[node].queued |= bit;
}

/* S^k from the neighbours' P^(k-1) as they are now. */
static void sum_afresh(struct embedding *embedding, uint32_t node, size_t k)
{
    const struct node *state = &embedding->nodes[node];
    size_t n = embedding->dimension;
    double *restrict total = embedding->total;
    float *restrict sum = sums(embedding, node, k);
    memset(total, 0, n * sizeof *total);
    for (uint32_t i = 0; i < state->degree; i++) {
        const float *restrict row = published(embedding, state->links[i].node, k - 1);
        for (size_t j = 0; j < n; j++)
            total[j] += (double)row[j];
    }
    for (size_t j = 0; j < n; j++)
        sum[j] = (float)total[j];
    embedding->changes[(size_t)node * embedding->layers + k - 1] = 0;
    embedding->operations += state->degree;
}

/* Adds scale * row to S^k. The node's list and its neighbours' P^(k-1) must be the new ones already. */
static void change_sum(struct embedding *embedding, uint32_t node, size_t k, const float *row, float scale)
{
    uint32_t degree = embedding->nodes[node].degree;
    uint32_t changes = ++embedding->changes[(size_t)node * embedding->layers + k - 1];
    if (degree <= SMALL_DEGREE || (changes >= DRIFT_CHANGES && changes / DRIFT_CHANGES_A_ROW >= degree)) {
        sum_afresh(embedding, node, k);
    } else {
        add_scaled(sums(embedding, node, k), row, scale, embedding->dimension);
        embedding->operations++;
    }
    if (k < embedding->layers)
        look_at(embedding, node, k);
}

/* What change_sum() will touch of a node: out of cache, a push is mostly waiting for these rows. */
static void prefetch(const struct embedding *embedding, uint32_t node, size_t k)
{
    const char *sum = (const char *)sums(embedding, node, k);
    const char *before = (const char *)published(embedding, node, k);
    for (size_t at = 0; at < embedding->dimension * sizeof(float); at += 64) {
        __builtin_prefetch(sum + at, 1);
        if (k < embedding->layers)
            __builtin_prefetch(before + at);
    }
    __builtin_prefetch(&embedding->nodes[node]);
    __builtin_prefetch(&embedding->changes[(size_t)node * embedding->layers], 1);
}

static void publish(struct embedding *embedding, uint32_t node, size_t k)
{
    const struct node *state = &embedding->nodes[node];
    size_t n = embedding->dimension;
    const float *restrict sum = sums(embedding, node, k);
    float *restrict before = published(embedding, node, k);
    float *restrict delta = embedding->delta;
    float scale = share(embedding, node);
    for (size_t i = 0; i < n; i++) {
        float z = scale * sum[i];
        delta[i] = z - before[i];
        before[i] = z;
    }
    set_unpublished(embedding, node, k, 0.0f);
    for (uint32_t i = 0; i < state->degree; i++) {
        if (i + 1 < state->degree)
            prefetch(embedding, state->links[i + 1].node, k + 1);
        change_sum(embedding, state->links[i].node, k + 1, delta, 1.0f);
    }
}

/* A push of layer k changes sums of layer k + 1 only, so going up the layers once empties every queue. */
static void drain(struct embedding *embedding)
{
    for (size_t k = 1; k < embedding->layers; k++) {
        struct queue_of_layer *queue = &embedding->queues[k];
        for (size_t i = 0; i < queue->count; i++) {
            embedding->nodes[queue->nodes[i]].queued &= ~(UINT32_C(1) << k);
            publish(embedding, queue->nodes[i], k);
        }
        queue->count = 0;
    }
}

/* Nodes. */

/* Each number in [-1, 1) is exact and sqrt is correctly rounded, so every machine computes the same. */
static void base_vector(const struct embedding *embedding, struct text key, float *out)
{
    struct random random = {XXH3_64bits_withSeed(key.data, key.size, embedding->seed)};
    double *values = embedding->total;
    double square = 0;
    for (size_t i = 0; i < embedding->dimension; i++) {
        values[i] = 2 * random_uniform(&random) - 1;
        square += values[i] * values[i];
    }
    double norm = sqrt(square);
    for (size_t i = 0; i < embedding->dimension; i++)
        out[i] = (float)(values[i] / norm);
}

static int reserve_node(struct embedding *embedding)
{
    size_t count = embedding->node_count + 1;
    size_t row_size = 2 * embedding->layers * embedding->dimension * sizeof *embedding->rows;
    if (count >= NOT_THERE ||
        array_reserve(&embedding->nodes, &embedding->node_capacity, count, sizeof *embedding->nodes) != 0 ||
        array_reserve(&embedding->rows, &embedding->rows_capacity, count, row_size) != 0 ||
        array_reserve(&embedding->changes, &embedding->changes_capacity, count,
                      embedding->layers * sizeof *embedding->changes) != 0 ||
        grow_unpublished(embedding, count) != 0)
        return -1;
    for (size_t k = 1; k < embedding->layers; k++) {
        struct queue_of_layer *queue = &embedding->queues[k];
        if (array_reserve(&queue->nodes, &queue->capacity, count, sizeof *queue->nodes) != 0)
            return -1;
    }
    return 0;
}

int embedding_add_node(struct embedding *embedding, struct text key, uint32_t *number, struct error *err)
{
    if (reserve_node(embedding) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for the embedding of node %zu (" TEXT_FORMAT ")",
                         embedding->node_count, TEXT_ARGS(key));
    uint32_t node = (uint32_t)embedding->node_count++;
    size_t row_size = 2 * embedding->layers * embedding->dimension * sizeof *embedding->rows;
    memset(published(embedding, node, 0), 0, row_size);
    memset(embedding->changes + (size_t)node * embedding->layers, 0, embedding->layers * sizeof *embedding->changes);
    embedding->nodes[node] = (struct node){0};
    base_vector(embedding, key, published(embedding, node, 0));
    *number = node;
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

static int append_link(struct node *state, struct link link)
{
    if (array_reserve(&state->links, &state->capacity, (size_t)state->degree + 1, sizeof *state->links) != 0)
        return -1;
    state->links[state->degree++] = link;
    if (state->degree > state->peak)
        state->peak = state->degree;
    return 0;
}

static void take_link(struct embedding *embedding, uint32_t node, uint32_t at)
{
    struct node *state = &embedding->nodes[node];
    struct link last = state->links[--state->degree];
    if (at == state->degree)
        return;
    state->links[at] = last;
    embedding->nodes[last.node].links[last.back].back = at;
}

static int check_ends(const struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (a >= embedding->node_count || b >= embedding->node_count)
        return error_set(err, ERROR_FATAL, "embeddings: edge (%u, %u) with only %zu nodes", a, b,
                         embedding->node_count);
    if (a == b)
        return error_set(err, ERROR_FATAL, "embeddings: edge (%u, %u) from a node to itself", a, b);
    return 0;
}

int embedding_load_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (check_ends(embedding, a, b, err) != 0)
        return -1;
    if (find_link(embedding, a, b) != NOT_THERE)
        return error_set(err, ERROR_FATAL, "embeddings: edge (%u, %u) is there already", a, b);
    struct node *from = &embedding->nodes[a];
    struct node *to = &embedding->nodes[b];
    if (append_link(from, (struct link){b, to->degree}) != 0)
        goto out;
    if (append_link(to, (struct link){a, from->degree - 1}) != 0) {
        from->degree--;
        goto out;
    }
    return 0;

out:
    return error_set(err, ERROR_FATAL, "out of memory for edge (%u, %u) of the embeddings", a, b);
}

int embedding_add_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (embedding_load_edge(embedding, a, b, err) != 0)
        return -1;
    for (size_t k = 1; k <= embedding->layers; k++) {
        change_sum(embedding, a, k, published(embedding, b, k - 1), 1.0f);
        change_sum(embedding, b, k, published(embedding, a, k - 1), 1.0f);
    }
    drain(embedding);
    return 0;
}

/*
 * The node's sums after the edge to `other` has gone. What rounding left behind weighs more in a smaller sum, so they
 * are taken afresh whenever the degree has halved.
 */
static void forget(struct embedding *embedding, uint32_t node, uint32_t other)
{
    struct node *state = &embedding->nodes[node];
    bool halved = state->degree <= state->peak / 2;
    if (halved)
        state->peak = state->degree;
    for (size_t k = 1; k <= embedding->layers; k++) {
        if (halved)
            embedding->changes[(size_t)node * embedding->layers + k - 1] = UINT32_MAX - 1;
        change_sum(embedding, node, k, published(embedding, other, k - 1), -1.0f);
    }
}

/* Without edges z is 0, and P follows whatever epsilon says: there is nobody to publish it to. */
static void clear_lone(struct embedding *embedding, uint32_t node)
{
    if (embedding->nodes[node].degree > 0)
        return;
    for (size_t k = 1; k < embedding->layers; k++) {
        memset(published(embedding, node, k), 0, embedding->dimension * sizeof *embedding->rows);
        set_unpublished(embedding, node, k, 0.0f);
    }
}

int embedding_remove_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err)
{
    if (check_ends(embedding, a, b, err) != 0)
        return -1;
    uint32_t at = find_link(embedding, a, b);
    if (at == NOT_THERE)
        return error_set(err, ERROR_FATAL, "embeddings: no edge (%u, %u) to remove", a, b);
    uint32_t back = embedding->nodes[a].links[at].back;
    take_link(embedding, a, at);
    take_link(embedding, b, back);
    forget(embedding, a, b);
    forget(embedding, b, a);
    clear_lone(embedding, a);
    clear_lone(embedding, b);
    drain(embedding);
    return 0;
}

void embedding_recompute(struct embedding *embedding, struct pool *pool)
{
    (void)pool;
    for (size_t k = 1; k <= embedding->layers; k++)
        for (uint32_t node = 0; node < embedding->node_count; node++) {
            sum_afresh(embedding, node, k);
            if (k == embedding->layers)
                continue;
            memset(published(embedding, node, k), 0, embedding->dimension * sizeof *embedding->rows);
            add_scaled(published(embedding, node, k), sums(embedding, node, k), share(embedding, node),
                       embedding->dimension);
            set_unpublished(embedding, node, k, 0.0f);
        }
    for (uint32_t node = 0; node < embedding->node_count; node++)
        embedding->nodes[node].peak = embedding->nodes[node].degree;
}

/* Reading. */

void embedding_read(const struct embedding *embedding, uint32_t node, float *out)
{
    memset(out, 0, embedding->dimension * sizeof *out);
    float scale = share(embedding, node) / (float)embedding->layers;
    for (size_t k = 1; k <= embedding->layers; k++)
        add_scaled(out, sums(embedding, node, k), scale, embedding->dimension);
}

void embedding_read_layer(const struct embedding *embedding, uint32_t node, size_t k, float *out)
{
    if (k == 0) {
        memcpy(out, published(embedding, node, 0), embedding->dimension * sizeof *out);
        return;
    }
    memset(out, 0, embedding->dimension * sizeof *out);
    add_scaled(out, sums(embedding, node, k), share(embedding, node), embedding->dimension);
}

uint64_t embedding_operations(const struct embedding *embedding)
{
    return embedding->operations;
}

float embedding_cosine(const float *a, const float *b, size_t n)
{
    double product = 0, a_square = 0, b_square = 0;
    for (size_t i = 0; i < n; i++) {
        product += (double)a[i] * (double)b[i];
        a_square += (double)a[i] * (double)a[i];
        b_square += (double)b[i] * (double)b[i];
    }
    if (!(a_square > 0 && b_square > 0))
        return 0.0f;
    return (float)(product / (sqrt(a_square) * sqrt(b_square)));
}
