/*
 * arena.h - memory that is given back all at once
 *
 * What one message needs is taken piece by piece and returned by a single reset. The limit bounds what a hostile
 * message can make us allocate.
 *
 * Threads: an arena belongs to one thread at a time.
 */
#ifndef HEADRACE_BASE_ARENA_H
#define HEADRACE_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* bytes handed out since the last reset */
    size_t limit;               /* bytes; 0: none */
};

/* Nothing is allocated yet; arena_free() on it is fine. */
void arena_init(struct arena *arena, size_t limit);

/* `size` bytes aligned to 16, zeroed; NULL past the limit or without memory. A size of 0 gives a valid pointer. */
void *arena_allocate(struct arena *arena, size_t size);

/* The same for `count` things of `size` bytes; NULL when the product overflows. */
void *arena_allocate_array(struct arena *arena, size_t count, size_t size);

/* Takes everything back and keeps the newest block for the next message. */
void arena_reset(struct arena *arena);

void arena_free(struct arena *arena);

#endif
