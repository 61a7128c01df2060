#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "graph/records.h"
#include "graph_bench.h"

struct graph_settings bench_settings(const char *directory)
{
    return (struct graph_settings){
        .directory = directory,
        .like_threshold = 4.0,
        .like_inclusive = true,
        .layers = LAYERS,
        .dimension = DIMENSION,
        .push_threshold = 0.1f,
        .push_budget = BUDGET,
        .seed = 1,
        .result = EMBEDDING_MEAN,
        .edges = GRAPH_EDGES_ALL,
    };
}

static bool ends_batch(const struct stream *stream, size_t i)
{
    return i % BATCH == BATCH - 1 || i + 1 == stream->count;
}

int graph_writes(struct graph *graph, const struct codec *codec, const struct stream *stream, size_t from, size_t to,
                 struct error *err)
{
    struct arena arena;
    int result = 0;
    arena_init(&arena, 0);
    for (size_t i = from; i < to && result == 0; i++) {
        size_t start = i == 0 ? 0 : stream->ends[i - 1];
        struct interaction event;
        enum dead_letter_class class;
        arena_reset(&arena);
        result = codec_decode(codec, &interaction_type, stream->messages.data + start, stream->ends[i] - start, &event,
                              &arena, &class, err);
        if (result == 0)
            result = graph_put_interaction(graph, &event, err);
        if (result == 0 && ends_batch(stream, i))
            result = graph_put_offset(graph, "interactions", 0, (int64_t)i + 1, err);
        if (result == 0 && ends_batch(stream, i))
            result = graph_commit(graph, err);
    }
    arena_free(&arena);
    return result;
}

int raw_open(struct raw_writer *raw, const char *directory, const struct stream *stream, struct error *err)
{
    *raw = (struct raw_writer){0};
    if (store_open(&raw->store, directory, false, err) != 0)
        return -1;
    raw->users = calloc(stream->names, sizeof *raw->users);
    raw->items = calloc(stream->names, sizeof *raw->items);
    if (raw->users != NULL && raw->items != NULL)
        return 0;
    raw_close(raw);
    return error_set(err, ERROR_FATAL, "out of memory");
}

void raw_close(struct raw_writer *raw)
{
    store_close(&raw->store);
    free(raw->users);
    free(raw->items);
}

static void put(struct store *store, enum family family, const void *key, size_t key_size, const void *value,
                size_t size)
{
    rocksdb_writebatch_put_cf(store->batch, store->families[family], key, key_size, value, size);
}

static uint32_t number_of(struct store *store, uint32_t *given, uint32_t *count, char kind, uint32_t name)
{
    if (*given > 0)
        return *given - 1;
    char id[16];
    uint8_t key[5] = {(uint8_t)kind};
    int size = snprintf(id, sizeof id, "%c%u", kind, name);
    bytes_put_32(key + 1, *count);
    put(store, FAMILY_IDS, key, sizeof key, id, (size_t)size);
    *given = ++*count;
    return *given - 1;
}

static void put_event(struct store *store, const struct event *event)
{
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE], pair[PAIR_KEY_SIZE], record[PAIR_VALUE_SIZE];
    event_encode(event, key, value);
    pair_key(pair, event->user, event->item);
    pair_encode(event, record);
    put(store, FAMILY_EDGES, key, sizeof key, value, sizeof value);
    put(store, FAMILY_PAIRS, pair, sizeof pair, record, sizeof record);
}

static int end_batch(struct store *store, uint64_t events, int64_t newest_ms, struct error *err)
{
    static const char partition[] = "interactions\0\0\0\0"; /* and the NUL at its end */
    uint8_t counts[COUNTS_SIZE] = {0}, offset[PLACE_SIZE] = {0};
    bytes_put_64(counts, events);
    bytes_put_64(counts + 8, (uint64_t)newest_ms);
    bytes_put_64(offset, events);
    put(store, FAMILY_COUNTS, "events", 6, counts, sizeof counts);
    put(store, FAMILY_OFFSETS, partition, sizeof partition, offset, sizeof offset);
    return store_write(store, err);
}

/* For streams in order of time without repeats, all of whose events the graph takes in. */
int raw_writes(struct raw_writer *raw, const struct stream *stream, size_t from, size_t to, struct error *err)
{
    for (size_t i = from; i < to; i++) {
        const struct rating *rating = &stream->ratings[i];
        struct event event = {
            .user = number_of(&raw->store, &raw->users[rating->user], &raw->user_count, 'u', rating->user),
            .item = number_of(&raw->store, &raw->items[rating->item], &raw->item_count, 'i', rating->item),
            .timestamp_ms = rating->timestamp_ms,
            .sequence = i,
            .kind = INTERACTION_RATING,
            .label = EVENT_LABEL_NONE,
            .value = rating->value};
        put_event(&raw->store, &event);
        if (ends_batch(stream, i) && end_batch(&raw->store, i + 1, rating->timestamp_ms, err) != 0)
            return -1;
    }
    return 0;
}
