#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "replay/metrics.h"

#define assert_near(value, expected, tolerance) assert_true(fabs((value) - (expected)) <= (tolerance))

enum { ROWS = 300 };

static double auc_of(const double *scores, const bool *labels, size_t count)
{
    struct error err;
    double auc = -1;
    assert_int_equal(metrics_auc(scores, labels, count, &auc, &err), 0);
    return auc;
}

/* The definition: every pair of a yes and a no. */
static double count_pairs(const double *scores, const bool *labels, size_t count)
{
    double wins = 0, pairs = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++)
            if (labels[i] && !labels[j]) {
                pairs++;
                wins += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
            }
    return wins / pairs;
}

static void auc_is_the_share_of_pairs_in_order(void **state)
{
    (void)state;
    struct random random = {7};
    for (int round = 0; round < 20; round++) {
        double scores[ROWS];
        bool labels[ROWS];
        uint64_t levels = 2 + random_below(&random, 40); /* few levels: many ties */
        for (size_t i = 0; i < ROWS; i++) {
            scores[i] = (double)random_below(&random, levels) - 5;
            labels[i] = random_uniform(&random) < 0.3;
        }
        assert_near(auc_of(scores, labels, ROWS), count_pairs(scores, labels, ROWS), 1e-12);
    }
}

static void auc_of_small_cases(void **state)
{
    (void)state;
    const bool labels[] = {false, false, true, true};
    assert_near(auc_of((double[]){1, 2, 3, 4}, labels, 4), 1, 0);
    assert_near(auc_of((double[]){4, 3, 2, 1}, labels, 4), 0, 0);
    assert_near(auc_of((double[]){.1, .4, .35, .8}, labels, 4), 0.75, 0);
    assert_near(auc_of((double[]){5, 5, 5, 5}, labels, 4), 0.5, 0);
    assert_near(auc_of((double[]){-INFINITY, 0, 0, INFINITY}, labels, 4), 0.875, 0);
}

static void auc_of_one_class_is_undefined(void **state)
{
    (void)state;
    const bool yes[] = {true, true};
    assert_true(isnan(auc_of((double[]){1, 2}, yes, 2)));
    assert_true(isnan(auc_of(NULL, NULL, 0)));
}

static void a_score_that_is_no_number_is_refused(void **state)
{
    (void)state;
    const bool labels[] = {false, true, true};
    struct error err;
    double result;
    assert_int_equal(metrics_auc((double[]){1, 2, NAN}, labels, 3, &result, &err), -1);
    assert_non_null(strstr(err.message, "row 2"));
    assert_int_equal(metrics_log_loss((double[]){.1, NAN, .2}, labels, 3, &result, &err), -1);
    assert_non_null(strstr(err.message, "row 1"));
    assert_int_equal(metrics_log_loss((double[]){1.5, .1, .2}, labels, 3, &result, &err), -1);
    struct metrics_interval interval;
    const uint32_t clusters[] = {0, 1, 2};
    assert_int_equal(metrics_auc_interval((double[]){1, NAN, 2}, labels, clusters, 3, 3, 10, 1, &interval, &err), -1);
    assert_int_equal(metrics_auc_interval((double[]){1, 3, 2}, labels, clusters, 3, 2, 10, 1, &interval, &err), -1);
    assert_non_null(strstr(err.message, "cluster 2"));
}

/* All rows of a cluster share a score, and how much the score is worth. */
static void draw(struct random *random, size_t clusters, size_t rows_each, double *scores, bool *labels, uint32_t *of)
{
    for (size_t c = 0, i = 0; c < clusters; c++) {
        double shared = random_uniform(random) * 6 - 3, slope = random_uniform(random) < 0.5 ? 1 : -0.2;
        for (size_t r = 0; r < rows_each; r++, i++) {
            of[i] = (uint32_t)c;
            scores[i] = shared;
            labels[i] = random_uniform(random) < 1 / (1 + exp(-shared * slope));
        }
    }
}

/*
 * The truth is the AUC of the process, taken from one long run; 95 % intervals of 150 short ones must hold it about
 * 95 times in a hundred (0.89 is three standard deviations below, less what 60 clusters cost the percentile method).
 */
static void the_interval_covers_the_truth(void **state)
{
    (void)state;
    enum { LONG = 40000, CLUSTERS = 60, EACH = 5, SHORT = CLUSTERS * EACH, RUNS = 150 };
    double *scores = malloc(LONG * sizeof *scores);
    bool *labels = malloc(LONG * sizeof *labels);
    uint32_t *of = malloc(LONG * sizeof *of);
    struct random random = {11};
    struct error err;
    draw(&random, LONG / EACH, EACH, scores, labels, of);
    double truth = auc_of(scores, labels, LONG);

    int covered = 0, covered_by_rows = 0;
    for (uint64_t run = 0; run < RUNS; run++) {
        struct metrics_interval interval;
        uint32_t alone[SHORT];
        for (uint32_t i = 0; i < SHORT; i++)
            alone[i] = i;
        draw(&random, CLUSTERS, EACH, scores, labels, of);
        assert_int_equal(metrics_auc_interval(scores, labels, of, SHORT, CLUSTERS, 200, run, &interval, &err), 0);
        assert_true(interval.low < interval.high);
        covered += interval.low <= truth && truth <= interval.high;
        assert_int_equal(metrics_auc_interval(scores, labels, alone, SHORT, SHORT, 200, run, &interval, &err), 0);
        covered_by_rows += interval.low <= truth && truth <= interval.high;
    }
    free(scores);
    free(labels);
    free(of);
    print_message("%d of %d intervals hold the truth, %d without clusters\n", covered, RUNS, covered_by_rows);
    assert_in_range(covered, RUNS * 86 / 100, RUNS * 99 / 100);
    assert_true(covered_by_rows < covered - RUNS / 20); /* what clusters are there to mend */
}

static void the_interval_repeats_with_its_seed(void **state)
{
    (void)state;
    double scores[ROWS];
    bool labels[ROWS];
    uint32_t of[ROWS];
    struct random random = {3};
    struct error err;
    struct metrics_interval a, b, c;
    draw(&random, ROWS / 5, 5, scores, labels, of);
    for (size_t i = 0; i < ROWS; i++)
        of[i] *= 10; /* numbers without rows change nothing */
    assert_int_equal(metrics_auc_interval(scores, labels, of, ROWS, ROWS * 2, 500, 1, &a, &err), 0);
    assert_int_equal(metrics_auc_interval(scores, labels, of, ROWS, ROWS * 4, 500, 1, &b, &err), 0);
    assert_int_equal(metrics_auc_interval(scores, labels, of, ROWS, ROWS * 2, 500, 2, &c, &err), 0);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    double auc = auc_of(scores, labels, ROWS);
    assert_true(a.low < auc && auc < a.high);
}

static void the_interval_of_nothing_is_undefined(void **state)
{
    (void)state;
    struct error err;
    struct metrics_interval interval;
    const bool labels[] = {false, true}, yes[] = {true, true};
    assert_int_equal(metrics_auc_interval((double[]){1, 2}, labels, (uint32_t[]){4, 4}, 2, 5, 50, 1, &interval, &err),
                     0);
    assert_true(isnan(interval.low) && isnan(interval.high));
    assert_int_equal(metrics_auc_interval((double[]){1, 2}, yes, (uint32_t[]){0, 1}, 2, 2, 50, 1, &interval, &err), 0);
    assert_true(isnan(interval.low) && isnan(interval.high));
}

static void log_loss_of_a_small_case(void **state)
{
    (void)state;
    struct error err;
    double result;
    const bool labels[] = {true, false, false, false, true};
    assert_int_equal(metrics_log_loss((double[]){.9, .2, 1, 0, .5}, labels, 5, &result, &err), 0);
    assert_near(result, 3.4279493998033326, 1e-9); /* the sure mistake costs log(1e7) = 16.118 */
    assert_int_equal(metrics_log_loss(NULL, NULL, 0, &result, &err), 0);
    assert_true(isnan(result));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auc_is_the_share_of_pairs_in_order),   cmocka_unit_test(auc_of_small_cases),
        cmocka_unit_test(auc_of_one_class_is_undefined),        cmocka_unit_test(a_score_that_is_no_number_is_refused),
        cmocka_unit_test(the_interval_covers_the_truth),        cmocka_unit_test(the_interval_repeats_with_its_seed),
        cmocka_unit_test(the_interval_of_nothing_is_undefined), cmocka_unit_test(log_loss_of_a_small_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
