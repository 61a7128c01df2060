/*
 * merge.h - neighbours joined, best pair first, until no pair may be joined
 *
 * What byte-pair encoding and SentencePiece share: of all pairs of neighbours that have a rank the lowest, of equal
 * ones the leftmost, becomes one symbol. A heap holds the pairs, so n symbols cost O(n log n) whatever they are.
 *
 * Threads: a merge belongs to one thread at a time.
 */
#ifndef HEADRACE_MODEL_MERGE_H
#define HEADRACE_MODEL_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { MERGE_NONE = -1 };

/* A piece of the text. One that is joined to its left neighbour keeps its place with value MERGE_NONE. */
struct merge_symbol {
    int32_t value;          /* what the rules tell symbols apart by, 0 or more */
    int32_t previous, next; /* places of the neighbours, MERGE_NONE at the ends */
};

struct merge {
    struct merge_symbol *symbols;
    size_t symbol_count, symbol_capacity;
    struct merge_pair *heap;
    size_t heap_count, heap_capacity;
};

/* Whether the symbol `left` at `place` and `right` behind it may be joined, at what rank and to what. */
struct merge_rules {
    bool (*find)(const void *self, int32_t place, int32_t left, int32_t right, uint32_t *rank, int32_t *joined);
    const void *self;
};

/* Empties it and makes room for `most` symbols, at most INT32_MAX. */
int merge_begin(struct merge *merge, size_t most, struct error *err);

/* Appends a symbol: the n-th call's place is n, from 0 on. */
void merge_put(struct merge *merge, int32_t value);
void merge_run(struct merge *merge, const struct merge_rules *rules);

/* Place of the first symbol; the others follow by `next`. */
static inline int32_t merge_first(const struct merge *merge)
{
    return merge->symbol_count > 0 ? 0 : MERGE_NONE;
}

void merge_free(struct merge *merge);

#endif
