/* Calibration, GAUC and paired differences against recounts that take the definition at its word. */
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

enum { ROWS = 900, USERS = 60, ROUNDS = 400 };

struct rows {
    double truth[ROWS], good[ROWS], poor[ROWS];
    bool labels[ROWS];
    uint32_t users[ROWS];
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* `good` is the truth itself, `poor` the truth under noise. */
static struct rows *draw(uint64_t seed)
{
    static struct rows rows;
    struct random random = {seed};
    double mood[USERS];
    for (size_t u = 0; u < USERS; u++)
        mood[u] = random_uniform(&random) * 2 - 1;
    for (size_t i = 0; i < ROWS; i++) {
        rows.users[i] = (uint32_t)random_below(&random, USERS);
        double x = mood[rows.users[i]] + random_uniform(&random) * 3 - 1.5;
        rows.good[i] = rows.truth[i] = sigmoid(x);
        rows.poor[i] = sigmoid(x + random_uniform(&random) * 4 - 2);
        rows.labels[i] = random_uniform(&random) < rows.truth[i];
    }
    return &rows;
}

static double slow_auc(const double *scores, const bool *labels, const uint32_t *users, uint32_t user)
{
    double wins = 0, pairs = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < ROWS; j++)
            if (labels[i] && !labels[j] && (users == NULL || (users[i] == user && users[j] == user))) {
                pairs++;
                wins += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
            }
    return wins / pairs;
}

static void gauc_is_the_mean_of_the_users_aucs_by_their_rows(void **state)
{
    (void)state;
    struct rows *rows = draw(5);
    for (size_t i = 0; i < ROWS; i++) {
        rows->poor[i] = floor(rows->poor[i] * 10); /* ties */
        if (rows->users[i] < 3)
            rows->labels[i] = true; /* users who say nothing of order */
    }
    struct error err;
    double gauc, sum = 0;
    size_t counted, expected = 0;
    assert_int_equal(metrics_gauc(rows->poor, rows->labels, rows->users, ROWS, USERS, &gauc, &counted, &err), 0);
    for (uint32_t user = 0; user < USERS; user++) {
        double auc = slow_auc(rows->poor, rows->labels, rows->users, user);
        size_t own = 0;
        for (size_t i = 0; i < ROWS; i++)
            own += rows->users[i] == user;
        if (isnan(auc))
            continue;
        sum += auc * (double)own;
        expected += own;
    }
    assert_int_equal(counted, expected);
    assert_true(expected < ROWS);
    assert_near(gauc, sum / (double)expected, 1e-12);
    assert_int_equal(metrics_gauc(rows->poor, rows->labels, rows->users, 1, USERS, &gauc, NULL, &err), 0);
    assert_true(isnan(gauc));
    assert_int_equal(metrics_gauc(rows->poor, rows->labels, rows->users, ROWS, USERS - 1, &gauc, NULL, &err), -1);
}

static void calibration_error_is_that_of_ten_bins_of_equal_mass(void **state)
{
    (void)state;
    struct rows *rows = draw(6);
    struct error err;
    struct metrics_calibration calibration;
    assert_int_equal(metrics_calibrate(rows->poor, rows->labels, ROWS, &calibration, &err), 0);
    assert_int_equal(calibration.bin_count, METRICS_BINS);
    double error = 0;
    for (size_t bin = 0; bin < METRICS_BINS; bin++) {
        size_t inside = 0;
        double predicted = 0, yes = 0;
        for (size_t i = 0; i < ROWS; i++) {
            size_t below = 0;
            for (size_t j = 0; j < ROWS; j++)
                below += rows->poor[j] < rows->poor[i];
            if (below * METRICS_BINS / ROWS != bin)
                continue;
            inside++;
            predicted += rows->poor[i];
            yes += rows->labels[i];
        }
        assert_int_equal(calibration.bins[bin].rows, inside);
        assert_int_equal(inside, ROWS / METRICS_BINS);
        assert_near(calibration.bins[bin].predicted, predicted / (double)inside, 1e-12);
        assert_near(calibration.bins[bin].observed, yes / (double)inside, 1e-12);
        assert_true(calibration.bins[bin].low <= yes / (double)inside &&
                    yes / (double)inside <= calibration.bins[bin].high);
        error += fabs(predicted - yes);
    }
    assert_near(calibration.error, error / ROWS, 1e-12);
    assert_true(calibration.error > 0.05); /* noise makes it overconfident */
}

static void chance_is_the_error_of_what_is_calibrated(void **state)
{
    (void)state;
    struct error err;
    struct metrics_calibration calibration;
    struct random random = {8};
    double p[ROWS], error = 0, chance = 0;
    bool labels[ROWS];
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < ROWS; i++) {
            p[i] = 0.1 + 0.8 * random_uniform(&random);
            labels[i] = random_uniform(&random) < p[i];
        }
        assert_int_equal(metrics_calibrate(p, labels, ROWS, &calibration, &err), 0);
        error += calibration.error / ROUNDS;
        chance += calibration.chance / ROUNDS;
    }
    assert_near(chance, error, 0.02 * error);
}

static void rows_of_one_probability_share_a_bin(void **state)
{
    (void)state;
    struct error err;
    struct metrics_calibration calibration;
    double p[100];
    bool labels[100];
    for (size_t i = 0; i < 100; i++) {
        p[i] = i < 70 ? 0.3 : 0.8;
        labels[i] = i % 10 < 3;
    }
    assert_int_equal(metrics_calibrate(p, labels, 100, &calibration, &err), 0);
    assert_int_equal(calibration.bin_count, 2);
    assert_int_equal(calibration.bins[0].rows, 70);
    assert_near(calibration.error, 0.3 * 0.5, 1e-12); /* the second bin is 0.5 too sure */
    /* Wilson's interval for 21 of 70, from his formula by hand */
    assert_near(calibration.bins[0].low, 0.2054, 1e-4);
    assert_near(calibration.bins[0].high, 0.4155, 1e-4);

    assert_int_equal(metrics_calibrate(p, labels, 0, &calibration, &err), 0);
    assert_true(isnan(calibration.error) && calibration.bin_count == 0);
    p[7] = NAN;
    assert_int_equal(metrics_calibrate(p, labels, 100, &calibration, &err), -1);
    assert_non_null(strstr(err.message, "row 7"));
}

static void entropy_is_the_log_loss_of_who_knows_the_share_alone(void **state)
{
    (void)state;
    struct error err;
    double p[10], loss;
    bool labels[10];
    for (size_t i = 0; i < 10; i++) {
        p[i] = 0.3;
        labels[i] = i < 3;
    }
    assert_int_equal(metrics_log_loss(p, labels, 10, &loss, &err), 0);
    assert_near(metrics_entropy(0.3), loss, 1e-12);
    assert_near(metrics_entropy(0.5), log(2), 1e-15);
    assert_near(metrics_entropy(0), 0, 0);
    assert_near(metrics_entropy(1), 0, 0);
    assert_true(isnan(metrics_entropy(NAN)));
}

/* The same rounds, counted over copies of the rows. */
static void paired_differences_are_those_of_the_drawn_rows(void **state)
{
    (void)state;
    struct rows *rows = draw(7);
    struct error err;
    struct metrics_difference auc, loss;
    assert_int_equal(
        metrics_auc_difference(rows->poor, rows->good, rows->labels, rows->users, ROWS, USERS, 1, 3, &auc, &err), 0);
    assert_int_equal(
        metrics_log_loss_difference(rows->poor, rows->good, rows->labels, rows->users, ROWS, USERS, 1, 3, &loss, &err),
        0);
    assert_near(auc.value, slow_auc(rows->poor, rows->labels, NULL, 0) - slow_auc(rows->good, rows->labels, NULL, 0),
                1e-12);

    /* One round: the interval's ends are its value. Users are numbered in order of appearance. */
    uint32_t numbers[USERS], next = 0;
    memset(numbers, 0xff, sizeof numbers);
    for (size_t i = 0; i < ROWS; i++)
        if (numbers[rows->users[i]] == UINT32_MAX)
            numbers[rows->users[i]] = next++;
    assert_int_equal(next, USERS);
    size_t taken[USERS] = {0};
    struct random random = {3};
    for (size_t i = 0; i < USERS; i++)
        taken[random_below(&random, USERS)]++;
    static double poor[ROWS * 8], good[ROWS * 8];
    static bool labels[ROWS * 8];
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t copy = 0; copy < taken[numbers[rows->users[i]]] && count < ROWS * 8; copy++, count++) {
            poor[count] = rows->poor[i];
            good[count] = rows->good[i];
            labels[count] = rows->labels[i];
        }
    double of_poor, of_good;
    assert_int_equal(metrics_auc(poor, labels, count, &of_poor, &err), 0);
    assert_int_equal(metrics_auc(good, labels, count, &of_good, &err), 0);
    assert_near(auc.interval.low, of_poor - of_good, 1e-12);
    assert_near(auc.interval.high, of_poor - of_good, 1e-12);
    assert_int_equal(metrics_log_loss(poor, labels, count, &of_poor, &err), 0);
    assert_int_equal(metrics_log_loss(good, labels, count, &of_good, &err), 0);
    assert_near(loss.interval.low, of_poor - of_good, 1e-12);
}

static void a_worse_scorer_shows_and_an_equal_one_does_not(void **state)
{
    (void)state;
    struct rows *rows = draw(8);
    struct error err;
    struct metrics_difference auc, loss, none;
    assert_int_equal(
        metrics_auc_difference(rows->poor, rows->good, rows->labels, rows->users, ROWS, USERS, ROUNDS, 1, &auc, &err),
        0);
    assert_int_equal(metrics_log_loss_difference(rows->poor, rows->good, rows->labels, rows->users, ROWS, USERS, ROUNDS,
                                                 1, &loss, &err),
                     0);
    assert_true(auc.interval.high < 0 && auc.interval.low < auc.value && auc.value < auc.interval.high);
    assert_true(loss.interval.low > 0 && loss.interval.low < loss.value && loss.value < loss.interval.high);
    assert_int_equal(
        metrics_auc_difference(rows->good, rows->good, rows->labels, rows->users, ROWS, USERS, ROUNDS, 1, &none, &err),
        0);
    assert_true(none.value == 0 && none.interval.low == 0 && none.interval.high == 0);

    /* Pairing is what makes it narrow: the difference's interval against that of one AUC. */
    struct metrics_interval alone;
    for (size_t i = 0; i < ROWS; i++)
        rows->poor[i] = sigmoid(log(rows->good[i] / (1 - rows->good[i])) + 0.2 * ((double)(i % 3) - 1));
    assert_int_equal(metrics_auc_interval(rows->good, rows->labels, rows->users, ROWS, USERS, ROUNDS, 1, &alone, &err),
                     0);
    assert_int_equal(
        metrics_auc_difference(rows->poor, rows->good, rows->labels, rows->users, ROWS, USERS, ROUNDS, 1, &auc, &err),
        0);
    assert_true(auc.interval.high - auc.interval.low < (alone.high - alone.low) / 3);
}

static void the_interval_of_a_mean_covers_the_truth(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    size_t covered = 0;
    for (uint64_t run = 0; run < RUNS; run++) {
        struct random random = {run + 100};
        double values[ROWS];
        uint32_t users[ROWS];
        for (size_t i = 0; i < ROWS; i++) { /* a user's rows share most of their value; the mean of all is 0 */
            static double shared;
            if (i % 10 == 0)
                shared = random_uniform(&random) - 0.5;
            users[i] = (uint32_t)(i / 10);
            values[i] = shared + (random_uniform(&random) - 0.5) / 4;
        }
        struct error err;
        struct metrics_interval interval;
        assert_int_equal(metrics_mean_interval(values, users, ROWS, ROWS / 10, 300, run, &interval, &err), 0);
        covered += interval.low <= 0 && 0 <= interval.high;
    }
    assert_in_range(covered, RUNS * 89 / 100, RUNS * 99 / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gauc_is_the_mean_of_the_users_aucs_by_their_rows),
        cmocka_unit_test(calibration_error_is_that_of_ten_bins_of_equal_mass),
        cmocka_unit_test(chance_is_the_error_of_what_is_calibrated),
        cmocka_unit_test(rows_of_one_probability_share_a_bin),
        cmocka_unit_test(entropy_is_the_log_loss_of_who_knows_the_share_alone),
        cmocka_unit_test(paired_differences_are_those_of_the_drawn_rows),
        cmocka_unit_test(a_worse_scorer_shows_and_an_equal_one_does_not),
        cmocka_unit_test(the_interval_of_a_mean_covers_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
