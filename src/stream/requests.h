/*
 * requests.h - score requests from a consumer group, answered before they are committed
 *
 * A poll thread that never blocks takes messages from the group and puts them into a bounded queue; while the queue is
 * full they stay with librdkafka (queued.max.messages.kbytes bounds them) and it goes on polling. An offset is
 * committed only when that message and all before it in its partition are done (the contiguous prefix). When partitions
 * are taken away, what is unfinished of them is no longer committed by us: their next owner answers it (at least once).
 *
 * A partition that the group has never committed begins at its oldest request. A committed offset that the log no
 * longer holds ends the poll thread with an error (auto.offset.reset=error, unless the user says otherwise): requests
 * were lost and somebody must know.
 *
 * Threads: requests_next() from one thread, requests_done() from any.
 */
#ifndef HEADRACE_STREAM_REQUESTS_H
#define HEADRACE_STREAM_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "stream/kafka.h"

struct request {
    rd_kafka_message_t *message; /* payload, key, headers, topic, partition, offset */
    int64_t arrived_ns;          /* clock_monotonic_ns() when the poll thread got it */
    struct requests *owner;
    uint64_t assignment; /* of the partition, when the message came; done() of an older one is ignored */
};

struct requests_settings {
    struct kafka_settings kafka;
    const char *topic;
    const char *group_id;  /* when the properties name no group.id */
    size_t queue_capacity; /* requests waiting */
};

struct requests;

/* Joins the group and starts the poll thread. */
int requests_start(struct requests **requests, const struct requests_settings *settings, struct error *err);

/* The oldest waiting request, NULL after `timeout_ms`. It must be given back by requests_done(). */
struct request *requests_next(struct requests *requests, int timeout_ms);

/* The answer is acknowledged by the broker: frees the request, commits what can be. */
void requests_done(struct request *request);

/* Gives it back unanswered: it will not be committed, and nothing behind it in its partition. */
void requests_abandon(struct request *request);

/* Takes no more from Kafka; what is in the queue can still be taken by requests_next(). */
void requests_pause(struct requests *requests);

/* False with the error when the poll thread has ended on one. */
bool requests_alive(struct requests *requests, struct error *err);

struct requests_progress {
    uint64_t taken;     /* messages from Kafka */
    uint64_t committed; /* offsets known to be committed: messages done and covered by a commit */
    size_t waiting;
    bool paused; /* the queue is full */
};

struct requests_progress requests_progress(struct requests *requests);

/* Commits the last prefix, leaves the group, frees. All requests must have been given back. */
void requests_stop(struct requests *requests);

#endif
