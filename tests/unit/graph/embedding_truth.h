/*
 * embedding_truth.h - what embeddings must amount to: the edges, and LightGCN on them in double
 *
 * z0 is taken from the embeddings, as it was handed out. Nodes are slots here; number[] is what the embeddings call
 * them.
 */
#ifndef HEADRACE_TEST_EMBEDDING_TRUTH_H
#define HEADRACE_TEST_EMBEDDING_TRUTH_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "graph/embedding.h"

enum { DIMENSION = 32, NODES = 60, LEFT = 25, LAYERS_MAX = 4 };

static const uint32_t NO_NODE = UINT32_MAX;

/* Rounding to the grid, layer by layer, on top of what epsilon leaves unpublished. */
static const double ROUNDING = 1e-5;

struct truth {
    uint32_t number[NODES]; /* NO_NODE: the slot is empty */
    bool edge[NODES][NODES];
    size_t degree[NODES];
    double z[LAYERS_MAX + 1][NODES][DIMENSION];
};

static inline struct truth *truth_create(void)
{
    struct truth *truth = calloc(1, sizeof *truth);
    assert_non_null(truth);
    for (uint32_t v = 0; v < NODES; v++)
        truth->number[v] = v;
    return truth;
}

static inline void truth_toggle(struct truth *truth, uint32_t a, uint32_t b)
{
    bool there = !truth->edge[a][b];
    truth->edge[a][b] = truth->edge[b][a] = there;
    truth->degree[a] += there ? 1 : (size_t)-1;
    truth->degree[b] += there ? 1 : (size_t)-1;
}

static inline void truth_propagate(struct truth *truth, const struct embedding *embedding, size_t layers)
{
    memset(truth->z, 0, sizeof truth->z);
    for (uint32_t v = 0; v < NODES; v++) {
        float row[DIMENSION];
        if (truth->number[v] == NO_NODE)
            continue;
        embedding_read_layer(embedding, truth->number[v], 0, row);
        for (size_t i = 0; i < DIMENSION; i++)
            truth->z[0][v][i] = (double)row[i];
    }
    for (size_t k = 1; k <= layers; k++)
        for (size_t v = 0; v < NODES; v++)
            for (size_t w = 0; w < NODES; w++)
                for (size_t i = 0; truth->edge[v][w] && i < DIMENSION; i++)
                    truth->z[k][v][i] += truth->z[k - 1][w][i] / (double)truth->degree[v];
}

static inline double distance(const float *row, const double *exact)
{
    double square = 0;
    for (size_t i = 0; i < DIMENSION; i++)
        square += ((double)row[i] - exact[i]) * ((double)row[i] - exact[i]);
    return sqrt(square);
}

/* Largest |z^k - exact z^k| of any node. */
static inline double truth_layer_error(const struct truth *truth, const struct embedding *embedding, size_t k)
{
    double worst = 0;
    for (uint32_t v = 0; v < NODES; v++) {
        float row[DIMENSION];
        if (truth->number[v] == NO_NODE)
            continue;
        embedding_read_layer(embedding, truth->number[v], k, row);
        worst = fmax(worst, distance(row, truth->z[k][v]));
    }
    return worst;
}

/* f of a slot from z, with these weights of z^1 .. z^K. */
static inline void truth_result(const struct truth *truth, uint32_t v, size_t layers, const float *weights,
                                bool normalise, double *out)
{
    memset(out, 0, DIMENSION * sizeof *out);
    for (size_t k = 1; k <= layers; k++) {
        double square = 0, weight = (double)weights[k - 1];
        for (size_t i = 0; i < DIMENSION; i++)
            square += truth->z[k][v][i] * truth->z[k][v][i];
        if (normalise)
            weight = square > 0 ? weight / sqrt(square) : 0;
        for (size_t i = 0; i < DIMENSION; i++)
            out[i] += weight * truth->z[k][v][i];
    }
}

/* Largest |f - exact f| of any node, f being the mean. */
static inline double truth_error(const struct truth *truth, const struct embedding *embedding, size_t layers)
{
    float weights[LAYERS_MAX];
    for (size_t k = 0; k < layers; k++)
        weights[k] = 1.0f / (float)layers;
    double worst = 0, exact[DIMENSION];
    for (uint32_t v = 0; v < NODES; v++) {
        float row[DIMENSION];
        embedding_read(embedding, truth->number[v], row);
        truth_result(truth, v, layers, weights, false, exact);
        worst = fmax(worst, distance(row, exact));
    }
    return worst;
}

static inline void add_nodes(struct embedding *embedding, size_t count)
{
    struct error err;
    for (size_t v = 0; v < count; v++) {
        char key[32];
        uint32_t number;
        snprintf(key, sizeof key, "n:%zu", v);
        assert_int_equal(embedding_add_node(embedding, text_of(key), &number, &err), 0);
        assert_int_equal(number, v);
    }
}

/* A random pair across the two sides, the low numbers often: hubs, and ends that lose their last edge. */
static inline void random_pair(struct random *random, uint32_t *a, uint32_t *b)
{
    double left = random_uniform(random), right = random_uniform(random);
    *a = (uint32_t)(left * left * LEFT);
    *b = LEFT + (uint32_t)(right * right * (NODES - LEFT));
}

static inline void toggle(struct embedding *embedding, struct truth *truth, uint32_t a, uint32_t b)
{
    struct error err;
    bool there = truth->edge[a][b];
    assert_int_equal(
        (there ? embedding_remove_edge : embedding_add_edge)(embedding, truth->number[a], truth->number[b], &err), 0);
    truth_toggle(truth, a, b);
}

#endif
