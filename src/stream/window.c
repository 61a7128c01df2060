#include "stream/window.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

int window_enter(struct window *window, int64_t offset)
{
    /* Moving down only when at least half is free keeps an entry's cost constant. */
    if (window->first > 0 && window->first >= window->count) {
        memmove(window->entries, window->entries + window->first, window->count * sizeof *window->entries);
        window->first = 0;
    }
    size_t end = window->first + window->count;
    if (array_reserve(&window->entries, &window->capacity, end + 1, sizeof *window->entries) != 0)
        return -1;
    window->entries[end] = (struct window_entry){offset, false};
    window->count++;
    return 0;
}

static int compare(const void *key, const void *entry)
{
    int64_t a = *(const int64_t *)key, b = ((const struct window_entry *)entry)->offset;
    return (a > b) - (a < b);
}

bool window_finish(struct window *window, int64_t offset)
{
    if (window->count == 0)
        return false;
    struct window_entry *entry =
        bsearch(&offset, window->entries + window->first, window->count, sizeof *window->entries, compare);
    if (entry == NULL || entry->done)
        return false;
    entry->done = true;
    while (window->count > 0 && window->entries[window->first].done) {
        window->prefix = window->entries[window->first].offset + 1;
        window->first++;
        window->count--;
        window->finished++;
    }
    return true;
}

void window_free(struct window *window)
{
    free(window->entries);
    *window = (struct window){.entries = NULL};
}
