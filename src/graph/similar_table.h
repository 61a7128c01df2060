/*
 * similar_table.h - the directions of all users' embeddings in 8-bit integers, to be searched at the speed of memory
 *
 * A user takes its dimension in bytes, rounded up to a multiple of 64, and 8 bytes for scale and error. The error is
 * the true distance of the row from the direction it stands for, so what a search leaves out is certain: no user whose
 * cosine is among the k highest, ties included, is missed. Who of those returned really belongs there, the embeddings
 * themselves have to tell.
 *
 * Threads: as the graph that it belongs to: many searches at a time, or one writer. A large table is searched by
 * several threads, by one search at a time; another one meanwhile makes do with its own.
 */
#ifndef HEADRACE_GRAPH_SIMILAR_TABLE_H
#define HEADRACE_GRAPH_SIMILAR_TABLE_H

#include <pthread.h>

#include "base/error.h"
#include "base/pool.h"
#include "graph/similar_scan.h"

enum {
    TABLE_CHUNK = 1 << 15, /* users */
    TABLE_LEADERS = 16,
};

struct similar_chunk {
    int8_t *rows; /* (TABLE_CHUNK, stride) */
    float *scales, *errors;
};

struct similar_table {
    size_t dimension, stride;
    struct similar_chunk *chunks;
    size_t chunk_count, chunk_capacity;
    scan_select *select;
    struct pool *pool; /* NULL: the table is small */
    pthread_mutex_t pool_free;
};

/* Dimension: at most SCAN_DIMENSION_LIMIT. NULL with ERROR_FATAL without memory. */
struct similar_table *similar_table_create(size_t dimension, struct error *err);
void similar_table_destroy(struct similar_table *table);

/* Room for users 0 .. count - 1; new ones are found by nobody. */
int similar_table_reserve(struct similar_table *table, size_t count, struct error *err);

/* The user's embedding, `dimension` finite floats of any length; zeros: is found by nobody. */
void similar_table_set(struct similar_table *table, uint32_t user, const float *embedding);

/*
 * Everyone who may be among the k with the highest cosine to `query`, ties included: the TABLE_LEADERS with the highest
 * bounds first, the others in any order. *hits is the caller's to free(). A query of zeros finds nobody. -1: no memory,
 * *hits is NULL.
 */
int similar_table_search(struct similar_table *table, const float *query, size_t k, struct similar_hit **hits,
                         size_t *count);

/* Memory held, bytes. */
size_t similar_table_bytes(const struct similar_table *table);

#endif
