/*
 * z0.h - where a node's base vector comes from: training, else its title, else a hash of its id
 *
 * Threads: any, as far as the settings' title_vector() is called by one at a time: the writer's.
 */
#ifndef HEADRACE_GRAPH_Z0_H
#define HEADRACE_GRAPH_Z0_H

#include "base/buffer.h"
#include "graph/graph.h"

enum z0_source { Z0_HASHED, Z0_TITLE, Z0_TRAINED };

/* Fills `out` (dimension) unless it is Z0_HASHED: that one the embeddings know by themselves. */
enum z0_source z0_of_user(const struct graph_settings *settings, struct text id, float *out);

/* `title` may be absent. */
enum z0_source z0_of_item(const struct graph_settings *settings, struct text id, struct text title, float *out);

/* Whether a title that comes or goes may change its item's z0. */
bool z0_follows_titles(const struct graph_settings *settings);

/* Whether the settings have any other source than the hash. */
bool z0_has_sources(const struct graph_settings *settings);

/* Its record in the store: the source, and which version of it; empty for Z0_HASHED, which has no record. */
void z0_encode(const struct graph_settings *settings, enum z0_source source, struct buffer *out);

#endif
