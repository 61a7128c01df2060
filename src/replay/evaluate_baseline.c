/* evaluate_baseline.c - what a scorer without a language model knows */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/evidence.h"
#include "replay/evaluate.h"
#include "replay/regression.h"

const char *const evaluate_baseline_names[EVALUATE_BASELINES] = {
    [EVALUATE_CONSTANT] = "constant",
    [EVALUATE_ITEM_PRIOR] = "item prior",
    [EVALUATE_USER_AND_ITEM] = "user and item",
    [EVALUATE_FEATURES] = "features",
};

/* The labelled rows of the train part, as a regression takes them. */
struct lesson {
    const struct trajectory *trajectory;
    size_t columns[EVIDENCE_FEATURES]; /* features that are weighed */
    size_t width;                      /* with the bias, which comes first */
    size_t rows, yes;
    double *x; /* (rows, width) */
    bool *labels;
    double means[EVIDENCE_FEATURES], scales[EVIDENCE_FEATURES], weights[EVIDENCE_FEATURES + 1];
};

static bool is_lesson(const struct trajectory_row *row)
{
    return row->part == TRAJECTORY_TRAIN && row->label != TRAJECTORY_UNLABELLED;
}

/* Places of features, by name. */
static size_t feature_place(const char *name)
{
    for (size_t i = 0; i < EVIDENCE_COUNT; i++)
        if (strcmp(evidence_names[i], name) == 0)
            return i;
    return SIZE_MAX;
}

static void fill_row(const struct lesson *lesson, size_t row, double *x)
{
    const float *features = &lesson->trajectory->features[row * EVIDENCE_FEATURES];
    x[0] = 1;
    for (size_t j = 0; j + 1 < lesson->width; j++)
        x[j + 1] = ((double)features[lesson->columns[j]] - lesson->means[j]) / lesson->scales[j];
}

/* Each feature's mean and deviation over the rows; one that never changes keeps a scale of 1 and so weighs nothing. */
static void standardise(struct lesson *lesson)
{
    double n = (double)lesson->rows;
    for (size_t j = 0; j + 1 < lesson->width; j++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < lesson->rows; i++)
            sum += lesson->x[i * lesson->width + j + 1];
        for (size_t i = 0; i < lesson->rows; i++) {
            double away = lesson->x[i * lesson->width + j + 1] - sum / n;
            squares += away * away;
        }
        lesson->means[j] = sum / n;
        lesson->scales[j] = squares > 0 ? sqrt(squares / n) : 1;
    }
    for (size_t i = 0; i < lesson->rows; i++)
        for (size_t j = 0; j + 1 < lesson->width; j++) {
            double *x = &lesson->x[i * lesson->width + j + 1];
            *x = (*x - lesson->means[j]) / lesson->scales[j];
        }
}

/* The bias is free but for what keeps it finite where all labels are one. */
static int learn(struct lesson *lesson, double l2, struct error *err)
{
    double penalties[EVIDENCE_FEATURES + 1] = {1e-6};
    for (size_t j = 1; j < lesson->width; j++)
        penalties[j] = l2;
    for (size_t j = 0; j + 1 < lesson->width; j++)
        lesson->scales[j] = 1;
    lesson->x = calloc(lesson->rows * lesson->width + 1, sizeof *lesson->x);
    lesson->labels = calloc(lesson->rows + 1, sizeof *lesson->labels);
    if (lesson->x == NULL || lesson->labels == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a regression on %zu rows", lesson->rows);
    for (size_t i = 0, next = 0; i < lesson->trajectory->count; i++)
        if (is_lesson(&lesson->trajectory->rows[i])) {
            lesson->labels[next] = lesson->trajectory->rows[i].label == 1;
            fill_row(lesson, i, &lesson->x[next++ * lesson->width]);
        }
    standardise(lesson);
    return regression_fit(lesson->x, lesson->labels, lesson->rows, lesson->width, penalties, lesson->weights, err);
}

static int predict(struct lesson *lesson, double l2, double *p, struct error *err)
{
    int result = learn(lesson, l2, err);
    for (size_t i = 0; i < lesson->trajectory->count && result == 0; i++) {
        double x[EVIDENCE_FEATURES + 1];
        fill_row(lesson, i, x);
        p[i] = regression_predict(x, lesson->weights, lesson->width);
    }
    free(lesson->x);
    free(lesson->labels);
    return result;
}

int evaluate_predict_baseline(const struct trajectory *trajectory, enum evaluate_baseline baseline, double l2,
                              double *p, struct error *err)
{
    struct lesson lesson = {.trajectory = trajectory};
    for (size_t i = 0; i < trajectory->count; i++)
        if (is_lesson(&trajectory->rows[i])) {
            lesson.rows++;
            lesson.yes += trajectory->rows[i].label == 1;
        }
    size_t item = feature_place("item_like_rate"), user = feature_place("user_like_rate");
    for (size_t i = 0; i < trajectory->count; i++)
        p[i] = baseline == EVALUATE_ITEM_PRIOR
                   ? 1 / (1 + exp(-(double)trajectory->features[i * EVIDENCE_FEATURES + item]))
                   : NAN;
    if (baseline == EVALUATE_ITEM_PRIOR || lesson.rows == 0)
        return 0;
    if (baseline == EVALUATE_CONSTANT) {
        for (size_t i = 0; i < trajectory->count; i++)
            p[i] = (double)lesson.yes / (double)lesson.rows;
        return 0;
    }
    if (baseline == EVALUATE_USER_AND_ITEM) {
        lesson.columns[0] = item;
        lesson.columns[1] = user;
        lesson.width = 3;
    } else {
        for (size_t j = 0; j < EVIDENCE_FEATURES; j++)
            lesson.columns[j] = j;
        lesson.width = EVIDENCE_FEATURES + 1;
    }
    return predict(&lesson, l2, p, err);
}
