/*
 * propagation.h - LightGCN's propagation over a whole graph that does not change: what training needs
 *
 * A = D^(-1/2) * adjacency * D^(-1/2) (He et al., SIGIR 2020, equation 3), over users and items as one numbering: users
 * are 0 .. users - 1, items follow. propagation_mean() is the mean of A^0 x .. A^K x. A is symmetric, so the same call
 * takes a gradient back from the result to x.
 *
 * A row is summed by one thread in the order of its neighbours' numbers: the result is the same bit for bit for any
 * number of threads.
 *
 * embedding.h keeps the same thing fresh while edges come and go, for nodes and layers that serving reads.
 */
#ifndef HEADRACE_GRAPH_PROPAGATION_H
#define HEADRACE_GRAPH_PROPAGATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"

/* Of one user and one item, by their own numbers, both from 0. */
struct pair {
    uint32_t user, item;
};

struct propagation {
    size_t users, items, nodes;
    size_t *starts;       /* (nodes + 1) a node's neighbours are neighbours[starts[v] .. starts[v + 1]) */
    uint32_t *neighbours; /* (2 * edges), by node, ascending */
    float *root_degree;   /* (nodes) sqrt of the degree; 0 without edges */
};

enum { PROPAGATION_ROWS = 64 /* rows a task */, PROPAGATION_LANES = 16 /* dimension is a multiple of this */ };

/* Every pair once, numbers below `users` and `items`. On failure there is nothing to free. */
int propagation_create(struct propagation *propagation, size_t users, size_t items, const struct pair *pairs,
                       size_t count, struct error *err);

/* A zeroed one is fine. */
void propagation_free(struct propagation *propagation);

/*
 * out = mean of A^0 in .. A^layers in; `in`, `out` and both of `scratch` are (nodes, dimension), none of them the same.
 * A node without edges keeps in / (layers + 1).
 */
void propagation_mean(const struct propagation *propagation, struct pool *pool, size_t layers, size_t dimension,
                      const float *in, float *out, float *const scratch[2]);

static inline size_t propagation_degree(const struct propagation *propagation, size_t node)
{
    return propagation->starts[node + 1] - propagation->starts[node];
}

/* Whether a user has the item: a search in the user's neighbours. */
int propagation_has(const struct propagation *propagation, uint32_t user, uint32_t item);

/* For pool_run(): tasks that cover all nodes, and the rows of one. */
static inline size_t propagation_tasks(const struct propagation *propagation)
{
    return (propagation->nodes + PROPAGATION_ROWS - 1) / PROPAGATION_ROWS;
}

static inline size_t propagation_first(size_t task)
{
    return task * PROPAGATION_ROWS;
}

static inline size_t propagation_end(const struct propagation *propagation, size_t task)
{
    size_t end = (task + 1) * PROPAGATION_ROWS;
    return end < propagation->nodes ? end : propagation->nodes;
}

#endif
