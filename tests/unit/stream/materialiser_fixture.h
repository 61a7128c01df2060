/* materialiser_fixture.h - a graph in a temporary directory, topics of a test of its own, and what is put into them */
#ifndef HEADRACE_TESTS_STREAM_MATERIALISER_FIXTURE_H
#define HEADRACE_TESTS_STREAM_MATERIALISER_FIXTURE_H

#include "local.h"

#include <ftw.h>

#include "graph/graph.h"
#include "stream/materialiser.h"

enum { ITEMS = 50, LIMIT = 4000 };

static struct codec *codec;
static char directory[64];
static struct graph *graph;

static inline void open_graph(void)
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

static inline void reopen_graph(void)
{
    graph_close(graph);
    open_graph();
}

static inline int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/headrace-stream-XXXXXX");
    assert_non_null(mkdtemp(directory));
    open_graph();
    return 0;
}

static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static inline int remove_directory(void **state)
{
    (void)state;
    graph_close(graph);
    graph = NULL;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Topics of a test of its own: NAME-interactions, … */
static inline struct kafka_topics topics_of(const char *name, int32_t partitions)
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

static enum gap_policy on_gap = GAP_STOP;

static inline struct materialiser *start(const struct kafka_topics *topics, bool dead_letters)
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
        .on_gap = on_gap,
    };
    assert_ok(materialiser_start(&materialiser, &settings, graph, codec, &err));
    return materialiser;
}

static inline void wait_until_caught_up(struct materialiser *materialiser)
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
static inline uint64_t stop(struct materialiser *materialiser)
{
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    uint64_t messages = materialiser_progress(materialiser).messages;
    assert_ok(materialiser_stop(materialiser, &err));
    assert_true(clock_since_ms(start_ns) < 2000);
    return messages;
}

static inline struct producer *producer(void)
{
    struct error err;
    struct producer *made;
    struct kafka_settings settings = local_settings();
    assert_ok(producer_create(&made, &settings, NULL, NULL, &err));
    return made;
}

static inline void finish(struct producer *made)
{
    struct error err;
    assert_ok(producer_flush(made, 10000, &err));
    producer_destroy(made);
}

static inline void put(struct producer *made, const char *topic, const char *key, const void *value, size_t size)
{
    struct error err;
    struct producer_message message = {
        .topic = topic, .key = key, .key_size = key ? strlen(key) : 0, .value = value, .value_size = size};
    assert_ok(producer_send(made, &message, &err));
}

static inline void put_record(struct producer *made, const char *topic, const char *key,
                              const struct message_type *type, const void *record)
{
    struct error err;
    struct buffer bytes = {.size = 0};
    assert_ok(codec_encode(codec, type, record, &bytes, &err));
    put(made, topic, key, bytes.data, bytes.size);
    buffer_free(&bytes);
}

static inline void put_interaction(struct producer *made, const char *topic, int user, int item, int64_t timestamp_ms)
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

static inline void put_item(struct producer *made, const char *topic, int item)
{
    char id[16], title[32];
    snprintf(id, sizeof id, "i%d", item);
    snprintf(title, sizeof title, "Title %d", item);
    put_record(made, topic, id, &item_type, &(struct item){.item_id = text_of(id), .title = text_of(title)});
}

static inline struct graph_counts counts(void)
{
    graph_read_lock(graph);
    struct graph_counts now = graph_counts(graph);
    graph_read_unlock(graph);
    return now;
}

static inline int start_all(void **state)
{
    struct error err;
    return codec_create(&codec, &err) || local_start(state);
}

static inline int stop_all(void **state)
{
    codec_destroy(codec);
    return local_stop(state);
}

#define ON_A_GRAPH(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

#endif
