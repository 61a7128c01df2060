/*
 * places.h - inside stream/: where the state stands in its topics, and whether those places are still there
 *
 * Every partition of the topics is read by assign from the offset in the graph's store. Where a mark is stored with it
 * (a hash of the message before), reading begins one message earlier and that message is compared: an offset alone
 * cannot tell a topic from another one that was created under its name.
 *
 * Threads: the materialiser's; places_lag() and what is atomic, any.
 */
#ifndef HEADRACE_STREAM_PLACES_H
#define HEADRACE_STREAM_PLACES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "graph/graph.h"
#include "stream/materialiser.h"

struct partition {
    int64_t next;  /* offset to read; -1: the beginning */
    uint64_t mark; /* of the message before it; 0: none */
    int64_t seen;  /* the log was read up to here: beyond `next` by what is no message (ends of transactions) */
    bool checked;  /* the message before it is the one that we know, or cannot be asked for */
    bool at_end;   /* has been there once */
    bool moved;    /* `next` is not in the store yet */
};

struct source {
    const char *topic; /* NULL: not configured */
    const struct message_type *type;
    bool optional; /* may be missing */
    struct partition *partitions;
    int32_t count;
    int64_t newest_ms; /* record's time of the newest message taken; 0: none */
    atomic_int shared_count;
    atomic_ullong applied, dead[MATERIALISER_DEAD];
    atomic_llong lag, lag_ms; /* as in struct materialiser_topic */
};

struct places {
    rd_kafka_t *client;
    struct graph *graph;
    enum gap_policy on_gap;
    const atomic_bool *stopping;
    struct source sources[MATERIALISER_TOPICS];
    int64_t last_look_ns, last_lag_ns;
    bool rebuild; /* a gap was found, and the policy is to read everything again */
    atomic_ullong gaps, gap_messages;
};

void places_free(struct places *places);

/* Waits for all topics but optional ones, saying so now and then, and begins to read. 0 as well when we are to stop. */
int places_begin(struct places *places, struct error *err);

/* A partition added to a topic while we run would otherwise be a hole in the graph: looks for some now and then. */
int places_look_for_more(struct places *places, struct error *err);

/* The source that a message or an error is of; NULL: none of ours. */
struct source *places_source(struct places *places, const rd_kafka_message_t *message);

/*
 * Whether the message is one to take; the one before our place is compared with what was read there. -1: a gap that
 * stops us.
 */
int places_check(struct places *places, struct source *source, const rd_kafka_message_t *message, bool *next,
                 struct error *err);

/* The message is taken: the place is behind it. */
void places_pass(struct source *source, const rd_kafka_message_t *message);

/* The end of a partition. -1: it is before our place, and that stops us. */
int places_end(struct places *places, struct source *source, const rd_kafka_message_t *message, struct error *err);

/* The log does not hold the offset that we asked for. -1: a gap that stops us. */
int places_lost(struct places *places, struct source *source, const rd_kafka_message_t *message, struct error *err);

bool places_at_all_ends(const struct places *places);

/* Offsets that are not in the store yet, a gap's included. */
bool places_moved(const struct places *places);
int places_stage(struct places *places, struct error *err);

/* For lag tools only, so nobody waits for it and a failure is nobody's trouble. */
void places_tell_broker(const struct places *places);

/*
 * librdkafka up to 2.1 looks again at what it has fetched a second after that was enough, however soon it is taken; any
 * answer from a broker lets it look at once, so this asks the leaders something. (2.2: fetch.queue.backoff.ms)
 */
void places_wake_fetcher(const struct places *places);

/* Brings the lag up to date now and then. */
void places_measure_lag(struct places *places);

#endif
