/*
 * key_map.h - small numbers for 64-bit keys, forgotten all at once
 *
 * What a batch of events looks up again and again. Emptying is O(1).
 */
#ifndef HEADRACE_GRAPH_KEY_MAP_H
#define HEADRACE_GRAPH_KEY_MAP_H

#include <stddef.h>
#include <stdint.h>

#define KEY_MAP_NONE UINT32_MAX

struct key_map {
    struct key_slot {
        uint64_t key;
        uint32_t value;
        uint32_t round; /* of another round: empty */
    } * slots;
    size_t slot_count; /* a power of two, at most half full */
    size_t count;
    uint32_t round;
};

/* A zeroed one is empty. */
void key_map_free(struct key_map *map);
void key_map_clear(struct key_map *map);

/* KEY_MAP_NONE: not there. */
uint32_t key_map_find(const struct key_map *map, uint64_t key);

/* Sets or replaces. -1: no memory. */
int key_map_put(struct key_map *map, uint64_t key, uint32_t value);

#endif
