/*
 * embedding_state.h - what stands behind a struct embedding
 *
 * embedding.c has nodes and edges, embedding_clear.c room for many, embedding_push.c what waits, embedding_read.c what
 * is told, embedding_image.c the state as bytes.
 *
 * At most one push is in flight, and its node's list has three parts: [0, cursor) has received what is published now,
 * [cursor, end) still has what was published before, [end, degree) came later and has received what is published now.
 * An edge that goes is filled up from the end of its own part, so each part stays whole, at O(1).
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_STATE_H
#define HEADRACE_GRAPH_EMBEDDING_STATE_H

#include "graph/embedding.h"
#include "graph/embedding_largest.h"
#include "graph/embedding_rows.h"

enum {
    NOT_THERE = UINT32_MAX,
    CHAIN_END = UINT32_MAX - 1,
    NODES_LIMIT = UINT32_MAX - 1,

    LEVELS_MOST = 3, /* epsilon is doubled at most so often */
};

/* An edge as it stands in the list of one end. */
struct link {
    uint32_t node;
    uint32_t back; /* where the edge stands in the list of `node` */
};

enum chain_kind { CHAIN_WAITING, CHAIN_SKIPPED, CHAINS };

struct node {
    struct link *links;
    int32_t *high; /* (layers, dimension): upper parts of a hub's S^1 .. S^K; else NULL */
    uint32_t degree;
    uint32_t capacity;     /* of links */
    uint32_t next[CHAINS]; /* the node behind it, CHAIN_END, or NOT_THERE when it is in none */
    union {
        uint32_t base_change; /* where its z0 to be pushed is; NOT_THERE: P^0 is its z0 */
        uint32_t next_free;
    };
    uint8_t waiting; /* bit k: has to publish layer k */
    uint8_t skipped; /* bit k: more than the setting's epsilon allows is unpublished, and not waiting */
    bool free;       /* its number may be given out */
};

/* First in, first out; a node is in it once at most, so adding needs no memory. */
struct chain {
    uint32_t first, last;
    uint32_t count;
};

struct flight {
    bool active;
    uint32_t node;
    uint32_t layer;
    uint32_t cursor, end;
    float length; /* |delta|, units */
};

struct base_changes {
    uint32_t *nodes;
    int32_t *rows; /* (count, dimension) */
    size_t count;
    size_t capacity;
};

struct embedding {
    struct embedding_settings settings;
    float weights[EMBEDDING_LAYERS_LIMIT]; /* of z^1 .. z^K in the result */

    struct node *nodes;
    size_t node_count; /* those that are free included */
    size_t node_capacity;
    uint32_t first_free;

    /*
     * Rows of 2^chunk_bits nodes each, (node, 2 * layers, dimension): P^0, P^1, S^1, P^2, S^2, .. S^K, for a push
     * touches P^k and S^k together. In pieces of whole huge pages, so that to grow moves nothing.
     */
    int32_t **chunks;
    size_t chunk_count;
    size_t chunk_capacity;
    unsigned chunk_bits;
    struct clearing *clearing; /* of chunks, during a bulk load; NULL: none */

    /*
     * |z^k - P^k| of every node is at most `unpublished`, units: it is that when the node is looked at, and grows by
     * the length of what is added from then on. Up to `looks` no node can have anything to publish, so nobody looks.
     */
    struct largest unpublished[EMBEDDING_LAYERS_LIMIT];
    float *looks[EMBEDDING_LAYERS_LIMIT]; /* [k] of layers 1..K-1: (look_capacity) */
    size_t look_capacity;
    struct base_changes base_changes;

    struct chain chains[CHAINS];
    uint64_t backlog; /* degree + 1 of each (node, layer) that waits */
    struct flight flight;
    int32_t *delta;  /* (dimension): what the push in flight hands on */
    int32_t *before; /* (dimension): what its node had published */

    uint32_t level;        /* how often epsilon is doubled */
    bool reviewing;        /* nodes skipped are looked at with half of it */
    uint32_t review_layer; /* of the pass going on, */
    uint32_t review_left;  /* and how many nodes are before it */

    uint64_t *changed; /* (changed_words) a bit a node whose sums have changed; NULL: nobody watches */
    size_t changed_words;

    uint64_t operations;
    size_t list_bytes; /* of all links and high rows */
};

/* All rows of a node, bytes. */
static inline size_t row_size(const struct embedding *embedding)
{
    return 2 * embedding->settings.layers * embedding->settings.dimension * sizeof(int32_t);
}

static inline size_t chunk_size(const struct embedding *embedding)
{
    return row_size(embedding) << embedding->chunk_bits;
}

static inline int32_t *node_rows(const struct embedding *embedding, uint32_t node)
{
    size_t at = node & ((UINT32_C(1) << embedding->chunk_bits) - 1);
    return embedding->chunks[node >> embedding->chunk_bits] +
           at * 2 * embedding->settings.layers * embedding->settings.dimension;
}

/* P^k, k in 0..K-1 */
static inline int32_t *published(const struct embedding *embedding, uint32_t node, size_t k)
{
    return node_rows(embedding, node) + (k == 0 ? 0 : 2 * k - 1) * embedding->settings.dimension;
}

/* S^k, k in 1..K, but for a hub's upper row */
static inline int32_t *low_sum(const struct embedding *embedding, uint32_t node, size_t k)
{
    size_t row = k == embedding->settings.layers ? 2 * k - 1 : 2 * k;
    return node_rows(embedding, node) + row * embedding->settings.dimension;
}

/* S^k, k in 1..K */
static inline struct sum sum_of(const struct embedding *embedding, uint32_t node, size_t k)
{
    int32_t *high = embedding->nodes[node].high;
    return (struct sum){low_sum(embedding, node, k),
                        high == NULL ? NULL : high + (k - 1) * embedding->settings.dimension};
}

/* Live z0, units. */
static inline const int32_t *base_of(const struct embedding *embedding, uint32_t node)
{
    uint32_t change = embedding->nodes[node].base_change;
    return change == NOT_THERE ? published(embedding, node, 0)
                               : embedding->base_changes.rows + change * embedding->settings.dimension;
}

/* 1 / degree, which makes a sum the live z; 0 for a node without edges, whose sums are 0. */
static inline float share_of(const struct embedding *embedding, uint32_t node)
{
    uint32_t degree = embedding->nodes[node].degree;
    return degree == 0 ? 0.0f : 1.0f / (float)degree;
}

/* embedding.c: room for so many; -1 without memory, then nothing has changed. A hub's list has upper rows, too. */
int embedding_reserve_nodes(struct embedding *embedding, size_t count);
int embedding_reserve_links(struct embedding *embedding, uint32_t node, size_t count, bool hub);
int embedding_reserve_base_changes(struct embedding *embedding, size_t count);

/* embedding_clear.c: the thread that embedding_reserve() has begun ends. NULL is fine. */
void clearing_end(struct clearing *clearing);

/* embedding_push.c */

/*
 * One operation: S^k of the node takes the row in, or gives it back, and the node is looked at: it waits if it has to
 * publish. To be called for all layers when the degree has changed.
 */
void receive(struct embedding *embedding, uint32_t node, size_t k, const int32_t *row, bool take);

/* The node has to publish layer k. */
void wait_to_publish(struct embedding *embedding, uint32_t node, size_t k);

/* What holds for all that waits after the degree has gone from `before` to what it is. */
void recount_backlog(struct embedding *embedding, uint32_t node, uint32_t before);

/* It has lost its last edge: P^k is 0 from layer 1, z0 is as it was last set, and nobody is to be told anything. */
void forget_waiting(struct embedding *embedding, uint32_t node);

/* Whether the neighbour at this place of the node's list still has what the node had published before. */
bool has_not_received(const struct embedding *embedding, uint32_t node, uint32_t place);

/* What waits, up to the setting's budget, and whether epsilon has to rise. To be called at the end of every change. */
void work(struct embedding *embedding);

/* Nothing waits, nothing is in flight, epsilon is the setting. */
void clear_waiting(struct embedding *embedding);

#endif
