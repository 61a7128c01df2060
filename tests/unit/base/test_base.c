#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/histogram.h"
#include "base/pool.h"
#include "base/queue.h"
#include "base/random.h"
#include "base/table.h"
#include "base/text.h"

static void an_error_keeps_its_kind_when_wrapped(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, ERROR_RETRY, "disk %d is full", 3), -1);
    assert_int_equal(error_wrap(&err, "writing %s", "a batch"), -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    assert_string_equal(err.message, "writing a batch: disk 3 is full");
}

static void an_error_too_long_is_cut_and_ends(void **state)
{
    (void)state;
    char long_text[600];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    struct error err;
    error_set(&err, ERROR_FATAL, "%s", long_text);
    error_wrap(&err, "%s", long_text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void utf8_takes_what_rfc_3629_takes(void **state)
{
    (void)state;
    const char *const good[] = {"", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8e\xac", "\xf4\x8f\xbf\xbf"};
    const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xc3",  "\xed\xa0\x80",        "\xf4\x90\x80\x80",
                               "\xe0\x80\x80", "\xf0\x80\x80\x80", "a\xff", "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(text_is_utf8(text_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(text_is_utf8(text_of(bad[i])));
    assert_false(text_is_utf8((struct text){"a\0b", 3}));
}

static void every_code_point_survives_encoding(void **state)
{
    (void)state;
    for (uint32_t c = 1; c <= 0x10ffff; c += c < 0x3000 ? 1 : 97) {
        if (c >= 0xd800 && c < 0xe000)
            continue;
        char bytes[4];
        uint32_t back;
        size_t length = text_encode(c, bytes);
        assert_int_equal(text_code_point(bytes, length, &back), length);
        assert_int_equal(back, c);
    }
}

static void a_prefix_never_cuts_a_character(void **state)
{
    (void)state;
    struct text text = text_of("a\xe2\x82\xac"
                               "b");
    assert_int_equal(text_prefix(text, 2).size, 1);
    assert_int_equal(text_prefix(text, 4).size, 4);
    assert_int_equal(text_prefix(text, 99).size, 5);
}

static void pieces_are_cut_off_one_by_one_until_nothing_is_left(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "", "bc"};
    struct text rest = text_of("a||bc|"), none = {0};
    for (size_t i = 0; i < 3; i++)
        assert_true(text_equal(text_cut(&rest, '|'), text_of(pieces[i])));
    assert_int_equal(rest.size, 0);
    assert_int_equal(text_cut(&rest, '|').size, 0);
    rest = text_of("no end");
    assert_true(text_equal(text_cut(&rest, '|'), text_of("no end")));
    assert_int_equal(rest.size, 0);
    assert_int_equal(text_cut(&none, '|').size, 0);
    assert_null(none.data);
}

static void distance_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(text_distance(text_of("treshold"), text_of("threshold")), 1);
    assert_int_equal(text_distance(text_of(""), text_of("abc")), 3);
    assert_int_equal(text_distance(text_of("kitten"), text_of("sitting")), 3);
}

static void an_arena_keeps_to_its_limit_and_comes_back(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 100000);
    for (int round = 0; round < 3; round++) {
        char *small = arena_allocate(&arena, 10);
        char *large = arena_allocate(&arena, 50000);
        assert_non_null(small);
        assert_non_null(large);
        assert_int_equal((uintptr_t)small % 16, 0);
        for (size_t i = 0; i < 50000; i++)
            assert_int_equal(large[i], 0);
        memset(large, 1, 50000);
        assert_null(arena_allocate(&arena, 60000));
        assert_null(arena_allocate_array(&arena, SIZE_MAX / 2, 8));
        arena_reset(&arena);
    }
    arena_free(&arena);
}

static void a_buffer_grows_and_formats(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        buffer_printf(&buffer, "%d,", i);
    buffer_append_text(&buffer, text_of("end"));
    assert_false(buffer.failed);
    assert_int_equal(buffer.size, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    assert_memory_equal(buffer.data, "0,1,2,", 6);
    assert_string_equal(buffer_string(&buffer) + buffer.size - 3, "end");
    buffer_free(&buffer);
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append_json(&buffer, text_of("a\"b\\c\nd\x7f\xc3\xa9"));
    assert_string_equal(buffer_string(&buffer), "\"a\\\"b\\\\c\\u000ad\\u007f\xc3\xa9\"");
    buffer_free(&buffer);
}

static void a_table_numbers_keys_in_order(void **state)
{
    (void)state;
    struct table table = {0};
    char key[16];
    for (uint32_t i = 0; i < 5000; i++) {
        int length = snprintf(key, sizeof key, "key %u", i);
        assert_int_equal(table_add(&table, (struct text){key, (size_t)length}), i);
        assert_int_equal(table_add(&table, (struct text){key, (size_t)length}), i);
    }
    assert_int_equal(table_find(&table, text_of("key 4999")), 4999);
    assert_int_equal(table_find(&table, text_of("key 5000")), TABLE_NONE);
    assert_true(text_equal(table_key(&table, 17), text_of("key 17")));
    table_free(&table);
}

static void *push_a_thousand(void *argument)
{
    struct queue *queue = argument;
    for (uintptr_t i = 1; i <= 1000; i++)
        while (!queue_try_push(queue, (void *)i))
            sched_yield();
    queue_close(queue);
    return NULL;
}

static void a_queue_hands_over_in_order_and_never_more_than_fits(void **state)
{
    (void)state;
    struct queue *queue = queue_create(8);
    pthread_t thread;
    pthread_create(&thread, NULL, push_a_thousand, queue);
    for (uintptr_t i = 1; i <= 1000; i++) {
        assert_true(queue_size(queue) <= 8);
        assert_int_equal((uintptr_t)queue_pop(queue, -1), i);
    }
    assert_null(queue_pop(queue, -1)); /* closed and empty */
    pthread_join(thread, NULL);
    assert_false(queue_try_push(queue, queue));
    queue_destroy(queue);
}

static void a_time_is_read_as_it_is_written_and_in_shorter_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t wall_ms;
    } times[] = {
        {"1970-01-01", 0},
        {"1970-01-01T00:00:05.000Z", 5000},
        {"2000-02-29T12:30", 951827400000},
        {"2024-02-29T23:59:59.5Z", 1709251199500},
        {"2100-03-01T00:00:00Z", 4107542400000},
        {"1998-01-31T01:00:00+01:00", 886204800000},
        {"1998-01-30T18:30:00.25-05:30", 886204800250},
        {"1969-12-31T23:59:59.999Z", -1},
        {"886204800000", 886204800000},
        {"0", 0},
    };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t wall_ms;
        char text[32];
        if (!clock_parse(times[i].text, &wall_ms))
            fail_msg("%s is not read", times[i].text);
        assert_int_equal(wall_ms, times[i].wall_ms);
        clock_format(wall_ms, text);
        assert_true(clock_parse(text, &wall_ms));
        assert_int_equal(wall_ms, times[i].wall_ms);
    }
    static const char *const others[] = {"",
                                         "now",
                                         "2024-13-01",
                                         "2023-02-29",
                                         "1900-02-29",
                                         "2024-1-1",
                                         "2024-01-01T",
                                         "2024-01-01T24:00",
                                         "2024-01-01T12",
                                         "2024-01-01T12:00:00.",
                                         "2024-01-01Z",
                                         "2024-01-01T12:60",
                                         "-5",
                                         "2024-01-01T12:00:00x",
                                         "2024-01-01T12:00+1:00",
                                         "99999999999999999999",
                                         "2024-01-01T12:00:00.1234"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int64_t wall_ms;
        if (clock_parse(others[i], &wall_ms))
            fail_msg("\"%s\" is no time", others[i]);
    }
}

static void an_empty_queue_times_out(void **state)
{
    (void)state;
    struct queue *queue = queue_create(1);
    int64_t start = clock_monotonic_ns();
    assert_null(queue_pop(queue, 30));
    assert_true(clock_since_ms(start) >= 29);
    queue_destroy(queue);
}

struct marks {
    atomic_int done[1000];
};

static void mark(void *job, size_t index, size_t worker)
{
    assert_true(worker < 3);
    atomic_fetch_add(&((struct marks *)job)->done[index], 1);
}

static void a_pool_does_every_task_once(void **state)
{
    (void)state;
    struct pool *pool = pool_create(3);
    for (int round = 0; round < 200; round++) {
        struct marks marks = {0};
        pool_run(pool, 1000, mark, &marks);
        for (size_t i = 0; i < 1000; i++)
            assert_int_equal(marks.done[i], 1);
    }
    pool_destroy(pool);
}

static void a_histogram_is_within_one_percent(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    for (int i = 1; i <= 100000; i++)
        histogram_add(&histogram, i * 0.01);
    assert_true(fabs(histogram_quantile(&histogram, 0.5) / 500 - 1) < 0.01);
    assert_true(fabs(histogram_quantile(&histogram, 0.99) / 990 - 1) < 0.01);
    assert_int_equal(histogram.count, 100000);
    struct histogram empty = {0};
    assert_true(isnan(histogram_quantile(&empty, 0.5)));
}

static void random_numbers_repeat(void **state)
{
    (void)state;
    struct random a = {1}, b = {1};
    assert_true(random_next(&a) == 0x910a2dec89025cc1u); /* SplitMix64's first number for seed 1 */
    random_next(&b);
    for (int i = 0; i < 1000; i++) {
        double u = random_uniform(&a);
        assert_true(u >= 0 && u < 1);
        assert_true(random_below(&b, 7) < 7);
    }
}

static void a_file_is_replaced_whole_and_read_within_its_limit(void **state)
{
    (void)state;
    char directory[] = "/tmp/headrace-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/a/b", directory);
    struct error err;
    assert_int_equal(file_make_directories(path, &err), 0);
    snprintf(path, sizeof path, "%s/a/b/file", directory);
    assert_int_equal(file_replace(path, "old", 3, &err), 0);
    assert_int_equal(file_replace(path, "newer", 5, &err), 0);

    struct buffer buffer = {0};
    assert_int_equal(file_read(path, 5, &buffer, &err), 0);
    assert_true(text_equal(buffer_text(&buffer), text_of("newer")));
    assert_int_equal(file_read(path, 4, &buffer, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);

    struct file_map map;
    assert_int_equal(file_map(path, &map, &err), 0);
    assert_memory_equal(map.data, "newer", 5);
    file_unmap(&map);
    assert_int_equal(file_map("/nonexistent/file", &map, &err), -1);
    assert_non_null(strstr(err.message, "/nonexistent/file"));
    assert_int_equal(file_map(directory, &map, &err), -1);

    buffer_free(&buffer);
    unlink(path);
    snprintf(path, sizeof path, "%s/a/b", directory);
    rmdir(path);
    snprintf(path, sizeof path, "%s/a", directory);
    rmdir(path);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_keeps_its_kind_when_wrapped),
        cmocka_unit_test(an_error_too_long_is_cut_and_ends),
        cmocka_unit_test(utf8_takes_what_rfc_3629_takes),
        cmocka_unit_test(every_code_point_survives_encoding),
        cmocka_unit_test(a_prefix_never_cuts_a_character),
        cmocka_unit_test(pieces_are_cut_off_one_by_one_until_nothing_is_left),
        cmocka_unit_test(distance_counts_edits),
        cmocka_unit_test(an_arena_keeps_to_its_limit_and_comes_back),
        cmocka_unit_test(a_buffer_grows_and_formats),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(a_table_numbers_keys_in_order),
        cmocka_unit_test(a_queue_hands_over_in_order_and_never_more_than_fits),
        cmocka_unit_test(an_empty_queue_times_out),
        cmocka_unit_test(a_pool_does_every_task_once),
        cmocka_unit_test(a_time_is_read_as_it_is_written_and_in_shorter_forms),
        cmocka_unit_test(a_histogram_is_within_one_percent),
        cmocka_unit_test(random_numbers_repeat),
        cmocka_unit_test(a_file_is_replaced_whole_and_read_within_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
