/*
 * evidence.h - cheap numbers about a (user, candidate), point in time
 *
 * One function for scoring, training and replay. Only current edges earlier than `before_ms` count (a tie is not
 * earlier), so a value known only later cannot leak in. Neutral edges count as not liked. Rates are smoothed towards a
 * half: (likes + 1) / (edges + 2).
 *
 * Caveats: an edge replaced by a later event is gone from the counts also for an earlier `before_ms`; votes and cosine
 * go by the embeddings of now.
 *
 * Threads: call between graph_read_lock() and graph_read_unlock(); what evidence_begin() gives is good for that one
 * lock.
 */
#ifndef HEADRACE_GRAPH_EVIDENCE_H
#define HEADRACE_GRAPH_EVIDENCE_H

#include "base/arena.h"
#include "graph/graph.h"
#include "graph/similar.h"

struct evidence {
    double item_like_rate; /* smoothed */
    double item_count;     /* edges of the item */
    double item_likes;
    double user_like_rate; /* over all, smoothed */
    double user_count;
    double user_likes;
    double recent_like_rate; /* over the user's last 10, smoothed */
    double recent_count;     /* 0 to 10 */
    double recent_likes;
    double vote_4, vote_8,
        vote_30;     /* like share among the 4, 8, 30 most similar users with an edge to the item, smoothed */
    double cosine;   /* user's to item's embedding */
    double affinity; /* user's smoothed like rate over items that share an attribute value, mean over the values; 0.5:
                        none */

    int64_t newest_ms; /* newest edge that entered counts, votes or affinity; INT64_MIN: none. The cosine goes by the
                          graph's state, whose newest event is in graph_counts() */
};

enum { EVIDENCE_COUNT = 14, EVIDENCE_FEATURES = EVIDENCE_COUNT, EVIDENCE_VOTERS = 30 };

/* Names in the order of the struct: "item_like_rate", … */
extern const char *const evidence_names[EVIDENCE_COUNT];

/* Whom the evidence is for. */
struct evidence_user {
    uint32_t number;          /* GRAPH_NONE: the graph does not know the user */
    const float *embedding;   /* dimension floats; NULL: the graph's */
    const struct edge *edges; /* oldest first, `other` GRAPH_NONE where the item is unknown; NULL: the graph's */
    size_t edge_count;
};

/* The user's share of the evidence, worked out once for all candidates of a request. */
struct evidence_request;

/*
 * What `user` points to must outlive the request, which lives in `arena`. An unknown user without edges has rates of a
 * half and counts of 0; without an embedding no cosine and nobody who votes. ERROR_FATAL: no memory.
 */
int evidence_begin(struct evidence_request **request, const struct graph *graph, const struct evidence_user *user,
                   int64_t before_ms, struct arena *arena, struct error *err);

/*
 * `item` may be GRAPH_NONE (unknown): its rates are then a half, its counts 0. voters[0..returned) are the users whose
 * verdicts are the votes, most similar first.
 */
size_t evidence_gather(struct evidence_request *request, uint32_t item, struct evidence *out,
                       struct similar_user voters[EVIDENCE_VOTERS]);

/* The values in the order of the names. */
void evidence_values(const struct evidence *evidence, double values[EVIDENCE_COUNT]);

/* What heads weigh, in the order of the names: log odds of rates, votes and affinity, log(1 + n) of counts, the cosine
 * as it is. Always finite. */
void evidence_features(const struct evidence *evidence, float features[EVIDENCE_FEATURES]);

#endif
