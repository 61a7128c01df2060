/*
 * metrics.h - how good scores are: AUC, log loss, calibration; their uncertainty, alone and between two scorers
 *
 * All over plain arrays: row i has scores[i] (higher: rather yes) and labels[i]. A score that is NaN is an error, never
 * a rank. Sums run in the order of the rows or of the scores and random numbers come from the seed: the same input
 * gives the same bits.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_REPLAY_METRICS_H
#define HEADRACE_REPLAY_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The chance that a row with label yes scores above one with label no, a tie counting a half (Mann and Whitney 1947,
 * from mid-ranks). NaN when there are not both kinds of rows: it is then undefined.
 */
int metrics_auc(const double *scores, const bool *labels, size_t count, double *auc, struct error *err);

struct metrics_interval {
    double low;
    double high;
};

/*
 * A 95 % interval of the AUC by bootstrap over clusters, percentile method (Efron 1979): each round draws as many
 * clusters as there are, with replacement, all rows of a cluster together. Rows of one user are not independent, and
 * an interval that draws single rows is too narrow; so clusters[i] is the user's number, below `cluster_count`.
 *
 * Rounds that happen to hold one kind of rows only are left out; without any other the interval is NaN to NaN. So it is
 * for fewer than two clusters with rows, where nothing can be said. About a thousand rounds make the second digit of
 * the interval's ends steady. Time: rounds * rows additions; 1,000 rounds of 20,000 rows take about 0.2 s.
 */
int metrics_auc_interval(const double *scores, const bool *labels, const uint32_t *clusters, size_t count,
                         size_t cluster_count, size_t rounds, uint64_t seed, struct metrics_interval *interval,
                         struct error *err);

/*
 * Mean of -log(probability given to what happened), natural logarithm. Probabilities are clipped to
 * [1e-7, 1 - 1e-7], so that one sure mistake costs 16 and not infinity; outside [0, 1] they are an error. NaN for no
 * rows.
 */
int metrics_log_loss(const double *probabilities, const bool *labels, size_t count, double *log_loss,
                     struct error *err);

/* The same for each row, whose mean that is: losses[count]. */
int metrics_losses(const double *probabilities, const bool *labels, size_t count, double *losses, struct error *err);

/* Natural entropy of a label that is yes in `share` of all rows: the log loss of who knows only that. 0 at 0 and 1. */
double metrics_entropy(double share);

enum { METRICS_BINS = 10 };

struct metrics_bin {
    size_t rows;
    double predicted; /* mean probability */
    double observed;  /* share of yes */
    double low, high; /* 95 % interval of `observed` (Wilson 1927), rows taken as independent */
};

/*
 * Expected calibration error: the rows by probability in METRICS_BINS bins of equal mass (not of equal width, which
 * leaves most bins of a click model empty), and in each the distance between mean probability and share of yes,
 * weighted by rows (Naeini et al. 2015). Rows of one probability are never parted, so a bin may take more than its
 * share and later ones may be missing: a constant has one bin.
 *
 * It is above 0 for a perfectly calibrated scorer, too: `chance` is what that one would show on average, each bin's
 * share of yes being off by sqrt(2 / pi) standard errors (rows taken as independent). With 15 bins, as is usual for
 * more rows, 3,000 rows would show .028 of chance alone, with 10 .023.
 */
struct metrics_calibration {
    double error;  /* NaN for no rows */
    double chance; /* what of it a perfectly calibrated scorer would have; NaN for no rows */
    struct metrics_bin bins[METRICS_BINS];
    size_t bin_count;
};

int metrics_calibrate(const double *probabilities, const bool *labels, size_t count, struct metrics_calibration *out,
                      struct error *err);

/*
 * AUC within each group (user), mean weighted by the group's rows; groups of one label do not count (GAUC, Zhu et al.
 * 2017). groups[i] < group_count. *rows (may be NULL) gets how many rows counted; NaN when none did.
 */
int metrics_gauc(const double *scores, const bool *labels, const uint32_t *groups, size_t count, size_t group_count,
                 double *gauc, size_t *rows, struct error *err);

/* A 95 % interval of the mean of values[], by the bootstrap of metrics_auc_interval(). */
int metrics_mean_interval(const double *values, const uint32_t *clusters, size_t count, size_t cluster_count,
                          size_t rounds, uint64_t seed, struct metrics_interval *interval, struct error *err);

struct metrics_difference {
    double value; /* a's less b's, on all rows */
    struct metrics_interval interval;
};

/*
 * Two scorers on the same rows: each round of the bootstrap measures both on the clusters that it drew, so what makes
 * rows hard for both cancels. An interval without 0 is a difference that other users would show, too.
 */
int metrics_auc_difference(const double *a, const double *b, const bool *labels, const uint32_t *clusters, size_t count,
                           size_t cluster_count, size_t rounds, uint64_t seed, struct metrics_difference *difference,
                           struct error *err);
int metrics_log_loss_difference(const double *a, const double *b, const bool *labels, const uint32_t *clusters,
                                size_t count, size_t cluster_count, size_t rounds, uint64_t seed,
                                struct metrics_difference *difference, struct error *err);

#endif
