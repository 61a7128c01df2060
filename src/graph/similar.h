/*
 * similar.h - users like this one
 *
 * CANDIDATE: among the users with an edge to the candidate earlier than `before_ms`, the most similar, with what they
 * made of it. GLOBAL: the paper's (section 4, arg max over all users). Both search exhaustively: cosine of embeddings,
 * rounded to a grid of 2^-17, ties by most recent activity (CANDIDATE: earlier than `before_ms`), then by id in byte
 * order. Users without an embedding (no edges) are never returned, nor is the user; a query of zeros is similar to
 * nobody. The embeddings are those of now, also for an earlier `before_ms`.
 *
 * Threads: call between graph_read_lock() and graph_read_unlock().
 */
#ifndef HEADRACE_GRAPH_SIMILAR_H
#define HEADRACE_GRAPH_SIMILAR_H

#include "graph/graph.h"

enum similar_mode { SIMILAR_NONE, SIMILAR_CANDIDATE, SIMILAR_GLOBAL };

struct similar_user {
    uint32_t user;
    float cosine;   /* on the grid */
    int8_t verdict; /* CANDIDATE: of the candidate; GLOBAL: 0 */
};

/*
 * `query` is the embedding to compare with (dimension floats), `self` the user to leave out (GRAPH_NONE: nobody).
 * Fills out[0..k), most similar first, and returns how many. An `item` of GRAPH_NONE has no users. Costs one cosine for
 * each user looked at.
 */
size_t similar_by_candidate(const struct graph *graph, const float *query, uint32_t self, uint32_t item,
                            int64_t before_ms, size_t k, struct similar_user *out);
size_t similar_global(const struct graph *graph, const float *query, uint32_t self, size_t k, struct similar_user *out);

#endif
