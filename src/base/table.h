/*
 * table.h - dense numbers for byte strings
 *
 * The first key added is 0, the next 1, and so on; keys are never taken out. Open addressing over 64-bit xxHash; keys
 * are copied.
 *
 * Threads: one writer; readers only while nobody adds.
 */
#ifndef HEADRACE_BASE_TABLE_H
#define HEADRACE_BASE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define TABLE_NONE UINT32_MAX

struct table {
    uint32_t *slots; /* index + 1 of the key in each slot, 0: empty */
    size_t slot_count;
    struct table_key *keys; /* by index */
    size_t count;
    size_t capacity;
};

struct table_key {
    char *data; /* NUL behind it, not counted */
    size_t size;
    uint64_t hash;
};

/* A zeroed table is an empty one. */
void table_free(struct table *table);

/* The key's number, TABLE_NONE when it is not there. */
uint32_t table_find(const struct table *table, struct text key);

/* The key's number, added if it was not there; TABLE_NONE without memory or beyond 2^32 - 2 keys. */
uint32_t table_add(struct table *table, struct text key);

/* The key of a number below table->count; holds until table_free(). */
struct text table_key(const struct table *table, uint32_t index);

#endif
