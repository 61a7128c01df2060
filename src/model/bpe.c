#include "model/bpe.h"

#include <stdlib.h>

enum { NONE = -1 };

/* A token of the piece under work; those that are merged into their left neighbour keep their place with id NONE. */
struct bpe_symbol {
    int32_t id;
    int32_t previous, next; /* places of the neighbours, NONE at the ends */
};

/* A pair of neighbours that has a rank. It is stale when either is no longer what it was. */
struct bpe_candidate {
    uint32_t rank;
    int32_t place; /* of the left one */
    int32_t left, right;
};

struct pair_key {
    char bytes[2 * sizeof(int32_t)];
};

static struct pair_key pair_key(int32_t left, int32_t right)
{
    struct pair_key key;
    memcpy(key.bytes, &left, sizeof left);
    memcpy(key.bytes + sizeof left, &right, sizeof right);
    return key;
}

int bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t merged)
{
    struct pair_key key = pair_key(left, right);
    size_t rank = bpe->pairs.count;
    if (array_reserve(&bpe->merged, &bpe->merged_capacity, rank + 1, sizeof *bpe->merged) != 0)
        return -1;
    uint32_t added = table_add(&bpe->pairs, (struct text){key.bytes, sizeof key.bytes});
    if (added == TABLE_NONE)
        return -1;
    if (added != rank)
        return 1;
    bpe->merged[rank] = merged;
    return 0;
}

void bpe_free(struct bpe *bpe)
{
    table_free(&bpe->pairs);
    free(bpe->merged);
    *bpe = (struct bpe){0};
}

void bpe_scratch_free(struct bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

static bool before(const struct bpe_candidate *a, const struct bpe_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

/* There is room: the heap takes at most one candidate a symbol at first, and two a merge. */
static void heap_push(struct bpe_scratch *scratch, struct bpe_candidate candidate)
{
    struct bpe_candidate *heap = scratch->heap;
    size_t at = scratch->heap_count++;
    while (at > 0 && before(&candidate, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = candidate;
}

static struct bpe_candidate heap_pop(struct bpe_scratch *scratch)
{
    struct bpe_candidate *heap = scratch->heap;
    struct bpe_candidate first = heap[0];
    struct bpe_candidate last = heap[--scratch->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= scratch->heap_count)
            break;
        if (child + 1 < scratch->heap_count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static void propose(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t place)
{
    const struct bpe_symbol *symbols = scratch->symbols;
    if (place == NONE || symbols[place].next == NONE)
        return;
    int32_t left = symbols[place].id, right = symbols[symbols[place].next].id;
    struct pair_key key = pair_key(left, right);
    uint32_t rank = table_find(&bpe->pairs, (struct text){key.bytes, sizeof key.bytes});
    if (rank != TABLE_NONE)
        heap_push(scratch, (struct bpe_candidate){rank, place, left, right});
}

/* Returns the number of symbols: bytes that have a token. */
static int32_t split_bytes(const struct bpe *bpe, struct bpe_scratch *scratch, struct text piece)
{
    int32_t count = 0;
    for (size_t i = 0; i < piece.size; i++) {
        int32_t id = bpe->byte_ids[(uint8_t)piece.data[i]];
        if (id == NONE)
            continue;
        scratch->symbols[count] = (struct bpe_symbol){id, count - 1, count + 1};
        count++;
    }
    if (count > 0)
        scratch->symbols[count - 1].next = NONE;
    return count;
}

static void merge_pairs(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t count)
{
    struct bpe_symbol *symbols = scratch->symbols;
    for (int32_t place = 0; place < count; place++)
        propose(bpe, scratch, place);
    while (scratch->heap_count > 0) {
        struct bpe_candidate best = heap_pop(scratch);
        struct bpe_symbol *left = &symbols[best.place];
        if (left->id != best.left || left->next == NONE || symbols[left->next].id != best.right)
            continue;
        struct bpe_symbol *right = &symbols[left->next];
        left->id = bpe->merged[best.rank];
        left->next = right->next;
        right->id = NONE;
        if (left->next != NONE)
            symbols[left->next].previous = best.place;
        propose(bpe, scratch, left->previous);
        propose(bpe, scratch, best.place);
    }
}

int bpe_encode(const struct bpe *bpe, struct text piece, struct bpe_scratch *scratch, struct tokens *out,
               struct error *err)
{
    if (array_reserve(&scratch->symbols, &scratch->symbol_capacity, piece.size, sizeof *scratch->symbols) != 0 ||
        array_reserve(&scratch->heap, &scratch->heap_capacity, 3 * piece.size, sizeof *scratch->heap) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while tokenising %zu bytes", piece.size);
    scratch->heap_count = 0;
    int32_t count = split_bytes(bpe, scratch, piece);
    merge_pairs(bpe, scratch, count);
    for (int32_t place = count > 0 ? 0 : NONE; place != NONE; place = scratch->symbols[place].next)
        if (tokens_append(out, scratch->symbols[place].id, err) != 0)
            return -1;
    return 0;
}
