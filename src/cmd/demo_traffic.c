#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/buffer.h"
#include "cmd/demo.h"
#include "cmd/setup.h"
#include "stream/producer.h"
#include "wire/codec.h"

enum {
    TOPICS = 2, /* whose offsets the worker commits: interactions, items */
    MAX_PARTITIONS = 256,
    WINDOW = 20000, /* messages produced and not applied yet; the embedded broker drops beyond 5 MiB a partition */
    METADATA_MS = 30000,
    ANSWER_MS = 120000,
    STALLED_MS = 60000,
    POLL_MS = 2,
};

struct traffic {
    const volatile sig_atomic_t *stop;
    struct kafka_topics topics;
    struct codec *codec;
    struct producer *producer;
    rd_kafka_t *applied_client; /* asks for what the worker has committed */
    rd_kafka_t *scores_client;
    struct buffer bytes;
    int32_t partitions[TOPICS];
    int64_t delivered[TOPICS][MAX_PARTITIONS]; /* offset behind our last message; 0: none */
    int64_t first[TOPICS][MAX_PARTITIONS];     /* offset of our first */
    uint64_t sent;                             /* items and ratings */
    uint64_t applied;                          /* of them, as last asked */
    struct error failure;
    bool failed;
};

static int check_stop(const struct traffic *traffic, struct error *err)
{
    return *traffic->stop ? error_set(err, ERROR_FATAL, "interrupted") : 0;
}

static void take_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                        const struct error *error)
{
    (void)opaque;
    struct traffic *traffic = context;
    if (error != NULL) {
        traffic->failure = *error;
        traffic->failed = true;
        return;
    }
    const char *const names[TOPICS] = {traffic->topics.interactions, traffic->topics.items};
    for (size_t i = 0; i < TOPICS; i++) {
        if (strcmp(names[i], topic) != 0 || partition < 0 || partition >= MAX_PARTITIONS)
            continue;
        if (traffic->delivered[i][partition] == 0)
            traffic->first[i][partition] = offset;
        if (offset + 1 > traffic->delivered[i][partition])
            traffic->delivered[i][partition] = offset + 1;
    }
}

static int open_client(rd_kafka_t **client, const struct config *config, const char *group, struct error *err)
{
    const struct property forced[] = {
        {"group.id", group}, {"enable.auto.commit", "false"}, {"auto.offset.reset", "error"}};
    return setup_reader(config, forced, sizeof forced / sizeof *forced, client, err);
}

/* From the end of the topic as it is now: the answers to come are ours. */
static int assign_scores(struct traffic *traffic, struct error *err)
{
    int32_t partitions;
    if (kafka_partition_count(traffic->scores_client, traffic->topics.scores, METADATA_MS, &partitions, err) != 0)
        return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    int result = 0;
    for (int32_t i = 0; result == 0 && i < partitions; i++) {
        int64_t low, high;
        rd_kafka_resp_err_t failed = rd_kafka_query_watermark_offsets(traffic->scores_client, traffic->topics.scores, i,
                                                                      &low, &high, METADATA_MS);
        if (failed)
            result = error_set(err, ERROR_RETRY, "asking for the end of %s: %s", traffic->topics.scores,
                               rd_kafka_err2str(failed));
        else
            rd_kafka_topic_partition_list_add(list, traffic->topics.scores, i)->offset = high;
    }
    if (result == 0 && rd_kafka_assign(traffic->scores_client, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        result = error_set(err, ERROR_FATAL, "assigning %s failed", traffic->topics.scores);
    rd_kafka_topic_partition_list_destroy(list);
    return result;
}

static int set_up_codec(struct traffic *traffic, const struct config *config, struct error *err)
{
    if (setup_codec(config, &traffic->codec, err) != 0 ||
        codec_write_to(traffic->codec, &interaction_type, traffic->topics.interactions, err) != 0 ||
        codec_write_to(traffic->codec, &item_type, traffic->topics.items, err) != 0 ||
        codec_write_to(traffic->codec, &score_request_type, traffic->topics.requests, err) != 0)
        return -1;
    return setup_codec_ready(traffic->codec, traffic->stop, err);
}

int traffic_open(struct traffic **result, const struct config *config, const volatile sig_atomic_t *stop,
                 struct error *err)
{
    struct traffic *traffic = calloc(1, sizeof *traffic);
    if (traffic == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    traffic->stop = stop;
    struct kafka_settings kafka = setup_kafka(config);
    traffic->topics = setup_topics(config);
    char host[128], group[512];
    snprintf(group, sizeof group, "%s-state-%s", kafka_property_value(&kafka, "group.id"),
             setup_instance(config, host));
    if (set_up_codec(traffic, config, err) != 0 ||
        producer_create(&traffic->producer, &kafka, take_report, traffic, err) != 0 ||
        open_client(&traffic->applied_client, config, group, err) != 0 ||
        open_client(&traffic->scores_client, config, "headrace-demo", err) != 0 ||
        kafka_partition_count(traffic->applied_client, traffic->topics.interactions, METADATA_MS,
                              &traffic->partitions[0], err) != 0 ||
        kafka_partition_count(traffic->applied_client, traffic->topics.items, METADATA_MS, &traffic->partitions[1],
                              err) != 0 ||
        assign_scores(traffic, err) != 0)
        goto fail;
    if (traffic->partitions[0] > MAX_PARTITIONS || traffic->partitions[1] > MAX_PARTITIONS) {
        error_set(err, ERROR_BAD_INPUT, "the demo takes at most %d partitions a topic", MAX_PARTITIONS);
        goto fail;
    }
    *result = traffic;
    return 0;

fail:
    traffic_close(traffic);
    return -1;
}

void traffic_close(struct traffic *traffic)
{
    if (traffic == NULL)
        return;
    kafka_destroy_consumer(traffic->scores_client);
    kafka_destroy_consumer(traffic->applied_client);
    if (traffic->producer != NULL)
        producer_destroy(traffic->producer);
    codec_destroy(traffic->codec);
    buffer_free(&traffic->bytes);
    free(traffic);
}

static int send_message(struct traffic *traffic, const struct message_type *type, const void *message,
                        const char *topic, struct text key, struct error *err)
{
    buffer_clear(&traffic->bytes);
    if (codec_encode(traffic->codec, type, message, &traffic->bytes, err) != 0)
        return -1;
    struct producer_message out = {.topic = topic,
                                   .key = key.data,
                                   .key_size = key.size,
                                   .value = traffic->bytes.data,
                                   .value_size = traffic->bytes.size};
    while (producer_send(traffic->producer, &out, err) != 0) {
        if (err->kind != ERROR_RETRY)
            return -1;
        producer_poll(traffic->producer, 50);
    }
    producer_poll(traffic->producer, 0);
    if (!traffic->failed)
        return 0;
    *err = traffic->failure;
    return -1;
}

/* Asks the broker how far the worker is; false when it knows nothing yet. */
static bool ask_applied(struct traffic *traffic)
{
    const char *const names[TOPICS] = {traffic->topics.interactions, traffic->topics.items};
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t i = 0; i < TOPICS; i++)
        for (int32_t j = 0; j < traffic->partitions[i]; j++)
            if (traffic->delivered[i][j] > 0)
                rd_kafka_topic_partition_list_add(list, names[i], j);
    bool known = rd_kafka_committed(traffic->applied_client, list, METADATA_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
    uint64_t applied = 0;
    for (int k = 0; known && k < list->cnt; k++) {
        size_t i = strcmp(list->elems[k].topic, names[0]) == 0 ? 0 : 1;
        int64_t first = traffic->first[i][list->elems[k].partition], next = list->elems[k].offset;
        if (next > first)
            applied += (uint64_t)(next - first);
    }
    rd_kafka_topic_partition_list_destroy(list);
    if (known)
        traffic->applied = applied;
    return known;
}

uint64_t traffic_applied(struct traffic *traffic)
{
    return traffic->applied;
}

/* Waits until at most `behind` of what was sent is not applied yet. */
static int wait_applied(struct traffic *traffic, uint64_t behind, struct error *err)
{
    int64_t moved_ns = clock_monotonic_ns();
    if (producer_flush(traffic->producer, STALLED_MS, err) != 0)
        return -1;
    uint64_t before = traffic->applied;
    while (ask_applied(traffic), traffic->applied + behind < traffic->sent) {
        if (traffic->applied != before) {
            before = traffic->applied;
            moved_ns = clock_monotonic_ns();
        } else if (clock_since_ms(moved_ns) > STALLED_MS) {
            return error_set(
                err, ERROR_RETRY,
                "no worker has applied anything for %d s (%llu of %llu): is `headrace run` up, with the same "
                "group.id and instance_id?",
                STALLED_MS / 1000, (unsigned long long)traffic->applied, (unsigned long long)traffic->sent);
        }
        if (check_stop(traffic, err) != 0)
            return -1;
        producer_poll(traffic->producer, POLL_MS);
    }
    return 0;
}

static int hold_back(struct traffic *traffic, struct error *err)
{
    return traffic->sent - traffic->applied < WINDOW ? 0 : wait_applied(traffic, WINDOW / 2, err);
}

int traffic_item(struct traffic *traffic, const struct item *item, struct error *err)
{
    if (send_message(traffic, &item_type, item, traffic->topics.items, item->item_id, err) != 0)
        return -1;
    traffic->sent++;
    return hold_back(traffic, err);
}

int traffic_rating(struct traffic *traffic, const struct interaction *interaction, struct error *err)
{
    if (send_message(traffic, &interaction_type, interaction, traffic->topics.interactions, interaction->user_id,
                     err) != 0)
        return -1;
    traffic->sent++;
    return hold_back(traffic, err);
}

int traffic_settle(struct traffic *traffic, struct error *err)
{
    return wait_applied(traffic, 0, err);
}

/* Whether the message is the awaited answer; others' answers are passed over. */
static int take_answer(struct traffic *traffic, const rd_kafka_message_t *message, struct text request_id,
                       struct arena *arena, struct score_response *response, bool *taken, struct error *err)
{
    if (message->err)
        return error_set(err, ERROR_RETRY, "reading %s: %s", traffic->topics.scores, rd_kafka_message_errstr(message));
    if (!text_equal((struct text){message->key, message->key_len}, request_id))
        return 0;
    uint8_t *bytes = arena_allocate(arena, message->len); /* the response's texts point into it */
    enum dead_letter_class class;
    if (bytes == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    memcpy(bytes, message->payload, message->len);
    if (codec_decode_waiting(traffic->codec, &score_response_type, bytes, message->len, response, arena, ANSWER_MS,
                             traffic->stop, &class, err) != 0)
        return error_wrap(err, "the answer to " TEXT_FORMAT, TEXT_ARGS(request_id));
    *taken = true;
    return 0;
}

int traffic_ask(struct traffic *traffic, const struct score_request *request, struct arena *arena,
                struct score_response *response, double *latency_ms, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    if (send_message(traffic, &score_request_type, request, traffic->topics.requests, request->user_id, err) != 0)
        return -1;
    bool taken = false;
    int result = 0;
    while (result == 0 && !taken) {
        if (clock_since_ms(start_ns) > ANSWER_MS)
            return error_set(err, ERROR_RETRY, "request " TEXT_FORMAT " has no answer after %d s: see the worker's log",
                             TEXT_ARGS(request->request_id), ANSWER_MS / 1000);
        if (check_stop(traffic, err) != 0)
            return -1;
        producer_poll(traffic->producer, 0);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(traffic->scores_client, 50);
        if (message == NULL)
            continue;
        result = take_answer(traffic, message, request->request_id, arena, response, &taken, err);
        rd_kafka_message_destroy(message);
    }
    *latency_ms = clock_since_ms(start_ns);
    return result;
}
