/*
 * window.h - which offset of a partition may be committed: the end of the contiguous prefix that is done
 *
 * Offsets enter in rising order and are finished in any. A gap between two that entered (a compacted or control record)
 * is nobody's work and does not hold the prefix up. A zeroed window is an empty one.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_STREAM_WINDOW_H
#define HEADRACE_STREAM_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct window_entry {
    int64_t offset;
    bool done;
};

struct window {
    struct window_entry *entries; /* those outstanding are entries[first..first + count) */
    size_t capacity;
    size_t first;
    size_t count;
    int64_t prefix;    /* the offset to commit, one behind the last of the prefix; 0: nothing yet */
    uint64_t finished; /* messages in the prefix since the start */
};

/* `offset` is above all before. -1 without memory: nothing has changed. */
int window_enter(struct window *window, int64_t offset);

/* False: no such offset is outstanding. */
bool window_finish(struct window *window, int64_t offset);

void window_free(struct window *window);

#endif
