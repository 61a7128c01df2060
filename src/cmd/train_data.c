/* train_data.c - edges to train on, from a file of events or from the store */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cmd/progress.h"
#include "cmd/setup.h"
#include "cmd/train.h"

enum { MESSAGE_MEMORY = 64 << 20, SHOWN_ERRORS = 10 };

/* An event while edges are worked out; numbers are those of `events.users` and `events.items`. */
struct timed {
    int64_t timestamp_ms;
    uint64_t order; /* in which it came: breaks ties of time */
    uint32_t user, item;
    int8_t verdict;
    bool removal;
};

struct events {
    const struct training_source *source;
    struct table users, items;
    struct timed *timed;
    size_t count, capacity;
    uint64_t wrong_rows;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while reading edges");
}

static int add_event(struct events *events, struct text user_id, struct text item_id, struct timed timed,
                     struct error *err)
{
    timed.user = table_add(&events->users, user_id);
    timed.item = table_add(&events->items, item_id);
    timed.order = events->count;
    if (timed.user == TABLE_NONE || timed.item == TABLE_NONE ||
        array_reserve(&events->timed, &events->capacity, events->count + 1, sizeof *events->timed) != 0)
        return out_of_memory(err);
    events->timed[events->count++] = timed;
    return 0;
}

/* Impressions and kinds of a newer writer are no edges: graph.h. */
static bool concerns_edges(int32_t kind)
{
    return kind != INTERACTION_IMPRESSION && kind != INTERACTION_UNKNOWN;
}

static int take_interaction(struct events *events, const struct graph_settings *settings,
                            const struct interaction *interaction, struct error *err)
{
    if (interaction->user_id.size == 0 || interaction->item_id.size == 0 || interaction->timestamp_ms < 0)
        return error_set(err, ERROR_BAD_INPUT, "%s: an event without user or item, or of a time before 1970",
                         events->source->file->path);
    if (interaction->timestamp_ms >= events->source->before_ms || !concerns_edges(interaction->kind))
        return 0;
    struct timed timed = {
        .timestamp_ms = interaction->timestamp_ms,
        .verdict = (int8_t)graph_verdict(settings, interaction->kind, interaction->has_value, interaction->value,
                                         interaction->has_label, interaction->label),
        .removal = interaction->kind == INTERACTION_REMOVE,
    };
    return add_event(events, interaction->user_id, interaction->item_id, timed, err);
}

static void report_wrong(struct events *events, const struct error *err)
{
    if (events->wrong_rows++ < SHOWN_ERRORS)
        fprintf(stderr, "headrace train: %s\n", err->message);
    else if (events->wrong_rows == SHOWN_ERRORS + 1)
        fprintf(stderr, "headrace train: further bad rows are only counted\n");
}

static int read_rows(struct events *events, struct event_file *file, struct arena *arena, struct error *err)
{
    const struct graph_settings settings = setup_graph(events->source->config, true);
    struct interaction interaction;
    struct progress progress;
    progress_begin(&progress, "reading", "events");
    for (;;) {
        if (*events->source->interrupted)
            return error_set(err, ERROR_FATAL, "interrupted, nothing was written");
        arena_reset(arena);
        int found = event_file_next(file, arena, &interaction, err);
        if (found == 0)
            break;
        if (found < 0 || take_interaction(events, &settings, &interaction, err) != 0) {
            if (err->kind != ERROR_BAD_INPUT)
                return -1;
            report_wrong(events, err);
        }
        progress_show(&progress, events->count, event_file_share(file));
    }
    progress_end(&progress, events->count);
    return 0;
}

static int read_file(struct events *events, struct error *err)
{
    struct event_file *file = NULL;
    struct arena arena;
    arena_init(&arena, MESSAGE_MEMORY);
    int result = event_file_open(&file, events->source->file, err);
    if (result == 0)
        result = read_rows(events, file, &arena, err);
    event_file_close(file);
    arena_free(&arena);
    return result;
}

static int read_user(struct events *events, const struct graph *graph, uint32_t user, struct error *err)
{
    size_t count;
    const struct edge *edges = graph_user_edges(graph, user, &count);
    count = graph_edges_before(edges, count, events->source->before_ms);
    for (size_t i = 0; i < count; i++) {
        struct timed timed = {.timestamp_ms = edges[i].timestamp_ms, .verdict = edges[i].verdict};
        if (add_event(events, graph_user_id(graph, user), graph_item_id(graph, edges[i].other), timed, err) != 0)
            return -1;
    }
    return 0;
}

static int read_store(struct events *events, struct error *err)
{
    struct graph_settings settings = setup_graph(events->source->config, true);
    struct graph *graph;
    if (graph_open(&graph, &settings, err) != 0)
        return -1;
    int result = 0;
    graph_read_lock(graph);
    uint64_t users = graph_counts(graph).users;
    for (uint32_t user = 0; result == 0 && user < users; user++)
        result = read_user(events, graph, user, err);
    graph_read_unlock(graph);
    graph_close(graph);
    return result;
}

static int compare(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_time(const void *a, const void *b)
{
    const struct timed *one = a, *other = b;
    int order = compare((uint64_t)one->timestamp_ms, (uint64_t)other->timestamp_ms); /* none is negative */
    return order != 0 ? order : compare(one->order, other->order);
}

static int by_pair(const void *a, const void *b)
{
    const struct timed *one = a, *other = b;
    int order = compare(one->user, other->user);
    if (order == 0)
        order = compare(one->item, other->item);
    return order != 0 ? order : by_time(a, b);
}

static bool same_pair(const struct timed *one, const struct timed *other)
{
    return one->user == other->user && one->item == other->item;
}

/* Leaves the edges, oldest first. */
static void keep_edges(struct events *events)
{
    size_t kept = 0;
    if (events->count > 0)
        qsort(events->timed, events->count, sizeof *events->timed, by_pair);
    for (size_t i = 0; i < events->count; i++) {
        const struct timed *timed = &events->timed[i];
        if (i + 1 < events->count && same_pair(timed, timed + 1))
            continue;
        if (!timed->removal && (!events->source->likes || timed->verdict == VERDICT_LIKE))
            events->timed[kept++] = *timed;
    }
    events->count = kept;
    if (kept > 0)
        qsort(events->timed, kept, sizeof *events->timed, by_time);
}

static int take_pairs(struct training_data *data, const struct events *events, struct error *err)
{
    for (size_t i = 0; i < data->pair_count; i++) {
        const struct timed *timed = &events->timed[i];
        struct pair pair = {table_add(&data->users, table_key(&events->users, timed->user)),
                            table_add(&data->items, table_key(&events->items, timed->item))};
        if (pair.user == TABLE_NONE || pair.item == TABLE_NONE)
            return out_of_memory(err);
        data->pairs[i] = pair;
    }
    data->first_ms = events->timed[0].timestamp_ms;
    data->last_ms = events->timed[data->pair_count - 1].timestamp_ms;
    return 0;
}

static int by_user(const void *a, const void *b)
{
    const struct pair *one = a, *other = b;
    int order = compare(one->user, other->user);
    return order != 0 ? order : compare(one->item, other->item);
}

/* Ranking everything for everybody after every epoch would cost more than training, with many users. */
static void choose_users(struct training_data *data, uint64_t seed)
{
    size_t users = 0, kept = 0;
    for (size_t i = 0; i < data->held_out_count; i++)
        users += i == 0 || data->held_out[i].user != data->held_out[i - 1].user;
    if (users <= TRAINING_RANKED_USERS)
        return;
    struct random random = {seed};
    bool wanted = false;
    uint32_t last = GRAPH_NONE;
    for (size_t i = 0; i < data->held_out_count; i++) {
        if (data->held_out[i].user != last)
            wanted = random_uniform(&random) < (double)TRAINING_RANKED_USERS / (double)users;
        last = data->held_out[i].user;
        if (wanted)
            data->held_out[kept++] = data->held_out[i];
    }
    data->held_out_count = kept;
}

static void take_held_out(struct training_data *data, const struct events *events, uint64_t seed)
{
    for (size_t i = data->pair_count; i < events->count; i++) {
        struct pair pair = {table_find(&data->users, table_key(&events->users, events->timed[i].user)),
                            table_find(&data->items, table_key(&events->items, events->timed[i].item))};
        if (pair.user != TABLE_NONE && pair.item != TABLE_NONE)
            data->held_out[data->held_out_count++] = pair;
    }
    if (data->held_out_count > 0)
        qsort(data->held_out, data->held_out_count, sizeof *data->held_out, by_user);
    choose_users(data, seed);
}

static int split(struct training_data *data, const struct events *events, struct error *err)
{
    data->held_out_edges = (size_t)llround(events->source->held_share * (double)events->count);
    if (data->held_out_edges >= events->count)
        return error_set(err, ERROR_BAD_INPUT, "no edges to train on: there are %zu%s%s, and %zu are held out",
                         events->count, events->source->likes ? " likes" : "",
                         events->source->before_ms < INT64_MAX ? " in the range of time" : "", data->held_out_edges);
    data->pair_count = events->count - data->held_out_edges;
    data->pairs = malloc(data->pair_count * sizeof *data->pairs);
    data->held_out = malloc((data->held_out_edges + 1) * sizeof *data->held_out);
    if (data->pairs == NULL || data->held_out == NULL)
        return out_of_memory(err);
    if (take_pairs(data, events, err) != 0)
        return -1;
    take_held_out(data, events, events->source->seed);
    if (data->held_out_edges > 0 && data->held_out_count == 0)
        return error_set(err, ERROR_BAD_INPUT,
                         "none of the %zu latest edges is between a user and an item of the earlier ones, so they "
                         "cannot tell when to stop: change --validate, or give --validate 0",
                         data->held_out_edges);
    return 0;
}

int training_data_load(struct training_data *data, const struct training_source *source, struct error *err)
{
    struct events events = {.source = source};
    *data = (struct training_data){0};
    int result = source->file != NULL ? read_file(&events, err) : read_store(&events, err);
    data->wrong_rows = events.wrong_rows;
    if (result == 0) {
        keep_edges(&events);
        result = split(data, &events, err);
    }
    if (result != 0)
        training_data_free(data);
    table_free(&events.users);
    table_free(&events.items);
    free(events.timed);
    return result;
}

void training_data_free(struct training_data *data)
{
    table_free(&data->users);
    table_free(&data->items);
    free(data->pairs);
    free(data->held_out);
    *data = (struct training_data){0};
}
