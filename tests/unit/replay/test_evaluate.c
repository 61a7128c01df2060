#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replay/evaluate.h"
#include "replay/metrics.h"
#include "replay/regression.h"
#include "replay/synthetic.h"

#define assert_near(value, expected, tolerance) assert_true(fabs((value) - (expected)) <= (tolerance))

enum { REQUESTS = 600 };

static struct synthetic synthetic;

static int make(void **state)
{
    (void)state;
    synthetic = synthetic_make(REQUESTS, 0.2, 17);
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    synthetic_free(&synthetic);
    return 0;
}

static struct evaluate_answers answer(const struct evaluate_policy *policy)
{
    struct evaluate_answers answers;
    struct error err;
    if (evaluate_answer(&synthetic.trajectory, policy, &answers, &err) != 0)
        fail_msg("%s", err.message);
    return answers;
}

static float logit_of(size_t row, const char *set, uint32_t exit, uint32_t layer)
{
    const struct trajectory *trajectory = &synthetic.trajectory;
    for (size_t r = 0; r < trajectory->reading_count; r++)
        if (strcmp(trajectory->readings[r].set, set) == 0 && trajectory->readings[r].exit == exit &&
            trajectory->readings[r].layer == layer)
            return trajectory->logits[row * trajectory->reading_count + r];
    fail_msg("no reading %s %u %u", set, exit, layer);
    return 0;
}

static double p_of(size_t row, const char *set, uint32_t exit, uint32_t layer)
{
    return 1 / (1 + exp(-(double)logit_of(row, set, exit, layer)));
}

static void full_depth_is_the_last_exits_answer(void **state)
{
    (void)state;
    struct evaluate_answers answers = answer(&(struct evaluate_policy){.set = "text"});
    for (size_t i = 0; i < answers.count; i++) {
        bool cold = i % 20 == 19;
        assert_int_equal(answers.layers[i], cold ? 0 : 12);
        assert_near(answers.p[i], cold ? p_of(i, "exit0", 0, 0) : p_of(i, "text", 12, 12), 1e-6);
    }
    evaluate_answers_free(&answers);
}

/* The rule of section 5.1 counted here: the newest step of p against the mean of the m before it. */
static void the_probability_rule_leaves_where_its_steps_are_even(void **state)
{
    (void)state;
    const double tau = 0.006;
    struct evaluate_answers answers =
        answer(&(struct evaluate_policy){.set = "hybrid", .rule = {EXIT_RULE_PROBABILITY, 2, (float)tau, 0}});
    size_t by_layer[13] = {0};
    for (size_t i = 0; i < answers.count; i++) {
        uint32_t expected = i % 20 == 19 ? 0 : 12;
        for (uint32_t exit = 4; exit <= 8 && expected == 12; exit += 4) {
            double p[4];
            for (uint32_t k = 0; k < 4; k++)
                p[k] = p_of(i, "hybrid", exit, exit - 3 + k);
            double before = (fabs(p[1] - p[0]) + fabs(p[2] - p[1])) / 2;
            if (fabs(fabs(p[3] - p[2]) - before) < tau)
                expected = exit;
        }
        assert_int_equal(answers.layers[i], expected);
        if (expected > 0)
            assert_near(answers.p[i], p_of(i, "hybrid", expected, expected), 1e-6);
        by_layer[expected]++;
    }
    assert_true(by_layer[4] > 20 && by_layer[8] > 20 && by_layer[12] > 20);
    evaluate_answers_free(&answers);
}

/* A window of 3 looks at five layers and the trajectory has four. */
static void a_rule_that_looks_too_far_never_leaves(void **state)
{
    (void)state;
    assert_int_equal(evaluate_layers(&synthetic.trajectory, "text"), 4);
    assert_int_equal(evaluate_layers(&synthetic.trajectory, "exit0"), 1);
    assert_int_equal(evaluate_layers(&synthetic.trajectory, "none"), 0);
    struct evaluate_answers answers =
        answer(&(struct evaluate_policy){.set = "text", .rule = {EXIT_RULE_PROBABILITY, 3, 0.9F, 0}});
    for (size_t i = 0; i < answers.count; i++)
        assert_int_equal(answers.layers[i], i % 20 == 19 ? 0 : 12);
    evaluate_answers_free(&answers);
}

static void calibrated_asks_exit_0_first_and_each_exit_by_its_own_bound(void **state)
{
    (void)state;
    const float leave[] = {0.9F, 0.8F, INFINITY, 0.5F};
    struct evaluate_policy policy = {
        .set = "text", .rule = {.kind = EXIT_RULE_CALIBRATED}, .exit0 = true, .leave = leave};
    struct evaluate_answers answers = answer(&policy);
    size_t by_layer[13] = {0};
    for (size_t i = 0; i < answers.count; i++) {
        double at0 = p_of(i, "exit0", 0, 0), at4 = i % 20 == 19 ? NAN : p_of(i, "text", 4, 4);
        uint32_t expected = i % 20 == 19 || fmax(at0, 1 - at0) >= 0.9 ? 0 : fmax(at4, 1 - at4) >= 0.8 ? 4 : 12;
        assert_int_equal(answers.layers[i], expected);
        by_layer[expected]++;
    }
    assert_true(by_layer[0] > REQUESTS / 10 && by_layer[4] > 20 && by_layer[12] > 20);
    evaluate_answers_free(&answers);

    policy.exit0 = false;
    answers = answer(&policy);
    for (size_t i = 0; i < answers.count; i++)
        assert_true(i % 20 == 19 || answers.layers[i] > 0);
    evaluate_answers_free(&answers);
}

static void rows_without_text_have_no_score_where_there_is_no_exit_0(void **state)
{
    (void)state;
    struct synthetic own = synthetic_make(60, 0.2, 3);
    own.trajectory.readings[0].set[0] = 'x';
    struct evaluate_answers answers;
    struct evaluate_cost cost;
    struct error err;
    assert_int_equal(evaluate_answer(&own.trajectory, &(struct evaluate_policy){.set = "text"}, &answers, &err), 0);
    size_t missing = 0;
    for (size_t i = 0; i < own.trajectory.count; i++) {
        assert_int_equal(isnan(answers.p[i]), i % 20 == 19);
        missing += isnan(answers.p[i]) && own.trajectory.rows[i].part == TRAJECTORY_TEST;
    }
    assert_int_equal(evaluate_cost(&own.trajectory, &answers, TRAJECTORY_TEST, &cost, &err), 0);
    assert_true(missing > 0);
    assert_int_equal(cost.without_score, missing);
    evaluate_answers_free(&answers);
    synthetic_free(&own);
}

static void a_request_pays_its_prefix_to_its_deepest_row(void **state)
{
    (void)state;
    const float leave[] = {0.95F, 0.8F, 0.7F, 0};
    struct evaluate_answers answers = answer(&(struct evaluate_policy){
        .set = "hybrid", .rule = {.kind = EXIT_RULE_CALIBRATED}, .exit0 = true, .leave = leave});
    const struct trajectory *trajectory = &synthetic.trajectory;
    struct evaluate_cost cost;
    struct error err;
    assert_int_equal(evaluate_cost(trajectory, &answers, TRAJECTORY_TEST, &cost, &err), 0);
    double tokens = 0, full = 0, layers = 0;
    size_t rows = 0;
    for (uint32_t request = 0; request < REQUESTS; request++) {
        double deepest = 0, prefix = 0;
        for (size_t i = 0; i < trajectory->count; i++) {
            const struct trajectory_row *row = &trajectory->rows[i];
            if (row->request != request || row->part != TRAJECTORY_TEST)
                continue;
            rows++;
            layers += answers.layers[i];
            tokens += (double)row->tail_tokens * answers.layers[i];
            full += (double)row->tail_tokens * 12;
            deepest = fmax(deepest, answers.layers[i]);
            if (row->tail_tokens > 0)
                prefix = row->prefix_tokens;
        }
        tokens += prefix * deepest;
        full += prefix * 12;
    }
    assert_int_equal(cost.rows, rows);
    assert_near(cost.token_layers, tokens, 1e-6);
    assert_near(cost.full, full, 1e-6);
    assert_near(cost.mean_layer, layers / (double)rows, 1e-12);
    assert_int_equal(cost.by_layer[0] + cost.by_layer[4] + cost.by_layer[8] + cost.by_layer[12], rows);
    assert_true(cost.token_layers < cost.full);
    evaluate_answers_free(&answers);
}

static void what_a_trajectory_lacks_is_named(void **state)
{
    (void)state;
    struct evaluate_answers answers;
    struct error err;
    assert_int_equal(evaluate_answer(&synthetic.trajectory, &(struct evaluate_policy){.set = "single"}, &answers, &err),
                     -1);
    assert_non_null(strstr(err.message, "single"));
    assert_int_equal(evaluate_answer(&synthetic.trajectory,
                                     &(struct evaluate_policy){.set = "text", .rule = {EXIT_RULE_FIXED, 0, 0, 5}},
                                     &answers, &err),
                     -1);
    assert_non_null(strstr(err.message, "layer 5"));
    uint32_t layers[EVALUATE_EXITS];
    assert_int_equal(evaluate_exits(&synthetic.trajectory, "hybrid", layers), 3);
    assert_true(layers[0] == 4 && layers[1] == 8 && layers[2] == 12);
    assert_int_equal(evaluate_exits(&synthetic.trajectory, "single", layers), 0);
}

static double auc_of(const double *p, uint8_t part)
{
    const struct trajectory *trajectory = &synthetic.trajectory;
    double *scores = calloc(trajectory->count, sizeof *scores), auc = NAN;
    bool *labels = calloc(trajectory->count, sizeof *labels);
    size_t count = 0;
    for (size_t i = 0; i < trajectory->count; i++)
        if (trajectory->rows[i].part == part && trajectory->rows[i].label != TRAJECTORY_UNLABELLED) {
            labels[count] = trajectory->rows[i].label == 1;
            scores[count++] = p[i];
        }
    struct error err;
    assert_int_equal(metrics_auc(scores, labels, count, &auc, &err), 0);
    free(scores);
    free(labels);
    return auc;
}

static void baselines_learn_from_train_rows_alone(void **state)
{
    (void)state;
    struct trajectory *trajectory = &synthetic.trajectory;
    struct error err;
    double *p[EVALUATE_BASELINES], *again = calloc(trajectory->count, sizeof *again), yes = 0, rows = 0;
    for (size_t i = 0; i < trajectory->count; i++)
        if (trajectory->rows[i].part == TRAJECTORY_TRAIN && trajectory->rows[i].label != TRAJECTORY_UNLABELLED) {
            yes += trajectory->rows[i].label;
            rows++;
        }
    for (int b = 0; b < EVALUATE_BASELINES; b++) {
        p[b] = calloc(trajectory->count, sizeof **p);
        assert_int_equal(evaluate_predict_baseline(trajectory, (enum evaluate_baseline)b, 1, p[b], &err), 0);
        assert_non_null(evaluate_baseline_names[b]);
    }
    assert_near(p[EVALUATE_CONSTANT][7], yes / rows, 1e-12);
    assert_near(p[EVALUATE_ITEM_PRIOR][7], 1 / (1 + exp(-(double)trajectory->features[7 * EVIDENCE_FEATURES])), 1e-7);
    double truth = auc_of(synthetic.truth, TRAJECTORY_TEST);
    assert_true(auc_of(p[EVALUATE_ITEM_PRIOR], TRAJECTORY_TEST) < auc_of(p[EVALUATE_USER_AND_ITEM], TRAJECTORY_TEST));
    assert_near(auc_of(p[EVALUATE_FEATURES], TRAJECTORY_TEST), truth, 0.05);

    for (size_t i = 0; i < trajectory->count; i++) /* other labels elsewhere change nothing */
        if (trajectory->rows[i].part != TRAJECTORY_TRAIN && trajectory->rows[i].label != TRAJECTORY_UNLABELLED)
            trajectory->rows[i].label = !trajectory->rows[i].label;
    for (int b = 0; b < EVALUATE_BASELINES; b++) {
        assert_int_equal(evaluate_predict_baseline(trajectory, (enum evaluate_baseline)b, 1, again, &err), 0);
        assert_memory_equal(again, p[b], trajectory->count * sizeof *again);
        free(p[b]);
    }
    free(again);
}

static void without_train_rows_learned_baselines_say_nothing(void **state)
{
    (void)state;
    struct trajectory *trajectory = &synthetic.trajectory;
    for (size_t i = 0; i < trajectory->count; i++)
        trajectory->rows[i].part = TRAJECTORY_TEST;
    double *p = calloc(trajectory->count, sizeof *p);
    struct error err;
    for (int b = 0; b < EVALUATE_BASELINES; b++) {
        assert_int_equal(evaluate_predict_baseline(trajectory, (enum evaluate_baseline)b, 1, p, &err), 0);
        for (size_t i = 0; i < trajectory->count; i++)
            assert_int_equal(isnan(p[i]), b != EVALUATE_ITEM_PRIOR);
    }
    free(p);
}

/* At the minimum the penalised gradient is 0, whatever found it. */
static void the_regression_ends_where_its_gradient_is_0(void **state)
{
    (void)state;
    enum { COUNT = 300, WIDTH = 6 };
    static double rows[COUNT * WIDTH];
    bool labels[COUNT];
    const double penalties[WIDTH] = {1e-6, 1, 1, 5, 0.1, 30};
    double weights[WIDTH], again[WIDTH];
    struct random random = {4};
    for (size_t i = 0; i < COUNT; i++) {
        rows[i * WIDTH] = 1;
        for (size_t j = 1; j < WIDTH; j++)
            rows[i * WIDTH + j] = synthetic_noise(&random);
        labels[i] = rows[i * WIDTH + 1] - rows[i * WIDTH + 4] + synthetic_noise(&random) > 0.5;
    }
    struct error err;
    assert_int_equal(regression_fit(rows, labels, COUNT, WIDTH, penalties, weights, &err), 0);
    for (size_t j = 0; j < WIDTH; j++) {
        double gradient = penalties[j] * weights[j];
        for (size_t i = 0; i < COUNT; i++)
            gradient += (regression_predict(&rows[i * WIDTH], weights, WIDTH) - labels[i]) * rows[i * WIDTH + j];
        assert_near(gradient, 0, 1e-9);
    }
    assert_true(weights[1] > 0.5 && weights[4] < -0.5);
    assert_int_equal(regression_fit(rows, labels, COUNT, WIDTH, penalties, again, &err), 0);
    assert_memory_equal(weights, again, sizeof weights);
    assert_int_equal(regression_fit(rows, labels, COUNT, WIDTH, (double[WIDTH]){0}, again, &err), -1);
    rows[8] = NAN;
    assert_int_equal(regression_fit(rows, labels, COUNT, WIDTH, penalties, again, &err), -1);
    assert_non_null(strstr(err.message, "row 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_depth_is_the_last_exits_answer, make, take_down),
        cmocka_unit_test_setup_teardown(the_probability_rule_leaves_where_its_steps_are_even, make, take_down),
        cmocka_unit_test_setup_teardown(a_rule_that_looks_too_far_never_leaves, make, take_down),
        cmocka_unit_test_setup_teardown(calibrated_asks_exit_0_first_and_each_exit_by_its_own_bound, make, take_down),
        cmocka_unit_test(rows_without_text_have_no_score_where_there_is_no_exit_0),
        cmocka_unit_test_setup_teardown(a_request_pays_its_prefix_to_its_deepest_row, make, take_down),
        cmocka_unit_test_setup_teardown(what_a_trajectory_lacks_is_named, make, take_down),
        cmocka_unit_test_setup_teardown(baselines_learn_from_train_rows_alone, make, take_down),
        cmocka_unit_test_setup_teardown(without_train_rows_learned_baselines_say_nothing, make, take_down),
        cmocka_unit_test(the_regression_ends_where_its_gradient_is_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
