#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/state.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while staging a change of the graph");
}

static struct text view(const uint8_t *bytes, size_t size)
{
    return (struct text){(const char *)bytes, size};
}

/* Whether a change may be staged now; makes room for two (a returning user is one more). */
static int begin(struct graph *graph, struct error *err)
{
    struct staged *staged = &graph->staged;
    if (graph->settings.read_only)
        return error_set(err, ERROR_FATAL, "the store %s is open for reading only", graph->settings.directory);
    if (graph->store.failed)
        return error_set(err, ERROR_RETRY, "the last batch has not been written to the store %s yet",
                         graph->settings.directory);
    if (array_reserve(&staged->changes, &staged->change_capacity, staged->change_count + 2, sizeof *staged->changes) !=
            0 ||
        array_reserve(&staged->erasures, &staged->erasure_capacity, staged->erasure_count + 1,
                      sizeof *staged->erasures) != 0)
        return out_of_memory(err);
    return 0;
}

static void append_change(struct graph *graph, struct change change)
{
    graph->staged.changes[graph->staged.change_count++] = change;
}

static int check_id(const char *kind, struct text id, struct error *err)
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

/* The number of an id, committed or staged; GRAPH_NONE: new. */
static uint32_t find_number(const struct table *committed, const struct table *staged, struct text id)
{
    uint32_t number = table_find(committed, id);
    if (number != TABLE_NONE)
        return number;
    number = table_find(staged, id);
    return number == TABLE_NONE ? GRAPH_NONE : (uint32_t)committed->count + number;
}

static int take_number(struct graph *graph, char kind, const struct table *committed, struct table *staged,
                       struct text id, uint32_t *number, struct error *err)
{
    *number = find_number(committed, staged, id);
    if (*number != GRAPH_NONE)
        return 0;
    if (committed->count + staged->count >= GRAPH_NONE - 1)
        return error_set(err, ERROR_FATAL, "the graph is full: no node number is left");
    uint32_t added = table_add(staged, id);
    if (added == TABLE_NONE)
        return out_of_memory(err);
    *number = (uint32_t)committed->count + added;
    put_id(graph, kind, *number, id);
    return 0;
}

static bool is_erased(const struct graph *graph, uint32_t user)
{
    const struct staged *staged = &graph->staged;
    for (size_t i = staged->erasure_count; i > 0; i--)
        if (staged->erasures[i - 1].user == user)
            return staged->erasures[i - 1].erased;
    return user < graph->nodes.user_ids.count && graph->nodes.users[user].erased;
}

static void set_erased(struct graph *graph, uint32_t user, bool erased)
{
    graph->staged.erasures[graph->staged.erasure_count++] = (struct erasure){user, erased};
    append_change(graph, (struct change){.kind = erased ? CHANGE_ERASE_USER : CHANGE_REVIVE_USER, .node = user});
}

static int take_user(struct graph *graph, struct text id, uint32_t *user, struct error *err)
{
    if (take_number(graph, 'u', &graph->nodes.user_ids, &graph->staged.user_ids, id, user, err) != 0)
        return -1;
    if (is_erased(graph, *user)) {
        put_id(graph, 'u', *user, id);
        set_erased(graph, *user, false);
    }
    return 0;
}

static int take_item(struct graph *graph, struct text id, uint32_t *item, struct error *err)
{
    return take_number(graph, 'i', &graph->nodes.item_ids, &graph->staged.item_ids, id, item, err);
}

static int check_interaction(const struct interaction *interaction, struct error *err)
{
    if (check_id("user", interaction->user_id, err) != 0 || check_id("item", interaction->item_id, err) != 0)
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

/* Makes the event the newest of its pair, if it is. */
static int stage_pair(struct graph *graph, const struct event *event, struct error *err)
{
    uint8_t key[PAIR_KEY_SIZE], value[PAIR_VALUE_SIZE];
    bool found;
    struct event newest = {.kind = INTERACTION_UNKNOWN};
    pair_key(key, event->user, event->item);
    if (store_get(&graph->store, FAMILY_PAIRS, view(key, sizeof key), &graph->record, &found, err) != 0 ||
        (found && pair_decode(view(key, sizeof key), buffer_text(&graph->record), &newest, err) != 0))
        return -1;
    if (found && event->timestamp_ms < newest.timestamp_ms)
        return 0;

    pair_encode(event, value);
    store_put(&graph->store, FAMILY_PAIRS, view(key, sizeof key), view(value, sizeof value));
    bool had_edge = event_is_edge(newest.kind);
    if (event_is_edge(event->kind) || had_edge)
        append_change(graph, (struct change){
                                 .kind = event_is_edge(event->kind) ? CHANGE_SET_EDGE : CHANGE_REMOVE_EDGE,
                                 .node = event->user,
                                 .edge = graph_edge_of(graph, event, event->item),
                                 .replaced_ms = had_edge ? newest.timestamp_ms : -1,
                             });
    return 0;
}

int graph_put_interaction(struct graph *graph, const struct interaction *interaction, struct error *err)
{
    uint32_t user, item;
    if (check_interaction(interaction, err) != 0 || begin(graph, err) != 0 ||
        take_user(graph, interaction->user_id, &user, err) != 0 ||
        take_item(graph, interaction->item_id, &item, err) != 0)
        return -1;

    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
    struct event event = event_of(graph, interaction, user, item);
    event_encode(&event, key, value);
    bool repeated;
    if (store_get(&graph->store, FAMILY_EDGES, view(key, sizeof key), &graph->record, &repeated, err) != 0)
        return -1;
    if (repeated)
        return 0;

    bool counts_for_pair = event_is_edge(event.kind) || event.kind == INTERACTION_REMOVE;
    if (counts_for_pair && stage_pair(graph, &event, err) != 0)
        return -1;
    store_put(&graph->store, FAMILY_EDGES, view(key, sizeof key), view(value, sizeof value));
    graph->staged.events++;
    if (event.timestamp_ms > graph->staged.newest_event_ms)
        graph->staged.newest_event_ms = event.timestamp_ms;
    graph->staged.count++;
    return 0;
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
    append_change(graph, (struct change){
                             .kind = family == FAMILY_ITEMS ? CHANGE_DESCRIBE_ITEM : CHANGE_DESCRIBE_USER,
                             .node = node,
                             .description = description,
                         });
    graph->staged.count++;
    return 0;
}

int graph_put_item(struct graph *graph, const struct item *item, struct error *err)
{
    uint32_t number;
    if (check_id("item", item->item_id, err) != 0 || begin(graph, err) != 0 ||
        take_item(graph, item->item_id, &number, err) != 0)
        return -1;
    struct text title = item->title.size == 0 ? (struct text){0} : item->title;
    return stage_description(graph, FAMILY_ITEMS, number, title, item->attributes, item->attribute_count, err);
}

int graph_put_user(struct graph *graph, const struct user *user, struct error *err)
{
    uint32_t number;
    if (check_id("user", user->user_id, err) != 0 || begin(graph, err) != 0 ||
        take_user(graph, user->user_id, &number, err) != 0)
        return -1;
    return stage_description(graph, FAMILY_USERS, number, (struct text){0}, user->profile, user->profile_count, err);
}

int graph_delete_item(struct graph *graph, struct text item_id, struct error *err)
{
    if (check_id("item", item_id, err) != 0 || begin(graph, err) != 0)
        return -1;
    uint32_t item = find_number(&graph->nodes.item_ids, &graph->staged.item_ids, item_id);
    if (item == GRAPH_NONE)
        return 0;
    uint8_t key[4];
    bytes_put_32(key, item);
    store_delete(&graph->store, FAMILY_ITEMS, view(key, sizeof key));
    append_change(graph, (struct change){.kind = CHANGE_DESCRIBE_ITEM, .node = item});
    graph->staged.count++;
    return 0;
}

static int collect_key(void *context, struct text key, struct text value, struct error *err)
{
    (void)value;
    buffer_append_text(context, key);
    return buffer_check(context, "erasing a user", err);
}

/* Deletes all keys of `key_size` bytes that begin with `prefix`, staged ones included. */
static int delete_prefix(struct graph *graph, enum family family, struct text prefix, size_t key_size,
                         struct error *err)
{
    struct buffer *keys = &graph->record;
    buffer_clear(keys);
    if (store_scan(&graph->store, family, prefix, prefix, true, collect_key, keys, err) != 0)
        return -1;
    for (size_t at = 0; at + key_size <= keys->size; at += key_size)
        store_delete(&graph->store, family, view(keys->data + at, key_size));
    return 0;
}

int graph_erase_user(struct graph *graph, struct text user_id, struct error *err)
{
    if (check_id("user", user_id, err) != 0 || begin(graph, err) != 0)
        return -1;
    uint32_t user = find_number(&graph->nodes.user_ids, &graph->staged.user_ids, user_id);
    if (user == GRAPH_NONE || is_erased(graph, user))
        return 0;

    uint8_t history[EVENT_PREFIX_SIZE], others[EVENT_PREFIX_SIZE], number[4];
    event_prefix(history, 'h', user);
    event_prefix(others, 'o', user);
    bytes_put_32(number, user);
    if (delete_prefix(graph, FAMILY_EDGES, view(history, sizeof history), EVENT_KEY_SIZE, err) != 0 ||
        delete_prefix(graph, FAMILY_EDGES, view(others, sizeof others), EVENT_KEY_SIZE, err) != 0 ||
        delete_prefix(graph, FAMILY_PAIRS, view(number, sizeof number), PAIR_KEY_SIZE, err) != 0)
        return -1;
    store_delete(&graph->store, FAMILY_USERS, view(number, sizeof number));
    put_id(graph, 'u', user, text_of(""));
    set_erased(graph, user, true);
    graph->staged.count++;
    return 0;
}

static int check_topic(const char *topic, int32_t partition, int64_t offset, struct error *err)
{
    if (topic == NULL || topic[0] == '\0' || partition < 0 || offset < 0)
        return error_set(err, ERROR_BAD_INPUT, "\"%.80s\" partition %d offset %lld is no place in a topic",
                         topic == NULL ? "" : topic, (int)partition, (long long)offset);
    return 0;
}

int graph_put_offset(struct graph *graph, const char *topic, int32_t partition, int64_t next_offset, struct error *err)
{
    if (check_topic(topic, partition, next_offset, err) != 0 || begin(graph, err) != 0)
        return -1;
    buffer_clear(&graph->key);
    partition_key(&graph->key, topic, partition);
    if (buffer_check(&graph->key, "staging an offset", err) != 0)
        return -1;
    uint32_t number = graph_number_partition(graph, buffer_text(&graph->key));
    if (number == GRAPH_NONE)
        return out_of_memory(err);
    uint8_t value[8];
    bytes_put_64(value, (uint64_t)next_offset);
    store_put(&graph->store, FAMILY_OFFSETS, buffer_text(&graph->key), view(value, sizeof value));
    append_change(graph, (struct change){.kind = CHANGE_OFFSET, .node = number, .next_offset = next_offset});
    graph->staged.count++;
    return 0;
}

int64_t graph_offset(const struct graph *graph, const char *topic, int32_t partition)
{
    struct buffer key = {0};
    partition_key(&key, topic, partition);
    uint32_t number = table_find(&graph->partitions, buffer_text(&key));
    buffer_free(&key);
    return number == TABLE_NONE ? -1 : graph->next_offsets[number];
}

static int outbox_key(struct graph *graph, const char *topic, int32_t partition, int64_t offset, struct error *err)
{
    uint8_t number[8];
    if (check_topic(topic, partition, offset, err) != 0 || begin(graph, err) != 0)
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
    return store_scan(&graph->store, FAMILY_OUTBOX, all, all, false, visit_letter, &outbox, err);
}

size_t graph_staged(const struct graph *graph)
{
    return graph->staged.count;
}

void graph_drop_staged(struct graph *graph)
{
    struct staged *staged = &graph->staged;
    for (size_t i = 0; i < staged->change_count; i++)
        free(staged->changes[i].description);
    free(staged->changes);
    free(staged->erasures);
    table_free(&staged->user_ids);
    table_free(&staged->item_ids);
    *staged = (struct staged){0};
}
