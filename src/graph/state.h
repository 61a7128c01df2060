/*
 * state.h - what stands behind a struct graph: store, working copy, and what is staged between two commits
 *
 * The writer reads the working copy without the lock (nobody else changes it) and takes it for writing in
 * graph_commit() only. What is staged never touches the working copy before; what belongs to the writer alone (numbers,
 * limits) runs ahead of it, as a batch is committed sooner or later or dies with the process.
 */
#ifndef HEADRACE_GRAPH_STATE_H
#define HEADRACE_GRAPH_STATE_H

#include <pthread.h>

#include "base/table.h"
#include "graph/graph.h"
#include "graph/limits.h"
#include "graph/nodes.h"
#include "graph/order.h"
#include "graph/overlay.h"
#include "graph/records.h"
#include "graph/store.h"

enum change_kind {
    CHANGE_ADD_USER,
    CHANGE_ADD_ITEM,
    CHANGE_SET_EDGE,
    CHANGE_REMOVE_EDGE,
    CHANGE_DESCRIBE_ITEM,
    CHANGE_DESCRIBE_USER,
    CHANGE_ERASE_USER,
    CHANGE_OFFSET,
};

/* How far a partition has been read. */
struct place {
    int64_t next_offset; /* -1: not at all */
    uint64_t mark;       /* of the message before it; 0: none */
};

struct change {
    enum change_kind kind;
    uint32_t node;    /* the user of an edge; the user or item added or described; the partition */
    struct edge edge; /* SET_EDGE, as seen from the user; REMOVE_EDGE: `other` is the item */
    union {
        int64_t replaced_ms; /* SET_EDGE, REMOVE_EDGE: time of the pair's edge before, -1: none */
        struct place place;  /* OFFSET */
    };
    uint32_t name;                   /* ADD_*: index in the staged names */
    struct description *description; /* DESCRIBE_*: owned until applied */
};

/* Ids that the batch has brought or taken out: they overrule the committed ones. */
struct staged_names {
    struct ids ids;
    uint32_t *numbers; /* (ids.count): GRAPH_NONE, the id is not in use now */
    size_t capacity;
};

struct staged {
    struct staged_names users, items;
    struct overlay overlay;
    struct change *changes; /* applied in this order */
    size_t change_count, change_capacity;
    uint64_t events, late_events;
    int64_t newest_event_ms; /* of all, committed ones included */
    size_t count;            /* what graph_staged() tells */
};

struct graph {
    struct graph_settings settings;
    char *directory;
    pthread_rwlock_t lock; /* guards nodes, the counts below, and store_reopen() against scans */
    struct store store;
    bool has_image; /* a file to be deleted with the first batch (image.h) */
    struct nodes nodes;
    uint64_t events, late_events;
    int64_t newest_event_ms;
    struct similar_table *similar_table; /* NULL: not kept */
    uint32_t *owners;                    /* (owner_capacity) with the table: user by number in the embeddings */
    size_t owner_capacity;

    /* The writer's thread only. */
    struct table partitions; /* "topic", 0, partition (4) */
    struct place *places;    /* by number of partition: the committed one */
    size_t place_capacity;
    uint32_t user_count, item_count; /* numbers given out, free ones included */
    struct order free_users;         /* by number */
    struct limits limits;
    struct staged staged;
    struct buffer record, key; /* scratch for what is staged */
};

/* A pair's event as the edge that it is at the end that has `other` at the other end. */
struct edge graph_edge_of(const struct graph *graph, const struct event *event, uint32_t other);

/* The number of a partition in graph->partitions, taken in if it is new; GRAPH_NONE without memory. */
uint32_t graph_number_partition(struct graph *graph, struct text key);

/* Fills nodes, counts and offsets from the store. */
int graph_load(struct graph *graph, struct error *err);

/* After loading: stages where base vectors come from now, where that has changed. */
int graph_begin_sources(struct graph *graph, struct error *err);

/*
 * The table of similar users (similar_table.h), if the settings want it: made after loading, brought up to date when a
 * batch has been applied and is still staged.
 */
int similar_keep_begin(struct graph *graph, struct error *err);
int similar_keep_up(struct graph *graph, struct error *err);
void similar_keep_end(struct graph *graph);

/* Back to nothing staged. */
void graph_clear_staged(struct graph *graph);

#endif
