#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "graph/embedding.h"
#include "graph/similar_table.h"

/* Users around a few centres; every third is the twin of an earlier one, every tenth has nothing. */
struct crowd {
    size_t dimension, count;
    float *vectors; /* (count, dimension) */
    double *cosines;
    struct similar_table *table;
};

static float normal(struct random *random)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += random_uniform(random);
    return (float)sum;
}

static void make_crowd(struct crowd *crowd, size_t dimension, size_t count, float spread, uint64_t seed)
{
    enum { CENTRES = 50 };
    struct random random = {seed};
    struct error err;
    float *centres = calloc(CENTRES, dimension * sizeof *centres);
    *crowd = (struct crowd){.dimension = dimension, .count = count};
    crowd->vectors = calloc(count, dimension * sizeof *crowd->vectors);
    crowd->cosines = calloc(count, sizeof *crowd->cosines);
    crowd->table = similar_table_create(dimension, &err);
    assert_true(centres && crowd->vectors && crowd->cosines && crowd->table);
    for (size_t i = 0; i < CENTRES * dimension; i++)
        centres[i] = normal(&random);
    assert_int_equal(similar_table_reserve(crowd->table, count, &err), 0);
    for (size_t user = 0; user < count; user++) {
        float *vector = crowd->vectors + user * dimension;
        const float *centre = centres + random_below(&random, CENTRES) * dimension;
        if (user % 10 == 9)
            continue;
        if (user % 3 == 2)
            memcpy(vector, crowd->vectors + random_below(&random, user) * dimension, dimension * sizeof *vector);
        else
            for (size_t i = 0; i < dimension; i++)
                vector[i] = centre[i] + spread * normal(&random);
        similar_table_set(crowd->table, (uint32_t)user, vector);
    }
    free(centres);
}

static void free_crowd(struct crowd *crowd)
{
    similar_table_destroy(crowd->table);
    free(crowd->vectors);
    free(crowd->cosines);
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static bool is_zero(const struct crowd *crowd, size_t user)
{
    for (size_t i = 0; i < crowd->dimension; i++)
        if (crowd->vectors[user * crowd->dimension + i] != 0)
            return false;
    return true;
}

/* The k-th highest cosine; -2: there are fewer. */
static double least_of_top(struct crowd *crowd, const float *query, size_t k)
{
    size_t count = 0;
    for (size_t user = 0; user < crowd->count; user++)
        if (!is_zero(crowd, user))
            crowd->cosines[count++] =
                embedding_cosine(query, crowd->vectors + user * crowd->dimension, crowd->dimension);
    qsort(crowd->cosines, count, sizeof *crowd->cosines, descending);
    return count < k ? -2 : crowd->cosines[k - 1];
}

/* Returns the number of hits. */
static size_t check_search(struct crowd *crowd, const float *query, size_t k)
{
    struct similar_hit *hits;
    size_t count;
    double least = least_of_top(crowd, query, k);
    bool *found = calloc(crowd->count, sizeof *found);
    assert_non_null(found);
    assert_int_equal(similar_table_search(crowd->table, query, k, &hits, &count), 0);
    for (size_t i = 0; i < count; i++) {
        const float *vector = crowd->vectors + hits[i].user * crowd->dimension;
        assert_true((double)hits[i].most >= embedding_cosine(query, vector, crowd->dimension));
        size_t leader = i < TABLE_LEADERS ? i : TABLE_LEADERS;
        assert_true(leader == 0 || hits[i].most <= hits[leader - 1].most);
        assert_false(found[hits[i].user]);
        found[hits[i].user] = true;
    }
    for (size_t user = 0; user < crowd->count; user++)
        if (is_zero(crowd, user))
            assert_false(found[user]);
        else if (!found[user])
            assert_true(embedding_cosine(query, crowd->vectors + user * crowd->dimension, crowd->dimension) < least);
    free(found);
    free(hits);
    return count;
}

static void nobody_among_the_k_most_similar_is_missed(void **state)
{
    (void)state;
    static const struct {
        size_t dimension, count;
        float spread;
    } crowds[] = {{64, 20000, 1}, {64, 3000, 0.01f}, {64, 3000, 0}, {16, 40000, 0.3f}, {48, 2000, 1}, {256, 900, 0.1f}};
    for (size_t i = 0; i < sizeof crowds / sizeof *crowds; i++) {
        struct crowd crowd;
        struct random random = {i};
        make_crowd(&crowd, crowds[i].dimension, crowds[i].count, crowds[i].spread, 7 + i);
        for (size_t round = 0; round < 6; round++) {
            float query[SCAN_DIMENSION_LIMIT];
            size_t user = (size_t)random_below(&random, crowd.count / 10) * 10;
            memcpy(query, crowd.vectors + user * crowd.dimension, crowd.dimension * sizeof *query);
            for (size_t j = 0; round % 2 == 0 && j < crowd.dimension; j++)
                query[j] += 0.2f * normal(&random);
            check_search(&crowd, query, 1 + round * round);
        }
        check_search(&crowd, crowd.vectors, crowd.count + 1); /* all */
        free_crowd(&crowd);
    }
}

struct asker {
    struct crowd *crowd;
    const float *query;
    struct similar_hit *hits;
    size_t count;
};

static void *ask(void *argument)
{
    struct asker *asker = argument;
    similar_table_search(asker->crowd->table, asker->query, 4, &asker->hits, &asker->count);
    return NULL;
}

/* One of them has the pool, the others do without. */
static void a_large_table_answers_many_threads_alike(void **state)
{
    (void)state;
    enum { COUNT = 5 * TABLE_CHUNK - 77, ASKERS = 4 };
    struct crowd crowd;
    struct asker askers[ASKERS];
    pthread_t threads[ASKERS];
    make_crowd(&crowd, 16, COUNT, 0.5f, 3);
    check_search(&crowd, crowd.vectors, 4);
    for (size_t i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){&crowd, crowd.vectors, NULL, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
    }
    for (size_t i = 0; i < ASKERS; i++)
        pthread_join(threads[i], NULL);
    double least = least_of_top(&crowd, crowd.vectors, 4);
    for (size_t i = 0; i < ASKERS; i++) {
        size_t belong = 0;
        for (size_t j = 0; j < askers[i].count; j++)
            belong +=
                embedding_cosine(crowd.vectors, crowd.vectors + askers[i].hits[j].user * crowd.dimension, 16) >= least;
        size_t all = 0;
        while (all < COUNT && crowd.cosines[all] >= least)
            all++;
        assert_int_equal(belong, all);
        free(askers[i].hits);
    }
    free_crowd(&crowd);
}

static void most_users_are_out_of_the_question(void **state)
{
    (void)state;
    struct crowd crowd;
    make_crowd(&crowd, 64, 30000, 1, 5);
    assert_in_range(check_search(&crowd, crowd.vectors, 4), 4, 100);
    free_crowd(&crowd);
}

static void vectors_of_any_length_and_shape_have_their_place(void **state)
{
    (void)state;
    struct crowd crowd = {.dimension = 32, .count = 8};
    float vectors[8][32] = {0};
    double cosines[8];
    struct error err;
    crowd.vectors = vectors[0];
    crowd.cosines = cosines;
    crowd.table = similar_table_create(32, &err);
    assert_int_equal(similar_table_reserve(crowd.table, 8, &err), 0);
    for (size_t i = 0; i < 32; i++) {
        vectors[0][i] = 1e-15f * (float)(i + 1);
        vectors[1][i] = 1e15f * (float)(i + 1);
        vectors[2][i] = i == 5 ? -1.0f : 0.0f;
        vectors[3][i] = i == 5 ? 3.0f : 1e-6f;
        vectors[4][i] = i % 2 == 0 ? 1.0f : -1.0f;
        vectors[5][i] = i == 0 ? 1e-20f : 0.0f; /* its square is 0 in float, not in double */
        vectors[7][i] = -1.0f;
    }
    for (uint32_t user = 0; user < 8; user++)
        similar_table_set(crowd.table, user, vectors[user]);
    for (size_t user = 0; user < 8; user++)
        for (size_t k = 1; k < 8; k++)
            if (user != 6)
                check_search(&crowd, vectors[user], k);
    struct similar_hit *hits;
    size_t count;
    assert_int_equal(similar_table_search(crowd.table, vectors[6], 3, &hits, &count), 0);
    assert_int_equal(count, 0);
    free(hits);
    assert_int_equal(similar_table_search(crowd.table, vectors[0], 0, &hits, &count), 0);
    assert_int_equal(count, 0);
    free(hits);

    memset(vectors[1], 0, sizeof vectors[1]); /* has left */
    similar_table_set(crowd.table, 1, vectors[1]);
    check_search(&crowd, vectors[0], 3);
    memcpy(vectors[1], vectors[4], sizeof vectors[1]); /* is back as somebody else */
    similar_table_set(crowd.table, 1, vectors[1]);
    check_search(&crowd, vectors[4], 1);
    similar_table_destroy(crowd.table);
}

static void every_instruction_set_finds_the_same(void **state)
{
    (void)state;
    enum { COUNT = 512, STRIDE = 256 };
    struct random random = {8};
    int8_t *memory = aligned_alloc(64, COUNT * STRIDE);
    float scales[COUNT], errors[COUNT];
    struct similar_hit expected[COUNT], hits[COUNT];
    struct scan_query query = {.scale = 1e-4f, .error = 3e-5f};
    scan_select *others[2] = {scan_pick(), scan_scalar};
    assert_non_null(memory);
    for (size_t i = 0; i < COUNT * STRIDE; i++)
        memory[i] = (int8_t)(random_next(&random) % 255 - 127);
    for (size_t i = 0; i < STRIDE; i++)
        query.values[i] = (int16_t)(i % 5 == 0 ? 32767 : (int)random_below(&random, 65535) - 32767);
    for (size_t i = 0; i < COUNT; i++) {
        scales[i] = 1e-4f * (float)random_uniform(&random);
        errors[i] = i % 7 == 0 ? -4.0f : 0.01f * (float)random_uniform(&random);
    }
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        others[1] = scan_avx2;
#endif
    for (size_t stride = 64; stride <= STRIDE; stride += 64)
        for (float least = -4; least < 4; least += 0.25f)
            for (size_t count = 16; count <= COUNT; count += 496) {
                struct scan_rows rows = {memory, scales, errors, stride, count};
                size_t found = scan_scalar(&rows, &query, least, expected);
                for (size_t i = 0; i < 2; i++) {
                    assert_int_equal(others[i](&rows, &query, least, hits), found);
                    for (size_t j = 0; j < found; j++)
                        assert_true(hits[j].user == expected[j].user && hits[j].most == expected[j].most);
                }
            }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_among_the_k_most_similar_is_missed),
        cmocka_unit_test(a_large_table_answers_many_threads_alike),
        cmocka_unit_test(most_users_are_out_of_the_question),
        cmocka_unit_test(vectors_of_any_length_and_shape_have_their_place),
        cmocka_unit_test(every_instruction_set_finds_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
