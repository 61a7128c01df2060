/*
 * totals.h - what became of requests and how long it took, for whoever watches the worker
 *
 * The parts of score/ count while they work. Everything only rises, but for what is called a gauge.
 *
 * Threads: counted by any and read by any, without a lock; histograms by buckets_read(). totals_init() comes before the
 * second thread.
 */
#ifndef HEADRACE_SCORE_TOTALS_H
#define HEADRACE_SCORE_TOTALS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buckets.h"

enum { TOTALS_STATUSES = 8, TOTALS_LAYERS = 129 };

struct score_totals {
    _Atomic uint64_t requests[TOTALS_STATUSES];   /* with an answer, by enum response_status */
    _Atomic uint64_t candidates[TOTALS_STATUSES]; /* in answers, by enum candidate_status */
    _Atomic uint64_t exits[TOTALS_LAYERS];        /* candidates by the layer that answered, 0: exit 0; beyond: last */
    _Atomic uint64_t unreadable;                  /* requests that became dead letters */
    _Atomic uint64_t undecided;                   /* times that a request could not be read as the registry was away */

    _Atomic uint64_t tokens;           /* of prompts that ran, the prefix once a request */
    _Atomic uint64_t token_layers;     /* computed */
    _Atomic uint64_t all_token_layers; /* tokens * layers: what they would have been without exits and kept prefixes */
    _Atomic uint64_t alone;            /* prompts that ran once more alone, as their batch had failed */

    _Atomic uint64_t waiting; /* gauge: requests planned that wait for the model, wholly or in part */
    _Atomic uint64_t layers;  /* gauge: the deepest layer that overload allows just now; that of the last head: all */

    /* The engine's prefix cache, see struct engine_prefix_counters; bytes and entries are gauges. */
    _Atomic uint64_t prefix_hits, prefix_misses, prefix_deepenings, prefix_evictions, prefix_bytes, prefix_entries;

    /* Seconds of a request: from its arrival until it was taken up; graph and evidence; prompt and tokens; until the
     * model began with it; from there until it was done with it; encoding and handing over to Kafka. */
    struct buckets queue, plan, render, wait, compute, send;

    struct buckets batch_requests, batch_candidates, batch_tokens; /* of a call of the engine */
    struct buckets shadow; /* |p answered - p at the reference depth|, a candidate; its sum and number are the mean's */
};

void totals_init(struct score_totals *totals);

static inline void totals_add(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static inline void totals_set(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static inline uint64_t totals_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
