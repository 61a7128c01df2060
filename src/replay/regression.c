#include "replay/regression.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEWTON_STEPS = 100 };

/* A Newton step shorter than this share of itself changes nothing that matters. */
static const double least_length = 1e-6;

struct problem {
    const double *rows; /* (count, width) */
    const bool *labels; /* (count) */
    const double *penalties;
    size_t count, width;
    double *gradient, *step, *tried; /* (width) */
    double *hessian;                 /* (width, width), its lower half */
};

static double dot(const double *a, const double *b, size_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        sum += a[i] * b[i];
    return sum;
}

double regression_predict(const double *row, const double *weights, size_t width)
{
    double x = dot(row, weights, width);
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* First and second derivatives of the rows' log losses and the penalty; returns the gradient's length. */
static double differentiate(struct problem *problem, const double *weights)
{
    size_t n = problem->width;
    memset(problem->hessian, 0, n * n * sizeof *problem->hessian);
    for (size_t j = 0; j < n; j++) {
        problem->gradient[j] = problem->penalties[j] * weights[j];
        problem->hessian[j * n + j] = problem->penalties[j];
    }
    for (size_t i = 0; i < problem->count; i++) {
        const double *row = &problem->rows[i * n];
        double p = regression_predict(row, weights, n), slope = p - problem->labels[i], curvature = p * (1 - p);
        for (size_t j = 0; j < n; j++) {
            problem->gradient[j] += slope * row[j];
            for (size_t k = 0; k <= j; k++)
                problem->hessian[j * n + k] += curvature * row[j] * row[k];
        }
    }
    return sqrt(dot(problem->gradient, problem->gradient, n));
}

/* step = hessian^-1 gradient, by Cholesky's factors; the penalty keeps the matrix positive definite. */
static void solve(struct problem *problem)
{
    size_t n = problem->width;
    double *matrix = problem->hessian, *x = problem->step;
    for (size_t j = 0; j < n; j++)
        for (size_t i = j; i < n; i++) {
            double sum = matrix[i * n + j] - dot(&matrix[i * n], &matrix[j * n], j);
            matrix[i * n + j] = i == j ? sqrt(sum) : sum / matrix[j * n + j];
        }
    for (size_t i = 0; i < n; i++)
        x[i] = (problem->gradient[i] - dot(&matrix[i * n], x, i)) / matrix[i * n + i];
    for (size_t i = n; i-- > 0;) {
        double sum = x[i];
        for (size_t k = i + 1; k < n; k++)
            sum -= matrix[k * n + i] * x[k];
        x[i] = sum / matrix[i * n + i];
    }
}

/*
 * Newton's method, each step halved until the gradient gets shorter: along the full step's direction it always does at
 * first, as the sum is strictly convex. (The sum itself would be too coarse a measure: at the minimum it is flat to
 * rounding while the gradient still has half its digits.) Ends where no step helps, which is what rounding leaves.
 */
static void minimise(struct problem *problem, double *weights)
{
    size_t bytes = problem->width * sizeof *weights;
    memset(weights, 0, bytes);
    double left = differentiate(problem, weights), length = 1;
    for (size_t i = 0; i < NEWTON_STEPS && left > 0 && length > least_length; i++) {
        solve(problem);
        double before = left;
        for (length = 1; length > least_length; length /= 2) {
            for (size_t j = 0; j < problem->width; j++)
                problem->tried[j] = weights[j] - length * problem->step[j];
            left = differentiate(problem, problem->tried);
            if (left < before) {
                memcpy(weights, problem->tried, bytes);
                break;
            }
        }
    }
}

int regression_fit(const double *rows, const bool *labels, size_t count, size_t width, const double *penalties,
                   double *weights, struct error *err)
{
    for (size_t j = 0; j < width; j++)
        if (!(penalties[j] > 0))
            return error_set(err, ERROR_BAD_INPUT, "regression: penalty %zu is %g, not above 0", j, penalties[j]);
    for (size_t i = 0; i < count * width; i++)
        if (!isfinite(rows[i]))
            return error_set(err, ERROR_BAD_INPUT, "regression: row %zu has %g, which is no finite number", i / width,
                             rows[i]);
    double *room = calloc(width * (width + 3) + 1, sizeof *room);
    if (room == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a regression on %zu features", width);
    struct problem problem = {rows, labels,       penalties,        count,           width,
                              room, room + width, room + 2 * width, room + 3 * width};
    minimise(&problem, weights);
    free(room);
    return 0;
}
