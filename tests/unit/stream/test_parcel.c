#include "local.h"

#include "stream/dead_letter.h"
#include "stream/parcel.h"

enum { LONG = 20000 };

struct asked {
    struct request request;
    rd_kafka_t *reader; /* that the message came from */
};

/* As the consumer gives it; the message is of `topic`, which is made. */
static struct asked ask(const char *topic, size_t size)
{
    static char value[LONG];
    struct error err;
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    memset(value, 'v', sizeof value);
    assert_ok(broker_create_topic(local_broker, topic, 1, &err));
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    struct producer_header header = {"correlation_id", NULL, 0};
    struct producer_message message = {.topic = topic,
                                       .key = "k",
                                       .key_size = 1,
                                       .value = value,
                                       .value_size = size,
                                       .headers = &header,
                                       .header_count = 1};
    assert_ok(producer_send(producer, &message, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
    rd_kafka_t *reader = local_consumer(topic, 0, topic);
    return (struct asked){{.message = local_consume(reader)}, reader};
}

static void forget(struct asked *asked)
{
    rd_kafka_message_destroy(asked->request.message);
    local_consumer_close(asked->reader);
}

static void what_is_sent_again_is_what_was_sent_at_first(void **state)
{
    (void)state;
    struct error err;
    struct asked asked = ask("parcels", 5);
    char key[] = "key", value[] = "value", name[] = "name", content[] = "content";
    struct producer_header headers[] = {{name, content, 7}, {"none", NULL, 0}};
    struct producer_message message = {.topic = "parcels-out",
                                       .key = key,
                                       .key_size = 3,
                                       .value = value,
                                       .value_size = 5,
                                       .headers = headers,
                                       .header_count = 2};
    struct parcel *parcel;
    assert_ok(parcel_answer(&parcel, &asked.request, &message, &err));
    memset(key, 'x', 3); /* it keeps its own copy */
    memset(value, 'x', 5);
    memset(name, 'x', 4);
    memset(content, 'x', 7);
    assert_ok(broker_create_topic(local_broker, "parcels-out", 1, &err));
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    assert_ok(parcel_send(parcel, producer, &err));
    assert_ok(parcel_send(parcel, producer, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
    parcel_free(parcel);

    rd_kafka_t *reader = local_consumer("parcels-out", 0, "parcels-reader");
    for (int i = 0; i < 2; i++) {
        rd_kafka_message_t *answer = local_consume(reader);
        assert_int_equal(answer->key_len, 3);
        assert_memory_equal(answer->key, "key", 3);
        assert_int_equal(answer->len, 5);
        assert_memory_equal(answer->payload, "value", 5);
        assert_string_equal(local_header(answer, "name"), "content");
        rd_kafka_headers_t *all;
        const void *null = "";
        size_t size = 1;
        assert_int_equal(rd_kafka_message_headers(answer, &all), 0);
        assert_int_equal(rd_kafka_header_cnt(all), 3);
        assert_int_equal(rd_kafka_header_get_last(all, "none", &null, &size), 0);
        assert_null(null);
        assert_int_equal(rd_kafka_header_get_last(all, "correlation_id", &null, &size), 0);
        assert_null(null);
        rd_kafka_message_destroy(answer);
    }
    local_consumer_close(reader);
    forget(&asked);
}

static void a_refused_answer_becomes_a_letter_that_gets_smaller_until_it_is_lost(void **state)
{
    (void)state;
    struct error err;
    struct asked asked = ask("shrinking", LONG);
    struct producer_message message = {.topic = "out", .value = "v", .value_size = 1};
    struct parcel *parcel;
    assert_ok(parcel_answer(&parcel, &asked.request, &message, &err));
    parcel->refused = true;
    assert_ok(parcel_shrink(parcel, "shrinking.dead", 1 << 20, "too large for out", &err));
    assert_true(parcel->suspect && parcel->dead_class == PARCEL_ANSWER); /* it may have been its company */
    assert_ok(parcel_shrink(parcel, "shrinking.dead", 1 << 20, "too large for out", &err));
    assert_false(parcel->refused);
    assert_int_equal(parcel->dead_class, DEAD_TOO_LARGE);
    assert_string_equal(parcel->topic, "shrinking.dead");
    size_t size = parcel->bytes.size;
    assert_true(size > LONG);
    int times = 0;
    for (; !parcel->lost && times < 10; times++) {
        assert_ok(parcel_shrink(parcel, "shrinking.dead", 1 << 20, "too large for dead", &err));
        assert_true(parcel->lost || parcel->bytes.size < size);
        size = parcel->bytes.size;
        enum dead_letter_class class;
        assert_ok(dead_letter_class_of(buffer_text(&parcel->bytes), &class, &err));
        assert_int_equal(class, DEAD_TOO_LARGE);
    }
    assert_true(parcel->lost && times > 3);
    parcel_free(parcel);
    forget(&asked);
}

static void what_is_no_letter_is_not_taken_for_one(void **state)
{
    (void)state;
    struct error err;
    struct request request = {.message = NULL};
    struct parcel *parcel;
    assert_int_equal(parcel_letter(&parcel, &request, "dead", text_of("anything"), &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_again_is_what_was_sent_at_first),
        cmocka_unit_test(a_refused_answer_becomes_a_letter_that_gets_smaller_until_it_is_lost),
        cmocka_unit_test(what_is_no_letter_is_not_taken_for_one),
    };
    return cmocka_run_group_tests(tests, local_start, local_stop);
}
