#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "observe/metrics.h"

static void expect_page(struct metrics *metrics, const char *expected)
{
    struct error err;
    assert_int_equal(metrics_end(metrics, &err), 0);
    assert_string_equal(buffer_string(&metrics->page), expected);
    metrics_free(metrics);
}

static void a_family_says_once_what_it_is(void **state)
{
    (void)state;
    struct metrics metrics = {0};
    metrics_family(&metrics, "requests_total", METRICS_COUNTER, "Requests answered.");
    metrics_put(&metrics, METRICS_LABELS({"status", "ok"}), 3);
    metrics_put(&metrics, METRICS_LABELS({"status", "shed"}, {"class", "none"}), 0);
    metrics_single(&metrics, "bound", METRICS_GAUGE, "How far off.", 0.1);
    expect_page(&metrics, "# HELP requests_total Requests answered.\n"
                          "# TYPE requests_total counter\n"
                          "requests_total{status=\"ok\"} 3\n"
                          "requests_total{status=\"shed\",class=\"none\"} 0\n"
                          "# HELP bound How far off.\n"
                          "# TYPE bound gauge\n"
                          "bound 0.1\n");
}

static void a_family_without_series_leaves_no_trace(void **state)
{
    (void)state;
    struct metrics metrics = {0};
    metrics_family(&metrics, "nothing", METRICS_GAUGE, "Never there.");
    metrics_single(&metrics, "infinite", METRICS_GAUGE, "Not a number that one can draw.", INFINITY);
    metrics_single(&metrics, "unknown", METRICS_GAUGE, "Nor this.", NAN);
    metrics_single(&metrics, "known", METRICS_GAUGE, "A number.", -2);
    expect_page(&metrics, "# HELP known A number.\n# TYPE known gauge\nknown -2\n");
}

static void what_a_label_holds_cannot_forge_a_line_nor_spoil_the_page(void **state)
{
    (void)state;
    struct metrics metrics = {0};
    metrics_family(&metrics, "topics", METRICS_GAUGE, "A \\ and\na \"quote\".");
    metrics_put(&metrics, METRICS_LABELS({"topic", "a\"} 1\nforged{x=\"\\"}), 1);
    metrics_put(&metrics, METRICS_LABELS({"topic", "\xc3\xa9\xff\xc3"}), 2);
    expect_page(&metrics, "# HELP topics A \\\\ and\\na \"quote\".\n"
                          "# TYPE topics gauge\n"
                          "topics{topic=\"a\\\"} 1\\nforged{x=\\\"\\\\\"} 1\n"
                          "topics{topic=\"\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"} 2\n");
}

static void buckets_are_cumulative_and_end_in_all_of_them(void **state)
{
    (void)state;
    struct buckets buckets;
    struct metrics metrics = {0};
    buckets_init(&buckets, (double[]){0.25, 1}, 2);
    buckets_add(&buckets, 0.125);
    buckets_add(&buckets, 0.5);
    buckets_add(&buckets, 7);
    struct buckets_counts counts = buckets_read(&buckets);
    metrics_family(&metrics, "stage_seconds", METRICS_HISTOGRAM, "How long.");
    metrics_put_buckets(&metrics, METRICS_LABELS({"stage", "plan"}), &counts);
    metrics_put_buckets(&metrics, NULL, &counts);
    expect_page(&metrics, "# HELP stage_seconds How long.\n"
                          "# TYPE stage_seconds histogram\n"
                          "stage_seconds_bucket{stage=\"plan\",le=\"0.25\"} 1\n"
                          "stage_seconds_bucket{stage=\"plan\",le=\"1\"} 2\n"
                          "stage_seconds_bucket{stage=\"plan\",le=\"+Inf\"} 3\n"
                          "stage_seconds_sum{stage=\"plan\"} 7.625\n"
                          "stage_seconds_count{stage=\"plan\"} 3\n"
                          "stage_seconds_bucket{le=\"0.25\"} 1\n"
                          "stage_seconds_bucket{le=\"1\"} 2\n"
                          "stage_seconds_bucket{le=\"+Inf\"} 3\n"
                          "stage_seconds_sum 7.625\n"
                          "stage_seconds_count 3\n");
}

static void numbers_are_short_and_lose_nothing(void **state)
{
    (void)state;
    static const double values[] = {0.1, 123456789, 1e300, 1.0 / 3, 9007199254740991, 5e-324, 1700000000.123};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct metrics metrics = {0};
        metrics_single(&metrics, "x", METRICS_GAUGE, "", values[i]);
        const char *line = strstr(buffer_string(&metrics.page), "\nx ");
        assert_non_null(line);
        assert_true(strtod(line + 3, NULL) == values[i]);
        assert_true(strlen(line + 3) <= 25);
        metrics_free(&metrics);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_says_once_what_it_is),
        cmocka_unit_test(a_family_without_series_leaves_no_trace),
        cmocka_unit_test(what_a_label_holds_cannot_forge_a_line_nor_spoil_the_page),
        cmocka_unit_test(buckets_are_cumulative_and_end_in_all_of_them),
        cmocka_unit_test(numbers_are_short_and_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
