/*
 * delivery.h - how answers leave: at least once, or exactly once
 *
 * At least once: an answer is sent at once, and its request is done (its offset may be committed) when the broker has
 * acknowledged it. A crash in between answers a request again, with the same key.
 *
 * Exactly once: answers are kept here and leave in Kafka transactions, each with the offsets of the requests it answers
 * (KIP-447), so that a reader with isolation.level=read_committed sees one answer a request, whatever crashes. Only the
 * contiguous prefix of a partition goes into a transaction: an answer behind a request that is still unanswered waits
 * for it. A transaction is opened when it is due (`batch_requests`, `batch_ms`) and committed in one go, in a thread of
 * its own: the caller never waits for the broker, and a crash rarely leaves one open. What an aborted transaction held
 * goes into the next one, unless its partitions have been taken away meanwhile. When the end of a transaction is
 * unclear - the broker died over it - a new producer of the same transactional.id settles it, and the group's committed
 * offsets tell which way: librdkafka has no KIP-890. A broker that takes transactions but does not honour them, as the
 * embedded one, is refused before the first answer leaves.
 *
 * An answer that the broker refuses as too large becomes a dead letter of its request; one whose partition has been
 * taken away is dropped, as the next owner answers.
 *
 * The request's headers traceparent, tracestate, correlationId, correlation_id and kafka_correlationId (Spring's) are
 * put on its answer, the last of each name, when their value has at most DELIVERY_HEADER_LIMIT bytes.
 *
 * Delivery keeps no bound of its own beyond the producer's queue: requests_settings.unfinished_limit bounds what can be
 * on its way.
 *
 * Threads: one caller; delivery_totals() and delivery_pending() from any.
 */
#ifndef HEADRACE_STREAM_DELIVERY_H
#define HEADRACE_STREAM_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "stream/kafka.h"
#include "stream/producer.h"
#include "stream/requests.h"
#include "wire/codec.h"

enum { DELIVERY_HEADER_LIMIT = 1024, DELIVERY_DEAD_CLASSES = 8 };

enum delivery_promise { DELIVERY_AT_LEAST_ONCE, DELIVERY_EXACTLY_ONCE }; /* in the order of the option's choices */

struct delivery_settings {
    struct kafka_settings kafka;
    const char *group_id;    /* of the requests, when the properties name no group.id */
    const char *instance_id; /* unlike that of every other worker of the group: part of the transactional.id */
    const char *requests_topic;
    const char *dead_topic; /* for requests whose answers are refused */
    size_t message_limit;   /* bytes of such a letter */
    bool exactly_once;
    size_t batch_requests; /* exactly once: a transaction is due at this many answers … */
    int batch_ms;          /* … or this long after its first */
};

struct delivery;

/*
 * Does not wait for the broker. The strings and `requests` must outlive it. With exactly_once the requests must have
 * been started as transactional.
 */
int delivery_create(struct delivery **delivery, const struct delivery_settings *settings, struct requests *requests,
                    struct error *err);

/* Gives back unanswered what is not delivered: flush first. NULL is fine. */
void delivery_destroy(struct delivery *delivery);

/*
 * Takes the request over when it returns 0: it is done once its answer counts. The message is copied; its `opaque` is
 * not used. ERROR_RETRY: no room; delivery_poll() and again. ERROR_BAD_INPUT: larger than message.max.bytes. On -1 the
 * request is still the caller's.
 */
int delivery_answer(struct delivery *delivery, struct request *request, const struct producer_message *message,
                    struct error *err);

/* The same for a letter of dead_letter_pack(), which is copied. */
int delivery_dead_letter(struct delivery *delivery, struct request *request, const char *topic, struct text packed,
                         struct error *err);

/* Waits up to `timeout_ms` for something to be delivered. -1: the worker must stop. */
int delivery_poll(struct delivery *delivery, int timeout_ms, struct error *err);

/*
 * Until everything that can be is delivered, or `timeout_ms` is over: then ERROR_RETRY says how much is left. Exactly
 * once: answers behind a request that has none are not waited for.
 */
int delivery_flush(struct delivery *delivery, int timeout_ms, struct error *err);

/* Requests taken over and not done yet. */
size_t delivery_pending(struct delivery *delivery);

struct delivery_totals {
    uint64_t answered;                            /* answers that count: acknowledged, or committed */
    uint64_t dead_letters;                        /* the same */
    uint64_t dead_classes[DELIVERY_DEAD_CLASSES]; /* of them, by enum dead_letter_class */
    uint64_t dropped;                             /* their partitions had been taken away */
    uint64_t refused;                             /* answers that the broker found too large */
    uint64_t transactions;                        /* committed */
    uint64_t aborted;                             /* transactions that were, and came again */
    uint64_t unclear;                             /* ends that a new producer had to settle */
    size_t pending;
    size_t producer_queue; /* messages in the producer, waiting for the broker */
};

struct delivery_totals delivery_totals(struct delivery *delivery);

#endif
