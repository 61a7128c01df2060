#include "local.h"

#include <ftw.h>

#include "graph/graph.h"
#include "stream/dead_letter.h"
#include "stream/materialiser.h"

enum { ITEMS = 50, EVENTS = 5000, LIMIT = 4000 };

static struct codec *codec;
static char directory[64];
static struct graph *graph;

static void open_graph(void)
{
    struct error err;
    struct graph_settings settings = {.directory = directory,
                                      .like_threshold = 4,
                                      .like_inclusive = true,
                                      .layers = 1,
                                      .dimension = 16,
                                      .push_threshold = 0.1f,
                                      .seed = 1};
    assert_ok(graph_open(&graph, &settings, &err));
}

static void reopen_graph(void)
{
    graph_close(graph);
    open_graph();
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/headrace-stream-XXXXXX");
    assert_non_null(mkdtemp(directory));
    open_graph();
    return 0;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static int remove_directory(void **state)
{
    (void)state;
    graph_close(graph);
    graph = NULL;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Topics of a test of its own: NAME-interactions, … */
static struct kafka_topics topics_of(const char *name, int32_t partitions)
{
    struct error err;
    static char names[3][64];
    static const char *const kinds[] = {"interactions", "items", "users"};
    for (int i = 0; i < 3; i++) {
        char dead[80];
        snprintf(names[i], sizeof names[i], "%s-%s", name, kinds[i]);
        snprintf(dead, sizeof dead, "%.63s.dead", names[i]);
        assert_ok(broker_create_topic(local_broker, names[i], partitions, &err));
        assert_ok(broker_create_topic(local_broker, dead, 1, &err));
    }
    return (struct kafka_topics){
        .interactions = names[0], .items = names[1], .users = names[2], .dead_suffix = ".dead"};
}

static struct materialiser *start(const struct kafka_topics *topics, bool dead_letters)
{
    struct error err;
    struct materialiser *materialiser;
    struct materialiser_settings settings = {
        .kafka = local_settings(),
        .topics = *topics,
        .instance_id = "1",
        .dead_letters = dead_letters,
        .batch_events = 500,
        .batch_wait_ms = 20,
        .max_future_skew_ms = 60000,
        .message_limit = LIMIT,
    };
    assert_ok(materialiser_start(&materialiser, &settings, graph, codec, &err));
    return materialiser;
}

static void wait_until_caught_up(struct materialiser *materialiser)
{
    for (int tries = 0; tries < 1500; tries++) {
        struct materialiser_progress progress = materialiser_progress(materialiser);
        if (progress.caught_up)
            return;
        if (progress.stopped)
            break;
        usleep(10000);
    }
    struct error err = {.message = "not caught up within 15 s"};
    materialiser_stop(materialiser, &err);
    fail_msg("%s", err.message);
}

/* Ends it and gives how many messages it took. */
static uint64_t stop(struct materialiser *materialiser)
{
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    uint64_t messages = materialiser_progress(materialiser).messages;
    assert_ok(materialiser_stop(materialiser, &err));
    assert_true(clock_since_ms(start_ns) < 2000);
    return messages;
}

static struct producer *producer(void)
{
    struct error err;
    struct producer *made;
    struct kafka_settings settings = local_settings();
    assert_ok(producer_create(&made, &settings, NULL, NULL, &err));
    return made;
}

static void finish(struct producer *made)
{
    struct error err;
    assert_ok(producer_flush(made, 10000, &err));
    producer_destroy(made);
}

static void put(struct producer *made, const char *topic, const char *key, const void *value, size_t size)
{
    struct error err;
    struct producer_message message = {
        .topic = topic, .key = key, .key_size = key ? strlen(key) : 0, .value = value, .value_size = size};
    assert_ok(producer_send(made, &message, &err));
}

static void put_record(struct producer *made, const char *topic, const char *key, const struct message_type *type,
                       const void *record)
{
    struct error err;
    struct buffer bytes = {.size = 0};
    assert_ok(codec_encode(codec, type, record, &bytes, &err));
    put(made, topic, key, bytes.data, bytes.size);
    buffer_free(&bytes);
}

static void put_interaction(struct producer *made, const char *topic, int user, int item, int64_t timestamp_ms)
{
    char user_id[16] = "", item_id[16] = "";
    if (user >= 0)
        snprintf(user_id, sizeof user_id, "u%d", user);
    snprintf(item_id, sizeof item_id, "i%d", item);
    struct interaction interaction = {.user_id = text_of(user_id),
                                      .item_id = text_of(item_id),
                                      .timestamp_ms = timestamp_ms,
                                      .kind = INTERACTION_RATING,
                                      .has_value = true,
                                      .value = 1 + (user + item) % 5};
    put_record(made, topic, user_id, &interaction_type, &interaction);
}

static void put_item(struct producer *made, const char *topic, int item)
{
    char id[16], title[32];
    snprintf(id, sizeof id, "i%d", item);
    snprintf(title, sizeof title, "Title %d", item);
    put_record(made, topic, id, &item_type, &(struct item){.item_id = text_of(id), .title = text_of(title)});
}

static struct graph_counts counts(void)
{
    graph_read_lock(graph);
    struct graph_counts now = graph_counts(graph);
    graph_read_unlock(graph);
    return now;
}

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
    enum { FLOOD = 1500 };
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

static void a_stored_offset_outside_the_log_is_a_retention_gap(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_of("gap", 1);
    assert_ok(graph_put_offset(graph, topics.interactions, 0, 1000, &err));
    assert_ok(graph_commit(graph, &err));
    struct materialiser *materialiser = start(&topics, false);
    for (int tries = 0; tries < 1000 && !materialiser_progress(materialiser).stopped; tries++)
        usleep(10000);
    assert_true(materialiser_progress(materialiser).stopped);
    assert_false(materialiser_progress(materialiser).caught_up);
    assert_int_equal(materialiser_stop(materialiser, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "gap-interactions/0@1000"));
    assert_non_null(strstr(err.message, "rebuild"));
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 1000);
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

static int start_all(void **state)
{
    struct error err;
    return codec_create(&codec, &err) || local_start(state);
}

static int stop_all(void **state)
{
    codec_destroy(codec);
    return local_stop(state);
}

#define ON_A_GRAPH(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_GRAPH(every_message_is_applied_once_across_restarts),
        ON_A_GRAPH(a_null_deletes_an_item_and_erases_a_user),
        ON_A_GRAPH(bad_messages_become_one_letter_each_and_hold_nothing_up),
        ON_A_GRAPH(a_flood_of_bad_messages_is_delivered_in_lots),
        ON_A_GRAPH(letters_of_a_dead_process_are_sent_by_the_next),
        ON_A_GRAPH(without_dead_letters_they_are_only_counted),
        ON_A_GRAPH(a_stored_offset_outside_the_log_is_a_retention_gap),
        ON_A_GRAPH(it_stops_at_once_while_the_broker_is_away),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
