#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "graph/sort.h"

enum { COUNT = 5000 };

/* Keys below `most`, sorted: in order, and those of one key in the order in which they came. */
static void check_sorted(size_t count, uint64_t most, uint64_t seed)
{
    static struct sort_entry entries[COUNT], other[COUNT];
    static uint64_t keys[COUNT];
    struct random random = {seed};
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        keys[i] = random_next(&random) % most + (UINT64_MAX - most) / 2;
        least = keys[i] < least ? keys[i] : least;
        entries[i] = (struct sort_entry){keys[i], (uint32_t)i};
    }
    const struct sort_entry *sorted = sort_entries(entries, other, count);
    for (size_t i = 0; i < count; i++) {
        assert_true(sorted[i].key == keys[sorted[i].at] - least);
        if (i == 0)
            continue;
        assert_true(sorted[i - 1].key <= sorted[i].key);
        assert_true(sorted[i - 1].key < sorted[i].key || sorted[i - 1].at < sorted[i].at);
    }
}

static void entries_of_one_key_keep_their_order(void **state)
{
    (void)state;
    check_sorted(COUNT, 3, 1);
    check_sorted(COUNT, 1000, 2);
    check_sorted(COUNT, 1, 3);
}

static void keys_of_any_width_are_sorted(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits < 64; bits++)
        check_sorted(COUNT / 5, UINT64_C(1) << bits, bits);
    check_sorted(COUNT, UINT64_MAX, 64);
}

static void none_and_one_are_sorted(void **state)
{
    (void)state;
    check_sorted(0, 10, 1);
    check_sorted(1, UINT64_MAX, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_of_one_key_keep_their_order),
        cmocka_unit_test(keys_of_any_width_are_sorted),
        cmocka_unit_test(none_and_one_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
