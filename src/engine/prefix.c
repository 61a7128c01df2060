#include "engine/prefix.h"

#include <stdlib.h>

#include "base/buffer.h"

void prefix_free(struct prefix *prefix)
{
    prefix_end(prefix);
    free(prefix->entries);
    free(prefix->chunks);
    *prefix = (struct prefix){0};
}

int prefix_start(struct prefix *prefix, struct prefix_cache *cache, const int32_t *tokens, size_t length,
                 struct error *err)
{
    size_t most = length / CHUNK_TOKENS + 1;
    struct prefix_entry *parent = NULL;

    prefix_end(prefix);
    prefix->cache = cache;
    if (array_reserve(&prefix->entries, &prefix->entry_capacity, most, sizeof *prefix->entries) != 0 ||
        array_reserve(&prefix->chunks, &prefix->chunk_capacity, most, sizeof *prefix->chunks) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for a prefix of %zu tokens", length);
    for (size_t i = 0; i < length; i += CHUNK_TOKENS) {
        size_t count = length - i < CHUNK_TOKENS ? length - i : CHUNK_TOKENS;
        if (prefix_cache_take(cache, parent, tokens + i, count, &parent, err) != 0)
            return -1;
        prefix->entries[prefix->count] = parent;
        prefix->chunks[prefix->count++] = parent->chunk;
    }
    return 0;
}

int prefix_run(struct prefix *prefix, size_t layers, struct error *err)
{
    struct prefix_cache *cache = prefix->cache;
    struct device *device = cache->device;
    size_t first = 0; /* too shallow, as all behind it */

    while (first < prefix->count && prefix->chunks[first]->entered >= layers)
        first++;
    if (first == prefix->count)
        return 0;
    prefix_cache_make_room(cache, prefix->entries + first, prefix->count - first, layers);
    if (device->backend->chunks_run(device, prefix->chunks, prefix->count, layers, err) != 0) {
        /* What it was working on may hold numbers that are not finite: nobody is to go on from there. */
        prefix_cache_drop(cache, prefix->entries[first]);
        return -1;
    }
    for (size_t i = first; i < prefix->count; i++)
        prefix_cache_settle(cache, prefix->entries[i]);
    return 0;
}

void prefix_end(struct prefix *prefix)
{
    if (prefix->cache != NULL)
        prefix_cache_release(prefix->cache, prefix->entries, prefix->count);
    prefix->cache = NULL;
    prefix->count = 0;
}
