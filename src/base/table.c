#include "base/table.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buffer.h"

void table_free(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->keys[i].data);
    free(table->keys);
    free(table->slots);
    *table = (struct table){0};
}

/* The slot that holds the key, or the empty one where it would go. slot_count is a power of two, never full. */
static size_t find_slot(const struct table *table, struct text key, uint64_t hash)
{
    size_t mask = table->slot_count - 1;
    size_t slot = (size_t)hash & mask;
    while (table->slots[slot] != 0) {
        const struct table_key *known = &table->keys[table->slots[slot] - 1];
        if (known->hash == hash && text_equal((struct text){known->data, known->size}, key))
            break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

uint32_t table_find(const struct table *table, struct text key)
{
    if (table->count == 0)
        return TABLE_NONE;
    uint32_t found = table->slots[find_slot(table, key, XXH3_64bits(key.data, key.size))];
    return found == 0 ? TABLE_NONE : found - 1;
}

static int grow(struct table *table)
{
    if (array_reserve(&table->keys, &table->capacity, table->count + 1, sizeof *table->keys) != 0)
        return -1;
    if (table->slot_count > table->count * 2)
        return 0;
    size_t slot_count = table->slot_count == 0 ? 64 : table->slot_count * 2;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return -1;
    free(table->slots);
    table->slots = slots;
    table->slot_count = slot_count;
    for (size_t i = 0; i < table->count; i++) {
        const struct table_key *key = &table->keys[i];
        slots[find_slot(table, (struct text){key->data, key->size}, key->hash)] = (uint32_t)i + 1;
    }
    return 0;
}

uint32_t table_add(struct table *table, struct text key)
{
    uint32_t found = table_find(table, key);
    if (found != TABLE_NONE)
        return found;
    if (table->count >= TABLE_NONE - 1 || grow(table) != 0)
        return TABLE_NONE;
    char *copy = malloc(key.size + 1);
    if (copy == NULL)
        return TABLE_NONE;
    if (key.size > 0)
        memcpy(copy, key.data, key.size);
    copy[key.size] = '\0';
    uint64_t hash = XXH3_64bits(key.data, key.size);
    table->keys[table->count] = (struct table_key){copy, key.size, hash};
    table->slots[find_slot(table, key, hash)] = (uint32_t)++table->count;
    return (uint32_t)(table->count - 1);
}

struct text table_key(const struct table *table, uint32_t index)
{
    return (struct text){table->keys[index].data, table->keys[index].size};
}
