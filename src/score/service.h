/*
 * service.h - requests from Kafka answered to Kafka
 *
 * Three threads: one takes requests in and makes them ready (intake.h), one runs the engine (batcher.h), and the
 * caller's hands answers over to delivery (stream/delivery.h), to the topic of scores and keyed by the request id. A
 * request is done, so that its offset may be committed, only when its answer counts. A request that cannot be read goes
 * to the dead-letter topic and is done when that letter counts. An answer too large for the topic is replaced by an
 * ERROR that says so. While Kafka has no room, or the registry is not there to say under which number answers are
 * written, an answer is held and tried again.
 *
 * Threads: one; service_totals() from any.
 */
#ifndef HEADRACE_SCORE_SERVICE_H
#define HEADRACE_SCORE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "score/batcher.h"
#include "score/scorer.h"
#include "stream/delivery.h"
#include "stream/kafka.h"
#include "stream/requests.h"
#include "wire/codec.h"

struct service_settings {
    struct kafka_settings kafka;
    struct kafka_topics topics;
    size_t message_limit;               /* bytes of one request, and of a dead letter */
    const char *group_id, *instance_id; /* these and what follows: see delivery.h */
    bool exactly_once;
    size_t batch_requests;
    int batch_ms;
    struct batcher_settings batch; /* capacity: requests taken from the queue and not handed over yet */
};

struct service;

/* Everything given must outlive the service. */
int service_create(struct service **service, const struct service_settings *settings, struct requests *requests,
                   struct scorer *scorer, const struct codec *codec, struct error *err);

/* Gives unfinished requests back unanswered. NULL is fine. */
void service_destroy(struct service *service);

/* Hands over the answers that are ready, or waits for one up to `timeout_ms`. -1: the worker must stop. */
int service_step(struct service *service, int timeout_ms, struct error *err);

/* Answers what still waits and sees all answers delivered, within `limit_ms`; says in the log what was left. */
int service_drain(struct service *service, int64_t limit_ms, struct error *err);

struct service_totals {
    uint64_t answered;     /* responses that count */
    uint64_t dead_letters; /* requests that could not be read */
};

struct service_totals service_totals(const struct service *service);

/* For its totals. */
struct delivery *service_delivery(const struct service *service);

#endif
