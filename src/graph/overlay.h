/*
 * overlay.h - what a batch has changed so far, over the working copy that it has not reached yet
 *
 * The writer sees the graph through it event by event, so that what an event does never depends on where batches end:
 * pairs, a node's number of edges, its oldest and newest one, events taken in. Emptied by graph_commit().
 *
 * Indexes of nodes and pairs hold until it is emptied, pointers until the next node or pair is touched.
 */
#ifndef HEADRACE_GRAPH_OVERLAY_H
#define HEADRACE_GRAPH_OVERLAY_H

#include "graph/graph.h"
#include "graph/key_map.h"
#include "graph/nodes.h"
#include "graph/records.h"

enum end { END_USER, END_ITEM };

#define OVERLAY_NONE UINT32_MAX

struct overlay_node {
    uint32_t number;
    enum end end;
    uint32_t degree;         /* edges now */
    uint32_t front, back;    /* this many edges of the working copy's list, at either end, are overruled */
    uint32_t name;           /* index in the batch's ids, of a node that is new in it; OVERLAY_NONE */
    uint32_t oldest, newest; /* ends of the chain of this batch's pairs that have an edge, in order of time */

    /* Of items only: what the batch says of it; owned by the change. */
    const struct description *description;
    bool described;

    /* Of users only. */
    uint32_t last_event; /* of this batch; OVERLAY_NONE */
    int64_t newest_ms;   /* as in struct user_node */
    bool hidden;
    bool fresh;  /* what the store holds under the number is not this user's */
    bool listed; /* in the window's list of the batch (limits.h) */
};

/* A pair that the batch has touched: it overrules what the working copy has. */
struct overlay_pair {
    uint32_t user, item;
    struct edge edge; /* as seen from the user, when present */
    bool present;
    int64_t newest_ms;           /* of the pair's record as it will be stored; -1: there will be none */
    uint32_t older[2], newer[2]; /* neighbours in the chain of either end; when present */
};

struct overlay_event {
    struct event event;
    bool gone;          /* taken out again: its user was erased, or it fell out of the window */
    uint32_t before;    /* the user's event before it in this batch; OVERLAY_NONE */
    uint32_t same_hash; /* one before it with the same hash; OVERLAY_NONE */
};

struct overlay {
    const struct nodes *committed;
    struct key_map node_map, pair_map, event_map;
    struct overlay_node *nodes;
    struct overlay_pair *pairs;
    struct overlay_event *events;
    size_t node_count, node_capacity, pair_count, pair_capacity, event_count, event_capacity;
    size_t mapped_count; /* events that event_map knows: few batches ever ask it */
};

void overlay_clear(struct overlay *overlay);
void overlay_free(struct overlay *overlay);
size_t overlay_bytes(const struct overlay *overlay);

/* The node's index, touched by this. OVERLAY_NONE: no memory. */
uint32_t overlay_node(struct overlay *overlay, enum end end, uint32_t number);

/* Without touching it: NULL when the batch has not. */
struct overlay_node *overlay_find_node(const struct overlay *overlay, enum end end, uint32_t number);
struct overlay_pair *overlay_find_pair(const struct overlay *overlay, uint32_t user, uint32_t item);

/* The pair's edge now, as it stands at one of the ends (only `other` is unsure); false: none. */
bool overlay_edge(const struct overlay *overlay, uint32_t user, uint32_t item, struct edge *edge);

/* The pair has this edge from now on, as seen from `user`. */
int overlay_set_edge(struct overlay *overlay, uint32_t user, struct edge edge, struct error *err);

/* The pair has none from now on, and a record of this time (-1: no record). */
int overlay_clear_edge(struct overlay *overlay, uint32_t user, uint32_t item, int64_t newest_ms, struct error *err);

/* A node's edge at one end of its list, as seen from it; false: it has none. The node is touched. */
bool overlay_oldest(struct overlay *overlay, uint32_t node, struct edge *edge);
bool overlay_newest(struct overlay *overlay, uint32_t node, struct edge *edge);

/* Whether the very event is among those of this batch. */
int overlay_has_event(struct overlay *overlay, const struct event *event, bool *has, struct error *err);
int overlay_add_event(struct overlay *overlay, const struct event *event, struct error *err);

#endif
