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
 * |f - exact| <= sum over k of (K - k) / K * u_k, where u_k is the largest |z^k - P^k| of any node now.
 * embedding_bound() is that number; it is at most (K - 1) / 2 * R * epsilon with R = max |z0| = 1. Float rounding comes
 * on top: about 1e-6, as sums are taken afresh before it can pile up.
 *
 * A node without edges has z = P = 0 in every layer from 1.
 *
 * Nodes are numbered by this part's caller: any dense numbering over both kinds; edges are between any two nodes.
 *
 * Threads: calls that take a const embedding may run beside each other, the others run alone; the graph's lock sees to
 * it.
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_H
#define HEADRACE_GRAPH_EMBEDDING_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct embedding;

/*
 * layers: K, 1 to 31; dimension: a multiple of 16; epsilon >= 0 (0: every change is published at once). NULL: no
 * memory.
 */
struct embedding *embedding_create(size_t layers, size_t dimension, float epsilon, uint64_t seed);
void embedding_destroy(struct embedding *embedding);

/* A new node, numbered one above the last; `key` (kind and id) seeds its z0, so it is the same after every restart. */
int embedding_add_node(struct embedding *embedding, struct text key, struct error *err);

/*
 * The edge must be new, or there, respectively; else ERROR_FATAL, as the caller has lost count. Pushes are done before
 * the call returns. On -1 nothing has changed. Costs the shorter list of the two ends, to find the edge, and the
 * pushes.
 */
int embedding_add_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
int embedding_remove_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);

/*
 * Bulk load: edges only enter the neighbour lists; embedding_recompute() then computes everything exactly, and
 * publishes it. Until then nothing may be read, pushed or taken back.
 */
int embedding_load_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
void embedding_recompute(struct embedding *embedding);

/* f of a node, `dimension` floats; 0 for a node without edges. */
void embedding_read(const struct embedding *embedding, uint32_t node, float *out);

/* z^k of a node, k in 0..K, for tests and inspection. */
void embedding_read_layer(const struct embedding *embedding, uint32_t node, size_t k, float *out);

/* Largest distance of any f from an exact recomputation, from what is unpublished now. Kept up to date: O(layers). */
float embedding_bound(const struct embedding *embedding);

/* Vector operations (one neighbour's row added to a sum) since the start, sums taken afresh included. */
uint64_t embedding_operations(const struct embedding *embedding);

/* Cosine of two vectors of n floats, 0 when either is 0. Summed in double in index order: the same everywhere. */
float embedding_cosine(const float *a, const float *b, size_t n);

#endif
