/*
 * embedding_largest.h - the largest of many numbers that change one by one, without a pass over them
 *
 * A tree in which each entry is the largest of the 16 below it. A change goes up only as far as it is the largest.
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_LARGEST_H
#define HEADRACE_GRAPH_EMBEDDING_LARGEST_H

#include <stddef.h>
#include <stdint.h>

enum {
    LARGEST_BELOW = 16, /* entries that one of the level above stands for */
    LARGEST_LEVELS = 9, /* the last one has the one entry above 16^8 = 2^32 numbers */
};

/* Zeroed: empty. */
struct largest {
    float *levels[LARGEST_LEVELS]; /* 0: the numbers themselves */
    size_t capacity;               /* numbers; a multiple of 16 */
};

/* Room for `count` numbers, those that are new being 0; -1 without memory, then nothing has changed. */
int largest_reserve(struct largest *largest, size_t count);
void largest_free(struct largest *largest);

/* value >= 0 */
void largest_set(struct largest *largest, size_t at, float value);
static inline float largest_at(const struct largest *largest, size_t at)
{
    return largest->levels[0][at];
}

/* As largest_set(), of a value that is not less than what was there. */
static inline void largest_raise(struct largest *largest, size_t at, float value)
{
    largest->levels[0][at] = value;
    for (size_t level = 1; level < LARGEST_LEVELS; level++) {
        at /= LARGEST_BELOW;
        if (value <= largest->levels[level][at])
            return;
        largest->levels[level][at] = value;
    }
}

/* 0 when empty. */
float largest_of_all(const struct largest *largest);

void largest_clear(struct largest *largest);

/* After level 0 has been written to. */
void largest_rebuild(struct largest *largest);

size_t largest_bytes(const struct largest *largest);

#endif
