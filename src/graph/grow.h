/* grow.h - arrays of millions: they grow by a quarter, where array_reserve() would leave half of them empty */
#ifndef HEADRACE_GRAPH_GROW_H
#define HEADRACE_GRAPH_GROW_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* As array_reserve(). */
static inline int grow(void *items, size_t *capacity, size_t count, size_t item_size)
{
    if (count <= *capacity)
        return 0;
    size_t grown = *capacity + *capacity / 4 + 1;
    if (grown < count)
        grown = count;
    if (grown > SIZE_MAX / item_size)
        return -1;
    void *memory;
    memcpy(&memory, items, sizeof memory);
    memory = realloc(memory, grown * item_size);
    if (memory == NULL)
        return -1;
    memcpy(items, &memory, sizeof memory);
    *capacity = grown;
    return 0;
}

#endif
