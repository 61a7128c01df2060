/*
 * state.h - what stands behind a struct graph: store, working copy, and what is staged between two commits
 *
 * The writer reads the working copy without the lock (nobody else changes it) and takes it for writing in
 * graph_commit() only. What is staged never touches the working copy before.
 */
#ifndef HEADRACE_GRAPH_STATE_H
#define HEADRACE_GRAPH_STATE_H

#include <pthread.h>

#include "base/table.h"
#include "graph/graph.h"
#include "graph/nodes.h"
#include "graph/records.h"
#include "graph/store.h"

enum change_kind {
    CHANGE_SET_EDGE,
    CHANGE_REMOVE_EDGE,
    CHANGE_DESCRIBE_ITEM,
    CHANGE_DESCRIBE_USER,
    CHANGE_ERASE_USER,
    CHANGE_REVIVE_USER,
    CHANGE_OFFSET,
};

struct change {
    enum change_kind kind;
    uint32_t node;                   /* the user of an edge; the item or user described; the partition's number */
    struct edge edge;                /* as seen from the user */
    int64_t replaced_ms;             /* SET_EDGE, REMOVE_EDGE: time of the pair's edge before, -1: none */
    int64_t next_offset;             /* OFFSET */
    struct description *description; /* DESCRIBE_*: owned until applied */
};

struct erasure {
    uint32_t user;
    bool erased; /* false: there again */
};

struct staged {
    struct table user_ids, item_ids; /* new ones; numbered on from the committed ones */
    struct change *changes;          /* applied in this order */
    size_t change_count, change_capacity;
    struct erasure *erasures; /* of this batch, the last one of a user counts; few */
    size_t erasure_count, erasure_capacity;
    uint64_t events;
    int64_t newest_event_ms;
    size_t count; /* what graph_staged() tells */
};

struct graph {
    struct graph_settings settings;
    char *directory;
    pthread_rwlock_t lock; /* guards nodes, the counts below, and store_reopen() against scans */
    struct store store;
    struct nodes nodes;
    uint64_t events;
    int64_t newest_event_ms;

    /* The writer's thread only. */
    struct table partitions; /* "topic", 0, partition (4) */
    int64_t *next_offsets;   /* by number of partition: the committed one, -1: none */
    size_t offset_capacity;
    struct staged staged;
    struct buffer record, key; /* scratch for what is staged */
};

/* A pair's event as the edge that it is at the end that has `other` at the other end. */
struct edge graph_edge_of(const struct graph *graph, const struct event *event, uint32_t other);

/* The number of a partition in graph->partitions, taken in if it is new; GRAPH_NONE without memory. */
uint32_t graph_number_partition(struct graph *graph, struct text key);

/* Fills nodes, counts and offsets from the store. */
int graph_load(struct graph *graph, struct error *err);

void graph_drop_staged(struct graph *graph);

#endif
