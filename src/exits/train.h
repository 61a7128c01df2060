/*
 * train.h - exit heads that are learned: penalised logistic regression by Adam, and Platt's calibration
 *
 * The backbone is frozen, so a head is a linear model on the rows that it hands out: hidden states, evidence, or both
 * side by side. Over weights w and bias b, train_head() minimises
 *
 *   sum over views v of v.weight * sum over rows i of log_loss(y_i, w . x_vi + b)  +  1/2 sum over j of l2_j * w_j^2
 *
 * The loss is a sum, so l2 has the meaning that "ridge" or 1 / C have elsewhere, and a block of inputs can have its
 * own. The bias bears no penalty. y_i is the label, or where targets are given a probability. One view is the head of
 * one exit; several views share one head (the paper's single head), each weighted with lambda of its exit.
 *
 * That is strictly convex: without rows held out the result is the optimum wherever training began, as the learning
 * rate is halved wherever progress ends. On 3,600 rows of 576 standardised hidden states it came within 1e-4 of
 * Newton's logits in 350 to 850 passes of 1 ms, for l2 of 100 to 10,000. Rows held out end it earlier.
 *
 * Numbers: rows and weights in float, sums over rows in double. The same input gives the same bits, on every processor.
 *
 * Threads: all functions are reentrant. Heads of several exits are trained side by side, each by one thread.
 */
#ifndef HEADRACE_EXITS_TRAIN_H
#define HEADRACE_EXITS_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { TRAIN_LANES = 16 }; /* a row's width is a multiple of it */

/* Columns a row of `columns` inputs takes: the next multiple of TRAIN_LANES. */
size_t train_width(size_t columns);

/* Means and scales of columns: value -> (value - mean) / scale. */
struct train_scale {
    size_t count;
    double *means;
    double *scales; /* above 0 */
};

/* Zeroes, to be filled by train_scale_measure(). ERROR_FATAL: no memory. */
int train_scale_create(struct train_scale *scale, size_t count, struct error *err);
void train_scale_free(struct train_scale *scale);

/* Rows as somebody else keeps them, row i at values + i * stride. */
struct train_rows {
    const float *values;
    size_t count, columns;
    size_t stride; /* floats from a row to the next */
    bool norm;     /* hidden states: a row is divided by its root mean square first, as heads do */
    float epsilon; /* of that norm: sqrt(mean of squares + epsilon) */
};

/*
 * Mean and standard deviation of each column. A deviation below a thousandth of the columns' typical one is raised to
 * that (all of them 0: to 1), so that a column that hardly varied while training cannot cry out later.
 */
void train_scale_measure(struct train_scale *scale, const struct train_rows *rows);

/* Standardised rows: row i's columns to out[i * width + column]. Columns beyond are left as they are. */
void train_scale_apply(const struct train_scale *scale, const struct train_rows *rows, float *out, size_t width);

/* Standardised inputs of all rows, at one exit. */
struct train_view {
    const float *rows; /* (count + held, width); columns without input: 0 in all rows */
    double weight;     /* lambda, above 0 */
};

struct train_problem {
    const struct train_view *views;
    size_t view_count;
    const uint8_t *labels; /* (count + held): 0 or 1 */
    const float *targets;  /* (count) what to answer instead of the labels, 0 to 1 (distillation, Hinton and others
                              2015); NULL: the labels */
    size_t count;          /* rows that train, the first; both labels among them */
    size_t held;           /* rows behind them that tell when to stop; 0: at the optimum */
    size_t width;          /* multiple of TRAIN_LANES */
    const double *l2;      /* (width): each above 0 */
};

struct train_settings {
    double learning_rate; /* Adam's, to begin with */
    size_t epochs;        /* at most; one is one pass over all rows and one step */
    size_t patience;      /* epochs without a better loss on the held rows until the end */
};

/* Learning rate 0.003, 3,000 epochs, patience 100. */
struct train_settings train_defaults(void);

struct train_result {
    double loss;      /* of the rows that train, mean over rows and weights of views, without penalty */
    double held_loss; /* NaN without such rows */
    size_t epochs;    /* passes made */
    bool settled;     /* ended because nothing was left to gain, not at the last of the epochs */
};

/*
 * weights[0..width) and *bias: where to begin; on success the head (with rows held out: the best on them).
 * ERROR_BAD_INPUT: no rows, one label alone among those that train, a setting out of its range, rows that are not
 * finite.
 */
int train_head(const struct train_problem *problem, const struct train_settings *settings, float *weights, float *bias,
               struct train_result *result, struct error *err);

/* weights . row + bias of rows[0..count), each `width` floats. */
void train_logits(const float *rows, size_t count, size_t width, const float *weights, float bias, double *logits);

/* lambda_l = lambda0 * exp(-beta * distance): distance in exits from the last one. */
double train_weight(double lambda0, double beta, size_t distance);

/* Calibrated logit = slope * logit + intercept. */
struct platt {
    double slope, intercept;
};

/*
 * Platt's scaling, with his smoothed targets (Platt 1999; Newton's method as in Lin, Lin and Weng 2007): labels are
 * taken as (yes + 1) / (yes + 2) and 1 / (no + 2), so that few rows cannot claim certainty. Logits that rank no better
 * than chance get the slope 0: the answer is then the share of yes. ERROR_BAD_INPUT: rows of one label, a logit that is
 * not finite.
 */
int platt_fit(struct platt *platt, const double *logits, const uint8_t *labels, size_t count, struct error *err);

/* Cross entropy of a label at a logit, without overflow. */
double train_log_loss(double logit, uint8_t label);

#endif
