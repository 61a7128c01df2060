/*
 * The writer's path from bytes to the graph, against the same keys and values written raw: events as Avro messages are
 * decoded, staged, committed by the thousand with their offset. Rounds of both in turn; the ratio of the medians.
 *
 *   bench_ingest --directory DIR [--ratings FILE.inter] [--users N --items N --events N] [--rounds N] [--no-push]
 *
 * Without --ratings the stream is synthetic: users and items by a power law. The directory must exist; what the bench
 * makes there goes again. With --no-push no edge is in the embeddings.
 */
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/random.h"
#include "graph/graph.h"
#include "graph/records.h"
#include "graph/store.h"
#include "replay/event_file.h"
#include "wire/codec.h"

enum { BATCH = 1000, ROUNDS_LIMIT = 15 };

struct flags {
    const char *directory, *ratings;
    size_t users, items, events;
    size_t rounds;
    bool no_push;
};

struct rating {
    uint32_t user, item;
    int64_t timestamp_ms;
    double value;
};

struct bench {
    struct flags flags;
    struct codec *codec;
    struct rating *ratings;
    size_t count, capacity;
    struct buffer messages;
    size_t *ends; /* (count) of each message */
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int append(struct bench *bench, struct rating rating, struct error *err)
{
    if (array_reserve(&bench->ratings, &bench->capacity, bench->count + 1, sizeof rating) != 0)
        return error_set(err, ERROR_FATAL, "out of memory");
    bench->ratings[bench->count++] = rating;
    return 0;
}

static int compare_ratings(const void *a, const void *b)
{
    const struct rating *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? -1 : 1;
    return x->user != y->user ? (x->user < y->user ? -1 : 1) : (x->item > y->item) - (x->item < y->item);
}

static int read_ratings(struct bench *bench, struct error *err)
{
    struct event_file_settings settings = {
        .path = bench->flags.ratings, .type = &interaction_type, .kind = INTERACTION_RATING};
    struct event_file *file;
    struct arena arena;
    struct interaction event;
    int more;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    arena_init(&arena, 0);
    while ((more = event_file_next(file, &arena, &event, err)) == 1) {
        char user[16], item[16];
        snprintf(user, sizeof user, TEXT_FORMAT, TEXT_ARGS(event.user_id));
        snprintf(item, sizeof item, TEXT_FORMAT, TEXT_ARGS(event.item_id));
        struct rating rating = {(uint32_t)atoi(user), (uint32_t)atoi(item), event.timestamp_ms, event.value};
        if (append(bench, rating, err) != 0)
            return -1;
        arena_reset(&arena);
    }
    arena_free(&arena);
    event_file_close(file);
    qsort(bench->ratings, bench->count, sizeof *bench->ratings, compare_ratings);
    return more;
}

/* Rank r of n with probability about r^-exponent. */
static uint32_t power_law(struct random *random, size_t n, double exponent)
{
    uint64_t rank = (uint64_t)((double)n * pow(random_uniform(random), 1.0 / (1.0 - exponent)));
    return (uint32_t)(rank * 2654435761u % n); /* numbers do not tell ranks */
}

static int make_ratings(struct bench *bench, struct error *err)
{
    struct random random = {1};
    for (size_t i = 0; i < bench->flags.events; i++) {
        struct rating rating = {power_law(&random, bench->flags.users, 0.6),
                                power_law(&random, bench->flags.items, 0.8), 1600000000000 + (int64_t)i * 10,
                                1.0 + (double)random_below(&random, 5)};
        if (append(bench, rating, err) != 0)
            return -1;
    }
    return 0;
}

static int encode(struct bench *bench, struct error *err)
{
    bench->ends = calloc(bench->count + 1, sizeof *bench->ends);
    if (bench->ends == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    for (size_t i = 0; i < bench->count; i++) {
        const struct rating *rating = &bench->ratings[i];
        char user[16], item[16];
        snprintf(user, sizeof user, "u%u", rating->user);
        snprintf(item, sizeof item, "i%u", rating->item);
        struct interaction event = {.user_id = text_of(user),
                                    .item_id = text_of(item),
                                    .timestamp_ms = rating->timestamp_ms,
                                    .kind = INTERACTION_RATING,
                                    .has_value = true,
                                    .value = rating->value};
        if (codec_encode(bench->codec, &interaction_type, &event, &bench->messages, err) != 0)
            return -1;
        bench->ends[i] = bench->messages.size;
    }
    return 0;
}

/* What both have done. */
struct time {
    double wall, thread;
};

static struct graph_settings graph_of(const struct bench *bench, const char *directory)
{
    return (struct graph_settings){
        .directory = directory,
        .like_threshold = bench->flags.no_push ? 1e9 : 4.0,
        .like_inclusive = true,
        .layers = 3,
        .dimension = 64,
        .push_threshold = 0.1f,
        .push_budget = 256,
        .seed = 1,
        .edges = bench->flags.no_push ? GRAPH_EDGES_LIKES : GRAPH_EDGES_ALL,
    };
}

static void tell_graph(struct graph *graph)
{
    struct graph_counts counts = graph_counts(graph);
    struct graph_memory memory = graph_memory(graph);
    double nodes = (double)(counts.users + counts.items), ends = 2.0 * (double)counts.edges;
    printf("    %.0f nodes, %llu edges; bytes a node: ids %.0f nodes %.0f embeddings %.0f limits %.0f; a list entry: "
           "%.1f; %.0f operations an event, bound %.3f\n",
           nodes, (unsigned long long)counts.edges, (double)memory.ids / nodes, (double)memory.nodes / nodes,
           (double)memory.embeddings / nodes, (double)memory.limits / nodes, (double)memory.edges / ends,
           (double)counts.embedding_operations / (double)counts.events, (double)counts.embedding_bound);
}

static int run_graph(const struct bench *bench, const char *directory, struct time *time, struct error *err)
{
    struct graph_settings settings = graph_of(bench, directory);
    struct graph *graph;
    struct arena arena;
    int result = 0;
    arena_init(&arena, 0);
    if (graph_open(&graph, &settings, err) != 0)
        return -1;
    double wall = seconds(CLOCK_MONOTONIC), thread = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < bench->count && result == 0; i++) {
        size_t from = i == 0 ? 0 : bench->ends[i - 1];
        struct interaction event;
        enum dead_letter_class class;
        arena_reset(&arena);
        result = codec_decode(bench->codec, &interaction_type, bench->messages.data + from, bench->ends[i] - from,
                              &event, &arena, &class, err);
        if (result == 0)
            result = graph_put_interaction(graph, &event, err);
        if (result == 0 && (i % BATCH == BATCH - 1 || i + 1 == bench->count))
            result =
                graph_put_offset(graph, "interactions", 0, (int64_t)i + 1, err) != 0 || graph_commit(graph, err) != 0
                    ? -1
                    : 0;
    }
    *time = (struct time){seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_THREAD_CPUTIME_ID) - thread};
    tell_graph(graph);
    graph_close(graph);
    arena_free(&arena);
    return result;
}

static int count_record(void *context, struct text key, struct text value, struct error *err)
{
    (void)value;
    (void)err;
    *(size_t *)context += key.size;
    return SCAN_GO_ON;
}

/* Opening the graph anew, beside plain iteration of its pairs. */
static int time_restart(const struct bench *bench, const char *directory, struct error *err)
{
    static const struct text all = {"", 0};
    struct graph_settings settings = graph_of(bench, directory);
    struct store store;
    struct graph *graph;
    size_t bytes = 0;
    double start = seconds(CLOCK_MONOTONIC);
    if (store_open(&store, directory, false, err) != 0)
        return -1;
    double opened = seconds(CLOCK_MONOTONIC);
    int result = store_scan(&store, FAMILY_PAIRS, all, all, count_record, &bytes, err);
    double read = seconds(CLOCK_MONOTONIC);
    store_close(&store);
    double again = seconds(CLOCK_MONOTONIC);
    if (result != 0 || graph_open(&graph, &settings, err) != 0)
        return -1;
    printf("    open %.2f s; the store alone %.2f s, its pairs read %.2f s\n", seconds(CLOCK_MONOTONIC) - again,
           opened - start, read - opened);
    graph_close(graph);
    return 0;
}

/* Puts of one batch, as the graph makes them. */
static void put(struct store *store, enum family family, const void *key, size_t key_size, const void *value,
                size_t size)
{
    store_put(store, family, (struct text){key, key_size}, (struct text){value, size});
}

static void put_new_id(struct store *store, char kind, uint32_t number, uint32_t name)
{
    char id[16];
    uint8_t key[5] = {(uint8_t)kind};
    int size = snprintf(id, sizeof id, "%c%u", kind, name);
    bytes_put_32(key + 1, number);
    put(store, FAMILY_IDS, key, sizeof key, id, (size_t)size);
}

static int run_raw(const struct bench *bench, const char *directory, struct time *time, struct error *err)
{
    struct store store;
    if (store_open(&store, directory, false, err) != 0)
        return -1;
    uint32_t *users = calloc((size_t)1 << 24, sizeof *users), *items = calloc((size_t)1 << 24, sizeof *items);
    uint32_t user_count = 0, item_count = 0;
    int result = 0;
    double wall = seconds(CLOCK_MONOTONIC), thread = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < bench->count && result == 0; i++) {
        const struct rating *rating = &bench->ratings[i];
        uint32_t *user = &users[rating->user], *item = &items[rating->item];
        if (*user == 0)
            put_new_id(&store, 'u', (*user = ++user_count) - 1, rating->user);
        if (*item == 0)
            put_new_id(&store, 'i', (*item = ++item_count) - 1, rating->item);
        struct event event = {.user = *user - 1,
                              .item = *item - 1,
                              .timestamp_ms = rating->timestamp_ms,
                              .sequence = i,
                              .kind = INTERACTION_RATING,
                              .label = EVENT_LABEL_NONE,
                              .value = rating->value};
        uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE], pair[PAIR_KEY_SIZE], record[PAIR_VALUE_SIZE];
        event_encode(&event, key, value);
        pair_key(pair, event.user, event.item);
        pair_encode(&event, record);
        put(&store, FAMILY_EDGES, key, sizeof key, value, sizeof value);
        put(&store, FAMILY_PAIRS, pair, sizeof pair, record, sizeof record);
        if (i % BATCH == BATCH - 1 || i + 1 == bench->count) {
            uint8_t counts[COUNTS_SIZE] = {0}, offset[8];
            bytes_put_64(offset, i + 1);
            put(&store, FAMILY_COUNTS, "events", 6, counts, sizeof counts);
            put(&store, FAMILY_OFFSETS, "interactions\0\0\0\0", 17, offset, sizeof offset);
            result = store_write(&store, err);
        }
    }
    *time = (struct time){seconds(CLOCK_MONOTONIC) - wall, seconds(CLOCK_THREAD_CPUTIME_ID) - thread};
    store_close(&store);
    free(users);
    free(items);
    return result;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int time_one(const struct bench *bench, bool raw, struct time *time, struct error *err)
{
    char directory[512];
    snprintf(directory, sizeof directory, "%s/ingest-%d", bench->flags.directory, (int)getpid());
    int result = (raw ? run_raw : run_graph)(bench, directory, time, err);
    printf("  %s %.2f us an event (writer's CPU %.2f)\n", raw ? "raw  " : "graph",
           time->wall * 1e6 / (double)bench->count, time->thread * 1e6 / (double)bench->count);
    if (result == 0 && !raw)
        result = time_restart(bench, directory, err);
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return result;
}

static int compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, size_t count)
{
    qsort(times, count, sizeof *times, compare_times);
    return times[count / 2];
}

static int compare_both(const struct bench *bench, struct error *err)
{
    double wall[2][ROUNDS_LIMIT], thread[2][ROUNDS_LIMIT];
    size_t rounds = bench->flags.rounds < ROUNDS_LIMIT ? bench->flags.rounds : ROUNDS_LIMIT;
    for (size_t round = 0; round < rounds; round++)
        for (int raw = 0; raw < 2; raw++) {
            struct time time;
            if (time_one(bench, raw == 1, &time, err) != 0)
                return -1;
            wall[raw][round] = time.wall;
            thread[raw][round] = time.thread;
        }
    printf("ratio %.3f (writer's CPU %.3f)\n", median(wall[1], rounds) / median(wall[0], rounds),
           median(thread[1], rounds) / median(thread[0], rounds));
    return 0;
}

static void parse(int argc, char **argv, struct flags *flags)
{
    *flags = (struct flags){.directory = "/tmp", .users = 500000, .items = 50000, .events = 5000000, .rounds = 3};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--no-push") == 0) {
            flags->no_push = true;
            continue;
        }
        if (strcmp(argv[i], "--directory") == 0)
            flags->directory = value;
        else if (strcmp(argv[i], "--ratings") == 0)
            flags->ratings = value;
        else if (strcmp(argv[i], "--users") == 0)
            flags->users = (size_t)atol(value);
        else if (strcmp(argv[i], "--items") == 0)
            flags->items = (size_t)atol(value);
        else if (strcmp(argv[i], "--events") == 0)
            flags->events = (size_t)atol(value);
        else if (strcmp(argv[i], "--rounds") == 0)
            flags->rounds = (size_t)atol(value);
        i++;
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct error err;
    parse(argc, argv, &bench.flags);
    if (codec_create(&bench.codec, &err) != 0 ||
        (bench.flags.ratings != NULL ? read_ratings(&bench, &err) : make_ratings(&bench, &err)) != 0 ||
        encode(&bench, &err) != 0 || compare_both(&bench, &err) != 0) {
        fprintf(stderr, "bench_ingest: %s\n", err.message);
        return 1;
    }
    codec_destroy(bench.codec);
    buffer_free(&bench.messages);
    free(bench.ratings);
    free(bench.ends);
    return 0;
}
