/*
 * records.h - how the graph lies in RocksDB
 *
 * Numbers are big-endian, so that byte order is number order. N is a node's 32-bit number.
 *
 *   meta      "format"                                -> version (4)
 *   ids       'u' or 'i', N (4)                       -> id; empty: an erased user, the number is free
 *   items     N (4)                                   -> description
 *   users     N (4)                                   -> description without title: the profile
 *   edges     class (1) user (4) ~timestamp (8) item (4) kind (1) value (8) -> sequence (8) label (1)
 *   pairs     user (4) item (4)                       -> timestamp (8) sequence (8) kind (1) label (1) value (8)
 *   counts    "events"                                -> events (8) newest event's timestamp (8) late events (8)
 *             'h' user (4)                            -> timestamp (8): history without a pair reaches up to here
 *   offsets   topic, 0, partition (4)                 -> next offset (8) mark of the message before it (8)
 *   vectors   'u' or 'i', N (4)                       -> source (1) version: where the z0 of a node with edges comes
 *                                                         from, if not from a hash of its id (z0.h)
 *   outbox    topic, 0, partition (4) offset (8)      -> letter
 *
 * `edges` holds every event ever accepted, as far back as the window goes: its key is the event's identity, which is
 * what makes a repeat a single look-up. Class 'h' is history (what graph_history() reads, newest first), 'o' the others
 * (impressions, removals, unknown kinds), kept apart so that a thousand impressions do not stand between two ratings.
 * Only the user's direction is stored: who reads an item's edges wants the current ones, and those are in memory. The
 * other direction would cost a quarter of the ingest rate and 44 % more disk (100,000 events: 49 to 55 against 34 to 43
 * thousand a second).
 *
 * `pairs` holds the newest event of a pair, a removal included: an event from before the removal that comes late must
 * not bring the edge back. An edge that a limit has taken out leaves no pair, only history; counts 'h' remembers that
 * there is such history, so that the writer knows without asking which other events are certainly new. Verdicts are not
 * stored but worked out from kind, value and label, so that a new label.threshold holds for all events after a restart.
 */
#ifndef HEADRACE_GRAPH_RECORDS_H
#define HEADRACE_GRAPH_RECORDS_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "wire/messages.h"

enum { RECORD_FORMAT = 1 };

enum {
    EVENT_KEY_SIZE = 26,
    EVENT_PREFIX_SIZE = 5, /* class and user */
    EVENT_VALUE_SIZE = 9,
    PAIR_KEY_SIZE = 8,
    PAIR_VALUE_SIZE = 26,
    HIDDEN_KEY_SIZE = 5,
    VECTOR_KEY_SIZE = 5,
    COUNTS_SIZE = 24,
    PLACE_SIZE = 16,
};

enum event_label { EVENT_LABEL_NONE = -1, EVENT_LABEL_NO = 0, EVENT_LABEL_YES = 1 };

struct event {
    uint32_t user, item;
    int64_t timestamp_ms; /* at least 0 */
    uint64_t sequence;    /* number of events accepted before this one: breaks ties of time */
    uint8_t kind;         /* enum interaction_kind */
    int8_t label;         /* enum event_label */
    double value;         /* NaN: none */
};

static inline void bytes_put_32(uint8_t out[4], uint32_t value)
{
    uint32_t big = htobe32(value);
    memcpy(out, &big, sizeof big);
}

static inline void bytes_put_64(uint8_t out[8], uint64_t value)
{
    uint64_t big = htobe64(value);
    memcpy(out, &big, sizeof big);
}

static inline uint32_t bytes_get_32(const void *bytes)
{
    uint32_t big;
    memcpy(&big, bytes, sizeof big);
    return be32toh(big);
}

static inline uint64_t bytes_get_64(const void *bytes)
{
    uint64_t big;
    memcpy(&big, bytes, sizeof big);
    return be64toh(big);
}

/* Whether events of the kind can be a pair's edge: not impressions, removals and unknown kinds. */
bool event_is_edge(uint8_t kind);

void event_prefix(uint8_t out[EVENT_PREFIX_SIZE], char class, uint32_t user);

/* Where a scan of a user's history begins that wants events earlier than `before_ms`, which is above 0. */
void event_history_start(uint8_t out[EVENT_PREFIX_SIZE + 8], uint32_t user, int64_t before_ms);

void event_encode(const struct event *event, uint8_t key[EVENT_KEY_SIZE], uint8_t value[EVENT_VALUE_SIZE]);
int event_decode(struct text key, struct text value, struct event *event, struct error *err);

void pair_key(uint8_t out[PAIR_KEY_SIZE], uint32_t user, uint32_t item);
void pair_encode(const struct event *event, uint8_t value[PAIR_VALUE_SIZE]);
int pair_decode(struct text key, struct text value, struct event *event, struct error *err);

/* In counts. */
void hidden_key(uint8_t out[HIDDEN_KEY_SIZE], uint32_t user);

void vector_key(uint8_t out[VECTOR_KEY_SIZE], char kind, uint32_t node);

/* Appends topic, 0, partition: the key of an offset and the front of an outbox key. */
void partition_key(struct buffer *out, const char *topic, int32_t partition);

/* What is said about an item or a user: one allocation, given back with free(). */
struct description {
    struct text title; /* data == NULL: none */
    struct attribute *attributes;
    size_t attribute_count;
};

void description_encode(struct buffer *out, struct text title, const struct attribute *attributes, size_t count);

/* NULL with `err` set: damaged (ERROR_FATAL) or no memory. */
struct description *description_decode(struct text record, struct error *err);

#endif
