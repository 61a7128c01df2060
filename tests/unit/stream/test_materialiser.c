#include "materialiser_fixture.h"

#include "stream/dead_letter.h"

enum { EVENTS = 5000 };

static bool count_letter(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    (void)topic, (void)partition, (void)offset, (void)letter;
    ++*(int *)context;
    return true;
}

static int letters_in_store(void)
{
    struct error err;
    int letters = 0;
    assert_ok(graph_each_outbox(graph, count_letter, &letters, &err));
    return letters;
}

static void every_message_is_applied_once_across_restarts(void **state)
{
    (void)state;
    struct kafka_topics topics = topics_of("once", 2);
    struct producer *made = producer();
    for (int i = 0; i < ITEMS; i++)
        put_item(made, topics.items, i);
    for (int i = 0; i < EVENTS; i++)
        put_interaction(made, topics.interactions, i % 97, i % ITEMS, 1000 + i);
    finish(made);

    struct materialiser *materialiser = start(&topics, false);
    while (materialiser_progress(materialiser).messages < EVENTS / 3)
        usleep(1000);
    uint64_t taken = stop(materialiser);
    assert_true(taken < EVENTS);
    reopen_graph();
    uint64_t before = counts().events;
    assert_true(before > 0 && before < EVENTS);

    materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    stop(materialiser);
    struct graph_counts now = counts();
    assert_int_equal(now.events, EVENTS);
    assert_int_equal(now.users, 97);
    assert_int_equal(now.titles, ITEMS);
    int64_t offsets = 0;
    for (int32_t i = 0; i < 2; i++)
        offsets += graph_offset(graph, topics.interactions, i);
    assert_int_equal(offsets, EVENTS);

    materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    assert_int_equal(stop(materialiser), 0);
    for (int32_t i = 0; i < 2; i++) /* what lag tools see */
        assert_int_equal(local_committed("headrace-state-1", topics.interactions, i),
                         graph_offset(graph, topics.interactions, i));
}

static void a_null_deletes_an_item_and_erases_a_user(void **state)
{
    (void)state;
    struct kafka_topics topics = topics_of("null", 1);
    struct producer *made = producer();
    put_item(made, topics.items, 1);
    put_item(made, topics.items, 2);
    put_interaction(made, topics.interactions, 1, 2, 1000);
    put_interaction(made, topics.interactions, 2, 2, 1000);
    finish(made);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    stop(materialiser);
    assert_int_equal(counts().titles, 2);
    assert_int_equal(counts().edges, 2);

    made = producer();
    put(made, topics.items, "i1", NULL, 0);
    put(made, topics.users, "u1", NULL, 0);
    finish(made);
    materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    stop(materialiser);
    assert_int_equal(counts().titles, 1);
    assert_int_equal(counts().edges, 1);
}

static void bad_messages_become_one_letter_each_and_hold_nothing_up(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_of("bad", 1);
    static char large[LIMIT + 1];
    static const struct {
        const char *class;
        size_t size; /* of the original */
    } expected[] = {{"framing", 7}, {"semantic", 0}, {"too_large", LIMIT + 1}, {"semantic", 0}, {"decode", 12}};
    struct buffer bytes = {.size = 0};
    struct interaction interaction = {.user_id = text_of("u1"), .item_id = text_of("i1"), .timestamp_ms = 1};
    assert_ok(codec_encode(codec, &interaction_type, &interaction, &bytes, &err));

    struct producer *made = producer();
    put_interaction(made, topics.interactions, 1, 1, 1000);
    put(made, topics.interactions, "k", "garbage", 7);
    put_interaction(made, topics.interactions, 1, 2, clock_wall_ms() + 3600000); /* from the future */
    put_interaction(made, topics.interactions, 1, 3, 1000);
    put(made, topics.interactions, "k", large, sizeof large);
    put_interaction(made, topics.interactions, -1, 4, 1000); /* nobody */
    put(made, topics.interactions, "k", bytes.data, 12);     /* half of it */
    put_interaction(made, topics.interactions, 1, 5, 1000);
    put(made, topics.items, NULL, NULL, 0); /* deletes what? */
    finish(made);
    buffer_free(&bytes);

    struct materialiser *materialiser = start(&topics, true);
    wait_until_caught_up(materialiser);
    assert_int_equal(materialiser_progress(materialiser).dead_letters, 6);
    static const char *const offsets[] = {"1", "2", "4", "5", "6"};
    rd_kafka_t *reader = local_consumer("bad-interactions.dead", 0, "readers");
    for (int i = 0; i < 5; i++) {
        rd_kafka_message_t *letter = local_consume(reader);
        assert_string_equal(local_header(letter, "headrace.error.class"), expected[i].class);
        assert_string_equal(local_header(letter, "__connect.errors.offset"), offsets[i]);
        assert_string_equal(local_header(letter, "__connect.errors.topic"), topics.interactions);
        if (expected[i].size > 0)
            assert_int_equal(letter->len, expected[i].size);
        if (i == 0)
            assert_memory_equal(letter->payload, "garbage", 7);
        rd_kafka_message_destroy(letter);
    }
    rd_kafka_t *other = local_consumer("bad-items.dead", 0, "readers");
    rd_kafka_message_t *letter = local_consume(other);
    assert_null(letter->payload);
    assert_string_equal(local_header(letter, "headrace.error.class"), "semantic");
    rd_kafka_message_destroy(letter);
    local_consumer_close(other);
    stop(materialiser);
    assert_int_equal(counts().events, 3);
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 8);
    assert_int_equal(letters_in_store(), 0);

    materialiser = start(&topics, true); /* sends nothing again */
    wait_until_caught_up(materialiser);
    assert_true(local_is_silent(reader, 300));
    stop(materialiser);
    local_consumer_close(reader);
}

static void a_flood_of_bad_messages_is_delivered_in_lots(void **state)
{
    (void)state;
    enum { FLOOD = 6000 }; /* more than a lot */
    struct kafka_topics topics = topics_of("flood", 1);
    struct producer *made = producer();
    for (int i = 0; i < FLOOD; i++)
        put(made, topics.interactions, "k", &i, sizeof i);
    finish(made);
    struct materialiser *materialiser = start(&topics, true);
    wait_until_caught_up(materialiser);
    rd_kafka_t *reader = local_consumer("flood-interactions.dead", 0, "readers");
    for (int i = 0; i < FLOOD; i++) {
        rd_kafka_message_t *letter = local_consume(reader);
        assert_memory_equal(letter->payload, &i, sizeof i);
        rd_kafka_message_destroy(letter);
    }
    stop(materialiser);
    assert_true(local_is_silent(reader, 200));
    local_consumer_close(reader);
    assert_int_equal(letters_in_store(), 0);
}

static void letters_of_a_dead_process_are_sent_by_the_next(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_of("left", 1);
    struct producer *made = producer();
    put(made, topics.interactions, "k", "garbage", 7);
    finish(made);
    rd_kafka_t *reader = local_consumer(topics.interactions, 0, "readers");
    rd_kafka_message_t *message = local_consume(reader);
    struct buffer letter = {.size = 0};
    assert_ok(dead_letter_pack(message, DEAD_FRAMING, "left behind", 100000, &letter, &err));
    assert_ok(graph_put_outbox(graph, topics.interactions, 0, 0, buffer_text(&letter), &err));
    assert_ok(graph_put_outbox(graph, topics.interactions, 0, 9, text_of("no letter at all"), &err));
    assert_ok(graph_put_offset(graph, topics.interactions, 0, 1, &err));
    assert_ok(graph_commit(graph, &err));
    buffer_free(&letter);
    rd_kafka_message_destroy(message);
    local_consumer_close(reader);
    reopen_graph();
    assert_int_equal(letters_in_store(), 2);

    struct materialiser *materialiser = start(&topics, true);
    wait_until_caught_up(materialiser);
    reader = local_consumer("left-interactions.dead", 0, "readers");
    message = local_consume(reader);
    assert_memory_equal(message->payload, "garbage", 7);
    rd_kafka_message_destroy(message);
    stop(materialiser);
    assert_true(local_is_silent(reader, 200));
    local_consumer_close(reader);
    assert_int_equal(letters_in_store(), 0);
}

static void without_dead_letters_they_are_only_counted(void **state)
{
    (void)state;
    struct kafka_topics topics = topics_of("count", 1);
    struct producer *made = producer();
    put(made, topics.interactions, "k", "garbage", 7);
    finish(made);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    assert_int_equal(materialiser_progress(materialiser).dead_letters, 1);
    stop(materialiser);
    assert_int_equal(letters_in_store(), 0);
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 1);
}

static void it_tells_what_became_of_messages_and_how_many_wait(void **state)
{
    (void)state;
    struct kafka_topics topics = topics_of("progress", 2);
    struct producer *made = producer();
    put_item(made, topics.items, 1);
    for (int i = 0; i < 10; i++)
        put_interaction(made, topics.interactions, i, i, 1000 + i);
    put(made, topics.interactions, "k", "garbage", 7);
    finish(made);
    struct materialiser *materialiser = start(&topics, false);
    for (int i = 0; i < 3; i++)
        assert_int_equal(materialiser_progress(materialiser).topics[i].lag, -1); /* nobody has told yet */
    wait_until_caught_up(materialiser);
    usleep(700000); /* the lag is measured every half second */
    struct materialiser_progress progress = materialiser_progress(materialiser);
    const struct materialiser_topic *items = &progress.topics[0], *events = &progress.topics[2];
    assert_string_equal(items->name, topics.items);
    assert_string_equal(events->name, topics.interactions);
    assert_int_equal(items->applied, 1);
    assert_int_equal(events->applied, 10);
    assert_int_equal(events->partitions, 2);
    assert_int_equal(events->dead[DEAD_FRAMING], 1);
    assert_int_equal(events->dead[DEAD_DECODE], 0);
    assert_int_equal(events->lag, 0);
    assert_int_equal(events->lag_ms, 0);
    assert_int_equal(progress.dead_letters, 1);
    assert_int_equal(progress.messages, 12);
    assert_true(progress.batches > 0);
    stop(materialiser);
}

/* What stands before the value could be taken for anything: the header alone says that it is an id of a schema. */
static void a_schema_named_in_a_header_is_refused_by_name(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_of("header", 1);
    struct buffer bytes = {.size = 0};
    struct interaction interaction = {.user_id = text_of("u1"), .item_id = text_of("i1"), .timestamp_ms = 1};
    assert_ok(codec_encode(codec, &interaction_type, &interaction, &bytes, &err));
    struct producer_header header = {"__value_schema_id", "\1sixteen letters.", 17};
    struct producer_message message = {.topic = topics.interactions,
                                       .value = bytes.data,
                                       .value_size = bytes.size,
                                       .headers = &header,
                                       .header_count = 1};
    struct producer *made = producer();
    assert_ok(producer_send(made, &message, &err));
    finish(made);
    buffer_free(&bytes);
    struct materialiser *materialiser = start(&topics, true);
    wait_until_caught_up(materialiser);
    rd_kafka_t *reader = local_consumer("header-interactions.dead", 0, "readers");
    rd_kafka_message_t *letter = local_consume(reader);
    assert_string_equal(local_header(letter, "headrace.error.class"), "framing");
    assert_non_null(strstr(local_header(letter, "__connect.errors.exception.message"), "__value_schema_id"));
    rd_kafka_message_destroy(letter);
    local_consumer_close(reader);
    stop(materialiser);
    assert_int_equal(counts().events, 0);
}

static void it_stops_at_once_while_the_broker_is_away(void **state)
{
    (void)state;
    struct error err;
    struct property away[] = {{"bootstrap.servers", "127.0.0.1:1"}, {"log_level", "0"}};
    struct materialiser_settings settings = {.kafka = {away, 2, "test"},
                                             .topics = {"a", "b", NULL, NULL, NULL, ".dead"},
                                             .instance_id = "1",
                                             .batch_events = 10,
                                             .batch_wait_ms = 10};
    struct materialiser *materialiser;
    assert_ok(materialiser_start(&materialiser, &settings, graph, codec, &err));
    usleep(200000);
    assert_false(materialiser_progress(materialiser).stopped);
    stop(materialiser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_GRAPH(every_message_is_applied_once_across_restarts),
        ON_A_GRAPH(a_null_deletes_an_item_and_erases_a_user),
        ON_A_GRAPH(bad_messages_become_one_letter_each_and_hold_nothing_up),
        ON_A_GRAPH(a_flood_of_bad_messages_is_delivered_in_lots),
        ON_A_GRAPH(letters_of_a_dead_process_are_sent_by_the_next),
        ON_A_GRAPH(without_dead_letters_they_are_only_counted),
        ON_A_GRAPH(it_tells_what_became_of_messages_and_how_many_wait),
        ON_A_GRAPH(a_schema_named_in_a_header_is_refused_by_name),
        ON_A_GRAPH(it_stops_at_once_while_the_broker_is_away),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
