#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "exits/exit_rule.h"

static const struct exit_rule ratio = {EXIT_RULE_RATIO, 3, 0.01f};
static const struct exit_rule log_odds = {EXIT_RULE_LOG_ODDS, 3, 0.01f};
static const struct exit_rule probability = {EXIT_RULE_PROBABILITY, 3, 0.01f};

static void ratio_follows_the_printed_algorithm(void **state)
{
    (void)state;
    const float even[] = {0.5f, 2.0f / 3, 0.75f, 0.8f}; /* odds 1, 2, 3, 4: steps 1, 1 | 1 */
    const float jump[] = {0.5f, 2.0f / 3, 0.75f, 0.9f}; /* odds 1, 2, 3, 9: steps 1, 1 | 6 */
    assert_true(exit_rule_settled(&ratio, even, 4));
    assert_false(exit_rule_settled(&ratio, jump, 4));
}

static void log_odds_treats_yes_and_no_alike(void **state)
{
    (void)state;
    const float no[] = {0.010f, 0.012f, 0.010f, 0.020f};
    const float yes[] = {0.990f, 0.988f, 0.990f, 0.980f};
    assert_false(exit_rule_settled(&log_odds, no, 4));
    assert_false(exit_rule_settled(&log_odds, yes, 4));
    assert_true(exit_rule_settled(&ratio, no, 4)); /* what LOG_ODDS is there to mend */
    assert_false(exit_rule_settled(&ratio, yes, 4));
}

static void too_few_layers_go_on(void **state)
{
    (void)state;
    const float calm[] = {0.6f, 0.6f, 0.6f, 0.6f, 0.6f};
    assert_false(exit_rule_settled(&ratio, calm, 3));
    assert_true(exit_rule_settled(&ratio, calm, 4));
    assert_false(exit_rule_settled(&probability, calm, 4));
    assert_true(exit_rule_settled(&probability, calm, 5));
}

static void a_window_too_small_never_fires(void **state)
{
    (void)state;
    const float calm[] = {0.6f, 0.6f, 0.6f};
    const struct exit_rule no_steps[] = {
        {EXIT_RULE_RATIO, 1, 0.01f}, {EXIT_RULE_LOG_ODDS, 0, 0.01f}, {EXIT_RULE_PROBABILITY, 0, 0.01f}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(exit_rule_layers(&no_steps[i]), 0);
        assert_false(exit_rule_settled(&no_steps[i], calm, 3));
    }
}

static void only_the_last_layers_count(void **state)
{
    (void)state;
    const float wild_then_calm[] = {0.1f, 0.9f, 0.2f, 0.6f, 0.6f, 0.6f, 0.6f};
    assert_true(exit_rule_settled(&ratio, wild_then_calm, 7));
}

static void unsure_goes_on_to_full_depth(void **state)
{
    (void)state;
    const float broken[] = {0.6f, NAN, 0.6f, 0.6f};
    const float certain[] = {1.0f, 1.0f, 1.0f, 1.0f}; /* infinite odds: their steps are undefined */
    assert_false(exit_rule_settled(&ratio, broken, 4));
    assert_false(exit_rule_settled(&ratio, certain, 4));
    assert_false(exit_rule_settled(&log_odds, certain, 4));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
