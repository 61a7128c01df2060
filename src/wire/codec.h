/*
 * codec.h - bytes on a topic to structs and back
 *
 * Reading: the first bytes tell the framing. Avro single-object encoding (C3 01 + 8 bytes CRC-64-AVRO fingerprint of
 * the writer's schema, little-endian; Avro 1.11 specification, "Single-object encoding") is decoded when the
 * fingerprint is known. Confluent framing (00 + 4 bytes schema id, big-endian) is decoded when there is a registry,
 * which is asked for each new id once; without one it is refused by name. Confluent's header framing shows in Kafka's
 * headers only, which the codec does not see: who does see them calls codec_refuse_header(). The writer's schema is
 * resolved against ours by Avro's rules (defaults, promotions, reordered, added, dropped and aliased fields, enum
 * defaults) once, into a program; each message is then one bounds-checked run of that program. Programs are kept: a
 * type can be read from at most CODEC_WRITERS_LIMIT schemas, more are refused as unknown.
 *
 * Writing: our own schema; with a registry in Confluent framing, once codec_write_to() has found its id, else in
 * single-object encoding. What the encoder writes the decoder reads: it keeps to the same limits.
 *
 * A message that cannot be read gives ERROR_BAD_INPUT and a dead-letter class; it can never crash, loop, read outside
 * its bytes or allocate beyond the arena's limit. A registry that cannot be asked gives ERROR_RETRY: the message is
 * kept and tried again after a short wait. Where the system has no memory left the error is ERROR_FATAL.
 *
 * Threads: a codec is shared once it is set up (codec_create, _use_registry, _add_schema, _write_to are one thread's);
 * arenas and buffers may not be. Decoding takes no lock unless a schema is new.
 */
#ifndef HEADRACE_WIRE_CODEC_H
#define HEADRACE_WIRE_CODEC_H

#include <signal.h>
#include <stdbool.h>
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

/*
 * The Kafka header with which newer Confluent clients name the value's schema (01 and a GUID), leaving nothing before
 * the value itself. A message that has it cannot be read: codec_refuse_header() says so, ERROR_BAD_INPUT and
 * DEAD_FRAMING, and returns -1.
 */
#define CODEC_SCHEMA_HEADER "__value_schema_id"
int codec_refuse_header(const struct message_type *type, enum dead_letter_class *class, struct error *err);

enum { CODEC_WRITERS_LIMIT = 512 };

struct codec;
struct registry;
struct registry_totals;

/* Knows the five schemas of messages.h. */
int codec_create(struct codec **codec, struct error *err);
void codec_destroy(struct codec *codec);

/* Takes the registry over, once: the codec destroys it. From here on Confluent framing is read, and written. */
void codec_use_registry(struct codec *codec, struct registry *registry);

/*
 * With a registry: messages of `type` will go to `topic`, which together tell the subject; its id is looked for from
 * now on. A type goes to one topic. Without a registry nothing is done. ERROR_FATAL: no memory, or no type of ours.
 */
int codec_write_to(struct codec *codec, const struct message_type *type, const char *topic, struct error *err);

/* Of its registry, see registry.h; false: it has none. Any thread. */
bool codec_registry_totals(const struct codec *codec, struct registry_totals *totals);

/*
 * Whether everything that codec_write_to() named has its id; without a registry it always has. Waits at most `wait_ms`.
 * ERROR_RETRY: not yet, ask again; ERROR_BAD_INPUT: the registry has no such schema and may not be given it, or does
 * not take it: nothing of that type can be written.
 */
int codec_ready(struct codec *codec, int wait_ms, struct error *err);

/*
 * Makes one more writer schema known (Avro JSON text), to be read as `type`. Refused with ERROR_BAD_INPUT: invalid JSON
 * or schema, more than 256 KiB, recursive types, one that cannot be resolved to ours (the message names the field). A
 * schema that is known already is fine.
 */
int codec_add_schema(struct codec *codec, const struct message_type *type, struct text schema, struct error *err);

/*
 * Fills *message (type->size bytes) from `size` bytes. Texts point into `bytes`, or with lists into
 * `arena`; what a default of ours gave belongs to the codec.
 * On -1 with ERROR_BAD_INPUT, *class says which dead letter it is; *message is then undefined. ERROR_RETRY: the schema
 * is still being asked for (the first message of a schema waits for it, 50 ms at most, in the call); nothing is wrong
 * with the message, come back with the very same one.
 */
int codec_decode(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                 void *message, struct arena *arena, enum dead_letter_class *class, struct error *err);

/* The same for who has nothing else to do: ERROR_RETRY only after `patience_ms`, or once *stop is set (NULL: never). */
int codec_decode_waiting(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                         void *message, struct arena *arena, int patience_ms, const volatile sig_atomic_t *stop,
                         enum dead_letter_class *class, struct error *err);

/*
 * Appends the framed message to `out`, which is left as it was on -1. Fails on texts that are not UTF-8, nulls where
 * the schema has none, texts and lists beyond their limits, no memory; with a registry as codec_ready() does when the
 * type's id is not there yet (it never waits for it), and with ERROR_FATAL when codec_write_to() never named the type.
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
