#include "wire/fixture.h"

#include "base/random.h"
#include "wire/golden.h"
#include "wire/program.h"

static void fingerprints_are_those_of_fastavro(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *canonical;
        uint64_t fingerprint;
    } cases[] = {
        {primitive_schema, primitive_canonical, FINGERPRINT_PRIMITIVE},
        {primitive_object_schema, primitive_object_canonical, FINGERPRINT_PRIMITIVE_OBJECT},
        {record_schema, record_canonical, FINGERPRINT_RECORD},
        {names_schema, names_canonical, FINGERPRINT_NAMES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schema schema;
        struct error err;
        struct buffer canonical = {0};
        if (schema_parse(&schema, text_of(cases[i].schema), &err) != 0)
            fail_msg("%s", err.message);
        schema_append_canonical(&schema, &canonical);
        assert_string_equal(buffer_string(&canonical), cases[i].canonical);
        assert_true(schema_fingerprint(canonical.data, canonical.size) == cases[i].fingerprint);
        buffer_free(&canonical);
        schema_free(&schema);
    }
    assert_true(schema_fingerprint("", 0) == 0xc15d213aa4d7a795u); /* EMPTY in the specification */
}

static void refused(const char *json, const char *words)
{
    struct schema schema;
    struct error err;
    if (schema_parse(&schema, text_of(json), &err) == 0)
        fail_msg("accepted: %s", json);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, err.message);
}

#define RECORD(fields) "{\"type\":\"record\",\"name\":\"R\",\"fields\":[" fields "]}"

static void a_broken_schema_is_refused_with_its_place(void **state)
{
    (void)state;
    refused("", "line 1");
    refused("{\"type\":\"record\"", "line 1");
    refused("[]", "a union of 0 types");
    refused("12", "neither name, object nor array");
    refused("\"strnig\"", "no type \"strnig\"");
    refused("{\"type\":\"string\",\"type\":\"int\"}", "duplicate");
    refused("{\"name\":\"R\"}", "\"type\" is missing");
    refused("{\"type\":\"record\",\"fields\":[]}", "\"name\" is missing");
    refused("{\"type\":\"record\",\"name\":\"R\"}", "record R: \"fields\"");
    refused("{\"type\":\"record\",\"name\":\"a..b\",\"fields\":[]}", "valid name");
    refused("{\"type\":\"record\",\"name\":\"R\",\"namespace\":\"1\",\"fields\":[]}", "namespace");
    refused("{\"type\":\"record\",\"name\":\"int\",\"fields\":[]}", "cannot be named");
    refused("{\"type\":\"record\",\"name\":\"R\\u0000\",\"fields\":[]}", "line 1");
    refused(RECORD("{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"a\",\"type\":\"int\"}"), "field a appears twice");
    refused(RECORD("{\"name\":\"a b\",\"type\":\"int\"}"), "record R: \"a b\" is not a valid name");
    refused(RECORD("{\"name\":\"a\"}"), "record R: field a: a type is missing");
    refused(RECORD("{\"name\":\"a\",\"type\":[\"int\",\"int\"]}"), "field a: a union has int twice");
    refused(RECORD("{\"name\":\"a\",\"type\":[\"int\",[\"null\"]]}"), "a union directly inside a union");
    refused(RECORD("{\"name\":\"a\",\"type\":{\"type\":\"fixed\",\"name\":\"R\",\"size\":1}}"), "R is defined twice");
    refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":-2}", "fixed F");
    refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":4294967296}", "fixed F");
    refused("{\"type\":\"fixed\",\"name\":\"F\",\"size\":\"2\"}", "fixed F");
    refused("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[]}", "enum E");
    refused("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"A\"]}", "symbol A appears twice");
    refused("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",3]}", "symbol 1");
    refused("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\"],\"default\":\"B\"}", "none of its symbols");
    refused("{\"type\":\"array\"}", "a type is missing");
}

static void a_recursive_schema_is_refused(void **state)
{
    (void)state;
    refused(RECORD("{\"name\":\"next\",\"type\":[\"null\",\"R\"]}"), "R contains itself");
    refused(RECORD("{\"name\":\"a\",\"type\":{\"type\":\"record\",\"name\":\"S\",\"fields\":"
                   "[{\"name\":\"b\",\"type\":{\"type\":\"map\",\"values\":\"R\"}}]}}"),
            "R contains itself");
}

static void repeat(struct buffer *out, const char *string, size_t times)
{
    for (size_t i = 0; i < times; i++)
        buffer_append_string(out, string);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static const size_t depths[] = {64, 1000, 5000};
    for (size_t i = 0; i < 3; i++) {
        struct buffer json = {0};
        repeat(&json, "{\"type\":\"array\",\"items\":", depths[i]);
        repeat(&json, "\"int\"", 1);
        repeat(&json, "}", depths[i]);
        refused(buffer_string(&json), i < 2 ? "nested deeper" : "depth");
        buffer_free(&json);
    }
}

/* Each level on its own is shallow: it names the one before. */
static void nesting_by_name_is_refused(void **state)
{
    (void)state;
    struct buffer json = {0};
    repeat(&json, "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"f\",\"type\":\"int\"}", 1);
    for (int i = 0; i < 100; i++) {
        buffer_printf(&json, ",{\"name\":\"f%d\",\"type\":{\"type\":\"record\",\"name\":\"N%d\",\"fields\":[", i, i);
        buffer_printf(&json, i > 0 ? "{\"name\":\"g\",\"type\":\"N%d\"}]}}" : "]}}", i - 1);
    }
    repeat(&json, "]}", 1);
    refused(buffer_string(&json), "nested deeper");
    buffer_free(&json);
}

static void a_schema_of_ten_megabytes_is_refused(void **state)
{
    (void)state;
    struct buffer json = {0};
    repeat(&json, "{\"type\":\"record\",\"name\":\"R\",\"doc\":\"", 1);
    repeat(&json, "0123456789", 1 << 20);
    repeat(&json, "\",\"fields\":[]}", 1);
    refused(buffer_string(&json), "bytes, at most");
    buffer_free(&json);
}

/* A user with a type more, which 2^40 paths lead through. */
static int add_bush(struct fixture *fixture, const char *leaf)
{
    struct buffer json = {0};
    repeat(&json, "{\"type\":\"record\",\"name\":\"User\",\"fields\":[{\"name\":\"user_id\",\"type\":\"string\"}", 1);
    for (int i = 0; i <= 40; i++) {
        buffer_printf(&json, ",{\"name\":\"f%d\",\"type\":{\"type\":\"record\",\"name\":\"N%d\",\"fields\":[", i, i);
        if (i == 0)
            buffer_printf(&json, "{\"name\":\"g\",\"type\":\"%s\"}", leaf);
        else
            buffer_printf(&json, "{\"name\":\"g\",\"type\":\"N%d\"},{\"name\":\"h\",\"type\":\"N%d\"}", i - 1, i - 1);
        repeat(&json, "]}}", 1);
    }
    repeat(&json, "]}", 1);
    int rc = codec_add_schema(fixture->codec, &user_type, buffer_text(&json), &fixture->err);
    buffer_free(&json);
    return rc;
}

static void a_schema_that_unfolds_without_end_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(add_bush(fixture, "int"), -1);
    assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
    assert_says(fixture, "unfolds to more than");
    assert_ok(fixture, add_bush(fixture, "null")); /* no byte of it would ever be on the wire */
}

static void no_mutation_of_a_schema_does_harm(void **state)
{
    struct fixture *fixture = *state;
    struct text ours = text_of(message_schema(&score_response_type));
    char *json = malloc(ours.size);
    struct random random = {7};
    size_t taken = 0;
    for (int i = 0; i < 3000; i++) {
        memcpy(json, ours.data, ours.size);
        for (uint64_t n = random_below(&random, 3); n < 3; n++) {
            size_t from = random_below(&random, ours.size), to = random_below(&random, ours.size);
            size_t longest = ours.size - (from > to ? from : to);
            memmove(json + to, json + from, random_below(&random, longest < 20 ? longest : 20));
        }
        struct schema schema;
        if (schema_parse(&schema, (struct text){json, ours.size}, &fixture->err) != 0)
            continue;
        struct program program;
        struct schema reader;
        assert_ok(fixture, schema_parse(&reader, ours, &fixture->err));
        taken++;
        if (program_compile(&program, &schema, &reader, &score_response_type, &fixture->err) == 0)
            program_free(&program);
        schema_free(&reader);
    }
    assert_true(taken > 30); /* else this would say little */
    free(json);
}

/* The files say what the descriptors say: codec_create() looks, set_up() calls it. What it does not see: */
static void our_schemas_document_every_field_and_give_every_enum_a_default(void **state)
{
    (void)state;
    static const struct message_type *const types[] = {&interaction_type, &item_type, &user_type, &score_request_type,
                                                       &score_response_type};
    for (size_t i = 0; i < 5; i++) {
        struct schema schema;
        struct error err;
        const char *json = message_schema(types[i]);
        if (schema_parse(&schema, text_of(json), &err) != 0)
            fail_msg("%s", err.message);
        size_t names = 0, documented = 0, enums = 0, defaults = 0;
        for (const char *at = json; (at = strstr(at, "\"name\":")) != NULL; at++)
            names++;
        for (const char *at = json; (at = strstr(at, "\"doc\":")) != NULL; at++)
            documented++;
        for (const char *at = json; (at = strstr(at, "\"enum\"")) != NULL; at++)
            enums++;
        static const char *const least[] = {"\"default\": \"unknown\"", "\"default\": \"ERROR\""};
        for (size_t j = 0; j < 2; j++)
            for (const char *at = json; (at = strstr(at, least[j])) != NULL; at++)
                defaults++;
        assert_int_equal(documented, names);
        assert_int_equal(defaults, enums);
        schema_free(&schema);
    }
    assert_null(message_schema(interaction_type.fields[0].record));
}

static void a_descriptor_that_differs_from_its_schema_is_noticed(void **state)
{
    (void)state;
    struct schema schema;
    struct error err;
    assert_int_equal(schema_parse(&schema, text_of(message_schema(&user_type)), &err), 0);
    assert_int_equal(descriptor_check(&user_type, schema.root, &err), 0);
    assert_int_equal(descriptor_check(&item_type, schema.root, &err), -1);

    struct field fields[2] = {user_type.fields[0], user_type.fields[1]};
    const struct message_type other = {user_type.name, user_type.size, fields, 2};
    assert_int_equal(descriptor_check(&other, schema.root, &err), 0);
    fields[0].kind = FIELD_LONG;
    assert_int_equal(descriptor_check(&other, schema.root, &err), -1);
    assert_non_null(strstr(err.message, "field user_id: the descriptor wants long"));
    fields[0] = user_type.fields[0];
    fields[1].fallback = NULL;
    assert_int_equal(descriptor_check(&other, schema.root, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    schema_free(&schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fingerprints_are_those_of_fastavro),
        cmocka_unit_test(a_broken_schema_is_refused_with_its_place),
        cmocka_unit_test(a_recursive_schema_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(nesting_by_name_is_refused),
        cmocka_unit_test(a_schema_of_ten_megabytes_is_refused),
        cmocka_unit_test_setup_teardown(a_schema_that_unfolds_without_end_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_mutation_of_a_schema_does_harm, set_up, tear_down),
        cmocka_unit_test(our_schemas_document_every_field_and_give_every_enum_a_default),
        cmocka_unit_test(a_descriptor_that_differs_from_its_schema_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
