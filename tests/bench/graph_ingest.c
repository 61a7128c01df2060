/*
 * Events a second from bytes to the graph, and those of the same keys, ids, counts and offsets written raw with the
 * same batches and options, in the order of the events. (The graph puts its batches in order of key, which is why it
 * may be the faster of both: store_batch.c.) The stream is cut into slices, each written by both, one after the other,
 * the first to go changing; before a slice is timed both stores have come to rest. In a round both begin with empty
 * stores. What counts is the median, over all slices, of the raw writer's time by the graph's.
 *
 * Flags: --directory --ratings | --users --item-count --events, --rounds --slices --no-push --verify --keep
 */
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "graph/state.h"
#include "graph_bench.h"

enum { TIMES_LIMIT = 64 };

struct ingest {
    const struct flags *flags;
    struct stream stream;
    struct codec *codec;
    char directories[2][512]; /* graph, raw */
    struct graph *graph;
    struct raw_writer raw;
    double wall[2][TIMES_LIMIT], thread[2][TIMES_LIMIT]; /* (graph, raw) of each slice, microseconds an event */
    size_t times;
};

static uint64_t database_number(const struct store *store, const char *property)
{
    uint64_t number = 0;
    return rocksdb_property_int(store->database, property, &number) == 0 ? number : 0;
}

static void rest(const struct store *store)
{
    static const char *const busy[] = {"rocksdb.num-running-flushes", "rocksdb.num-running-compactions",
                                       "rocksdb.mem-table-flush-pending", "rocksdb.compaction-pending"};
    double end = wall_seconds() + 60;
    for (size_t i = 0; i < sizeof busy / sizeof *busy && wall_seconds() < end;) {
        bool waits = database_number(store, busy[i]) > 0;
        i = waits ? 0 : i + 1;
        if (waits)
            usleep(10000);
    }
}

static int write_slice(struct ingest *ingest, bool raw, size_t from, size_t to, struct error *err)
{
    rest(&ingest->graph->store);
    rest(&ingest->raw.store);
    double wall = wall_seconds(), thread = thread_seconds();
    int result = raw ? raw_writes(&ingest->raw, &ingest->stream, from, to, err)
                     : graph_writes(ingest->graph, ingest->codec, &ingest->stream, from, to, err);
    ingest->wall[raw][ingest->times] = (wall_seconds() - wall) * 1e6 / (double)(to - from);
    ingest->thread[raw][ingest->times] = (thread_seconds() - thread) * 1e6 / (double)(to - from);
    return result;
}

static int write_slices(struct ingest *ingest, struct error *err)
{
    size_t slices = ingest->flags->slices;
    for (size_t i = 0; i < slices; i++) {
        size_t from = ingest->stream.count * i / slices / BATCH * BATCH;
        size_t to = i + 1 == slices ? ingest->stream.count : ingest->stream.count * (i + 1) / slices / BATCH * BATCH;
        bool first = ingest->times % 2 == 1;
        if (write_slice(ingest, first, from, to, err) != 0 || write_slice(ingest, !first, from, to, err) != 0)
            return -1;
        fprintf(stderr, "  %8zu events: graph %6.2f us an event, raw %6.2f (writer's CPU %.2f and %.2f)\n", to,
                ingest->wall[0][ingest->times], ingest->wall[1][ingest->times], ingest->thread[0][ingest->times],
                ingest->thread[1][ingest->times]);
        ingest->times++;
    }
    return 0;
}

static int take_in(void *context, struct text key, struct text value, struct error *err)
{
    (void)err;
    XXH3_64bits_update(context, key.data, key.size);
    XXH3_64bits_update(context, value.data, value.size);
    return SCAN_GO_ON;
}

static int hash_family(const struct store *store, enum family family, uint64_t *hash, struct error *err)
{
    static const struct text all = {"", 0};
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    int result = store_scan((struct store *)store, family, all, all, take_in, state, err);
    *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return result;
}

/* A ratio of two that do not write the same would mean nothing. */
static int verify(const struct ingest *ingest, struct error *err)
{
    for (int family = FAMILY_META; family < FAMILY_COUNT; family++) {
        uint64_t graph, raw;
        if (hash_family(&ingest->graph->store, (enum family)family, &graph, err) != 0 ||
            hash_family(&ingest->raw.store, (enum family)family, &raw, err) != 0)
            return -1;
        if (graph != raw)
            return error_set(err, ERROR_FATAL,
                             "the graph and the raw writer have written different keys or values (family %d)", family);
    }
    return 0;
}

static int run_round(struct ingest *ingest, struct error *err)
{
    struct graph_settings settings = bench_settings(ingest->directories[0]);
    if (ingest->flags->no_push) {
        settings.edges = GRAPH_EDGES_LIKES;
        settings.like_threshold = 1e9;
    }
    if (graph_open(&ingest->graph, &settings, err) != 0)
        return -1;
    if (raw_open(&ingest->raw, ingest->directories[1], &ingest->stream, err) != 0) {
        graph_close(ingest->graph);
        return -1;
    }
    int result = write_slices(ingest, err);
    if (result == 0 && ingest->flags->verify)
        result = verify(ingest, err);
    raw_close(&ingest->raw);
    graph_close(ingest->graph);
    remove_directory(ingest->directories[1]);
    if (result != 0 || !ingest->flags->keep)
        remove_directory(ingest->directories[0]);
    return result;
}

static void tell(struct ingest *ingest)
{
    double wall[TIMES_LIMIT], thread[TIMES_LIMIT];
    for (size_t i = 0; i < ingest->times; i++) {
        wall[i] = ingest->wall[1][i] / ingest->wall[0][i];
        thread[i] = ingest->thread[1][i] / ingest->thread[0][i];
    }
    printf("ratio %.4f\nratio_cpu %.4f\ngraph_us %.3f\nraw_us %.3f\n", median(wall, ingest->times),
           median(thread, ingest->times), median(ingest->wall[0], ingest->times),
           median(ingest->wall[1], ingest->times));
}

int bench_ingest(const struct flags *flags, struct error *err)
{
    struct ingest ingest = {.flags = flags};
    int result = -1;
    snprintf(ingest.directories[0], sizeof ingest.directories[0], "%s", flags->directory);
    snprintf(ingest.directories[1], sizeof ingest.directories[1], "%s-raw", flags->directory);
    if (flags->rounds * flags->slices > TIMES_LIMIT)
        return error_set(err, ERROR_BAD_INPUT, "at most %d rounds and slices", TIMES_LIMIT);
    if (codec_create(&ingest.codec, err) != 0)
        return -1;
    if (stream_open(&ingest.stream, flags, err) != 0 || stream_encode(&ingest.stream, ingest.codec, err) != 0)
        goto out;
    for (size_t i = 0; i < flags->rounds; i++) {
        remove_directory(ingest.directories[0]);
        remove_directory(ingest.directories[1]);
        if (run_round(&ingest, err) != 0)
            goto out;
    }
    tell(&ingest);
    result = 0;
out:
    stream_close(&ingest.stream);
    codec_destroy(ingest.codec);
    return result;
}
