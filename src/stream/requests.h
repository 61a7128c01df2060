/*
 * requests.h - score requests from a consumer group, answered before they are committed
 *
 * A poll thread that never blocks takes messages from the group and puts them into a bounded queue; while the queue is
 * full they stay with librdkafka (queued.max.messages.kbytes bounds them) and it goes on polling. An offset is
 * committed only when that message and all before it in its partition are done (the contiguous prefix). When partitions
 * are taken away, what is unfinished of them is no longer committed by us: their next owner answers it (at least once).
 *
 * Nothing is paused in Kafka's sense, so there is no high- and low-water mark either: taking a message or not taking it
 * costs nothing, while in librdkafka 2.0.2 a resumed partition may stay silent for a second and loses what it had
 * fetched.
 *
 * Transactional: offsets are committed by the transactions that hold the answers (delivery.h), never by us. Needs an
 * instance: of a static member the broker refuses offsets after it has lost its place, whatever it believes itself;
 * those of a dynamic one that has just learnt so would pass unchecked.
 *
 * A member with an `instance` is a static one (KIP-345): killed or stopped, it keeps its partitions until
 * session.timeout.ms is over, and a restart within that time is no rebalance.
 *
 * A partition that the group has never committed begins at its oldest request. A committed offset that the log no
 * longer holds ends the poll thread with an error (auto.offset.reset=error, unless the user says otherwise): requests
 * were lost and somebody must know.
 *
 * Threads: requests_next() from one thread, the rest from any.
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
    const char *group_id;    /* when the properties name no group.id */
    const char *instance;    /* group.instance.id (identity.h); NULL: a member that leaves when it stops */
    bool transactional;      /* see above */
    size_t queue_capacity;   /* requests waiting */
    size_t unfinished_limit; /* requests taken and not given back, waiting ones included; 0: no limit */
    size_t unfinished_bytes; /* the same, of their messages */
};

struct requests;

/* Joins the group and starts the poll thread. */
int requests_start(struct requests **requests, const struct requests_settings *settings, struct error *err);

/* The oldest waiting request, NULL after `timeout_ms`. It must be given back by requests_done(). */
struct request *requests_next(struct requests *requests, int timeout_ms);

/* False: its partition has been taken away. Its next owner answers it, whatever we do. */
bool requests_ours(const struct request *request);

/*
 * The answer is acknowledged by the broker, or committed with its offset: frees the request, commits what can be.
 */
void requests_done(struct request *request);

/* Gives it back unanswered: it will not be committed, and nothing behind it in its partition. */
void requests_abandon(struct request *request);

/* Takes no more from Kafka; what is in the queue can still be taken by requests_next(). */
void requests_pause(struct requests *requests);

/* False with the error when the poll thread has ended on one. */
bool requests_alive(struct requests *requests, struct error *err);

struct requests_progress {
    uint64_t taken;      /* messages from Kafka */
    uint64_t committed;  /* offsets known to be committed: messages done and covered by a commit */
    uint64_t commits;    /* that the broker has confirmed; a transaction's are not among them */
    uint64_t rebalances; /* assignments so far */
    uint64_t lag;        /* messages in our partitions that are not committed, as far as the broker has told */
    size_t waiting;
    size_t unfinished; /* taken and not given back, waiting ones included */
    size_t assigned;   /* partitions */
    bool paused;       /* the queue, or what may be unfinished, is full */
};

struct requests_progress requests_progress(struct requests *requests);

/*
 * For transactions. A request is said to be answered as soon as its answer is ready; it counts, and is done, when the
 * transaction that holds the two has been committed.
 */

enum request_standing {
    REQUEST_LOST,  /* its partition has been taken away */
    REQUEST_WAITS, /* one before it in its partition has no answer yet */
    REQUEST_READY  /* it and all before it have one */
};

/* False: the request's partition has been taken away. */
bool requests_answered(struct request *request);

/* Of all at one moment: the offsets of those that are ready may be committed together, and none without the others. */
void requests_standing(struct requests *requests, struct request *const *list, size_t count,
                       enum request_standing *standing);

/*
 * Who we are in the group, for the broker to judge whether a transaction's offsets are still ours to commit. To be
 * asked for before requests_standing(): then a rebalance in between can only make it too old, which the broker refuses.
 */
rd_kafka_consumer_group_metadata_t *requests_membership(struct requests *requests);

/*
 * Fills in the offsets that the group has committed; transactions that are not decided are waited for. ERROR_RETRY: no
 * answer within `timeout_ms`.
 */
int requests_committed(struct requests *requests, rd_kafka_topic_partition_list_t *list, int timeout_ms,
                       struct error *err);

/* Commits the last prefix, leaves the group, frees. All requests must have been given back. */
void requests_stop(struct requests *requests);

#endif
