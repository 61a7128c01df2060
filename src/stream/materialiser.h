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
 * A registry that cannot be asked is no fault of the message: it is kept and tried again, and nothing is read
 * meanwhile.
 *
 * A gap is a stored offset that does not fit the log: earlier than its start (retention was quicker than we), later
 * than its end, or behind another message than the one that was read there (the topic was deleted and created again).
 * What happens then is `on_gap`. With GAP_STOP it is ERROR_FATAL, and the message says what to do: going on would leave
 * a hole in the graph. A topic that is created again and filled beyond our place within seconds, while we read, cannot
 * be told from the old one; the next start notices.
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

enum gap_policy {
    GAP_STOP,
    GAP_REBUILD, /* the thread ends with materialiser_progress.rebuild: drop the state (graph_drop()) and start anew */
    GAP_ACCEPT,  /* a warning, a count, and on from the oldest message that there is */
};

struct materialiser_settings {
    struct kafka_settings kafka;
    struct kafka_topics topics;
    const char *instance_id;
    bool dead_letters;          /* this node writes them (state.dead_letters) */
    size_t batch_events;        /* a batch is committed at this many messages … */
    int batch_wait_ms;          /* … or this long after its first */
    int64_t max_future_skew_ms; /* an event later than its record's time by more is a dead letter; 0: no check */
    size_t message_limit;       /* bytes of one message; more is too_large */
    enum gap_policy on_gap;
    void (*observe)(void *observer, const struct interaction *interaction); /* NULL, or called in the thread with each
                                                                               interaction that was applied */
    void *observer;
};

struct materialiser;

enum { MATERIALISER_TOPICS = 3, MATERIALISER_DEAD = DEAD_TOO_LARGE + 1 };

struct materialiser_topic {
    const char *name;                 /* NULL: none such */
    int32_t partitions;               /* 0: not there yet */
    uint64_t applied;                 /* messages */
    uint64_t dead[MATERIALISER_DEAD]; /* by enum dead_letter_class */
    int64_t lag;                      /* messages that the log holds and the state does not; -1: not known yet */
    int64_t lag_ms; /* how old the newest applied message is while there is a lag, by the record's time; else 0 */
};

/* Since the start; all but `lag` only grows. */
struct materialiser_progress {
    uint64_t messages;     /* taken from Kafka */
    uint64_t dead_letters; /* of them */
    uint64_t batches;      /* committed */
    uint64_t gaps;         /* accepted */
    uint64_t gap_messages; /* in them, as far as offsets tell */
    bool waiting;          /* for the registry: a message is held */
    bool caught_up;        /* every partition has been at its end once */
    bool stopped;          /* the thread has ended: by materialiser_stop() or an error */
    bool rebuild;          /* it has ended because of a gap, and on_gap is GAP_REBUILD */
    struct materialiser_topic topics[MATERIALISER_TOPICS];
};

/*
 * Waits in its thread for topics that are not there yet; users may be missing, and is looked for again every 10 s, as
 * are new partitions. The strings in `settings` must outlive the materialiser. -1: a Kafka property is wrong.
 */
int materialiser_start(struct materialiser **materialiser, const struct materialiser_settings *settings,
                       struct graph *graph, const struct codec *codec, struct error *err);

/* From any thread. */
struct materialiser_progress materialiser_progress(struct materialiser *materialiser);

/* Commits what is staged, ends the thread, frees. -1 with the error that had ended the thread before, if one had. */
int materialiser_stop(struct materialiser *materialiser, struct error *err);

#endif
