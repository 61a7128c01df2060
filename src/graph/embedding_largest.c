#include "graph/embedding_largest.h"

#include <stdlib.h>
#include <string.h>

/* Entries of a level, whole blocks. */
static size_t level_size(size_t capacity, size_t level)
{
    for (size_t i = 0; i < level; i++)
        capacity = (capacity + LARGEST_BELOW - 1) / LARGEST_BELOW;
    return (capacity + LARGEST_BELOW - 1) / LARGEST_BELOW * LARGEST_BELOW;
}

int largest_reserve(struct largest *largest, size_t count)
{
    if (count <= largest->capacity)
        return 0;
    size_t capacity = level_size(count + count / 4, 0);
    for (size_t level = 0; level < LARGEST_LEVELS; level++) {
        size_t before = largest->capacity == 0 ? 0 : level_size(largest->capacity, level);
        size_t after = level_size(capacity, level);
        float *grown = realloc(largest->levels[level], after * sizeof *grown);
        if (grown == NULL)
            return -1; /* levels that have grown already only have room to spare */
        largest->levels[level] = grown;
        memset(grown + before, 0, (after - before) * sizeof *grown);
    }
    largest->capacity = capacity;
    return 0;
}

void largest_free(struct largest *largest)
{
    for (size_t level = 0; level < LARGEST_LEVELS; level++)
        free(largest->levels[level]);
    *largest = (struct largest){0};
}

static float largest_of_block(const float *block)
{
    float result = 0;
    for (size_t i = 0; i < LARGEST_BELOW; i++)
        result = block[i] > result ? block[i] : result;
    return result;
}

void largest_set(struct largest *largest, size_t at, float value)
{
    for (size_t level = 0; level + 1 < LARGEST_LEVELS; level++) {
        float before = largest->levels[level][at];
        float above = largest->levels[level + 1][at / LARGEST_BELOW];
        largest->levels[level][at] = value;
        if (value < above && before < above)
            return;
        if (value < above)
            value = largest_of_block(largest->levels[level] + at / LARGEST_BELOW * LARGEST_BELOW);
        if (value == above)
            return;
        at /= LARGEST_BELOW;
    }
    largest->levels[LARGEST_LEVELS - 1][at] = value;
}

float largest_of_all(const struct largest *largest)
{
    return largest->capacity == 0 ? 0.0f : largest->levels[LARGEST_LEVELS - 1][0];
}

void largest_clear(struct largest *largest)
{
    for (size_t level = 0; largest->capacity > 0 && level < LARGEST_LEVELS; level++)
        memset(largest->levels[level], 0, level_size(largest->capacity, level) * sizeof(float));
}

void largest_rebuild(struct largest *largest)
{
    for (size_t level = 1; largest->capacity > 0 && level < LARGEST_LEVELS; level++) {
        size_t blocks = level_size(largest->capacity, level - 1) / LARGEST_BELOW;
        for (size_t i = 0; i < blocks; i++)
            largest->levels[level][i] = largest_of_block(largest->levels[level - 1] + i * LARGEST_BELOW);
    }
}

size_t largest_bytes(const struct largest *largest)
{
    size_t bytes = 0;
    for (size_t level = 0; largest->capacity > 0 && level < LARGEST_LEVELS; level++)
        bytes += level_size(largest->capacity, level) * sizeof(float);
    return bytes;
}
