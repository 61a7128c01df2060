#include "replay/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/report_tables.h"

const char *report_text(struct report *report, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = size < 0 ? NULL : arena_allocate(&report->arena, (size_t)size + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    return text;
}

int report_find(const struct report *report, const char *id)
{
    for (size_t i = 0; i < report->scorer_count; i++)
        if (strcmp(report->scorers[i].id, id) == 0)
            return (int)i;
    return REPORT_NONE;
}

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory for the report");
}

static int copy_texts(struct report *report, const struct report_settings *settings, struct error *err)
{
    report->title = report_text(report, "%s", settings->title);
    report->times = report_text(report, "%s", settings->times != NULL ? settings->times : "");
    report->facts = arena_allocate_array(&report->arena, settings->fact_count, sizeof *report->facts);
    report->speeds = arena_allocate_array(&report->arena, settings->speed_count, sizeof *report->speeds);
    report->runs = arena_allocate_array(&report->arena, settings->run_count, sizeof *report->runs);
    if (report->facts == NULL || report->speeds == NULL || report->runs == NULL)
        return no_memory(err);
    report->fact_count = settings->fact_count;
    report->speed_count = settings->speed_count;
    report->run_count = settings->run_count;
    bool complete = report->title != NULL && report->times != NULL;
    for (size_t i = 0; i < settings->fact_count; i++) {
        report->facts[i].name = report_text(report, "%s", settings->facts[i].name);
        report->facts[i].value = report_text(report, "%s", settings->facts[i].value);
        complete = complete && report->facts[i].name != NULL && report->facts[i].value != NULL;
    }
    for (size_t i = 0; i < settings->speed_count; i++) {
        report->speeds[i] = settings->speeds[i];
        report->speeds[i].name = report_text(report, "%s", settings->speeds[i].name);
        complete = complete && report->speeds[i].name != NULL;
    }
    for (size_t i = 0; i < settings->run_count; i++)
        complete = (report->runs[i] = report_text(report, "%s", settings->runs[i].name)) != NULL && complete;
    return complete ? 0 : no_memory(err);
}

static int copy_rows(struct report *report, const struct trajectory *trajectory, struct error *err)
{
    report->rows = calloc(trajectory->count + 1, sizeof *report->rows);
    report->row_places = calloc(trajectory->count + 1, sizeof *report->row_places);
    bool *seen = calloc(trajectory->users + 1, sizeof *seen);
    int result = report->rows == NULL || report->row_places == NULL || seen == NULL ? no_memory(err) : 0;
    for (size_t i = 0; i < trajectory->count && result == 0; i++) {
        const struct trajectory_row *row = &trajectory->rows[i];
        bool labelled = row->label != TRAJECTORY_UNLABELLED;
        report->train_rows += labelled && row->part == TRAJECTORY_TRAIN;
        report->calibrate_rows += labelled && row->part == TRAJECTORY_CALIBRATE;
        if (row->part != TRAJECTORY_TEST)
            continue;
        report->row_places[report->row_count] = i;
        report->rows[report->row_count++] = *row;
        report->labelled += labelled;
        if (row->user >= trajectory->users) {
            result = error_set(err, ERROR_BAD_INPUT, "trajectory: row %zu is of user %u, of %zu", i, row->user,
                               trajectory->users);
        } else if (labelled && !seen[row->user]) {
            seen[row->user] = true;
            report->users++;
        }
    }
    free(seen);
    if (result == 0 && report->labelled == 0)
        result = error_set(err, ERROR_BAD_INPUT, "no labelled row is in the test part: nothing to report");
    return result;
}

static bool same_row(const struct trajectory_row *a, const struct trajectory_row *b)
{
    return a->timestamp_ms == b->timestamp_ms && a->user == b->user && a->item == b->item && a->label == b->label &&
           a->part == b->part;
}

/* What is paired must be the same rows in the same order. */
static int check_runs(const struct report_settings *settings, struct error *err)
{
    if (settings->run_count == 0)
        return error_set(err, ERROR_BAD_INPUT, "a report needs a trajectory");
    const struct trajectory *first = settings->runs[0].trajectory;
    for (size_t r = 1; r < settings->run_count; r++) {
        const struct trajectory *other = settings->runs[r].trajectory;
        for (size_t i = 0; i < first->count && i < other->count; i++)
            if (!same_row(&first->rows[i], &other->rows[i]))
                return error_set(err, ERROR_BAD_INPUT, "runs '%s' and '%s' are not of the same requests: row %zu",
                                 settings->runs[0].name, settings->runs[r].name, i);
        if (other->count != first->count)
            return error_set(err, ERROR_BAD_INPUT, "runs '%s' and '%s' have %zu and %zu rows", settings->runs[0].name,
                             settings->runs[r].name, first->count, other->count);
    }
    return 0;
}

/* A new scorer, zeroed but for its name; a later one moves it. NULL without memory. */
static struct report_scorer *add_scorer(struct report *report, enum scorer_kind kind, size_t run, const char *set,
                                        const char *id, const char *name)
{
    if (id == NULL || name == NULL ||
        array_reserve(&report->scorers, &report->scorer_capacity, report->scorer_count + 1, sizeof *report->scorers))
        return NULL;
    struct report_scorer *scorer = &report->scorers[report->scorer_count++];
    *scorer = (struct report_scorer){.id = id, .name = name, .kind = kind, .run = run, .set = set, .rule = ""};
    return scorer;
}

static int add_baselines(struct report *report, const struct report_settings *settings, struct error *err)
{
    const struct trajectory *trajectory = settings->runs[0].trajectory;
    for (int b = 0; b < EVALUATE_BASELINES; b++) {
        const char *name = evaluate_baseline_names[b];
        struct report_scorer *scorer = add_scorer(report, SCORER_BASELINE, 0, "", name, name);
        if (scorer == NULL)
            return no_memory(err);
        scorer->answers.count = trajectory->count;
        scorer->answers.p = calloc(trajectory->count + 1, sizeof *scorer->answers.p);
        scorer->answers.layers = calloc(trajectory->count + 1, sizeof *scorer->answers.layers);
        if (scorer->answers.p == NULL || scorer->answers.layers == NULL)
            return no_memory(err);
        if (evaluate_predict_baseline(trajectory, (enum evaluate_baseline)b, settings->l2, scorer->answers.p, err) != 0)
            return -1;
    }
    if (trajectory_find(trajectory, "exit0", 0, 0) == SIZE_MAX)
        return 0;
    struct report_scorer *scorer = add_scorer(report, SCORER_EXIT0, 0, "exit0", "exit0", "exit 0");
    return scorer == NULL
               ? no_memory(err)
               : evaluate_answer(trajectory, &(struct evaluate_policy){.set = "exit0"}, &scorer->answers, err);
}

/* One way of a set to answer. */
static int add_way(struct report *report, const struct report_settings *settings, size_t run,
                   const struct evaluate_policy *policy, enum scorer_kind kind, const char *suffix, struct error *err)
{
    char rule[64];
    const char *set = policy->set, *of_run = settings->runs[run].name;
    dial_rule_name(&policy->rule, NAN, rule, sizeof rule);
    const char *id =
        run == 0 ? report_text(report, "%s.%s", set, suffix) : report_text(report, "%s/%s.%s", of_run, set, suffix);
    const char *what = kind == SCORER_BEST   ? report_text(report, "best exit (layer %zu)", policy->rule.layer)
                       : kind == SCORER_FULL ? "full depth"
                                             : report_text(report, "%s", rule);
    const char *name =
        run == 0 ? report_text(report, "%s, %s", set, what) : report_text(report, "%s: %s, %s", of_run, set, what);
    struct report_scorer *scorer = add_scorer(report, kind, run, report_text(report, "%s", set), id, name);
    if (scorer == NULL)
        return no_memory(err);
    scorer->rule = report_text(report, "%s", rule);
    if (scorer->set == NULL || scorer->rule == NULL)
        return no_memory(err);
    return evaluate_answer(settings->runs[run].trajectory, policy, &scorer->answers, err);
}

/* The best exit with text; exit 0 has a row of its own. */
static int best_exit(const struct trajectory *trajectory, const struct report_set *set, size_t *layer,
                     struct error *err)
{
    *layer = set->reference != 0 ? set->reference : SIZE_MAX;
    if (*layer == SIZE_MAX && dial_find_reference(trajectory, set->name, false, TRAJECTORY_CALIBRATE, layer, err) != 0)
        return -1;
    if (*layer == SIZE_MAX && dial_find_reference(trajectory, set->name, false, TRAJECTORY_TEST, layer, err) != 0)
        return -1;
    if (*layer == SIZE_MAX)
        return error_set(err, ERROR_BAD_INPUT, "heads '%s' have scored no labelled row", set->name);
    return 0;
}

static int add_set(struct report *report, const struct report_settings *settings, size_t run,
                   const struct report_set *set, struct error *err)
{
    const struct trajectory *trajectory = settings->runs[run].trajectory;
    bool exit0 = set->exit0 && trajectory_find(trajectory, "exit0", 0, 0) != SIZE_MAX;
    struct evaluate_policy policy = {.set = set->name, .rule = {.kind = EXIT_RULE_FIXED}};
    uint32_t layers[EVALUATE_EXITS];
    if (evaluate_exits(trajectory, set->name, layers) == 0)
        return 0;
    if (best_exit(trajectory, set, &policy.rule.layer, err) != 0 ||
        add_way(report, settings, run, &policy, SCORER_BEST, "best", err) != 0)
        return -1;
    policy.rule = (struct exit_rule){.kind = EXIT_RULE_FULL};
    if (add_way(report, settings, run, &policy, SCORER_FULL, "full", err) != 0)
        return -1;
    if (set->rule.kind == EXIT_RULE_FULL)
        return 0;
    float leave[EVALUATE_EXITS];
    policy.rule = set->rule;
    policy.exit0 = exit0;
    policy.leave = set->leave;
    if (set->rule.kind == EXIT_RULE_CALIBRATED && set->leave == NULL) {
        policy.leave = leave;
        if (evaluate_calibrate(trajectory, set->name, exit0, settings->max_loss, leave, err) != 0)
            return error_wrap(err, "thresholds for '%s'", set->name);
    }
    return add_way(report, settings, run, &policy, SCORER_SERVED, "served", err);
}

static int add_scorers(struct report *report, const struct report_settings *settings, struct error *err)
{
    if (add_baselines(report, settings, err) != 0)
        return -1;
    for (size_t run = 0; run < settings->run_count; run++)
        for (size_t s = 0; s < settings->set_count; s++)
            if (add_set(report, settings, run, &settings->sets[s], err) != 0)
                return error_wrap(err, "run '%s'", settings->runs[run].name);
    return 0;
}

/* The first of these that has scores: without rows to train on the regression has none. */
static int first_scored(const struct report *report, const char *const ids[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int found = report_find(report, ids[i]);
        if (found != REPORT_NONE && report->scorers[found].quality.rows > 0)
            return found;
    }
    return REPORT_NONE;
}

static int measure_scorers(struct report *report, const struct report_settings *settings, struct error *err)
{
    static const char *const bars[] = {"features", "exit0", "item prior"};
    static const char *const texts[] = {"hybrid.best", "text.best", "single.best"};
    for (size_t i = 0; i < report->scorer_count; i++)
        if (report_measure(report, settings, &report->scorers[i], err) != 0)
            return error_wrap(err, "%s", report->scorers[i].name);
    report->comparison = first_scored(report, bars, sizeof bars / sizeof *bars);
    report->headline = first_scored(report, texts, sizeof texts / sizeof *texts);
    for (size_t i = 0; i < report->scorer_count; i++) {
        struct report_scorer *scorer = &report->scorers[i];
        if (report_measure_differences(report, settings, scorer, err) != 0)
            return error_wrap(err, "%s", scorer->name);
        bool shown = scorer->run == 0 && scorer->kind != SCORER_FULL && scorer->quality.rows > 0 &&
                     (scorer->kind != SCORER_BASELINE || (int)i == report->comparison);
        if (shown && report->slice_scorer_count < REPORT_SLICE_SCORERS)
            report->slice_scorers[report->slice_scorer_count++] = (int)i;
    }
    return 0;
}

static int make_dial(struct report *report, const struct report_settings *settings, const struct report_set *set,
                     struct error *err)
{
    const struct trajectory *trajectory = settings->runs[0].trajectory;
    struct report_dial *dial = &report->dials[report->dial_count];
    struct dial calibrate = {0};
    uint32_t layers[EVALUATE_EXITS];
    struct dial_settings own = {
        .set = set->name,
        .part = TRAJECTORY_TEST,
        .rounds = settings->rounds,
        .seed = settings->seed,
        .exit0 = set->exit0 && trajectory_find(trajectory, "exit0", 0, 0) != SIZE_MAX,
        .reference = set->reference,
    };
    dial->exits = evaluate_exits(trajectory, set->name, layers);
    if (dial->exits == 0)
        return 0;
    if (dial_make(trajectory, &own, &dial->test, err) != 0)
        return -1;
    dial->chosen = REPORT_NONE;
    report->dial_count++;
    if (report->calibrate_rows == 0)
        return 0;
    own.part = TRAJECTORY_CALIBRATE;
    if (dial_make(trajectory, &own, &calibrate, err) != 0)
        return -1;
    const struct dial_point *chosen = dial_choose(&calibrate, settings->max_loss);
    if (chosen != NULL)
        dial->chosen = (int)(chosen - calibrate.points); /* both dials have the same points */
    dial_free(&calibrate);
    return 0;
}

static int make_dials(struct report *report, const struct report_settings *settings, struct error *err)
{
    for (size_t s = 0; s < settings->set_count && report->dial_count < REPORT_SETS; s++)
        if (make_dial(report, settings, &settings->sets[s], err) != 0)
            return error_wrap(err, "dial of '%s'", settings->sets[s].name);
    return 0;
}

int report_create(struct report **out, const struct report_settings *settings, struct error *err)
{
    struct report *report = calloc(1, sizeof *report);
    if (report == NULL)
        return no_memory(err);
    arena_init(&report->arena, 0);
    report->max_loss = settings->max_loss;
    if (check_runs(settings, err) != 0)
        goto failed;
    report->layers = settings->runs[0].trajectory->layers;
    if (copy_texts(report, settings, err) != 0 || copy_rows(report, settings->runs[0].trajectory, err) != 0 ||
        add_scorers(report, settings, err) != 0 || measure_scorers(report, settings, err) != 0 ||
        make_dials(report, settings, err) != 0 || report_measure_slices(report, settings, err) != 0 ||
        report_measure_ablations(report, settings, err) != 0 || report_summarise(report, err) != 0)
        goto failed;
    *out = report;
    return 0;
failed:
    report_destroy(report);
    return -1;
}

void report_destroy(struct report *report)
{
    if (report == NULL)
        return;
    for (size_t i = 0; i < report->scorer_count; i++)
        evaluate_answers_free(&report->scorers[i].answers);
    for (size_t i = 0; i < report->dial_count; i++)
        dial_free(&report->dials[i].test);
    free(report->scorers);
    free(report->slices);
    free(report->rows);
    free(report->row_places);
    arena_free(&report->arena);
    free(report);
}

const char *report_summary(const struct report *report)
{
    return report->summary;
}

bool report_chosen(const struct report *report, const char *set, struct exit_rule *rule, float *leave, size_t *count)
{
    for (size_t i = 0; i < report->dial_count; i++) {
        const struct report_dial *dial = &report->dials[i];
        if (strcmp(dial->test.set, set) != 0 || dial->chosen == REPORT_NONE)
            continue;
        const struct dial_point *point = &dial->test.points[dial->chosen];
        *rule = point->policy.rule;
        *count = dial->exits + 1;
        memcpy(leave, point->thresholds, *count * sizeof *leave);
        return true;
    }
    return false;
}
