#include "replay/compare.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "replay/metrics.h"

enum { FILE_LIMIT = 1 << 30, USERS_LIMIT = 1 << 28, COLUMNS = 5 };

static const char *const column_names[COLUMNS] = {"timestamp_ms", "request", "user", "item", "label"};

struct row {
    long long key[COLUMNS]; /* in the order of column_names */
    size_t place;           /* in the file's columns */
};

/* A report as it was read. */
struct side {
    const char *path;
    json_t *json;
    json_t *p;        /* scorers' probabilities by id */
    struct row *rows; /* (count), sorted by key */
    size_t count;
};

/* What both sides have, row i of one beside row i of the other. */
struct common {
    size_t *of_a, *of_b; /* (count) places in columns */
    bool *labels;
    uint32_t *users;
    size_t count, users_count;
};

static int by_key(const void *a, const void *b)
{
    const struct row *one = a, *other = b;
    for (size_t c = 0; c < COLUMNS; c++)
        if (one->key[c] != other->key[c])
            return one->key[c] < other->key[c] ? -1 : 1;
    return (one->place > other->place) - (one->place < other->place);
}

static int no_report(const struct side *side, const char *what, struct error *err)
{
    return error_set(err, ERROR_BAD_INPUT, "%s is no report of headrace replay: %s", side->path, what);
}

static int read_rows(struct side *side, json_t *predictions, struct error *err)
{
    json_t *columns[COLUMNS];
    for (size_t c = 0; c < COLUMNS; c++) {
        columns[c] = json_object_get(predictions, column_names[c]);
        if (!json_is_array(columns[c]) || json_array_size(columns[c]) != json_array_size(columns[0]))
            return no_report(side, column_names[c], err);
    }
    side->count = json_array_size(columns[0]);
    side->rows = calloc(side->count + 1, sizeof *side->rows);
    if (side->rows == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the rows of %s", side->path);
    for (size_t i = 0; i < side->count; i++) {
        side->rows[i].place = i;
        for (size_t c = 0; c < COLUMNS; c++) {
            json_t *value = json_array_get(columns[c], i);
            if (!json_is_integer(value))
                return no_report(side, column_names[c], err);
            side->rows[i].key[c] = json_integer_value(value);
        }
        if (side->rows[i].key[2] < 0 || side->rows[i].key[2] >= USERS_LIMIT)
            return no_report(side, "a user's number is out of range", err);
    }
    qsort(side->rows, side->count, sizeof *side->rows, by_key);
    return 0;
}

static int check_scorers(const struct side *side, struct error *err)
{
    const char *id;
    json_t *p;
    json_object_foreach(side->p, id, p)
    {
        if (!json_is_array(p) || json_array_size(p) != side->count)
            return no_report(side, id, err);
        for (size_t i = 0; i < side->count; i++) {
            json_t *value = json_array_get(p, i);
            double number = json_number_value(value);
            if (!json_is_null(value) && !(json_is_number(value) && number >= 0 && number <= 1))
                return no_report(side, id, err);
        }
    }
    return 0;
}

static int read_side(struct side *side, const char *path, struct error *err)
{
    struct buffer bytes = {0};
    json_error_t error;
    *side = (struct side){.path = path};
    int result = file_read(path, FILE_LIMIT, &bytes, err);
    if (result != 0)
        goto out;
    result = -1;
    side->json = json_loadb(buffer_string(&bytes), bytes.size, JSON_REJECT_DUPLICATES, &error);
    if (side->json == NULL) {
        error_set(err, ERROR_BAD_INPUT, "%s:%d: %s", path, error.line, error.text);
        goto out;
    }
    const char *format = json_string_value(json_object_get(side->json, "format"));
    if (format == NULL || strcmp(format, "headrace-replay/1") != 0) {
        no_report(side, "format", err);
        goto out;
    }
    json_t *predictions = json_object_get(side->json, "predictions");
    side->p = json_object_get(predictions, "p");
    if (!json_is_object(side->p)) {
        no_report(side, "predictions", err);
        goto out;
    }
    result = read_rows(side, predictions, err) != 0 ? -1 : check_scorers(side, err);
out:
    buffer_free(&bytes);
    return result;
}

static void side_free(struct side *side)
{
    json_decref(side->json);
    free(side->rows);
}

static void common_free(struct common *common)
{
    free(common->of_a);
    free(common->of_b);
    free(common->labels);
    free(common->users);
}

/* Labelled rows that both have, label and all; each is sorted by it. */
static int find_common(struct common *common, const struct side *a, const struct side *b, struct error *err)
{
    size_t most = (a->count < b->count ? a->count : b->count) + 1;
    *common = (struct common){calloc(most, sizeof *common->of_a),
                              calloc(most, sizeof *common->of_b),
                              calloc(most, sizeof *common->labels),
                              calloc(most, sizeof *common->users),
                              0,
                              0};
    if (common->of_a == NULL || common->of_b == NULL || common->labels == NULL || common->users == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the rows of %s", a->path);
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        struct row one = a->rows[i], other = b->rows[j];
        one.place = other.place = 0;
        int order = by_key(&one, &other);
        i += order <= 0;
        j += order >= 0;
        if (order != 0 || one.key[4] < 0)
            continue;
        size_t next = common->count++;
        common->of_a[next] = a->rows[i - 1].place;
        common->of_b[next] = b->rows[j - 1].place;
        common->labels[next] = one.key[4] == 1;
        common->users[next] = (uint32_t)one.key[2];
        if (common->users[next] >= common->users_count)
            common->users_count = (size_t)common->users[next] + 1;
    }
    return 0;
}

/* One scorer of both, on the common rows that both have scores for. */
struct pairing {
    double *a, *b;
    bool *labels;
    uint32_t *users;
    size_t count;
    double auc[2], log_loss[2];
    struct metrics_difference auc_difference, log_loss_difference;
};

static void pairing_free(struct pairing *pairing)
{
    free(pairing->a);
    free(pairing->b);
    free(pairing->labels);
    free(pairing->users);
}

static int pair_scorer(struct pairing *pairing, const struct common *common, json_t *p_a, json_t *p_b,
                       struct error *err)
{
    size_t most = common->count + 1;
    *pairing = (struct pairing){.a = calloc(most, sizeof *pairing->a),
                                .b = calloc(most, sizeof *pairing->b),
                                .labels = calloc(most, sizeof *pairing->labels),
                                .users = calloc(most, sizeof *pairing->users)};
    if (pairing->a == NULL || pairing->b == NULL || pairing->labels == NULL || pairing->users == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for comparing %zu rows", common->count);
    for (size_t i = 0; i < common->count; i++) {
        json_t *of_a = json_array_get(p_a, common->of_a[i]), *of_b = json_array_get(p_b, common->of_b[i]);
        if (json_is_null(of_a) || json_is_null(of_b))
            continue;
        pairing->a[pairing->count] = json_number_value(of_a);
        pairing->b[pairing->count] = json_number_value(of_b);
        pairing->labels[pairing->count] = common->labels[i];
        pairing->users[pairing->count++] = common->users[i];
    }
    return 0;
}

/* B's less A's. */
static int measure(struct pairing *pairing, const struct compare_settings *settings, size_t users, struct error *err)
{
    const double *a = pairing->a, *b = pairing->b;
    const bool *labels = pairing->labels;
    size_t count = pairing->count;
    if (metrics_auc(a, labels, count, &pairing->auc[0], err) != 0 ||
        metrics_auc(b, labels, count, &pairing->auc[1], err) != 0 ||
        metrics_log_loss(a, labels, count, &pairing->log_loss[0], err) != 0 ||
        metrics_log_loss(b, labels, count, &pairing->log_loss[1], err) != 0)
        return -1;
    if (metrics_auc_difference(b, a, labels, pairing->users, count, users, settings->rounds, settings->seed,
                               &pairing->auc_difference, err) != 0)
        return -1;
    return metrics_log_loss_difference(b, a, labels, pairing->users, count, users, settings->rounds, settings->seed,
                                       &pairing->log_loss_difference, err);
}

static void print_measure(FILE *out, const char *id, const char *name, const double values[2],
                          const struct metrics_difference *difference, bool worse)
{
    fprintf(out, "%-24s%-10s%9.4f%9.4f%+10.4f  %+.4f to %+.4f%s\n", id, name, values[0], values[1], difference->value,
            difference->interval.low, difference->interval.high, worse ? "   WORSE" : "");
}

/* 1: worse; 0: not; -1: failed. *compared counts the scorers that could be. */
static int compare_scorer(const struct compare_settings *settings, const struct common *common, const char *id,
                          json_t *p_a, json_t *p_b, size_t *compared, FILE *out, struct error *err)
{
    struct pairing pairing;
    int result = pair_scorer(&pairing, common, p_a, p_b, err);
    if (result != 0 || pairing.count == 0)
        goto out;
    result = measure(&pairing, settings, common->users_count, err);
    if (result != 0)
        goto out;
    (*compared)++;
    bool worse_auc = pairing.auc_difference.value < -settings->tolerance;
    bool worse_loss = pairing.log_loss_difference.value > settings->tolerance;
    print_measure(out, id, "AUC", pairing.auc, &pairing.auc_difference, worse_auc);
    print_measure(out, "", "log loss", pairing.log_loss, &pairing.log_loss_difference, worse_loss);
    result = worse_auc || worse_loss;
out:
    pairing_free(&pairing);
    return result;
}

static int compare_all(const struct compare_settings *settings, const struct side *a, const struct side *b,
                       const struct common *common, FILE *out, struct error *err)
{
    const char *id;
    json_t *p;
    size_t compared = 0, alone = 0;
    bool worse = false;
    fprintf(out, "%zu labelled rows in both; %zu rows in A, %zu in B\n", common->count, a->count, b->count);
    fprintf(out, "%-24s%-10s%9s%9s%10s  %s\n", "", "", "A", "B", "B - A", "95 % interval, paired over users");
    json_object_foreach(a->p, id, p)
    {
        json_t *other = json_object_get(b->p, id);
        alone += other == NULL;
        int result = other == NULL ? 0 : compare_scorer(settings, common, id, p, other, &compared, out, err);
        if (result < 0)
            return -1;
        worse = worse || result > 0;
    }
    json_object_foreach(b->p, id, p) alone += json_object_get(a->p, id) == NULL;
    if (alone > 0)
        fprintf(out, "%zu scorers are in one of the reports alone\n", alone);
    if (compared == 0)
        return error_set(err, ERROR_BAD_INPUT, "%s and %s have no scored rows in common", a->path, b->path);
    fprintf(out, worse ? "B is worse than A by more than %g\n" : "B is no worse than A, within %g\n",
            settings->tolerance);
    return worse;
}

int compare_reports(const struct compare_settings *settings, FILE *out, struct error *err)
{
    struct side a = {0}, b = {0};
    struct common common = {0};
    int result = -1;
    if (read_side(&a, settings->a, err) == 0 && read_side(&b, settings->b, err) == 0 &&
        find_common(&common, &a, &b, err) == 0)
        result = compare_all(settings, &a, &b, &common, out, err);
    common_free(&common);
    side_free(&a);
    side_free(&b);
    return result;
}
