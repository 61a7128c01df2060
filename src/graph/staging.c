#include "graph/staging.h"

#include <stdlib.h>
#include <string.h>

#include "graph/z0.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while staging a change of the graph");
}

static struct text view(const uint8_t *bytes, size_t size)
{
    return (struct text){(const char *)bytes, size};
}

int staging_begin(struct graph *graph, struct error *err)
{
    if (graph->settings.read_only)
        return error_set(err, ERROR_FATAL, "the store %s is open for reading only", graph->settings.directory);
    if (graph->store.failed)
        return error_set(err, ERROR_RETRY, "the last batch has not been written to the store %s yet",
                         graph->settings.directory);
    return 0;
}

static int append_change(struct graph *graph, struct change change, struct error *err)
{
    struct staged *staged = &graph->staged;
    if (array_reserve(&staged->changes, &staged->change_capacity, staged->change_count + 1, sizeof change) != 0)
        return out_of_memory(err);
    staged->changes[staged->change_count++] = change;
    return 0;
}

/* Names and numbers. */

int staging_check_id(const char *kind, struct text id, struct error *err)
{
    if (id.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the %s id is empty", kind);
    if (!text_is_utf8(id))
        return error_set(err, ERROR_BAD_INPUT, "the %s id is not UTF-8 text, or has a NUL in it", kind);
    return 0;
}

static void put_id(struct graph *graph, char kind, uint32_t number, struct text id)
{
    uint8_t key[5] = {(uint8_t)kind};
    bytes_put_32(key + 1, number);
    store_put(&graph->store, FAMILY_IDS, view(key, sizeof key), id);
}

static uint32_t find_number(const struct ids *committed, const struct staged_names *staged, struct text id,
                            uint64_t hash)
{
    uint32_t name = ids_find(&staged->ids, id, hash);
    return name != IDS_NONE ? staged->numbers[name] : ids_find(committed, id, hash);
}

uint32_t staging_find_user(const struct graph *graph, struct text id, uint64_t hash)
{
    return find_number(&graph->nodes.user_ids, &graph->staged.users, id, hash);
}

uint32_t staging_find_item(const struct graph *graph, struct text id, uint64_t hash)
{
    return find_number(&graph->nodes.item_ids, &graph->staged.items, id, hash);
}

/* From now on the id has this number in the batch. */
static int name_number(struct staged_names *staged, struct text id, uint64_t hash, uint32_t number, uint32_t *name,
                       struct error *err)
{
    *name = ids_find(&staged->ids, id, hash);
    if (*name == IDS_NONE) {
        *name = (uint32_t)staged->ids.count;
        if (array_reserve(&staged->numbers, &staged->capacity, (size_t)*name + 1, sizeof *staged->numbers) != 0 ||
            ids_put(&staged->ids, *name, id, hash) != 0)
            return out_of_memory(err);
    }
    staged->numbers[*name] = number;
    return 0;
}

int staging_add_user(struct graph *graph, struct text id, uint64_t hash, uint32_t *user, struct error *err)
{
    uint32_t name;
    if (graph->free_users.count > 0)
        *user = (uint32_t)order_pop(&graph->free_users).number;
    else if (graph->user_count < GRAPH_NONE - 1)
        *user = graph->user_count++;
    else
        return error_set(err, ERROR_FATAL, "the graph is full: no number is left for a user");
    uint32_t at = overlay_node(&graph->staged.overlay, END_USER, *user);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    if (name_number(&graph->staged.users, id, hash, *user, &name, err) != 0)
        return -1;
    graph->staged.overlay.nodes[at].name = name;
    graph->staged.overlay.nodes[at].fresh = true;
    put_id(graph, 'u', *user, id);
    return append_change(graph, (struct change){.kind = CHANGE_ADD_USER, .node = *user, .name = name}, err);
}

int staging_add_item(struct graph *graph, struct text id, uint64_t hash, uint32_t *item, struct error *err)
{
    uint32_t name;
    if (graph->item_count >= GRAPH_NONE - 1)
        return error_set(err, ERROR_FATAL, "the graph is full: no number is left for an item");
    *item = graph->item_count++;
    if (name_number(&graph->staged.items, id, hash, *item, &name, err) != 0)
        return -1;
    uint32_t at = overlay_node(&graph->staged.overlay, END_ITEM, *item);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    graph->staged.overlay.nodes[at].name = name;
    put_id(graph, 'i', *item, id);
    return append_change(graph, (struct change){.kind = CHANGE_ADD_ITEM, .node = *item, .name = name}, err);
}

/* Where a node's z0 comes from, as long as it has edges. */

static struct text title_now(const struct graph *graph, const struct overlay_node *node)
{
    const struct description *description = node->description;
    if (!node->described)
        description = node->number < graph->nodes.item_ids.count ? graph->nodes.items[node->number].description : NULL;
    return description == NULL ? (struct text){0} : description->title;
}

static struct text name_now(const struct staged_names *staged, const struct ids *committed, uint32_t name,
                            uint32_t number)
{
    return name != OVERLAY_NONE ? ids_text(&staged->ids, name) : ids_text(committed, number);
}

static enum z0_source source_now(const struct graph *graph, const struct overlay_node *node)
{
    const struct staged *staged = &graph->staged;
    float z0[GRAPH_DIMENSION_LIMIT];
    if (node->degree == 0)
        return Z0_HASHED;
    if (node->end == END_USER)
        return z0_of_user(&graph->settings, name_now(&staged->users, &graph->nodes.user_ids, node->name, node->number),
                          z0);
    struct text id = name_now(&staged->items, &graph->nodes.item_ids, node->name, node->number);
    return z0_of_item(&graph->settings, id, title_now(graph, node), z0);
}

int staging_note_source(struct graph *graph, enum end end, uint32_t number, struct error *err)
{
    if (!z0_has_sources(&graph->settings))
        return 0;
    uint32_t at = overlay_node(&graph->staged.overlay, end, number);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    uint8_t key[VECTOR_KEY_SIZE];
    vector_key(key, end == END_USER ? 'u' : 'i', number);
    z0_encode(&graph->settings, source_now(graph, &graph->staged.overlay.nodes[at]), &graph->record);
    if (buffer_check(&graph->record, "staging the source of a vector", err) != 0)
        return -1;
    if (graph->record.size > 0)
        store_put(&graph->store, FAMILY_VECTORS, view(key, sizeof key), buffer_text(&graph->record));
    else
        store_delete(&graph->store, FAMILY_VECTORS, view(key, sizeof key));
    return 0;
}

/* After a change of the pair's edge: at an end that has its first one now, or none any more, the record changes. */
static int note_sources(struct graph *graph, uint32_t user, uint32_t item, struct error *err)
{
    if (!z0_has_sources(&graph->settings))
        return 0;
    const uint32_t numbers[] = {user, item};
    for (int end = END_USER; end <= END_ITEM; end++) {
        const struct overlay_node *node = overlay_find_node(&graph->staged.overlay, (enum end)end, numbers[end]);
        if (node->degree <= 1 && staging_note_source(graph, (enum end)end, numbers[end], err) != 0)
            return -1;
    }
    return 0;
}

/* Edges. */

int staging_set_edge(struct graph *graph, uint32_t user, struct edge edge, int64_t replaced_ms, struct error *err)
{
    struct change change = {.kind = CHANGE_SET_EDGE, .node = user, .edge = edge, .replaced_ms = replaced_ms};
    if (append_change(graph, change, err) != 0 || overlay_set_edge(&graph->staged.overlay, user, edge, err) != 0 ||
        note_sources(graph, user, edge.other, err) != 0)
        return -1;
    return limits_edge_changed(graph, user, edge.other, replaced_ms >= 0, err);
}

int staging_remove_edge(struct graph *graph, uint32_t user, uint32_t item, int64_t removed_ms, int64_t newest_ms,
                        struct error *err)
{
    struct change change = {
        .kind = CHANGE_REMOVE_EDGE, .node = user, .edge = {.other = item}, .replaced_ms = removed_ms};
    if (append_change(graph, change, err) != 0 ||
        overlay_clear_edge(&graph->staged.overlay, user, item, newest_ms, err) != 0 ||
        note_sources(graph, user, item, err) != 0)
        return -1;
    return limits_edge_changed(graph, user, item, true, err);
}

/* The user has history without pairs now. */
static void mark_hidden(struct graph *graph, uint32_t user)
{
    struct overlay_node *node = overlay_find_node(&graph->staged.overlay, END_USER, user);
    uint8_t key[HIDDEN_KEY_SIZE], value[8];
    node->hidden = true;
    hidden_key(key, user);
    bytes_put_64(value, (uint64_t)node->newest_ms);
    store_put(&graph->store, FAMILY_COUNTS, view(key, sizeof key), view(value, sizeof value));
}

int staging_take_edge(struct graph *graph, uint32_t user, uint32_t item, int64_t removed_ms, bool history,
                      struct error *err)
{
    uint8_t key[PAIR_KEY_SIZE];
    pair_key(key, user, item);
    store_delete(&graph->store, FAMILY_PAIRS, view(key, sizeof key));
    if (staging_remove_edge(graph, user, item, removed_ms, -1, err) != 0)
        return -1;
    if (history)
        mark_hidden(graph, user);
    return 0;
}

/* Users who leave. */

static int collect_key(void *context, struct text key, struct text value, struct error *err)
{
    (void)value;
    buffer_append_text(context, key);
    return buffer_check(context, "erasing a user", err);
}

static void delete_keys(struct graph *graph, enum family family, const struct buffer *keys, size_t key_size)
{
    for (size_t at = 0; at + key_size <= keys->size; at += key_size)
        store_delete(&graph->store, family, view(keys->data + at, key_size));
}

/* What the store has of the user: found first, as that may fail. */
static int delete_stored(struct graph *graph, uint32_t user, struct error *err)
{
    struct buffer *events = &graph->record, *pairs = &graph->key;
    uint8_t history[EVENT_PREFIX_SIZE], others[EVENT_PREFIX_SIZE], number[4];
    event_prefix(history, 'h', user);
    event_prefix(others, 'o', user);
    bytes_put_32(number, user);
    struct text of_history = view(history, sizeof history), of_others = view(others, sizeof others);
    struct text of_pairs = view(number, sizeof number);
    buffer_clear(events);
    buffer_clear(pairs);
    if (store_scan(&graph->store, FAMILY_EDGES, of_history, of_history, collect_key, events, err) != 0 ||
        store_scan(&graph->store, FAMILY_EDGES, of_others, of_others, collect_key, events, err) != 0 ||
        store_scan(&graph->store, FAMILY_PAIRS, of_pairs, of_pairs, collect_key, pairs, err) != 0)
        return -1;
    delete_keys(graph, FAMILY_EDGES, events, EVENT_KEY_SIZE);
    delete_keys(graph, FAMILY_PAIRS, pairs, PAIR_KEY_SIZE);
    return 0;
}

static void delete_staged(struct graph *graph, const struct overlay_node *node)
{
    struct overlay *overlay = &graph->staged.overlay;
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE], pair[PAIR_KEY_SIZE];
    for (uint32_t at = node->last_event; at != OVERLAY_NONE; at = overlay->events[at].before) {
        struct overlay_event *staged = &overlay->events[at];
        struct overlay_pair *touched = overlay_find_pair(overlay, staged->event.user, staged->event.item);
        staged->gone = true;
        event_encode(&staged->event, key, value);
        store_delete(&graph->store, FAMILY_EDGES, view(key, sizeof key));
        if (touched == NULL)
            continue;
        pair_key(pair, staged->event.user, staged->event.item);
        store_delete(&graph->store, FAMILY_PAIRS, view(pair, sizeof pair));
        touched->newest_ms = -1;
    }
}

/* Records that are one a user. */
static void delete_singles(struct graph *graph, uint32_t user)
{
    uint8_t number[4], hidden[HIDDEN_KEY_SIZE];
    bytes_put_32(number, user);
    hidden_key(hidden, user);
    store_delete(&graph->store, FAMILY_USERS, view(number, sizeof number));
    store_delete(&graph->store, FAMILY_COUNTS, view(hidden, sizeof hidden));
    put_id(graph, 'u', user, text_of(""));
}

static int remove_all_edges(struct graph *graph, uint32_t at, struct error *err)
{
    struct overlay *overlay = &graph->staged.overlay;
    uint32_t user = overlay->nodes[at].number;
    struct edge edge;
    while (overlay_newest(overlay, at, &edge))
        if (staging_remove_edge(graph, user, edge.other, edge.timestamp_ms, -1, err) != 0)
            return -1;
    return 0;
}

/* The id leads nowhere for the rest of the batch. */
static int unname(struct graph *graph, const struct overlay_node *node, struct error *err)
{
    struct staged_names *staged = &graph->staged.users;
    if (node->name != OVERLAY_NONE) {
        staged->numbers[node->name] = GRAPH_NONE;
        return 0;
    }
    uint32_t name;
    struct text id = ids_text(&graph->nodes.user_ids, node->number);
    return name_number(staged, id, ids_hash(id), GRAPH_NONE, &name, err);
}

int staging_erase_user(struct graph *graph, uint32_t user, struct error *err)
{
    struct overlay *overlay = &graph->staged.overlay;
    uint32_t at = overlay_node(overlay, END_USER, user);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    if (!overlay->nodes[at].fresh && delete_stored(graph, user, err) != 0)
        return -1;
    delete_staged(graph, &overlay->nodes[at]);
    delete_singles(graph, user);
    if (remove_all_edges(graph, at, err) != 0 || unname(graph, &overlay->nodes[at], err) != 0 ||
        append_change(graph, (struct change){.kind = CHANGE_ERASE_USER, .node = user}, err) != 0)
        return -1;
    if (order_push(&graph->free_users, (struct order_entry){.number = user}) != 0)
        return out_of_memory(err);
    limits_forget_user(graph, user);
    struct overlay_node *node = &overlay->nodes[at];
    node->name = node->last_event = OVERLAY_NONE;
    node->newest_ms = -1;
    node->hidden = false;
    node->fresh = true;
    return 0;
}

int graph_erase_user(struct graph *graph, struct text user_id, struct error *err)
{
    if (staging_check_id("user", user_id, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    uint32_t user = staging_find_user(graph, user_id, ids_hash(user_id));
    if (user == GRAPH_NONE)
        return 0;
    if (staging_erase_user(graph, user, err) != 0)
        return -1;
    graph->staged.count++;
    return 0;
}

/* Descriptions. */

/* What the batch says of an item from now on; NULL: nothing any more. */
static int note_description(struct graph *graph, uint32_t item, const struct description *description,
                            struct error *err)
{
    if (!z0_has_sources(&graph->settings))
        return 0;
    uint32_t at = overlay_node(&graph->staged.overlay, END_ITEM, item);
    if (at == OVERLAY_NONE)
        return out_of_memory(err);
    graph->staged.overlay.nodes[at].description = description;
    graph->staged.overlay.nodes[at].described = true;
    return staging_note_source(graph, END_ITEM, item, err);
}

/* Puts the description under the node's number and stages it for the working copy. */
static int stage_description(struct graph *graph, enum family family, uint32_t node, struct text title,
                             const struct attribute *attributes, size_t count, struct error *err)
{
    buffer_clear(&graph->record);
    description_encode(&graph->record, title, attributes, count);
    if (buffer_check(&graph->record, "staging a description", err) != 0)
        return -1;
    struct description *description = description_decode(buffer_text(&graph->record), err);
    if (description == NULL)
        return -1;
    uint8_t key[4];
    bytes_put_32(key, node);
    store_put(&graph->store, family, view(key, sizeof key), buffer_text(&graph->record));
    struct change change = {
        .kind = family == FAMILY_ITEMS ? CHANGE_DESCRIBE_ITEM : CHANGE_DESCRIBE_USER,
        .node = node,
        .description = description,
    };
    if (append_change(graph, change, err) != 0) {
        free(description);
        return -1;
    }
    if (family == FAMILY_ITEMS && note_description(graph, node, description, err) != 0)
        return -1;
    graph->staged.count++;
    return 0;
}

int graph_put_item(struct graph *graph, const struct item *item, struct error *err)
{
    if (staging_check_id("item", item->item_id, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    uint64_t hash = ids_hash(item->item_id);
    uint32_t number = staging_find_item(graph, item->item_id, hash);
    if (number == GRAPH_NONE && staging_add_item(graph, item->item_id, hash, &number, err) != 0)
        return -1;
    struct text title = item->title.size == 0 ? (struct text){0} : item->title;
    return stage_description(graph, FAMILY_ITEMS, number, title, item->attributes, item->attribute_count, err);
}

int graph_put_user(struct graph *graph, const struct user *user, struct error *err)
{
    if (staging_check_id("user", user->user_id, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    uint64_t hash = ids_hash(user->user_id);
    uint32_t number = staging_find_user(graph, user->user_id, hash);
    if (number == GRAPH_NONE && staging_add_user(graph, user->user_id, hash, &number, err) != 0)
        return -1;
    return stage_description(graph, FAMILY_USERS, number, (struct text){0}, user->profile, user->profile_count, err);
}

int graph_delete_item(struct graph *graph, struct text item_id, struct error *err)
{
    if (staging_check_id("item", item_id, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    uint32_t item = staging_find_item(graph, item_id, ids_hash(item_id));
    if (item == GRAPH_NONE)
        return 0;
    uint8_t key[4];
    bytes_put_32(key, item);
    store_delete(&graph->store, FAMILY_ITEMS, view(key, sizeof key));
    if (append_change(graph, (struct change){.kind = CHANGE_DESCRIBE_ITEM, .node = item}, err) != 0 ||
        note_description(graph, item, NULL, err) != 0)
        return -1;
    graph->staged.count++;
    return 0;
}

/* Offsets and dead letters. */

static int check_topic(const char *topic, int32_t partition, int64_t offset, struct error *err)
{
    if (topic == NULL || topic[0] == '\0' || partition < 0 || offset < 0)
        return error_set(err, ERROR_BAD_INPUT, "\"%.80s\" partition %d offset %lld is no place in a topic",
                         topic == NULL ? "" : topic, (int)partition, (long long)offset);
    return 0;
}

int graph_put_offset(struct graph *graph, const char *topic, int32_t partition, int64_t next_offset, struct error *err)
{
    return graph_put_marked_offset(graph, topic, partition, next_offset, 0, err);
}

int graph_put_marked_offset(struct graph *graph, const char *topic, int32_t partition, int64_t next_offset,
                            uint64_t mark, struct error *err)
{
    if (check_topic(topic, partition, next_offset, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    buffer_clear(&graph->key);
    partition_key(&graph->key, topic, partition);
    if (buffer_check(&graph->key, "staging an offset", err) != 0)
        return -1;
    uint32_t number = graph_number_partition(graph, buffer_text(&graph->key));
    if (number == GRAPH_NONE)
        return out_of_memory(err);
    uint8_t value[PLACE_SIZE];
    bytes_put_64(value, (uint64_t)next_offset);
    bytes_put_64(value + 8, mark);
    store_put(&graph->store, FAMILY_OFFSETS, buffer_text(&graph->key), view(value, sizeof value));
    struct change change = {.kind = CHANGE_OFFSET, .node = number, .place = {next_offset, mark}};
    if (append_change(graph, change, err) != 0)
        return -1;
    graph->staged.count++;
    return 0;
}

static struct place find_place(const struct graph *graph, const char *topic, int32_t partition)
{
    struct buffer key = {0};
    partition_key(&key, topic, partition);
    uint32_t number = table_find(&graph->partitions, buffer_text(&key));
    buffer_free(&key);
    return number == TABLE_NONE ? (struct place){.next_offset = -1} : graph->places[number];
}

int64_t graph_offset(const struct graph *graph, const char *topic, int32_t partition)
{
    return find_place(graph, topic, partition).next_offset;
}

uint64_t graph_offset_mark(const struct graph *graph, const char *topic, int32_t partition)
{
    return find_place(graph, topic, partition).mark;
}

static int outbox_key(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct error *err)
{
    uint8_t number[8];
    if (check_topic(topic, partition, offset, err) != 0 || staging_begin(graph, err) != 0)
        return -1;
    buffer_clear(&graph->key);
    partition_key(&graph->key, topic, partition);
    bytes_put_64(number, (uint64_t)offset);
    buffer_append(&graph->key, number, sizeof number);
    return buffer_check(&graph->key, "staging a dead letter", err);
}

int graph_put_outbox(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct text letter,
                     struct error *err)
{
    if (outbox_key(graph, topic, partition, offset, err) != 0)
        return -1;
    store_put(&graph->store, FAMILY_OUTBOX, buffer_text(&graph->key), letter);
    graph->staged.count++;
    return 0;
}

int graph_delete_outbox(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct error *err)
{
    if (outbox_key(graph, topic, partition, offset, err) != 0)
        return -1;
    store_delete(&graph->store, FAMILY_OUTBOX, buffer_text(&graph->key));
    graph->staged.count++;
    return 0;
}

struct outbox_visit {
    bool (*visit)(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter);
    void *context;
};

static int visit_letter(void *context, struct text key, struct text letter, struct error *err)
{
    const struct outbox_visit *outbox = context;
    if (key.size < 14 || key.data[key.size - 13] != '\0')
        return error_set(err, ERROR_FATAL, "the store is damaged: a dead letter's key of %zu bytes", key.size);
    const char *place = key.data + key.size - 12;
    bool more = outbox->visit(outbox->context, key.data, (int32_t)bytes_get_32(place), (int64_t)bytes_get_64(place + 4),
                              letter);
    return more ? SCAN_GO_ON : SCAN_STOP;
}

int graph_each_outbox(struct graph *graph,
                      bool (*visit)(void *context, const char *topic, int32_t partition, int64_t offset,
                                    struct text letter),
                      void *context, struct error *err)
{
    static const struct text all = {"", 0};
    struct outbox_visit outbox = {visit, context};
    return store_scan(&graph->store, FAMILY_OUTBOX, all, all, visit_letter, &outbox, err);
}

size_t graph_staged(const struct graph *graph)
{
    return graph->staged.count;
}

void graph_clear_staged(struct graph *graph)
{
    struct staged *staged = &graph->staged;
    for (size_t i = 0; i < staged->change_count; i++)
        free(staged->changes[i].description);
    ids_clear(&staged->users.ids);
    ids_clear(&staged->items.ids);
    overlay_clear(&staged->overlay);
    staged->change_count = staged->count = 0;
    staged->events = staged->late_events = 0;
    staged->newest_event_ms = graph->newest_event_ms;
}
