/*
 * prefix_cache.h - chunks of prefixes, kept from request to request
 *
 * An entry is one chunk: so many tokens at an absolute place behind one certain chain of others. It is found by the
 * entry before it and its tokens, through a hash chained from the first token on; entry and tokens themselves are
 * compared, so that two prefixes with one hash stay two. Only whole chunks are ever gone on from; the last, partial one
 * of a prefix is found by the very same prefix alone.
 *
 * What holds at any time:
 *   - an entry's chunk has entered no more layers than the one before it;
 *   - an entry was used no later than the one before it: the least recently used has nothing that builds on it, and
 *     giving entries back in that order never leaves one that cannot be reached;
 *   - entries in use stay, and are the newest, as prefixes are released in the order in which they were taken. All
 *     others together with them take no more than the budget, or there are no others.
 *
 * Threads: one at a time, the device's.
 */
#ifndef HEADRACE_ENGINE_PREFIX_CACHE_H
#define HEADRACE_ENGINE_PREFIX_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/backend.h"

struct prefix_key {
    uint64_t low, high;
};

struct prefix_entry {
    struct prefix_key key;              /* XXH3-128 of the key before it and the tokens */
    struct prefix_entry *parent;        /* NULL: starts a prefix */
    struct prefix_entry *newer, *older; /* by use */
    struct prefix_entry *next;          /* in the same slot */
    struct chunk *chunk;
    size_t bytes;                 /* as counted in the cache's */
    size_t users;                 /* prefixes that it is in use by */
    bool reused;                  /* found as it was kept, and not deepened since */
    bool broken;                  /* found no more; goes, with all that builds on it, when its last user does */
    int32_t tokens[CHUNK_TOKENS]; /* chunk->count of them */
};

/* A zeroed one with device, layer_count and budget set is an empty cache; the device outlives it. */
struct prefix_cache {
    struct device *device;
    size_t layer_count; /* of the model */
    size_t budget;      /* bytes */
    struct prefix_entry **slots;
    size_t slot_count;                    /* a power of two */
    struct prefix_entry *newest, *oldest; /* by use */
    struct engine_prefix_counters counters;
};

/* A zeroed one is fine. */
void prefix_cache_free(struct prefix_cache *cache);

/* How many chunks of full depth the budget holds. */
size_t prefix_cache_room(const struct prefix_cache *cache);

/* So many of these tokens, the first, have entries, whatever their depth. */
size_t prefix_cache_kept(const struct prefix_cache *cache, const int32_t *tokens, size_t length);

/*
 * The entry of `count` tokens behind `parent` (NULL: a prefix's first), made if there is none: from now on in use by
 * one prefix more, and the newest but for those before it. A prefix is taken from its first entry on.
 */
int prefix_cache_take(struct prefix_cache *cache, struct prefix_entry *parent, const int32_t *tokens, size_t count,
                      struct prefix_entry **entry, struct error *err);

/* Before entries[0..count), in use, are brought to `entered` layers: gives others back until that fits the budget. */
void prefix_cache_make_room(struct prefix_cache *cache, struct prefix_entry *const *entries, size_t count,
                            size_t entered);

/* After an entry's chunk was deepened: that counts, and so does its memory. */
void prefix_cache_settle(struct prefix_cache *cache, struct prefix_entry *entry);

/* Forgets an entry whose chunk may be broken, and all that builds on it. Until all in use are released nothing is
 * taken. */
void prefix_cache_drop(struct prefix_cache *cache, struct prefix_entry *entry);

/* A prefix's entries, from its first on, have a user less; what the budget does not hold is given back. */
void prefix_cache_release(struct prefix_cache *cache, struct prefix_entry *const *entries, size_t count);

#endif
