/*
 * `open`: graph_open() of a store. `iterate`: the least that a start can do without an image, on a store in the same
 * state: the same store opened, its pairs read by plain iteration, and one recomputation of all embeddings, on all
 * processors. Bringing the edges into the embeddings, between these two, is not counted.
 *
 * Flags: --directory; open: --save
 */
#include <stdlib.h>

#include "base/pool.h"
#include "graph/records.h"
#include "graph_bench.h"

struct pairs {
    struct pair {
        uint32_t user, item;
    } * at;
    size_t count, capacity;
    uint32_t users, items;
};

static int read_pair(void *context, struct text key, struct text value, struct error *err)
{
    struct pairs *pairs = context;
    struct event event;
    if (pair_decode(key, value, &event, err) != 0)
        return -1;
    if (array_reserve(&pairs->at, &pairs->capacity, pairs->count + 1, sizeof *pairs->at) != 0)
        return error_set(err, ERROR_FATAL, "out of memory");
    pairs->at[pairs->count++] = (struct pair){event.user, event.item};
    pairs->users = event.user >= pairs->users ? event.user + 1 : pairs->users;
    pairs->items = event.item >= pairs->items ? event.item + 1 : pairs->items;
    return SCAN_GO_ON;
}

static int iterate(const char *directory, struct pairs *pairs, double *opened, struct error *err)
{
    static const struct text all = {"", 0};
    struct store store;
    if (store_open(&store, directory, false, err) != 0)
        return -1;
    *opened = wall_seconds();
    int result = store_scan(&store, FAMILY_PAIRS, all, all, read_pair, pairs, err);
    store_close(&store);
    return result;
}

static int add_nodes(struct embedding *embedding, char kind, uint32_t count, struct error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        uint32_t number;
        snprintf(key, sizeof key, "%c:%u", kind, i);
        if (embedding_add_node(embedding, text_of(key), &number, err) != 0)
            return -1;
    }
    return 0;
}

static int load(struct embedding *embedding, const struct pairs *pairs, struct error *err)
{
    if (add_nodes(embedding, 'u', pairs->users, err) != 0 || add_nodes(embedding, 'i', pairs->items, err) != 0)
        return -1;
    for (size_t i = 0; i < pairs->count; i++)
        if (embedding_load_edge(embedding, pairs->at[i].user, pairs->users + pairs->at[i].item, err) != 0)
            return -1;
    return 0;
}

static int time_recompute(const struct pairs *pairs, double *elapsed, struct error *err)
{
    struct embedding_settings settings = {.layers = LAYERS, .dimension = DIMENSION, .epsilon = 0.1f, .budget = BUDGET};
    struct embedding *embedding = embedding_create(&settings, err);
    struct pool *pool = pool_create(processors());
    int result = embedding == NULL || load(embedding, pairs, err) != 0 ? -1 : 0;
    double start = wall_seconds();
    if (result == 0)
        embedding_recompute(embedding, pool);
    *elapsed = wall_seconds() - start;
    pool_destroy(pool);
    embedding_destroy(embedding);
    return result;
}

int bench_iterate(const struct flags *flags, struct error *err)
{
    struct pairs pairs = {0};
    double start = wall_seconds(), opened = 0, recomputed = 0;
    int result = iterate(flags->directory, &pairs, &opened, err);
    double read = wall_seconds();
    if (result == 0)
        result = time_recompute(&pairs, &recomputed, err);
    if (result == 0)
        printf("store_open_s %.4f\niterate_s %.4f\nrecompute_s %.4f\n", opened - start, read - opened, recomputed);
    free(pairs.at);
    return result;
}

int bench_open(const struct flags *flags, struct error *err)
{
    struct graph_settings settings = bench_settings(flags->directory);
    struct graph *graph;
    double start = wall_seconds();
    if (graph_open(&graph, &settings, err) != 0)
        return -1;
    double opened = wall_seconds();
    int result = flags->save ? graph_save(graph, err) : 0;
    printf("open_s %.4f\nsave_s %.4f\nedges %llu\nresident %zu\n", opened - start, wall_seconds() - opened,
           (unsigned long long)graph_counts(graph).edges, anonymous_bytes());
    graph_close(graph);
    return result;
}
