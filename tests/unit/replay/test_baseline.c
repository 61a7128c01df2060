#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "replay/baseline.h"

#define assert_near(value, expected, tolerance) assert_true(fabs((value) - (expected)) <= (tolerance))

static void rates_are_as_of_before_the_event(void **state)
{
    (void)state;
    struct error err;
    struct baseline *baseline = baseline_create();
    static const struct {
        const char *user, *item;
        bool like;
        double item_rate, user_rate;
    } events[] = {
        {"u1", "i1", true, 0.5, 0.5},         {"u1", "i2", false, 0.5, 2.0 / 3},
        {"u2", "i1", true, 2.0 / 3, 0.5},     {"u1", "i1", false, 3.0 / 4, 2.0 / 4},
        {"u2", "i2", true, 1.0 / 3, 2.0 / 3}, {"i1", "u1", true, 0.5, 0.5}, /* users and items are apart */
    };
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct text user = text_of(events[i].user), item = text_of(events[i].item);
        struct baseline_rates before;
        assert_int_equal(baseline_observe(baseline, user, item, events[i].like, &before, &err), 0);
        assert_near(before.item, events[i].item_rate, 1e-15);
        assert_near(before.user, events[i].user_rate, 1e-15);
    }
    struct baseline_rates now = baseline_look(baseline, text_of("u1"), text_of("i1"));
    assert_near(now.item, 3.0 / 5, 1e-15);
    assert_near(now.user, 2.0 / 5, 1e-15);
    now = baseline_look(baseline, text_of("nobody"), text_of("i1"));
    assert_near(now.user, 0.5, 0);
    baseline_destroy(baseline);
}

static void many_ids_keep_their_own_counts(void **state)
{
    (void)state;
    enum { IDS = 500 };
    struct error err;
    struct baseline *baseline = baseline_create();
    char id[16];
    for (int i = 0; i < IDS * 7; i++) {
        snprintf(id, sizeof id, "%d", i % IDS);
        assert_int_equal(baseline_observe(baseline, text_of(id), text_of(id), i % IDS % 2 == 0, NULL, &err), 0);
    }
    for (int i = 0; i < IDS; i++) {
        snprintf(id, sizeof id, "%d", i);
        struct baseline_rates rates = baseline_look(baseline, text_of(id), text_of(id));
        assert_near(rates.item, i % 2 == 0 ? 8.0 / 9 : 1.0 / 9, 1e-15);
        assert_near(rates.user, rates.item, 0);
    }
    baseline_destroy(baseline);
}

/* The minimum of the same sum, by gradient descent in 40 decimal digits outside of this program. */
static void the_regression_is_that_of_an_independent_solution(void **state)
{
    (void)state;
    const struct baseline_rates rates[] = {{.8, .6}, {.7, .5}, {.3, .4}, {.5, .9},
                                           {.2, .7}, {.6, .3}, {.4, .2}, {.9, .8}};
    const bool likes[] = {true, true, false, true, false, true, false, false};
    struct error err;
    struct baseline_model model;
    assert_int_equal(baseline_fit(rates, likes, 8, &model, &err), 0);
    assert_near(model.bias, -0.09531672988755032, 1e-11);
    assert_near(model.item, 0.433520666040315606, 1e-11);
    assert_near(model.user, 0.114477837050702648, 1e-11);
    assert_near(baseline_predict(&model, &rates[0]), 0.6346197233212799, 1e-11);
}

enum { ROWS = 20000 };

static struct baseline_rates rates[ROWS];
static bool likes[ROWS];

static void draw(uint64_t seed, double bias, double item, double user)
{
    struct random random = {seed};
    for (size_t i = 0; i < ROWS; i++) {
        rates[i] =
            (struct baseline_rates){0.02 + 0.96 * random_uniform(&random), 0.02 + 0.96 * random_uniform(&random)};
        const struct baseline_model truth = {bias, item, user};
        likes[i] = random_uniform(&random) < baseline_predict(&truth, &rates[i]);
    }
}

/* Of the sum that is minimised, by its definition and not by the code under test. */
static void gradient(const struct baseline_model *model, double out[3])
{
    out[0] = model->bias;
    out[1] = model->item;
    out[2] = model->user;
    for (size_t i = 0; i < ROWS; i++) {
        double x = log(rates[i].item / (1 - rates[i].item)), y = log(rates[i].user / (1 - rates[i].user));
        double wrong = 1 / (1 + exp(-(model->bias + model->item * x + model->user * y))) - likes[i];
        out[0] += wrong;
        out[1] += wrong * x;
        out[2] += wrong * y;
    }
}

static void the_gradient_vanishes_at_the_solution(void **state)
{
    (void)state;
    static const double truths[][3] = {{0, 0, 0}, {-0.3, 1, 0.8}, {2, -1.5, 3}, {-4, 0.1, 0}, {20, 0, 0}};
    for (size_t t = 0; t < sizeof truths / sizeof *truths; t++) {
        struct error err;
        struct baseline_model model;
        double slope[3];
        draw(t, truths[t][0], truths[t][1], truths[t][2]);
        assert_int_equal(baseline_fit(rates, likes, ROWS, &model, &err), 0);
        gradient(&model, slope);
        for (size_t j = 0; j < 3; j++)
            assert_near(slope[j], 0, 1e-6);
    }
}

static void the_regression_finds_what_made_the_rows(void **state)
{
    (void)state;
    struct error err;
    struct baseline_model model, again;
    draw(5, -0.3, 1, 0.8);
    assert_int_equal(baseline_fit(rates, likes, ROWS, &model, &err), 0);
    assert_near(model.bias, -0.3, 0.07); /* standard errors are below 0.02 */
    assert_near(model.item, 1, 0.07);
    assert_near(model.user, 0.8, 0.07);
    assert_int_equal(baseline_fit(rates, likes, ROWS, &again, &err), 0);
    assert_memory_equal(&model, &again, sizeof model);
}

static void rows_of_one_answer_or_none_have_a_solution(void **state)
{
    (void)state;
    struct error err;
    struct baseline_model model;
    const struct baseline_rates one[] = {{.5, .5}, {.6, .4}};
    assert_int_equal(baseline_fit(one, (bool[]){true, true}, 2, &model, &err), 0);
    double p = baseline_predict(&model, &one[0]);
    assert_true(p > 0.5 && p < 1);
    assert_int_equal(baseline_fit(NULL, NULL, 0, &model, &err), 0);
    assert_near(baseline_predict(&model, &one[1]), 0.5, 0);
}

static void a_rate_that_has_no_logit_is_refused(void **state)
{
    (void)state;
    struct error err;
    struct baseline_model model;
    const double wrong[] = {0, 1, -1, NAN};
    for (size_t i = 0; i < 4; i++) {
        const struct baseline_rates bad[] = {{.5, .5}, {.5, wrong[i]}};
        assert_int_equal(baseline_fit(bad, (bool[]){true, false}, 2, &model, &err), -1);
        assert_non_null(strstr(err.message, "row 1"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_as_of_before_the_event),
        cmocka_unit_test(many_ids_keep_their_own_counts),
        cmocka_unit_test(the_regression_is_that_of_an_independent_solution),
        cmocka_unit_test(the_gradient_vanishes_at_the_solution),
        cmocka_unit_test(the_regression_finds_what_made_the_rows),
        cmocka_unit_test(rows_of_one_answer_or_none_have_a_solution),
        cmocka_unit_test(a_rate_that_has_no_logit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
