#include <float.h>
#include <math.h>

#include "graph/staging.h"

static struct text view(const uint8_t *bytes, size_t size)
{
    return (struct text){(const char *)bytes, size};
}

static int check_interaction(const struct interaction *interaction, struct error *err)
{
    if (staging_check_id("user", interaction->user_id, err) != 0 ||
        staging_check_id("item", interaction->item_id, err) != 0)
        return -1;
    if (interaction->timestamp_ms < 0)
        return error_set(err, ERROR_BAD_INPUT, "the timestamp %lld is negative", (long long)interaction->timestamp_ms);
    if (interaction->has_value && !(fabs(interaction->value) <= FLT_MAX))
        return error_set(err, ERROR_BAD_INPUT, "the value %g is not a finite number that fits a float",
                         interaction->value);
    return 0;
}

static struct event event_of(const struct graph *graph, const struct interaction *interaction, uint32_t user,
                             uint32_t item)
{
    bool known = interaction->kind > INTERACTION_UNKNOWN && interaction->kind <= INTERACTION_REMOVE;
    int8_t label = interaction->label ? EVENT_LABEL_YES : EVENT_LABEL_NO;
    return (struct event){
        .user = user,
        .item = item,
        .timestamp_ms = interaction->timestamp_ms,
        .sequence = graph->events + graph->staged.events,
        .kind = (uint8_t)(known ? interaction->kind : INTERACTION_UNKNOWN),
        .label = interaction->has_label ? label : EVENT_LABEL_NONE,
        .value = interaction->has_value ? interaction->value : (double)NAN,
    };
}

/* Whether the event says something of its pair. */
static bool is_of_pair(const struct event *event)
{
    return event_is_edge(event->kind) || event->kind == INTERACTION_REMOVE;
}

/* What an event is to its pair. */
struct judgement {
    bool repeated;
    bool newest;         /* it becomes the pair's record */
    int64_t replaced_ms; /* time of the pair's edge before it; -1: none */
};

static int has_happened(struct graph *graph, const struct event *event, bool fresh, bool *happened, struct error *err)
{
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
    if (overlay_has_event(&graph->staged.overlay, event, happened, err) != 0)
        return -1;
    if (*happened || fresh)
        return 0;
    event_encode(event, key, value);
    return store_get(&graph->store, FAMILY_EDGES, view(key, sizeof key), &graph->record, happened, err);
}

/* Time of the pair's record in the store, which is a removal; -1: none. */
static int stored_removal(struct graph *graph, const struct event *event, int64_t *removal_ms, struct error *err)
{
    uint8_t key[PAIR_KEY_SIZE];
    struct event newest;
    bool found;
    *removal_ms = -1;
    pair_key(key, event->user, event->item);
    if (store_get(&graph->store, FAMILY_PAIRS, view(key, sizeof key), &graph->record, &found, err) != 0)
        return -1;
    if (!found)
        return 0;
    if (pair_decode(view(key, sizeof key), buffer_text(&graph->record), &newest, err) != 0)
        return -1;
    *removal_ms = newest.timestamp_ms;
    return 0;
}

/*
 * The store is asked only where memory cannot tell. All that concerned a pair is no newer than the user's newest;
 * unless something of the user is hidden, it is no newer than the pair's edge, and a pair without an edge has left
 * nothing. (A limit takes an edge, an older event of the pair comes late and is its edge, then the newer one comes
 * again.)
 */
static int judge(struct graph *graph, const struct event *event, struct judgement *judgement, struct error *err)
{
    struct overlay *overlay = &graph->staged.overlay;
    uint32_t user_at = overlay_node(overlay, END_USER, event->user);
    if (user_at == OVERLAY_NONE)
        return error_set(err, ERROR_FATAL, "out of memory while staging an event");
    struct overlay_node user = overlay->nodes[user_at];
    const struct overlay_pair *pair = overlay_find_pair(overlay, event->user, event->item);
    struct edge edge;
    bool present = is_of_pair(event) && overlay_edge(overlay, event->user, event->item, &edge);
    *judgement = (struct judgement){.newest = is_of_pair(event), .replaced_ms = present ? edge.timestamp_ms : -1};

    int64_t known_ms = pair != NULL ? pair->newest_ms : judgement->replaced_ms;
    bool certain =
        event->timestamp_ms > user.newest_ms || (!user.hidden && (!present || event->timestamp_ms > known_ms));
    if (is_of_pair(event) && certain)
        return 0;
    if (has_happened(graph, event, user.fresh, &judgement->repeated, err) != 0 || judgement->repeated)
        return judgement->repeated ? 0 : -1;
    if (!is_of_pair(event))
        return 0;
    if (!present && pair == NULL && !user.fresh && stored_removal(graph, event, &known_ms, err) != 0)
        return -1;
    judgement->newest = event->timestamp_ms >= known_ms;
    return 0;
}

static int stage_event(struct graph *graph, const struct event *event, struct error *err)
{
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
    event_encode(event, key, value);
    store_put(&graph->store, FAMILY_EDGES, view(key, sizeof key), view(value, sizeof value));
    graph->staged.events++;
    if (event->timestamp_ms > graph->staged.newest_event_ms)
        graph->staged.newest_event_ms = event->timestamp_ms;
    if (overlay_add_event(&graph->staged.overlay, event, err) != 0)
        return -1;
    return limits_take_event(graph, event->user, event->timestamp_ms, err);
}

/* Makes the event the newest of its pair. */
static int stage_pair(struct graph *graph, const struct event *event, int64_t replaced_ms, struct error *err)
{
    uint8_t key[PAIR_KEY_SIZE], value[PAIR_VALUE_SIZE];
    pair_key(key, event->user, event->item);
    pair_encode(event, value);
    store_put(&graph->store, FAMILY_PAIRS, view(key, sizeof key), view(value, sizeof value));
    if (event_is_edge(event->kind))
        return staging_set_edge(graph, event->user, graph_edge_of(graph, event, event->item), replaced_ms, err);
    if (replaced_ms >= 0)
        return staging_remove_edge(graph, event->user, event->item, replaced_ms, event->timestamp_ms, err);
    return overlay_clear_edge(&graph->staged.overlay, event->user, event->item, event->timestamp_ms, err);
}

static int stage(struct graph *graph, const struct event *event, struct judgement judgement, struct error *err)
{
    if (stage_event(graph, event, err) != 0)
        return -1;
    if (!is_of_pair(event))
        return 0;
    struct overlay_node *user = overlay_find_node(&graph->staged.overlay, END_USER, event->user);
    if (event->timestamp_ms > user->newest_ms)
        user->newest_ms = event->timestamp_ms;
    if (event->kind == INTERACTION_REMOVE)
        user->hidden = true;
    if (!judgement.newest)
        return 0;
    struct edge edge; /* the window may just have taken the one that was to be replaced */
    if (judgement.replaced_ms >= 0 && graph->settings.window_ms > 0 &&
        !overlay_edge(&graph->staged.overlay, event->user, event->item, &edge))
        judgement.replaced_ms = -1;
    if (stage_pair(graph, event, judgement.replaced_ms, err) != 0)
        return -1;
    return event_is_edge(event->kind) ? limits_enforce(graph, event->user, event->item, err) : 0;
}

static int count_late(struct graph *graph)
{
    graph->staged.late_events++;
    graph->staged.count++;
    return 0;
}

int graph_put_interaction(struct graph *graph, const struct interaction *interaction, struct error *err)
{
    if (check_interaction(interaction, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    if (limits_is_late(graph, interaction->timestamp_ms))
        return count_late(graph);

    uint64_t user_hash = ids_hash(interaction->user_id), item_hash = ids_hash(interaction->item_id);
    uint32_t user = staging_find_user(graph, interaction->user_id, user_hash);
    uint32_t item = staging_find_item(graph, interaction->item_id, item_hash);
    struct event event = event_of(graph, interaction, user, item);
    struct judgement judgement = {.newest = is_of_pair(&event), .replaced_ms = -1};
    if (user != GRAPH_NONE && item != GRAPH_NONE && judge(graph, &event, &judgement, err) != 0)
        return -1;
    if (judgement.repeated)
        return 0;
    if ((user == GRAPH_NONE && staging_add_user(graph, interaction->user_id, user_hash, &event.user, err) != 0) ||
        (item == GRAPH_NONE && staging_add_item(graph, interaction->item_id, item_hash, &event.item, err) != 0) ||
        stage(graph, &event, judgement, err) != 0)
        return -1;
    graph->staged.count++;
    return 0;
}
