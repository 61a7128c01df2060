/* sort.h - many entries in order of a number, in a few passes over all of them */
#ifndef HEADRACE_GRAPH_SORT_H
#define HEADRACE_GRAPH_SORT_H

#include <stddef.h>
#include <stdint.h>

struct sort_entry {
    uint64_t key;
    uint32_t at; /* the caller's */
};

/*
 * Lowest key first, those of one key as they came. `other` is as large as `entries`; returns the one of the two that
 * holds the result. The keys are less by the lowest one then.
 */
struct sort_entry *sort_entries(struct sort_entry *entries, struct sort_entry *other, size_t count);

#endif
