#include "engine/prefix.h"

#include <stdlib.h>

#include "base/buffer.h"

static void forget(struct prefix *prefix)
{
    for (size_t i = 0; i < prefix->count; i++)
        prefix->device->backend->chunk_destroy(prefix->device, prefix->chunks[i]);
    prefix->count = 0;
}

void prefix_free(struct prefix *prefix)
{
    forget(prefix);
    free(prefix->chunks);
    *prefix = (struct prefix){0};
}

int prefix_start(struct prefix *prefix, struct device *device, const int32_t *tokens, size_t length, struct error *err)
{
    forget(prefix);
    prefix->device = device;
    if (array_reserve(&prefix->chunks, &prefix->capacity, length / CHUNK_TOKENS + 1, sizeof(struct chunk *)) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for a prefix of %zu tokens", length);
    for (size_t i = 0; i < length; i += CHUNK_TOKENS) {
        size_t count = length - i < CHUNK_TOKENS ? length - i : CHUNK_TOKENS;
        if (device->backend->chunk_create(device, tokens + i, count, i, &prefix->chunks[prefix->count], err) != 0)
            return -1;
        prefix->count++;
    }
    return 0;
}

int prefix_run(struct prefix *prefix, size_t layers, struct error *err)
{
    return prefix->device->backend->chunks_run(prefix->device, prefix->chunks, prefix->count, layers, err);
}
