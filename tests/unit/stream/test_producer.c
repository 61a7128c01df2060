#include "local.h"

enum { COUNT = 500 };

struct reports {
    int times[COUNT];
    int64_t last_offset[2];
    struct error error;
    int failed;
    bool in_order;
};

static void report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                   const struct error *error)
{
    struct reports *reports = context;
    reports->times[(intptr_t)opaque]++;
    if (error != NULL) {
        reports->error = *error;
        reports->failed++;
        return;
    }
    assert_string_equal(topic, "out");
    reports->in_order &= offset > reports->last_offset[partition];
    reports->last_offset[partition] = offset;
}

static struct producer *create(struct reports *reports, struct property more)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct property properties[LOCAL_PROPERTIES + 1];
    memcpy(properties, settings.properties, LOCAL_PROPERTIES * sizeof *properties);
    properties[LOCAL_PROPERTIES] = more;
    settings = (struct kafka_settings){properties, LOCAL_PROPERTIES + 1, "test"};
    *reports = (struct reports){.last_offset = {-1, -1}, .in_order = true};
    struct producer *producer;
    assert_ok(producer_create(&producer, &settings, report, reports, &err));
    return producer;
}

static struct producer_message numbered(intptr_t number, char key[16])
{
    int size = snprintf(key, 16, "user-%d", (int)number);
    return (struct producer_message){.topic = "out",
                                     .key = key,
                                     .key_size = (size_t)size,
                                     .value = key,
                                     .value_size = (size_t)size,
                                     .opaque = (void *)number};
}

static void every_message_is_reported_once(void **state)
{
    (void)state;
    struct error err;
    struct reports reports;
    char key[16];
    struct producer *producer = create(&reports, (struct property){"linger.ms", "1"});
    for (intptr_t i = 0; i < COUNT; i++) {
        struct producer_message message = numbered(i, key);
        assert_ok(producer_send(producer, &message, &err));
    }
    assert_ok(producer_flush(producer, 10000, &err));
    assert_int_equal(producer_pending(producer), 0);
    assert_int_equal(producer_poll(producer, 0), 0);
    assert_int_equal(reports.failed, 0);
    assert_true(reports.in_order);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(reports.times[i], 1);
    assert_int_equal(reports.last_offset[0] + reports.last_offset[1] + 2, COUNT);
    producer_destroy(producer);
}

/* What Java producers partition by (org.apache.kafka.common.utils.Utils.murmur2), apart from librdkafka's. */
static uint32_t murmur2(const uint8_t *data, size_t size)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ (uint32_t)size;
    size_t i = 0;
    for (; i + 4 <= size; i += 4) {
        uint32_t k =
            (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 | (uint32_t)data[i + 3] << 24;
        k *= m;
        k ^= k >> 24;
        h = h * m ^ k * m;
    }
    uint32_t tail = 0;
    for (size_t j = size; j > i; j--)
        tail = tail << 8 | data[j - 1];
    if (size > i)
        h = (h ^ tail) * m;
    h ^= h >> 13;
    h *= m;
    return h ^ h >> 15;
}

static void keys_go_where_java_producers_put_them(void **state)
{
    (void)state;
    for (int32_t partition = 0; partition < 2; partition++) {
        rd_kafka_t *consumer = local_consumer("out", partition, "readers");
        for (int i = 0; i < 50; i++) {
            rd_kafka_message_t *message = local_consume(consumer);
            uint32_t hash = murmur2(message->key, message->key_len) & 0x7fffffff;
            assert_int_equal(hash % 2, partition);
            rd_kafka_message_destroy(message);
        }
        local_consumer_close(consumer);
    }
}

static void nulls_empties_headers_and_times_arrive_as_they_were_sent(void **state)
{
    (void)state;
    struct error err;
    struct reports reports;
    assert_ok(broker_create_topic(local_broker, "headers", 1, &err));
    struct producer *producer = create(&reports, (struct property){"linger.ms", "1"});
    const struct producer_header headers[] = {{"a", "one", 3}, {"null", NULL, 0}, {"empty", "", 0}};
    struct producer_message tombstone = {.topic = "headers",
                                         .key = "k",
                                         .key_size = 1,
                                         .headers = headers,
                                         .header_count = 3,
                                         .timestamp_ms = 874724710000};
    struct producer_message empty = {.topic = "headers", .value = "", .value_size = 0};
    producer_destroy(producer);

    struct kafka_settings settings = local_settings();
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    assert_ok(producer_send(producer, &tombstone, &err));
    assert_ok(producer_send(producer, &empty, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);

    rd_kafka_t *consumer = local_consumer("headers", 0, "readers");
    rd_kafka_message_t *message = local_consume(consumer);
    assert_null(message->payload);
    assert_int_equal(message->key_len, 1);
    assert_int_equal(rd_kafka_message_timestamp(message, NULL), 874724710000);
    rd_kafka_headers_t *got;
    const char *name;
    const void *value;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(message, &got), 0);
    assert_int_equal(rd_kafka_header_cnt(got), 3);
    assert_int_equal(rd_kafka_header_get_all(got, 1, &name, &value, &size), 0);
    assert_string_equal(name, "null");
    assert_null(value);
    assert_int_equal(rd_kafka_header_get_all(got, 2, &name, &value, &size), 0);
    assert_non_null(value);
    assert_int_equal(size, 0);
    rd_kafka_message_destroy(message);
    message = local_consume(consumer);
    assert_non_null(message->payload);
    assert_int_equal(message->len, 0);
    assert_null(message->key);
    rd_kafka_message_destroy(message);
    local_consumer_close(consumer);
}

static void a_message_that_is_too_large_is_the_messages_fault(void **state)
{
    (void)state;
    struct error err;
    struct reports reports;
    static char large[5000];
    struct producer *producer = create(&reports, (struct property){"message.max.bytes", "4000"});
    assert_int_equal(producer_size_limit(producer), 4000);
    struct producer_message message = {.topic = "out", .value = large, .value_size = sizeof large};
    assert_int_equal(producer_send(producer, &message, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_int_equal(producer_pending(producer), 0);
    producer_destroy(producer);
}

static void a_full_queue_asks_to_come_again_and_loses_nothing(void **state)
{
    (void)state;
    struct error err;
    struct reports reports;
    char key[16];
    int full = 0;
    struct producer *producer = create(&reports, (struct property){"queue.buffering.max.messages", "10"});
    for (intptr_t i = 0; i < 100; i++) {
        struct producer_message message = numbered(i, key);
        while (producer_send(producer, &message, &err) != 0) {
            assert_int_equal(err.kind, ERROR_RETRY);
            full++;
            producer_poll(producer, 100);
        }
    }
    assert_ok(producer_flush(producer, 10000, &err));
    assert_true(full > 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(reports.times[i], 1);
    producer_destroy(producer);
}

static void an_outage_delays_and_flush_tells_what_is_left(void **state)
{
    (void)state;
    struct error err;
    struct property away[] = {{"bootstrap.servers", "127.0.0.1:1"}, {"log_level", "0"}};
    struct kafka_settings settings = {away, 2, "test"};
    struct reports reports = {.failed = 0};
    struct producer *producer;
    char key[16];
    assert_ok(producer_create(&producer, &settings, report, &reports, &err));
    struct producer_message message = numbered(1, key);
    assert_ok(producer_send(producer, &message, &err));
    assert_int_equal(producer_flush(producer, 300, &err), -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    assert_int_equal(producer_pending(producer), 1);
    assert_int_equal(reports.times[1], 0);
    producer_destroy(producer);
}

static int start(void **state)
{
    struct error err;
    return local_start(state) || broker_create_topic(local_broker, "out", 2, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_is_reported_once),
        cmocka_unit_test(keys_go_where_java_producers_put_them),
        cmocka_unit_test(nulls_empties_headers_and_times_arrive_as_they_were_sent),
        cmocka_unit_test(a_message_that_is_too_large_is_the_messages_fault),
        cmocka_unit_test(a_full_queue_asks_to_come_again_and_loses_nothing),
        cmocka_unit_test(an_outage_delays_and_flush_tells_what_is_left),
    };
    return cmocka_run_group_tests(tests, start, local_stop);
}
