/*
 * staging.h - what the parts of the writer's side share
 *
 * Each function stages in the batch, in the overlay, and as a change for the working copy. -1 means that the batch is
 * incomplete (no memory, or the store cannot be read): the error is ERROR_FATAL then.
 */
#ifndef HEADRACE_GRAPH_STAGING_H
#define HEADRACE_GRAPH_STAGING_H

#include "graph/state.h"

/* Whether something may be staged now. */
int staging_begin(struct graph *graph, struct error *err);

int staging_check_id(const char *kind, struct text id, struct error *err);

/* GRAPH_NONE: new. */
uint32_t staging_find_user(const struct graph *graph, struct text id, uint64_t hash);
uint32_t staging_find_item(const struct graph *graph, struct text id, uint64_t hash);

/* The number of an id that staging_find_*() does not know, given now. */
int staging_add_user(struct graph *graph, struct text id, uint64_t hash, uint32_t *user, struct error *err);
int staging_add_item(struct graph *graph, struct text id, uint64_t hash, uint32_t *item, struct error *err);

/* Where the node's z0 comes from is written down. */
int staging_note_source(struct graph *graph, enum end end, uint32_t number, struct error *err);

/* `edge` is as seen from the user; `replaced_ms` the time of the one before, -1: none. */
int staging_set_edge(struct graph *graph, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err);

/* The pair's edge goes; its record in the store is the caller's business and will be of `newest_ms`, -1: none. */
int staging_remove_edge(struct graph *graph, uint32_t user, uint32_t item, int64_t removed_ms, int64_t newest_ms,
                        struct error *err);

/* A limit takes the edge out: pair and edge; with `history` its event stays known. */
int staging_take_edge(struct graph *graph, uint32_t user, uint32_t item, int64_t removed_ms, bool history,
                      struct error *err);

/* ERROR_RETRY: the store could not be read, and nothing was staged. */
int staging_erase_user(struct graph *graph, uint32_t user, struct error *err);

#endif
