/* report_measure.c - what the scorers are worth: on all test rows, on slices, beside each other */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "replay/report_tables.h"

static const struct metrics_difference unknown = {NAN, {NAN, NAN}};

static int measure_sample(const struct evaluate_sample *sample, const struct report_settings *settings, size_t users,
                          bool intervals, struct report_quality *quality, struct error *err)
{
    const double *p = sample->p[0];
    double *losses = calloc(sample->count + 1, sizeof *losses), yes = 0;
    if (losses == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the losses of %zu rows", sample->count);
    for (size_t i = 0; i < sample->count; i++)
        yes += sample->labels[i];
    int result = -1;
    if (metrics_auc(p, sample->labels, sample->count, &quality->auc, err) != 0 ||
        metrics_log_loss(p, sample->labels, sample->count, &quality->log_loss, err) != 0 ||
        metrics_losses(p, sample->labels, sample->count, losses, err) != 0 ||
        metrics_calibrate(p, sample->labels, sample->count, &quality->calibration, err) != 0 ||
        metrics_gauc(p, sample->labels, sample->users, sample->count, users, &quality->gauc, NULL, err) != 0 ||
        metrics_mean_interval(losses, sample->users, sample->count, users, settings->rounds, settings->seed,
                              &quality->log_loss_interval, err) != 0)
        goto out;
    if (intervals && metrics_auc_interval(p, sample->labels, sample->users, sample->count, users, settings->rounds,
                                          settings->seed, &quality->auc_interval, err) != 0)
        goto out;
    double entropy = metrics_entropy(yes / (double)sample->count);
    quality->normalised_entropy = entropy > 0 ? quality->log_loss / entropy : NAN;
    quality->rows = sample->count;
    result = 0;
out:
    free(losses);
    return result;
}

int report_measure(const struct report *report, const struct report_settings *settings, struct report_scorer *scorer,
                   struct error *err)
{
    const struct trajectory *trajectory = settings->runs[scorer->run].trajectory;
    struct report_quality *quality = &scorer->quality;
    struct evaluate_sample sample;
    *quality = (struct report_quality){.auc = NAN, .log_loss = NAN, .normalised_entropy = NAN, .gauc = NAN};
    quality->auc_interval = quality->log_loss_interval = unknown.interval;
    quality->auc_minus = quality->log_loss_minus = scorer->increase = unknown;
    for (size_t i = 0; i < report->row_count; i++)
        quality->unscored += isnan(scorer->answers.p[report->row_places[i]]) ? 1 : 0;
    if (evaluate_cost(trajectory, &scorer->answers, TRAJECTORY_TEST, &scorer->cost, err) != 0 ||
        evaluate_take_sample(&sample, trajectory, TRAJECTORY_TEST, (const double *const[]){scorer->answers.p}, 1,
                             err) != 0)
        return -1;
    int result = measure_sample(&sample, settings, trajectory->users, scorer->run == 0, quality, err);
    evaluate_sample_free(&sample);
    return result;
}

/* Keeps the sample's rows of which `keep` is true. */
static void filter(struct evaluate_sample *sample, const struct trajectory *trajectory,
                   bool (*keep)(const void *context, const struct trajectory_row *row), const void *context)
{
    size_t kept = 0;
    for (size_t i = 0; i < sample->count; i++) {
        if (!keep(context, &trajectory->rows[sample->rows[i]]))
            continue;
        sample->rows[kept] = sample->rows[i];
        sample->labels[kept] = sample->labels[i];
        sample->users[kept] = sample->users[i];
        for (size_t s = 0; s < sample->scorer_count; s++)
            sample->p[s][kept] = sample->p[s][i];
        kept++;
    }
    sample->count = kept;
}

static int differ(const struct evaluate_sample *sample, const struct report_settings *settings, size_t users,
                  struct metrics_difference *auc, struct metrics_difference *log_loss, struct error *err)
{
    const double *a = sample->p[0], *b = sample->p[1];
    if (auc != NULL && metrics_auc_difference(a, b, sample->labels, sample->users, sample->count, users,
                                              settings->rounds, settings->seed, auc, err) != 0)
        return -1;
    return metrics_log_loss_difference(a, b, sample->labels, sample->users, sample->count, users, settings->rounds,
                                       settings->seed, log_loss, err);
}

/* On the test rows that both have scores for; `auc` may be NULL. */
static int pair(const struct report_settings *settings, const struct report_scorer *a, const struct report_scorer *b,
                struct metrics_difference *auc, struct metrics_difference *log_loss, struct error *err)
{
    const struct trajectory *trajectory = settings->runs[0].trajectory; /* all runs have its rows */
    struct evaluate_sample sample;
    if (evaluate_take_sample(&sample, trajectory, TRAJECTORY_TEST, (const double *const[]){a->answers.p, b->answers.p},
                             2, err) != 0)
        return -1;
    int result = differ(&sample, settings, trajectory->users, auc, log_loss, err);
    evaluate_sample_free(&sample);
    return result;
}

int report_measure_differences(const struct report *report, const struct report_settings *settings,
                               struct report_scorer *scorer, struct error *err)
{
    const struct report_scorer *comparison = &report->scorers[report->comparison];
    struct report_quality *quality = &scorer->quality;
    if (scorer != comparison && pair(settings, scorer, comparison, scorer->run == 0 ? &quality->auc_minus : NULL,
                                     &quality->log_loss_minus, err) != 0)
        return -1;
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *best = &report->scorers[i];
        bool is_its = best->kind == SCORER_BEST && best->run == scorer->run && strcmp(best->set, scorer->set) == 0;
        if (is_its && best != scorer && pair(settings, scorer, best, NULL, &scorer->increase, err) != 0)
            return -1;
    }
    return 0;
}

enum { COLD_EVENTS = 5 }; /* fewer: cold */

struct slice_rule {
    enum { SLICE_COLD_ITEM, SLICE_WARM_ITEM, SLICE_COLD_USER, SLICE_WARM_USER, SLICE_MONTH } kind;
    char month[8]; /* "1998-03" */
};

static void month_of(int64_t timestamp_ms, char month[8])
{
    const int64_t most = INT64_C(253402300799999); /* the year 9999 */
    char text[32];
    if (timestamp_ms < 0 || timestamp_ms > most) {
        snprintf(month, 8, "none");
        return;
    }
    clock_format(timestamp_ms, text);
    snprintf(month, 8, "%.7s", text);
}

static bool in_slice(const void *context, const struct trajectory_row *row)
{
    const struct slice_rule *rule = context;
    char month[8];
    switch (rule->kind) {
    case SLICE_COLD_ITEM:
        return row->item_events < COLD_EVENTS;
    case SLICE_WARM_ITEM:
        return row->item_events >= COLD_EVENTS;
    case SLICE_COLD_USER:
        return row->user_events < COLD_EVENTS;
    case SLICE_WARM_USER:
        return row->user_events >= COLD_EVENTS;
    case SLICE_MONTH:
        month_of(row->timestamp_ms, month);
        return strcmp(month, rule->month) == 0;
    }
    return false;
}

static int measure_slice(const struct report *report, const struct report_settings *settings,
                         const struct slice_rule *rule, struct report_slice *slice, struct error *err)
{
    const struct trajectory *trajectory = settings->runs[0].trajectory;
    for (size_t i = 0; i < report->row_count; i++)
        if (report->rows[i].label != TRAJECTORY_UNLABELLED && in_slice(rule, &report->rows[i])) {
            slice->rows++;
            slice->yes += report->rows[i].label;
        }
    slice->auc_minus = slice->log_loss_minus = unknown;
    const struct report_scorer *comparison = &report->scorers[report->comparison];
    for (size_t s = 0; s < report->slice_scorer_count; s++) {
        const struct report_scorer *scorer = &report->scorers[report->slice_scorers[s]];
        struct evaluate_sample sample;
        if (evaluate_take_sample(&sample, trajectory, TRAJECTORY_TEST,
                                 (const double *const[]){scorer->answers.p, comparison->answers.p}, 2, err) != 0)
            return -1;
        filter(&sample, trajectory, in_slice, rule);
        int result = metrics_auc(sample.p[0], sample.labels, sample.count, &slice->auc[s], err);
        if (result == 0)
            result = metrics_log_loss(sample.p[0], sample.labels, sample.count, &slice->log_loss[s], err);
        if (result == 0 && report->slice_scorers[s] == report->headline)
            result = differ(&sample, settings, trajectory->users, &slice->auc_minus, &slice->log_loss_minus, err);
        evaluate_sample_free(&sample);
        if (result != 0)
            return -1;
    }
    return 0;
}

static int add_slice(struct report *report, const struct report_settings *settings, const struct slice_rule *rule,
                     const char *name, struct error *err)
{
    struct report_slice slice = {.name = report_text(report, "%s", name)};
    if (slice.name == NULL ||
        array_reserve(&report->slices, &report->slice_capacity, report->slice_count + 1, sizeof *report->slices) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for the slices");
    if (measure_slice(report, settings, rule, &slice, err) != 0)
        return -1;
    if (slice.rows > 0)
        report->slices[report->slice_count++] = slice;
    return 0;
}

static int by_month(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int add_months(struct report *report, const struct report_settings *settings, struct error *err)
{
    char(*months)[8] = calloc(report->row_count + 1, sizeof *months);
    if (months == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the months");
    for (size_t i = 0; i < report->row_count; i++)
        month_of(report->rows[i].timestamp_ms, months[i]);
    qsort(months, report->row_count, sizeof *months, by_month);
    int result = 0;
    for (size_t i = 0; i < report->row_count && result == 0; i++) {
        struct slice_rule rule = {.kind = SLICE_MONTH};
        if (i > 0 && strcmp(months[i], months[i - 1]) == 0)
            continue;
        memcpy(rule.month, months[i], sizeof rule.month);
        if (strcmp(rule.month, "none") != 0)
            result = add_slice(report, settings, &rule, rule.month, err);
    }
    free(months);
    return result;
}

int report_measure_slices(struct report *report, const struct report_settings *settings, struct error *err)
{
    static const struct {
        struct slice_rule rule;
        const char *name;
    } slices[] = {
        {{.kind = SLICE_COLD_ITEM}, "cold items (< 5 events)"},
        {{.kind = SLICE_WARM_ITEM}, "other items"},
        {{.kind = SLICE_COLD_USER}, "cold users (< 5 events)"},
        {{.kind = SLICE_WARM_USER}, "other users"},
    };
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++)
        if (add_slice(report, settings, &slices[i].rule, slices[i].name, err) != 0)
            return -1;
    return add_months(report, settings, err);
}

static int find_scorer(const struct report *report, const struct report_settings *settings, bool retrieves,
                       const char *set, enum scorer_kind kind)
{
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        if (scorer->kind == kind && strcmp(scorer->set, set) == 0 && settings->runs[scorer->run].retrieves == retrieves)
            return (int)i;
    }
    return REPORT_NONE;
}

/* By the paper's names (OptiRAG-Rec, its ablation study): text heads, with and without similar users and exits. */
int report_measure_ablations(struct report *report, const struct report_settings *settings, struct error *err)
{
    static const struct {
        const char *name, *set;
        bool retrieves;
        enum scorer_kind kind;
    } rows[REPORT_ABLATIONS] = {
        {"no retriever and no exit", "text", false, SCORER_FULL},
        {"retriever only", "text", true, SCORER_FULL},
        {"exit only", "text", false, SCORER_SERVED},
        {"single head", "single", true, SCORER_SERVED},
        {"full", "text", true, SCORER_SERVED},
    };
    size_t found = 0;
    for (size_t i = 0; i < REPORT_ABLATIONS; i++) {
        struct report_ablation *row = &report->ablations[i];
        *row = (struct report_ablation){rows[i].name, REPORT_NONE, unknown, unknown};
        row->scorer = find_scorer(report, settings, rows[i].retrieves, rows[i].set, rows[i].kind);
        found += row->scorer != REPORT_NONE;
    }
    report->has_ablation = found >= 2;
    int full = report->ablations[REPORT_ABLATIONS - 1].scorer;
    for (size_t i = 0; i + 1 < REPORT_ABLATIONS && full != REPORT_NONE; i++) {
        struct report_ablation *row = &report->ablations[i];
        if (row->scorer != REPORT_NONE && pair(settings, &report->scorers[row->scorer], &report->scorers[full],
                                               &row->auc_minus, &row->log_loss_minus, err) != 0)
            return -1;
    }
    return 0;
}
