/* What fastavro reads of other writers' messages, we read; what it refuses, we refuse: tests/golden/evolution.json. */
#include "wire/fixture.h"

#include <jansson.h>

#include "wire/program.h"

static const struct message_type *type_of(const char *name)
{
    static const struct message_type *const types[] = {&interaction_type, &item_type, &user_type, &score_request_type,
                                                       &score_response_type};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(schema_short_name(types[i]->name), name) == 0)
            return types[i];
    fail_msg("%s is no type of ours", name);
    return NULL;
}

/* 5 and 5.0 are the same number, by whom it is written is chance. */
static bool same_json(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b) && !(json_is_integer(a) && json_is_integer(b)))
        return json_number_value(a) == json_number_value(b);
    if (json_is_array(a) && json_is_array(b)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; same && i < json_array_size(a); i++)
            same = same_json(json_array_get(a, i), json_array_get(b, i));
        return same;
    }
    if (!json_is_object(a) || !json_is_object(b))
        return json_equal(a, b) != 0;
    bool same = json_object_size(a) == json_object_size(b);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)a, key, value) same = same && same_json(value, json_object_get(b, key));
    return same;
}

static size_t read_hex(const char *hex, uint8_t **bytes)
{
    size_t size = strlen(hex) / 2;
    *bytes = malloc(size > 0 ? size : 1);
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        (*bytes)[i] = (uint8_t)byte;
    }
    return size;
}

/* The record as JSON; NULL: refused, by the schema or by what the message has of it. */
static json_t *read_record(struct fixture *fixture, const struct message_type *type, const char *writer_json,
                           const char *reader_json, const uint8_t *bytes, size_t size)
{
    union {
        struct interaction interaction;
        struct item item;
        struct user user;
        struct score_request request;
        struct score_response response;
    } message;
    struct schema writer, reader;
    struct program program;
    json_t *json = NULL;
    assert_ok(fixture, schema_parse(&writer, text_of(writer_json), &fixture->err));
    assert_ok(fixture, schema_parse(&reader, text_of(reader_json), &fixture->err));
    arena_reset(&fixture->arena);
    buffer_clear(&fixture->out);
    if (program_compile(&program, &writer, &reader, type, &fixture->err) != 0) {
        assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
        schema_free(&reader);
        return NULL;
    }
    if (program_run(&program, bytes, size, &message, &fixture->arena, &fixture->class, &fixture->err) == 0) {
        assert_ok(fixture, message_to_json(type, &message, &fixture->out, &fixture->err));
        json = json_loadb((const char *)fixture->out.data, fixture->out.size, 0, NULL);
        assert_non_null(json);
    } else {
        assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
    }
    program_free(&program);
    schema_free(&reader);
    return json;
}

static void check_case(struct fixture *fixture, const json_t *row, size_t *refused)
{
    const char *name = json_string_value(json_object_get(row, "case"));
    const struct message_type *type = type_of(json_string_value(json_object_get(row, "type")));
    const char *writer = json_string_value(json_object_get(row, "writer"));
    const char *reader = json_string_value(json_object_get(row, "reader"));
    const json_t *expected = json_object_get(row, "record");
    uint8_t *bytes;
    size_t size = read_hex(json_string_value(json_object_get(row, "bytes")), &bytes);
    json_t *record = read_record(fixture, type, writer, reader != NULL ? reader : message_schema(type), bytes, size);
    if (record == NULL && !json_is_null(expected))
        fail_msg("%s: fastavro reads it, we do not: %s", name, fixture->err.message);
    if (record != NULL && json_is_null(expected))
        fail_msg("%s: fastavro refuses it, we read " TEXT_FORMAT, name, TEXT_ARGS(buffer_text(&fixture->out)));
    if (record != NULL && !same_json(record, expected))
        fail_msg("%s: we read " TEXT_FORMAT, name, TEXT_ARGS(buffer_text(&fixture->out)));
    *refused += record == NULL;
    json_decref(record);
    free(bytes);
}

static void every_case_is_read_as_fastavro_reads_it(void **state)
{
    struct fixture *fixture = *state;
    json_error_t at;
    json_t *table = json_load_file(HEADRACE_GOLDEN "/evolution.json", 0, &at);
    assert_true(json_is_array(table));
    size_t refused = 0;
    for (size_t i = 0; i < json_array_size(table); i++)
        check_case(fixture, json_array_get(table, i), &refused);
    print_message("%zu cases, %zu of them refused\n", json_array_size(table), refused);
    assert_true(json_array_size(table) >= 100 && refused >= 20);
    json_decref(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_case_is_read_as_fastavro_reads_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
