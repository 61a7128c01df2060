/*
 * metrics.h - writes numbers as Prometheus reads them (text format 0.0.4)
 *
 * Family after family: metrics_family() says what comes, metrics_put*() add its series. HELP and TYPE stand once before
 * the first series; a family without one leaves no trace. A zeroed struct begins a page, metrics_end() ends it.
 *
 *     metrics_family(&page, "headrace_requests_total", METRICS_COUNTER, "Requests answered, by status.");
 *     metrics_put(&page, METRICS_LABELS({"status", "ok"}), answered);
 *
 * Names come from the program and are written as they are: each family once a page, each set of labels once a family,
 * base units, _total behind counters. Label values may be anything: they are escaped, and what is no UTF-8 is replaced,
 * as one such byte would make a reader refuse the page. A value that is not finite is left out.
 *
 * Threads: a page belongs to one.
 */
#ifndef HEADRACE_OBSERVE_METRICS_H
#define HEADRACE_OBSERVE_METRICS_H

#include "base/buckets.h"
#include "base/buffer.h"
#include "base/error.h"

/* The Content-Type of a page. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

struct metrics_label {
    const char *name;
    const char *value;
};

/* For the calls below: labels, a NULL name behind the last. Without any: NULL. */
#define METRICS_LABELS(...) ((const struct metrics_label[]){__VA_ARGS__, {NULL, NULL}})

struct metrics {
    struct buffer page;
    const char *family, *help; /* as given; they must outlive the page */
    enum metrics_type type;
    bool begun; /* HELP and TYPE of the family are written */
};

void metrics_family(struct metrics *metrics, const char *name, enum metrics_type type, const char *help);

void metrics_put(struct metrics *metrics, const struct metrics_label *labels, double value);

/* For a METRICS_HISTOGRAM: _bucket of each bound and of +Inf, _sum, _count. */
void metrics_put_buckets(struct metrics *metrics, const struct metrics_label *labels,
                         const struct buckets_counts *counts);

/* A family of one series without labels. */
void metrics_single(struct metrics *metrics, const char *name, enum metrics_type type, const char *help, double value);

/* -1: no memory; the page is not whole. */
int metrics_end(struct metrics *metrics, struct error *err);

void metrics_free(struct metrics *metrics);

#endif
