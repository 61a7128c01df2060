/*
 * source.h - the messages of logged traffic, from files or topics, in one order
 *
 * Interactions and requests are ordered by (timestamp, topic, partition, offset): requests before interactions,
 * and a file is one partition whose messages are numbered. Items and users come first, in the order of their
 * offsets. Everything is held in memory: some 150 bytes an event.
 *
 * Threads: one.
 */
#ifndef HEADRACE_REPLAY_SOURCE_H
#define HEADRACE_REPLAY_SOURCE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "base/text.h"
#include "replay/event_file.h"
#include "stream/kafka.h"
#include "wire/messages.h"

enum source_topic { SOURCE_ITEMS, SOURCE_USERS, SOURCE_REQUESTS, SOURCE_INTERACTIONS, SOURCE_TOPICS };

struct source_message {
    int64_t timestamp_ms;
    int64_t offset;
    int32_t partition;
    uint8_t topic;       /* enum source_topic */
    bool deleted;        /* an item or user taken away: only its id is there */
    const void *message; /* struct item, user, interaction or score_request */
};

struct replay_log;

struct codec;

/* NULL without memory. */
struct replay_log *replay_log_create(void);
void replay_log_destroy(struct replay_log *log);

/* Which messages are read, [from, to), of interactions and requests; of items and users all are. */
struct source_range {
    bool by_offset;
    int64_t from, to; /* ms since 1970, or offsets; INT64_MIN and INT64_MAX: the beginning, what is there now */
};

/* For what is read from then on: files go by their messages' own times, topics by the records' times, or by offset in
 * every partition. */
void replay_log_set_range(struct replay_log *log, const struct source_range *range);

/*
 * Adds a file's messages; its type says which topic they stand for. Lines that cannot be read are named in our log, the
 * first ten of a file, and counted.
 */
int replay_log_read_file(struct replay_log *log, const struct event_file_settings *file,
                         const volatile sig_atomic_t *interrupted, struct error *err);

/*
 * Adds a topic's messages, by assigned partitions: no group is joined and nothing committed. The client must say
 * enable.partition.eof. The codec must outlive the log. A topic that is not there is an error.
 */
int replay_log_read_topic(struct replay_log *log, rd_kafka_t *client, const struct codec *codec, const char *name,
                          enum source_topic topic, const volatile sig_atomic_t *interrupted, struct error *err);

/* All messages in order. Call it when everything is added. ERROR_FATAL: no memory. */
int replay_log_order(struct replay_log *log, struct error *err);
const struct source_message *replay_log_messages(const struct replay_log *log, size_t *count);

/* Events have no times: all are at 0 (event_file_settings.untimed). */
bool replay_log_untimed(const struct replay_log *log);

uint64_t replay_log_unreadable(const struct replay_log *log);

/* Over every message, its place and time. */
int replay_log_hash(const struct replay_log *log, uint64_t *hash, struct error *err);

#endif
