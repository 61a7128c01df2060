/*
 * embedding.h - LightGCN's propagation kept fresh by residual push, a bounded piece of work at a time
 *
 * In z-space (z = e / sqrt(degree)) the propagation of LightGCN (He et al., SIGIR 2020) is a plain mean over neighbours
 * and cosines are unchanged; the paper's retriever averages layers 1..K (OptiRAG-Rec, section 4). State of a node: its
 * published P^0..P^(K-1) and the sums S^1..S^K of what its neighbours have published; live z^k = S^k / degree. P^0 is
 * the base vector z0. A new edge adds each end's P to the other end's sums, a removed one takes back exactly what was
 * received. A node whose live z^k has moved from P^k by more than epsilon * max(|z^k|, 0.05) waits in a queue to
 * publish: then the difference goes to the sums S^(k+1) of its neighbours, one after another.
 *
 * All of P and S are whole numbers on a grid of 2^-21, so sums are exact whatever the order in which things came:
 * nothing drifts, nodes with the same neighbours have equal vectors bit for bit, a node without edges is exactly 0, and
 * what is drained at epsilon = 0 is what embedding_recompute() computes, bit for bit. Rounding P to the grid is all
 * that is lost: less than 2e-6 of z's distance from the real numbers' at 64 dimensions, for each layer from the second.
 *
 * Work. One vector operation is one row added to, or taken from, one sum; to begin a push and to look at a node again
 * count as one each. An edge added or taken out costs 2K operations itself, and then at most `budget` operations of
 * what waits are done; a change of a base vector costs at most `budget`. What is left waits for the next change or for
 * embedding_drain(). Nothing that waits is ever dropped.
 *
 * Under backlog (more than 256 budgets wait) epsilon doubles, again at 512 and at 1024 budgets, up to 8 times the
 * setting. Nodes that are passed over because of it are remembered; once the queue is empty they are looked at with
 * half the value, and when all were seen to, epsilon falls by that half.
 *
 * Result: f = sum over k in 1..K of w_k z^k, with `normalise` of w_k z^k / |z^k|. Bound: a mean does not expand, so in
 * max-row-norm |z^k - exact| <= sum of u_j, j in 0..k-1, where u_j is the largest |z^j - P^j| of any node now (with
 * what a push in flight has not handed on yet). For the mean of K layers at rest that is at most (K - 1) / 2 * R *
 * epsilon with R = max |z0|, for the last layer (K - 1) * R * epsilon.
 *
 * Nodes are numbered here; they are of any kind, and edges are between any two of them. The same calls give the same
 * state, bit for bit, on every machine.
 *
 * Threads: calls that take a const embedding may run beside each other, the others run alone; the graph's lock sees to
 * it.
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_H
#define HEADRACE_GRAPH_EMBEDDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/text.h"

enum { EMBEDDING_LAYERS_LIMIT = 8, EMBEDDING_DIMENSION_LIMIT = 256 };

enum embedding_result {
    EMBEDDING_MEAN,     /* w_k = 1 / K */
    EMBEDDING_FINAL,    /* z^K alone */
    EMBEDDING_WEIGHTED, /* weights[] */
};

struct embedding_settings {
    size_t layers;    /* K, 1 to EMBEDDING_LAYERS_LIMIT */
    size_t dimension; /* a multiple of 16, at most EMBEDDING_DIMENSION_LIMIT */
    float epsilon;    /* >= 0; 0: every change is published */
    size_t budget;    /* B: operations on what waits after each change; 0: no limit, and nothing ever waits */
    enum embedding_result result;
    float weights[EMBEDDING_LAYERS_LIMIT]; /* WEIGHTED: of z^1 .. z^K, >= 0; divided by their sum, which is > 0 */
    bool normalise;                        /* each z^k is scaled to unit length before it enters the result */
    uint64_t seed;                         /* of the base vectors that are hashed */
};

struct embedding;

/* NULL with ERROR_FATAL: a setting out of its range, or no memory. */
struct embedding *embedding_create(const struct embedding_settings *settings, struct error *err);
void embedding_destroy(struct embedding *embedding);

/*
 * A new node; *number is one given back before, or else one above the last. `key` (kind and id) seeds its z0, of unit
 * length, so it is the same after every restart.
 */
int embedding_add_node(struct embedding *embedding, struct text key, uint32_t *number, struct error *err);

/* The z0 that embedding_add_node() gives a node of this key; `dimension` floats. */
void embedding_hashed_base(const struct embedding *embedding, struct text key, float *out);

/* Gives the number back; the node must have no edges any more (else ERROR_FATAL). */
int embedding_remove_node(struct embedding *embedding, uint32_t number, struct error *err);

/*
 * Another z0, `dimension` finite floats of less than 4 each (ERROR_BAD_INPUT otherwise). With edges it is pushed in
 * turn; a node that still waits to push the one before keeps its place. On -1 nothing has changed.
 */
int embedding_set_base(struct embedding *embedding, uint32_t node, const float *z0, struct error *err);

/*
 * The edge must be new, or there, respectively, and join two different nodes; else ERROR_FATAL, as the caller has lost
 * count. On -1 nothing has changed. To find the edge costs a pass over the shorter list of the two ends.
 */
int embedding_add_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
int embedding_remove_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);

/* Does up to `operations` of what waits; SIZE_MAX: until nothing waits and epsilon is back at the setting. */
void embedding_drain(struct embedding *embedding, size_t operations);

/* Another epsilon; every node is looked at. Nothing is pushed before the next change or embedding_drain(). */
void embedding_set_epsilon(struct embedding *embedding, float epsilon);

/*
 * Bulk load: O(1) each. That each edge comes once is the caller's promise: it is not looked up. Until
 * embedding_recompute() has computed everything exactly, published it and emptied the queue, nothing may be read,
 * changed or drained; it works on all threads of the pool (NULL: on the caller's), with the same result.
 *
 * Room may be reserved before, for so many nodes and for so many edges of a node, in all; that costs less than growing.
 * Room for nodes may be asked for again and again as it becomes known how many there will be, while there is none:
 * fresh memory, which a system takes long to clear, is cleared by a thread of its own meanwhile.
 */
int embedding_reserve(struct embedding *embedding, size_t nodes, struct error *err);
int embedding_reserve_edges(struct embedding *embedding, uint32_t node, size_t edges, struct error *err);
int embedding_load_base(struct embedding *embedding, uint32_t node, const float *z0, struct error *err);
int embedding_load_edge(struct embedding *embedding, uint32_t a, uint32_t b, struct error *err);
void embedding_recompute(struct embedding *embedding, struct pool *pool);

/* f of a node, `dimension` floats; 0 for a node without edges. */
void embedding_read(const struct embedding *embedding, uint32_t node, float *out);

/* Asks for what embedding_read() will touch: of many nodes in no order, most of the time goes in waiting for it. */
void embedding_fetch(const struct embedding *embedding, uint32_t node);

/* Live z^k of a node, k in 0..K, for tests and inspection. */
void embedding_read_layer(const struct embedding *embedding, uint32_t node, size_t k, float *out);

/*
 * The f of a node that is not there and had these neighbours (cold start from an inline history): z^k is the mean of
 * their live z^(k-1). Summed in the order given. count 0: zeros.
 */
void embedding_read_mean_of(const struct embedding *embedding, const uint32_t *nodes, size_t count, float *out);

/*
 * Largest distance of any node's z^k, k in 0..K, from an exact recomputation, without rounding to the grid; 0 for z^0.
 * Kept up to date: O(K).
 */
float embedding_layer_bound(const struct embedding *embedding, size_t k);

/*
 * The same of any f: sum of w_k * embedding_layer_bound(k). With `normalise` a short z^k may turn by any angle, so all
 * that can be said of every node is 2 * the sum of the w_k whose layer's bound is not 0; ask embedding_angle() of a
 * node.
 */
float embedding_bound(const struct embedding *embedding);

/*
 * Largest angle between a node's f and the exact one, radians: asin(bound / |f|); pi when the bound is not smaller than
 * |f|, 0 when it is 0. With `normalise` the bound is that of this very node.
 */
float embedding_angle(const struct embedding *embedding, uint32_t node);

/* Vector operations since the start, those of embedding_recompute() included. */
uint64_t embedding_operations(const struct embedding *embedding);

/* Vector operations that the pushes in the queue would take now; those that they cause come on top. */
uint64_t embedding_backlog(const struct embedding *embedding);

/* In force now: no node outside the queue holds back more. The setting, or twice, four or eight times that. */
float embedding_epsilon(const struct embedding *embedding);

/* Memory held, bytes: rows, lists, queue. */
size_t embedding_bytes(const struct embedding *embedding);

/*
 * The whole state as a stream of bytes, for the machine that wrote it: what is loaded goes on bit for bit, with what
 * waits, too. embedding_load() wants an embedding without nodes and with the same layers, dimension, epsilon and seed;
 * on -1 (ERROR_FATAL: other settings, damaged, cut short, no memory; or what `read` says) it is fit only for
 * embedding_destroy(). `write` and `read` return 0 or -1 with err, and take or fill all `size` bytes.
 */
typedef int embedding_write(void *context, const void *bytes, size_t size, struct error *err);
typedef int embedding_fill(void *context, void *bytes, size_t size, struct error *err);
int embedding_save(const struct embedding *embedding, embedding_write *write, void *context, struct error *err);
int embedding_load(struct embedding *embedding, embedding_fill *read, void *context, struct error *err);

/*
 * Remembers from now on whose sums change. embedding_each_changed() visits these nodes once, in order of number, and
 * forgets them; one that has been removed meanwhile may be among them. Without memory ERROR_FATAL.
 */
int embedding_watch(struct embedding *embedding, struct error *err);
void embedding_each_changed(struct embedding *embedding, void (*visit)(void *context, uint32_t node), void *context);

/*
 * Cosine of two vectors of n floats, n a multiple of 16; 0 when either is 0. Computed in double, column j modulo 8
 * summed up with its like, then the eight sums: the same everywhere. That of a vector with itself is exactly 1.
 */
double embedding_cosine(const float *a, const float *b, size_t n);

/* The same number for `query` and f of the node, which is not written out for it; NaN when either is 0. */
double embedding_cosine_to(const struct embedding *embedding, uint32_t node, const float *query);

#endif
