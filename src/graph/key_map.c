#include "graph/key_map.h"

#include <stdlib.h>
#include <string.h>

void key_map_free(struct key_map *map)
{
    free(map->slots);
    *map = (struct key_map){0};
}

void key_map_clear(struct key_map *map)
{
    map->count = 0;
    if (++map->round != 0 || map->slots == NULL)
        return;
    memset(map->slots, 0, map->slot_count * sizeof *map->slots);
    map->round = 1;
}

/* The slot of the key, or the empty one where it would go. Fibonacci hashing (Knuth, volume 3, section 6.4). */
static struct key_slot *slot_of(const struct key_map *map, uint64_t key)
{
    size_t mask = map->slot_count - 1, at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & mask;
    while (map->slots[at].round == map->round && map->slots[at].key != key)
        at = (at + 1) & mask;
    return &map->slots[at];
}

uint32_t key_map_find(const struct key_map *map, uint64_t key)
{
    if (map->count == 0)
        return KEY_MAP_NONE;
    const struct key_slot *slot = slot_of(map, key);
    return slot->round == map->round ? slot->value : KEY_MAP_NONE;
}

static int double_slots(struct key_map *map)
{
    struct key_map doubled = {.slot_count = map->slot_count == 0 ? 256 : map->slot_count * 2, .round = 1};
    doubled.slots = calloc(doubled.slot_count, sizeof *doubled.slots);
    if (doubled.slots == NULL)
        return -1;
    for (size_t i = 0; i < map->slot_count; i++)
        if (map->slots[i].round == map->round)
            *slot_of(&doubled, map->slots[i].key) = (struct key_slot){map->slots[i].key, map->slots[i].value, 1};
    doubled.count = map->count;
    free(map->slots);
    *map = doubled;
    return 0;
}

int key_map_put(struct key_map *map, uint64_t key, uint32_t value)
{
    if ((map->count + 1) * 2 > map->slot_count && double_slots(map) != 0)
        return -1;
    struct key_slot *slot = slot_of(map, key);
    map->count += slot->round != map->round;
    *slot = (struct key_slot){key, value, map->round};
    return 0;
}
