#include "graph/order.h"

#include <stdbool.h>
#include <stdlib.h>

#include "graph/grow.h"

static bool is_less(struct order_entry a, struct order_entry b)
{
    return a.time != b.time ? a.time < b.time : a.number < b.number;
}

int order_push(struct order *order, struct order_entry entry)
{
    if (grow(&order->entries, &order->capacity, order->count + 1, sizeof *order->entries) != 0)
        return -1;
    size_t at = order->count++;
    for (; at > 0 && is_less(entry, order->entries[(at - 1) / 2]); at = (at - 1) / 2)
        order->entries[at] = order->entries[(at - 1) / 2];
    order->entries[at] = entry;
    return 0;
}

struct order_entry order_pop(struct order *order)
{
    struct order_entry least = order->entries[0], last = order->entries[--order->count];
    size_t at = 0;
    for (size_t below = 1; below < order->count; below = 2 * at + 1) {
        if (below + 1 < order->count && is_less(order->entries[below + 1], order->entries[below]))
            below++;
        if (!is_less(order->entries[below], last))
            break;
        order->entries[at] = order->entries[below];
        at = below;
    }
    if (order->count > 0)
        order->entries[at] = last;
    return least;
}

void order_free(struct order *order)
{
    free(order->entries);
    *order = (struct order){0};
}
