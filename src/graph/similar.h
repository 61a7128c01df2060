/*
 * similar.h - users like this one
 *
 * CANDIDATE: among the users with an edge to the candidate earlier than `before_ms` (of an item with more of them than
 * SIMILAR_RATERS, among the most recent ones), the most similar, with what they made of it. GLOBAL: the paper's
 * (section 4, arg max over all users). Both are exact: cosines of embeddings as embedding_cosine() computes them, ties
 * by most recent activity (CANDIDATE: earlier than `before_ms`), then by id in byte order. Users without an embedding
 * (no edges) are never returned, nor is the user; a query of zeros is similar to nobody. The embeddings are those of
 * now, also for an earlier `before_ms`.
 *
 * Which edges the embeddings should have: what the most similar users of a candidate made of it, as a guess of what the
 * user will, in AUC on the second half of ml-100k in order of time (5,920 ratings of users with 5 edges or more in the
 * first half, mean and standard deviation of 5 seeds; bench_votes in tests/bench):
 *
 *                                  4 users          8                30
 *     all edges                    0.662 +- 0.006   0.688 +- 0.004   0.709 +- 0.003
 *     likes                        0.676 +- 0.004   0.697 +- 0.005   0.710 +- 0.003
 *     all, layers normalised       0.662 +- 0.006   0.690 +- 0.004   0.710 +- 0.004
 *     likes, layers normalised     0.683 +- 0.004   0.702 +- 0.004   0.713 +- 0.002
 *     the item's like rate alone   0.708
 *
 * Hence likes by default. Not normalised: that gains less, and of a layer that is scaled to unit length no error but a
 * useless one can be told for all users (embedding_bound()).
 *
 * Threads: call between graph_read_lock() and graph_read_unlock().
 */
#ifndef HEADRACE_GRAPH_SIMILAR_H
#define HEADRACE_GRAPH_SIMILAR_H

#include "graph/graph.h"

enum similar_mode { SIMILAR_NONE, SIMILAR_CANDIDATE, SIMILAR_GLOBAL, SIMILAR_FM, SIMILAR_TEXT };

enum {
    SIMILAR_RATERS = 2048, /* of one candidate that are looked at */
    SIMILAR_CACHE = 4096,  /* a power of 2 */
};

struct similar_user {
    uint32_t user;
    double cosine;
    int8_t verdict; /* CANDIDATE: of the candidate; else 0 */
};

/* What the candidates of one request share: they are known to much the same users, whose cosines are kept. */
struct similar_search {
    const struct graph *graph;
    const float *query;
    uint32_t self;
    int64_t before_ms;
    struct similar_cosine {
        uint32_t user;
        double cosine;
    } cache[SIMILAR_CACHE]; /* at the user's number modulo its size */
};

/*
 * `query` is the embedding to compare with (dimension floats; it must outlive the search), `self` the user to leave out
 * (GRAPH_NONE: nobody). The search is good for one read lock.
 */
void similar_begin(struct similar_search *search, const struct graph *graph, const float *query, uint32_t self,
                   int64_t before_ms);

/*
 * Fills out[0..k), most similar first, and returns how many. An `item` of GRAPH_NONE has no users. Costs a cosine for
 * each user that the search has not met before.
 */
size_t similar_by_candidate(struct similar_search *search, uint32_t item, size_t k, struct similar_user *out);

/* With graph_settings.similar_table a pass over the table, else over all embeddings; the answer is the same. */
size_t similar_global(const struct graph *graph, const float *query, uint32_t self, size_t k, struct similar_user *out);

/*
 * For comparison, offline: of all users, by other vectors than the embeddings; ties as above. All users are gone
 * through.
 *
 * FM: by their rows in graph_settings.vectors, as they were trained (headrace train graph --model fm). Who has none is
 * not returned, and is similar to nobody.
 *
 * TEXT: by the sum of the title vectors of the items that they have edges to, earlier than `before_ms`. The titles'
 * vectors are made anew in each call, by graph_settings.title_vector(), which must bear that beside the writer's calls.
 * -1 with ERROR_FATAL: no memory.
 */
size_t similar_by_vectors(const struct graph *graph, uint32_t user, size_t k, struct similar_user *out);
int similar_by_titles(const struct graph *graph, uint32_t user, int64_t before_ms, size_t k, struct similar_user *out,
                      size_t *count, struct error *err);

#endif
