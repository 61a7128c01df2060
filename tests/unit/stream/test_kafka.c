#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "local.h"

static int create(struct property property, rd_kafka_type_t type, struct error *err)
{
    static const struct property forced[] = {{"enable.auto.commit", "false"}, {"message.timeout.ms", "0"}};
    struct kafka_settings settings = {&property, 1, "test"};
    rd_kafka_t *client;
    int rc =
        kafka_create_client(&client, type, &settings, forced + (type == RD_KAFKA_PRODUCER), 1, NULL, NULL, NULL, err);
    if (rc == 0)
        rd_kafka_destroy(client);
    return rc;
}

static void unknown_properties_and_bad_values_are_refused_by_name(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(create((struct property){"bootstrap.server", "x"}, RD_KAFKA_CONSUMER, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "bootstrap.server"));
    assert_int_equal(create((struct property){"linger.ms", "soon"}, RD_KAFKA_PRODUCER, &err), -1);
    assert_non_null(strstr(err.message, "linger.ms"));
}

static void a_contradiction_is_found_in_any_spelling(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(create((struct property){"enable.auto.commit", "true"}, RD_KAFKA_CONSUMER, &err), -1);
    assert_int_equal(create((struct property){"enable.auto.commit", "1"}, RD_KAFKA_CONSUMER, &err), -1);
    assert_int_equal(create((struct property){"delivery.timeout.ms", "5000"}, RD_KAFKA_PRODUCER, &err), -1);
    assert_non_null(strstr(err.message, "message.timeout.ms"));
    assert_ok(create((struct property){"enable.auto.commit", "0"}, RD_KAFKA_CONSUMER, &err));
}

static void one_list_serves_producers_and_consumers(void **state)
{
    (void)state;
    struct error err;
    assert_ok(create((struct property){"linger.ms", "5"}, RD_KAFKA_CONSUMER, &err));
    assert_ok(create((struct property){"max.poll.interval.ms", "400000"}, RD_KAFKA_PRODUCER, &err));
}

static void defaults_give_way_to_the_user(void **state)
{
    (void)state;
    struct property user[] = {{"a", "2"}, {"b", "3"}};
    struct kafka_settings settings = {user, 2, NULL};
    size_t count;
    struct property *list =
        kafka_properties_over(&(struct property){"a", "1"}, 1, &settings, (const char *const[]){"b"}, 1, &count);
    assert_non_null(list);
    struct kafka_settings both = {list, count, NULL};
    assert_int_equal(count, 2);
    assert_string_equal(kafka_property_value(&both, "a"), "2");
    assert_null(kafka_property_value(&both, "b"));
    free(list);
}

static void partitions_are_counted_and_a_missing_broker_is_worth_a_retry(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "three", 3, &err));
    assert_int_equal(broker_create_topic(local_broker, "three", 3, &err), -1);
    struct kafka_settings settings = local_settings();
    rd_kafka_t *client;
    int32_t partitions;
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, NULL, 0, NULL, NULL, NULL, &err));
    assert_ok(kafka_partition_count(client, "three", 10000, &partitions, &err));
    assert_int_equal(partitions, 3);
    rd_kafka_destroy(client);

    struct property away[] = {{"bootstrap.servers", "127.0.0.1:1"}, {"log_level", "0"}};
    settings = (struct kafka_settings){away, 2, "test"};
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, NULL, 0, NULL, NULL, NULL, &err));
    assert_int_equal(kafka_partition_count(client, "three", 200, &partitions, &err), -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    assert_int_equal(partitions, -1);
    rd_kafka_destroy(client);
}

/* The mock makes every topic that is asked for, so it is told to deny them. */
static void a_missing_topic_and_a_forbidden_one_are_told_apart(void **state)
{
    (void)state;
    struct error err;
    struct property property = {"test.mock.num.brokers", "1"};
    struct kafka_settings settings = {&property, 1, "test"};
    rd_kafka_t *client;
    int32_t partitions;
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, NULL, 0, NULL, NULL, NULL, &err));
    rd_kafka_mock_cluster_t *cluster = rd_kafka_handle_mock_cluster(client);
    rd_kafka_mock_topic_set_error(cluster, "missing", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    assert_int_equal(kafka_partition_count(client, "missing", 3000, &partitions, &err), -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    assert_int_equal(partitions, 0);
    rd_kafka_mock_topic_set_error(cluster, "forbidden", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_int_equal(kafka_partition_count(client, "forbidden", 10000, &partitions, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "forbidden"));
    rd_kafka_destroy(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_properties_and_bad_values_are_refused_by_name),
        cmocka_unit_test(a_contradiction_is_found_in_any_spelling),
        cmocka_unit_test(one_list_serves_producers_and_consumers),
        cmocka_unit_test(defaults_give_way_to_the_user),
        cmocka_unit_test(partitions_are_counted_and_a_missing_broker_is_worth_a_retry),
        cmocka_unit_test(a_missing_topic_and_a_forbidden_one_are_told_apart),
    };
    return cmocka_run_group_tests(tests, local_start, local_stop);
}
