#include "wire/fixture.h"

#include "wire/golden.h"

#define DECODE(fixture, type, frame, message)                                                                          \
    codec_decode((fixture)->codec, type, frame, sizeof(frame), message, &(fixture)->arena, &(fixture)->class,          \
                 &(fixture)->err)

static void an_interaction_of_fastavro_is_read_in_full(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    assert_ok(fixture, DECODE(fixture, &interaction_type, rating_frame, &event));
    assert_text(event.user_id, "u196");
    assert_text(event.item_id, "242");
    assert_true(event.timestamp_ms == 881250949000);
    assert_int_equal(event.kind, INTERACTION_RATING);
    assert_true(event.has_value && event.value == 3.5);
    assert_true(event.has_label && event.label);
    assert_text(event.request_id, "r-1");

    assert_ok(fixture, DECODE(fixture, &interaction_type, click_frame, &event));
    assert_text(event.user_id, "ü");
    assert_text(event.item_id, "");
    assert_true(event.timestamp_ms == -1);
    assert_int_equal(event.kind, INTERACTION_CLICK);
    assert_false(event.has_value || event.has_label || event.label);
    assert_null(event.request_id.data);
}

static void an_item_and_a_user_of_fastavro_are_read_in_full(void **state)
{
    struct fixture *fixture = *state;
    struct item item;
    assert_ok(fixture, DECODE(fixture, &item_type, item_frame, &item));
    assert_text(item.title, "Kolya (1996)");
    assert_int_equal(item.attribute_count, 2);
    assert_text(item.attributes[0].name, "genre");
    assert_text(item.attributes[1].value, "1996");
    struct user user;
    assert_ok(fixture, DECODE(fixture, &user_type, user_frame, &user));
    assert_text(user.user_id, "u196");
    assert_int_equal(user.profile_count, 0);
}

static void a_request_of_fastavro_is_read_in_full(void **state)
{
    struct fixture *fixture = *state;
    struct score_request request;
    assert_ok(fixture, DECODE(fixture, &score_request_type, request_frame, &request));
    assert_text(request.request_id, "r-1");
    assert_int_equal(request.candidate_count, 2);
    assert_text(request.candidates[0].item_id, "242");
    assert_null(request.candidates[0].title.data);
    assert_text(request.candidates[1].title, "L.A. Confidential (1997)");
    assert_true(request.has_deadline && request.deadline_ms == 881250949250);
    assert_true(request.has_history);
    assert_int_equal(request.history_count, 2);
    assert_int_equal(request.history[0].kind, INTERACTION_DISLIKE);
    assert_false(request.history[0].has_value);
    assert_true(request.history[1].has_value && request.history[1].value == 4.0);
    assert_true(request.history[1].timestamp_ms == 881240000000);
    assert_true(request.explain);
}

static void a_response_of_fastavro_is_read_in_full(void **state)
{
    struct fixture *fixture = *state;
    struct score_response response;
    assert_ok(fixture, DECODE(fixture, &score_response_type, response_frame, &response));
    assert_int_equal(response.status, RESPONSE_OK);
    assert_null(response.error.data);
    assert_int_equal(response.candidate_count, 2);
    const struct scored_candidate *first = &response.candidates[0];
    assert_true(first->has_probability && first->probability == 0.7310585786300049);
    assert_int_equal(first->status, CANDIDATE_SHALLOW);
    assert_true(first->has_explanation);
    const struct explanation *explanation = first->explanation;
    assert_text(explanation->prompt, "Will \"u\"\nlike it?");
    assert_int_equal(explanation->similar_user_count, 2);
    assert_true(explanation->similar_users[1].cosine == -0.25);
    assert_null(explanation->similar_users[1].verdict.data);
    assert_text(explanation->evidence[0].name, "item_like_rate");
    assert_int_equal(explanation->exit_count, 2);
    assert_int_equal(explanation->exits[0].probability_count, 3);
    assert_true(explanation->exits[0].probabilities[1] == 0.625);
    assert_true(explanation->exits[1].fired);
    assert_false(response.candidates[1].has_probability || response.candidates[1].has_explanation);
    assert_null(response.candidates[1].explanation);
    assert_text(response.heads, "");
    assert_true(response.state.newest_event_ms == 881250948999);
    assert_true(response.timings.engine_ms == 40.0);
}

static void what_is_written_is_what_fastavro_writes(void **state)
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
        union {
            struct interaction interaction;
            struct item item;
            struct user user;
            struct score_request request;
            struct score_response response;
        } message;
        buffer_clear(&fixture->out);
        assert_ok(fixture, codec_decode(fixture->codec, cases[i].type, cases[i].frame, cases[i].size, &message,
                                        &fixture->arena, &fixture->class, &fixture->err));
        assert_ok(fixture, codec_encode(fixture->codec, cases[i].type, &message, &fixture->out, &fixture->err));
        assert_int_equal(fixture->out.size, cases[i].size);
        assert_memory_equal(fixture->out.data, cases[i].frame, cases[i].size);
    }
}

static void the_fingerprints_in_the_frames_are_those_of_fastavro(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const struct message_type *type;
        uint64_t fingerprint;
    } cases[] = {
        {&interaction_type, FINGERPRINT_INTERACTION},
        {&item_type, FINGERPRINT_ITEM},
        {&user_type, FINGERPRINT_USER},
        {&score_request_type, FINGERPRINT_SCOREREQUEST},
        {&score_response_type, FINGERPRINT_SCORERESPONSE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t frame[10] = {0xc3, 0x01};
        for (size_t j = 0; j < 8; j++)
            frame[2 + j] = (uint8_t)(cases[i].fingerprint >> 8 * j);
        max_align_t message[32];
        assert_int_equal(DECODE(fixture, cases[i].type, frame, message), -1);
        assert_int_equal(fixture->class, DEAD_DECODE); /* known, but the message ends here */
    }
}

static void every_value_of_a_long_and_a_double_survives(void **state)
{
    struct fixture *fixture = *state;
    static const int64_t longs[] = {0, -1, 63, 64, -64, -65, INT32_MAX, INT64_MAX, INT64_MIN};
    static const double doubles[] = {0.0, -0.0, 1e-310, 1.7976931348623157e308, INFINITY, -INFINITY, NAN, 0.1, -3.0};
    for (size_t i = 0; i < 9; i++) {
        struct interaction in = {text_of("u"), text_of("i"), longs[i], INTERACTION_LIKE, true,
                                 doubles[i],   false,        false,    {NULL, 0}};
        struct interaction out;
        buffer_clear(&fixture->out);
        assert_ok(fixture, codec_encode(fixture->codec, &interaction_type, &in, &fixture->out, &fixture->err));
        assert_ok(fixture, codec_decode(fixture->codec, &interaction_type, fixture->out.data, fixture->out.size, &out,
                                        &fixture->arena, &fixture->class, &fixture->err));
        assert_true(out.timestamp_ms == longs[i]);
        assert_memory_equal(&out.value, &doubles[i], sizeof(double));
    }
}

static void a_foreign_framing_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct interaction event;
    static const struct {
        uint8_t bytes[12];
        size_t size;
        enum dead_letter_class class;
        const char *words;
    } cases[] = {
        {{0}, 0, DEAD_FRAMING, "empty"},
        {{0, 0x80, 0, 0, 7, 1}, 6, DEAD_FRAMING, "schema registry id 2147483655"},
        {{0, 0, 0, 0}, 4, DEAD_FRAMING, "Confluent framing cut off in its header: 4 bytes"},
        {{1, 0, 0, 0, 7, 1}, 6, DEAD_FRAMING, "begins with 0x0100"},
        {{'{', '"'}, 2, DEAD_FRAMING, "begins with 0x7b22"},
        {{0xc3}, 1, DEAD_FRAMING, "cut off in its header: 1 bytes"},
        {{0xc3, 1, 1, 2, 3, 4, 5, 6, 7}, 9, DEAD_FRAMING, "cut off in its header: 9 bytes"},
        {{0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8}, 10, DEAD_UNKNOWN_SCHEMA, "0x0807060504030201"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(codec_decode(fixture->codec, &interaction_type, cases[i].bytes, cases[i].size, &event,
                                      &fixture->arena, &fixture->class, &fixture->err),
                         -1);
        assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
        assert_int_equal(fixture->class, cases[i].class);
        assert_says(fixture, cases[i].words);
        assert_says(fixture, "headrace.Interaction");
    }
}

static void a_schema_of_another_type_is_unknown_to_this_one(void **state)
{
    struct fixture *fixture = *state;
    struct user user;
    assert_int_equal(DECODE(fixture, &user_type, item_frame, &user), -1);
    assert_int_equal(fixture->class, DEAD_UNKNOWN_SCHEMA);
}

static void assert_not_encoded(struct fixture *fixture, const struct message_type *type, const void *message,
                               const char *words)
{
    size_t before = fixture->out.size;
    assert_int_equal(codec_encode(fixture->codec, type, message, &fixture->out, &fixture->err), -1);
    assert_int_equal(fixture->err.kind, ERROR_BAD_INPUT);
    assert_int_equal(fixture->out.size, before);
    assert_says(fixture, words);
}

static void what_no_reader_could_take_is_not_written(void **state)
{
    struct fixture *fixture = *state;
    buffer_append_string(&fixture->out, "before");
    const struct interaction good = {.user_id = text_of("u"), .item_id = text_of("i"), .kind = INTERACTION_LIKE};
    struct interaction bad = good;
    bad.item_id = (struct text){NULL, 0};
    assert_not_encoded(fixture, &interaction_type, &bad, "headrace.Interaction: field item_id: may not be null");
    bad = good;
    bad.user_id = text_of("\xff");
    assert_not_encoded(fixture, &interaction_type, &bad, "field user_id: a text that is not UTF-8");
    bad = good;
    bad.kind = INTERACTION_REMOVE + 1;
    assert_not_encoded(fixture, &interaction_type, &bad, "field kind: 8 is the number of no symbol");
    bad.kind = -1;
    assert_not_encoded(fixture, &interaction_type, &bad, "field kind: -1 is the number of no symbol");
    char id[257];
    memset(id, 'x', sizeof id);
    bad = good;
    bad.request_id = (struct text){id, sizeof id};
    assert_not_encoded(fixture, &interaction_type, &bad, "field request_id: a text of 257 bytes, at most 256");
    bad.request_id.size = 256;
    assert_ok(fixture, codec_encode(fixture->codec, &interaction_type, &bad, &fixture->out, &fixture->err));

    struct attribute attributes[65];
    for (size_t i = 0; i < 65; i++)
        attributes[i] = (struct attribute){{id, i}, text_of("")};
    struct item item = {text_of("i"), text_of("t"), attributes, 65};
    assert_not_encoded(fixture, &item_type, &item, "field attributes: 65 elements, at most 64");
    item.attribute_count = 64;
    assert_ok(fixture, codec_encode(fixture->codec, &item_type, &item, &fixture->out, &fixture->err));
    attributes[3].value = (struct text){NULL, 0};
    assert_not_encoded(fixture, &item_type, &item, "field attributes: element 3: the value of an entry: may not be");
}

static void names_of_enums_go_both_ways(void **state)
{
    (void)state;
    for (int32_t kind = INTERACTION_UNKNOWN; kind <= INTERACTION_REMOVE; kind++) {
        int32_t parsed = -1;
        assert_true(interaction_kind_parse(text_of(interaction_kind_name(kind)), &parsed));
        assert_int_equal(parsed, kind);
    }
    int32_t kind = 77;
    assert_false(interaction_kind_parse(text_of("LIKE"), &kind));
    assert_false(interaction_kind_parse(text_of(""), &kind));
    assert_false(interaction_kind_parse((struct text){NULL, 0}, &kind));
    assert_int_equal(kind, 77);
    assert_null(interaction_kind_name(INTERACTION_REMOVE + 1));
    assert_null(interaction_kind_name(-1));
    assert_string_equal(interaction_kind_name(INTERACTION_PURCHASE), "purchase");
    assert_string_equal(response_status_name(RESPONSE_SHED), "SHED");
    assert_null(response_status_name(RESPONSE_SHED + 1));
    assert_string_equal(candidate_status_name(CANDIDATE_COLD_ITEM), "COLD_ITEM");
    assert_null(candidate_status_name(CANDIDATE_COLD_ITEM + 1));
    assert_string_equal(dead_letter_class_name(DEAD_FRAMING), "framing");
    assert_string_equal(dead_letter_class_name(DEAD_UNKNOWN_SCHEMA), "unknown_schema");
    assert_string_equal(dead_letter_class_name(DEAD_DECODE), "decode");
    assert_string_equal(dead_letter_class_name(DEAD_SEMANTIC), "semantic");
    assert_string_equal(dead_letter_class_name(DEAD_TOO_LARGE), "too_large");
}

#define WITH_CODEC(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CODEC(an_interaction_of_fastavro_is_read_in_full),
        WITH_CODEC(an_item_and_a_user_of_fastavro_are_read_in_full),
        WITH_CODEC(a_request_of_fastavro_is_read_in_full),
        WITH_CODEC(a_response_of_fastavro_is_read_in_full),
        WITH_CODEC(what_is_written_is_what_fastavro_writes),
        WITH_CODEC(the_fingerprints_in_the_frames_are_those_of_fastavro),
        WITH_CODEC(every_value_of_a_long_and_a_double_survives),
        WITH_CODEC(a_foreign_framing_is_named),
        WITH_CODEC(a_schema_of_another_type_is_unknown_to_this_one),
        WITH_CODEC(what_no_reader_could_take_is_not_written),
        cmocka_unit_test(names_of_enums_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
