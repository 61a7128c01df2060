/*
 * order.h - numbers in order of a time: a binary heap, least first
 *
 * Entries are never taken out of the middle: who uses it knows which ones are out of date and passes over them.
 */
#ifndef HEADRACE_GRAPH_ORDER_H
#define HEADRACE_GRAPH_ORDER_H

#include <stddef.h>
#include <stdint.h>

struct order_entry {
    int64_t time;
    uint64_t number; /* breaks ties */
};

struct order {
    struct order_entry *entries; /* entries[0] is the least */
    size_t count;
    size_t capacity;
};

/* A zeroed one is empty. -1: no memory. */
int order_push(struct order *order, struct order_entry entry);

/* The least goes; there must be one. */
struct order_entry order_pop(struct order *order);

void order_free(struct order *order);

#endif
