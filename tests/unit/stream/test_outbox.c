#include "local.h"

#include <ftw.h>

#include <librdkafka/rdkafka_mock.h>

#include "graph/graph.h"
#include "stream/dead_letter.h"
#include "stream/outbox.h"

/* A cluster of its own, to which refusals can be taught. */
struct cluster {
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *mock;
    char directory[64];
    struct graph *graph;
    struct outbox *outbox;
};

enum { PRODUCE = 0 /* API key */, LETTER = 6000 };

static int set_up(void **state)
{
    static struct cluster cluster;
    struct error err;
    static struct property quiet = {"log_level", "3"};
    struct kafka_settings host = {&quiet, 1, "host"};
    assert_ok(kafka_create_client(&cluster.host, RD_KAFKA_PRODUCER, &host, NULL, 0, NULL, NULL, NULL, &err));
    cluster.mock = rd_kafka_mock_cluster_new(cluster.host, 1);
    snprintf(cluster.directory, sizeof cluster.directory, "/tmp/headrace-outbox-XXXXXX");
    assert_non_null(mkdtemp(cluster.directory));
    struct graph_settings settings = {
        .directory = cluster.directory, .like_threshold = 4, .layers = 1, .dimension = 16, .push_threshold = 0.1f};
    assert_ok(graph_open(&cluster.graph, &settings, &err));
    *state = &cluster;
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct cluster *cluster = *state;
    graph_close(cluster->graph);
    rd_kafka_mock_cluster_destroy(cluster->mock);
    rd_kafka_destroy(cluster->host);
    return nftw(cluster->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static struct kafka_settings settings_of(const struct cluster *cluster)
{
    static struct property properties[2];
    properties[0] = (struct property){"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster->mock)};
    properties[1] = (struct property){"fetch.wait.max.ms", "10"};
    return (struct kafka_settings){properties, 2, "test"};
}

static rd_kafka_t *reader_of(struct cluster *cluster, const char *topic)
{
    struct error err;
    struct kafka_settings settings = settings_of(cluster);
    struct property forced[] = {{"group.id", "readers"}};
    rd_kafka_t *client;
    assert_ok(kafka_create_client(&client, RD_KAFKA_CONSUMER, &settings, forced, 1, NULL, NULL, NULL, &err));
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    assert_int_equal(rd_kafka_assign(client, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    return client;
}

/* Puts one letter about a message that went over the cluster, committed, and an outbox to deliver it. */
static void put_letter(struct cluster *cluster, const char *topic)
{
    struct error err;
    static char large[LETTER];
    char dead[64];
    snprintf(dead, sizeof dead, "%s.dead", topic);
    rd_kafka_mock_topic_create(cluster->mock, topic, 1, 1);
    rd_kafka_mock_topic_create(cluster->mock, dead, 1, 1);
    struct kafka_settings settings = settings_of(cluster);
    struct producer *producer;
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    struct producer_message message = {.topic = topic, .value = large, .value_size = sizeof large};
    assert_ok(producer_send(producer, &message, &err));
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
    rd_kafka_t *reader = reader_of(cluster, topic);
    rd_kafka_message_t *bad = local_consume(reader);
    assert_ok(outbox_open(&cluster->outbox, &settings, ".dead", cluster->graph, &err));
    assert_ok(outbox_put(cluster->outbox, bad, DEAD_DECODE, "bad", &err));
    assert_ok(graph_commit(cluster->graph, &err));
    outbox_committed(cluster->outbox);
    rd_kafka_message_destroy(bad);
    local_consumer_close(reader);
}

static bool work_until_idle(struct cluster *cluster, int ms)
{
    struct error err;
    int64_t start = clock_monotonic_ns();
    while (!outbox_idle(cluster->outbox) && clock_since_ms(start) < ms) {
        assert_ok(outbox_work(cluster->outbox, &err));
        if (graph_staged(cluster->graph) > 0) {
            assert_ok(graph_commit(cluster->graph, &err));
            outbox_committed(cluster->outbox);
        }
        usleep(2000);
    }
    return outbox_idle(cluster->outbox);
}

static void a_topic_that_takes_less_gets_a_shorter_letter(void **state)
{
    struct cluster *cluster = *state;
    put_letter(cluster, "less");
    rd_kafka_mock_push_request_errors(cluster->mock, PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_true(work_until_idle(cluster, 20000));
    rd_kafka_t *reader = reader_of(cluster, "less.dead");
    rd_kafka_message_t *letter = local_consume(reader);
    assert_in_range(letter->len, 2000, 3200); /* half of it */
    assert_string_equal(local_header(letter, "headrace.truncated"), "6000");
    rd_kafka_message_destroy(letter);
    assert_true(local_is_silent(reader, 200));
    local_consumer_close(reader);
    outbox_close(cluster->outbox);
}

static void letters_that_are_too_large_together_go_one_by_one(void **state)
{
    struct cluster *cluster = *state;
    struct error err;
    put_letter(cluster, "together");
    rd_kafka_t *reader = reader_of(cluster, "together");
    rd_kafka_message_t *bad = local_consume(reader);
    for (int64_t offset = 1; offset < 10; offset++) {
        bad->offset = offset;
        assert_ok(outbox_put(cluster->outbox, bad, DEAD_DECODE, "bad", &err));
    }
    assert_ok(graph_commit(cluster->graph, &err));
    outbox_committed(cluster->outbox);
    rd_kafka_message_destroy(bad);
    local_consumer_close(reader);

    rd_kafka_mock_push_request_errors(cluster->mock, PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_true(work_until_idle(cluster, 20000));
    reader = reader_of(cluster, "together.dead");
    for (int i = 0; i < 10; i++) {
        char offset[4];
        snprintf(offset, sizeof offset, "%d", i);
        rd_kafka_message_t *letter = local_consume(reader);
        assert_string_equal(local_header(letter, "__connect.errors.offset"), offset);
        assert_int_equal(letter->len, LETTER);
        rd_kafka_message_destroy(letter);
    }
    assert_true(local_is_silent(reader, 200));
    local_consumer_close(reader);
    outbox_close(cluster->outbox);
}

static void what_is_not_delivered_stays_for_the_next_time(void **state)
{
    struct cluster *cluster = *state;
    struct error err;
    put_letter(cluster, "later");
    rd_kafka_mock_broker_set_down(cluster->mock, 1);
    assert_false(work_until_idle(cluster, 300));
    outbox_close(cluster->outbox);
    rd_kafka_mock_broker_set_up(cluster->mock, 1);

    struct kafka_settings settings = settings_of(cluster);
    assert_ok(outbox_open(&cluster->outbox, &settings, ".dead", cluster->graph, &err));
    assert_true(work_until_idle(cluster, 10000));
    rd_kafka_t *reader = reader_of(cluster, "later.dead");
    rd_kafka_message_t *letter = local_consume(reader);
    assert_int_equal(letter->len, LETTER);
    assert_string_equal(local_header(letter, "headrace.truncated"), "");
    rd_kafka_message_destroy(letter);
    assert_true(local_is_silent(reader, 200));
    local_consumer_close(reader);
    outbox_close(cluster->outbox);
}

static void a_topic_that_we_may_not_write_is_fatal(void **state)
{
    struct cluster *cluster = *state;
    struct error err;
    put_letter(cluster, "forbidden");
    rd_kafka_mock_push_request_errors(cluster->mock, PRODUCE, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    int rc = 0;
    for (int tries = 0; tries < 1000 && rc == 0; tries++) {
        rc = outbox_work(cluster->outbox, &err);
        usleep(5000);
    }
    assert_int_equal(rc, -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "forbidden.dead"));
    outbox_close(cluster->outbox);
}

#define ON_A_CLUSTER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_CLUSTER(a_topic_that_takes_less_gets_a_shorter_letter),
        ON_A_CLUSTER(letters_that_are_too_large_together_go_one_by_one),
        ON_A_CLUSTER(what_is_not_delivered_stays_for_the_next_time),
        ON_A_CLUSTER(a_topic_that_we_may_not_write_is_fatal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
