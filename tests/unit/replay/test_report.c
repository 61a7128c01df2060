#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "replay/metrics.h"
#include "replay/evaluate.h"
#include "replay/report.h"
#include "replay/report_tables.h"
#include "replay/synthetic.h"

#define assert_near(value, expected, tolerance) assert_true(fabs((value) - (expected)) <= (tolerance))

static struct synthetic with, without;

static int make(void **state)
{
    (void)state;
    with = synthetic_make(900, 0.2, 23);
    without = synthetic_make(900, 0.2, 23);
    struct trajectory *other = &without.trajectory; /* the same requests, scored worse */
    struct random random = {9};
    for (size_t i = 0; i < other->count * SYNTHETIC_READINGS; i++)
        if (i % SYNTHETIC_READINGS > 0)
            other->logits[i] += (float)synthetic_noise(&random);
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    synthetic_free(&with);
    synthetic_free(&without);
    return 0;
}

static const struct report_set sets[] = {
    {.name = "text", .rule = {.kind = EXIT_RULE_CALIBRATED}, .reference = SIZE_MAX},
    {.name = "hybrid", .rule = {.kind = EXIT_RULE_CALIBRATED}, .exit0 = true, .reference = SIZE_MAX},
    {.name = "single", .rule = {.kind = EXIT_RULE_CALIBRATED}, .reference = SIZE_MAX}, /* not in these trajectories */
};

/* Settings of all that the tests ask for; `times` is what differs. */
static struct report_settings settings_of(const struct report_run *runs, size_t run_count, const char *times)
{
    static const struct report_speed speeds[] = {{"text, calibrated", 61.5}};
    static const struct report_fact facts[] = {{"heads", "<script>alert('x')</script> & \"co\""}, {"seed", "1"}};
    return (struct report_settings){
        .title = "Replay of <ml> & co",
        .runs = runs,
        .run_count = run_count,
        .sets = sets,
        .set_count = 3,
        .max_loss = 0.02,
        .l2 = 1,
        .rounds = 100,
        .seed = 1,
        .speeds = speeds,
        .speed_count = 1,
        .facts = facts,
        .fact_count = 2,
        .times = times,
    };
}

static struct report *report_of(const struct report_settings *settings)
{
    struct report *report;
    struct error err;
    if (report_create(&report, settings, &err) != 0)
        fail_msg("%s", err.message);
    return report;
}

static struct report *usual(const char *times)
{
    const struct report_run runs[] = {{"candidate", true, &with.trajectory}, {"none", false, &without.trajectory}};
    struct report_settings settings = settings_of(runs, 2, times);
    return report_of(&settings);
}

static json_t *json_of(const struct report *report)
{
    struct buffer out = {0};
    json_error_t error;
    report_put_json(report, &out);
    json_t *json = json_loadb((const char *)out.data, out.size, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        fail_msg("line %d: %s", error.line, error.text);
    buffer_free(&out);
    return json;
}

static json_t *scorer_of(json_t *json, const char *id)
{
    size_t i;
    json_t *scorer;
    json_array_foreach(json_object_get(json, "scorers"), i, scorer)
    {
        if (strcmp(json_string_value(json_object_get(scorer, "id")), id) == 0)
            return scorer;
    }
    return NULL;
}

static double number(json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

static void figures_are_those_of_the_rows_that_stand_beside_them(void **state)
{
    (void)state;
    struct report *report = usual("now");
    json_t *json = json_of(report), *predictions = json_object_get(json, "predictions");
    json_t *labels = json_object_get(predictions, "label"), *scorer;
    static const char *const ids[] = {
        "constant",      "item prior",     "user and item",     "features",    "exit0",
        "text.best",     "text.full",      "text.served",       "hybrid.best", "hybrid.full",
        "hybrid.served", "none/text.best", "none/hybrid.served"};
    for (size_t s = 0; s < sizeof ids / sizeof *ids; s++) {
        json_t *p = json_object_get(json_object_get(predictions, "p"), ids[s]);
        double scores[2000], auc, log_loss;
        bool yes[2000];
        size_t count = 0;
        for (size_t i = 0; i < json_array_size(labels); i++)
            if (json_integer_value(json_array_get(labels, i)) >= 0 && json_is_number(json_array_get(p, i))) {
                yes[count] = json_integer_value(json_array_get(labels, i)) == 1;
                scores[count++] = json_number_value(json_array_get(p, i));
            }
        struct error err;
        scorer = scorer_of(json, ids[s]);
        assert_non_null(scorer);
        assert_int_equal(metrics_auc(scores, yes, count, &auc, &err), 0);
        assert_int_equal(metrics_log_loss(scores, yes, count, &log_loss, &err), 0);
        assert_true(count > 600);
        assert_int_equal((size_t)number(scorer, "rows"), count);
        assert_near(number(scorer, "auc"), auc, 1e-4);
        assert_near(number(scorer, "log_loss"), log_loss, 1e-6);
    }
    assert_null(scorer_of(json, "single.best"));
    assert_string_equal(json_string_value(json_object_get(json, "compared_with")), "features");
    assert_string_equal(json_string_value(json_object_get(json, "headline")), "hybrid.best");
    assert_near(number(json_object_get(scorer_of(json, "hybrid.best"), "auc_minus"), "value"),
                number(scorer_of(json, "hybrid.best"), "auc") - number(scorer_of(json, "features"), "auc"), 1e-6);
    assert_true(number(scorer_of(json, "hybrid.served"), "token_layers_share") < 0.9);
    assert_true(number(scorer_of(json, "text.full"), "token_layers_share") == 1);
    assert_near(number(json_object_get(scorer_of(json, "text.full"), "increase"), "value"),
                number(scorer_of(json, "text.full"), "log_loss") - number(scorer_of(json, "text.best"), "log_loss"),
                1e-6);
    json_decref(json);
    report_destroy(report);
}

static void slices_divide_the_rows(void **state)
{
    (void)state;
    struct report *report = usual("now");
    json_t *json = json_of(report), *slice;
    size_t i, labelled = (size_t)number(json, "labelled"), items = 0, users = 0, months = 0;
    json_array_foreach(json_object_get(json, "slices"), i, slice)
    {
        const char *name = json_string_value(json_object_get(slice, "name"));
        size_t rows = (size_t)number(slice, "rows");
        assert_true(rows > 0 && number(slice, "yes") <= (double)rows);
        items += strstr(name, "items") != NULL ? rows : 0;
        users += strstr(name, "users") != NULL ? rows : 0;
        months += strstr(name, "20") == name ? rows : 0;
        assert_true(json_is_number(json_object_get(json_object_get(slice, "auc_minus"), "low")));
    }
    assert_int_equal(items, labelled);
    assert_int_equal(users, labelled);
    assert_int_equal(months, labelled);
    json_decref(json);
    report_destroy(report);
}

static void the_papers_ablation_has_its_names(void **state)
{
    (void)state;
    struct report *report = usual("now");
    json_t *json = json_of(report), *rows = json_object_get(json, "ablation");
    static const char *const expected[][2] = {{"no retriever and no exit", "none/text.full"},
                                              {"retriever only", "text.full"},
                                              {"exit only", "none/text.served"},
                                              {"single head", NULL},
                                              {"full", "text.served"}};
    assert_int_equal(json_array_size(rows), 5);
    for (size_t i = 0; i < 5; i++) {
        json_t *row = json_array_get(rows, i);
        const char *scorer = json_string_value(json_object_get(row, "scorer"));
        assert_string_equal(json_string_value(json_object_get(row, "name")), expected[i][0]);
        if (expected[i][1] == NULL)
            assert_null(scorer);
        else
            assert_string_equal(scorer, expected[i][1]);
    }
    assert_true(number(json_object_get(json_array_get(rows, 0), "auc_minus"), "value") < 0);
    json_decref(json);
    report_destroy(report);
}

static void two_reports_differ_in_their_line_of_times_alone(void **state)
{
    (void)state;
    struct report *one = usual("2026-01-01, 12 s"), *other = usual("2026-02-02, 34 s");
    void (*const writers[])(const struct report *, struct buffer *) = {report_put_html, report_put_json, report_put_csv,
                                                                       report_put_text};
    for (size_t w = 0; w < 4; w++) {
        struct buffer a = {0}, b = {0};
        writers[w](one, &a);
        writers[w](other, &b);
        assert_false(a.failed || b.failed);
        struct text rest_a = buffer_text(&a), rest_b = buffer_text(&b);
        size_t differing = 0;
        while (rest_a.size > 0 && rest_b.size > 0) {
            struct text line_a = text_cut(&rest_a, '\n'), line_b = text_cut(&rest_b, '\n');
            differing += !text_equal(line_a, line_b);
        }
        assert_true(rest_a.size == 0 && rest_b.size == 0);
        assert_int_equal(differing, w < 2 ? 1 : 0);
        buffer_free(&a);
        buffer_free(&b);
    }
    report_destroy(one);
    report_destroy(other);
}

static void the_table_for_a_terminal_has_a_line_a_scorer(void **state)
{
    (void)state;
    struct report *report = usual("2026-01-01, 12 s");
    struct buffer table = {0};
    report_put_text(report, &table);
    assert_false(table.failed);
    const char *text = buffer_string(&table);
    assert_non_null(strstr(text, report_summary(report)));
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        char line[64];
        snprintf(line, sizeof line, "\n  %-34s%8.3f", scorer->name, scorer->quality.auc);
        assert_true(scorer->run != 0 || strstr(text, line) != NULL);
    }
    buffer_free(&table);
    report_destroy(report);
}

static size_t occurrences(const char *text, const char *what)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

static void assert_no_odd_numbers(const char *page)
{
    static const char *const odd[] = {">nan", " nan", "-nan", "\"nan", ">inf", "-inf", "\"inf"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (strstr(page, odd[i]) != NULL)
            fail_msg("%.80s", strstr(page, odd[i]));
}

static void the_page_needs_nothing_else_and_runs_nothing(void **state)
{
    (void)state;
    struct report *report = usual("now");
    struct buffer out = {0};
    report_put_html(report, &out);
    const char *page = buffer_string(&out);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "url("));
    assert_non_null(strstr(page, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot;"));
    assert_non_null(strstr(page, "<title>Replay of &lt;ml&gt; &amp; co</title>"));
    assert_non_null(strstr(page, report_summary(report)));
    assert_no_odd_numbers(page);
    assert_non_null(strstr(page, "61.5"));
    static const char *const tags[] = {"table", "tr", "td", "div", "svg", "figure", "details", "dl", "p", "text"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        char open[16], bare[16], close[16];
        snprintf(open, sizeof open, "<%s ", tags[i]);
        snprintf(bare, sizeof bare, "<%s>", tags[i]);
        snprintf(close, sizeof close, "</%s>", tags[i]);
        assert_int_equal(occurrences(page, open) + occurrences(page, bare), occurrences(page, close));
    }
    buffer_free(&out);
    report_destroy(report);
}

/* Heads made to know more, less, and as much as the features: the words follow. */
static void the_summary_says_what_the_figures_say(void **state)
{
    (void)state;
    static const struct {
        double scale; /* of the noise, beyond the truth */
        const char *words;
    } cases[] = {
        {0, "The text adds to the evidence: "},
        {40, "The text takes away from the evidence: "},
    };
    const struct report_run run = {"candidate", true, &with.trajectory};
    struct report_settings settings = settings_of(&run, 1, "now");
    struct trajectory *trajectory = &with.trajectory;
    for (size_t c = 0; c < 2; c++) {
        struct random random = {5};
        for (size_t i = 0; i < trajectory->count; i++)
            for (size_t r = 1; r < SYNTHETIC_READINGS; r++) {
                float *logit = &trajectory->logits[i * SYNTHETIC_READINGS + r];
                double truth = with.truth[i];
                *logit = isnan(*logit) ? *logit
                                       : (float)(log(truth / (1 - truth)) + cases[c].scale * synthetic_noise(&random));
            }
        struct report *report = report_of(&settings);
        assert_ptr_equal(strstr(report_summary(report), cases[c].words), report_summary(report));
        assert_non_null(strstr(report_summary(report), "95 % interval"));
        assert_non_null(strstr(report_summary(report), "For cold items"));
        report_destroy(report);
    }

    struct report_settings evidence_alone = settings;
    evidence_alone.set_count = 0;
    struct report *report = report_of(&evidence_alone);
    assert_non_null(strstr(report_summary(report), "No language model ran"));
    struct buffer out = {0};
    report_put_html(report, &out);
    assert_no_odd_numbers(buffer_string(&out));
    buffer_free(&out);
    report_destroy(report);
}

static void what_is_chosen_can_be_written_into_a_head_file(void **state)
{
    (void)state;
    struct report *report = usual("now");
    struct exit_rule rule;
    float leave[EVALUATE_EXITS];
    size_t count = 0, finite = 0;
    assert_true(report_chosen(report, "text", &rule, leave, &count));
    assert_int_equal(count, 4);
    assert_true(isinf(leave[0])); /* exit 0 is not in this chain */
    for (size_t i = 1; i < count; i++)
        finite += isfinite(leave[i]);
    assert_true(finite > 0);
    assert_false(report_chosen(report, "single", &rule, leave, &count));
    report_destroy(report);
}

static void runs_of_other_requests_are_refused(void **state)
{
    (void)state;
    const struct report_run runs[] = {{"a", true, &with.trajectory}, {"b", false, &without.trajectory}};
    struct report_settings settings = settings_of(runs, 2, "now");
    struct report *report;
    struct error err;
    without.trajectory.rows[7].item ^= 1;
    assert_int_equal(report_create(&report, &settings, &err), -1);
    assert_non_null(strstr(err.message, "row 7"));
    without.trajectory.rows[7].item ^= 1;
    without.trajectory.count--;
    assert_int_equal(report_create(&report, &settings, &err), -1);
    without.trajectory.count++;
    for (size_t i = 0; i < with.trajectory.count; i++)
        with.trajectory.rows[i].label = TRAJECTORY_UNLABELLED;
    settings.run_count = 1;
    assert_int_equal(report_create(&report, &settings, &err), -1);
    assert_non_null(strstr(err.message, "test part"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(figures_are_those_of_the_rows_that_stand_beside_them, make, take_down),
        cmocka_unit_test_setup_teardown(slices_divide_the_rows, make, take_down),
        cmocka_unit_test_setup_teardown(the_papers_ablation_has_its_names, make, take_down),
        cmocka_unit_test_setup_teardown(two_reports_differ_in_their_line_of_times_alone, make, take_down),
        cmocka_unit_test_setup_teardown(the_table_for_a_terminal_has_a_line_a_scorer, make, take_down),
        cmocka_unit_test_setup_teardown(the_page_needs_nothing_else_and_runs_nothing, make, take_down),
        cmocka_unit_test_setup_teardown(the_summary_says_what_the_figures_say, make, take_down),
        cmocka_unit_test_setup_teardown(what_is_chosen_can_be_written_into_a_head_file, make, take_down),
        cmocka_unit_test_setup_teardown(runs_of_other_requests_are_refused, make, take_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
