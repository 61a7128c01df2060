#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/dead_letter_read.h"

static void add(rd_kafka_headers_t *headers, const char *name, const char *value)
{
    assert_int_equal(rd_kafka_header_add(headers, name, -1, value, value != NULL ? -1 : 0), 0);
}

static void add_death(rd_kafka_headers_t *headers, const char *topic, const char *offset, const char *class)
{
    add(headers, "__connect.errors.topic", topic);
    add(headers, "__connect.errors.partition", "2");
    add(headers, "__connect.errors.offset", offset);
    add(headers, "__connect.errors.stage", "VALUE_CONVERTER");
    add(headers, "__connect.errors.exception.class.name", "headrace.decode");
    add(headers, "__connect.errors.exception.message", "no such thing");
    add(headers, "headrace.error.class", class);
}

static void assert_text(struct text text, const char *expected)
{
    assert_true(text_equal(text, text_of(expected)));
}

static void a_letter_tells_where_it_came_from_and_why(void **state)
{
    (void)state;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    struct dead_letter letter;
    add(headers, "traceparent", "00-1");
    add(headers, "null", NULL);
    add_death(headers, "interactions", "4711", "decode");
    dead_letter_read(headers, &letter);
    assert_text(letter.topic, "interactions");
    assert_int_equal(letter.partition, 2);
    assert_int_equal(letter.offset, 4711);
    assert_int_equal(letter.class, DEAD_DECODE);
    assert_text(letter.reason, "no such thing");
    assert_int_equal(letter.cut_from, -1);
    assert_int_equal(letter.own_headers, 7);

    add(headers, "headrace.truncated", "5000000");
    dead_letter_read(headers, &letter);
    assert_int_equal(letter.cut_from, 5000000);
    assert_int_equal(letter.own_headers, 8);
    rd_kafka_headers_destroy(headers);
}

static void what_came_from_a_dead_letter_topic_keeps_its_own_death(void **state)
{
    (void)state;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    struct dead_letter letter;
    add_death(headers, "first", "1", "framing");
    add_death(headers, "second", "2", "semantic");
    dead_letter_read(headers, &letter);
    assert_text(letter.topic, "second");
    assert_int_equal(letter.class, DEAD_SEMANTIC);
    assert_int_equal(letter.own_headers, 7);
    rd_kafka_headers_destroy(headers);
}

static void what_others_have_written_is_a_letter_of_nothing_known(void **state)
{
    (void)state;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
    struct dead_letter letter;
    dead_letter_read(NULL, &letter);
    assert_null(letter.topic.data);
    assert_int_equal(letter.class, DEAD_LETTER_OTHER);
    assert_int_equal(letter.own_headers, 0);

    add(headers, "headrace.error.class", "decode");
    add(headers, "x", "y"); /* so the one before is the message's */
    dead_letter_read(headers, &letter);
    assert_int_equal(letter.class, DEAD_LETTER_OTHER);
    assert_int_equal(letter.own_headers, 0);

    add(headers, "__connect.errors.topic", "orders");
    add(headers, "__connect.errors.offset", "99999999999999999999999999");
    add(headers, "__connect.errors.partition", "-1");
    add(headers, "headrace.truncated", NULL);
    dead_letter_read(headers, &letter);
    assert_text(letter.topic, "orders");
    assert_int_equal(letter.offset, -1);
    assert_int_equal(letter.partition, -1);
    assert_int_equal(letter.cut_from, -1);
    assert_int_equal(letter.class, DEAD_LETTER_OTHER);
    assert_int_equal(letter.own_headers, 4);
    rd_kafka_headers_destroy(headers);
}

static void classes_have_names_that_lead_back(void **state)
{
    (void)state;
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        assert_int_equal(dead_letter_class_find(text_of(dead_letter_class_text(class))), class);
    assert_string_equal(dead_letter_class_text(DEAD_LETTER_OTHER), "other");
    assert_int_equal(dead_letter_class_find(text_of("decod")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_tells_where_it_came_from_and_why),
        cmocka_unit_test(what_came_from_a_dead_letter_topic_keeps_its_own_death),
        cmocka_unit_test(what_others_have_written_is_a_letter_of_nothing_known),
        cmocka_unit_test(classes_have_names_that_lead_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
