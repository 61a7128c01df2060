/*
 * buckets.h - how values spread, for whoever watches the program while it runs
 *
 * Counts under fixed upper bounds, as Prometheus' histograms are made: coarse, small, the same for as long as the
 * program runs, and therefore to be added up over processes. For exact quantiles in a report there is histogram.h.
 *
 * Threads: buckets_add() and buckets_read() from any, at the same time, without a lock; buckets_init*() before the
 * second thread comes.
 */
#ifndef HEADRACE_BASE_BUCKETS_H
#define HEADRACE_BASE_BUCKETS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { BUCKETS_MAX = 20 };

struct buckets {
    double bounds[BUCKETS_MAX];               /* rising; a value on a bound is below it */
    size_t count;                             /* of bounds */
    _Atomic uint64_t values[BUCKETS_MAX + 1]; /* under each bound and above the one before; the last above them all */
    _Atomic double sum;
};

/* Bounds of the caller's own, rising, at most BUCKETS_MAX. */
void buckets_init(struct buckets *buckets, const double *bounds, size_t count);

/* For how long things take, in seconds: 100 µs to 50 s in steps of 1, 2.5, 5. */
void buckets_init_seconds(struct buckets *buckets);

/* For how many there are of something: 1 to 65,536, doubling. */
void buckets_init_sizes(struct buckets *buckets);

/* A value that is not finite is passed over. */
void buckets_add(struct buckets *buckets, double value);

struct buckets_counts {
    double bounds[BUCKETS_MAX];
    size_t count;                    /* of bounds */
    uint64_t up_to[BUCKETS_MAX + 1]; /* values at most this bound; the last: all values */
    double sum;                      /* may know a value more or less than up_to, if one comes just now */
};

struct buckets_counts buckets_read(const struct buckets *buckets);

#endif
