/*
 * bpe.h - byte-pair merging of one pre-token
 *
 * The bytes become tokens, then the pair of neighbours with the lowest rank (the leftmost of equals) becomes one, until
 * no pair has a rank. A heap holds the candidates, so n bytes cost O(n log n) whatever they are.
 *
 * Threads: a bpe is read-only once filled; a scratch belongs to one thread at a time.
 */
#ifndef HEADRACE_MODEL_BPE_H
#define HEADRACE_MODEL_BPE_H

#include "base/table.h"
#include "model/tokenizer.h"

struct bpe {
    int32_t byte_ids[256]; /* token of a byte alone, -1: the vocabulary has none */
    struct table pairs;    /* (left id, right id) as 8 bytes; a pair's number is its rank */
    int32_t *merged;       /* by rank: what the pair becomes */
    size_t merged_capacity;
};

struct bpe_scratch {
    struct bpe_symbol *symbols;
    size_t symbol_capacity;
    struct bpe_candidate *heap;
    size_t heap_capacity;
    size_t heap_count;
};

/* Ranks ascend in the order of the calls. 0; 1 when the pair has a rank already; -1 without memory. */
int bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t merged);
void bpe_free(struct bpe *bpe);

/*
 * Appends the ids of `piece`, at most INT32_MAX bytes. A byte that the vocabulary has no token for is left out and its
 * neighbours meet, as in the tokenizer the vocabularies were trained with.
 */
int bpe_encode(const struct bpe *bpe, struct text piece, struct bpe_scratch *scratch, struct tokens *out,
               struct error *err);
void bpe_scratch_free(struct bpe_scratch *scratch);

#endif
