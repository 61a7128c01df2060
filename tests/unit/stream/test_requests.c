#include "local.h"

#include "stream/requests.h"

enum { MANY = 2000 };

static void send_numbers(const char *topic, int first, int count)
{
    struct error err;
    struct kafka_settings settings = local_settings();
    struct producer *producer;
    assert_ok(producer_create(&producer, &settings, NULL, NULL, &err));
    for (int i = first; i < first + count; i++) {
        char key[16];
        int size = snprintf(key, sizeof key, "user-%d", i % 7);
        struct producer_message message = {
            .topic = topic, .key = key, .key_size = (size_t)size, .value = &i, .value_size = sizeof i};
        assert_ok(producer_send(producer, &message, &err));
    }
    assert_ok(producer_flush(producer, 10000, &err));
    producer_destroy(producer);
}

static struct requests *join(const char *topic, size_t capacity)
{
    struct error err;
    struct requests_settings settings = {
        .kafka = local_settings(), .topic = topic, .group_id = topic, .queue_capacity = capacity};
    struct requests *requests;
    assert_ok(requests_start(&requests, &settings, &err));
    return requests;
}

static int number_of(const struct request *request)
{
    int number;
    assert_int_equal(request->message->len, sizeof number);
    memcpy(&number, request->message->payload, sizeof number);
    return number;
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

static void wait_for_committed(struct requests *requests, uint64_t count)
{
    for (int tries = 0; tries < 500 && requests_progress(requests).committed < count; tries++)
        usleep(10000);
    assert_int_equal(requests_progress(requests).committed, count);
}

static void only_the_contiguous_prefix_is_committed_and_a_restart_goes_on_there(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "prefix", 1, &err));
    send_numbers("prefix", 0, 10);
    struct requests *requests = join("prefix", 100);
    struct request *taken[10];
    for (int i = 0; i < 10; i++) {
        taken[i] = take(requests);
        assert_int_equal(number_of(taken[i]), i);
        assert_int_equal(taken[i]->message->offset, i);
        assert_true(taken[i]->arrived_ns > 0);
    }
    for (int i = 9; i > 4; i--) /* done behind a gap */
        requests_done(taken[i]);
    usleep(300000);
    assert_int_equal(requests_progress(requests).committed, 0);
    for (int i = 0; i < 3; i++)
        requests_done(taken[i]);
    wait_for_committed(requests, 3);
    assert_int_equal(local_committed("prefix", "prefix", 0), 3);
    requests_done(taken[3]);
    requests_abandon(taken[4]);
    int64_t start = clock_monotonic_ns();
    requests_stop(requests); /* commits the last of it */
    assert_true(clock_since_ms(start) < 2000);
    assert_int_equal(local_committed("prefix", "prefix", 0), 4);

    requests = join("prefix", 100);
    for (int i = 4; i < 10; i++) {
        struct request *request = take(requests);
        assert_int_equal(number_of(request), i);
        requests_done(request);
    }
    wait_for_committed(requests, 6);
    requests_stop(requests);
    assert_int_equal(local_committed("prefix", "prefix", 0), 10);
}

static void a_full_queue_pauses_and_resumes_without_loss_or_repeats(void **state)
{
    (void)state;
    struct error err;
    static int times[MANY];
    int64_t next[3] = {0, 0, 0};
    bool was_paused = false;
    assert_ok(broker_create_topic(local_broker, "many", 3, &err));
    send_numbers("many", 0, MANY);
    struct requests *requests = join("many", 4);
    for (int i = 0; i < MANY; i++) {
        struct request *request = take(requests);
        times[number_of(request)]++;
        int32_t partition = request->message->partition;
        assert_int_equal(request->message->offset, next[partition]);
        next[partition]++;
        if (i % 500 == 0)
            usleep(150000); /* time enough to fill the queue */
        struct requests_progress progress = requests_progress(requests);
        assert_true(progress.waiting <= 4);
        was_paused |= progress.paused;
        requests_done(request);
    }
    assert_true(was_paused);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(times[i], 1);
    assert_null(requests_next(requests, 100));
    wait_for_committed(requests, MANY);
    assert_int_equal(requests_progress(requests).taken, MANY);
    requests_stop(requests);
    for (int32_t i = 0; i < 3; i++)
        if (next[i] > 0)
            assert_int_equal(local_committed("many", "many", i), next[i]);
}

static void after_pause_only_the_queue_is_left(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "pause", 1, &err));
    send_numbers("pause", 0, 20);
    struct requests *requests = join("pause", 5);
    requests_done(take(requests));
    requests_pause(requests);
    size_t waiting = requests_progress(requests).waiting;
    send_numbers("pause", 20, 20);
    for (size_t i = 0; i < waiting; i++)
        requests_done(take(requests));
    assert_null(requests_next(requests, 300));
    requests_stop(requests);
    assert_int_equal(local_committed("pause", "pause", 0), 1 + (int64_t)waiting);
}

static void what_another_member_took_over_is_not_committed_by_us(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "shared", 2, &err));
    for (int i = 0; i < 14; i++)
        send_numbers("shared", i, 1);
    struct requests *first = join("shared", 100);
    struct request *taken[14];
    for (int i = 0; i < 14; i++)
        taken[i] = take(first);
    struct requests *second = join("shared", 100);
    /* Both partitions were revoked in the rebalance: all comes again, to the one or the other, and once more with each
     * further rebalance that a busy machine brings about. */
    bool seen[14] = {false};
    for (int count = 0, tries = 0; count < 14 && tries < 600; tries++) {
        struct requests *members[] = {first, second};
        struct request *request = requests_next(members[tries % 2], 50);
        if (request != NULL) {
            count += !seen[number_of(request)];
            seen[number_of(request)] = true;
            requests_abandon(request);
        }
    }
    for (int i = 0; i < 14; i++) {
        assert_true(seen[i]);
        requests_done(taken[i]);
    }
    requests_stop(second);
    requests_stop(first);
    assert_int_equal(local_committed("shared", "shared", 0), -1);
    assert_int_equal(local_committed("shared", "shared", 1), -1);
}

static void no_more_is_taken_than_may_be_unfinished(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "unfinished", 1, &err));
    send_numbers("unfinished", 0, 20);
    struct requests_settings settings = {.kafka = local_settings(),
                                         .topic = "unfinished",
                                         .group_id = "unfinished",
                                         .queue_capacity = 100,
                                         .unfinished_limit = 5};
    struct requests *requests;
    assert_ok(requests_start(&requests, &settings, &err));
    struct request *taken[6];
    for (int i = 0; i < 5; i++)
        taken[i] = take(requests);
    assert_null(requests_next(requests, 300));
    assert_int_equal(requests_progress(requests).unfinished, 5);
    assert_true(requests_progress(requests).paused);
    requests_done(taken[4]); /* any of them makes room */
    taken[4] = take(requests);
    assert_int_equal(number_of(taken[4]), 5);
    assert_null(requests_next(requests, 300));
    for (int i = 0; i < 5; i++)
        requests_done(taken[i]);
    for (int i = 6; i < 20; i++)
        requests_done(take(requests));
    wait_for_committed(requests, 20);
    struct requests_progress progress = requests_progress(requests);
    assert_int_equal(progress.unfinished, 0);
    assert_int_equal(progress.assigned, 1);
    assert_int_equal(progress.lag, 0);
    assert_true(progress.commits > 0 && progress.rebalances > 0);
    requests_stop(requests);
}

static void in_transactions_a_request_is_ready_when_all_before_it_have_answers(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "ready", 1, &err));
    send_numbers("ready", 0, 3);
    struct requests_settings settings = {
        .kafka = local_settings(), .topic = "ready", .group_id = "ready", .transactional = true, .queue_capacity = 100};
    struct requests *requests;
    assert_int_equal(requests_start(&requests, &settings, &err), -1); /* who loses its place must be known by name */
    assert_non_null(strstr(err.message, "group.instance.id"));
    settings.instance = "one";
    assert_ok(requests_start(&requests, &settings, &err));
    struct request *taken[3];
    enum request_standing standing[3];
    for (int i = 0; i < 3; i++)
        taken[i] = take(requests);
    assert_true(requests_answered(taken[1]));
    requests_standing(requests, taken, 3, standing);
    for (int i = 0; i < 3; i++)
        assert_int_equal(standing[i], REQUEST_WAITS);
    assert_true(requests_answered(taken[0]));
    requests_standing(requests, taken, 3, standing);
    assert_int_equal(standing[0], REQUEST_READY);
    assert_int_equal(standing[1], REQUEST_READY);
    assert_int_equal(standing[2], REQUEST_WAITS);
    requests_done(taken[0]);
    requests_done(taken[1]);
    requests_abandon(taken[2]);
    assert_int_equal(requests_progress(requests).committed, 2);
    usleep(300000);
    requests_stop(requests);
    assert_int_equal(local_committed("ready", "ready", 0), -1); /* that is the transaction's to do */
}

/* As after retention has taken what a group that was away for long had not read. */
static void commit_beyond_the_log(const char *topic, int64_t offset)
{
    rd_kafka_t *client = local_consumer(topic, 0, topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = offset;
    assert_int_equal(rd_kafka_commit(client, list, 0), 0);
    rd_kafka_topic_partition_list_destroy(list);
    local_consumer_close(client);
}

static void a_lost_committed_offset_ends_it_with_the_reason(void **state)
{
    (void)state;
    struct error err;
    assert_ok(broker_create_topic(local_broker, "gap", 1, &err));
    send_numbers("gap", 0, 5);
    commit_beyond_the_log("gap", 1000);
    struct requests *requests = join("gap", 10);
    bool alive = true;
    for (int tries = 0; tries < 1000 && alive; tries++) {
        usleep(10000);
        alive = requests_alive(requests, &err);
    }
    assert_false(alive);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "gap"));
    assert_int_equal(requests_progress(requests).taken, 0);
    requests_stop(requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_contiguous_prefix_is_committed_and_a_restart_goes_on_there),
        cmocka_unit_test(a_full_queue_pauses_and_resumes_without_loss_or_repeats),
        cmocka_unit_test(after_pause_only_the_queue_is_left),
        cmocka_unit_test(what_another_member_took_over_is_not_committed_by_us),
        cmocka_unit_test(no_more_is_taken_than_may_be_unfinished),
        cmocka_unit_test(in_transactions_a_request_is_ready_when_all_before_it_have_answers),
        cmocka_unit_test(a_lost_committed_offset_ends_it_with_the_reason),
    };
    return cmocka_run_group_tests(tests, local_start, local_stop);
}
