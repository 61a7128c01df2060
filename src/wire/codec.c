#include "wire/codec.h"

#include <inttypes.h>
#include <stdlib.h>

#include "wire/encode.h"
#include "wire/program.h"

enum { HEADER_SIZE = 10, TYPE_COUNT = 5 };

struct writer {
    uint64_t fingerprint;
    struct program program;
};

/* One of our types, and the schemas that it can be read from; the first is our own. */
struct known_type {
    const struct message_type *type;
    struct schema schema;
    struct writer *writers;
    size_t count;
    size_t capacity;
};

struct codec {
    struct known_type types[TYPE_COUNT];
};

const char *dead_letter_class_name(enum dead_letter_class class)
{
    switch (class) {
    case DEAD_FRAMING:
        return "framing";
    case DEAD_UNKNOWN_SCHEMA:
        return "unknown_schema";
    case DEAD_DECODE:
        return "decode";
    case DEAD_SEMANTIC:
        return "semantic";
    case DEAD_TOO_LARGE:
        return "too_large";
    }
    return "unknown";
}

static const struct known_type *find_type(const struct codec *codec, const struct message_type *type)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (codec->types[i].type == type)
            return &codec->types[i];
    return NULL;
}

static const struct writer *find_writer(const struct known_type *known, uint64_t fingerprint)
{
    for (size_t i = 0; i < known->count; i++)
        if (known->writers[i].fingerprint == fingerprint)
            return &known->writers[i];
    return NULL;
}

static int fingerprint_of(const struct schema *schema, uint64_t *fingerprint, struct error *err)
{
    struct buffer canonical = {0};
    schema_append_canonical(schema, &canonical);
    int rc = buffer_check(&canonical, "fingerprinting a schema", err);
    *fingerprint = schema_fingerprint(canonical.data, canonical.size);
    buffer_free(&canonical);
    return rc;
}

/*
 * Takes *schema over, on -1 as well. One that is known is compiled all the same: a logical type that we refuse is not
 * in the fingerprint.
 */
static int add_writer(struct known_type *known, struct schema *schema, struct error *err)
{
    struct writer writer;
    if (fingerprint_of(schema, &writer.fingerprint, err) != 0) {
        schema_free(schema);
        return -1;
    }
    if (program_compile(&writer.program, schema, &known->schema, known->type, err) != 0)
        return error_wrap(err, "schema 0x%016" PRIx64, writer.fingerprint);
    if (find_writer(known, writer.fingerprint) != NULL) {
        program_free(&writer.program);
        return 0;
    }
    if (array_reserve(&known->writers, &known->capacity, known->count + 1, sizeof *known->writers) != 0) {
        program_free(&writer.program);
        return error_set(err, ERROR_FATAL, "out of memory while adding a schema");
    }
    known->writers[known->count++] = writer;
    return 0;
}

/* A schema's text, to be read as a type. */
static int add_schema(struct known_type *known, struct text json, struct error *err)
{
    struct schema schema;
    if (schema_parse(&schema, json, err) != 0)
        return -1;
    return add_writer(known, &schema, err);
}

int codec_create(struct codec **codec, struct error *err)
{
    static const struct message_type *const types[TYPE_COUNT] = {&interaction_type, &item_type, &user_type,
                                                                 &score_request_type, &score_response_type};
    struct codec *new = calloc(1, sizeof *new);
    if (new == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while creating a codec");
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        struct known_type *known = &new->types[i];
        struct text json = text_of(message_schema(types[i]));
        known->type = types[i];
        if (schema_parse(&known->schema, json, err) != 0 || add_schema(known, json, err) != 0) {
            codec_destroy(new);
            err->kind = ERROR_FATAL; /* the schema is ours */
            return error_wrap(err, "%s", types[i]->name);
        }
    }
    *codec = new;
    return 0;
}

void codec_destroy(struct codec *codec)
{
    for (size_t i = 0; codec != NULL && i < TYPE_COUNT; i++) {
        struct known_type *known = &codec->types[i];
        for (size_t j = 0; j < known->count; j++)
            program_free(&known->writers[j].program);
        free(known->writers);
        schema_free(&known->schema);
    }
    free(codec);
}

int codec_add_schema(struct codec *codec, const struct message_type *type, struct text schema, struct error *err)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (codec->types[i].type == type)
            return add_schema(&codec->types[i], schema, err);
    return error_set(err, ERROR_FATAL, "%s is no message of its own", type->name);
}

/* *class is set on -1 only. */
static int read_header(const uint8_t *bytes, size_t size, uint64_t *fingerprint, enum dead_letter_class *class,
                       struct error *err)
{
    if (size >= HEADER_SIZE && bytes[0] == 0xc3 && bytes[1] == 0x01) {
        for (size_t i = 0; i < 8; i++)
            *fingerprint |= (uint64_t)bytes[2 + i] << 8 * i;
        return 0;
    }
    *class = DEAD_FRAMING;
    if (size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the message is empty");
    if (size >= 5 && bytes[0] == 0) {
        uint32_t id = (uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 8 | bytes[4];
        return error_set(err, ERROR_BAD_INPUT,
                         "Confluent framing with schema registry id %" PRIu32 ", and no registry is configured: "
                         "write Avro single-object encoding",
                         id);
    }
    if (bytes[0] == 0xc3 && (size == 1 || bytes[1] == 0x01))
        return error_set(err, ERROR_BAD_INPUT, "Avro single-object encoding cut off in its header: %zu bytes", size);
    return error_set(err, ERROR_BAD_INPUT, "begins with 0x%02x%02x: not Avro single-object encoding (0xc301)", bytes[0],
                     size > 1 ? bytes[1] : 0);
}

int codec_decode(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                 void *message, struct arena *arena, enum dead_letter_class *class, struct error *err)
{
    const struct known_type *known = find_type(codec, type);
    if (known == NULL)
        return error_set(err, ERROR_FATAL, "%s is no message of its own", type->name);
    uint64_t fingerprint = 0;
    if (read_header(bytes, size, &fingerprint, class, err) != 0)
        return error_wrap(err, "%s", type->name);
    const struct writer *writer = find_writer(known, fingerprint);
    if (writer == NULL) {
        *class = DEAD_UNKNOWN_SCHEMA;
        return error_set(err, ERROR_BAD_INPUT, "%s: no schema with fingerprint 0x%016" PRIx64 " is known", type->name,
                         fingerprint);
    }
    return program_run(&writer->program, bytes + HEADER_SIZE, size - HEADER_SIZE, message, arena, class, err);
}

int codec_encode(const struct codec *codec, const struct message_type *type, const void *message, struct buffer *out,
                 struct error *err)
{
    const struct known_type *known = find_type(codec, type);
    if (known == NULL)
        return error_set(err, ERROR_FATAL, "%s is no message of its own", type->name);
    size_t before = out->size;
    uint8_t header[HEADER_SIZE] = {0xc3, 0x01};
    for (size_t i = 0; i < 8; i++)
        header[2 + i] = (uint8_t)(known->writers[0].fingerprint >> 8 * i);
    buffer_append(out, header, sizeof header);
    if (message_encode(type, message, out, err) == 0 && buffer_check(out, "encoding a message", err) == 0)
        return 0;
    out->size = before;
    return -1;
}
