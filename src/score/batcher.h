/*
 * batcher.h - requests that wait for the engine, and the thread that runs it
 *
 * Whenever the engine is free its thread looks at all that waits, answers what cannot wait or need not (expired,
 * refused, shallow; order.h), and runs the next batch. Meanwhile others put more, rendered and tokenised, so that the
 * engine finds its next batch ready. It never waits for a batch to fill: a request that finds the engine idle starts at
 * once. Only after a batch, while those that came meanwhile have waited less than `max_wait_ms` and do not fill one, it
 * waits for more until they have.
 *
 * Threads: batcher_put() and batcher_take() from any.
 */
#ifndef HEADRACE_SCORE_BATCHER_H
#define HEADRACE_SCORE_BATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "score/order.h"
#include "score/scorer.h"
#include "wire/messages.h"

/* A request. What belongs to it stays the caller's, who leaves it alone from batcher_put() to batcher_take(). */
struct batch_job {
    struct asking *asking; /* NULL: the response is complete, also when batcher_take() gives it back */
    struct score_response response;
    int64_t arrived_ns;
    int64_t deadline_ns; /* by clock_monotonic_ns(); INT64_MAX: none */
    int64_t put_ns;      /* the batcher's */
    bool left;           /* it was not done: batcher_stop() came before, or it was no longer wanted */
};

struct batcher_settings {
    size_t capacity; /* jobs put and not taken, at most */
    size_t max_tokens;
    int max_wait_ms;
    enum order_overload overload;
    double patience_s;
    bool (*is_wanted)(const struct batch_job *job); /* asked before a batch; on the batcher's thread. NULL: all are */
};

struct batcher;

/* The scorer must outlive it; without an engine there is no thread, and every job is done when it is put. */
int batcher_create(struct batcher **batcher, const struct batcher_settings *settings, struct scorer *scorer,
                   struct error *err);

/* The jobs put and not taken are forgotten. NULL is fine. */
void batcher_destroy(struct batcher *batcher);

void batcher_put(struct batcher *batcher, struct batch_job *job);

/* A job that the engine is done with, for scorer_finish() when it still has an `asking`; NULL after `timeout_ms`. */
struct batch_job *batcher_take(struct batcher *batcher, int timeout_ms);

/* Ends the thread after its batch. What still waits comes out of batcher_take() with `left` set. */
void batcher_stop(struct batcher *batcher);

/* False with the error when the thread has ended on one. */
bool batcher_alive(struct batcher *batcher, struct error *err);

#endif
