#include "graph/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "graph/similar_table.h"
#include "graph/state.h"
#include "graph/vectors.h"

static int check_settings(const struct graph_settings *settings, struct error *err)
{
    if (settings->layers < 1 || settings->layers > 4)
        return error_set(err, ERROR_FATAL, "graph: %zu layers; use 1 to 4", settings->layers);
    if (settings->dimension < 16 || settings->dimension > GRAPH_DIMENSION_LIMIT || settings->dimension % 16 != 0)
        return error_set(err, ERROR_FATAL, "graph: dimension %zu; use a multiple of 16, at most %d",
                         settings->dimension, GRAPH_DIMENSION_LIMIT);
    if (!(settings->push_threshold >= 0.0f))
        return error_set(err, ERROR_FATAL, "graph: push threshold %g; use 0 or more", (double)settings->push_threshold);
    if (settings->vectors != NULL && settings->vectors->dimension != settings->dimension)
        return error_set(err, ERROR_FATAL, "graph: the trained vectors have dimension %zu, graph.dimension is %zu",
                         settings->vectors->dimension, settings->dimension);
    if (settings->window_ms < 0)
        return error_set(err, ERROR_FATAL, "graph: a window of %lld ms; use 0 or more", (long long)settings->window_ms);
    if (settings->max_nodes == 1)
        return error_set(err, ERROR_FATAL, "graph: at most one node makes no edge; use 2 or more, or 0 for no limit");
    return 0;
}

/* A steady stream of readers must not keep a commit waiting. */
static int create_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int result = pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    return result;
}

int graph_open(struct graph **out, const struct graph_settings *settings, struct error *err)
{
    if (check_settings(settings, err) != 0)
        return -1;
    struct graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL || create_lock(&graph->lock) != 0) {
        free(graph);
        return error_set(err, ERROR_FATAL, "out of memory while opening the graph");
    }
    graph->settings = *settings;
    graph->directory = strdup(settings->directory);
    graph->settings.directory = graph->directory;
    if (graph->directory == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while opening the graph");
        goto fail;
    }
    graph->staged.overlay.committed = &graph->nodes;
    if (nodes_create(&graph->nodes, &graph->settings, err) != 0 ||
        store_open_within(&graph->store, settings->directory, settings->read_only, settings->store_memory, err) != 0 ||
        graph_load(graph, err) != 0)
        goto fail;
    graph_clear_staged(graph);
    if (similar_keep_begin(graph, err) != 0)
        goto fail;
    if (!settings->read_only &&
        (graph_begin_sources(graph, err) != 0 || limits_begin(graph, err) != 0 || graph_commit(graph, err) != 0))
        goto fail;
    *out = graph;
    return 0;
fail:
    err->kind = ERROR_FATAL;
    graph_close(graph);
    return -1;
}

void graph_close(struct graph *graph)
{
    if (graph == NULL)
        return;
    graph_clear_staged(graph);
    ids_free(&graph->staged.users.ids);
    ids_free(&graph->staged.items.ids);
    free(graph->staged.users.numbers);
    free(graph->staged.items.numbers);
    free(graph->staged.changes);
    overlay_free(&graph->staged.overlay);
    limits_free(&graph->limits);
    order_free(&graph->free_users);
    store_close(&graph->store);
    similar_keep_end(graph);
    nodes_destroy(&graph->nodes);
    table_free(&graph->partitions);
    free(graph->places);
    buffer_free(&graph->record);
    buffer_free(&graph->key);
    pthread_rwlock_destroy(&graph->lock);
    free(graph->directory);
    free(graph);
}

enum verdict graph_verdict(const struct graph_settings *settings, int32_t kind, bool has_value, double value,
                           bool has_label, bool label)
{
    if (has_label)
        return label ? VERDICT_LIKE : VERDICT_DISLIKE;
    switch (kind) {
    case INTERACTION_RATING:
        if (!has_value || isnan(value))
            return VERDICT_NEUTRAL;
        if (settings->like_inclusive)
            return value >= settings->like_threshold ? VERDICT_LIKE : VERDICT_DISLIKE;
        return value > settings->like_threshold ? VERDICT_LIKE : VERDICT_DISLIKE;
    case INTERACTION_LIKE:
    case INTERACTION_PURCHASE:
    case INTERACTION_CLICK:
        return VERDICT_LIKE;
    case INTERACTION_DISLIKE:
        return VERDICT_DISLIKE;
    default:
        return VERDICT_NEUTRAL;
    }
}

struct edge graph_edge_of(const struct graph *graph, const struct event *event, uint32_t other)
{
    enum verdict verdict = graph_verdict(&graph->settings, event->kind, !isnan(event->value), event->value,
                                         event->label != EVENT_LABEL_NONE, event->label == EVENT_LABEL_YES);
    return (struct edge){
        .timestamp_ms = event->timestamp_ms,
        .other = other,
        .verdict = (int8_t)verdict,
        .kind = event->kind,
        .value = (float)event->value,
    };
}

uint32_t graph_number_partition(struct graph *graph, struct text key)
{
    if (array_reserve(&graph->places, &graph->place_capacity, graph->partitions.count + 1, sizeof *graph->places) != 0)
        return GRAPH_NONE;
    size_t before = graph->partitions.count;
    uint32_t number = table_add(&graph->partitions, key);
    if (graph->partitions.count > before)
        graph->places[number] = (struct place){.next_offset = -1};
    return number;
}

void graph_read_lock(struct graph *graph)
{
    pthread_rwlock_rdlock(&graph->lock);
}

void graph_read_unlock(struct graph *graph)
{
    pthread_rwlock_unlock(&graph->lock);
}

struct graph_counts graph_counts(const struct graph *graph)
{
    return (struct graph_counts){
        .events = graph->events,
        .newest_event_ms = graph->newest_event_ms,
        .late_events = graph->late_events,
        .users = graph->nodes.user_ids.count,
        .items = graph->nodes.item_ids.count,
        .erased_users = graph->nodes.user_ids.count - graph->nodes.user_ids.used,
        .edges = graph->nodes.edge_count,
        .titles = graph->nodes.title_count,
        .embedding_bound = embedding_bound(graph->nodes.embedding),
        .embedding_epsilon = embedding_epsilon(graph->nodes.embedding),
        .embedding_backlog = embedding_backlog(graph->nodes.embedding),
        .embedding_operations = embedding_operations(graph->nodes.embedding),
    };
}

struct graph_memory graph_shared_memory(const struct graph *graph)
{
    struct graph_memory memory = {.limits = 0};
    nodes_memory(&graph->nodes, &memory);
    if (graph->similar_table != NULL)
        memory.embeddings += similar_table_bytes(graph->similar_table) + graph->owner_capacity * sizeof *graph->owners;
    return memory;
}

struct graph_memory graph_memory(const struct graph *graph)
{
    struct graph_memory memory = graph_shared_memory(graph);
    memory.limits = limits_bytes(&graph->limits) + graph->free_users.capacity * sizeof(struct order_entry);
    memory.staged = overlay_bytes(&graph->staged.overlay) + graph->staged.change_capacity * sizeof(struct change) +
                    ids_bytes(&graph->staged.users.ids) + ids_bytes(&graph->staged.items.ids);
    return memory;
}

struct store_memory graph_store_memory(const struct graph *graph)
{
    return store_memory(&graph->store);
}

struct store_size graph_store_size(const struct graph *graph, size_t family)
{
    return family < FAMILY_COUNT ? store_size(&graph->store, (enum family)family) : (struct store_size){0};
}

uint32_t graph_find_user(const struct graph *graph, struct text user_id)
{
    return ids_find(&graph->nodes.user_ids, user_id, ids_hash(user_id));
}

uint32_t graph_find_item(const struct graph *graph, struct text item_id)
{
    return ids_find(&graph->nodes.item_ids, item_id, ids_hash(item_id));
}

struct text graph_user_id(const struct graph *graph, uint32_t user)
{
    return ids_text(&graph->nodes.user_ids, user);
}

struct text graph_item_id(const struct graph *graph, uint32_t item)
{
    return ids_text(&graph->nodes.item_ids, item);
}

void graph_item(const struct graph *graph, uint32_t item, struct text *title, const struct attribute **attributes,
                size_t *attribute_count)
{
    static const struct description none = {0};
    const struct description *description = graph->nodes.items[item].description;
    if (description == NULL)
        description = &none;
    *title = description->title;
    *attributes = description->attributes;
    *attribute_count = description->attribute_count;
}

const uint32_t *graph_item_values(const struct graph *graph, uint32_t item, size_t *count)
{
    *count = graph->nodes.items[item].value_count;
    return graph->nodes.items[item].values;
}

void graph_user(const struct graph *graph, uint32_t user, const struct attribute **profile, size_t *profile_count)
{
    const struct description *description = graph->nodes.users[user].profile;
    *profile = description == NULL ? NULL : description->attributes;
    *profile_count = description == NULL ? 0 : description->attribute_count;
}

const struct edge *graph_user_edges(const struct graph *graph, uint32_t user, size_t *count)
{
    *count = graph->nodes.users[user].edges.count;
    return graph->nodes.users[user].edges.at;
}

const struct edge *graph_item_edges(const struct graph *graph, uint32_t item, size_t *count)
{
    *count = graph->nodes.items[item].edges.count;
    return graph->nodes.items[item].edges.at;
}

size_t graph_edges_before(const struct edge *edges, size_t count, int64_t before_ms)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (edges[middle].timestamp_ms < before_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct history {
    const struct graph *graph;
    int64_t start_ms; /* what is earlier has fallen out of the window */
    struct edge *out;
    uint64_t *sequences; /* of out, to order events of one time: their keys do not */
    size_t count;
    size_t limit;
};

static int take_history(void *context, struct text key, struct text value, struct error *err)
{
    struct history *history = context;
    struct event event;
    if (event_decode(key, value, &event, err) != 0)
        return -1;
    if (event.timestamp_ms < history->start_ms)
        return SCAN_STOP;
    if (event.sequence >= history->graph->events)
        return SCAN_GO_ON; /* of a batch that is written and not in memory yet */
    size_t place = history->count;
    while (place > 0 && history->out[place - 1].timestamp_ms == event.timestamp_ms &&
           history->sequences[place - 1] < event.sequence)
        place--;
    if (place == history->limit)
        return history->out[place - 1].timestamp_ms > event.timestamp_ms ? SCAN_STOP : SCAN_GO_ON;

    if (history->count < history->limit)
        history->count++;
    size_t behind = history->count - place - 1;
    memmove(history->out + place + 1, history->out + place, behind * sizeof *history->out);
    memmove(history->sequences + place + 1, history->sequences + place, behind * sizeof *history->sequences);
    history->out[place] = graph_edge_of(history->graph, &event, event.item);
    history->sequences[place] = event.sequence;
    return SCAN_GO_ON;
}

size_t graph_history(struct graph *graph, uint32_t user, int64_t before_ms, size_t limit, struct edge *out)
{
    if (limit == 0 || before_ms <= 0 || user == GRAPH_NONE)
        return 0;
    struct history history = {.graph = graph, .out = out, .limit = limit};
    if (graph->settings.window_ms > 0)
        history.start_ms = graph->newest_event_ms - graph->settings.window_ms;
    history.sequences = calloc(limit, sizeof *history.sequences);
    if (history.sequences == NULL) {
        log_error("graph", "out of memory for %zu events of history", limit);
        return 0;
    }
    uint8_t prefix[EVENT_PREFIX_SIZE], start[EVENT_PREFIX_SIZE + 8];
    event_prefix(prefix, 'h', user);
    event_history_start(start, user, before_ms);
    struct error err;
    if (store_scan(&graph->store, FAMILY_EDGES, (struct text){(const char *)prefix, sizeof prefix},
                   (struct text){(const char *)start, sizeof start}, take_history, &history, &err) != 0) {
        log_error("graph", "history not read: %s", err.message);
        history.count = 0;
    }
    free(history.sequences);
    return history.count;
}

static void read_embedding(const struct graph *graph, uint32_t number, float *out)
{
    if (number == GRAPH_NONE)
        memset(out, 0, graph->settings.dimension * sizeof *out);
    else
        embedding_read(graph->nodes.embedding, number, out);
}

void graph_user_embedding(const struct graph *graph, uint32_t user, float *out)
{
    read_embedding(graph, graph->nodes.users[user].embedding, out);
}

void graph_item_embedding(const struct graph *graph, uint32_t item, float *out)
{
    read_embedding(graph, graph->nodes.items[item].embedding, out);
}

int graph_embed_history(const struct graph *graph, const uint32_t *items, size_t count, float *out, struct error *err)
{
    uint32_t *numbers = malloc((count + 1) * sizeof *numbers);
    size_t kept = 0;
    if (numbers == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a history of %zu items", count);
    for (size_t i = 0; i < count; i++)
        if (items[i] != GRAPH_NONE && graph->nodes.items[items[i]].embedding != GRAPH_NONE)
            numbers[kept++] = graph->nodes.items[items[i]].embedding;
    embedding_read_mean_of(graph->nodes.embedding, numbers, kept, out);
    free(numbers);
    return 0;
}

float graph_user_angle(const struct graph *graph, uint32_t user)
{
    uint32_t number = graph->nodes.users[user].embedding;
    return number == GRAPH_NONE ? 0.0f : embedding_angle(graph->nodes.embedding, number);
}

const struct graph_settings *graph_settings(const struct graph *graph)
{
    return &graph->settings;
}
