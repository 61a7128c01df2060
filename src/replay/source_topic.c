/* source_topic.c - a topic's messages into the log */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "replay/source_log.h"
#include "wire/codec.h"

enum { METADATA_MS = 10000, QUERY_MS = 10000, POLL_MS = 200, REGISTRY_MS = 60000 };

struct reading_topic {
    struct replay_log *log;
    rd_kafka_t *client;
    const struct codec *codec;
    const char *name;
    enum source_topic topic;
    rd_kafka_topic_partition_list_t *partitions; /* with the offset to read from */
    int64_t *ends;                               /* by partition: the offset to stop before */
    bool *done;
    int32_t left; /* partitions that are not done */
    const volatile sig_atomic_t *interrupted;
    size_t wrong;
};

static int fail(const struct reading_topic *reading, const char *doing, rd_kafka_resp_err_t code, struct error *err)
{
    return error_set(err, ERROR_RETRY, "%s %s: %s", doing, reading->name, rd_kafka_err2str(code));
}

/* The first offset at or behind a time; -1: there is none. */
static int offset_of_time(struct reading_topic *reading, int32_t partition, int64_t time_ms, int64_t *offset,
                          struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, reading->name, partition)->offset = time_ms;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(reading->client, list, QUERY_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = list->elems[0].err;
    *offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : fail(reading, "finding offsets by time in", code, err);
}

/* Where to begin and end in a partition. */
static int place_range(struct reading_topic *reading, int32_t partition, struct error *err)
{
    const struct source_range *range = &reading->log->range;
    int64_t low, high, from = range->from, to = range->to;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(reading->client, reading->name, partition, &low, &high, QUERY_MS);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return fail(reading, "asking for the offsets of", code, err);
    if (reading->topic == SOURCE_ITEMS || reading->topic == SOURCE_USERS) {
        from = low;
        to = high;
    } else if (!range->by_offset) {
        if (from != INT64_MIN && offset_of_time(reading, partition, from, &from, err) != 0)
            return -1;
        if (to != INT64_MAX && offset_of_time(reading, partition, to, &to, err) != 0)
            return -1;
        if (range->from != INT64_MIN && from < 0)
            from = high;
        if (range->to != INT64_MAX && to < 0)
            to = high;
    }
    if (from < low && from != INT64_MIN)
        log_warn("replay", "%s, partition %d: offsets %lld to %lld are gone", reading->name, (int)partition,
                 (long long)from, (long long)low - 1);
    from = from < low ? low : from;
    to = to > high ? high : to;
    reading->partitions->elems[partition].offset = from;
    reading->ends[partition] = to;
    reading->done[partition] = from >= to;
    reading->left -= from >= to;
    return 0;
}

static int assign(struct reading_topic *reading, struct error *err)
{
    int32_t count;
    if (kafka_partition_count(reading->client, reading->name, METADATA_MS, &count, err) != 0)
        return -1;
    reading->partitions = rd_kafka_topic_partition_list_new(count);
    reading->ends = calloc((size_t)count, sizeof *reading->ends);
    reading->done = calloc((size_t)count, sizeof *reading->done);
    reading->left = count;
    if (reading->ends == NULL || reading->done == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reading->name);
    for (int32_t i = 0; i < count; i++) {
        rd_kafka_topic_partition_list_add(reading->partitions, reading->name, i);
        if (place_range(reading, i, err) != 0)
            return -1;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(reading->client, reading->partitions);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : fail(reading, "assigning", code, err);
}

/* A null value takes the item or user of the key away. */
static int take_deletion(struct reading_topic *reading, const rd_kafka_message_t *message, void *record,
                         struct source_message *out, struct error *err)
{
    char *id = arena_allocate(&reading->log->arena, message->key_len + 1);
    if (id == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reading->name);
    if (message->key_len > 0)
        memcpy(id, message->key, message->key_len);
    struct text key = {id, message->key_len};
    if ((reading->topic != SOURCE_ITEMS && reading->topic != SOURCE_USERS) || key.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "a message without value%s", key.size == 0 ? " and key" : "");
    if (reading->topic == SOURCE_ITEMS)
        ((struct item *)record)->item_id = key;
    else
        ((struct user *)record)->user_id = key;
    out->deleted = true;
    return 0;
}

static int take_value(struct reading_topic *reading, const rd_kafka_message_t *message, void *record, struct error *err)
{
    static const struct message_type *const types[SOURCE_TOPICS] = {&item_type, &user_type, &score_request_type,
                                                                    &interaction_type};
    enum dead_letter_class class;
    uint8_t *bytes = arena_allocate(&reading->log->arena, message->len); /* texts point into it */
    if (bytes == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reading->name);
    memcpy(bytes, message->payload, message->len);
    return codec_decode_waiting(reading->codec, types[reading->topic], bytes, message->len, record,
                                &reading->log->arena, REGISTRY_MS, reading->interrupted, &class, err);
}

static int take_message(struct reading_topic *reading, const rd_kafka_message_t *message, struct error *err)
{
    struct source_message out = {
        .offset = message->offset, .partition = message->partition, .topic = (uint8_t)reading->topic};
    union {
        struct item item;
        struct user user;
        struct score_request request;
        struct interaction interaction;
    } *record = arena_allocate(&reading->log->arena, sizeof *record);
    if (record == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", reading->name);
    int result = message->payload == NULL ? take_deletion(reading, message, record, &out, err)
                                          : take_value(reading, message, record, err);
    if (result != 0 && err->kind != ERROR_BAD_INPUT)
        return -1;
    if (result != 0) {
        error_wrap(err, "%s, partition %d, offset %lld", reading->name, (int)message->partition,
                   (long long)message->offset);
        replay_log_report(reading->log, reading->wrong++, err->message);
        return 0;
    }
    out.message = record;
    out.timestamp_ms = source_message_time(reading->topic, record);
    return replay_log_add(reading->log, &out, err);
}

static void finish(struct reading_topic *reading, int32_t partition)
{
    reading->left -= !reading->done[partition];
    reading->done[partition] = true;
}

static int take(struct reading_topic *reading, const rd_kafka_message_t *message, struct error *err)
{
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        finish(reading, message->partition);
        return 0;
    }
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_RETRY, "reading %s: %s", reading->name, rd_kafka_message_errstr(message));
    if (message->offset >= reading->ends[message->partition]) {
        finish(reading, message->partition);
        return 0;
    }
    if (message->offset + 1 == reading->ends[message->partition])
        finish(reading, message->partition);
    return take_message(reading, message, err);
}

static int read_all(struct reading_topic *reading, struct error *err)
{
    while (reading->left > 0) {
        if (reading->interrupted != NULL && *reading->interrupted)
            return error_set(err, ERROR_RETRY, "interrupted while reading %s", reading->name);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reading->client, POLL_MS);
        if (message == NULL)
            continue;
        int result = take(reading, message, err);
        rd_kafka_message_destroy(message);
        if (result != 0)
            return -1;
    }
    return 0;
}

int replay_log_read_topic(struct replay_log *log, rd_kafka_t *client, const struct codec *codec, const char *name,
                          enum source_topic topic, const volatile sig_atomic_t *interrupted, struct error *err)
{
    struct reading_topic reading = {
        .log = log, .client = client, .codec = codec, .name = name, .topic = topic, .interrupted = interrupted};
    int result = assign(&reading, err);
    if (result == 0)
        result = read_all(&reading, err);
    rd_kafka_assign(client, NULL);
    if (reading.partitions != NULL)
        rd_kafka_topic_partition_list_destroy(reading.partitions);
    free(reading.ends);
    free(reading.done);
    return result;
}
