/*
 * ids.h - the ids of users, or of items, and their numbers
 *
 * The caller chooses the numbers, and an id can be taken out again. Short ids (12 bytes) lie in the table itself, so
 * that a look-up of one touches two cache lines. All told 16 bytes a number, 12 to 24 an id, and the bytes of long ids.
 *
 * Threads: one writer; readers only while nobody writes.
 */
#ifndef HEADRACE_GRAPH_IDS_H
#define HEADRACE_GRAPH_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define IDS_NONE UINT32_MAX

struct id {
    uint32_t size;  /* 0: the number has no id */
    char bytes[12]; /* of a longer id: where its own memory is */
};

struct ids {
    struct id *by_number; /* (count) */
    size_t count;         /* one above the largest number that ever had an id */
    size_t capacity;
    struct id_slot *slots; /* open addressing */
    size_t slot_count;     /* a power of two */
    size_t used;           /* ids */
    size_t long_bytes;     /* in memory of their own */
};

/* A zeroed one is empty. */
void ids_free(struct ids *ids);

/* Takes everything out, and keeps the memory for as many again. */
void ids_clear(struct ids *ids);

uint64_t ids_hash(struct text id);

/* The number, IDS_NONE when the id is not there; `hash` is ids_hash() of it. */
uint32_t ids_find(const struct ids *ids, struct text id, uint64_t hash);

/* The id must not be there, nor the number have one; `id` is not empty. -1: no memory. */
int ids_put(struct ids *ids, uint32_t number, struct text id, uint64_t hash);

/* Makes numbers below `count` known that have no id. -1: no memory. */
int ids_reserve(struct ids *ids, size_t count);

/* The number has an id, which goes. */
void ids_take(struct ids *ids, uint32_t number);

/* Of a number below ids->count: empty when it has none. Holds until the next change. */
struct text ids_text(const struct ids *ids, uint32_t number);

size_t ids_bytes(const struct ids *ids);

#endif
