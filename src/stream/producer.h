/*
 * producer.h - messages out, each accounted for
 *
 * Idempotent (enable.idempotence), partitioned by murmur2_random as Java producers do, retried until the broker answers
 * (message.timeout.ms=0): an outage delays, it does not lose. Every message sent is reported exactly once, in
 * producer_poll() or producer_flush(), on the thread that calls them.
 *
 * Threads: producer_send() from any thread; poll and flush from one.
 */
#ifndef HEADRACE_STREAM_PRODUCER_H
#define HEADRACE_STREAM_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "stream/kafka.h"

struct producer;

struct producer_header {
    const char *name;
    const void *value; /* NULL: a null header */
    size_t size;
};

struct producer_message {
    const char *topic;
    const void *key; /* NULL: no key */
    size_t key_size;
    const void *value; /* NULL: a tombstone */
    size_t value_size;
    const struct producer_header *headers;
    size_t header_count;
    int64_t timestamp_ms; /* 0: now */
    void *opaque;         /* comes back with the report */
};

/*
 * `error` is NULL when the broker has acknowledged the message; else why it never will: ERROR_BAD_INPUT this message is
 * at fault (too large), ERROR_RETRY sending it again may help (no such topic), ERROR_FATAL it will not (no right to
 * write; a gap that idempotence cannot close, after which the producer takes nothing any more).
 */
typedef void producer_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                             const struct error *error);

int producer_create(struct producer **producer, const struct kafka_settings *settings, producer_report *report,
                    void *context, struct error *err);

/*
 * For transactions (transaction.h): without a message.timeout.ms of its own, as nothing outlives its transaction, and
 * with a transaction.timeout.ms of 10 s unless the user says otherwise.
 */
int producer_create_transactional(struct producer **producer, const struct kafka_settings *settings,
                                  const char *transactional_id, producer_report *report, void *context,
                                  struct error *err);

/* librdkafka's own, for its transactions. */
rd_kafka_t *producer_client(struct producer *producer);

/* Does not wait for messages on their way: flush first. What is not acknowledged is reported as ERROR_RETRY. */
void producer_destroy(struct producer *producer);

/*
 * Key, value and headers are copied. ERROR_RETRY: the local queue is full; poll and send again. ERROR_BAD_INPUT: larger
 * than producer_size_limit(). On -1 there is no report.
 */
int producer_send(struct producer *producer, const struct producer_message *message, struct error *err);

/* Serves reports for up to `timeout_ms`; returns how many. */
int producer_poll(struct producer *producer, int timeout_ms);

/* Until all is acknowledged or `timeout_ms` is over; -1 and ERROR_RETRY says how many are left. */
int producer_flush(struct producer *producer, int timeout_ms, struct error *err);

/* message.max.bytes: what key, value and headers of a message may take together. */
size_t producer_size_limit(const struct producer *producer);

/* Messages sent and not reported yet. */
size_t producer_pending(struct producer *producer);

#endif
