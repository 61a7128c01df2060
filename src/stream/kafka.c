#include "stream/kafka.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    VALUE_SIZE = 512, /* of a property that we force, as librdkafka gives it back */
    METADATA_TRY_MS = 2000,
    METADATA_PAUSE_MS = 100,
};

/* librdkafka's levels are those of syslog(3): 3 error, 4 warning, 5 notice, 6 info, 7 debug. */
static enum log_level level_of(int level)
{
    return level <= 3 ? LOG_ERROR : level == 4 ? LOG_WARN : level < 7 ? LOG_INFO : LOG_DEBUG;
}

static void log_line(const rd_kafka_t *client, int level, const char *facility, const char *line)
{
    /* One list of properties serves producers and consumers. */
    if (strcmp(facility, "CONFWARN") == 0 && strstr(line, "will be ignored by this") != NULL)
        return;
    enum log_level ours = level_of(level);
    if (ours == LOG_ERROR && strcmp(facility, "FAIL") == 0)
        ours = LOG_WARN; /* a connection: it is tried again */
    log_write(ours, "kafka", "%s: %s: %s", client ? rd_kafka_name(client) : "-", facility, line);
}

static void log_failure(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    (void)opaque;
    bool fatal = code == RD_KAFKA_RESP_ERR__FATAL;
    bool told = code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__RESOLVE; /* by a FAIL line */
    log_write(fatal  ? LOG_ERROR
              : told ? LOG_DEBUG
                     : LOG_WARN,
              "kafka", "%s: %s: %s%s", rd_kafka_name(client), rd_kafka_err2name((rd_kafka_resp_err_t)code), reason,
              fatal ? "" : "; trying again");
}

const char *kafka_property_value(const struct kafka_settings *settings, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < settings->property_count; i++)
        if (strcmp(settings->properties[i].name, name) == 0)
            value = settings->properties[i].value;
    return value;
}

struct property *kafka_properties_over(const struct property *defaults, size_t default_count,
                                       const struct kafka_settings *settings, const char *const *without,
                                       size_t without_count, size_t *count)
{
    struct property *list = calloc(default_count + settings->property_count + 1, sizeof *list);
    if (list == NULL)
        return NULL;
    *count = 0;
    for (size_t i = 0; i < default_count; i++)
        list[(*count)++] = defaults[i];
    for (size_t i = 0; i < settings->property_count; i++) {
        bool left_out = false;
        for (size_t j = 0; j < without_count; j++)
            left_out |= strcmp(settings->properties[i].name, without[j]) == 0;
        if (!left_out)
            list[(*count)++] = settings->properties[i];
    }
    return list;
}

static int set_property(rd_kafka_conf_t *conf, const struct property *property, struct error *err)
{
    char reason[160];
    if (rd_kafka_conf_set(conf, property->name, property->value, reason, sizeof reason) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, ERROR_FATAL, "kafka property %.60s: %s", property->name, reason);
}

/*
 * Set first, and looked at again after each of the user's: so a contradiction shows also under an alias
 * (delivery.timeout.ms for message.timeout.ms) or another spelling (1 for true).
 */
static int set_properties(rd_kafka_conf_t *conf, const struct kafka_settings *settings, const struct property *forced,
                          size_t forced_count, struct error *err)
{
    char value[VALUE_SIZE];
    char(*wanted)[VALUE_SIZE] = calloc(forced_count + 1, sizeof *wanted);
    int rc = -1;
    if (wanted == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while setting kafka properties");
        goto out;
    }
    for (size_t i = 0; i < forced_count; i++) {
        size_t size = sizeof *wanted;
        if (set_property(conf, &forced[i], err) != 0)
            goto out;
        rd_kafka_conf_get(conf, forced[i].name, wanted[i], &size);
    }
    if (settings->client_id != NULL &&
        set_property(conf, &(struct property){"client.id", settings->client_id}, err) != 0)
        goto out;
    for (size_t i = 0; i < settings->property_count; i++) {
        const struct property *property = &settings->properties[i];
        if (set_property(conf, property, err) != 0)
            goto out;
        for (size_t j = 0; j < forced_count; j++) {
            size_t size = sizeof value;
            rd_kafka_conf_get(conf, forced[j].name, value, &size);
            if (strcmp(value, wanted[j]) != 0) {
                error_set(err, ERROR_FATAL, "kafka property %.60s=%.40s: %.60s must be %.40s here; leave it out",
                          property->name, property->value, forced[j].name, forced[j].value);
                goto out;
            }
        }
    }
    rc = 0;
out:
    free(wanted);
    return rc;
}

int kafka_create_client(rd_kafka_t **client, rd_kafka_type_t type, const struct kafka_settings *settings,
                        const struct property *forced, size_t forced_count,
                        void (*delivered)(rd_kafka_t *, const rd_kafka_message_t *, void *),
                        void (*rebalanced)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *,
                                           void *),
                        void *opaque, struct error *err)
{
    *client = NULL;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, log_line);
    rd_kafka_conf_set_error_cb(conf, log_failure);
    rd_kafka_conf_set_opaque(conf, opaque);
    if (delivered != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    if (rebalanced != NULL)
        rd_kafka_conf_set_rebalance_cb(conf, rebalanced);
    if (set_properties(conf, settings, forced, forced_count, err) != 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    char reason[200];
    *client = rd_kafka_new(type, conf, reason, sizeof reason);
    if (*client == NULL) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, ERROR_FATAL, "kafka client: %s", reason);
    }
    if (type == RD_KAFKA_CONSUMER)
        rd_kafka_poll_set_consumer(*client);
    return 0;
}

/* One question; the error's kind tells whether asking again makes sense. */
static int ask_partitions(rd_kafka_t *client, rd_kafka_topic_t *topic, int timeout_ms, int32_t *partitions,
                          struct error *err)
{
    const char *name = rd_kafka_topic_name(topic);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 0, topic, &metadata, timeout_ms);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        *partitions = -1;
        return error_set(err, ERROR_RETRY, "topic %.100s: no metadata from the broker: %s", name,
                         rd_kafka_err2str(code));
    }
    code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *partitions = metadata->topic_cnt == 1 ? (int32_t)metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        if (*partitions > 0)
            return 0;
        return error_set(err, ERROR_RETRY, "topic %.100s has no partitions yet", name);
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return error_set(err, ERROR_FATAL, "topic %.100s: %s", name, rd_kafka_err2str(code));
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        *partitions = 0;
        return error_set(err, ERROR_RETRY, "topic %.100s does not exist", name);
    default: /* a leader is being elected */
        *partitions = -1;
        return error_set(err, ERROR_RETRY, "topic %.100s: %s", name, rd_kafka_err2str(code));
    }
}

/* A queue gives rebalances as events, callback or not. */
static void give_up_partitions(rd_kafka_t *consumer, rd_kafka_event_t *event)
{
    const char *protocol = rd_kafka_rebalance_protocol(consumer);
    if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS && protocol != NULL &&
        strcmp(protocol, "COOPERATIVE") == 0)
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(consumer, rd_kafka_event_topic_partition_list(event)));
    else
        rd_kafka_assign(consumer, NULL);
}

void kafka_close_consumer(rd_kafka_t *consumer, int timeout_ms)
{
    enum { SERVE_MS = 20 };
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer);
    rd_kafka_error_t *failed = rd_kafka_consumer_close_queue(consumer, queue);
    int64_t start_ns = clock_monotonic_ns();
    while (failed == NULL && !rd_kafka_consumer_closed(consumer) && clock_since_ms(start_ns) < timeout_ms) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, SERVE_MS);
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            give_up_partitions(consumer, event);
        rd_kafka_event_destroy(event); /* NULL is fine; messages that had been fetched are for the next owner */
    }
    if (failed == NULL && !rd_kafka_consumer_closed(consumer))
        log_warn("stream", "the group was not left in %d ms, its broker does not answer: it will notice by itself",
                 timeout_ms);
    if (failed != NULL)
        rd_kafka_error_destroy(failed);
    rd_kafka_queue_destroy(queue);
}

void kafka_destroy_consumer(rd_kafka_t *consumer)
{
    if (consumer != NULL)
        rd_kafka_destroy_flags(consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

bool kafka_has_header(const rd_kafka_message_t *message, const char *name)
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

int kafka_partition_count(rd_kafka_t *client, const char *topic, int timeout_ms, int32_t *partitions, struct error *err)
{
    *partitions = -1;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    if (handle == NULL)
        return error_set(err, ERROR_FATAL, "topic %.100s: %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
    int64_t start = clock_monotonic_ns();
    int rc;
    for (;;) {
        int left = timeout_ms - (int)clock_since_ms(start);
        rc = ask_partitions(client, handle,
                            left < 1                 ? 1
                            : left < METADATA_TRY_MS ? left
                                                     : METADATA_TRY_MS,
                            partitions, err);
        if (rc == 0 || err->kind != ERROR_RETRY || clock_since_ms(start) + METADATA_PAUSE_MS >= timeout_ms)
            break;
        usleep(METADATA_PAUSE_MS * 1000);
    }
    rd_kafka_topic_destroy(handle);
    return rc;
}
