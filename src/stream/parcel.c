#include "stream/parcel.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "stream/dead_letter.h"
#include "stream/delivery.h"

enum { LEAST_LETTER = 2048 }; /* our own headers, below 1 KiB, and something of the message */

/* By what tracing systems and clients that wait for an answer know the request. */
static const char *const returned_headers[] = {"traceparent", "tracestate", "correlationId", "correlation_id",
                                               "kafka_correlationId"};
enum { RETURNED_HEADERS = sizeof returned_headers / sizeof *returned_headers };

static struct parcel *make(struct request *request, const char *topic, struct error *err)
{
    struct parcel *parcel = calloc(1, sizeof *parcel);
    if (parcel != NULL)
        parcel->topic = strdup(topic);
    if (parcel == NULL || parcel->topic == NULL) {
        free(parcel);
        error_set(err, ERROR_FATAL, "out of memory for a message to %.100s", topic);
        return NULL;
    }
    parcel->request = request;
    return parcel;
}

void parcel_free(struct parcel *parcel)
{
    if (parcel == NULL)
        return;
    free((void *)parcel->message.headers);
    buffer_free(&parcel->bytes);
    free(parcel->topic);
    free(parcel);
}

/* The last of each name that the request has, in `headers`; returns how many. */
static size_t find_returned(const struct request *request, struct producer_header *headers)
{
    rd_kafka_headers_t *given;
    size_t count = 0;
    if (rd_kafka_message_headers(request->message, &given) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    for (size_t i = 0; i < RETURNED_HEADERS; i++) {
        struct producer_header header = {.name = returned_headers[i]};
        if (rd_kafka_header_get_last(given, header.name, &header.value, &header.size) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            header.size <= DELIVERY_HEADER_LIMIT)
            headers[count++] = header;
    }
    return count;
}

static const void *place(const struct parcel *parcel, size_t *at, const void *original, size_t size)
{
    const uint8_t *start = parcel->bytes.data + *at;
    *at += size;
    return original != NULL ? start : NULL;
}

/* All bytes into one buffer, then the pointers: it may move while it grows. */
static int copy_message(struct parcel *parcel, const struct producer_message *message, struct producer_header *headers,
                        size_t count, struct error *err)
{
    static const uint8_t end = 0; /* so that the buffer is there even if all is empty */
    buffer_append(&parcel->bytes, message->key, message->key != NULL ? message->key_size : 0);
    buffer_append(&parcel->bytes, message->value, message->value != NULL ? message->value_size : 0);
    for (size_t i = 0; i < count; i++) {
        buffer_append(&parcel->bytes, headers[i].name, strlen(headers[i].name) + 1);
        buffer_append(&parcel->bytes, headers[i].value, headers[i].value != NULL ? headers[i].size : 0);
    }
    buffer_append(&parcel->bytes, &end, 1);
    if (buffer_check(&parcel->bytes, "keeping an answer", err) != 0)
        return -1;

    size_t at = 0;
    parcel->message = *message;
    parcel->message.topic = parcel->topic;
    parcel->message.opaque = parcel;
    parcel->message.headers = headers;
    parcel->message.header_count = count;
    parcel->message.key = place(parcel, &at, message->key, message->key != NULL ? message->key_size : 0);
    parcel->message.value = place(parcel, &at, message->value, message->value != NULL ? message->value_size : 0);
    for (size_t i = 0; i < count; i++) {
        headers[i].name = place(parcel, &at, headers[i].name, strlen(headers[i].name) + 1);
        headers[i].value = place(parcel, &at, headers[i].value, headers[i].value != NULL ? headers[i].size : 0);
    }
    return 0;
}

int parcel_answer(struct parcel **result, struct request *request, const struct producer_message *message,
                  struct error *err)
{
    struct parcel *parcel = make(request, message->topic, err);
    if (parcel == NULL)
        return -1;
    parcel->dead_class = PARCEL_ANSWER;
    struct producer_header *headers = calloc(message->header_count + RETURNED_HEADERS, sizeof *headers);
    if (headers == NULL) {
        parcel_free(parcel);
        return error_set(err, ERROR_FATAL, "out of memory for a message to %.100s", message->topic);
    }
    for (size_t i = 0; i < message->header_count; i++)
        headers[i] = message->headers[i];
    size_t count = message->header_count + find_returned(request, headers + message->header_count);
    if (copy_message(parcel, message, headers, count, err) != 0) {
        free(headers);
        parcel_free(parcel);
        return -1;
    }
    *result = parcel;
    return 0;
}

int parcel_letter(struct parcel **result, struct request *request, const char *topic, struct text packed,
                  struct error *err)
{
    struct parcel *parcel = make(request, topic, err);
    if (parcel == NULL)
        return -1;
    enum dead_letter_class class;
    buffer_append_text(&parcel->bytes, packed);
    if (dead_letter_class_of(packed, &class, err) != 0 ||
        buffer_check(&parcel->bytes, "keeping a dead letter", err) != 0) {
        parcel_free(parcel);
        return -1;
    }
    parcel->dead_class = (int)class;
    *result = parcel;
    return 0;
}

int parcel_send(struct parcel *parcel, struct producer *producer, struct error *err)
{
    if (parcel->dead_class == PARCEL_ANSWER)
        return producer_send(producer, &parcel->message, err);
    return dead_letter_send(producer, parcel->topic, buffer_text(&parcel->bytes), parcel, err);
}

/* What was refused is not what will be sent, so that it cannot be taken for it. */
static int answer_into_letter(struct parcel *parcel, const char *dead_topic, size_t limit, const char *reason,
                              struct error *err)
{
    char why[256];
    snprintf(why, sizeof why, "its answer was refused: %.200s", reason);
    char *topic = strdup(dead_topic);
    if (topic == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a dead letter");
    free((void *)parcel->message.headers);
    parcel->message = (struct producer_message){0};
    free(parcel->topic);
    parcel->topic = topic;
    parcel->dead_class = DEAD_TOO_LARGE;
    buffer_clear(&parcel->bytes);
    return dead_letter_pack(parcel->request->message, DEAD_TOO_LARGE, why, limit, &parcel->bytes, err);
}

static int cut_letter(struct parcel *parcel, size_t limit, struct error *err)
{
    size_t last = parcel->limit != 0 ? parcel->limit : parcel->bytes.size < limit ? parcel->bytes.size : limit;
    if (last <= LEAST_LETTER) {
        parcel->lost = true;
        return 0;
    }
    parcel->limit = last / 2 > LEAST_LETTER ? last / 2 : LEAST_LETTER;
    struct buffer shorter = {.size = 0};
    int rc = dead_letter_cut(buffer_text(&parcel->bytes), parcel->limit, &shorter, err);
    if (rc != 0) {
        buffer_free(&shorter);
        return -1;
    }
    buffer_free(&parcel->bytes);
    parcel->bytes = shorter;
    return 0;
}

int parcel_shrink(struct parcel *parcel, const char *dead_topic, size_t limit, const char *reason, struct error *err)
{
    const rd_kafka_message_t *message = parcel->request->message;
    parcel->refused = false;
    if (!parcel->suspect) {
        parcel->suspect = true;
        return 0;
    }
    int rc = parcel->dead_class == PARCEL_ANSWER ? answer_into_letter(parcel, dead_topic, limit, reason, err)
                                                 : cut_letter(parcel, limit, err);
    if (rc == 0 && parcel->lost)
        log_error("stream", "dead letter of partition %d offset %lld is lost: %s", (int)message->partition,
                  (long long)message->offset, reason);
    else if (rc == 0)
        log_warn("stream", "request of partition %d offset %lld: %s; it becomes a dead letter of %zu bytes",
                 (int)message->partition, (long long)message->offset, reason, parcel->bytes.size);
    return rc;
}
