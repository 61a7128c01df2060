/*
 * requests_state.h - what requests.c (the group, the poll thread) and requests_commit.c (what becomes of requests that
 * were taken) know together
 *
 * Threads: functions whose comment says so want the mutex held.
 */
#ifndef HEADRACE_STREAM_REQUESTS_STATE_H
#define HEADRACE_STREAM_REQUESTS_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/queue.h"
#include "stream/requests.h"
#include "stream/window.h"

struct partition {
    bool assigned;
    uint64_t assignment; /* numbers assignments; 0: never */
    int64_t next;        /* offset from which messages are new */
    struct window window;
    int64_t sent;             /* prefix in the commit on its way */
    uint64_t sent_finished;   /* window.finished at that time */
    int64_t committed;        /* prefix that the broker has confirmed */
    uint64_t committed_count; /* window.finished at that time */
};

struct requests {
    rd_kafka_t *client;
    rd_kafka_queue_t *messages;       /* of all our partitions, apart from the group's events */
    rd_kafka_queue_t *commit_results; /* results of commits */
    char *topic;
    bool transactional;
    size_t queue_capacity;
    size_t unfinished_limit, unfinished_bytes_limit; /* 0: none */
    atomic_size_t unfinished, unfinished_bytes;
    struct queue *queue;
    pthread_t thread;

    pthread_mutex_t mutex; /* of what follows */
    struct partition *partitions;
    size_t partition_count, partition_capacity;
    uint64_t last_assignment;
    bool closed;   /* requests_pause(): nothing more enters the queue */
    bool stopping; /* requests_stop() */
    bool ended;    /* the thread has, on `failure` */
    struct error failure;
    uint64_t taken, committed, commits, rebalances;
    bool full; /* messages stay with librdkafka */

    /* The poll thread's own. */
    bool commit_on_its_way;
    int64_t last_commit_ns;
    bool reset_is_error; /* auto.offset.reset */
    rd_kafka_resp_err_t last_trouble;
    int64_t last_trouble_ns;
};

/* What a message counts for in unfinished_bytes. */
size_t requests_size(const rd_kafka_message_t *message);

/* A request that is nobody's any more. */
void requests_free(struct request *request);

/* Mutex held. NULL: not a partition of ours any more. */
struct partition *requests_partition(struct requests *requests, const struct request *request);

/* The same trouble no more often than every 10 s; poll thread. */
void requests_log_trouble(struct requests *requests, rd_kafka_resp_err_t code, const char *reason);

/*
 * Commits what is done of those in `only` (NULL: all); the result comes through commit_results. Poll thread, and never
 * with transactions.
 */
void requests_commit(struct requests *requests, const rd_kafka_topic_partition_list_t *only);

/* What is to be done about commits in every round of the poll thread, and in its last. */
void requests_commit_when_due(struct requests *requests);
void requests_commit_finally(struct requests *requests);

#endif
