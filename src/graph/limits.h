/*
 * limits.h - window, edges a node, nodes: what has to leave, event by event
 *
 * Two orders say who is next: users by the time of the oldest that the store may hold of them, nodes with edges by the
 * time of their newest edge. Entries are lower bounds, put right when they come up; the times beside them tell which
 * entry of a node is the valid one. Nothing is held for a limit that is off, nor in a graph that is open for reading
 * only.
 *
 * Threads: the writer's.
 */
#ifndef HEADRACE_GRAPH_LIMITS_H
#define HEADRACE_GRAPH_LIMITS_H

#include <stdbool.h>

#include "base/error.h"
#include "graph/order.h"

struct graph;

struct limits {
    struct order by_oldest; /* users; window */
    int64_t *due_ms;        /* (user): time of its valid entry, INT64_MAX: none */
    size_t due_count, due_capacity;
    uint32_t *due; /* users from whose history this batch has to take what is too old */
    size_t listed_count, listed_capacity;

    struct order by_newest; /* end << 32 | number; max_nodes */
    int64_t *active_ms[2];  /* (end)(number): time of its valid entry, INT64_MAX: none */
    size_t active_count[2], active_capacity[2];
    uint64_t nodes; /* with edges */
};

void limits_free(struct limits *limits);
size_t limits_bytes(const struct limits *limits);

/* After loading: the orders as they are; then out goes what the settings of today do not allow. */
int limits_begin(struct graph *graph, struct error *err);

/* Whether an event of this time is too old to change anything. */
bool limits_is_late(const struct graph *graph, int64_t timestamp_ms);

/* An event is taken in: the time may have moved on. Its record is staged. */
int limits_take_event(struct graph *graph, uint32_t user, int64_t timestamp_ms, struct error *err);

/* A pair's edge was set or cleared in the overlay; it had one before or not. */
int limits_edge_changed(struct graph *graph, uint32_t user, uint32_t item, bool had, struct error *err);

/* After an edge was set, and all that goes with it: what is too much leaves. */
int limits_enforce(struct graph *graph, uint32_t user, uint32_t item, struct error *err);

/* The number is free. */
void limits_forget_user(struct graph *graph, uint32_t user);

/* Before a batch is written: deletes the history that has fallen out of the window. May be called again. */
int limits_delete_history(struct graph *graph, struct error *err);

/* After the batch. */
void limits_batch_done(struct graph *graph);

#endif
