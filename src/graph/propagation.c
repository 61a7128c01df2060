#include "graph/propagation.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int allocate(struct propagation *propagation, size_t count, struct error *err)
{
    propagation->starts = calloc(propagation->nodes + 2, sizeof *propagation->starts);
    propagation->neighbours = calloc(2 * count + 1, sizeof *propagation->neighbours);
    propagation->root_degree = calloc(propagation->nodes + 1, sizeof *propagation->root_degree);
    if (propagation->starts != NULL && propagation->neighbours != NULL && propagation->root_degree != NULL)
        return 0;
    propagation_free(propagation);
    return error_set(err, ERROR_FATAL, "out of memory for a graph of %zu nodes and %zu edges", propagation->nodes,
                     count);
}

static int by_number(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

/* Counting sort by node: starts[v + 1] is where v's next neighbour goes while they are placed. */
static void place_neighbours(struct propagation *propagation, const struct pair *pairs, size_t count)
{
    size_t *next = propagation->starts + 1;
    for (size_t i = 0; i < count; i++) {
        next[pairs[i].user + 1]++;
        next[propagation->users + pairs[i].item + 1]++;
    }
    for (size_t node = 1; node < propagation->nodes; node++)
        next[node] += next[node - 1];
    for (size_t i = 0; i < count; i++) {
        uint32_t item = (uint32_t)(propagation->users + pairs[i].item);
        propagation->neighbours[next[pairs[i].user]++] = item;
        propagation->neighbours[next[item]++] = pairs[i].user;
    }
}

int propagation_create(struct propagation *propagation, size_t users, size_t items, const struct pair *pairs,
                       size_t count, struct error *err)
{
    *propagation = (struct propagation){.users = users, .items = items, .nodes = users + items};
    if (propagation->nodes >= UINT32_MAX)
        return error_set(err, ERROR_BAD_INPUT, "%zu users and %zu items are more than can be numbered", users, items);
    if (allocate(propagation, count, err) != 0)
        return -1;
    place_neighbours(propagation, pairs, count);
    for (size_t node = 0; node < propagation->nodes; node++) {
        size_t degree = propagation_degree(propagation, node);
        qsort(propagation->neighbours + propagation->starts[node], degree, sizeof *propagation->neighbours, by_number);
        propagation->root_degree[node] = sqrtf((float)degree);
    }
    return 0;
}

void propagation_free(struct propagation *propagation)
{
    free(propagation->starts);
    free(propagation->neighbours);
    free(propagation->root_degree);
    propagation->starts = NULL;
    propagation->neighbours = NULL;
    propagation->root_degree = NULL;
}

int propagation_has(const struct propagation *propagation, uint32_t user, uint32_t item)
{
    const uint32_t wanted = (uint32_t)(propagation->users + item);
    return bsearch(&wanted, propagation->neighbours + propagation->starts[user], propagation_degree(propagation, user),
                   sizeof wanted, by_number) != NULL;
}

/*
 * In z-space, z = e / sqrt(degree), a layer is the plain mean of the neighbours' rows: no product for each neighbour.
 */
struct layer {
    const struct propagation *propagation;
    size_t dimension;
    const float *in;   /* of the whole call */
    const float *from; /* z^(k-1) */
    float *to;         /* z^k; unused in the last layer */
    float *sum;        /* of the layers so far; the last layer turns it into the result */
    float share;       /* 1 / (layers + 1) */
    bool is_last;
};

static void enter(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct layer *layer = job;
    size_t n = layer->dimension, end = propagation_end(layer->propagation, task);
    for (size_t node = propagation_first(task); node < end; node++) {
        float root = layer->propagation->root_degree[node];
        float scale = root > 0 ? 1 / root : 0;
        for (size_t i = 0; i < n; i++)
            layer->to[node * n + i] = layer->sum[node * n + i] = layer->in[node * n + i] * scale;
    }
}

/*
 * 16 columns at a time, as a vector type: gcc 12 keeps it in registers where it does not so keep a loop over an array.
 * Wider registers than the baseline's are used where there are any; every addition rounds the same there. The
 * sanitizers are not ready yet when the loader chooses among clones.
 */
typedef float lanes __attribute__((vector_size(sizeof(float) * PROPAGATION_LANES)));

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

WIDEST static void sum_rows(const float *rows, size_t n, const uint32_t *numbers, size_t count, float *out)
{
    for (size_t block = 0; block < n; block += PROPAGATION_LANES) {
        lanes sum = {0};
        for (size_t i = 0; i < count; i++) {
            lanes row;
            memcpy(&row, rows + numbers[i] * n + block, sizeof row);
            sum += row;
        }
        memcpy(out + block, &sum, sizeof sum);
    }
}

static void run_layer(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct layer *layer = job;
    const struct propagation *propagation = layer->propagation;
    size_t n = layer->dimension, end = propagation_end(propagation, task);
    for (size_t node = propagation_first(task); node < end; node++) {
        float root = propagation->root_degree[node];
        float *to = layer->to + node * n, *sum = layer->sum + node * n;
        if (root == 0) {
            for (size_t i = 0; layer->is_last && i < n; i++)
                sum[i] = layer->in[node * n + i] * layer->share;
            continue;
        }
        float scale = 1 / (root * root), back = root * layer->share;
        sum_rows(layer->from, n, propagation->neighbours + propagation->starts[node],
                 propagation_degree(propagation, node), to);
        for (size_t i = 0; i < n; i++) {
            to[i] *= scale;
            sum[i] += to[i];
            if (layer->is_last)
                sum[i] *= back;
        }
    }
}

void propagation_mean(const struct propagation *propagation, struct pool *pool, size_t layers, size_t dimension,
                      const float *in, float *out, float *const scratch[2])
{
    if (layers == 0) {
        memcpy(out, in, propagation->nodes * dimension * sizeof *out);
        return;
    }
    struct layer layer = {.propagation = propagation,
                          .dimension = dimension,
                          .in = in,
                          .to = scratch[0],
                          .sum = out,
                          .share = 1 / (float)(layers + 1)};
    pool_run(pool, propagation_tasks(propagation), enter, &layer);
    for (size_t k = 1; k <= layers; k++) {
        layer.from = scratch[(k + 1) % 2];
        layer.to = scratch[k % 2];
        layer.is_last = k == layers;
        pool_run(pool, propagation_tasks(propagation), run_layer, &layer);
    }
}
