/*
 * vectors.h - base vectors of users and items by id, trained elsewhere
 *
 * The rows are z0 as it is propagated, of a length of about 1. Reading a file of them is the caller's: this part knows
 * no file formats.
 *
 * Threads: read-only once it is filled; any.
 */
#ifndef HEADRACE_GRAPH_VECTORS_H
#define HEADRACE_GRAPH_VECTORS_H

#include <stddef.h>

#include "base/error.h"
#include "base/table.h"

enum vectors_kind { VECTORS_USERS, VECTORS_ITEMS };

struct graph_vectors {
    size_t dimension;
    char version[64];     /* another one is another set of vectors */
    struct table ids[2];  /* by kind */
    const float *rows[2]; /* (ids.count, dimension) */
};

/* `version` is cut to what fits. */
void graph_vectors_init(struct graph_vectors *vectors, size_t dimension, const char *version);
void graph_vectors_free(struct graph_vectors *vectors);

/*
 * Rows (count, dimension) stay the caller's and must outlive the vectors; ids are copied. ERROR_BAD_INPUT: an id comes
 * twice, or a component is no number or too large for the embeddings (embedding_set_base()).
 */
int graph_vectors_add(struct graph_vectors *vectors, enum vectors_kind kind, size_t count,
                      struct text (*id)(const void *context, size_t index), const void *context, const float *rows,
                      struct error *err);

/* NULL: there is none. */
const float *graph_vectors_find(const struct graph_vectors *vectors, enum vectors_kind kind, struct text id);

#endif
