/* Any bytes as a message: a record that can be written and read again, or a dead letter with a reason. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "wire/codec.h"
#include "wire/schema.h"

enum { TYPES = 5, WRITERS_MOST = 256, HEADER = 10 };

static const struct message_type *const types[TYPES] = {&interaction_type, &item_type, &user_type, &score_request_type,
                                                        &score_response_type};

struct writer {
    const struct message_type *type;
    uint8_t header[HEADER];
};

static struct codec *codec;
static struct writer writers[WRITERS_MOST]; /* of tests/golden/evolution.json, those that we can read */
static size_t writer_count;
static struct arena arena;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void add_writer(const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "type"));
    struct text json = text_of(json_string_value(json_object_get(row, "writer")));
    struct writer *writer = &writers[writer_count];
    struct schema schema;
    struct buffer canonical = {0};
    struct error err;
    for (size_t i = 0; i < TYPES; i++)
        if (strcmp(schema_short_name(types[i]->name), name) == 0)
            writer->type = types[i];
    if (codec_add_schema(codec, writer->type, json, &err) != 0 || writer_count + 1 == WRITERS_MOST)
        return;
    must(schema_parse(&schema, json, &err) == 0);
    schema_append_canonical(&schema, &canonical);
    uint64_t fingerprint = schema_fingerprint(canonical.data, canonical.size);
    writer->header[0] = 0xc3;
    writer->header[1] = 0x01;
    for (size_t i = 0; i < 8; i++)
        writer->header[2 + i] = (uint8_t)(fingerprint >> 8 * i);
    buffer_free(&canonical);
    schema_free(&schema);
    writer_count++;
}

static void begin(void)
{
    struct error err;
    must(codec_create(&codec, &err) == 0);
    arena_init(&arena, 4u << 20);
    json_t *table = json_load_file(HEADRACE_GOLDEN "/evolution.json", 0, NULL);
    must(json_array_size(table) > 0);
    for (size_t i = 0; i < json_array_size(table); i++)
        add_writer(json_array_get(table, i));
    must(writer_count > 50);
    json_decref(table);
}

union any_message {
    struct interaction interaction;
    struct item item;
    struct user user;
    struct score_request request;
    struct score_response response;
};

static bool decode(const struct message_type *type, const uint8_t *bytes, size_t size, union any_message *message,
                   struct buffer *json)
{
    struct error err;
    enum dead_letter_class class;
    if (codec_decode(codec, type, bytes, size, message, &arena, &class, &err) != 0) {
        must(err.kind == ERROR_BAD_INPUT && dead_letter_class_name(class) != NULL && strchr(err.message, '\n') == NULL);
        return false;
    }
    must(message_to_json(type, message, json, &err) == 0);
    return true;
}

/* From memory of just that size, so that a byte beyond it is found. */
static void take(const struct message_type *type, const uint8_t *header, size_t header_size, const uint8_t *bytes,
                 size_t size)
{
    union any_message message, again;
    struct buffer json = {0}, frame = {0}, json_again = {0};
    struct error err;
    uint8_t *copy = malloc(header_size + size + (header_size + size == 0));
    must(copy != NULL);
    if (header_size > 0)
        memcpy(copy, header, header_size);
    if (size > 0)
        memcpy(copy + header_size, bytes, size);
    arena_reset(&arena);
    if (decode(type, copy, header_size + size, &message, &json)) {
        must(codec_encode(codec, type, &message, &frame, &err) == 0);
        must(decode(type, frame.data, frame.size, &again, &json_again));
        must(text_equal(buffer_text(&json), buffer_text(&json_again)));
    }
    buffer_free(&json);
    buffer_free(&json_again);
    buffer_free(&frame);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (codec == NULL)
        begin();
    for (size_t i = 0; i < TYPES; i++)
        take(types[i], NULL, 0, bytes, size);
    if (size > 0) { /* the first byte chooses a writer, whose header no mutation would find */
        const struct writer *writer = &writers[bytes[0] % writer_count];
        take(writer->type, writer->header, HEADER, bytes + 1, size - 1);
    }
    return 0;
}
