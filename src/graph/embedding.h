/*
 * embedding.h - LightGCN's propagation kept fresh by residual push
 *
 * In z-space (z = e / sqrt(degree)) the propagation of LightGCN (He et al., SIGIR 2020) is a plain mean over neighbours
 * and cosines are unchanged; the paper's retriever averages layers 1..K (OptiRAG-Rec, section 4). State of a node: its
 * base vector z0 (fixed, from a hash of its id, unit norm), the sums S^1..S^K over its neighbours' *published* z^(k-1),
 * and its published P^1..P^(K-1); live z^k = S^k / degree, P^0 = z0. A new edge adds each end's P to the other end's
 * sums, a removed edge takes back exactly what was added. A node whose live z^k has moved from P^k by more than epsilon
 * * max(|z^k|, 0.05) publishes: the difference goes to every neighbour's S^(k+1).
 *
 * Result: f = mean of z^1..z^K. Bound: sums are exact in P and a mean does not expand, so in max-row-norm
 * |f - exact| <= (K - 1) / 2 * R * epsilon * max(largest norm, floor) with R = max |z0| = 1, once the queue is drained;
 * embedding_bound() gives it from the largest difference now unpublished a layer, which is tighter.
 *
 * Nodes are numbered by this part's caller: any dense numbering over both kinds; edges are between any two nodes.
 *
 * Threads: one at a time; the graph holds its lock around every call.
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_H
#define HEADRACE_GRAPH_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct embedding;

/* layers: K >= 1; dimension: a multiple of 16; epsilon >= 0 (0: every change is published at once). NULL: no memory. */
struct embedding *embedding_create(size_t layers, size_t dimension, float epsilon, uint64_t seed);
void embedding_destroy(struct embedding *embedding);

/* A new node, numbered one above the last; `key` (kind and id) seeds its z0, so it is the same after every restart. */
int embedding_add_node(struct embedding *embedding, struct text key, struct error *err);

/* The edge must be new, or there, respectively. Pushes are done before the call returns. */
int embedding_add_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
int embedding_remove_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);

/*
 * Bulk load: with pushes held back edges only enter the neighbour lists; embedding_recompute() then computes everything
 * exactly, and publishes it.
 */
int embedding_load_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
void embedding_recompute(struct embedding *embedding);

/* f of a node, `dimension` floats. */
void embedding_read(const struct embedding *embedding, uint32_t node, float *out);

/* z^k of a node, k in 0..K, for tests and inspection. */
void embedding_read_layer(const struct embedding *embedding, uint32_t node, size_t k, float *out);

/* Largest distance of any f from an exact recomputation, from what is unpublished now. */
float embedding_bound(const struct embedding *embedding);

/* Vector operations (one neighbour's row touched) since the start. */
uint64_t embedding_operations(const struct embedding *embedding);

/* Cosine of two vectors of n floats, 0 when either is 0. Summed in double in index order: the same everywhere. */
float embedding_cosine(const float *a, const float *b, size_t n);

#endif
