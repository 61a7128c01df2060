#include "stream/producer.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { PURGE_MS = 1000 }; /* what destroying waits for the reports of what was purged */

struct producer {
    rd_kafka_t *client;
    producer_report *report;
    void *context;
    atomic_size_t pending;
    int served; /* reports in the poll that is running; polling thread only */
    size_t size_limit;
};

static enum error_kind kind_of(rd_kafka_t *client, rd_kafka_resp_err_t code)
{
    if (rd_kafka_fatal_error(client, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return ERROR_FATAL;
    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        return ERROR_BAD_INPUT;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return ERROR_FATAL;
    default:
        return ERROR_RETRY;
    }
}

/* After a fatal error librdkafka answers everything with "Local: Fatal error"; the reason is elsewhere. */
static int set_failure(struct producer *producer, const char *topic, rd_kafka_resp_err_t code, struct error *err)
{
    char reason[150];
    if (rd_kafka_fatal_error(producer->client, reason, sizeof reason) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "producer to %.60s has failed for good: %s", topic, reason);
    return error_set(err, kind_of(producer->client, code), "message to %.100s: %s", topic, rd_kafka_err2str(code));
}

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    (void)client;
    struct producer *producer = opaque;
    const char *topic = rd_kafka_topic_name(message->rkt);
    struct error failure;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        set_failure(producer, topic, message->err, &failure);
    atomic_fetch_sub(&producer->pending, 1);
    producer->served++;
    if (producer->report != NULL)
        producer->report(producer->context, message->_private, topic, message->partition, message->offset,
                         message->err != RD_KAFKA_RESP_ERR_NO_ERROR ? &failure : NULL);
}

/* `settings` under our defaults; what must be so in `forced`. */
static int create(struct producer **producer, const struct kafka_settings *settings, const struct property *defaults,
                  size_t default_count, const struct property *forced, size_t forced_count, producer_report *report,
                  void *context, struct error *err)
{
    struct kafka_settings own = *settings;
    struct property *properties =
        kafka_properties_over(defaults, default_count, settings, NULL, 0, &own.property_count);
    struct producer *made = calloc(1, sizeof *made);
    if (properties == NULL || made == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while creating a producer");
        goto failed;
    }
    own.properties = properties;
    made->report = report;
    made->context = context;
    if (kafka_create_client(&made->client, RD_KAFKA_PRODUCER, &own, forced, forced_count, delivered, NULL, made, err) !=
        0)
        goto failed;
    char value[32];
    size_t size = sizeof value;
    rd_kafka_conf_get(rd_kafka_conf(made->client), "message.max.bytes", value, &size);
    made->size_limit = strtoul(value, NULL, 10);
    free(properties);
    *producer = made;
    return 0;
failed:
    free(properties);
    producer_destroy(made);
    return -1;
}

int producer_create(struct producer **producer, const struct kafka_settings *settings, producer_report *report,
                    void *context, struct error *err)
{
    static const struct property defaults[] = {{"linger.ms", "5"}, {"reconnect.backoff.max.ms", "1000"}};
    static const struct property forced[] = {
        {"enable.idempotence", "true"},
        {"message.timeout.ms", "0"},
        {"partitioner", "murmur2_random"},
    };
    return create(producer, settings, defaults, sizeof defaults / sizeof *defaults, forced,
                  sizeof forced / sizeof *forced, report, context, err);
}

int producer_create_transactional(struct producer **producer, const struct kafka_settings *settings,
                                  const char *transactional_id, producer_report *report, void *context,
                                  struct error *err)
{
    /* A broker that is back is to be found within the transaction's time: librdkafka's own 10 s are all of it. */
    static const struct property defaults[] = {
        {"linger.ms", "5"}, {"transaction.timeout.ms", "10000"}, {"reconnect.backoff.max.ms", "1000"}};
    const struct property forced[] = {
        {"transactional.id", transactional_id},
        {"enable.idempotence", "true"},
        {"partitioner", "murmur2_random"},
    };
    return create(producer, settings, defaults, sizeof defaults / sizeof *defaults, forced,
                  sizeof forced / sizeof *forced, report, context, err);
}

rd_kafka_t *producer_client(struct producer *producer)
{
    return producer->client;
}

void producer_destroy(struct producer *producer)
{
    if (producer == NULL)
        return;
    if (producer->client != NULL) {
        rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_flush(producer->client, PURGE_MS);
        rd_kafka_destroy(producer->client);
    }
    free(producer);
}

size_t producer_size_limit(const struct producer *producer)
{
    return producer->size_limit;
}

static rd_kafka_headers_t *make_headers(const struct producer_message *message)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(message->header_count);
    for (size_t i = 0; i < message->header_count; i++) {
        const struct producer_header *header = &message->headers[i];
        rd_kafka_header_add(headers, header->name, -1, header->value, (ssize_t)header->size);
    }
    return headers;
}

int producer_send(struct producer *producer, const struct producer_message *message, struct error *err)
{
    rd_kafka_headers_t *headers = make_headers(message);
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = message->topic},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)message->key, message->key_size}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)message->value, message->value_size}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = message->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = message->opaque},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    atomic_fetch_add(&producer->pending, 1); /* first: the report may come before produceva() returns */
    rd_kafka_error_t *failure = rd_kafka_produceva(producer->client, parts, sizeof parts / sizeof *parts);
    if (failure == NULL)
        return 0;

    atomic_fetch_sub(&producer->pending, 1);
    rd_kafka_headers_destroy(headers); /* still ours after a failure */
    if (rd_kafka_error_code(failure) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        error_set(err, ERROR_RETRY, "message to %.100s: the local queue is full", message->topic);
    else
        set_failure(producer, message->topic, rd_kafka_error_code(failure), err);
    rd_kafka_error_destroy(failure);
    return -1;
}

int producer_poll(struct producer *producer, int timeout_ms)
{
    producer->served = 0;
    rd_kafka_poll(producer->client, timeout_ms);
    return producer->served;
}

int producer_flush(struct producer *producer, int timeout_ms, struct error *err)
{
    producer->served = 0;
    rd_kafka_flush(producer->client, timeout_ms);
    size_t left = producer_pending(producer);
    if (left == 0)
        return 0;
    return error_set(err, ERROR_RETRY, "%zu messages are not acknowledged after %d ms", left, timeout_ms);
}

size_t producer_pending(struct producer *producer)
{
    return atomic_load(&producer->pending);
}
