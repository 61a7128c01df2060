#include "graph/similar_table.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"

enum {
    HUGE_PAGE = 2 << 20,
    STEP = 1024,     /* users between two looks at who is out of the question */
    POOL_CHUNKS = 4, /* fewer are not worth waking threads for */
    THREADS_MOST = 8,
    QUERY_MOST = 32767,
    ROW_MOST = 127,
};

/* Error of a row that stands for nobody: its bound is below every cosine's. */
static const float NOBODY = -4.0f;

/* More than the rounding of a bound can come to: it is about 1, and worked out in seven steps. */
static const double ROUNDING = 1e-6;

struct similar_table *similar_table_create(size_t dimension, struct error *err)
{
    struct similar_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for the table of similar users");
        return NULL;
    }
    table->dimension = dimension;
    table->stride = (dimension + SCAN_STRIDE - 1) / SCAN_STRIDE * SCAN_STRIDE;
    table->select = scan_pick();
    pthread_mutex_init(&table->pool_free, NULL);
    return table;
}

void similar_table_destroy(struct similar_table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->chunk_count; i++)
        free(table->chunks[i].rows);
    free(table->chunks);
    pool_destroy(table->pool);
    pthread_mutex_destroy(&table->pool_free);
    free(table);
}

static size_t chunk_size(const struct similar_table *table)
{
    size_t size = TABLE_CHUNK * (table->stride + 2 * sizeof(float));
    return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

size_t similar_table_bytes(const struct similar_table *table)
{
    return table->chunk_count * chunk_size(table);
}

/* One allocation: rows, scales, errors. */
static int add_chunk(struct similar_table *table)
{
    if (array_reserve(&table->chunks, &table->chunk_capacity, table->chunk_count + 1, sizeof *table->chunks) != 0)
        return -1;
    size_t rows_size = TABLE_CHUNK * table->stride;
    char *memory = aligned_alloc(HUGE_PAGE, chunk_size(table));
    if (memory == NULL)
        return -1;
    (void)madvise(memory, chunk_size(table), MADV_HUGEPAGE);
    struct similar_chunk *chunk = &table->chunks[table->chunk_count++];
    chunk->rows = (int8_t *)memory;
    chunk->scales = (float *)(void *)(memory + rows_size);
    chunk->errors = chunk->scales + TABLE_CHUNK;
    memset(chunk->rows, 0, rows_size);
    for (size_t i = 0; i < TABLE_CHUNK; i++) {
        chunk->scales[i] = 0;
        chunk->errors[i] = NOBODY;
    }
    return 0;
}

static void start_pool(struct similar_table *table)
{
    long threads = sysconf(_SC_NPROCESSORS_ONLN);
    if (table->pool == NULL && table->chunk_count >= POOL_CHUNKS && threads > 1)
        table->pool = pool_create(threads < THREADS_MOST ? (size_t)threads : THREADS_MOST);
}

int similar_table_reserve(struct similar_table *table, size_t count, struct error *err)
{
    while (table->chunk_count * TABLE_CHUNK < count)
        if (add_chunk(table) != 0)
            return error_set(err, ERROR_FATAL, "out of memory for the table of %zu similar users", count);
    start_pool(table);
    return 0;
}

/* |vector|, and the largest of its components' sizes; 0: it is 0, or its square is. */
static double length_of(const float *vector, size_t n, double *largest)
{
    double square = 0;
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)vector[i];
        square += x * x;
        *largest = fabs(x) > *largest ? fabs(x) : *largest;
    }
    return sqrt(square);
}

/* Above `exact`, as a float. */
static float above(double exact)
{
    return nextafterf((float)exact, INFINITY);
}

void similar_table_set(struct similar_table *table, uint32_t user, const float *embedding)
{
    struct similar_chunk *chunk = &table->chunks[user / TABLE_CHUNK];
    size_t at = user % TABLE_CHUNK, n = table->dimension;
    int8_t *row = chunk->rows + at * table->stride;
    double largest, length = length_of(embedding, n, &largest);
    chunk->scales[at] = 0;
    chunk->errors[at] = NOBODY;
    if (!(length > 0))
        return;
    chunk->scales[at] = (float)(largest / length / ROW_MOST);
    double scale = (double)chunk->scales[at], to_row = 1 / (length * scale), square = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)embedding[i] * to_row;
        int value = (int)(x + copysign(0.5, x));
        row[i] = (int8_t)value;
        square += (x - value) * (x - value);
    }
    chunk->errors[at] = above(scale * sqrt(square));
}

static bool take_query(struct scan_query *query, const float *vector, size_t n)
{
    *query = (struct scan_query){0};
    double largest, length = length_of(vector, n, &largest), square = 0;
    if (!(length > 0))
        return false;
    query->scale = (float)(largest / length / QUERY_MOST);
    for (size_t i = 0; i < n; i++) {
        double x = (double)vector[i] / length, scale = (double)query->scale;
        double value = fmin(fmax(round(x / scale), -QUERY_MOST), QUERY_MOST);
        query->values[i] = (int16_t)value;
        square += (x - scale * value) * (x - scale * value);
    }
    query->error = above(sqrt(square) + ROUNDING);
    return true;
}

/* One thread's share of a search. */
struct share {
    struct similar_hit *hits;
    size_t count, capacity;
    float *leasts; /* (k) the highest lower bounds so far, highest first */
    size_t least_count;
    bool no_memory;
};

struct search {
    const struct similar_table *table;
    struct scan_query query;
    size_t k;
    struct share shares[THREADS_MOST];
};

static void insert_least(float *leasts, size_t *count, size_t k, float least)
{
    size_t at = *count;
    while (at > 0 && least > leasts[at - 1])
        at--;
    if (at == k)
        return;
    if (*count < k)
        ++*count;
    memmove(leasts + at + 1, leasts + at, (*count - at - 1) * sizeof *leasts);
    leasts[at] = least;
}

/* Who is below is out of the question: there are k who are above. */
static float bar_of(const float *leasts, size_t count, size_t k)
{
    return count < k ? -2.0f : leasts[k - 1];
}

static void keep_hits(struct share *share, float bar)
{
    size_t kept = 0;
    for (size_t i = 0; i < share->count; i++)
        if (share->hits[i].most >= bar)
            share->hits[kept++] = share->hits[i];
    share->count = kept;
}

/* Room for another step; those who are out of the question by now make some. */
static int make_room(struct share *share, float bar)
{
    if (share->count + STEP <= share->capacity)
        return 0;
    keep_hits(share, bar);
    if (share->count + STEP <= share->capacity / 2)
        return 0;
    return array_reserve(&share->hits, &share->capacity, 2 * (share->count + STEP), sizeof *share->hits);
}

static void search_chunk(void *job, size_t index, size_t worker)
{
    struct search *search = job;
    struct share *share = &search->shares[worker];
    const struct similar_chunk *chunk = &search->table->chunks[index];
    size_t stride = search->table->stride;
    for (size_t at = 0; at < TABLE_CHUNK && !share->no_memory; at += STEP) {
        float bar = bar_of(share->leasts, share->least_count, search->k);
        if (make_room(share, bar) != 0) {
            share->no_memory = true;
            return;
        }
        struct scan_rows rows = {chunk->rows + at * stride, chunk->scales + at, chunk->errors + at, stride, STEP};
        struct similar_hit *hits = share->hits + share->count;
        size_t found = search->table->select(&rows, &search->query, bar, hits);
        for (size_t i = 0; i < found; i++) {
            float more = chunk->errors[at + hits[i].user] * (1.0f + search->query.error) + search->query.error;
            insert_least(share->leasts, &share->least_count, search->k, hits[i].most - 2.0f * more);
            hits[i].user += (uint32_t)(index * TABLE_CHUNK + at);
        }
        share->count += found;
    }
}

static void search_chunks(struct similar_table *table, struct search *search)
{
    if (table->pool != NULL && pthread_mutex_trylock(&table->pool_free) == 0) {
        pool_run(table->pool, table->chunk_count, search_chunk, search);
        pthread_mutex_unlock(&table->pool_free);
        return;
    }
    for (size_t i = 0; i < table->chunk_count; i++)
        search_chunk(search, i, 0);
}

static void bring_highest_first(struct similar_hit *hits, size_t count)
{
    for (size_t i = 0; i < count && i < TABLE_LEADERS; i++) {
        size_t highest = i;
        for (size_t j = i + 1; j < count; j++)
            if (hits[j].most > hits[highest].most)
                highest = j;
        struct similar_hit leader = hits[highest];
        hits[highest] = hits[i];
        hits[i] = leader;
    }
}

/* All shares in the first one. */
static int gather(struct search *search)
{
    struct share *all = &search->shares[0];
    for (size_t i = 1; i < THREADS_MOST; i++)
        for (size_t j = 0; j < search->shares[i].least_count; j++)
            insert_least(all->leasts, &all->least_count, search->k, search->shares[i].leasts[j]);
    float bar = bar_of(all->leasts, all->least_count, search->k);
    keep_hits(all, bar);
    for (size_t i = 1; i < THREADS_MOST; i++) {
        struct share *share = &search->shares[i];
        keep_hits(share, bar);
        if (array_reserve(&all->hits, &all->capacity, all->count + share->count, sizeof *all->hits) != 0)
            return -1;
        if (share->count > 0)
            memcpy(all->hits + all->count, share->hits, share->count * sizeof *share->hits);
        all->count += share->count;
    }
    bring_highest_first(all->hits, all->count);
    return 0;
}

int similar_table_search(struct similar_table *table, const float *query, size_t k, struct similar_hit **hits,
                         size_t *count)
{
    struct search search = {.table = table, .k = k};
    float *leasts = calloc(THREADS_MOST, (k + 1) * sizeof *leasts);
    int result = leasts == NULL ? -1 : 0;
    *hits = NULL;
    *count = 0;
    if (result == 0 && k > 0 && take_query(&search.query, query, table->dimension)) {
        for (size_t i = 0; i < THREADS_MOST; i++)
            search.shares[i].leasts = leasts + i * (k + 1);
        search_chunks(table, &search);
        for (size_t i = 0; i < THREADS_MOST; i++)
            result |= search.shares[i].no_memory ? -1 : 0;
        if (result == 0)
            result = gather(&search);
    }
    if (result == 0) {
        *hits = search.shares[0].hits;
        *count = search.shares[0].count;
    }
    for (size_t i = result == 0; i < THREADS_MOST; i++)
        free(search.shares[i].hits);
    free(leasts);
    return result;
}
