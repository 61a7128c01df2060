#include "wire/fixture.h"

#include <jansson.h>

#include "wire/golden.h"

static const char *to_json(struct fixture *fixture, const struct message_type *type, const void *message)
{
    buffer_clear(&fixture->out);
    assert_ok(fixture, message_to_json(type, message, &fixture->out, &fixture->err));
    return buffer_string(&fixture->out);
}

#define FROM(fixture, type, json, message)                                                                             \
    message_from_json(type, text_of(json), message, &(fixture)->arena, &(fixture)->err)

static void fields_stand_in_the_order_of_the_schema_with_nulls_written_out(void **state)
{
    struct fixture *fixture = *state;
    const struct interaction event = {.user_id = text_of("u"),
                                      .item_id = text_of("i"),
                                      .timestamp_ms = 881250949000,
                                      .kind = INTERACTION_DISLIKE,
                                      .has_label = true};
    assert_string_equal(to_json(fixture, &interaction_type, &event),
                        "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":881250949000,\"kind\":\"dislike\","
                        "\"value\":null,\"label\":false,\"request_id\":null}");
}

static void texts_are_escaped_so_that_any_reader_gets_them_back(void **state)
{
    struct fixture *fixture = *state;
    const char *nasty = "a\"b\\c\nd\te\x01\x1f\x7f/ü\xe2\x80\xa8\xf0\x9f\x8e\xac";
    const struct attribute attributes[] = {{text_of(nasty), text_of("</script>")}};
    const struct item item = {text_of("i"), text_of(nasty), (struct attribute *)attributes, 1};
    const char *json = to_json(fixture, &item_type, &item);
    for (const char *c = json; *c != '\0'; c++)
        assert_true((unsigned char)*c >= 0x20);
    json_t *read = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(read);
    assert_string_equal(json_string_value(json_object_get(read, "title")), nasty);
    assert_non_null(json_object_get(json_object_get(read, "attributes"), nasty));
    json_decref(read);
}

static void numbers_are_as_short_as_they_can_be_and_exact(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        double value;
        const char *json;
    } cases[] = {{4.0, "\"value\":4,"},
                 {0.1, "\"value\":0.1,"},
                 {1.0 / 3, "\"value\":0.3333333333333333,"},
                 {0.1 + 0.2, "\"value\":0.30000000000000004,"},
                 {1e300, "\"value\":1e+300,"},
                 {-0.0, "\"value\":-0,"},
                 {5e-324, "\"value\":4.94065645841247e-324,"},
                 {NAN, "\"value\":null,"},
                 {-INFINITY, "\"value\":null,"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct interaction event = {
            .user_id = text_of("u"), .item_id = text_of("i"), .has_value = true, .value = cases[i].value};
        const char *json = to_json(fixture, &interaction_type, &event);
        if (strstr(json, cases[i].json) == NULL)
            fail_msg("%s is not in %s", cases[i].json, json);
    }
}

static void a_message_that_went_through_json_is_the_same_on_the_wire(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const struct message_type *type;
        const uint8_t *frame;
        size_t size;
    } cases[] = {
        {&interaction_type, rating_frame, sizeof rating_frame},
        {&interaction_type, click_frame, sizeof click_frame},
        {&item_type, item_frame, sizeof item_frame},
        {&user_type, user_frame, sizeof user_frame},
        {&score_request_type, request_frame, sizeof request_frame},
        {&score_response_type, response_frame, sizeof response_frame},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        max_align_t message[32], again[32];
        assert_true(cases[i].type->size <= sizeof message);
        assert_ok(fixture, codec_decode(fixture->codec, cases[i].type, cases[i].frame, cases[i].size, message,
                                        &fixture->arena, &fixture->class, &fixture->err));
        to_json(fixture, cases[i].type, message);
        assert_ok(fixture,
                  message_from_json(cases[i].type, buffer_text(&fixture->out), again, &fixture->arena, &fixture->err));
        buffer_clear(&fixture->out); /* what was read must not point into it */
        assert_ok(fixture, codec_encode(fixture->codec, cases[i].type, again, &fixture->out, &fixture->err));
        assert_int_equal(fixture->out.size, cases[i].size);
        assert_memory_equal(fixture->out.data, cases[i].frame, cases[i].size);
    }
}

static void absent_fields_take_their_defaults(void **state)
{
    struct fixture *fixture = *state;
    struct score_request request;
    assert_ok(fixture, FROM(fixture, &score_request_type,
                            "{\"user_id\":\"u\",\"request_id\":\"r\",\"timestamp\":5,\"candidates\":[{\"item_id\":"
                            "\"a\"},{\"title\":\"B\",\"item_id\":\"b\"}]}",
                            &request));
    assert_text(request.user_id, "u");
    assert_int_equal(request.candidate_count, 2);
    assert_null(request.candidates[0].title.data);
    assert_text(request.candidates[1].title, "B");
    assert_false(request.has_deadline || request.has_history || request.explain);
    assert_ok(fixture, FROM(fixture, &score_request_type,
                            "{\"user_id\":\"u\",\"request_id\":\"r\",\"timestamp\":5,\"candidates\":[],\"history\":[],"
                            "\"deadline_ms\":9}",
                            &request));
    assert_true(request.has_history && request.history_count == 0);
    assert_true(request.has_deadline && request.deadline_ms == 9);
}

static void what_is_wrong_in_json_is_named_with_its_place(void **state)
{
    struct fixture *fixture = *state;
#define EVENT "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":5,\"kind\":"
#define REQUEST "{\"user_id\":\"u\",\"request_id\":\"r\",\"timestamp\":5,\"candidates\":"
    static const struct {
        const struct message_type *type;
        const char *json;
        const char *words;
    } cases[] = {
        {&interaction_type, "", "line 1"},
        {&interaction_type, "{\"user_id\":", "line 1"},
        {&interaction_type, "[]", "headrace.Interaction: an array where an object is wanted"},
        {&interaction_type, "{}", "field user_id: is missing"},
        {&interaction_type, EVENT "\"like\",\"user_id\":\"v\"}", "duplicate"},
        {&interaction_type, EVENT "\"like\",\"valeu\":1}", "no field \"valeu\": did you mean value?"},
        {&interaction_type, EVENT "\"like\",\"something_else\":1}", "no field \"something_else\""},
        {&interaction_type, EVENT "\"lik\"}", "field kind: \"lik\" is none of unknown, rating, click, like"},
        {&interaction_type, EVENT "3}", "field kind: an integer where a name is wanted"},
        {&interaction_type, EVENT "\"like\",\"value\":\"5\"}", "field value: a string where a number is wanted"},
        {&interaction_type, EVENT "\"like\",\"label\":1}", "field label: an integer where true or false is wanted"},
        {&interaction_type, EVENT "null}", "field kind: null where a name is wanted"},
        {&interaction_type, "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":5.5,\"kind\":\"like\"}",
         "field timestamp: a real number where an integer is wanted"},
        {&interaction_type, "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp\":99999999999999999999}", "too big"},
        {&interaction_type, "{\"user_id\":\"\\u0000\"}", "line 1"},
        {&interaction_type, "{\"user_id\":\"\xff\"}", "line 1"},
        {&interaction_type, "{\"user_id\":null}", "field user_id: null where a string is wanted"},
        {&score_request_type, REQUEST "[{\"item_id\":\"a\"},{\"title\":\"b\"}]}",
         "field candidates: element 1: field item_id: is missing"},
        {&score_request_type, REQUEST "{}}", "field candidates: an object where an array is wanted"},
        {&item_type, "{\"item_id\":\"i\",\"title\":\"t\",\"attributes\":{\"year\":1996}}",
         "field attributes: year: an integer where a string is wanted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        max_align_t message[32];
        if (FROM(fixture, cases[i].type, cases[i].json, message) == 0)
            fail_msg("accepted: %s", cases[i].json);
        assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
        assert_says(fixture, cases[i].words);
    }
}

static void limits_hold_in_json(void **state)
{
    struct fixture *fixture = *state;
    struct user user;
    char json[400], id[258] = {0};
    memset(id, 'x', 257);
    snprintf(json, sizeof json, "{\"user_id\":\"%s\"}", id);
    assert_int_equal(FROM(fixture, &user_type, json, &user), -1);
    assert_says(fixture, "field user_id: a text of 257 bytes, at most 256 are taken");
    id[256] = '\0';
    snprintf(json, sizeof json, "{\"user_id\":\"%s\"}", id);
    assert_ok(fixture, FROM(fixture, &user_type, json, &user));

    struct buffer many = {0};
    buffer_append_string(&many, "{\"user_id\":\"u\",\"profile\":{\"0\":\"\"");
    for (int i = 1; i < 65; i++)
        buffer_printf(&many, ",\"%d\":\"\"", i);
    buffer_append_string(&many, "}}");
    assert_int_equal(FROM(fixture, &user_type, buffer_string(&many), &user), -1);
    assert_says(fixture, "field profile: 65 elements, at most 64 are taken");
    buffer_free(&many);
}

static void a_message_that_cannot_be_written_leaves_the_buffer_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    const struct interaction event = {.user_id = text_of("u"), .item_id = text_of("\xc3")};
    buffer_append_string(&fixture->out, "before");
    assert_int_equal(message_to_json(&interaction_type, &event, &fixture->out, &fixture->err), -1);
    assert_says(fixture, "headrace.Interaction: field item_id: a text that is not UTF-8");
    assert_string_equal(buffer_string(&fixture->out), "before");
}

#define WITH_CODEC(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CODEC(fields_stand_in_the_order_of_the_schema_with_nulls_written_out),
        WITH_CODEC(texts_are_escaped_so_that_any_reader_gets_them_back),
        WITH_CODEC(numbers_are_as_short_as_they_can_be_and_exact),
        WITH_CODEC(a_message_that_went_through_json_is_the_same_on_the_wire),
        WITH_CODEC(absent_fields_take_their_defaults),
        WITH_CODEC(what_is_wrong_in_json_is_named_with_its_place),
        WITH_CODEC(limits_hold_in_json),
        WITH_CODEC(a_message_that_cannot_be_written_leaves_the_buffer_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
