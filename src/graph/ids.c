#include "graph/ids.h"

#include <stdlib.h>
#include <xxhash.h>

#include "graph/grow.h"

struct id_slot {
    uint32_t hash;   /* its lower half */
    uint32_t number; /* and 1: 0 is an empty slot */
};

static char *memory_of(const struct id *id)
{
    char *memory;
    memcpy(&memory, id->bytes, sizeof memory);
    return memory;
}

static bool is_long(const struct id *id)
{
    return id->size > sizeof id->bytes;
}

static void empty(struct ids *ids, struct id *id)
{
    if (is_long(id)) {
        ids->long_bytes -= id->size;
        free(memory_of(id));
    }
    id->size = 0;
}

void ids_free(struct ids *ids)
{
    for (size_t i = 0; i < ids->count; i++)
        empty(ids, &ids->by_number[i]);
    free(ids->by_number);
    free(ids->slots);
    *ids = (struct ids){0};
}

void ids_clear(struct ids *ids)
{
    if (ids->count == 0)
        return;
    for (size_t i = 0; i < ids->count; i++)
        empty(ids, &ids->by_number[i]);
    memset(ids->slots, 0, ids->slot_count * sizeof *ids->slots);
    ids->count = ids->used = 0;
}

uint64_t ids_hash(struct text id)
{
    return XXH3_64bits(id.data, id.size);
}

struct text ids_text(const struct ids *ids, uint32_t number)
{
    const struct id *id = &ids->by_number[number];
    return (struct text){is_long(id) ? memory_of(id) : id->bytes, id->size};
}

uint32_t ids_find(const struct ids *ids, struct text id, uint64_t hash)
{
    if (ids->used == 0)
        return IDS_NONE;
    size_t mask = ids->slot_count - 1;
    for (size_t at = (uint32_t)hash & mask; ids->slots[at].number != 0; at = (at + 1) & mask)
        if (ids->slots[at].hash == (uint32_t)hash && text_equal(ids_text(ids, ids->slots[at].number - 1), id))
            return ids->slots[at].number - 1;
    return IDS_NONE;
}

static void fill_slot(struct id_slot *slots, size_t slot_count, struct id_slot filled)
{
    size_t mask = slot_count - 1, at = filled.hash & mask;
    while (slots[at].number != 0)
        at = (at + 1) & mask;
    slots[at] = filled;
}

/* At most two thirds full, so that the search for an absent id is short. */
static int reserve_slot(struct ids *ids)
{
    if ((ids->used + 1) * 3 <= ids->slot_count * 2)
        return 0;
    size_t slot_count = ids->slot_count == 0 ? 64 : ids->slot_count * 2;
    struct id_slot *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return -1;
    for (size_t i = 0; i < ids->slot_count; i++)
        if (ids->slots[i].number != 0)
            fill_slot(slots, slot_count, ids->slots[i]);
    free(ids->slots);
    ids->slots = slots;
    ids->slot_count = slot_count;
    return 0;
}

int ids_reserve(struct ids *ids, size_t count)
{
    if (count <= ids->count)
        return 0;
    if (grow(&ids->by_number, &ids->capacity, count, sizeof *ids->by_number) != 0)
        return -1;
    memset(ids->by_number + ids->count, 0, (count - ids->count) * sizeof *ids->by_number);
    ids->count = count;
    return 0;
}

int ids_put(struct ids *ids, uint32_t number, struct text id, uint64_t hash)
{
    if (id.size > UINT32_MAX || reserve_slot(ids) != 0 || ids_reserve(ids, (size_t)number + 1) != 0)
        return -1;
    struct id *entry = &ids->by_number[number];
    if (id.size <= sizeof entry->bytes) {
        memcpy(entry->bytes, id.data, id.size);
    } else {
        char *memory = malloc(id.size);
        if (memory == NULL)
            return -1;
        memcpy(memory, id.data, id.size);
        memcpy(entry->bytes, &memory, sizeof memory);
        ids->long_bytes += id.size;
    }
    entry->size = (uint32_t)id.size;
    fill_slot(ids->slots, ids->slot_count, (struct id_slot){(uint32_t)hash, number + 1});
    ids->used++;
    return 0;
}

/* Moves up what stands behind the gap and may, so that searches find it: nothing is ever marked as deleted. */
static void close_gap(struct ids *ids, size_t gap)
{
    size_t mask = ids->slot_count - 1;
    for (size_t at = (gap + 1) & mask; ids->slots[at].number != 0; at = (at + 1) & mask) {
        size_t home = ids->slots[at].hash & mask;
        if (((at - home) & mask) < ((at - gap) & mask))
            continue; /* it would stand before its home */
        ids->slots[gap] = ids->slots[at];
        gap = at;
    }
    ids->slots[gap] = (struct id_slot){0};
}

void ids_take(struct ids *ids, uint32_t number)
{
    size_t mask = ids->slot_count - 1;
    size_t at = (uint32_t)ids_hash(ids_text(ids, number)) & mask;
    while (ids->slots[at].number != number + 1)
        at = (at + 1) & mask;
    close_gap(ids, at);
    empty(ids, &ids->by_number[number]);
    ids->used--;
}

size_t ids_bytes(const struct ids *ids)
{
    return ids->capacity * sizeof *ids->by_number + ids->slot_count * sizeof *ids->slots + ids->long_bytes;
}
