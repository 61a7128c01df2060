/*
 * similar.h - users like this one
 *
 * CANDIDATE: among the users with an edge to the candidate earlier than `before_ms`, the most similar, with what they
 * made of it. GLOBAL: the paper's (section 4, arg max over all users). Both are exact: cosine of embeddings, ties by
 * most recent activity, then by id in byte order. Users without an embedding (no edges) are never returned, nor is the
 * user.
 *
 * Threads: call between graph_read_lock() and graph_read_unlock().
 */
#ifndef HEADRACE_GRAPH_SIMILAR_H
#define HEADRACE_GRAPH_SIMILAR_H

#include "graph/graph.h"

enum similar_mode { SIMILAR_NONE, SIMILAR_CANDIDATE, SIMILAR_GLOBAL };

struct similar_user {
    uint32_t user;
    float cosine;
    int8_t verdict; /* CANDIDATE: of the candidate; GLOBAL: 0 */
};

/*
 * `query` is the embedding to compare with (dimension floats), `self` the user to leave out (GRAPH_NONE: nobody).
 * Fills out[0..k), most similar first, and returns how many.
 */
size_t similar_by_candidate(const struct graph *graph, const float *query, uint32_t self, uint32_t item,
                            int64_t before_ms, size_t k, struct similar_user *out);
size_t similar_global(const struct graph *graph, const float *query, uint32_t self, size_t k, struct similar_user *out);

#endif
