/*
 * kafka.h - what the parts of stream/ share: client properties, topics
 *
 * Properties are librdkafka's own (CONFIGURATION.md) and pass through untouched; what a part needs to be right
 * (enable.auto.commit, enable.idempotence, …) it sets last, and a user's value that contradicts is an error that says
 * so.
 */
#ifndef HEADRACE_STREAM_KAFKA_H
#define HEADRACE_STREAM_KAFKA_H

#include <stdbool.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "base/property.h"

struct kafka_settings {
    const struct property *properties;
    size_t property_count;
    const char *client_id; /* default when the properties name none */
};

/*
 * One list for settings.properties: `defaults`, which the user may overrule, then those of `settings` but for the names
 * in `without`. The caller frees the list; names and values stay where they are. NULL: no memory.
 */
struct property *kafka_properties_over(const struct property *defaults, size_t default_count,
                                       const struct kafka_settings *settings, const char *const *without,
                                       size_t without_count, size_t *count);

/* The user's value of a property; NULL: not set. */
const char *kafka_property_value(const struct kafka_settings *settings, const char *name);

/* Names of the topics (topics.*). */
struct kafka_topics {
    const char *interactions, *items, *users, *requests, *scores;
    const char *dead_suffix; /* ".dead" */
};

/*
 * A client of that type, librdkafka's log lines and errors going to our log. `forced` properties win; a user's property
 * (or an alias of it) that contradicts one is ERROR_FATAL, and so is a property that librdkafka does not know or whose
 * value it refuses. Producer properties are passed over by consumers and the other way round. rebalance and delivery
 * callbacks may be NULL.
 */
int kafka_create_client(rd_kafka_t **client, rd_kafka_type_t type, const struct kafka_settings *settings,
                        const struct property *forced, size_t forced_count,
                        void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                        void (*rebalanced)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *,
                                           void *),
                        void *opaque, struct error *err);

/*
 * Leaves the group and waits for commits on their way, at most `timeout_ms`: with the broker gone
 * rd_kafka_consumer_close() would wait for a minute. Partitions are given up without the rebalance callback. The client
 * must be destroyed by kafka_destroy_consumer() then, with no other call before.
 */
void kafka_close_consumer(rd_kafka_t *consumer, int timeout_ms);

/* NULL is fine. */
void kafka_destroy_consumer(rd_kafka_t *consumer);

bool kafka_has_header(const rd_kafka_message_t *message, const char *name);

/*
 * Waits until the topic's metadata is there (it is asked for again until `timeout_ms`); gives the number of partitions.
 * ERROR_RETRY with *partitions 0: the broker knows no such topic; with -1: nobody answered. ERROR_FATAL: the name is
 * invalid or we may not read it.
 */
int kafka_partition_count(rd_kafka_t *client, const char *topic, int timeout_ms, int32_t *partitions,
                          struct error *err);

#endif
