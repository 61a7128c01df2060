/*
 * intake.h - requests taken from Kafka, read and made ready for the engine, on a thread of its own
 *
 * So the next requests are planned, rendered and tokenised while the engine computes. A request whose schema the
 * registry cannot be asked for just now is put aside and read again every so often; others go on meanwhile.
 *
 * Under overload, when what waits before this thread alone takes longer than the patience, requests are refused (SHED)
 * here, unread but for their ids: with `shed`, and with `depth` where there is an engine that could be spared (without
 * one an answer costs hardly more than a refusal).
 *
 * Threads: intake_give_back() from any, the rest from the service's.
 */
#ifndef HEADRACE_SCORE_INTAKE_H
#define HEADRACE_SCORE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "score/batcher.h"
#include "score/scorer.h"
#include "stream/requests.h"
#include "wire/codec.h"

struct job {
    struct batch_job batch; /* the first: what goes through the batcher */
    struct request *request;
    struct score_request asked;
    struct arena arena;
    bool dead; /* it cannot be read: by class and reason a dead letter */
    enum dead_letter_class class;
    struct error reason;
    struct job *next; /* free, or aside */
};

struct intake_settings {
    size_t capacity;      /* jobs */
    size_t message_limit; /* bytes of a request */
    enum order_overload overload;
    double patience_s;
};

struct intake;

/* Starts the thread; jobs go to the batcher. Everything given must outlive the intake. */
int intake_start(struct intake **intake, const struct intake_settings *settings, struct requests *requests,
                 struct scorer *scorer, struct batcher *batcher, const struct codec *codec, struct error *err);

/* The job's request has been taken over, or given back. */
void intake_give_back(struct intake *intake, struct job *job);

/* The thread ends as soon as no request waits: for who has paused the requests. */
void intake_drain(struct intake *intake);

/* Whether it has ended so, and all jobs are back. */
bool intake_is_drained(struct intake *intake);

/* False with the error when the thread has ended on one. */
bool intake_alive(struct intake *intake, struct error *err);

/* Ends the thread at once, and abandons what it had put aside. Returns how many. */
size_t intake_stop(struct intake *intake);

/* After intake_stop(), and after all jobs have come back. NULL is fine. */
void intake_destroy(struct intake *intake);

#endif
