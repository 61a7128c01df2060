/*
 * prefix.h - what all candidates of a prompt begin with, as a chain of chunks, computed only as deep as it is needed
 */
#ifndef HEADRACE_ENGINE_PREFIX_H
#define HEADRACE_ENGINE_PREFIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/prefix_cache.h"

/*
 * A prefix in use, from prefix_start() to prefix_end(). A zeroed one is in use by nobody. Several may be in use on one
 * cache, those with the same beginning sharing chunks; they end in the order in which they were started.
 */
struct prefix {
    struct prefix_cache *cache;
    struct prefix_entry **entries;
    struct chunk **chunks; /* the entries', as the device wants them */
    size_t count;          /* 0: not in use */
    size_t entry_capacity, chunk_capacity;
};

/* A zeroed one is fine. */
void prefix_free(struct prefix *prefix);

/* Takes these tokens, at least 1, from the cache or anew. Ended by prefix_end(), also after a failure. */
int prefix_start(struct prefix *prefix, struct prefix_cache *cache, const int32_t *tokens, size_t length,
                 struct error *err);

/* Makes sure that keys and values of layers 0 .. layers - 1 are there. After a failure only prefix_end() is left, for
 * all prefixes in use: they may share what is broken. */
int prefix_run(struct prefix *prefix, size_t layers, struct error *err);

/* Leaves the chunks to the cache. A prefix that was not started is fine. */
void prefix_end(struct prefix *prefix);

#endif
