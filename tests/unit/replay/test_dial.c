#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replay/dial.h"
#include "replay/synthetic.h"

#define assert_near(value, expected, tolerance) assert_true(fabs((value) - (expected)) <= (tolerance))

static struct synthetic synthetic;

static int make(void **state)
{
    (void)state;
    synthetic = synthetic_make(900, 0.2, 23);
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    synthetic_free(&synthetic);
    return 0;
}

static struct dial dial_of(const struct dial_settings *settings)
{
    struct dial dial;
    struct error err;
    if (dial_make(&synthetic.trajectory, settings, &dial, &err) != 0)
        fail_msg("%s", err.message);
    return dial;
}

static const struct dial_point *point_named(const struct dial *dial, const char *name)
{
    char own[64];
    for (size_t i = 0; i < dial->count; i++) {
        dial_rule_name(&dial->points[i].policy.rule, dial->points[i].max_loss, own, sizeof own);
        if (strcmp(own, name) == 0)
            return &dial->points[i];
    }
    return NULL;
}

static double log_loss_at(const char *set, uint32_t exit, uint8_t part)
{
    const struct trajectory *trajectory = &synthetic.trajectory;
    size_t reading = trajectory_find(trajectory, set, exit, exit), rows = 0;
    double sum = 0;
    for (size_t i = 0; i < trajectory->count; i++) {
        const struct trajectory_row *row = &trajectory->rows[i];
        if (row->part != part || row->label == TRAJECTORY_UNLABELLED)
            continue;
        double logit = (double)trajectory->logits[i * trajectory->reading_count + reading];
        if (isnan(logit))
            logit = (double)trajectory->logits[i * trajectory->reading_count];
        sum += log1p(exp(row->label == 1 ? -logit : logit));
        rows++;
    }
    return sum / (double)rows;
}

/* The generator's heads are best at layer 8, so neither the first nor the last exit. */
static void the_reference_is_the_best_single_exit_of_the_calibrate_slice(void **state)
{
    (void)state;
    struct error err;
    size_t layer;
    assert_int_equal(dial_find_reference(&synthetic.trajectory, "text", false, TRAJECTORY_CALIBRATE, &layer, &err), 0);
    double best = log_loss_at("text", (uint32_t)layer, TRAJECTORY_CALIBRATE);
    for (uint32_t exit = 4; exit <= 12; exit += 4)
        assert_true(best <= log_loss_at("text", exit, TRAJECTORY_CALIBRATE));
    assert_int_equal(layer, 8);
    for (size_t i = 0; i < synthetic.trajectory.count; i++) /* an exit 0 that is all wrong cannot be it ... */
        synthetic.trajectory.logits[i * SYNTHETIC_READINGS] *= -1;
    assert_int_equal(dial_find_reference(&synthetic.trajectory, "text", true, TRAJECTORY_CALIBRATE, &layer, &err), 0);
    assert_int_equal(layer, 8);
    for (size_t i = 0; i < synthetic.trajectory.count; i++) { /* ... and one that knows the truth must */
        double truth = synthetic.truth[i];
        synthetic.trajectory.logits[i * SYNTHETIC_READINGS] = (float)log(truth / (1 - truth));
    }
    assert_int_equal(dial_find_reference(&synthetic.trajectory, "text", true, TRAJECTORY_CALIBRATE, &layer, &err), 0);
    assert_int_equal(layer, 0);
    assert_int_equal(dial_find_reference(&synthetic.trajectory, "no", true, TRAJECTORY_CALIBRATE, &layer, &err), -1);
}

static void points_are_every_rule_that_the_trajectory_can_tell_of(void **state)
{
    (void)state;
    struct dial dial;
    struct error err;
    const struct dial_settings settings = {
        .set = "text", .part = TRAJECTORY_TEST, .rounds = 200, .seed = 1, .reference = SIZE_MAX};
    assert_int_equal(dial_make(&synthetic.trajectory, &settings, &dial, &err), 0);
    assert_int_equal(dial.reference, 8);
    assert_string_equal(dial.set, "text");

    const struct dial_point *full = point_named(&dial, "full depth"), *best = point_named(&dial, "fixed 8");
    assert_non_null(full);
    assert_non_null(best);
    assert_near(full->cost.token_layers, full->cost.full, 1e-6);
    assert_near(full->log_loss, log_loss_at("text", 12, TRAJECTORY_TEST), 1e-6);
    assert_near(best->log_loss, log_loss_at("text", 8, TRAJECTORY_TEST), 1e-6);
    assert_near(full->increase.value, full->log_loss - best->log_loss, 1e-9);
    assert_true(best->increase.value == 0 && best->increase.interval.low == 0 && best->increase.interval.high == 0);
    assert_non_null(point_named(&dial, "probability, m 2, tau 0.01"));
    assert_null(point_named(&dial, "probability, m 3, tau 0.01")); /* looks at 5 layers of 4 */
    assert_non_null(point_named(&dial, "ratio, m 3, tau 0.1"));
    assert_non_null(point_named(&dial, "log_odds, m 3, tau 0.001"));
    assert_non_null(point_named(&dial, "confidence 0.9"));
    assert_non_null(point_named(&dial, "patience 2"));
    for (size_t i = 0; i < dial.count; i++) {
        const struct dial_point *point = &dial.points[i];
        assert_true(point->cost.token_layers <= point->cost.full && point->auc > 0.5 && point->log_loss > 0);
        assert_true(point->increase.interval.low <= point->increase.value &&
                    point->increase.value <= point->increase.interval.high);
    }
    dial_free(&dial);
}

static void looser_thresholds_never_cost_more(void **state)
{
    (void)state;
    struct dial dial = dial_of(
        &(struct dial_settings){.set = "hybrid", .part = TRAJECTORY_TEST, .rounds = 20, .seed = 1, .reference = 8});
    const char *const names[] = {"confidence 0.6", "confidence 0.7", "confidence 0.8", "confidence 0.9",
                                 "confidence 0.95"};
    for (size_t i = 1; i < sizeof names / sizeof *names; i++)
        assert_true(point_named(&dial, names[i - 1])->cost.token_layers <
                    point_named(&dial, names[i])->cost.token_layers);
    dial_free(&dial);
}

static void the_chosen_point_is_the_cheapest_that_holds_its_promise(void **state)
{
    (void)state;
    struct dial dial = dial_of(&(struct dial_settings){
        .set = "text", .part = TRAJECTORY_CALIBRATE, .rounds = 200, .seed = 1, .reference = SIZE_MAX});
    size_t deeper = 0;
    double cost = INFINITY;
    for (int step = 0; step <= 6; step++) {
        double max_loss = 0.01 * step * step;
        const struct dial_point *chosen = dial_choose(&dial, max_loss);
        assert_non_null(chosen); /* the reference itself loses nothing */
        assert_true(chosen->increase.interval.high <= max_loss);
        for (size_t i = 0; i < dial.count; i++)
            assert_true(!dial.points[i].writable || dial.points[i].increase.interval.high > max_loss ||
                        dial.points[i].cost.token_layers >= chosen->cost.token_layers);
        assert_true(chosen->cost.token_layers <= cost);
        deeper += chosen->cost.token_layers < cost;
        cost = chosen->cost.token_layers;
    }
    assert_true(deeper >= 2);
    assert_null(dial_choose(&dial, -1));
    dial_free(&dial);
}

/* A row leaves under CALIBRATED with a point's thresholds exactly where it leaves by the point's own rule. */
static void thresholds_say_what_the_rule_says(void **state)
{
    (void)state;
    const struct dial_settings settings = {
        .set = "hybrid", .part = TRAJECTORY_TEST, .rounds = 20, .seed = 1, .exit0 = true, .reference = SIZE_MAX};
    struct dial dial = dial_of(&settings);
    size_t writable = 0;
    for (size_t i = 0; i < dial.count; i++) {
        const struct dial_point *point = &dial.points[i];
        struct evaluate_answers own, said;
        struct error err;
        if (!point->writable)
            continue;
        writable++;
        if (evaluate_answer(&synthetic.trajectory, &point->policy, &own, &err) != 0)
            fail_msg("%s", err.message);
        const struct evaluate_policy policy = {
            .set = "hybrid", .rule = {.kind = EXIT_RULE_CALIBRATED}, .exit0 = true, .leave = point->thresholds};
        assert_int_equal(evaluate_answer(&synthetic.trajectory, &policy, &said, &err), 0);
        assert_memory_equal(own.layers, said.layers, own.count * sizeof *own.layers);
        evaluate_answers_free(&own);
        evaluate_answers_free(&said);
    }
    assert_true(writable >= 14); /* full, three fixed, five confidences, five calibrated */
    assert_non_null(point_named(&dial, "fixed 0"));
    const struct dial_point *strict = point_named(&dial, "calibrated, max_loss 0.0005"),
                            *loose = point_named(&dial, "calibrated, max_loss 0.01");
    assert_true(loose->cost.token_layers <= strict->cost.token_layers);
    assert_true(strict->cost.token_layers < strict->cost.full);
    dial_free(&dial);
}

static void without_a_calibrate_slice_nothing_is_calibrated(void **state)
{
    (void)state;
    for (size_t i = 0; i < synthetic.trajectory.count; i++)
        if (synthetic.trajectory.rows[i].part == TRAJECTORY_CALIBRATE)
            synthetic.trajectory.rows[i].part = TRAJECTORY_TRAIN;
    struct dial dial = dial_of(&(struct dial_settings){
        .set = "text", .part = TRAJECTORY_TEST, .rounds = 20, .seed = 1, .reference = SIZE_MAX});
    for (size_t i = 0; i < dial.count; i++)
        assert_true(dial.points[i].policy.rule.kind != EXIT_RULE_CALIBRATED);
    assert_true(dial.reference > 0); /* found on the test rows then */
    dial_free(&dial);
}

static void a_part_without_labels_is_an_error(void **state)
{
    (void)state;
    struct dial dial;
    struct error err;
    struct dial_settings settings = {.set = "text", .part = TRAJECTORY_TEST, .rounds = 10, .reference = SIZE_MAX};
    for (size_t i = 0; i < synthetic.trajectory.count; i++)
        if (synthetic.trajectory.rows[i].part == TRAJECTORY_TEST)
            synthetic.trajectory.rows[i].label = TRAJECTORY_UNLABELLED;
    assert_int_equal(dial_make(&synthetic.trajectory, &settings, &dial, &err), -1);
    assert_non_null(strstr(err.message, "text"));
    settings.set = "single";
    assert_int_equal(dial_make(&synthetic.trajectory, &settings, &dial, &err), -1);
    assert_non_null(strstr(err.message, "single"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_reference_is_the_best_single_exit_of_the_calibrate_slice, make, take_down),
        cmocka_unit_test_setup_teardown(points_are_every_rule_that_the_trajectory_can_tell_of, make, take_down),
        cmocka_unit_test_setup_teardown(looser_thresholds_never_cost_more, make, take_down),
        cmocka_unit_test_setup_teardown(the_chosen_point_is_the_cheapest_that_holds_its_promise, make, take_down),
        cmocka_unit_test_setup_teardown(thresholds_say_what_the_rule_says, make, take_down),
        cmocka_unit_test_setup_teardown(without_a_calibrate_slice_nothing_is_calibrated, make, take_down),
        cmocka_unit_test_setup_teardown(a_part_without_labels_is_an_error, make, take_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
