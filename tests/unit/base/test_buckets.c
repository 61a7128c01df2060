#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buckets.h"

static void a_value_counts_under_every_bound_that_it_does_not_pass(void **state)
{
    (void)state;
    struct buckets buckets;
    buckets_init(&buckets, (double[]){1, 2, 5}, 3);
    for (int value = 0; value <= 6; value++)
        buckets_add(&buckets, value);
    struct buckets_counts counts = buckets_read(&buckets);
    assert_int_equal(counts.count, 3);
    assert_int_equal(counts.up_to[0], 2); /* 0 and, on the bound, 1 */
    assert_int_equal(counts.up_to[1], 3);
    assert_int_equal(counts.up_to[2], 6);
    assert_int_equal(counts.up_to[3], 7);
    assert_true(counts.sum == 21);
}

static void what_is_not_finite_does_not_spoil_the_sum(void **state)
{
    (void)state;
    struct buckets buckets;
    buckets_init_seconds(&buckets);
    buckets_add(&buckets, NAN);
    buckets_add(&buckets, INFINITY);
    buckets_add(&buckets, 1000);
    struct buckets_counts counts = buckets_read(&buckets);
    assert_int_equal(counts.up_to[counts.count], 1);
    assert_int_equal(counts.up_to[counts.count - 1], 0);
    assert_true(counts.sum == 1000);
}

static void ready_made_bounds_rise(void **state)
{
    (void)state;
    struct buckets made[2];
    buckets_init_seconds(&made[0]);
    buckets_init_sizes(&made[1]);
    for (int i = 0; i < 2; i++)
        for (size_t bound = 1; bound < made[i].count; bound++)
            assert_true(made[i].bounds[bound] > made[i].bounds[bound - 1]);
    assert_true(made[1].bounds[made[1].count - 1] == 65536);
}

enum { THREADS = 4, VALUES = 20000 };

static void *add_many(void *buckets)
{
    for (int i = 0; i < VALUES; i++)
        buckets_add(buckets, i % 4);
    return NULL;
}

static void threads_that_add_at_once_lose_nothing(void **state)
{
    (void)state;
    struct buckets buckets;
    buckets_init(&buckets, (double[]){0, 1, 2}, 3);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &buckets), 0);
    uint64_t before = 0;
    for (int i = 0; i < 100; i++) {
        struct buckets_counts counts = buckets_read(&buckets);
        assert_true(counts.up_to[0] <= counts.up_to[1] && counts.up_to[2] <= counts.up_to[3]);
        assert_true(counts.up_to[3] >= before);
        before = counts.up_to[3];
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct buckets_counts counts = buckets_read(&buckets);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(counts.up_to[i], (i + 1) * THREADS * VALUES / 4);
    assert_true(counts.sum == 1.5 * THREADS * VALUES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_counts_under_every_bound_that_it_does_not_pass),
        cmocka_unit_test(what_is_not_finite_does_not_spoil_the_sum),
        cmocka_unit_test(ready_made_bounds_rise),
        cmocka_unit_test(threads_that_add_at_once_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
