#include "model/merge.h"

#include <stdlib.h>

#include "base/buffer.h"

/* Neighbours that may be joined. The pair is stale when either is no longer what it was. */
struct merge_pair {
    uint32_t rank;
    int32_t place; /* of the left one */
    int32_t left, right, joined;
};

int merge_begin(struct merge *merge, size_t most, struct error *err)
{
    merge->symbol_count = merge->heap_count = 0;
    /* A pair a symbol at first, and two a merge. */
    if (array_reserve(&merge->symbols, &merge->symbol_capacity, most, sizeof *merge->symbols) != 0 ||
        array_reserve(&merge->heap, &merge->heap_capacity, 3 * most, sizeof *merge->heap) != 0)
        return error_set(err, ERROR_FATAL, "out of memory while tokenising %zu bytes", most);
    return 0;
}

void merge_put(struct merge *merge, int32_t value)
{
    int32_t place = (int32_t)merge->symbol_count++;
    merge->symbols[place] = (struct merge_symbol){value, place - 1, MERGE_NONE};
    if (place > 0)
        merge->symbols[place - 1].next = place;
}

static bool before(const struct merge_pair *a, const struct merge_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void heap_push(struct merge *merge, struct merge_pair pair)
{
    struct merge_pair *heap = merge->heap;
    size_t at = merge->heap_count++;
    while (at > 0 && before(&pair, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = pair;
}

static struct merge_pair heap_pop(struct merge *merge)
{
    struct merge_pair *heap = merge->heap;
    struct merge_pair first = heap[0];
    struct merge_pair last = heap[--merge->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= merge->heap_count)
            break;
        if (child + 1 < merge->heap_count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

static void propose(struct merge *merge, const struct merge_rules *rules, int32_t place)
{
    const struct merge_symbol *symbols = merge->symbols;
    if (place == MERGE_NONE || symbols[place].next == MERGE_NONE)
        return;
    struct merge_pair pair = {
        .place = place, .left = symbols[place].value, .right = symbols[symbols[place].next].value};
    if (rules->find(rules->self, place, pair.left, pair.right, &pair.rank, &pair.joined))
        heap_push(merge, pair);
}

void merge_run(struct merge *merge, const struct merge_rules *rules)
{
    struct merge_symbol *symbols = merge->symbols;
    for (size_t place = 0; place < merge->symbol_count; place++)
        propose(merge, rules, (int32_t)place);
    while (merge->heap_count > 0) {
        struct merge_pair best = heap_pop(merge);
        struct merge_symbol *left = &symbols[best.place];
        if (left->value != best.left || left->next == MERGE_NONE || symbols[left->next].value != best.right)
            continue;
        struct merge_symbol *right = &symbols[left->next];
        left->value = best.joined;
        left->next = right->next;
        right->value = MERGE_NONE;
        if (left->next != MERGE_NONE)
            symbols[left->next].previous = best.place;
        propose(merge, rules, left->previous);
        propose(merge, rules, best.place);
    }
}

void merge_free(struct merge *merge)
{
    free(merge->symbols);
    free(merge->heap);
    *merge = (struct merge){0};
}
