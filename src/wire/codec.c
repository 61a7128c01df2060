#include "wire/codec.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/encode.h"
#include "wire/program.h"
#include "wire/registry.h"
#include "wire/writers.h"

enum { SINGLE_SIZE = 10, CONFLUENT_SIZE = 5, TYPE_COUNT = 5, SCHEMA_WAIT_MS = 50, PATIENT_STEP_US = 20000 };

/* One of our types, what it can be read from, and how it is written. */
struct known_type {
    const struct message_type *type;
    struct schema schema;
    uint64_t fingerprint;          /* of our own schema */
    pthread_mutex_t lock;          /* for adding to these two: */
    struct writers by_fingerprint; /* these own the programs */
    struct writers by_id;
    char *topic;     /* that it is written to; NULL: to none, or there is no registry */
    atomic_llong id; /* of our own schema in the registry; below 0: not known yet */
};

struct codec {
    struct known_type *types; /* TYPE_COUNT; apart, because a codec learns schemas while it is read only to its users */
    struct registry *registry; /* NULL: none */
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

int codec_refuse_header(const struct message_type *type, enum dead_letter_class *class, struct error *err)
{
    *class = DEAD_FRAMING;
    return error_set(err, ERROR_BAD_INPUT,
                     "%s: its schema is named by a GUID in the header " CODEC_SCHEMA_HEADER
                     ", which is not read: have the producer put the schema id before the value",
                     type->name);
}

static struct known_type *find_type(const struct codec *codec, const struct message_type *type, struct error *err)
{
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (codec->types[i].type == type)
            return &codec->types[i];
    error_set(err, ERROR_FATAL, "%s is no message of its own", type->name);
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

static struct program *new_program(struct known_type *known, struct schema *schema, struct error *err)
{
    struct program *program = calloc(1, sizeof *program);
    if (program == NULL) {
        schema_free(schema);
        error_set(err, ERROR_FATAL, "out of memory while adding a schema");
        return NULL;
    }
    if (program_compile(program, schema, &known->schema, known->type, err) == 0)
        return program;
    free(program);
    return NULL;
}

static void free_program(struct program *program)
{
    program_free(program);
    free(program);
}

/*
 * How a schema is read as the type; takes *schema over, on NULL as well. One that is known is compiled all the same: a
 * logical type that we refuse is not in the fingerprint. Under the lock.
 */
static const struct writer *add_writer(struct known_type *known, struct schema *schema, struct error *err)
{
    uint64_t fingerprint;
    if (fingerprint_of(schema, &fingerprint, err) != 0) {
        schema_free(schema);
        return NULL;
    }
    struct program *program = new_program(known, schema, err);
    if (program == NULL) {
        error_wrap(err, "schema 0x%016" PRIx64, fingerprint);
        return NULL;
    }
    const struct writer *writer = writers_find(&known->by_fingerprint, fingerprint);
    if (writer != NULL) {
        free_program(program);
        return writer;
    }
    writer = writers_add(&known->by_fingerprint, fingerprint, program, NULL, err);
    if (writer == NULL)
        free_program(program);
    return writer;
}

/* A schema's text, to be read as a type. */
static const struct writer *add_schema(struct known_type *known, struct text json, struct error *err)
{
    struct schema schema;
    return schema_parse(&schema, json, err) == 0 ? add_writer(known, &schema, err) : NULL;
}

static int add_type(struct known_type *known, const struct message_type *type, struct error *err)
{
    struct text json = text_of(message_schema(type));
    known->type = type;
    atomic_init(&known->id, -1);
    if (schema_parse(&known->schema, json, err) != 0 || fingerprint_of(&known->schema, &known->fingerprint, err) != 0)
        return -1;
    return add_schema(known, json, err) != NULL ? 0 : -1;
}

int codec_create(struct codec **codec, struct error *err)
{
    static const struct message_type *const types[TYPE_COUNT] = {&interaction_type, &item_type, &user_type,
                                                                 &score_request_type, &score_response_type};
    struct codec *new = calloc(1, sizeof *new);
    if (new == NULL || (new->types = calloc(TYPE_COUNT, sizeof *new->types)) == NULL) {
        free(new);
        return error_set(err, ERROR_FATAL, "out of memory while creating a codec");
    }
    for (size_t i = 0; i < TYPE_COUNT; i++)
        pthread_mutex_init(&new->types[i].lock, NULL);
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (add_type(&new->types[i], types[i], err) != 0) {
            codec_destroy(new);
            err->kind = ERROR_FATAL; /* the schema is ours */
            return error_wrap(err, "%s", types[i]->name);
        }
    *codec = new;
    return 0;
}

void codec_destroy(struct codec *codec)
{
    if (codec == NULL)
        return;
    registry_destroy(codec->registry);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        struct known_type *known = &codec->types[i];
        for (size_t slot = 0; slot < WRITERS_SLOTS; slot++) {
            const struct writer *writer = atomic_load(&known->by_fingerprint.slots[slot]);
            if (writer != NULL)
                free_program(writer->program);
        }
        writers_free(&known->by_fingerprint);
        writers_free(&known->by_id);
        schema_free(&known->schema);
        pthread_mutex_destroy(&known->lock);
        free(known->topic);
    }
    free(codec->types);
    free(codec);
}

int codec_add_schema(struct codec *codec, const struct message_type *type, struct text schema, struct error *err)
{
    struct known_type *known = find_type(codec, type, err);
    if (known == NULL)
        return -1;
    pthread_mutex_lock(&known->lock);
    int result = add_schema(known, schema, err) != NULL ? 0 : -1;
    pthread_mutex_unlock(&known->lock);
    return result;
}

/* The registry */

void codec_use_registry(struct codec *codec, struct registry *registry)
{
    codec->registry = registry;
}

bool codec_registry_totals(const struct codec *codec, struct registry_totals *totals)
{
    if (codec->registry != NULL)
        *totals = registry_totals(codec->registry);
    return codec->registry != NULL;
}

/* Looks whether the id is there; waits for it if it may. */
static int find_id(const struct codec *codec, struct known_type *known, int wait_ms, struct error *err)
{
    if (atomic_load_explicit(&known->id, memory_order_relaxed) >= 0)
        return 0;
    if (known->topic == NULL)
        return error_set(err, ERROR_FATAL, "%s: no topic was named that it is written to", known->type->name);
    uint32_t id;
    if (registry_schema_id(codec->registry, known->type, known->topic, wait_ms, &id, err) != 0)
        return -1;
    atomic_store_explicit(&known->id, id, memory_order_relaxed);
    return 0;
}

int codec_write_to(struct codec *codec, const struct message_type *type, const char *topic, struct error *err)
{
    struct known_type *known = find_type(codec, type, err);
    if (known == NULL)
        return -1;
    if (codec->registry == NULL)
        return 0;
    known->topic = strdup(topic);
    if (known->topic == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    struct error early; /* whatever it says: codec_ready() says it */
    find_id(codec, known, 0, &early);
    return 0;
}

int codec_ready(struct codec *codec, int wait_ms, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        double rest_ms = wait_ms - clock_since_ms(start_ns);
        struct known_type *known = &codec->types[i];
        if (known->topic != NULL && find_id(codec, known, rest_ms > 0 ? (int)rest_ms : 0, err) != 0)
            return -1;
    }
    return 0;
}

/* The first message of an id: its schema is asked for and compiled, or what is wrong with it remembered. */
static const struct writer *learn_id(const struct codec *codec, struct known_type *known, uint32_t id,
                                     struct error *err)
{
    struct buffer json = {0};
    struct error failure;
    const struct writer *writer = NULL;
    if (registry_schema(codec->registry, id, SCHEMA_WAIT_MS, &json, err) == 0) {
        pthread_mutex_lock(&known->lock);
        writer = writers_find(&known->by_id, id);
        if (writer == NULL) {
            const struct writer *same = add_schema(known, buffer_text(&json), &failure);
            if (same == NULL && failure.kind != ERROR_BAD_INPUT)
                *err = failure;
            else
                writer = writers_add(&known->by_id, id, same != NULL ? same->program : NULL,
                                     same == NULL ? failure.message : NULL, err);
        }
        pthread_mutex_unlock(&known->lock);
    }
    buffer_free(&json);
    return writer;
}

/* Framings */

struct frame {
    bool by_id; /* Confluent framing; else single-object encoding */
    uint64_t key;
    size_t size; /* of the header */
};

static int say_framing(const uint8_t *bytes, size_t size, struct error *err)
{
    if (size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the message is empty");
    if (bytes[0] == 0 && size < CONFLUENT_SIZE)
        return error_set(err, ERROR_BAD_INPUT, "Confluent framing cut off in its header: %zu bytes", size);
    if (bytes[0] == 0xc3 && (size == 1 || bytes[1] == 0x01))
        return error_set(err, ERROR_BAD_INPUT, "Avro single-object encoding cut off in its header: %zu bytes", size);
    return error_set(
        err, ERROR_BAD_INPUT,
        "begins with 0x%02x%02x: neither Avro single-object encoding (0xc301) nor Confluent framing (0x00)", bytes[0],
        size > 1 ? bytes[1] : 0);
}

static int read_frame(const struct codec *codec, const uint8_t *bytes, size_t size, struct frame *frame,
                      struct error *err)
{
    *frame = (struct frame){0};
    if (size >= SINGLE_SIZE && bytes[0] == 0xc3 && bytes[1] == 0x01) {
        frame->size = SINGLE_SIZE;
        for (size_t i = 0; i < 8; i++)
            frame->key |= (uint64_t)bytes[2 + i] << 8 * i;
        return 0;
    }
    if (size < CONFLUENT_SIZE || bytes[0] != 0)
        return say_framing(bytes, size, err);
    frame->by_id = true;
    frame->size = CONFLUENT_SIZE;
    for (size_t i = 1; i < CONFLUENT_SIZE; i++)
        frame->key = frame->key << 8 | bytes[i];
    if (codec->registry != NULL)
        return 0;
    return error_set(err, ERROR_BAD_INPUT,
                     "Confluent framing with schema registry id %" PRIu64 ", and no registry is configured: "
                     "set registry.url, or write Avro single-object encoding",
                     frame->key);
}

/* The schema's program. NULL: the error says why there is none, and *class which dead letter it makes of a message. */
static const struct program *find_program(const struct codec *codec, struct known_type *known,
                                          const struct frame *frame, enum dead_letter_class *class, struct error *err)
{
    const struct writer *writer = writers_find(frame->by_id ? &known->by_id : &known->by_fingerprint, frame->key);
    *class = DEAD_UNKNOWN_SCHEMA;
    if (writer == NULL && frame->by_id) {
        writer = learn_id(codec, known, (uint32_t)frame->key, err);
        if (writer == NULL)
            return NULL;
    }
    if (writer == NULL) {
        error_set(err, ERROR_BAD_INPUT, "no schema with fingerprint 0x%016" PRIx64 " is known", frame->key);
        return NULL;
    }
    if (writer->program == NULL)
        error_set(err, ERROR_BAD_INPUT, "schema id %" PRIu64 " cannot be read: %s", frame->key, writer->refusal);
    return writer->program;
}

int codec_decode(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                 void *message, struct arena *arena, enum dead_letter_class *class, struct error *err)
{
    struct known_type *known = find_type(codec, type, err);
    struct frame frame;
    if (known == NULL)
        return -1;
    if (read_frame(codec, bytes, size, &frame, err) != 0) {
        *class = DEAD_FRAMING;
        return error_wrap(err, "%s", type->name);
    }
    const struct program *program = find_program(codec, known, &frame, class, err);
    if (program == NULL)
        return error_wrap(err, "%s", type->name);
    return program_run(program, bytes + frame.size, size - frame.size, message, arena, class, err);
}

int codec_decode_waiting(const struct codec *codec, const struct message_type *type, const uint8_t *bytes, size_t size,
                         void *message, struct arena *arena, int patience_ms, const volatile sig_atomic_t *stop,
                         enum dead_letter_class *class, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    int result;
    while ((result = codec_decode(codec, type, bytes, size, message, arena, class, err)) != 0 &&
           err->kind == ERROR_RETRY && (stop == NULL || !*stop) && clock_since_ms(start_ns) < patience_ms)
        usleep(PATIENT_STEP_US);
    return result;
}

static size_t write_frame(const struct codec *codec, const struct known_type *known, uint8_t header[SINGLE_SIZE])
{
    if (codec->registry != NULL) {
        uint32_t id = (uint32_t)atomic_load_explicit(&known->id, memory_order_relaxed);
        header[0] = 0;
        for (size_t i = 0; i < 4; i++)
            header[1 + i] = (uint8_t)(id >> 8 * (3 - i));
        return CONFLUENT_SIZE;
    }
    header[0] = 0xc3;
    header[1] = 0x01;
    for (size_t i = 0; i < 8; i++)
        header[2 + i] = (uint8_t)(known->fingerprint >> 8 * i);
    return SINGLE_SIZE;
}

int codec_encode(const struct codec *codec, const struct message_type *type, const void *message, struct buffer *out,
                 struct error *err)
{
    struct known_type *known = find_type(codec, type, err);
    if (known == NULL || (codec->registry != NULL && find_id(codec, known, 0, err) != 0))
        return -1;
    size_t before = out->size;
    uint8_t header[SINGLE_SIZE];
    buffer_append(out, header, write_frame(codec, known, header));
    if (message_encode(type, message, out, err) == 0 && buffer_check(out, "encoding a message", err) == 0)
        return 0;
    out->size = before;
    return -1;
}
