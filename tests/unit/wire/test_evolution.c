#include "wire/fixture.h"

#include "wire/golden.h"
#include "wire/program.h"

/* Makes a writer's schema known and decodes what fastavro wrote by it. */
#define READ(fixture, type, name, message)                                                                             \
    (codec_add_schema((fixture)->codec, type, text_of(name##_writer), &(fixture)->err) != 0                            \
         ? -1                                                                                                          \
         : codec_decode((fixture)->codec, type, name##_frame, sizeof name##_frame, message, &(fixture)->arena,         \
                        &(fixture)->class, &(fixture)->err))

/* The first four fields as all writers of golden.py write them. */
static void assert_like(const struct interaction *event)
{
    assert_text(event->user_id, "u");
    assert_text(event->item_id, "i");
    assert_true(event->timestamp_ms == 5);
    assert_int_equal(event->kind, INTERACTION_LIKE);
}

static void assert_full(const struct interaction *event)
{
    assert_like(event);
    assert_true(event->has_value && event->value == 2.5);
    assert_true(event->has_label && event->label);
    assert_text(event->request_id, "r");
}

static void fields_that_an_older_writer_lacks_take_their_defaults(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, older, &event));
    assert_like(&event);
    assert_false(event.has_value || event.has_label);
    assert_null(event.request_id.data);
}

static void fields_come_in_any_order(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, reordered, &event));
    assert_full(&event);
}

static void fields_of_every_type_are_passed_over(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, dropping, &event));
    assert_like(&event);
    for (size_t size = 10; size < sizeof dropping_frame; size++) { /* and looked at while doing so */
        uint8_t *cut = malloc(size);
        memcpy(cut, dropping_frame, size);
        assert_int_equal(codec_decode(fixture->codec, &interaction_type, cut, size, &event, &fixture->arena,
                                      &fixture->class, &fixture->err),
                         -1);
        assert_int_equal(fixture->class, DEAD_DECODE);
        free(cut);
    }
}

static void numbers_and_bytes_are_promoted(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, promoted, &event));
    assert_like(&event);
    assert_true(event.has_value && event.value == 2.5);
    assert_ok(fixture, READ(fixture, &interaction_type, long_value, &event));
    assert_true(event.has_value && event.value == -7.0);
    assert_ok(fixture, READ(fixture, &interaction_type, int_value, &event));
    assert_true(event.has_value && event.value == -7.0);
}

static void symbols_go_by_name_and_new_ones_are_unknown(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, newer_symbol, &event));
    assert_int_equal(event.kind, INTERACTION_UNKNOWN);
    assert_ok(fixture, READ(fixture, &interaction_type, other_numbers, &event));
    assert_int_equal(event.kind, INTERACTION_LIKE);
}

static void unions_and_plain_types_read_each_other(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, plain, &event));
    assert_full(&event);
    assert_ok(fixture, READ(fixture, &interaction_type, unions, &event));
    assert_full(&event);
    assert_ok(fixture, READ(fixture, &interaction_type, top_union, &event));
    assert_like(&event);
}

static void a_branch_that_has_no_place_is_refused_by_the_message_that_takes_it(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_int_equal(READ(fixture, &interaction_type, null_id, &event), -1);
    assert_int_equal(fixture->class, DEAD_DECODE);
    assert_says(fixture, "field user_id");
    assert_says(fixture, "a null, which this field cannot hold");
    assert_int_equal(READ(fixture, &interaction_type, text_value, &event), -1);
    assert_int_equal(fixture->class, DEAD_DECODE);
    assert_says(fixture, "a string, which this field cannot hold");
}

static void nested_records_are_resolved_like_outer_ones(void **state)
{
    struct fixture *fixture = *state;
    struct score_request request;
    assert_ok(fixture, READ(fixture, &score_request_type, nested, &request));
    assert_int_equal(request.candidate_count, 3);
    assert_text(request.candidates[2].item_id, "c2");
    assert_null(request.candidates[2].title.data);
    assert_true(request.has_history);
    assert_int_equal(request.history_count, 2);
    assert_int_equal(request.history[0].kind, INTERACTION_REMOVE);
    assert_int_equal(request.history[1].kind, INTERACTION_UNKNOWN);
    assert_text(request.history[1].item_id, "b");
    assert_true(request.history[1].has_value && request.history[1].value == 5.0);
    assert_true(request.history[1].timestamp_ms == 2);
    assert_false(request.has_deadline || request.explain);
}

static void a_schema_may_be_added_twice(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, READ(fixture, &interaction_type, older, &event));
    assert_ok(fixture, READ(fixture, &interaction_type, older, &event));
    struct text ours = text_of(message_schema(&interaction_type));
    assert_ok(fixture, codec_add_schema(fixture->codec, &interaction_type, ours, &fixture->err));
}

static void assert_unreadable(struct fixture *fixture, const char *writer, const char *words)
{
    assert_int_equal(codec_add_schema(fixture->codec, &user_type, text_of(writer), &fixture->err), -1);
    assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
    assert_says(fixture, words);
}

#define USER(fields) "{\"type\":\"record\",\"name\":\"User\",\"fields\":[" fields "]}"

static void a_writer_that_cannot_be_read_is_refused_with_the_field(void **state)
{
    struct fixture *fixture = *state;
    assert_unreadable(fixture, USER(""), "field user_id: the writer does not have it, and it has no default");
    assert_unreadable(fixture, USER("{\"name\":\"user_id\",\"type\":\"int\"}"),
                      "field user_id: the writer has int, wanted is string");
    assert_unreadable(fixture, USER("{\"name\":\"user_id\",\"type\":[\"int\",\"null\"]}"),
                      "field user_id: the writer has union, wanted is string");
    assert_unreadable(fixture,
                      USER("{\"name\":\"user_id\",\"type\":\"string\"},{\"name\":\"profile\",\"type\":"
                           "{\"type\":\"map\",\"values\":\"long\"}}"),
                      "field profile: the writer has long, wanted is string");
    assert_unreadable(fixture, USER("{\"name\":\"user_id\",\"type\":{\"type\":\"bytes\",\"logicalType\":\"decimal\"}}"),
                      "logical type decimal");
    assert_unreadable(fixture, "\"string\"", "the writer has string, wanted is headrace.User");
    assert_unreadable(fixture, message_schema(&item_type), "the writer has headrace.Item, wanted is headrace.User");
}

/* The fingerprint is that of ours, which is known: logical types are not part of it. */
static void microseconds_are_not_taken_for_milliseconds(void **state)
{
    struct fixture *fixture = *state;
    struct buffer json = {0};
    const char *ours = message_schema(&interaction_type);
    const char *unit = strstr(ours, "timestamp-millis");
    assert_non_null(unit);
    buffer_append(&json, ours, (size_t)(unit - ours));
    buffer_append_string(&json, "timestamp-micros");
    buffer_append_string(&json, unit + strlen("timestamp-millis"));
    assert_int_equal(codec_add_schema(fixture->codec, &interaction_type, buffer_text(&json), &fixture->err), -1);
    assert_says(fixture, "field timestamp: the writer has logical type timestamp-micros, wanted is timestamp-millis");
    buffer_free(&json);
}

/* A type with what ours do not have: aliases, and defaults that are not empty. */

struct probe {
    struct text name;
    int64_t count;
    double ratio;
    bool on;
    int32_t mode;
    struct text word;
    int32_t level;
    double *numbers;
    size_t number_count;
    struct attribute *tags;
    size_t tag_count;
    struct text title;
};

#define AT(member) .name = #member, .offset = offsetof(struct probe, member)
static const struct symbols modes = {(const char *const[]){"SLOW", "FAST"}, 2};
static const struct field probe_fields[] = {
    {AT(name), .kind = FIELD_TEXT, .limit = 100},
    {AT(count), .kind = FIELD_LONG, .fallback = "-3"},
    {AT(ratio), .kind = FIELD_DOUBLE, .fallback = "0.5"},
    {AT(on), .kind = FIELD_BOOL, .fallback = "true"},
    {AT(mode), .kind = FIELD_ENUM, .symbols = &modes, .fallback = "\"FAST\""},
    {AT(word), .kind = FIELD_TEXT, .fallback = "\"so\"", .limit = 100},
    {AT(level), .kind = FIELD_INT, .fallback = "7"},
    {AT(numbers), .kind = FIELD_ARRAY, .element = FIELD_DOUBLE, .fallback = "[1, 2.5]", .limit = 10,
     .count_offset = offsetof(struct probe, number_count)},
    {AT(tags), .kind = FIELD_MAP, .fallback = "{\"a\": \"b\"}", .limit = 10,
     .count_offset = offsetof(struct probe, tag_count)},
    {AT(title), .kind = FIELD_TEXT, .nullable = true, .fallback = "null", .limit = 100},
};
static const struct message_type probe_type = {"test.Probe", sizeof(struct probe), probe_fields, 10};

static int read_probe(struct fixture *fixture, const char *writer_json, const uint8_t *bytes, size_t size,
                      struct program *program, struct probe *probe)
{
    struct schema writer, reader;
    assert_ok(fixture, schema_parse(&writer, text_of(writer_json), &fixture->err));
    assert_ok(fixture, schema_parse(&reader, text_of(probe_reader), &fixture->err));
    assert_ok(fixture, program_compile(program, &writer, &reader, &probe_type, &fixture->err));
    schema_free(&reader);
    return program_run(program, bytes, size, probe, &fixture->arena, &fixture->class, &fixture->err);
}

static void defaults_that_are_not_empty_and_aliases_are_taken(void **state)
{
    struct fixture *fixture = *state;
    struct program program;
    struct probe probe;
    assert_ok(fixture, read_probe(fixture, sonde_writer, sonde_bytes, sizeof sonde_bytes, &program, &probe));
    assert_text(probe.name, "depth");
    assert_true(probe.count == -3 && probe.ratio == 0.5 && probe.on);
    assert_int_equal(probe.mode, 1);
    assert_text(probe.word, "so");
    assert_int_equal(probe.level, 7);
    assert_int_equal(probe.number_count, 2);
    assert_true(probe.numbers[0] == 1.0 && probe.numbers[1] == 2.5);
    assert_int_equal(probe.tag_count, 1);
    assert_text(probe.tags[0].value, "b");
    assert_null(probe.title.data);
    program_free(&program);
}

static void a_field_of_that_name_comes_before_an_alias(void **state)
{
    struct fixture *fixture = *state;
    struct program program;
    struct probe probe;
    assert_ok(fixture, read_probe(fixture, titled_writer, titled_bytes, sizeof titled_bytes, &program, &probe));
    assert_text(probe.name, "L");
    assert_text(probe.title, "T");
    assert_int_equal(probe.level, -9);
    program_free(&program);
}

static void a_symbol_without_a_default_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct program program;
    struct probe probe;
    assert_int_equal(read_probe(fixture, modal_writer, modal_bytes, sizeof modal_bytes, &program, &probe), -1);
    assert_int_equal(fixture->class, DEAD_DECODE);
    assert_says(fixture, "field mode");
    program_free(&program);
}

#define WITH_CODEC(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CODEC(fields_that_an_older_writer_lacks_take_their_defaults),
        WITH_CODEC(fields_come_in_any_order),
        WITH_CODEC(fields_of_every_type_are_passed_over),
        WITH_CODEC(numbers_and_bytes_are_promoted),
        WITH_CODEC(symbols_go_by_name_and_new_ones_are_unknown),
        WITH_CODEC(unions_and_plain_types_read_each_other),
        WITH_CODEC(a_branch_that_has_no_place_is_refused_by_the_message_that_takes_it),
        WITH_CODEC(nested_records_are_resolved_like_outer_ones),
        WITH_CODEC(a_schema_may_be_added_twice),
        WITH_CODEC(a_writer_that_cannot_be_read_is_refused_with_the_field),
        WITH_CODEC(microseconds_are_not_taken_for_milliseconds),
        WITH_CODEC(defaults_that_are_not_empty_and_aliases_are_taken),
        WITH_CODEC(a_field_of_that_name_comes_before_an_alias),
        WITH_CODEC(a_symbol_without_a_default_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
