#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "score/feedback.h"

static const int64_t start_ms = INT64_C(1700000000000), minute_ms = 60000;

static int set_up(void **state)
{
    struct feedback *feedback;
    struct error err;
    assert_int_equal(feedback_create(&feedback, &err), 0);
    *state = feedback;
    return 0;
}

static int tear_down(void **state)
{
    feedback_destroy(*state);
    return 0;
}

static void answer(struct feedback *feedback, int request, double probability)
{
    char id[16];
    snprintf(id, sizeof id, "r%d", request);
    feedback_answered(feedback, text_of(id), text_of("item"), probability);
}

static bool label(struct feedback *feedback, int request, bool yes, int64_t now_ms)
{
    char id[16];
    snprintf(id, sizeof id, "r%d", request);
    return feedback_labelled(feedback, text_of(id), text_of("item"), yes, now_ms);
}

static void an_answer_is_joined_with_its_label_once(void **state)
{
    struct feedback *feedback = *state;
    answer(feedback, 1, 0.75);
    assert_false(label(feedback, 2, true, start_ms));
    assert_false(feedback_labelled(feedback, text_of("r1"), text_of("other"), true, start_ms));
    assert_true(label(feedback, 1, true, start_ms));
    assert_false(label(feedback, 1, true, start_ms));
    struct feedback_calibration calibration = feedback_calibration(feedback, start_ms);
    assert_int_equal(calibration.count, 1);
    assert_true(fabs(calibration.error - 0.25) < 1e-6);
    assert_true(fabs(calibration.mean_p - 0.75) < 1e-6);
    assert_true(calibration.mean_yes == 1.0);
}

static void nothing_joined_is_no_error(void **state)
{
    struct feedback_calibration calibration = feedback_calibration(*state, start_ms);
    assert_int_equal(calibration.count, 0);
    assert_true(calibration.error == 0.0);
}

/* Likes come with the answer's probability, moved by `drift`. */
static struct feedback_calibration serve(struct feedback *feedback, size_t count, double drift, int64_t now_ms)
{
    struct random random = {9};
    for (size_t i = 0; i < count; i++) {
        double p = 0.1 + 0.8 * (double)random_below(&random, 1000) / 1000;
        answer(feedback, (int)i, p);
        assert_true(label(feedback, (int)i, (double)random_below(&random, 100000) / 100000 < p + drift, now_ms));
    }
    return feedback_calibration(feedback, now_ms);
}

static void the_error_tells_drift_from_calibrated_answers(void **state)
{
    struct feedback *feedback = *state;
    struct feedback_calibration fine = serve(feedback, 20000, 0.0, start_ms);
    assert_int_equal(fine.count, 20000);
    assert_true(fine.error < 0.015);
    struct feedback_calibration drifted = serve(feedback, 20000, 0.1, start_ms + 61 * minute_ms);
    assert_int_equal(drifted.count, 20000);
    assert_true(fabs(drifted.error - 0.1) < 0.015);
    assert_true(fabs(drifted.mean_yes - drifted.mean_p - 0.1) < 0.015);
}

static void what_was_joined_an_hour_ago_counts_no_more(void **state)
{
    struct feedback *feedback = *state;
    for (int m = 0; m < 90; m++) {
        answer(feedback, m, 0.5);
        assert_true(label(feedback, m, m % 2 == 0, start_ms + m * minute_ms));
    }
    assert_int_equal(feedback_calibration(feedback, start_ms + 89 * minute_ms).count, 60);
    assert_int_equal(feedback_calibration(feedback, start_ms + 119 * minute_ms).count, 30);
    assert_int_equal(feedback_calibration(feedback, start_ms + 149 * minute_ms).count, 0);
}

static void the_newest_answers_are_remembered(void **state)
{
    struct feedback *feedback = *state;
    enum { ANSWERS = 400000, NEWEST = 100000 };
    size_t kept = 0, old = 0;
    for (int i = 0; i < ANSWERS; i++)
        answer(feedback, i, 0.5);
    for (int i = ANSWERS - NEWEST; i < ANSWERS; i++)
        kept += label(feedback, i, true, start_ms);
    for (int i = 0; i < NEWEST; i++)
        old += label(feedback, i, true, start_ms);
    assert_true(kept > NEWEST * 9 / 10);
    assert_true(old < NEWEST / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_is_joined_with_its_label_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_joined_is_no_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_error_tells_drift_from_calibrated_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_joined_an_hour_ago_counts_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_answers_are_remembered, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
