#include "replay/baseline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/table.h"

enum { WEIGHTS = 3, NEWTON_STEPS = 100 };

/* A Newton step shorter than this share of itself changes nothing that matters. */
static const double least_length = 1e-6;

struct counter {
    uint64_t likes;
    uint64_t events;
};

struct counters {
    struct table ids;
    struct counter *counters; /* by id */
    size_t capacity;
};

struct baseline {
    struct counters users;
    struct counters items;
};

struct baseline *baseline_create(void)
{
    return calloc(1, sizeof(struct baseline));
}

static void free_counters(struct counters *counters)
{
    table_free(&counters->ids);
    free(counters->counters);
}

void baseline_destroy(struct baseline *baseline)
{
    if (baseline == NULL)
        return;
    free_counters(&baseline->users);
    free_counters(&baseline->items);
    free(baseline);
}

static double rate(const struct counters *counters, struct text id)
{
    uint32_t number = table_find(&counters->ids, id);
    struct counter counter = number == TABLE_NONE ? (struct counter){0} : counters->counters[number];
    return ((double)counter.likes + 1) / ((double)counter.events + 2);
}

struct baseline_rates baseline_look(const struct baseline *baseline, struct text user_id, struct text item_id)
{
    return (struct baseline_rates){rate(&baseline->items, item_id), rate(&baseline->users, user_id)};
}

/* The id's counter, made if it was not there; NULL without memory. */
static struct counter *find_counter(struct counters *counters, struct text id)
{
    size_t known = counters->ids.count;
    if (array_reserve(&counters->counters, &counters->capacity, known + 1, sizeof *counters->counters) != 0)
        return NULL;
    uint32_t number = table_add(&counters->ids, id);
    if (number == TABLE_NONE)
        return NULL;
    if (number == known)
        counters->counters[number] = (struct counter){0};
    return &counters->counters[number];
}

int baseline_observe(struct baseline *baseline, struct text user_id, struct text item_id, bool like,
                     struct baseline_rates *before, struct error *err)
{
    struct counter *user = find_counter(&baseline->users, user_id);
    struct counter *item = find_counter(&baseline->items, item_id);
    if (user == NULL || item == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while counting likes");
    if (before != NULL)
        *before = baseline_look(baseline, user_id, item_id);
    user->likes += like;
    user->events++;
    item->likes += like;
    item->events++;
    return 0;
}

static double logit(double p)
{
    return log(p) - log1p(-p);
}

static double sigmoid(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double dot(const double *a, const double *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/* A problem: rows of (1, logit of the item's rate, logit of the user's rate). */
struct problem {
    double (*rows)[WEIGHTS];
    const bool *likes;
    size_t count;
};

/* First and second derivatives of the rows' log losses and the penalty; returns the gradient's length. */
static double differentiate(const struct problem *problem, const double *weights, double gradient[WEIGHTS],
                            double hessian[WEIGHTS][WEIGHTS])
{
    for (size_t j = 0; j < WEIGHTS; j++) {
        gradient[j] = weights[j];
        for (size_t k = 0; k < WEIGHTS; k++)
            hessian[j][k] = j == k;
    }
    for (size_t i = 0; i < problem->count; i++) {
        const double *row = problem->rows[i];
        double p = sigmoid(dot(weights, row)), slope = p - problem->likes[i], curvature = p * (1 - p);
        for (size_t j = 0; j < WEIGHTS; j++) {
            gradient[j] += slope * row[j];
            for (size_t k = 0; k < WEIGHTS; k++)
                hessian[j][k] += curvature * row[j] * row[k];
        }
    }
    return sqrt(dot(gradient, gradient));
}

/* Solves matrix * x = vector by Cholesky's factors; the penalty keeps the matrix positive definite. */
static void solve(double matrix[WEIGHTS][WEIGHTS], const double vector[WEIGHTS], double x[WEIGHTS])
{
    for (size_t j = 0; j < WEIGHTS; j++)
        for (size_t i = j; i < WEIGHTS; i++) {
            double sum = matrix[i][j];
            for (size_t k = 0; k < j; k++)
                sum -= matrix[i][k] * matrix[j][k];
            matrix[i][j] = i == j ? sqrt(sum) : sum / matrix[j][j];
        }
    for (size_t i = 0; i < WEIGHTS; i++) {
        double sum = vector[i];
        for (size_t k = 0; k < i; k++)
            sum -= matrix[i][k] * x[k];
        x[i] = sum / matrix[i][i];
    }
    for (size_t i = WEIGHTS; i-- > 0;) {
        double sum = x[i];
        for (size_t k = i + 1; k < WEIGHTS; k++)
            sum -= matrix[k][i] * x[k];
        x[i] = sum / matrix[i][i];
    }
}

/*
 * Newton's method, each step halved until the gradient gets shorter: along the full step's direction it always does at
 * first, as the sum is strictly convex. (The sum itself would be too coarse a measure: at the minimum it is flat to
 * rounding while the gradient still has half its digits.) Ends where no step helps, which is what rounding leaves.
 */
static void minimise(const struct problem *problem, double weights[WEIGHTS])
{
    double gradient[WEIGHTS], hessian[WEIGHTS][WEIGHTS], step[WEIGHTS];
    double left = differentiate(problem, weights, gradient, hessian), length = 1;
    for (size_t i = 0; i < NEWTON_STEPS && left > 0 && length > least_length; i++) {
        solve(hessian, gradient, step);
        double before = left;
        for (length = 1; length > least_length; length /= 2) {
            double tried[WEIGHTS];
            for (size_t j = 0; j < WEIGHTS; j++)
                tried[j] = weights[j] - length * step[j];
            left = differentiate(problem, tried, gradient, hessian);
            if (left < before) {
                memcpy(weights, tried, sizeof tried);
                break;
            }
        }
    }
}

int baseline_fit(const struct baseline_rates *rates, const bool *likes, size_t count, struct baseline_model *model,
                 struct error *err)
{
    struct problem problem = {calloc(count + 1, sizeof *problem.rows), likes, count};
    if (problem.rows == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a regression on %zu rows", count);
    int result = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(rates[i].item > 0 && rates[i].item < 1 && rates[i].user > 0 && rates[i].user < 1)) {
            result = error_set(err, ERROR_BAD_INPUT, "regression: row %zu has rates %g and %g, not inside (0, 1)", i,
                               rates[i].item, rates[i].user);
            goto out;
        }
        problem.rows[i][0] = 1;
        problem.rows[i][1] = logit(rates[i].item);
        problem.rows[i][2] = logit(rates[i].user);
    }
    double weights[WEIGHTS] = {0};
    minimise(&problem, weights);
    *model = (struct baseline_model){weights[0], weights[1], weights[2]};
out:
    free(problem.rows);
    return result;
}

double baseline_predict(const struct baseline_model *model, const struct baseline_rates *rates)
{
    return sigmoid(model->bias + model->item * logit(rates->item) + model->user * logit(rates->user));
}
