/*
 * Similar users among all of them, through similar_global(), and a plain read of the very memory that such a query goes
 * through, by turns and on as many threads. The store comes from the raw writer: here it is only to be loaded.
 *
 * Flags: --directory --users --item-count --events
 */
#include "base/random.h"
#include "graph/similar.h"
#include "graph/similar_table.h"
#include "graph/state.h"
#include "graph_bench.h"

enum { QUERIES = 60, QUERIES_FIRST = 5, FOUND = 4, TASKS = 4 /* a chunk */ };

typedef uint64_t words __attribute__((vector_size(64)));

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

struct plain_read {
    const struct similar_table *table;
    uint64_t sums[1024]; /* by worker, 64 bytes apart */
};

WIDEST static uint64_t read_memory(const void *memory, size_t size)
{
    const words *at = memory;
    words sums[4] = {{0}, {0}, {0}, {0}};
    for (size_t i = 0; i + 4 <= size / sizeof *at; i += 4)
        for (size_t j = 0; j < 4; j++)
            sums[j] += at[i + j];
    words sum = sums[0] + sums[1] + sums[2] + sums[3];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static size_t chunk_bytes(const struct similar_table *table)
{
    return TABLE_CHUNK * (table->stride + 2 * sizeof(float));
}

static void read_part(void *job, size_t index, size_t worker)
{
    struct plain_read *job_read = job;
    size_t size = chunk_bytes(job_read->table) / TASKS;
    const char *rows = (const char *)job_read->table->chunks[index / TASKS].rows;
    job_read->sums[worker % 128 * 8] += read_memory(rows + index % TASKS * size, size);
}

static double time_plain_read(const struct similar_table *table, struct pool *pool, uint64_t *sum)
{
    static struct plain_read job;
    job.table = table;
    double start = wall_seconds();
    if (pool != NULL)
        pool_run(pool, table->chunk_count * TASKS, read_part, &job);
    else
        for (size_t i = 0; i < table->chunk_count * TASKS; i++)
            read_part(&job, i, 0);
    double elapsed = wall_seconds() - start;
    *sum += job.sums[0];
    return elapsed;
}

static double time_query(struct graph *graph, uint32_t user, size_t *found)
{
    float query[DIMENSION];
    struct similar_user similar[FOUND];
    graph_read_lock(graph);
    graph_user_embedding(graph, user, query);
    double start = wall_seconds();
    *found += similar_global(graph, query, user, FOUND, similar);
    double elapsed = wall_seconds() - start;
    graph_read_unlock(graph);
    return elapsed;
}

static int time_queries(struct graph *graph, struct error *err)
{
    double queries[QUERIES], reads[QUERIES], ratios[QUERIES];
    const struct similar_table *table = graph->similar_table;
    size_t users = graph_counts(graph).users, bytes = chunk_bytes(table) * table->chunk_count, found = 0;
    struct pool *pool = table->pool == NULL ? NULL : pool_create(pool_threads(table->pool));
    struct random random = {1};
    uint64_t sum = 0;
    for (size_t i = 0; i < QUERIES_FIRST + QUERIES; i++) {
        size_t at = i < QUERIES_FIRST ? 0 : i - QUERIES_FIRST;
        queries[at] = time_query(graph, (uint32_t)random_below(&random, users), &found);
        reads[at] = time_plain_read(table, pool, &sum);
        ratios[at] = reads[at] / queries[at];
    }
    pool_destroy(pool);
    if (found != (QUERIES_FIRST + QUERIES) * FOUND)
        return error_set(err, ERROR_FATAL, "%zu similar users found, not %d a query", found, FOUND);
    double query = median(queries, QUERIES), read = median(reads, QUERIES);
    fprintf(stderr, "  plain reads' sum %llx\n", (unsigned long long)sum); /* or nothing need be read */
    printf("ratio %.4f\nquery_ms %.4f\nquery_ms_p99 %.4f\nquery_gb_s %.3f\nread_gb_s %.3f\nusers %zu\n",
           median(ratios, QUERIES), query * 1e3, quantile(queries, QUERIES, 0.99) * 1e3, (double)bytes / query * 1e-9,
           (double)bytes / read * 1e-9, users);
    return 0;
}

static int write_store(const struct flags *flags, struct error *err)
{
    struct flags made = *flags;
    struct stream stream;
    struct raw_writer raw;
    made.every_user = true;
    remove_directory(flags->directory);
    int result = stream_open(&stream, &made, err);
    if (result == 0)
        result = raw_open(&raw, flags->directory, &stream, err);
    if (result == 0) {
        result = raw_writes(&raw, &stream, 0, stream.count, err);
        raw_close(&raw);
    }
    stream_close(&stream);
    return result;
}

int bench_scan(const struct flags *flags, struct error *err)
{
    struct graph_settings settings = bench_settings(flags->directory);
    struct graph *graph = NULL;
    settings.similar_table = true;
    int result = write_store(flags, err);
    if (result == 0)
        result = graph_open(&graph, &settings, err);
    if (result == 0)
        result = time_queries(graph, err);
    graph_close(graph);
    remove_directory(flags->directory);
    return result;
}
