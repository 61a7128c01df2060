/*
 * nodes.h - the graph's working copy in memory
 *
 * Users and items by number, every current edge at both ends in order of time, what is said about them, and their
 * embeddings. A node has a place in the embeddings only while it has an edge there.
 *
 * Edges taken out leave holes in the lists until nodes_close_holes(): a list of a hundred thousand, of which many leave
 * in one batch, moves once. Nobody may read lists before.
 *
 * Changes that fail for want of memory leave the copy incomplete; the store has it all, so the process must start anew.
 *
 * Threads: the graph's lock guards it.
 */
#ifndef HEADRACE_GRAPH_NODES_H
#define HEADRACE_GRAPH_NODES_H

#include "base/buffer.h"
#include "base/pool.h"
#include "base/table.h"
#include "graph/embedding.h"
#include "graph/graph.h"
#include "graph/ids.h"
#include "graph/records.h"

struct edges {
    struct edge *at; /* oldest first, ties in the order in which they came */
    uint32_t count;
    uint32_t front;    /* places free before the first: the oldest leave most often */
    uint32_t capacity; /* places from at - front on */
    uint32_t torn;     /* 1 + its number in nodes.torn while there are holes; 0: none */
};

/* A list with holes, edges that were taken out of its middle: `other` is GRAPH_NONE there, the time still stands. */
struct torn {
    uint32_t node;
    bool of_user;
    uint32_t holes;
    int64_t from_ms; /* of the oldest */
};

struct user_node {
    struct edges edges;
    struct description *profile; /* NULL: none */
    int64_t newest_ms;           /* of what ever concerned a pair and may still be stored; -1: nothing */
    uint32_t embedding;          /* its number there; GRAPH_NONE: none */
    uint32_t embedded;           /* edges in the embeddings */
    bool hidden;                 /* the store may hold records of pairs that have no edge here */
};

struct item_node {
    struct edges edges;
    struct description *description; /* NULL: none */
    uint32_t *values;                /* (value_count) numbers of its attribute values, ascending */
    uint32_t value_count;
    uint32_t embedding;
    uint32_t embedded;
};

struct nodes {
    const struct graph_settings *settings;
    struct ids user_ids, item_ids; /* a node's number is its id's; a user's number without id is free */
    struct user_node *users;       /* (user_ids.count) */
    struct item_node *items;       /* (item_ids.count) */
    size_t user_capacity, item_capacity;
    struct table attribute_values; /* "name", 0, "value" */
    struct embedding *embedding;
    struct torn *torn; /* (torn_count) */
    size_t torn_count, torn_capacity;
    struct buffer key; /* scratch */
    size_t expected;   /* nodes that there will be in the embeddings, during a bulk load */
    uint64_t edge_count, title_count;
    size_t edge_bytes, description_bytes; /* as allocated */
};

/* The settings must outlive the nodes. */
int nodes_create(struct nodes *nodes, const struct graph_settings *settings, struct error *err);
void nodes_destroy(struct nodes *nodes);

/* The number is free, or one above the last. */
int nodes_add_user(struct nodes *nodes, uint32_t user, struct text id, struct error *err);
int nodes_add_item(struct nodes *nodes, uint32_t item, struct text id, struct error *err);

/* Makes the number known without a user. */
int nodes_add_free_user(struct nodes *nodes, uint32_t user, struct error *err);

/* The pair's edge as it stands in the shorter of both lists; NULL: none. Only `other` is that of the list. */
const struct edge *nodes_find_edge(const struct nodes *nodes, uint32_t user, uint32_t item);

/* Asks for what a change of the pair's edge will touch: the nodes first, later what they point to. */
void nodes_prefetch(const struct nodes *nodes, uint32_t user, uint32_t item);
void nodes_prefetch_edges(const struct nodes *nodes, uint32_t user, uint32_t item);

/*
 * Bulk load of edges, each pair once. nodes_reserve_edges() makes room at both ends for as many as will come; then they
 * come in order of time, nodes_load_edge().
 *
 * Into the embeddings they come in any order, by another thread at the same time if that is wished: nodes_embed_edge()
 * of those that nodes_expect_edge() has been told of, all of them before. nodes_finish_load() computes the embeddings.
 */
int nodes_reserve_edges(struct nodes *nodes, const uint32_t *of_users, const uint32_t *of_items, struct error *err);
void nodes_load_edge(struct nodes *nodes, uint32_t user, struct edge edge);
int nodes_expect_edge(struct nodes *nodes, uint32_t user, const struct edge *edge, struct error *err);
int nodes_embed_edge(struct nodes *nodes, uint32_t user, const struct edge *edge, struct error *err);
void nodes_finish_load(struct nodes *nodes, struct pool *pool);

/* `edge` is as seen from the user. `replaced_ms` is the time of the pair's present edge, which goes; -1: none is. */
int nodes_set_edge(struct nodes *nodes, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err);
int nodes_remove_edge(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms, struct error *err);
int nodes_close_holes(struct nodes *nodes, struct error *err);

/* The description becomes the node's; NULL: none. */
int nodes_describe_item(struct nodes *nodes, uint32_t item, struct description *description, struct error *err);
void nodes_describe_user(struct nodes *nodes, uint32_t user, struct description *profile);

/* The user has no edges any more; the number is free then. */
void nodes_erase_user(struct nodes *nodes, uint32_t user);

void nodes_memory(const struct nodes *nodes, struct graph_memory *memory);

#endif
