#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "replay/split.h"

enum { ROWS = 1000 };

static struct trajectory_row rows[ROWS];

static void fill(int64_t a_step_ms)
{
    for (int i = 0; i < ROWS; i++)
        rows[i] = (struct trajectory_row){.timestamp_ms = i / 3 * a_step_ms,
                                          .known_ms = i / 3 * a_step_ms,
                                          .request = (uint32_t)(i / 3),
                                          .label = (uint8_t)(i % 2)};
}

static struct split split_of(enum split_protocol protocol, const char *shares, uint64_t seed)
{
    struct split split = {.protocol = protocol, .seed = seed};
    struct error err;
    assert_int_equal(split_parse(shares, split.shares, &err), 0);
    return split;
}

static void time_parts_rows_and_never_a_request(void **state)
{
    (void)state;
    struct split split = split_of(SPLIT_CHRONOLOGICAL, "8:1:1", 0);
    struct error err;
    fill(10);
    assert_int_equal(split_rows(rows, ROWS, &split, &err), 0);
    int counts[3] = {0};
    for (int i = 0; i < ROWS; i++) {
        counts[rows[i].part]++;
        assert_true(i == 0 || rows[i].part >= rows[i - 1].part);
        assert_true(i == 0 || rows[i].request != rows[i - 1].request || rows[i].part == rows[i - 1].part);
        assert_int_equal(rows[i].label, i % 2);
    }
    assert_in_range(counts[TRAJECTORY_TRAIN], 798, 800);
    assert_in_range(counts[TRAJECTORY_CALIBRATE], 98, 102);
    assert_in_range(counts[TRAJECTORY_TEST], 98, 102);
}

static void a_label_from_behind_the_cut_is_dropped(void **state)
{
    (void)state;
    struct split split = split_of(SPLIT_CHRONOLOGICAL, "5:2:3", 0);
    struct error err;
    fill(10);
    for (int i = 0; i < ROWS; i++)
        rows[i].known_ms += 35; /* a click comes late */
    assert_int_equal(split_rows(rows, ROWS, &split, &err), 0);
    int64_t ends[3] = {INT64_MAX, INT64_MAX, INT64_MAX};
    for (int i = ROWS - 1; i >= 0; i--)
        if (rows[i].part > 0)
            ends[rows[i].part - 1] = rows[i].timestamp_ms;
    int dropped = 0;
    for (int i = 0; i < ROWS; i++) {
        bool from_behind = rows[i].timestamp_ms + 35 >= ends[rows[i].part];
        assert_int_equal(rows[i].label == TRAJECTORY_UNLABELLED, from_behind);
        dropped += from_behind;
    }
    assert_in_range(dropped, 2 * 3 * 3, 2 * 4 * 3);
}

static void the_paper_draws_each_request_by_itself(void **state)
{
    (void)state;
    struct split split = split_of(SPLIT_PAPER, "8:1:1", 5), other = split_of(SPLIT_PAPER, "8:1:1", 6);
    struct error err;
    fill(10);
    assert_int_equal(split_rows(rows, ROWS, &split, &err), 0);
    int counts[3] = {0}, halves[3] = {0}, different = 0;
    for (int i = 0; i < ROWS; i++) {
        counts[rows[i].part]++;
        halves[rows[i].part] += i < ROWS / 2;
        assert_int_equal(rows[i].part, split_draw(&split, rows[i].request));
        different += rows[i].part != split_draw(&other, rows[i].request);
    }
    assert_in_range(counts[TRAJECTORY_TEST], 60, 150);
    assert_in_range(counts[TRAJECTORY_CALIBRATE], 60, 150);
    assert_in_range(halves[TRAJECTORY_TEST], 20, 80); /* of all times */
    assert_true(different > 100);
}

static void shares_must_be_three_numbers(void **state)
{
    (void)state;
    const char *const wrong[] = {"", "8:1", "8:1:1:1", "8:x:1", "8:-1:1", "8:1:0", "8:1:1 ", "nan:1:1", "8:1:inf"};
    double shares[TRAJECTORY_PARTS];
    struct error err;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(split_parse(wrong[i], shares, &err), -1);
    assert_int_equal(split_parse("0:0.5:3", shares, &err), 0);
    assert_true(shares[0] == 0 && shares[1] == 0.5 && shares[2] == 3);
}

static void rows_out_of_order_are_refused(void **state)
{
    (void)state;
    struct split split = split_of(SPLIT_CHRONOLOGICAL, "8:1:1", 0);
    struct error err;
    fill(-1);
    assert_int_equal(split_rows(rows, ROWS, &split, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_parts_rows_and_never_a_request),
        cmocka_unit_test(a_label_from_behind_the_cut_is_dropped),
        cmocka_unit_test(the_paper_draws_each_request_by_itself),
        cmocka_unit_test(shares_must_be_three_numbers),
        cmocka_unit_test(rows_out_of_order_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
