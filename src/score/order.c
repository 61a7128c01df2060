#include "score/order.h"

#include <math.h>
#include <stdlib.h>

/* A request without a deadline is given so many times what it costs: long ones let short ones pass, for so long. */
enum { TURN_COSTS = 4 };

static size_t row_tokens(const struct order_entry *entry, size_t from, size_t to)
{
    return entry->offsets[to] - entry->offsets[from];
}

size_t order_tokens(const struct order_entry *entry)
{
    return entry->prefix_tokens + row_tokens(entry, entry->next, entry->rows);
}

double order_cost(const struct order_entry *entry, const struct order_speed *speed, size_t max_layer)
{
    double layers = entry->deep || speed->layers > (double)max_layer ? (double)max_layer : speed->layers;
    return (double)order_tokens(entry) * layers * speed->token_layer_s;
}

static int64_t later(int64_t at_ns, double seconds)
{
    double at = (double)at_ns + seconds * 1e9;
    return at >= 9.2e18 ? INT64_MAX : at <= -9.2e18 ? INT64_MIN : (int64_t)at;
}

static int by_turn(const void *a, const void *b)
{
    const struct order_turn *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->cost < y->cost || x->cost > y->cost)
        return x->cost < y->cost ? -1 : 1;
    return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static size_t last_layer(const struct order_settings *settings)
{
    return settings->exits[settings->exit_count - 1];
}

void order_sort(const struct order_entry *entries, size_t count, const struct order_speed *speed,
                const struct order_settings *settings, struct order_turn *order)
{
    for (size_t i = 0; i < count; i++) {
        const struct order_entry *entry = &entries[i];
        double cost = order_cost(entry, speed, last_layer(settings));
        int64_t at_ns = later(entry->arrived_ns, TURN_COSTS * cost);
        if (entry->deadline_ns != INT64_MAX && later(entry->deadline_ns, -cost) < at_ns)
            at_ns = later(entry->deadline_ns, -cost);
        order[i] = (struct order_turn){.at_ns = at_ns, .cost = cost, .entry = i};
    }
    qsort(order, count, sizeof *order, by_turn);
}

/* The deepest exit at which all is done within the patience; the first one where there is none. */
static size_t choose_depth(const struct order_entry *entries, size_t count, const struct order_speed *speed,
                           const struct order_settings *settings)
{
    for (size_t e = settings->exit_count; e-- > 1;) {
        double seconds = 0;
        for (size_t i = 0; i < count; i++)
            seconds += order_cost(&entries[i], speed, settings->exits[e]);
        if (seconds <= settings->patience_s)
            return settings->exits[e];
    }
    return settings->exits[0];
}

/* Of an entry that would begin in `wait_s` seconds and be done in `done_s`. */
static enum order_verdict judge_one(const struct order_entry *entry, int64_t now_ns, double wait_s, double done_s,
                                    const struct order_settings *settings)
{
    bool late = wait_s > settings->patience_s;
    if (now_ns > entry->deadline_ns)
        return ORDER_EXPIRED;
    switch (settings->overload) {
    case ORDER_DEPTH:
        return late || later(now_ns, done_s) > entry->deadline_ns ? ORDER_SHALLOW : ORDER_COMPUTE;
    case ORDER_SHED:
        return late && entry->next == 0 ? ORDER_REFUSE : ORDER_COMPUTE;
    case ORDER_WAIT:
        break;
    }
    return ORDER_COMPUTE;
}

size_t order_judge(const struct order_entry *entries, const struct order_turn *order, size_t count, int64_t now_ns,
                   const struct order_speed *speed, const struct order_settings *settings, enum order_verdict *verdicts)
{
    size_t max_layer = last_layer(settings);
    double wait_s = 0;
    if (settings->overload == ORDER_DEPTH)
        max_layer = choose_depth(entries, count, speed, settings);
    for (size_t i = 0; i < count; i++) {
        const struct order_entry *entry = &entries[order[i].entry];
        double cost = order_cost(entry, speed, max_layer);
        enum order_verdict verdict = judge_one(entry, now_ns, wait_s, wait_s + cost, settings);
        verdicts[order[i].entry] = verdict;
        wait_s += verdict == ORDER_COMPUTE ? cost : 0;
    }
    return max_layer;
}

/* The rows from entry->next on that fit `room` tokens, the first in any case where `must` is set. Returns their end. */
static size_t fitting_rows(const struct order_entry *entry, size_t prefix_tokens, size_t room, bool must)
{
    size_t to = entry->next;
    while (to < entry->rows && prefix_tokens + row_tokens(entry, entry->next, to + 1) <= room)
        to++;
    return to == entry->next && must ? to + 1 : to;
}

struct filling {
    const struct order_entry *entries;
    enum order_verdict *verdicts;
    struct order_piece *pieces;
    size_t count, tokens, max_tokens;
};

/* False: it does not fit. `shares`: its user's prefix is in the batch already. */
static bool take(struct filling *filling, size_t e, bool shares)
{
    const struct order_entry *entry = &filling->entries[e];
    size_t prefix = shares ? 0 : entry->prefix_tokens, tails = row_tokens(entry, entry->next, entry->rows);
    size_t room = filling->max_tokens > filling->tokens ? filling->max_tokens - filling->tokens : 0, to = entry->rows;
    /* Only what no batch can hold is cut: the rest of another one would just come later. */
    if (prefix + tails > room) {
        if (filling->count > 0 && prefix + tails <= filling->max_tokens)
            return false;
        to = fitting_rows(entry, prefix, room, filling->count == 0);
        if (to == entry->next)
            return false;
    }
    filling->tokens += prefix + row_tokens(entry, entry->next, to);
    filling->verdicts[e] = ORDER_TAKEN;
    filling->pieces[filling->count++] = (struct order_piece){.entry = e, .from = entry->next, .to = to};
    return true;
}

size_t order_batch(const struct order_entry *entries, const struct order_turn *order, size_t count, size_t max_tokens,
                   enum order_verdict *verdicts, struct order_piece *pieces)
{
    struct filling filling = {.entries = entries, .verdicts = verdicts, .pieces = pieces, .max_tokens = max_tokens};
    for (size_t i = 0; i < count && (filling.count == 0 || filling.tokens < max_tokens); i++) {
        size_t first = order[i].entry;
        if (verdicts[first] != ORDER_COMPUTE || !take(&filling, first, false))
            continue;
        for (size_t j = i + 1; j < count && filling.tokens < max_tokens; j++)
            if (entries[order[j].entry].user == entries[first].user && verdicts[order[j].entry] == ORDER_COMPUTE)
                take(&filling, order[j].entry, true);
    }
    return filling.count;
}

size_t order_batch_tokens(const struct order_entry *entries, const struct order_piece *pieces, size_t count)
{
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const struct order_entry *entry = &entries[pieces[i].entry];
        bool shares = i > 0 && entries[pieces[i - 1].entry].user == entry->user;
        tokens += (shares ? 0 : entry->prefix_tokens) + row_tokens(entry, pieces[i].from, pieces[i].to);
    }
    return tokens;
}
