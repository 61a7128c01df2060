#include "graph/limits.h"

#include <stdlib.h>

#include "base/random.h"
#include "graph/grow.h"
#include "graph/staging.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory for the order in which users and items leave the graph");
}

void limits_free(struct limits *limits)
{
    order_free(&limits->by_oldest);
    order_free(&limits->by_newest);
    free(limits->due_ms);
    free(limits->due);
    free(limits->active_ms[END_USER]);
    free(limits->active_ms[END_ITEM]);
    *limits = (struct limits){0};
}

size_t limits_bytes(const struct limits *limits)
{
    size_t times = limits->due_capacity + limits->active_capacity[END_USER] + limits->active_capacity[END_ITEM];
    return times * sizeof(int64_t) +
           (limits->by_oldest.capacity + limits->by_newest.capacity) * sizeof(struct order_entry) +
           limits->listed_capacity * sizeof *limits->due;
}

/* Room for the number, without a valid entry. */
static int reserve_time(int64_t **times, size_t *count, size_t *capacity, uint32_t number)
{
    if (number < *count)
        return 0;
    if (grow(times, capacity, (size_t)number + 1, sizeof **times) != 0)
        return -1;
    while (*count <= number)
        (*times)[(*count)++] = INT64_MAX;
    return 0;
}

/* The window. */

/* What is earlier leaves; 0: nothing does. */
static int64_t window_start_ms(const struct graph *graph, int64_t now_ms)
{
    int64_t window_ms = graph->settings.window_ms;
    return window_ms == 0 || now_ms < window_ms ? 0 : now_ms - window_ms;
}

bool limits_is_late(const struct graph *graph, int64_t timestamp_ms)
{
    return timestamp_ms < window_start_ms(graph, graph->staged.newest_event_ms);
}

/* The store may hold something of the user that is as old as this. */
static int note_oldest(struct graph *graph, uint32_t user, int64_t timestamp_ms, struct error *err)
{
    struct limits *limits = &graph->limits;
    if (reserve_time(&limits->due_ms, &limits->due_count, &limits->due_capacity, user) != 0)
        return out_of_memory(err);
    if (timestamp_ms >= limits->due_ms[user])
        return 0;
    limits->due_ms[user] = timestamp_ms;
    return order_push(&limits->by_oldest, (struct order_entry){timestamp_ms, user}) != 0 ? out_of_memory(err) : 0;
}

/* The user's history is looked through before the batch is written. */
static int list_user(struct graph *graph, uint32_t at, struct error *err)
{
    struct limits *limits = &graph->limits;
    struct overlay_node *node = &graph->staged.overlay.nodes[at];
    if (node->listed)
        return 0;
    if (grow(&limits->due, &limits->listed_capacity, limits->listed_count + 1, sizeof *limits->due) != 0)
        return out_of_memory(err);
    limits->due[limits->listed_count++] = node->number;
    node->listed = true;
    return 0;
}

static int expire_user(struct graph *graph, uint32_t user, int64_t start_ms, struct error *err)
{
    uint32_t at = overlay_node(&graph->staged.overlay, END_USER, user);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    struct edge oldest;
    bool any;
    while ((any = overlay_oldest(&graph->staged.overlay, at, &oldest)) && oldest.timestamp_ms < start_ms)
        if (staging_take_edge(graph, user, oldest.other, oldest.timestamp_ms, false, err) != 0)
            return -1;
    if (list_user(graph, at, err) != 0)
        return -1;
    return any ? note_oldest(graph, user, oldest.timestamp_ms, err) : 0;
}

static int expire(struct graph *graph, struct error *err)
{
    struct limits *limits = &graph->limits;
    int64_t start_ms = window_start_ms(graph, graph->staged.newest_event_ms);
    while (limits->by_oldest.count > 0 && limits->by_oldest.entries[0].time < start_ms) {
        struct order_entry entry = order_pop(&limits->by_oldest);
        uint32_t user = (uint32_t)entry.number;
        if (limits->due_ms[user] != entry.time)
            continue;
        limits->due_ms[user] = INT64_MAX;
        if (expire_user(graph, user, start_ms, err) != 0)
            return -1;
    }
    return 0;
}

int limits_take_event(struct graph *graph, uint32_t user, int64_t timestamp_ms, struct error *err)
{
    if (graph->settings.window_ms == 0)
        return 0;
    if (expire(graph, err) != 0) /* which may leave the user without an entry */
        return -1;
    return note_oldest(graph, user, timestamp_ms, err);
}

struct old_history {
    struct graph *graph;
    uint32_t user;
    int64_t start_ms;
    int64_t left_ms; /* time of the oldest that stays; INT64_MAX: none */
};

/* A removal that is too old is forgotten: no event from before it is taken in any more. */
static int forget_removal(struct graph *graph, const struct event *event, struct error *err)
{
    uint8_t key_bytes[PAIR_KEY_SIZE];
    struct text key = {(const char *)key_bytes, sizeof key_bytes};
    struct edge edge;
    struct event newest;
    bool found;
    if (overlay_find_pair(&graph->staged.overlay, event->user, event->item) != NULL ||
        overlay_edge(&graph->staged.overlay, event->user, event->item, &edge))
        return 0;
    pair_key(key_bytes, event->user, event->item);
    if (store_get(&graph->store, FAMILY_PAIRS, key, &graph->record, &found, err) != 0 ||
        (found && pair_decode(key, buffer_text(&graph->record), &newest, err) != 0))
        return -1;
    if (found && newest.timestamp_ms < window_start_ms(graph, graph->staged.newest_event_ms))
        store_delete(&graph->store, FAMILY_PAIRS, key);
    return 0;
}

static int delete_old_event(void *context, struct text key, struct text value, struct error *err)
{
    struct old_history *history = context;
    struct event event;
    if (event_decode(key, value, &event, err) != 0)
        return -1;
    if (event.timestamp_ms >= history->start_ms) {
        if (event.timestamp_ms < history->left_ms)
            history->left_ms = event.timestamp_ms;
        return SCAN_STOP;
    }
    store_delete(&history->graph->store, FAMILY_EDGES, key);
    return event.kind == INTERACTION_REMOVE ? forget_removal(history->graph, &event, err) : SCAN_GO_ON;
}

/* Those of the batch itself, which the store does not have yet. */
static void delete_old_staged(struct old_history *history)
{
    struct overlay *overlay = &history->graph->staged.overlay;
    uint32_t at = overlay_find_node(overlay, END_USER, history->user)->last_event;
    for (; at != OVERLAY_NONE; at = overlay->events[at].before) {
        struct overlay_event *staged = &overlay->events[at];
        uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
        if (staged->event.timestamp_ms >= history->start_ms) {
            if (staged->event.timestamp_ms < history->left_ms)
                history->left_ms = staged->event.timestamp_ms;
            continue;
        }
        event_encode(&staged->event, key, value);
        store_delete(&history->graph->store, FAMILY_EDGES, (struct text){(const char *)key, sizeof key});
        if (staged->event.kind != INTERACTION_REMOVE)
            continue;
        struct overlay_pair *pair = overlay_find_pair(overlay, history->user, staged->event.item);
        uint8_t pair_bytes[PAIR_KEY_SIZE];
        pair_key(pair_bytes, history->user, staged->event.item);
        if (pair != NULL && !pair->present && pair->newest_ms < history->start_ms)
            store_delete(&history->graph->store, FAMILY_PAIRS,
                         (struct text){(const char *)pair_bytes, sizeof pair_bytes});
    }
}

static int delete_old_history(struct graph *graph, uint32_t user, int64_t start_ms, struct error *err)
{
    static const char classes[] = {'h', 'o'};
    struct old_history history = {graph, user, start_ms, INT64_MAX};
    for (size_t i = 0; i < sizeof classes; i++) {
        uint8_t prefix[EVENT_PREFIX_SIZE];
        event_prefix(prefix, classes[i], user);
        if (store_scan_back(&graph->store, FAMILY_EDGES, (struct text){(const char *)prefix, sizeof prefix},
                            delete_old_event, &history, err) != 0)
            return -1;
    }
    delete_old_staged(&history);
    return history.left_ms == INT64_MAX ? 0 : note_oldest(graph, user, history.left_ms, err);
}

int limits_delete_history(struct graph *graph, struct error *err)
{
    int64_t start_ms = window_start_ms(graph, graph->staged.newest_event_ms);
    for (size_t i = 0; i < graph->limits.listed_count; i++)
        if (delete_old_history(graph, graph->limits.due[i], start_ms, err) != 0)
            return -1;
    return 0;
}

void limits_batch_done(struct graph *graph)
{
    graph->limits.listed_count = 0;
}

/* Nodes. */

static int note_activity(struct graph *graph, uint32_t at, struct error *err)
{
    struct limits *limits = &graph->limits;
    const struct overlay_node *node = &graph->staged.overlay.nodes[at];
    enum end end = node->end;
    uint32_t number = node->number;
    struct edge newest;
    if (!overlay_newest(&graph->staged.overlay, at, &newest))
        return 0;
    if (reserve_time(&limits->active_ms[end], &limits->active_count[end], &limits->active_capacity[end], number) != 0)
        return out_of_memory(err);
    int64_t *active_ms = &limits->active_ms[end][number];
    if (newest.timestamp_ms >= *active_ms)
        return 0;
    *active_ms = newest.timestamp_ms;
    struct order_entry entry = {newest.timestamp_ms, (uint64_t)end << 32 | number};
    return order_push(&limits->by_newest, entry) != 0 ? out_of_memory(err) : 0;
}

int limits_edge_changed(struct graph *graph, uint32_t user, uint32_t item, bool had, struct error *err)
{
    if (graph->settings.max_nodes == 0)
        return 0;
    struct overlay *overlay = &graph->staged.overlay;
    const uint32_t ends[] = {overlay_node(overlay, END_USER, user), overlay_node(overlay, END_ITEM, item)};
    for (int end = END_USER; end <= END_ITEM; end++) {
        bool gone = overlay->nodes[ends[end]].degree == 0;
        bool first = overlay->nodes[ends[end]].degree == 1 && !had;
        graph->limits.nodes = graph->limits.nodes + first - gone;
        if (note_activity(graph, ends[end], err) != 0)
            return -1;
    }
    return 0;
}

static int evict_item(struct graph *graph, uint32_t item, struct error *err)
{
    uint32_t at = overlay_node(&graph->staged.overlay, END_ITEM, item);
    struct edge edge;
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    while (overlay_newest(&graph->staged.overlay, at, &edge))
        if (staging_take_edge(graph, edge.other, item, edge.timestamp_ms, true, err) != 0)
            return -1;
    return 0;
}

/* The node whose newest edge is the oldest. */
static int evict_one(struct graph *graph, struct error *err)
{
    struct limits *limits = &graph->limits;
    for (;;) {
        struct order_entry entry = order_pop(&limits->by_newest);
        enum end end = (enum end)(entry.number >> 32);
        uint32_t number = (uint32_t)entry.number;
        if (limits->active_ms[end][number] != entry.time)
            continue;
        limits->active_ms[end][number] = INT64_MAX;
        uint32_t at = overlay_node(&graph->staged.overlay, end, number);
        struct edge newest;
        if (at == OVERLAY_NONE)
            return out_of_memory(err);
        if (!overlay_newest(&graph->staged.overlay, at, &newest))
            continue;
        if (newest.timestamp_ms == entry.time)
            return end == END_USER ? staging_erase_user(graph, number, err) : evict_item(graph, number, err);
        if (note_activity(graph, at, err) != 0)
            return -1;
    }
}

static int cap(struct graph *graph, enum end end, uint32_t number, struct error *err)
{
    struct overlay *overlay = &graph->staged.overlay;
    uint32_t at = overlay_node(overlay, end, number);
    struct edge oldest;
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    while (overlay->nodes[at].degree > graph->settings.max_edges_per_node && overlay_oldest(overlay, at, &oldest)) {
        uint32_t user = end == END_USER ? number : oldest.other, item = end == END_USER ? oldest.other : number;
        if (staging_take_edge(graph, user, item, oldest.timestamp_ms, true, err) != 0)
            return -1;
    }
    return 0;
}

static int enforce(struct graph *graph, uint32_t user, uint32_t item, struct error *err)
{
    if (graph->settings.max_edges_per_node > 0 &&
        (cap(graph, END_USER, user, err) != 0 || cap(graph, END_ITEM, item, err) != 0))
        return -1;
    while (graph->settings.max_nodes > 0 && graph->limits.nodes > graph->settings.max_nodes)
        if (evict_one(graph, err) != 0)
            return -1;
    return 0;
}

/* Halfway through an event there is no going back. */
int limits_enforce(struct graph *graph, uint32_t user, uint32_t item, struct error *err)
{
    int result = enforce(graph, user, item, err);
    if (result != 0)
        err->kind = ERROR_FATAL;
    return result;
}

void limits_forget_user(struct graph *graph, uint32_t user)
{
    if (user < graph->limits.due_count)
        graph->limits.due_ms[user] = INT64_MAX;
}

/* Beginning. */

/*
 * Of some users only the store can tell what it still holds: what is too old is out of everybody's sight already, so
 * that they are looked through at some time or other in the next window, and not all at once.
 */
static int begin_window(struct graph *graph, struct error *err)
{
    int64_t start_ms = window_start_ms(graph, graph->staged.newest_event_ms);
    struct random random = {graph->settings.seed};
    for (uint32_t user = 0; user < graph->user_count; user++) {
        const struct user_node *node = &graph->nodes.users[user];
        int64_t oldest_ms = node->edges.count > 0 ? node->edges.at[0].timestamp_ms : INT64_MAX;
        int64_t some_ms = start_ms + (int64_t)(random_uniform(&random) * (double)graph->settings.window_ms);
        bool tells = node->edges.count > 0 && !node->hidden;
        if (ids_text(&graph->nodes.user_ids, user).size > 0 &&
            note_oldest(graph, user, tells || oldest_ms < some_ms ? oldest_ms : some_ms, err) != 0)
            return -1;
    }
    return expire(graph, err);
}

static int begin_nodes(struct graph *graph, struct error *err)
{
    struct limits *limits = &graph->limits;
    const size_t counts[] = {graph->user_count, graph->item_count};
    for (int end = END_USER; end <= END_ITEM; end++)
        for (uint32_t number = 0; number < counts[end]; number++) {
            const struct edges *edges =
                end == END_USER ? &graph->nodes.users[number].edges : &graph->nodes.items[number].edges;
            if (edges->count == 0)
                continue;
            int64_t newest_ms = edges->at[edges->count - 1].timestamp_ms;
            if (reserve_time(&limits->active_ms[end], &limits->active_count[end], &limits->active_capacity[end],
                             number) != 0 ||
                order_push(&limits->by_newest, (struct order_entry){newest_ms, (uint64_t)end << 32 | number}) != 0)
                return out_of_memory(err);
            limits->active_ms[end][number] = newest_ms;
            limits->nodes++;
        }
    return 0;
}

static int cap_all(struct graph *graph, struct error *err)
{
    for (uint32_t user = 0; user < graph->user_count; user++)
        if (graph->nodes.users[user].edges.count > graph->settings.max_edges_per_node &&
            cap(graph, END_USER, user, err) != 0)
            return -1;
    for (uint32_t item = 0; item < graph->item_count; item++)
        if (graph->nodes.items[item].edges.count > graph->settings.max_edges_per_node &&
            cap(graph, END_ITEM, item, err) != 0)
            return -1;
    return 0;
}

int limits_begin(struct graph *graph, struct error *err)
{
    const struct graph_settings *settings = &graph->settings;
    if ((settings->max_nodes > 0 && begin_nodes(graph, err) != 0) ||
        (settings->window_ms > 0 && begin_window(graph, err) != 0) ||
        (settings->max_edges_per_node > 0 && cap_all(graph, err) != 0))
        return -1;
    while (settings->max_nodes > 0 && graph->limits.nodes > settings->max_nodes)
        if (evict_one(graph, err) != 0)
            return -1;
    graph->staged.count += graph->staged.change_count > 0;
    return 0;
}
