#include "stream/requests_state.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    RESULT_MS = 20,        /* the longest wait for a commit's result at a time */
    COMMIT_EVERY_MS = 100, /* between two commits while there is something to commit */
    FINAL_COMMIT_MS = 700, /* what stopping waits for the broker to take the last commit */
    REPEAT_LOG_MS = 10000, /* the same trouble is logged no more often */
};

size_t requests_size(const rd_kafka_message_t *message)
{
    return message->len + message->key_len;
}

void requests_free(struct request *request)
{
    atomic_fetch_sub(&request->owner->unfinished, 1);
    atomic_fetch_sub(&request->owner->unfinished_bytes, requests_size(request->message));
    rd_kafka_message_destroy(request->message);
    free(request);
}

struct partition *requests_partition(struct requests *requests, const struct request *request)
{
    int32_t number = request->message->partition;
    if (number < 0 || (size_t)number >= requests->partition_count)
        return NULL;
    struct partition *partition = &requests->partitions[number];
    return partition->assigned && partition->assignment == request->assignment ? partition : NULL;
}

void requests_log_trouble(struct requests *requests, rd_kafka_resp_err_t code, const char *reason)
{
    if (code == requests->last_trouble && clock_since_ms(requests->last_trouble_ns) < REPEAT_LOG_MS)
        return;
    requests->last_trouble = code;
    requests->last_trouble_ns = clock_monotonic_ns();
    log_warn("stream", "%s: %s; trying again", requests->topic, reason);
}

/* Committing. */

static void commit_result(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *offsets,
                          void *opaque)
{
    (void)client;
    struct requests *requests = opaque;
    requests->commit_on_its_way = false;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        requests_log_trouble(requests, code, rd_kafka_err2str(code));
    pthread_mutex_lock(&requests->mutex);
    requests->commits += code == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; offsets != NULL && i < offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *offset = &offsets->elems[i];
        struct partition *partition = &requests->partitions[offset->partition];
        /* After a new assignment the window has begun anew and `sent` is 0. */
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && offset->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
            partition->sent == offset->offset) {
            requests->committed += partition->sent_finished - partition->committed_count;
            partition->committed = partition->sent;
            partition->committed_count = partition->sent_finished;
        }
    }
    pthread_mutex_unlock(&requests->mutex);
}

void requests_commit(struct requests *requests, const rd_kafka_topic_partition_list_t *only)
{
    pthread_mutex_lock(&requests->mutex);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)requests->partition_count);
    for (size_t i = 0; i < requests->partition_count; i++) {
        struct partition *partition = &requests->partitions[i];
        if (!partition->assigned || partition->window.prefix <= partition->committed)
            continue;
        if (only != NULL && rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)only, requests->topic,
                                                               (int32_t)i) == NULL)
            continue;
        partition->sent = partition->window.prefix;
        partition->sent_finished = partition->window.finished;
        rd_kafka_topic_partition_list_add(list, requests->topic, (int32_t)i)->offset = partition->sent;
    }
    pthread_mutex_unlock(&requests->mutex);

    requests->last_commit_ns = clock_monotonic_ns();
    if (list->cnt > 0)
        requests->commit_on_its_way = rd_kafka_commit_queue(requests->client, list, requests->commit_results,
                                                            commit_result, requests) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
}

void requests_commit_when_due(struct requests *requests)
{
    rd_kafka_queue_poll_callback(requests->commit_results, 0);
    if (!requests->transactional && !requests->commit_on_its_way &&
        clock_since_ms(requests->last_commit_ns) >= COMMIT_EVERY_MS)
        requests_commit(requests, NULL);
}

void requests_commit_finally(struct requests *requests)
{
    if (requests->transactional)
        return;
    int64_t start = clock_monotonic_ns();
    while (requests->commit_on_its_way && clock_since_ms(start) < FINAL_COMMIT_MS)
        rd_kafka_queue_poll_callback(requests->commit_results, RESULT_MS);
    requests_commit(requests, NULL);
    while (requests->commit_on_its_way && clock_since_ms(start) < FINAL_COMMIT_MS)
        rd_kafka_queue_poll_callback(requests->commit_results, RESULT_MS);
}

/* Requests that are given back. */

bool requests_ours(const struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    bool ours = requests_partition(requests, request) != NULL;
    pthread_mutex_unlock(&requests->mutex);
    return ours;
}

void requests_done(struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    struct partition *partition = requests_partition(requests, request);
    if (partition != NULL && requests->transactional) {
        if (request->message->offset >= partition->committed)
            partition->committed = request->message->offset + 1;
        requests->committed++;
    } else if (partition != NULL) {
        window_finish(&partition->window, request->message->offset);
    }
    pthread_mutex_unlock(&requests->mutex);
    requests_free(request);
}

bool requests_answered(struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    struct partition *partition = requests_partition(requests, request);
    if (partition != NULL)
        window_finish(&partition->window, request->message->offset);
    pthread_mutex_unlock(&requests->mutex);
    return partition != NULL;
}

void requests_standing(struct requests *requests, struct request *const *list, size_t count,
                       enum request_standing *standing)
{
    pthread_mutex_lock(&requests->mutex);
    for (size_t i = 0; i < count; i++) {
        const struct partition *partition = requests_partition(requests, list[i]);
        standing[i] = partition == NULL                                     ? REQUEST_LOST
                      : list[i]->message->offset < partition->window.prefix ? REQUEST_READY
                                                                            : REQUEST_WAITS;
    }
    pthread_mutex_unlock(&requests->mutex);
}

rd_kafka_consumer_group_metadata_t *requests_membership(struct requests *requests)
{
    return rd_kafka_consumer_group_metadata(requests->client);
}

int requests_committed(struct requests *requests, rd_kafka_topic_partition_list_t *list, int timeout_ms,
                       struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_committed(requests->client, list, timeout_ms);
    for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
        code = list->elems[i].err;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_RETRY, "asking for the committed offsets of %.100s: %s", requests->topic,
                         rd_kafka_err2str(code));
    return 0;
}

void requests_abandon(struct request *request)
{
    requests_free(request); /* still outstanding in its window, so the prefix ends before it */
}
