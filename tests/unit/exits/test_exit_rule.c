#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exits/exit_rule.h"

static const struct exit_rule ratio = {.kind = EXIT_RULE_RATIO, .window = 3, .threshold = 0.01f};
static const struct exit_rule log_odds = {.kind = EXIT_RULE_LOG_ODDS, .window = 3, .threshold = 0.01f};
static const struct exit_rule probability = {.kind = EXIT_RULE_PROBABILITY, .window = 3, .threshold = 0.01f};

static bool settled(const struct exit_rule *rule, const float *p, size_t count)
{
    const struct exit_view view = {.layer = 10, .p = p, .count = count, .answers = p, .exits = count, .leave = 0.5f};
    return exit_rule_settled(rule, &view);
}

static void ratio_follows_the_printed_algorithm(void **state)
{
    (void)state;
    const float even[] = {0.5f, 2.0f / 3, 0.75f, 0.8f}; /* odds 1, 2, 3, 4: steps 1, 1 | 1 */
    const float jump[] = {0.5f, 2.0f / 3, 0.75f, 0.9f}; /* odds 1, 2, 3, 9: steps 1, 1 | 6 */
    assert_true(settled(&ratio, even, 4));
    assert_false(settled(&ratio, jump, 4));
}

static void log_odds_treats_yes_and_no_alike(void **state)
{
    (void)state;
    const float no[] = {0.010f, 0.012f, 0.010f, 0.020f};
    const float yes[] = {0.990f, 0.988f, 0.990f, 0.980f};
    assert_false(settled(&log_odds, no, 4));
    assert_false(settled(&log_odds, yes, 4));
    assert_true(settled(&ratio, no, 4)); /* what LOG_ODDS is there to mend */
    assert_false(settled(&ratio, yes, 4));
}

static void too_few_layers_go_on(void **state)
{
    (void)state;
    const float calm[] = {0.6f, 0.6f, 0.6f, 0.6f, 0.6f};
    assert_false(settled(&ratio, calm, 3));
    assert_true(settled(&ratio, calm, 4));
    assert_false(settled(&probability, calm, 4));
    assert_true(settled(&probability, calm, 5));
}

static void a_window_too_small_never_fires(void **state)
{
    (void)state;
    const float calm[] = {0.6f, 0.6f, 0.6f};
    const struct exit_rule no_steps[] = {{.kind = EXIT_RULE_RATIO, .window = 1, .threshold = 0.01f},
                                         {.kind = EXIT_RULE_LOG_ODDS, .window = 0, .threshold = 0.01f},
                                         {.kind = EXIT_RULE_PROBABILITY, .window = 0, .threshold = 0.01f}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(exit_rule_layers(&no_steps[i]), 0);
        assert_false(settled(&no_steps[i], calm, 3));
    }
}

static void only_the_last_layers_count(void **state)
{
    (void)state;
    const float wild_then_calm[] = {0.1f, 0.9f, 0.2f, 0.6f, 0.6f, 0.6f, 0.6f};
    assert_true(settled(&ratio, wild_then_calm, 7));
}

static void unsure_goes_on_to_full_depth(void **state)
{
    (void)state;
    const float broken[] = {0.6f, NAN, 0.6f, 0.6f};
    const float certain[] = {1.0f, 1.0f, 1.0f, 1.0f}; /* infinite odds: their steps are undefined */
    assert_false(settled(&ratio, broken, 4));
    assert_false(settled(&ratio, certain, 4));
    assert_false(settled(&log_odds, certain, 4));
}

static void fixed_leaves_at_the_first_exit_that_is_deep_enough(void **state)
{
    (void)state;
    const float p = 0.6f;
    const struct exit_rule fixed = {.kind = EXIT_RULE_FIXED, .layer = 12};
    struct exit_view view = {.layer = 10, .p = &p, .count = 1};
    assert_false(exit_rule_settled(&fixed, &view));
    view.layer = 12;
    assert_true(exit_rule_settled(&fixed, &view));
    view.layer = 15;
    assert_true(exit_rule_settled(&fixed, &view));
}

static void confidence_takes_a_sure_no_as_a_sure_yes(void **state)
{
    (void)state;
    const struct exit_rule confidence = {.kind = EXIT_RULE_CONFIDENCE, .threshold = 0.75f};
    const float sure[] = {0.75f, 0.25f, 1.0f, 0.0f}, unsure[] = {0.74f, 0.26f, 0.5f, NAN};
    for (size_t i = 0; i < 4; i++) {
        assert_true(settled(&confidence, &sure[i], 1));
        assert_false(settled(&confidence, &unsure[i], 1));
    }
}

static void patience_waits_until_the_last_answers_say_the_same(void **state)
{
    (void)state;
    const struct exit_rule patience = {.kind = EXIT_RULE_PATIENCE, .window = 3};
    const float yes[] = {0.1f, 0.6f, 0.9f, 0.51f}, no[] = {0.9f, 0.4f, 0.1f, 0.49f};
    const float torn[] = {0.6f, 0.4f, 0.6f, 0.6f}, even[] = {0.6f, 0.6f, 0.5f, 0.6f}, broken[] = {0.6f, 0.6f, NAN};
    assert_true(settled(&patience, yes, 4));
    assert_true(settled(&patience, no, 4));
    assert_false(settled(&patience, torn, 4));
    assert_false(settled(&patience, even, 4));
    assert_false(settled(&patience, broken, 3));
    assert_false(settled(&patience, yes + 2, 2)); /* fewer exits than the window */
}

static void patience_looks_at_the_exits_not_at_the_layers_under_this_one(void **state)
{
    (void)state;
    const struct exit_rule patience = {.kind = EXIT_RULE_PATIENCE, .window = 2};
    const float layers[] = {0.6f, 0.6f}, exits[] = {0.4f, 0.6f};
    const struct exit_view view = {.layer = 10, .p = layers, .count = 2, .answers = exits, .exits = 2};
    assert_false(exit_rule_settled(&patience, &view));
}

static void calibrated_goes_by_the_exits_own_bound(void **state)
{
    (void)state;
    const struct exit_rule calibrated = {.kind = EXIT_RULE_CALIBRATED};
    const float bounds[] = {0.5f, 0.75f, 0.9f, INFINITY, NAN}, p = 0.2f;
    for (size_t i = 0; i < 5; i++) {
        const struct exit_view view = {.layer = 10, .p = &p, .count = 1, .leave = bounds[i]};
        assert_int_equal(exit_rule_settled(&calibrated, &view), i < 2);
    }
}

static void a_rule_on_the_answer_looks_at_one_layer(void **state)
{
    (void)state;
    const enum exit_rule_kind kinds[] = {EXIT_RULE_FIXED, EXIT_RULE_CONFIDENCE, EXIT_RULE_PATIENCE,
                                         EXIT_RULE_CALIBRATED};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(exit_rule_layers(&(struct exit_rule){.kind = kinds[i], .window = 3}), 1);
    assert_int_equal(exit_rule_layers(&(struct exit_rule){.kind = EXIT_RULE_FULL, .window = 3}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratio_follows_the_printed_algorithm),
        cmocka_unit_test(log_odds_treats_yes_and_no_alike),
        cmocka_unit_test(too_few_layers_go_on),
        cmocka_unit_test(a_window_too_small_never_fires),
        cmocka_unit_test(only_the_last_layers_count),
        cmocka_unit_test(unsure_goes_on_to_full_depth),
        cmocka_unit_test(fixed_leaves_at_the_first_exit_that_is_deep_enough),
        cmocka_unit_test(confidence_takes_a_sure_no_as_a_sure_yes),
        cmocka_unit_test(patience_waits_until_the_last_answers_say_the_same),
        cmocka_unit_test(patience_looks_at_the_exits_not_at_the_layers_under_this_one),
        cmocka_unit_test(calibrated_goes_by_the_exits_own_bound),
        cmocka_unit_test(a_rule_on_the_answer_looks_at_one_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
