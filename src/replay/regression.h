/*
 * regression.h - inside replay/: logistic regression by Newton's method
 *
 * Minimises the sum of the rows' log losses plus half of sum_j penalties[j] * weights[j]^2. The same rows give the same
 * bits. Features are taken as they are: who wants them standardised does so before.
 *
 * Threads: reentrant.
 */
#ifndef HEADRACE_REPLAY_REGRESSION_H
#define HEADRACE_REPLAY_REGRESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * rows: (count, width), labels: (count), penalties and weights: (width). A column of ones makes a bias. Each penalty
 * must be above 0, which makes the solution unique and finite whatever the rows (for none: all 0).
 */
int regression_fit(const double *rows, const bool *labels, size_t count, size_t width, const double *penalties,
                   double *weights, struct error *err);

/* 1 / (1 + exp(-row . weights)) */
double regression_predict(const double *row, const double *weights, size_t width);

#endif
