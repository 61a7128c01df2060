/* local.h - what the tests of stream/ share: an embedded broker and clients with properties that make it quick */
#ifndef HEADRACE_TEST_STREAM_LOCAL_H
#define HEADRACE_TEST_STREAM_LOCAL_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "stream/broker.h"
#include "stream/kafka.h"
#include "stream/producer.h"

#define assert_ok(call) assert_done((call), &err, #call)

static inline void assert_done(int rc, const struct error *err, const char *call)
{
    if (rc != 0)
        fail_msg("%s: %s", call, err->message);
}

static struct broker *local_broker;

enum { LOCAL_PROPERTIES = 4 };

/* Valid until the next call. */
static inline struct kafka_settings local_settings(void)
{
    static struct property properties[LOCAL_PROPERTIES];
    properties[0] = (struct property){"bootstrap.servers", broker_address(local_broker)};
    properties[1] = (struct property){"session.timeout.ms", "3000"}; /* the mock lets a member wait */
    properties[2] = (struct property){"heartbeat.interval.ms", "500"};
    properties[3] = (struct property){"fetch.wait.max.ms", "10"};
    return (struct kafka_settings){properties, LOCAL_PROPERTIES, "test"};
}

static inline int local_start(void **state)
{
    (void)state;
    struct error err;
    return broker_start(&local_broker, &err);
}

static inline int local_stop(void **state)
{
    (void)state;
    broker_stop(local_broker);
    return 0;
}

/* A consumer of one partition from its beginning, without a group's rebalance. */
static inline rd_kafka_t *local_consumer(const char *topic, int32_t partition, const char *group)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct property forced[] = {{"group.id", group}, {"enable.auto.commit", "false"}};
    rd_kafka_t *client;
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, forced, 2, NULL, NULL, NULL, &err));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
    assert_int_equal(rd_kafka_assign(client, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    return client;
}

static inline void local_consumer_close(rd_kafka_t *client)
{
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

/* The next message, within 10 s. */
static inline rd_kafka_message_t *local_consume(rd_kafka_t *client)
{
    for (int tries = 0; tries < 100; tries++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 100);
        if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return message;
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    fail_msg("no message within 10 s");
    return NULL;
}

static inline bool local_is_silent(rd_kafka_t *client, int ms)
{
    rd_kafka_message_t *message = rd_kafka_consumer_poll(client, ms);
    if (message != NULL)
        rd_kafka_message_destroy(message);
    return message == NULL;
}

/* The value of the last header of that name, as a string; "" when there is none. Valid until the next call. */
static inline const char *local_header(const rd_kafka_message_t *message, const char *name)
{
    static char text[512];
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    text[0] = '\0';
    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        rd_kafka_header_get_last(headers, name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR)
        snprintf(text, sizeof text, "%.*s", (int)size, (const char *)value);
    return text;
}

/* Offset committed by a group; -1: none. */
static inline int64_t local_committed(const char *group, const char *topic, int32_t partition)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct property forced[] = {{"group.id", group}};
    rd_kafka_t *client;
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, forced, 1, NULL, NULL, NULL, &err));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    assert_int_equal(rd_kafka_committed(client, list, 10000), 0);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    return offset < 0 ? -1 : offset;
}

#endif
