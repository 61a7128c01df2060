#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/histogram.h"
#include "cmd/demo.h"
#include "cmd/setup.h"
#include "replay/baseline.h"
#include "replay/metrics.h"

enum { STATUSES = 5, MAX_LAYERS = 256, BOOTSTRAP_ROUNDS = 1000, BOOTSTRAP_SEED = 1 };

/* The rows that are judged: candidates with a probability and a known outcome. */
struct rows {
    bool *likes;
    uint32_t *users;
    double *model, *item_rate, *item_user_rate;
    struct baseline_rates *rates;
    size_t count, capacity;
};

struct demo_report {
    struct baseline *baseline;
    struct baseline_model regression;
    struct baseline_rates *training_rates;
    bool *training_likes;
    size_t training_count, training_rate_capacity, training_like_capacity;

    struct rows rows;
    uint64_t responses, unanswered; /* unanswered: status other than OK */
    uint64_t statuses[STATUSES];
    uint64_t exits[MAX_LAYERS + 1];
    double exit_layer_sum;
    struct histogram latency; /* ms */
    uint64_t timed_candidates;
    double timed_ms;
    double engine_ms, plan_ms;
    uint64_t leaks, behind;
    char first_leak[256];
    struct buffer examples;
    char model[128], heads[128];
};

/* One quality: a way of scoring, judged on the same rows. */
struct quality {
    double auc, log_loss;
    struct metrics_interval interval;
};

int demo_report_create(struct demo_report **result, size_t most_candidates, struct error *err)
{
    struct demo_report *report = calloc(1, sizeof *report);
    if (report == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    struct rows *rows = &report->rows;
    rows->capacity = most_candidates;
    report->baseline = baseline_create();
    rows->likes = calloc(most_candidates + 1, sizeof *rows->likes);
    rows->users = calloc(most_candidates + 1, sizeof *rows->users);
    rows->model = calloc(most_candidates + 1, sizeof *rows->model);
    rows->item_rate = calloc(most_candidates + 1, sizeof *rows->item_rate);
    rows->item_user_rate = calloc(most_candidates + 1, sizeof *rows->item_user_rate);
    if (report->baseline == NULL || rows->likes == NULL || rows->users == NULL || rows->model == NULL ||
        rows->item_rate == NULL || rows->item_user_rate == NULL) {
        demo_report_destroy(report);
        return error_set(err, ERROR_FATAL, "out of memory");
    }
    *result = report;
    return 0;
}

void demo_report_destroy(struct demo_report *report)
{
    if (report == NULL)
        return;
    baseline_destroy(report->baseline);
    free(report->training_rates);
    free(report->training_likes);
    free(report->rows.likes);
    free(report->rows.users);
    free(report->rows.model);
    free(report->rows.item_rate);
    free(report->rows.item_user_rate);
    buffer_free(&report->examples);
    free(report);
}

int demo_report_learn(struct demo_report *report, const struct demo_data *data, size_t rating, bool train,
                      struct error *err)
{
    const struct demo_rating *event = &data->ratings[rating];
    struct baseline_rates before;
    if (baseline_observe(report->baseline, table_key(&data->users, event->user), table_key(&data->items, event->item),
                         event->like, &before, err) != 0)
        return -1;
    if (!train)
        return 0;
    size_t count = report->training_count + 1;
    if (array_reserve(&report->training_rates, &report->training_rate_capacity, count,
                      sizeof *report->training_rates) != 0 ||
        array_reserve(&report->training_likes, &report->training_like_capacity, count,
                      sizeof *report->training_likes) != 0)
        return error_set(err, ERROR_FATAL, "out of memory");
    report->training_rates[report->training_count] = before;
    report->training_likes[report->training_count++] = event->like;
    return 0;
}

int demo_report_fit(struct demo_report *report, struct error *err)
{
    return baseline_fit(report->training_rates, report->training_likes, report->training_count, &report->regression,
                        err);
}

int demo_report_finding(struct demo_report *report, const struct ledger_finding *finding)
{
    if (finding->verdict == LEDGER_CLEAN)
        return 0;
    if (finding->verdict == LEDGER_BEHIND)
        report->behind++;
    else
        report->leaks++;
    if (report->first_leak[0] == '\0')
        snprintf(report->first_leak, sizeof report->first_leak, "%s", finding->message);
    return -1;
}

static void describe_example(struct demo_report *report, const struct score_response *response,
                             const struct scored_candidate *scored, bool like)
{
    struct buffer *out = &report->examples;
    const struct explanation *explanation = scored->explanation;
    buffer_printf(out, "\n  user " TEXT_FORMAT ", item " TEXT_FORMAT ": probability %.4f at exit %d; the user %s it\n",
                  TEXT_ARGS(response->user_id), TEXT_ARGS(scored->item_id), scored->probability,
                  (int)scored->exit_layer, like ? "liked" : "did not like");
    for (struct text rest = explanation->prompt; rest.size > 0;) {
        struct text line = text_cut(&rest, '\n');
        buffer_printf(out, "    | " TEXT_FORMAT "\n", TEXT_ARGS(line));
    }
    buffer_append_string(out, "    similar users who know it:");
    for (size_t i = 0; i < explanation->similar_user_count; i++)
        buffer_printf(out, "%s " TEXT_FORMAT " (cosine %.3f) " TEXT_FORMAT, i > 0 ? "," : "",
                      TEXT_ARGS(explanation->similar_users[i].user), explanation->similar_users[i].cosine,
                      TEXT_ARGS(explanation->similar_users[i].verdict));
    buffer_append_string(out, explanation->similar_user_count == 0 ? " none\n    evidence:" : "\n    evidence:");
    for (size_t i = 0; i < explanation->evidence_count; i++)
        buffer_printf(out, "%s " TEXT_FORMAT " %.4g", i > 0 ? "," : "", TEXT_ARGS(explanation->evidence[i].name),
                      explanation->evidence[i].value);
    buffer_append_string(out, "\n    probability at each exit:");
    for (size_t i = 0; i < explanation->exit_count; i++) {
        const struct explained_exit *visited = &explanation->exits[i];
        if (visited->probability_count > 0)
            buffer_printf(out, "%s layer %d: %.4f%s", i > 0 ? "," : "", (int)visited->layer,
                          visited->probabilities[visited->probability_count - 1], visited->fired ? " (settled)" : "");
    }
    buffer_append_string(out, "\n");
}

static void judge_candidate(struct demo_report *report, const struct demo_data *data, const struct demo_rating *rating,
                            const struct scored_candidate *scored)
{
    struct rows *rows = &report->rows;
    if (scored->status >= 0 && scored->status < STATUSES)
        report->statuses[scored->status]++;
    if (!scored->has_probability || rows->count == rows->capacity)
        return;
    if (scored->exit_layer >= 0 && scored->exit_layer <= MAX_LAYERS)
        report->exits[scored->exit_layer]++;
    report->exit_layer_sum += scored->exit_layer;
    struct baseline_rates rates =
        baseline_look(report->baseline, table_key(&data->users, rating->user), table_key(&data->items, rating->item));
    rows->likes[rows->count] = rating->like;
    rows->users[rows->count] = rating->user;
    rows->model[rows->count] = scored->probability;
    rows->item_rate[rows->count] = rates.item;
    rows->item_user_rate[rows->count] = baseline_predict(&report->regression, &rates);
    rows->count++;
}

int demo_report_response(struct demo_report *report, const struct demo_data *data, const struct demo_request *asked,
                         const struct score_response *response, double latency_ms, bool explained, struct error *err)
{
    report->responses++;
    snprintf(report->model, sizeof report->model, TEXT_FORMAT, TEXT_ARGS(response->model));
    snprintf(report->heads, sizeof report->heads, TEXT_FORMAT, TEXT_ARGS(response->heads));
    if (response->status != RESPONSE_OK) {
        report->unanswered++;
        fprintf(stderr, "headrace demo: request " TEXT_FORMAT " was answered %s: " TEXT_FORMAT "\n",
                TEXT_ARGS(response->request_id), response_status_name(response->status), TEXT_ARGS(response->error));
        return 0;
    }
    if (response->candidate_count != asked->count)
        return error_set(err, ERROR_BAD_INPUT, "the answer to " TEXT_FORMAT " has %zu candidates, %zu were asked",
                         TEXT_ARGS(response->request_id), response->candidate_count, asked->count);
    for (size_t i = 0; i < asked->count; i++) {
        const struct demo_rating *rating = &data->ratings[asked->ratings[i]];
        if (!text_equal(response->candidates[i].item_id, table_key(&data->items, rating->item)))
            return error_set(err, ERROR_BAD_INPUT, "the answer to " TEXT_FORMAT " has its candidates in another order",
                             TEXT_ARGS(response->request_id));
        judge_candidate(report, data, rating, &response->candidates[i]);
    }
    if (explained) {
        if (response->candidates[0].has_explanation)
            describe_example(report, response, &response->candidates[0], data->ratings[asked->ratings[0]].like);
        return 0;
    }
    histogram_add(&report->latency, latency_ms);
    report->timed_candidates += asked->count;
    report->timed_ms += latency_ms;
    report->engine_ms += response->timings.engine_ms;
    report->plan_ms += response->timings.plan_ms;
    return 0;
}

static int judge(const struct demo_report *report, const double *scores, const struct demo_data *data,
                 struct quality *quality, struct error *err)
{
    const struct rows *rows = &report->rows;
    if (metrics_auc(scores, rows->likes, rows->count, &quality->auc, err) != 0 ||
        metrics_log_loss(scores, rows->likes, rows->count, &quality->log_loss, err) != 0)
        return -1;
    return metrics_auc_interval(scores, rows->likes, rows->users, rows->count, data->users.count, BOOTSTRAP_ROUNDS,
                                BOOTSTRAP_SEED, &quality->interval, err);
}

static void print_quality(const char *name, const struct quality *quality)
{
    printf("    %-28s %.3f    %.3f to %.3f    %.3f\n", name, quality->auc, quality->interval.low,
           quality->interval.high, quality->log_loss);
}

static void print_counts(const struct demo_report *report, const struct demo_report_facts *facts)
{
    static const char *const rules[] = {"full",       "ratio",    "log_odds",   "probability", "fixed",
                                        "confidence", "patience", "calibrated", "auto"};
    const struct demo_data *data = facts->data;
    printf("\nheadrace demo: %zu titles, %zu ratings of %zu users, in time order\n\n", data->title_count,
           data->rating_count, data->users.count);
    printf("  model      %s, heads %s\n", report->model, report->heads);
    printf("  rule       %s, window %" PRId64 ", threshold %g%s\n", rules[config_choice(facts->config, "exit.rule")],
           config_integer(facts->config, "exit.window"), config_number(facts->config, "exit.threshold"),
           *config_text(facts->config, "heads.path") == '\0' ? "; the heads are copies of the LM head's rows, untrained"
                                                             : "");
    printf("  events     %zu ratings loaded in %.1f s (%.0f/s with %zu titles), %" PRIu64 " produced in all\n",
           data->first_asked, facts->load_seconds,
           (double)(data->first_asked + data->title_count) / facts->load_seconds, data->title_count, facts->events);
    printf("  requests   %" PRIu64 " sent, %" PRIu64 " answered", facts->requests, report->responses);
    if (report->unanswered > 0)
        printf(", %" PRIu64 " of them without scores", report->unanswered);
    printf("; %zu candidates:", report->rows.count);
    for (int32_t i = 0; i < STATUSES; i++)
        if (report->statuses[i] > 0)
            printf(" %" PRIu64 " %s", report->statuses[i], candidate_status_name(i));
    if (report->leaks + report->behind == 0)
        printf("\n  leaks      none: every answer rests on exactly the events before its request\n");
    else
        printf("\n  LEAKS      %" PRIu64 " answers knew too much, %" PRIu64 " too little: %s\n", report->leaks,
               report->behind, report->first_leak);
}

static void print_speed(const struct demo_report *report)
{
    printf("\n  exits      mean layer %.1f:", report->exit_layer_sum / (double)report->rows.count);
    for (size_t i = 0; i <= MAX_LAYERS; i++)
        if (report->exits[i] > 0)
            printf("  %zu: %.1f %%", i, 100.0 * (double)report->exits[i] / (double)report->rows.count);
    printf("\n  speed      %.1f candidates/s; latency p50 %.0f ms, p99 %.0f ms, of it %.1f ms graph and prompt\n",
           (double)report->timed_candidates / report->timed_ms * 1000, histogram_quantile(&report->latency, 0.5),
           histogram_quantile(&report->latency, 0.99), report->plan_ms / (double)report->latency.count);
}

static int write_summary(const struct demo_report *report, const struct demo_report_facts *facts,
                         const struct quality *model, const struct quality *item, const struct quality *item_user,
                         const char *path, struct error *err)
{
    json_t *summary = json_pack(
        "{s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "events",
        (json_int_t)facts->events, "requests", (json_int_t)facts->requests, "responses", (json_int_t)report->responses,
        "candidates", (json_int_t)report->rows.count, "auc", model->auc, "auc_low", model->interval.low, "auc_high",
        model->interval.high, "log_loss", model->log_loss, "auc_item_rate", item->auc, "auc_item_user_rate",
        item_user->auc, "log_loss_item_rate", item->log_loss, "log_loss_item_user_rate", item_user->log_loss,
        "mean_exit_layer", report->exit_layer_sum / (double)report->rows.count, "candidates_per_second",
        (double)report->timed_candidates / report->timed_ms * 1000, "latency_ms_p50",
        histogram_quantile(&report->latency, 0.5), "latency_ms_p99", histogram_quantile(&report->latency, 0.99));
    if (summary == NULL)
        return error_set(err, ERROR_FATAL, "the summary holds a number that JSON has no word for");
    json_object_set_new(summary, "events_per_second",
                        json_real((double)(facts->data->first_asked + facts->data->title_count) / facts->load_seconds));
    json_object_set_new(summary, "leaks", json_integer((json_int_t)report->leaks));
    json_object_set_new(summary, "seconds", json_real(facts->seconds));
    json_object_set_new(summary, "model", json_string(report->model));
    json_object_set_new(summary, "heads", json_string(report->heads));
    char *text = json_dumps(summary, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(summary);
    if (text == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    int result = file_replace(path, text, strlen(text), err);
    free(text);
    return result;
}

int demo_report_print(struct demo_report *report, const struct demo_report_facts *facts, const char *path,
                      struct error *err)
{
    struct quality model, item, item_user;
    if (report->rows.count == 0 || report->latency.count == 0)
        return error_set(err, ERROR_FATAL, "no request was answered with scores");
    if (judge(report, report->rows.model, facts->data, &model, err) != 0 ||
        judge(report, report->rows.item_rate, facts->data, &item, err) != 0 ||
        judge(report, report->rows.item_user_rate, facts->data, &item_user, err) != 0)
        return -1;
    if (report->examples.size > 0)
        printf("\nthree answers explained\n" TEXT_FORMAT, TEXT_ARGS(buffer_text(&report->examples)));
    print_counts(report, facts);
    printf("\n    %-28s %-8s %-17s %s    (%zu rows)\n", "", "AUC", "95 % interval", "log loss", report->rows.count);
    print_quality("this model and heads", &model);
    print_quality("item's like rate", &item);
    print_quality("like rates of item and user", &item_user);
    print_speed(report);
    if (path != NULL && write_summary(report, facts, &model, &item, &item_user, path, err) != 0)
        return -1;
    if (report->leaks + report->behind > 0)
        return error_set(err, ERROR_FATAL,
                         "the run proves nothing, its answers rest on other events than they should: %s",
                         report->first_leak);
    return 0;
}
