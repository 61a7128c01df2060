/*
 * dead_letter.h - what becomes of a message that cannot be read
 *
 * Original bytes, key and headers go to `<topic>.dead`, with Kafka Connect's header names (KIP-298), so that existing
 * tools show them: __connect.errors.topic, .partition, .offset, .stage, .exception.class.name, .exception.message; and
 * headrace.error.class (framing unknown_schema decode semantic too_large). Ours come behind the message's own headers,
 * so that of a name the last one counts. A letter beyond `limit` bytes is cut - the value first, then headers from the
 * last, then the key - and marked with headrace.truncated=<bytes of key, value and headers before>.
 *
 * Between the store's outbox and the broker a letter is kept as opaque bytes (dead_letter_pack / dead_letter_send).
 */
#ifndef HEADRACE_STREAM_DEAD_LETTER_H
#define HEADRACE_STREAM_DEAD_LETTER_H

#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "base/buffer.h"
#include "base/error.h"
#include "stream/producer.h"
#include "wire/codec.h"

/*
 * Appends the letter for `message` to `out`. `limit` bounds key, value and headers together; our headers, below 1 KiB,
 * are never cut. The stage is VALUE_CONVERTER (framing, schema, decode, too large) or TASK_PUT (semantic).
 */
int dead_letter_pack(const rd_kafka_message_t *message, enum dead_letter_class class, const char *reason, size_t limit,
                     struct buffer *out, struct error *err);

/* The class that a packed letter names. ERROR_BAD_INPUT: no packed letter. */
int dead_letter_class_of(struct text letter, enum dead_letter_class *class, struct error *err);

/* Appends a packed letter cut to `limit`, for a topic that takes less than we had thought. */
int dead_letter_cut(struct text letter, size_t limit, struct buffer *out, struct error *err);

/* Sends a packed letter to `topic`; opaque comes back in the producer's report. ERROR_BAD_INPUT: no packed letter. */
int dead_letter_send(struct producer *producer, const char *topic, struct text letter, void *opaque, struct error *err);

#endif
