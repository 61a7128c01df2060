#include "local.h"

#include "stream/dead_letter.h"

enum { LARGE = 5000 };
static char large[LARGE];

/* Sends a message and gets it back as a consumer does. */
static rd_kafka_message_t *round_trip(const char *topic, const struct producer_message *content, rd_kafka_t **consumer)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    assert_ok(broker_create_topic(local_broker, topic, 1, &err));
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    struct producer_message message = *content;
    message.topic = topic;
    assert_ok(producer_send(producer, &message, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
    *consumer = local_consumer(topic, 0, "readers");
    return local_consume(*consumer);
}

/* The letter as a reader of the dead-letter topic finds it. */
static rd_kafka_message_t *deliver(const char *topic, const struct buffer *letter, rd_kafka_t **consumer)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    assert_ok(broker_create_topic(local_broker, topic, 1, &err));
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    assert_ok(dead_letter_send(producer, topic, buffer_text(letter), NULL, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
    *consumer = local_consumer(topic, 0, "readers");
    return local_consume(*consumer);
}

static void a_letter_holds_the_message_and_where_it_came_from(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0};
    rd_kafka_t *from, *to;
    const struct producer_header headers[] = {{"trace", "abc", 3}, {"nothing", NULL, 0}};
    const struct producer_message content = {
        .key = "user-1", .key_size = 6, .value = "\0\xff bad", .value_size = 6, .headers = headers, .header_count = 2};
    rd_kafka_message_t *message = round_trip("plain", &content, &from);
    assert_ok(dead_letter_pack(message, DEAD_FRAMING, "no framing that we know", 1000000, &letter, &err));
    rd_kafka_message_destroy(message);

    message = deliver("plain.dead", &letter, &to);
    assert_int_equal(message->len, 6);
    assert_memory_equal(message->payload, "\0\xff bad", 6);
    assert_int_equal(message->key_len, 6);
    assert_memory_equal(message->key, "user-1", 6);
    assert_string_equal(local_header(message, "trace"), "abc");
    assert_string_equal(local_header(message, "__connect.errors.topic"), "plain");
    assert_string_equal(local_header(message, "__connect.errors.partition"), "0");
    assert_string_equal(local_header(message, "__connect.errors.offset"), "0");
    assert_string_equal(local_header(message, "__connect.errors.stage"), "VALUE_CONVERTER");
    assert_string_equal(local_header(message, "__connect.errors.exception.class.name"), "headrace.framing");
    assert_string_equal(local_header(message, "__connect.errors.exception.message"), "no framing that we know");
    assert_string_equal(local_header(message, "headrace.error.class"), "framing");
    assert_string_equal(local_header(message, "headrace.truncated"), "");
    rd_kafka_headers_t *got;
    const char *name;
    const void *value;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(message, &got), 0);
    assert_int_equal(rd_kafka_header_get_all(got, 1, &name, &value, &size), 0);
    assert_string_equal(name, "nothing");
    assert_null(value);
    rd_kafka_message_destroy(message);
    local_consumer_close(to);
    local_consumer_close(from);
    buffer_free(&letter);
}

static void a_null_value_stays_null(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0};
    rd_kafka_t *from, *to;
    rd_kafka_message_t *message = round_trip("null", &(struct producer_message){.key = "", .key_size = 0}, &from);
    assert_ok(dead_letter_pack(message, DEAD_SEMANTIC, "the item id is empty", 1000000, &letter, &err));
    rd_kafka_message_destroy(message);
    message = deliver("null.dead", &letter, &to);
    assert_null(message->payload);
    assert_non_null(message->key);
    assert_int_equal(message->key_len, 0);
    assert_string_equal(local_header(message, "__connect.errors.stage"), "TASK_PUT");
    rd_kafka_message_destroy(message);
    local_consumer_close(to);
    local_consumer_close(from);
    buffer_free(&letter);
}

static void framing_by_a_header_is_named(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0};
    rd_kafka_t *from, *to;
    const struct producer_header header = {"__value_schema_id", "\1", 1};
    const struct producer_message content = {.value = "x", .value_size = 1, .headers = &header, .header_count = 1};
    rd_kafka_message_t *message = round_trip("guid", &content, &from);
    assert_ok(dead_letter_pack(message, DEAD_FRAMING, "no framing that we know", 1000000, &letter, &err));
    rd_kafka_message_destroy(message);
    message = deliver("guid.dead", &letter, &to);
    assert_non_null(strstr(local_header(message, "__connect.errors.exception.message"), "__value_schema_id"));
    rd_kafka_message_destroy(message);
    local_consumer_close(to);
    local_consumer_close(from);
    buffer_free(&letter);
}

static size_t size_of(const rd_kafka_message_t *message)
{
    size_t total = message->len + message->key_len;
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == 0; i++)
        total += strlen(name) + size;
    return total;
}

static void a_letter_beyond_the_limit_is_cut_and_marked(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0}, shorter = {.size = 0};
    rd_kafka_t *from, *to;
    memset(large, 'x', sizeof large);
    const struct producer_header header = {"trace", "abc", 3};
    const struct producer_message content = {
        .key = "key", .key_size = 3, .value = large, .value_size = LARGE, .headers = &header, .header_count = 1};
    rd_kafka_message_t *message = round_trip("large", &content, &from);
    assert_ok(dead_letter_pack(message, DEAD_TOO_LARGE, "too large", 2000, &letter, &err));
    rd_kafka_message_destroy(message);
    message = deliver("large.dead", &letter, &to);
    assert_in_range(size_of(message), 1500, 2000);
    assert_true(message->len > 1000 && message->len < 2000);
    assert_memory_equal(message->payload, large, message->len);
    assert_memory_equal(message->key, "key", 3);
    assert_string_equal(local_header(message, "trace"), "abc");
    assert_string_equal(local_header(message, "headrace.truncated"), "5011");
    rd_kafka_message_destroy(message);
    local_consumer_close(to);

    /* Cut once more it still tells the first size. */
    assert_ok(dead_letter_cut(buffer_text(&letter), 1000, &shorter, &err));
    message = deliver("larger.dead", &shorter, &to);
    assert_true(size_of(message) <= 1000);
    assert_string_equal(local_header(message, "headrace.truncated"), "5011");
    assert_string_equal(local_header(message, "headrace.error.class"), "too_large");
    rd_kafka_message_destroy(message);
    local_consumer_close(to);
    local_consumer_close(from);
    buffer_free(&shorter);
    buffer_free(&letter);
}

static void more_headers_than_a_letter_holds_are_cut_and_marked(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0};
    rd_kafka_t *from, *to;
    struct producer_header headers[200];
    for (size_t i = 0; i < 200; i++)
        headers[i] = (struct producer_header){"many", "v", 1};
    const struct producer_message content = {.value = "x", .value_size = 1, .headers = headers, .header_count = 200};
    rd_kafka_message_t *message = round_trip("many", &content, &from);
    assert_ok(dead_letter_pack(message, DEAD_DECODE, "r", 1000000, &letter, &err));
    rd_kafka_message_destroy(message);
    message = deliver("many.dead", &letter, &to);
    assert_memory_equal(message->payload, "x", 1);
    assert_string_not_equal(local_header(message, "headrace.truncated"), "");
    assert_string_equal(local_header(message, "headrace.error.class"), "decode");
    rd_kafka_message_destroy(message);
    local_consumer_close(to);
    local_consumer_close(from);
    buffer_free(&letter);
}

/* Every shorter prefix, and every single byte changed, is refused or read inside its bytes (AddressSanitizer). */
static void damaged_letters_are_refused(void **state)
{
    (void)state;
    struct error err;
    struct buffer letter = {.size = 0}, out = {.size = 0};
    rd_kafka_t *from;
    rd_kafka_message_t *message =
        round_trip("damaged", &(struct producer_message){.value = "v", .value_size = 1}, &from);
    assert_ok(dead_letter_pack(message, DEAD_DECODE, "reason", 1000000, &letter, &err));
    rd_kafka_message_destroy(message);
    local_consumer_close(from);

    for (size_t size = 0; size < letter.size; size++) {
        char *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, letter.data, size);
        char *exact = realloc(copy, size > 0 ? size : 1);
        assert_int_equal(dead_letter_cut((struct text){exact, size}, 1000, &out, &err), -1);
        assert_int_equal(err.kind, ERROR_BAD_INPUT);
        free(exact);
    }
    for (size_t i = 0; i < letter.size; i++)
        for (int bit = 0; bit < 8; bit += 7) {
            char *copy = malloc(letter.size);
            assert_non_null(copy);
            memcpy(copy, letter.data, letter.size);
            copy[i] = (char)(copy[i] ^ 1 << bit);
            buffer_clear(&out);
            if (dead_letter_cut((struct text){copy, letter.size}, 1000000, &out, &err) != 0)
                assert_int_equal(err.kind, ERROR_BAD_INPUT);
            free(copy);
        }
    buffer_free(&out);
    buffer_free(&letter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_holds_the_message_and_where_it_came_from),
        cmocka_unit_test(a_null_value_stays_null),
        cmocka_unit_test(framing_by_a_header_is_named),
        cmocka_unit_test(a_letter_beyond_the_limit_is_cut_and_marked),
        cmocka_unit_test(more_headers_than_a_letter_holds_are_cut_and_marked),
        cmocka_unit_test(damaged_letters_are_refused),
    };
    return cmocka_run_group_tests(tests, local_start, local_stop);
}
