#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "stream/window.h"

static void the_prefix_waits_for_the_oldest(void **state)
{
    (void)state;
    struct window window = {.entries = NULL};
    for (int64_t offset = 10; offset < 14; offset++)
        assert_int_equal(window_enter(&window, offset), 0);
    assert_true(window_finish(&window, 11));
    assert_true(window_finish(&window, 13));
    assert_int_equal(window.prefix, 0);
    assert_true(window_finish(&window, 10));
    assert_int_equal(window.prefix, 12);
    assert_int_equal(window.finished, 2);
    assert_true(window_finish(&window, 12));
    assert_int_equal(window.prefix, 14);
    window_free(&window);
}

static void gaps_in_the_log_hold_nothing_up(void **state)
{
    (void)state;
    struct window window = {.entries = NULL};
    assert_int_equal(window_enter(&window, 3), 0);
    assert_int_equal(window_enter(&window, 90), 0);
    assert_true(window_finish(&window, 3));
    assert_int_equal(window.prefix, 4);
    assert_true(window_finish(&window, 90));
    assert_int_equal(window.prefix, 91);
    window_free(&window);
}

static void what_is_not_outstanding_cannot_be_finished(void **state)
{
    (void)state;
    struct window window = {.entries = NULL};
    assert_false(window_finish(&window, 0));
    assert_int_equal(window_enter(&window, 0), 0);
    assert_int_equal(window_enter(&window, 1), 0);
    assert_false(window_finish(&window, 2));
    assert_true(window_finish(&window, 1));
    assert_false(window_finish(&window, 1));
    assert_true(window_finish(&window, 0));
    assert_false(window_finish(&window, 0));
    window_free(&window);
}

/* Against the plain definition: the prefix ends before the lowest offset that is not done. */
static void any_order_gives_the_lowest_unfinished(void **state)
{
    (void)state;
    enum { COUNT = 2000, AHEAD = 60 };
    static bool done[COUNT];
    struct random random = {7};
    struct window window = {.entries = NULL};
    int64_t entered = 0, lowest = 0;
    while (lowest < COUNT) {
        if (entered < COUNT && entered - lowest < AHEAD && random_below(&random, 2) == 0) {
            assert_int_equal(window_enter(&window, entered++), 0);
        } else if (entered > lowest) {
            int64_t offset = lowest + (int64_t)random_below(&random, (uint64_t)(entered - lowest));
            assert_int_equal(window_finish(&window, offset), !done[offset]);
            done[offset] = true;
        }
        while (lowest < COUNT && done[lowest])
            lowest++;
        assert_int_equal(window.prefix, lowest);
        assert_int_equal(window.count, entered - lowest);
    }
    assert_true(window.capacity <= 4 * AHEAD);
    window_free(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prefix_waits_for_the_oldest),
        cmocka_unit_test(gaps_in_the_log_hold_nothing_up),
        cmocka_unit_test(what_is_not_outstanding_cannot_be_finished),
        cmocka_unit_test(any_order_gives_the_lowest_unfinished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
