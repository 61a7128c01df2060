/*
 * histogram.h - how long things took
 *
 * Log-linear buckets from 1e-3 to 1e7 (of whatever unit), 128 a factor of two: a quantile is within 0.6 % of the true
 * one. A zeroed histogram is an empty one.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_BASE_HISTOGRAM_H
#define HEADRACE_BASE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS_A_DOUBLING = 128, HISTOGRAM_BUCKETS = 34 * HISTOGRAM_BUCKETS_A_DOUBLING };

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count;
    double sum;
};

void histogram_add(struct histogram *histogram, double value);

/* The value below which the share `q` (0 to 1) of all values lies; NaN when empty. */
double histogram_quantile(const struct histogram *histogram, double q);

#endif
