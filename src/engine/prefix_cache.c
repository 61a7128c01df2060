#include "engine/prefix_cache.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { FIRST_SLOTS = 64 };

static struct prefix_key key_of(const struct prefix_entry *parent, const int32_t *tokens, size_t count)
{
    struct {
        struct prefix_key before;
        int32_t tokens[CHUNK_TOKENS];
    } content = {.before = {0, 0}};
    if (parent != NULL)
        content.before = parent->key;
    memcpy(content.tokens, tokens, count * sizeof *tokens);
    XXH128_hash_t hash = XXH3_128bits(&content, sizeof content.before + count * sizeof *tokens);
    return (struct prefix_key){hash.low64, hash.high64};
}

static struct prefix_entry **slot_of(const struct prefix_cache *cache, struct prefix_key key)
{
    return &cache->slots[key.low & (cache->slot_count - 1)];
}

static bool is_entry_of(const struct prefix_entry *entry, struct prefix_key key, const struct prefix_entry *parent,
                        const int32_t *tokens, size_t count)
{
    return entry->key.low == key.low && entry->key.high == key.high && entry->parent == parent &&
           entry->chunk->count == count && memcmp(entry->tokens, tokens, count * sizeof *tokens) == 0;
}

static struct prefix_entry *find(const struct prefix_cache *cache, struct prefix_key key,
                                 const struct prefix_entry *parent, const int32_t *tokens, size_t count)
{
    struct prefix_entry *entry = cache->slot_count == 0 ? NULL : *slot_of(cache, key);
    while (entry != NULL && !is_entry_of(entry, key, parent, tokens, count))
        entry = entry->next;
    return entry;
}

size_t prefix_cache_kept(const struct prefix_cache *cache, const int32_t *tokens, size_t length)
{
    const struct prefix_entry *entry = NULL;
    size_t kept = 0;
    while (kept < length) {
        size_t count = length - kept < CHUNK_TOKENS ? length - kept : CHUNK_TOKENS;
        entry = find(cache, key_of(entry, tokens + kept, count), entry, tokens + kept, count);
        if (entry == NULL)
            break;
        kept += count;
    }
    return kept;
}

/* At most one entry a slot on average. */
static int reserve_slot(struct prefix_cache *cache, struct error *err)
{
    if (cache->counters.entries < cache->slot_count)
        return 0;
    struct prefix_cache grown = *cache;
    grown.slot_count = cache->slot_count == 0 ? FIRST_SLOTS : 2 * cache->slot_count;
    grown.slots = calloc(grown.slot_count, sizeof *grown.slots);
    if (grown.slots == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu chunks of prefixes", grown.slot_count);
    for (struct prefix_entry *entry = cache->newest; entry != NULL; entry = entry->older) {
        struct prefix_entry **slot = slot_of(&grown, entry->key);
        entry->next = *slot;
        *slot = entry;
    }
    free(cache->slots);
    *cache = grown;
    return 0;
}

/* Behind `newer` in the order of use; NULL: before all others. */
static void link_entry(struct prefix_cache *cache, struct prefix_entry *entry, struct prefix_entry *newer)
{
    entry->newer = newer;
    entry->older = newer == NULL ? cache->newest : newer->older;
    *(entry->newer == NULL ? &cache->newest : &entry->newer->older) = entry;
    *(entry->older == NULL ? &cache->oldest : &entry->older->newer) = entry;
}

static void unlink_entry(struct prefix_cache *cache, struct prefix_entry *entry)
{
    *(entry->newer == NULL ? &cache->newest : &entry->newer->older) = entry->older;
    *(entry->older == NULL ? &cache->oldest : &entry->older->newer) = entry->newer;
}

static size_t bytes_at(const struct prefix_cache *cache, size_t entered)
{
    size_t layers = entered < cache->layer_count ? entered : cache->layer_count;
    return cache->device->chunk_bytes + layers * cache->device->layer_bytes;
}

size_t prefix_cache_room(const struct prefix_cache *cache)
{
    return cache->budget / bytes_at(cache, cache->layer_count);
}

static void count_bytes(struct prefix_cache *cache, struct prefix_entry *entry)
{
    cache->counters.bytes -= entry->bytes;
    entry->bytes = bytes_at(cache, entry->chunk->entered);
    cache->counters.bytes += entry->bytes;
}

static void destroy(struct prefix_cache *cache, struct prefix_entry *entry)
{
    struct prefix_entry **place = slot_of(cache, entry->key);
    while (*place != entry)
        place = &(*place)->next;
    *place = entry->next;
    unlink_entry(cache, entry);
    cache->counters.bytes -= entry->bytes;
    cache->counters.entries--;
    cache->device->backend->chunk_destroy(cache->device, entry->chunk);
    free(entry);
}

void prefix_cache_free(struct prefix_cache *cache)
{
    while (cache->oldest != NULL)
        destroy(cache, cache->oldest);
    free(cache->slots);
    cache->slots = NULL;
    cache->slot_count = 0;
}

/* The oldest in use: all that are left are, as those in use are the newest. */
static void evict(struct prefix_cache *cache, size_t needed)
{
    while (cache->oldest != NULL && cache->oldest->users == 0 &&
           (needed > cache->budget || cache->counters.bytes > cache->budget - needed)) {
        destroy(cache, cache->oldest);
        cache->counters.evictions++;
    }
}

static int create(struct prefix_cache *cache, struct prefix_entry *parent, struct prefix_key key, const int32_t *tokens,
                  size_t count, struct prefix_entry **out, struct error *err)
{
    struct device *device = cache->device;
    size_t position = parent == NULL ? 0 : parent->chunk->position + parent->chunk->count;

    evict(cache, bytes_at(cache, 0));
    if (reserve_slot(cache, err) != 0)
        return -1;
    struct prefix_entry *entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a chunk of a prefix");
    if (device->backend->chunk_create(device, tokens, count, position, &entry->chunk, err) != 0) {
        free(entry);
        return -1;
    }
    entry->key = key;
    entry->parent = parent;
    memcpy(entry->tokens, tokens, count * sizeof *tokens);
    struct prefix_entry **slot = slot_of(cache, key);
    entry->next = *slot;
    *slot = entry;
    cache->counters.entries++;
    count_bytes(cache, entry);
    *out = entry;
    return 0;
}

int prefix_cache_take(struct prefix_cache *cache, struct prefix_entry *parent, const int32_t *tokens, size_t count,
                      struct prefix_entry **out, struct error *err)
{
    struct prefix_key key = key_of(parent, tokens, count);
    struct prefix_entry *entry = find(cache, key, parent, tokens, count);
    bool found = entry != NULL;

    if (found)
        unlink_entry(cache, entry);
    else if (create(cache, parent, key, tokens, count, &entry, err) != 0)
        return -1;
    link_entry(cache, entry, parent);
    if (entry->users++ == 0)
        entry->reused = found;
    *(found ? &cache->counters.hits : &cache->counters.misses) += 1;
    *out = entry;
    return 0;
}

void prefix_cache_make_room(struct prefix_cache *cache, struct prefix_entry *const *entries, size_t count,
                            size_t entered)
{
    size_t needed = 0;
    for (size_t i = 0; i < count; i++)
        if (entries[i]->chunk->entered < entered)
            needed += bytes_at(cache, entered) - entries[i]->bytes;
    evict(cache, needed);
}

void prefix_cache_settle(struct prefix_cache *cache, struct prefix_entry *entry)
{
    count_bytes(cache, entry);
    cache->counters.deepenings += entry->reused;
    entry->reused = false;
}

void prefix_cache_drop(struct prefix_cache *cache, struct prefix_entry *broken)
{
    broken->broken = true;
    for (struct prefix_entry *entry = broken->older; entry != NULL; entry = entry->older)
        entry->broken = entry->parent != NULL && entry->parent->broken;
    for (struct prefix_entry *entry = cache->oldest, *newer; entry != NULL; entry = newer) {
        newer = entry->newer;
        if (entry->broken && entry->users == 0)
            destroy(cache, entry);
    }
}

void prefix_cache_release(struct prefix_cache *cache, struct prefix_entry *const *entries, size_t count)
{
    for (size_t i = count; i-- > 0;)
        if (--entries[i]->users == 0 && entries[i]->broken)
            destroy(cache, entries[i]);
    evict(cache, 0);
}
