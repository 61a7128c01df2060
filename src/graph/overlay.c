#include "graph/overlay.h"

#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/buffer.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while staging a change of the graph");
}

void overlay_clear(struct overlay *overlay)
{
    key_map_clear(&overlay->node_map);
    key_map_clear(&overlay->pair_map);
    key_map_clear(&overlay->event_map);
    overlay->node_count = overlay->pair_count = overlay->event_count = overlay->mapped_count = 0;
}

void overlay_free(struct overlay *overlay)
{
    key_map_free(&overlay->node_map);
    key_map_free(&overlay->pair_map);
    key_map_free(&overlay->event_map);
    free(overlay->nodes);
    free(overlay->pairs);
    free(overlay->events);
    *overlay = (struct overlay){0};
}

size_t overlay_bytes(const struct overlay *overlay)
{
    size_t slots = overlay->node_map.slot_count + overlay->pair_map.slot_count + overlay->event_map.slot_count;
    return slots * sizeof(struct key_slot) + overlay->node_capacity * sizeof *overlay->nodes +
           overlay->pair_capacity * sizeof *overlay->pairs + overlay->event_capacity * sizeof *overlay->events;
}

/* Nodes. */

static const struct edges *committed_edges(const struct overlay *overlay, enum end end, uint32_t number)
{
    static const struct edges none = {0};
    const struct nodes *nodes = overlay->committed;
    if (end == END_USER)
        return number < nodes->user_ids.count ? &nodes->users[number].edges : &none;
    return number < nodes->item_ids.count ? &nodes->items[number].edges : &none;
}

static uint64_t node_key(enum end end, uint32_t number)
{
    return (uint64_t)end << 32 | number;
}

struct overlay_node *overlay_find_node(const struct overlay *overlay, enum end end, uint32_t number)
{
    uint32_t found = key_map_find(&overlay->node_map, node_key(end, number));
    return found == KEY_MAP_NONE ? NULL : &overlay->nodes[found];
}

uint32_t overlay_node(struct overlay *overlay, enum end end, uint32_t number)
{
    uint32_t found = key_map_find(&overlay->node_map, node_key(end, number));
    if (found != KEY_MAP_NONE)
        return found;
    uint32_t added = (uint32_t)overlay->node_count;
    if (array_reserve(&overlay->nodes, &overlay->node_capacity, overlay->node_count + 1, sizeof *overlay->nodes) != 0 ||
        key_map_put(&overlay->node_map, node_key(end, number), added) != 0)
        return OVERLAY_NONE;
    struct overlay_node node = {
        .number = number,
        .end = end,
        .degree = committed_edges(overlay, end, number)->count,
        .oldest = OVERLAY_NONE,
        .newest = OVERLAY_NONE,
        .name = OVERLAY_NONE,
        .last_event = OVERLAY_NONE,
        .newest_ms = -1,
        .fresh = true,
    };
    if (end == END_USER && number < overlay->committed->user_ids.count) {
        const struct user_node *user = &overlay->committed->users[number];
        node.newest_ms = user->newest_ms;
        node.hidden = user->hidden;
        node.fresh = false;
    }
    overlay->nodes[overlay->node_count++] = node;
    return added;
}

/* Pairs. */

static uint64_t pair_key_of(uint32_t user, uint32_t item)
{
    return (uint64_t)user << 32 | item;
}

struct overlay_pair *overlay_find_pair(const struct overlay *overlay, uint32_t user, uint32_t item)
{
    uint32_t found = key_map_find(&overlay->pair_map, pair_key_of(user, item));
    return found == KEY_MAP_NONE ? NULL : &overlay->pairs[found];
}

bool overlay_edge(const struct overlay *overlay, uint32_t user, uint32_t item, struct edge *edge)
{
    const struct overlay_pair *pair = overlay_find_pair(overlay, user, item);
    const struct edge *committed = pair == NULL ? nodes_find_edge(overlay->committed, user, item) : NULL;
    if (pair != NULL && pair->present)
        *edge = pair->edge;
    else if (committed != NULL)
        *edge = *committed;
    else
        return false;
    return true;
}

static uint32_t touch_pair(struct overlay *overlay, uint32_t user, uint32_t item)
{
    uint32_t found = key_map_find(&overlay->pair_map, pair_key_of(user, item));
    if (found != KEY_MAP_NONE)
        return found;
    uint32_t added = (uint32_t)overlay->pair_count;
    if (array_reserve(&overlay->pairs, &overlay->pair_capacity, overlay->pair_count + 1, sizeof *overlay->pairs) != 0 ||
        key_map_put(&overlay->pair_map, pair_key_of(user, item), added) != 0)
        return OVERLAY_NONE;
    overlay->pairs[overlay->pair_count++] = (struct overlay_pair){.user = user, .item = item};
    return added;
}

/* Behind those of the same time, as it came later. */
static void enter_chain(struct overlay *overlay, struct overlay_node *node, uint32_t entered)
{
    struct overlay_pair *pairs = overlay->pairs, *pair = &pairs[entered];
    enum end end = node->end;
    uint32_t older = node->newest;
    while (older != OVERLAY_NONE && pairs[older].edge.timestamp_ms > pair->edge.timestamp_ms)
        older = pairs[older].older[end];
    uint32_t newer = older == OVERLAY_NONE ? node->oldest : pairs[older].newer[end];
    pair->older[end] = older;
    pair->newer[end] = newer;
    *(older == OVERLAY_NONE ? &node->oldest : &pairs[older].newer[end]) = entered;
    *(newer == OVERLAY_NONE ? &node->newest : &pairs[newer].older[end]) = entered;
}

static void leave_chain(struct overlay *overlay, struct overlay_node *node, const struct overlay_pair *pair)
{
    uint32_t older = pair->older[node->end], newer = pair->newer[node->end];
    *(older == OVERLAY_NONE ? &node->oldest : &overlay->pairs[older].newer[node->end]) = newer;
    *(newer == OVERLAY_NONE ? &node->newest : &overlay->pairs[newer].older[node->end]) = older;
}

/* The pair's edge goes, if it has one: out of both chains and degrees. Gives the pair and its ends. */
static int clear_pair(struct overlay *overlay, uint32_t user, uint32_t item, uint32_t *pair_at,
                      struct overlay_node *ends[2], struct error *err)
{
    struct edge before;
    bool had = overlay_edge(overlay, user, item, &before);
    uint32_t user_at = overlay_node(overlay, END_USER, user), item_at = overlay_node(overlay, END_ITEM, item);
    *pair_at = touch_pair(overlay, user, item);
    if (user_at == OVERLAY_NONE || item_at == OVERLAY_NONE || *pair_at == OVERLAY_NONE)
        return out_of_memory(err);
    struct overlay_pair *pair = &overlay->pairs[*pair_at];
    ends[END_USER] = &overlay->nodes[user_at];
    ends[END_ITEM] = &overlay->nodes[item_at];
    for (int end = END_USER; end <= END_ITEM; end++) {
        if (pair->present)
            leave_chain(overlay, ends[end], pair);
        ends[end]->degree -= had;
    }
    pair->present = false;
    return 0;
}

int overlay_set_edge(struct overlay *overlay, uint32_t user, struct edge edge, struct error *err)
{
    uint32_t at;
    struct overlay_node *ends[2];
    if (clear_pair(overlay, user, edge.other, &at, ends, err) != 0)
        return -1;
    struct overlay_pair *pair = &overlay->pairs[at];
    pair->present = true;
    pair->edge = edge;
    pair->newest_ms = edge.timestamp_ms;
    for (int end = END_USER; end <= END_ITEM; end++) {
        enter_chain(overlay, ends[end], at);
        ends[end]->degree++;
    }
    return 0;
}

int overlay_clear_edge(struct overlay *overlay, uint32_t user, uint32_t item, int64_t newest_ms, struct error *err)
{
    uint32_t at;
    struct overlay_node *ends[2];
    if (clear_pair(overlay, user, item, &at, ends, err) != 0)
        return -1;
    overlay->pairs[at].newest_ms = newest_ms;
    return 0;
}

static bool is_overruled(const struct overlay *overlay, const struct overlay_node *node, const struct edge *edge)
{
    uint32_t user = node->end == END_USER ? node->number : edge->other;
    uint32_t item = node->end == END_USER ? edge->other : node->number;
    return overlay_find_pair(overlay, user, item) != NULL;
}

static struct edge chained_edge(const struct overlay *overlay, const struct overlay_node *node, uint32_t at)
{
    struct edge edge = overlay->pairs[at].edge;
    edge.other = node->end == END_USER ? overlay->pairs[at].item : overlay->pairs[at].user;
    return edge;
}

/* What is overruled stays so for the rest of the batch: front and back only grow, and each edge is passed over once. */
bool overlay_oldest(struct overlay *overlay, uint32_t at, struct edge *edge)
{
    struct overlay_node *node = &overlay->nodes[at];
    const struct edges *edges = committed_edges(overlay, node->end, node->number);
    while (node->front < edges->count && is_overruled(overlay, node, &edges->at[node->front]))
        node->front++;
    bool committed = node->front < edges->count;
    if (!committed && node->oldest == OVERLAY_NONE)
        return false;
    if (node->oldest != OVERLAY_NONE)
        *edge = chained_edge(overlay, node, node->oldest);
    if (committed && (node->oldest == OVERLAY_NONE || edges->at[node->front].timestamp_ms <= edge->timestamp_ms))
        *edge = edges->at[node->front];
    return true;
}

bool overlay_newest(struct overlay *overlay, uint32_t at, struct edge *edge)
{
    struct overlay_node *node = &overlay->nodes[at];
    const struct edges *edges = committed_edges(overlay, node->end, node->number);
    while (node->back < edges->count && is_overruled(overlay, node, &edges->at[edges->count - 1 - node->back]))
        node->back++;
    bool committed = node->back < edges->count;
    if (!committed && node->newest == OVERLAY_NONE)
        return false;
    if (node->newest != OVERLAY_NONE)
        *edge = chained_edge(overlay, node, node->newest);
    size_t last = edges->count - 1 - node->back;
    if (committed && (node->newest == OVERLAY_NONE || edges->at[last].timestamp_ms > edge->timestamp_ms))
        *edge = edges->at[last];
    return true;
}

/* Events. */

static uint64_t event_hash(const struct event *event)
{
    struct {
        uint64_t pair, timestamp_ms, kind;
        double value;
    } identity = {pair_key_of(event->user, event->item), (uint64_t)event->timestamp_ms, event->kind,
                  isnan(event->value) ? 0 : event->value + 0.0}; /* -0 is 0 */
    return XXH3_64bits(&identity, sizeof identity);
}

static bool is_same(const struct event *a, const struct event *b)
{
    bool same_value = isnan(a->value) ? isnan(b->value) : a->value == b->value;
    return a->user == b->user && a->item == b->item && a->timestamp_ms == b->timestamp_ms && a->kind == b->kind &&
           same_value;
}

static int map_events(struct overlay *overlay, struct error *err)
{
    for (; overlay->mapped_count < overlay->event_count; overlay->mapped_count++) {
        struct overlay_event *event = &overlay->events[overlay->mapped_count];
        uint64_t hash = event_hash(&event->event);
        event->same_hash = key_map_find(&overlay->event_map, hash);
        if (key_map_put(&overlay->event_map, hash, (uint32_t)overlay->mapped_count) != 0)
            return out_of_memory(err);
    }
    return 0;
}

int overlay_has_event(struct overlay *overlay, const struct event *event, bool *has, struct error *err)
{
    if (map_events(overlay, err) != 0)
        return -1;
    uint32_t at = key_map_find(&overlay->event_map, event_hash(event));
    while (at != OVERLAY_NONE && (overlay->events[at].gone || !is_same(&overlay->events[at].event, event)))
        at = overlay->events[at].same_hash;
    *has = at != OVERLAY_NONE;
    return 0;
}

int overlay_add_event(struct overlay *overlay, const struct event *event, struct error *err)
{
    uint32_t user_at = overlay_node(overlay, END_USER, event->user), added = (uint32_t)overlay->event_count;
    if (user_at == OVERLAY_NONE || array_reserve(&overlay->events, &overlay->event_capacity, overlay->event_count + 1,
                                                 sizeof *overlay->events) != 0)
        return out_of_memory(err);
    struct overlay_node *user = &overlay->nodes[user_at];
    overlay->events[overlay->event_count++] = (struct overlay_event){.event = *event, .before = user->last_event};
    user->last_event = added;
    return 0;
}
