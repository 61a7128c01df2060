/*
 * evidence.h - cheap numbers about a (user, candidate), point in time
 *
 * One function for scoring, training and replay. Only current edges earlier than `before_ms` count (a tie is not
 * earlier), so a value known only later cannot leak in. Neutral edges count as not liked. Rates are smoothed towards a
 * half: (likes + 1) / (edges + 2).
 *
 * Caveat: an edge replaced by a later event is gone from the counts also for an earlier `before_ms`.
 *
 * Threads: call between graph_read_lock() and graph_read_unlock().
 */
#ifndef HEADRACE_GRAPH_EVIDENCE_H
#define HEADRACE_GRAPH_EVIDENCE_H

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
};

enum { EVIDENCE_COUNT = 14 };

/* Names in the order of the struct: "item_like_rate", … */
extern const char *const evidence_names[EVIDENCE_COUNT];

/*
 * `user` and `item` may be GRAPH_NONE (unknown): rates are then a half, counts 0. `similar` (most similar first, as of
 * similar_by_candidate with k = 30) gives the votes.
 */
void evidence_gather(const struct graph *graph, uint32_t user, uint32_t item, int64_t before_ms,
                     const struct similar_user *similar, size_t similar_count, struct evidence *out);

/* The values in the order of the names. */
void evidence_values(const struct evidence *evidence, double values[EVIDENCE_COUNT]);

#endif
