#include "local.h"

#include "stream/dead_letter.h"
#include "stream/delivery.h"

/* A request with the headers that clients use, and some that are nobody's business. */
static void ask(const char *topic, const char *value, const struct producer_header *headers, size_t count)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    struct producer_message message = {.topic = topic,
                                       .key = "u1",
                                       .key_size = 2,
                                       .value = value,
                                       .value_size = strlen(value),
                                       .headers = headers,
                                       .header_count = count};
    assert_ok(producer_send(producer, &message, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
}

static struct requests *join(const char *topic, bool transactional)
{
    struct error err;
    struct requests_settings settings = {.kafka = local_settings(),
                                         .topic = topic,
                                         .group_id = topic,
                                         .instance = topic,
                                         .transactional = transactional,
                                         .queue_capacity = 100};
    struct requests *requests;
    assert_ok(requests_start(&requests, &settings, &err));
    return requests;
}

static struct request *take(struct requests *requests)
{
    struct error err;
    for (int tries = 0; tries < 150; tries++) {
        struct request *request = requests_next(requests, 100);
        if (request != NULL)
            return request;
        if (!requests_alive(requests, &err))
            fail_msg("%s", err.message);
    }
    fail_msg("no request within 15 s");
    return NULL;
}

static struct delivery *deliver(struct requests *requests, const char *topic, bool exactly_once)
{
    struct error err;
    struct delivery_settings settings = {.kafka = local_settings(),
                                         .group_id = topic,
                                         .instance_id = "test",
                                         .requests_topic = topic,
                                         .dead_topic = "dead",
                                         .message_limit = 1 << 20,
                                         .exactly_once = exactly_once,
                                         .batch_requests = 10,
                                         .batch_ms = 20};
    struct delivery *delivery;
    assert_ok(delivery_create(&delivery, &settings, requests, &err));
    return delivery;
}

static struct producer_message answer_to(const struct request *request, const char *topic)
{
    return (struct producer_message){.topic = topic,
                                     .key = "id",
                                     .key_size = 2,
                                     .value = request->message->payload,
                                     .value_size = request->message->len};
}

static void an_answer_carries_the_headers_that_clients_wait_for_and_no_others(void **state)
{
    (void)state;
    struct error err;
    char much[DELIVERY_HEADER_LIMIT + 1];
    memset(much, 'x', sizeof much);
    const struct producer_header headers[] = {
        {"traceparent", "first", 5},        {"traceparent", "second", 6},   {"tracestate", "a=b", 3},
        {"kafka_correlationId", "\0\1", 2}, {"authorization", "secret", 6}, {"correlationId", much, sizeof much},
    };
    assert_ok(broker_create_topic(local_broker, "headers", 1, &err));
    assert_ok(broker_create_topic(local_broker, "headers-out", 1, &err));
    ask("headers", "hello", headers, sizeof headers / sizeof *headers);
    struct requests *requests = join("headers", false);
    struct delivery *delivery = deliver(requests, "headers", false);
    struct request *request = take(requests);
    struct producer_header own = {"model", "m", 1};
    struct producer_message message = answer_to(request, "headers-out");
    message.headers = &own;
    message.header_count = 1;
    assert_ok(delivery_answer(delivery, request, &message, &err));
    assert_ok(delivery_flush(delivery, 10000, &err));
    assert_int_equal(delivery_pending(delivery), 0);
    assert_int_equal(delivery_totals(delivery).answered, 1);
    delivery_destroy(delivery);
    requests_stop(requests);
    assert_int_equal(local_committed("headers", "headers", 0), 1);

    rd_kafka_t *reader = local_consumer("headers-out", 0, "headers-reader");
    rd_kafka_message_t *answer = local_consume(reader);
    assert_int_equal(answer->len, 5);
    assert_memory_equal(answer->payload, "hello", 5);
    assert_memory_equal(answer->key, "id", 2);
    assert_string_equal(local_header(answer, "model"), "m");
    assert_string_equal(local_header(answer, "traceparent"), "second");
    assert_string_equal(local_header(answer, "tracestate"), "a=b");
    rd_kafka_headers_t *all;
    const void *value;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(answer, &all), 0);
    assert_int_equal(rd_kafka_header_cnt(all), 4);
    assert_int_equal(rd_kafka_header_get_last(all, "kafka_correlationId", &value, &size), 0);
    assert_int_equal(size, 2);
    assert_memory_equal(value, "\0\1", 2);
    rd_kafka_message_destroy(answer);
    local_consumer_close(reader);
}

static void a_dead_letter_is_counted_by_its_class_and_commits_its_request(void **state)
{
    (void)state;
    struct error err;
    struct buffer packed = {.size = 0};
    assert_ok(broker_create_topic(local_broker, "buried", 1, &err));
    assert_ok(broker_create_topic(local_broker, "buried.dead", 1, &err));
    ask("buried", "rubbish", NULL, 0);
    struct requests *requests = join("buried", false);
    struct delivery *delivery = deliver(requests, "buried", false);
    struct request *request = take(requests);
    assert_ok(dead_letter_pack(request->message, DEAD_SEMANTIC, "means nothing", 1 << 20, &packed, &err));
    assert_ok(delivery_dead_letter(delivery, request, "buried.dead", buffer_text(&packed), &err));
    buffer_free(&packed);
    assert_ok(delivery_flush(delivery, 10000, &err));
    struct delivery_totals totals = delivery_totals(delivery);
    assert_int_equal(totals.answered, 0);
    assert_int_equal(totals.dead_letters, 1);
    assert_int_equal(totals.dead_classes[DEAD_SEMANTIC], 1);
    delivery_destroy(delivery);
    requests_stop(requests);
    assert_int_equal(local_committed("buried", "buried", 0), 1);
}

static void an_answer_of_a_partition_that_was_taken_away_is_dropped(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "moved", 1, &err));
    assert_ok(broker_create_topic(local_broker, "moved-out", 1, &err));
    ask("moved", "hello", NULL, 0);
    struct requests *first = join("moved", false);
    struct delivery *delivery = deliver(first, "moved", false);
    struct request *request = take(first);
    assert_true(requests_ours(request));
    struct requests *second = join("moved", false); /* the group shares out anew: what was taken is nobody's */
    for (int tries = 0; tries < 1500 && requests_ours(request); tries++)
        usleep(10000);
    assert_false(requests_ours(request));
    struct producer_message message = answer_to(request, "moved-out");
    assert_ok(delivery_answer(delivery, request, &message, &err));
    assert_int_equal(delivery_totals(delivery).dropped, 1);
    assert_int_equal(delivery_pending(delivery), 0);
    delivery_destroy(delivery);
    requests_stop(first);
    requests_stop(second);
    assert_int_equal(local_committed("moved", "moved", 0), -1);
    rd_kafka_t *reader = local_consumer("moved-out", 0, "moved-reader");
    assert_true(local_is_silent(reader, 500));
    local_consumer_close(reader);
}

static void a_broker_that_does_not_honour_transactions_is_refused_before_an_answer_leaves(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "facade", 1, &err));
    assert_ok(broker_create_topic(local_broker, "facade-out", 1, &err));
    ask("facade", "hello", NULL, 0);
    struct requests *requests = join("facade", true);
    struct delivery *delivery = deliver(requests, "facade", true);
    struct request *request = take(requests);
    struct producer_message message = answer_to(request, "facade-out");
    assert_ok(delivery_answer(delivery, request, &message, &err));
    int rc = 0;
    for (int tries = 0; tries < 300 && rc == 0; tries++)
        rc = delivery_poll(delivery, 100, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "does not honour"));
    assert_non_null(strstr(err.message, "at_least_once"));
    assert_int_equal(delivery_flush(delivery, 1000, &err), -1);
    assert_int_equal(delivery_totals(delivery).answered, 0);
    assert_int_equal(delivery_totals(delivery).transactions, 0);
    delivery_destroy(delivery);
    requests_stop(requests);
    assert_int_equal(local_committed("facade", "facade", 0), -1);
    rd_kafka_t *reader = local_consumer("facade-out", 0, "facade-reader");
    assert_true(local_is_silent(reader, 500));
    local_consumer_close(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_carries_the_headers_that_clients_wait_for_and_no_others),
        cmocka_unit_test(a_dead_letter_is_counted_by_its_class_and_commits_its_request),
        cmocka_unit_test(an_answer_of_a_partition_that_was_taken_away_is_dropped),
        cmocka_unit_test(a_broker_that_does_not_honour_transactions_is_refused_before_an_answer_leaves),
    };
    return cmocka_run_group_tests(tests, local_start, local_stop);
}
