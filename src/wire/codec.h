/*
 * codec.h - bytes on a topic to structs and back
 *
 * Reading: the first bytes tell the framing. Avro single-object encoding (C3 01 + 8 bytes CRC-64-AVRO fingerprint of
 * the writer's schema, little-endian; Avro 1.11 specification, "Single-object encoding") is decoded when the
 * fingerprint is known. Confluent framing (00 + 4 bytes schema id, big-endian) needs a registry; without one it is
 * refused by name. (Confluent's header framing, a GUID in __value_schema_id, shows in Kafka's headers only, which the
 * codec does not see.) The writer's schema is resolved against ours by Avro's rules (defaults, promotions, reordered,
 * added, dropped and aliased fields, enum defaults) once, into a program; each message is then one bounds-checked run
 * of that program.
 *
 * Writing: our own schema, single-object encoding. What the encoder writes the decoder reads: it keeps to the same
 * limits.
 *
 * A message that cannot be read gives ERROR_BAD_INPUT and a dead-letter class; it can never crash, loop, read outside
 * its bytes or allocate beyond the arena's limit. Where the system has no memory left the error is ERROR_FATAL.
 *
 * Threads: a codec may be shared once all schemas are registered; arenas and buffers may not.
 */
#ifndef HEADRACE_WIRE_CODEC_H
#define HEADRACE_WIRE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "wire/messages.h"

/* Why a message went to the dead-letter topic: the header headrace.error.class. */
enum dead_letter_class {
    DEAD_FRAMING,        /* neither framing that we know */
    DEAD_UNKNOWN_SCHEMA, /* a framing that we know, a schema that we do not */
    DEAD_DECODE,         /* the bytes are not of that schema */
    DEAD_SEMANTIC,       /* well-formed, but means nothing: an empty id, a timestamp from the future */
    DEAD_TOO_LARGE,      /* a text, list or map beyond its limit */
};

/* "framing", "unknown_schema", … */
const char *dead_letter_class_name(enum dead_letter_class class);

struct codec;

/* Knows the five schemas of messages.h. */
int codec_create(struct codec **codec, struct error *err);
void codec_destroy(struct codec *codec);

/*
 * Makes one more writer schema known (Avro JSON text), to be read as `type`. Refused with ERROR_BAD_INPUT: invalid JSON
 * or schema, more than 256 KiB, recursive types, one that cannot be resolved to ours (the message names the field). A
 * schema that is known already is fine.
 */
int codec_add_schema(struct codec *codec, const struct message_type *type, struct text schema, struct error *err);

/*
 * Fills *message (type->size bytes) from `size` bytes. Texts point into `bytes`, or with lists into
 * `arena`; what a default of ours gave belongs to the codec.
 * On -1, *class says which dead letter it is; *message is then undefined.
 */
int codec_decode(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                 void *message, struct arena *arena, enum dead_letter_class *class, struct error *err);

/*
 * Appends the framed message to `out`, which is left as it was on -1. Fails on texts that are not UTF-8, nulls where
 * the schema has none, texts and lists beyond their limits, no memory.
 */
int codec_encode(const struct codec *codec, const struct message_type *type, const void *message, struct buffer *out,
                 struct error *err);

/*
 * JSON of a message, one line without the newline: field names as in the schema, nulls written out, enums by name, maps
 * as objects; numbers that JSON has no word for (NaN, infinity) as null.
 */
int message_to_json(const struct message_type *type, const void *message, struct buffer *out, struct error *err);

/*
 * The other way: unknown fields are errors, absent ones take the schema's default, an absent field without default is
 * an error; messages name the field. Texts point into the arena.
 */
int message_from_json(const struct message_type *type, struct text json, void *message, struct arena *arena,
                      struct error *err);

#endif
