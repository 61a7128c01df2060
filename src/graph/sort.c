#include "graph/sort.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

static void sort_by_digit(const struct sort_entry *from, struct sort_entry *to, size_t count, unsigned shift)
{
    size_t starts[DIGITS + 1] = {0};
    for (size_t i = 0; i < count; i++)
        starts[(from[i].key >> shift & (DIGITS - 1)) + 1]++;
    for (size_t digit = 0; digit < DIGITS; digit++)
        starts[digit + 1] += starts[digit];
    for (size_t i = 0; i < count; i++)
        to[starts[from[i].key >> shift & (DIGITS - 1)]++] = from[i];
}

/* By one digit after another, the lowest first: each keeps the order of those before. */
struct sort_entry *sort_entries(struct sort_entry *entries, struct sort_entry *other, size_t count)
{
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < count; i++) {
        least = entries[i].key < least ? entries[i].key : least;
        most = entries[i].key > most ? entries[i].key : most;
    }
    for (size_t i = 0; i < count; i++)
        entries[i].key -= least;
    for (unsigned shift = 0; shift < 64 && count > 0 && (most - least) >> shift > 0; shift += DIGIT_BITS) {
        sort_by_digit(entries, other, count, shift);
        struct sort_entry *sorted = other;
        other = entries;
        entries = sorted;
    }
    return entries;
}
