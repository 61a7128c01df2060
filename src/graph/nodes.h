/*
 * nodes.h - the graph's working copy in memory
 *
 * Users and items by number, every current edge at both ends in order of time, what is said about them, and their
 * embeddings. A node takes an embedding with its first edge only: one known by its title alone costs none.
 *
 * Changes that fail for want of memory leave the copy incomplete; the store has it all, so the process must start anew.
 *
 * Threads: the graph's lock guards it.
 */
#ifndef HEADRACE_GRAPH_NODES_H
#define HEADRACE_GRAPH_NODES_H

#include "base/table.h"
#include "graph/embedding.h"
#include "graph/graph.h"
#include "graph/records.h"

struct edges {
    struct edge *at; /* oldest first, ties in the order in which they came */
    size_t count;
    size_t capacity;
};

struct user_node {
    struct edges edges;
    struct description *profile; /* NULL: none */
    uint32_t embedding;          /* its number there; GRAPH_NONE: none */
    bool erased;                 /* the number stays taken, without anything behind it */
};

struct item_node {
    struct edges edges;
    struct description *description; /* NULL: none */
    uint32_t *values;                /* (value_count) numbers of its attribute values, ascending */
    size_t value_count;
    uint32_t embedding;
};

struct nodes {
    struct table user_ids, item_ids; /* a node's number is its id's */
    struct user_node *users;         /* (user_ids.count) */
    struct item_node *items;         /* (item_ids.count) */
    size_t user_capacity, item_capacity;
    struct table attribute_values; /* "name", 0, "value" */
    struct embedding *embedding;
    size_t dimension;
    uint64_t edge_count, title_count, erased_count;
};

int nodes_create(struct nodes *nodes, const struct graph_settings *settings, struct error *err);
void nodes_destroy(struct nodes *nodes);

/* The id must be new; its number is one above the last. */
int nodes_add_user(struct nodes *nodes, struct text id, struct error *err);
int nodes_add_item(struct nodes *nodes, struct text id, struct error *err);

/* A number whose user was erased before the last start: its id is known to nobody. */
int nodes_add_erased_user(struct nodes *nodes, struct error *err);

/* Bulk load: in order of time, each pair once; then embedding_recompute(). `edge` is as seen from the user. */
int nodes_load_edge(struct nodes *nodes, uint32_t user, struct edge edge, struct error *err);

/* `replaced_ms` is the time of the pair's present edge, which goes; -1: there is none. */
int nodes_set_edge(struct nodes *nodes, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err);
int nodes_remove_edge(struct nodes *nodes, uint32_t user, uint32_t item, int64_t timestamp_ms, struct error *err);

/* The description becomes the node's; NULL: none. */
int nodes_describe_item(struct nodes *nodes, uint32_t item, struct description *description, struct error *err);
void nodes_describe_user(struct nodes *nodes, uint32_t user, struct description *profile);

int nodes_erase_user(struct nodes *nodes, uint32_t user, struct error *err);
void nodes_revive_user(struct nodes *nodes, uint32_t user);

#endif
