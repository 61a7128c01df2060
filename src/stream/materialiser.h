/*
 * materialiser.h - interactions, items and users from Kafka into the graph
 *
 * Reads all partitions of the three topics by assign (no group, no rebalance), from the offsets in the graph's own
 * store, and applies them in batches: one WriteBatch with the edges and the offsets they came from, so that state is
 * exactly once whatever happens to the process. The committed offsets are also told to the broker under the group
 * `<group.id>-state-<instance>`, for lag tools only; they are never read back.
 *
 * A message that cannot be read goes to `<topic>.dead` through the outbox: it is stored in the same batch as the offset
 * behind it, sent, and deleted when the broker has acknowledged it.
 *
 * A stored offset that the log no longer holds is ERROR_FATAL (retention gap; the message says what to do): going on
 * would leave a hole in the graph.
 *
 * Threads: one of its own, which is the graph's writer.
 */
#ifndef HEADRACE_STREAM_MATERIALISER_H
#define HEADRACE_STREAM_MATERIALISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "graph/graph.h"
#include "stream/kafka.h"
#include "stream/producer.h"
#include "wire/codec.h"

struct materialiser_settings {
    struct kafka_settings kafka;
    struct kafka_topics topics;
    const char *instance_id;
    bool dead_letters;          /* this node writes them (state.dead_letters) */
    size_t batch_events;        /* a batch is committed at this many messages … */
    int batch_wait_ms;          /* … or this long after its first */
    int64_t max_future_skew_ms; /* an event later than its record's time by more is a dead letter; 0: no check */
    size_t message_limit;       /* bytes of one message; more is too_large */
    void (*observe)(void *observer, const struct interaction *interaction); /* NULL, or called in the thread with each
                                                                               interaction that was applied */
    void *observer;
};

struct materialiser;

struct materialiser_progress {
    uint64_t messages;     /* taken from Kafka since the start */
    uint64_t dead_letters; /* of them */
    bool caught_up;        /* every partition has been at its end once since the start */
    bool stopped;          /* the thread has ended: by materialiser_stop() or an error */
};

/*
 * Waits in its thread for topics that are not there yet; users may be missing, and is looked for again every 30 s, as
 * are new partitions. The strings in `settings` must outlive the materialiser. -1: a Kafka property is wrong.
 */
int materialiser_start(struct materialiser **materialiser, const struct materialiser_settings *settings,
                       struct graph *graph, const struct codec *codec, struct error *err);

struct materialiser_progress materialiser_progress(struct materialiser *materialiser);

/* Commits what is staged, ends the thread, frees. -1 with the error that had ended the thread before, if one had. */
int materialiser_stop(struct materialiser *materialiser, struct error *err);

#endif
