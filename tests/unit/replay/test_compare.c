#include <math.h>

#include <jansson.h>

#include "replay/compare.h"
#include "replay/evaluate.h"
#include "replay/report.h"
#include "replay/synthetic.h"
#include "replay/temporary.h"

static char printed[16384];

/* Writes a report on the trajectory; the path is the caller's to unlink. */
static void write_report(char path[256], const struct trajectory *trajectory)
{
    static const struct report_set set = {
        .name = "text", .rule = {.kind = EXIT_RULE_CALIBRATED}, .reference = SIZE_MAX};
    const struct report_run run = {"run", true, trajectory};
    const struct report_settings settings = {.title = "t",
                                             .runs = &run,
                                             .run_count = 1,
                                             .sets = &set,
                                             .set_count = 1,
                                             .max_loss = 0.02,
                                             .l2 = 1,
                                             .rounds = 20,
                                             .seed = 1,
                                             .times = ""};
    struct report *report;
    struct error err;
    struct buffer out = {0};
    if (report_create(&report, &settings, &err) != 0)
        fail_msg("%s", err.message);
    report_put_json(report, &out);
    assert_false(out.failed);
    temporary_write(path, ".json", out.data, out.size);
    buffer_free(&out);
    report_destroy(report);
}

static int compare(const char *a, const char *b, double tolerance, struct error *err)
{
    FILE *out = fmemopen(printed, sizeof printed, "w");
    assert_non_null(out);
    int result = compare_reports(&(struct compare_settings){a, b, tolerance, 100, 1}, out, err);
    fclose(out);
    return result;
}

static struct synthetic good, bad;
static char path_good[256], path_bad[256];

static int make(void **state)
{
    (void)state;
    good = synthetic_make(900, 0.2, 23);
    bad = synthetic_make(900, 0.2, 23);
    struct random random = {9};
    for (size_t i = 0; i < bad.trajectory.count * SYNTHETIC_READINGS; i++)
        if (i % SYNTHETIC_READINGS > 0)
            bad.trajectory.logits[i] += (float)synthetic_noise(&random);
    write_report(path_good, &good.trajectory);
    write_report(path_bad, &bad.trajectory);
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    unlink(path_good);
    unlink(path_bad);
    synthetic_free(&good);
    synthetic_free(&bad);
    return 0;
}

static void a_report_is_no_worse_than_itself(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(compare(path_good, path_good, 0, &err), 0);
    assert_non_null(strstr(printed, "text.served"));
    assert_non_null(strstr(printed, "+0.0000  +0.0000 to +0.0000"));
    assert_null(strstr(printed, "WORSE"));
}

static void worse_is_told_from_better(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(compare(path_good, path_bad, 0.005, &err), 1);
    assert_non_null(strstr(printed, "WORSE"));
    assert_int_equal(compare(path_bad, path_good, 0.005, &err), 0);
    assert_null(strstr(printed, "WORSE"));
    assert_int_equal(compare(path_good, path_bad, 0.9, &err), 0); /* a tolerance that nothing exceeds */
}

static void rows_are_matched_by_what_they_are(void **state)
{
    (void)state;
    struct synthetic part = synthetic_make(900, 0.2, 23); /* the same rows but for the first test requests */
    char path[256];
    struct error err;
    size_t left_out = 0;
    for (size_t i = 0; i < part.trajectory.count; i++)
        if (part.trajectory.rows[i].part == TRAJECTORY_TEST && part.trajectory.rows[i].request < 600) {
            part.trajectory.rows[i].part = TRAJECTORY_TRAIN;
            left_out++;
        }
    assert_true(left_out > 50);
    write_report(path, &part.trajectory);
    assert_int_equal(compare(path_good, path, 0.05, &err), 0);
    size_t both, in_a, in_b;
    assert_int_equal(sscanf(printed, "%zu labelled rows in both; %zu rows in A, %zu in B", &both, &in_a, &in_b), 3);
    assert_int_equal(in_a - in_b, left_out);
    assert_true(both <= in_b && both > in_b * 9 / 10); /* every 50th has no label */
    assert_non_null(strstr(printed, "item prior              AUC"));
    unlink(path);
    synthetic_free(&part);
}

static void other_rows_cannot_be_compared(void **state)
{
    (void)state;
    struct synthetic other = synthetic_make(900, 0.2, 23);
    char path[256];
    struct error err;
    for (size_t i = 0; i < other.trajectory.count; i++)
        other.trajectory.rows[i].timestamp_ms += 1;
    write_report(path, &other.trajectory);
    assert_int_equal(compare(path_good, path, 0, &err), -1);
    assert_non_null(strstr(err.message, "no scored rows in common"));
    unlink(path);
    synthetic_free(&other);
}

static void what_is_no_report_is_refused_with_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "end of file"},
        {"{", "end of file"},
        {"[]", "format"},
        {"{\"format\": \"other\"}", "format"},
        {"{\"format\": \"headrace-replay/1\"}", "predictions"},
        {"{\"format\": \"headrace-replay/1\", \"predictions\": {\"p\": {}}}", "timestamp_ms"},
        {"{\"format\": \"headrace-replay/1\", \"predictions\": {\"p\": {}, \"timestamp_ms\": [1], \"request\": [1], "
         "\"user\": [1], \"item\": [1, 2], \"label\": [1]}}",
         "item"},
        {"{\"format\": \"headrace-replay/1\", \"predictions\": {\"p\": {}, \"timestamp_ms\": [1], \"request\": [1], "
         "\"user\": [-1], \"item\": [1], \"label\": [1]}}",
         "user"},
        {"{\"format\": \"headrace-replay/1\", \"predictions\": {\"p\": {\"x\": [1.5]}, \"timestamp_ms\": [1], "
         "\"request\": [1], \"user\": [1], \"item\": [1], \"label\": [1]}}",
         "x"},
        {"{\"format\": \"headrace-replay/1\", \"predictions\": {\"p\": {\"x\": []}, \"timestamp_ms\": [1], "
         "\"request\": [1], \"user\": [1], \"item\": [1], \"label\": [1]}}",
         "x"},
    };
    struct error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256];
        temporary_write(path, ".json", cases[i].json, strlen(cases[i].json));
        assert_int_equal(compare(path_good, path, 0, &err), -1);
        assert_int_equal(err.kind, ERROR_BAD_INPUT);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, cases[i].message));
        unlink(path);
    }
    assert_int_equal(compare("/nonexistent.json", path_good, 0, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_is_no_worse_than_itself),           cmocka_unit_test(worse_is_told_from_better),
        cmocka_unit_test(rows_are_matched_by_what_they_are),          cmocka_unit_test(other_rows_cannot_be_compared),
        cmocka_unit_test(what_is_no_report_is_refused_with_its_name),
    };
    return cmocka_run_group_tests(tests, make, take_down);
}
