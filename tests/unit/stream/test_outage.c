/* A registry that cannot be asked: what it is needed for waits, in its place, and is no dead letter. */
#include "materialiser_fixture.h"

#include "wire/fake_registry.h"
#include "wire/registry.h"

static struct fake_registry fake;

static int start_with_registry(void **state)
{
    struct error err;
    struct registry *registry;
    unsetenv("http_proxy");
    pthread_mutex_init(&fake.lock, NULL);
    fake_registry_start(&fake, 0);
    const struct registry_settings settings = {
        .url = fake.url, .connect_timeout_ms = 300, .timeout_ms = 300, .unknown_ms = 60000};
    if (start_all(state) != 0 || registry_create(&registry, &settings, &err) != 0)
        return -1;
    codec_use_registry(codec, registry);
    return 0;
}

static int stop_with_registry(void **state)
{
    int result = stop_all(state);
    fake_registry_stop(&fake);
    buffer_free(&fake.posted);
    return result;
}

/* Confluent's framing of what a plain codec writes in its own. */
static void put_by_id(struct producer *made, const char *topic, uint32_t id, int user)
{
    enum { OWN_HEADER = 10 };
    struct error err;
    struct codec *plain;
    char user_id[16];
    snprintf(user_id, sizeof user_id, "u%d", user);
    struct interaction interaction = {
        .user_id = text_of(user_id), .item_id = text_of("i1"), .timestamp_ms = 1000, .kind = INTERACTION_LIKE};
    struct buffer own = {.size = 0}, framed = {.size = 0};
    assert_ok(codec_create(&plain, &err));
    assert_ok(codec_encode(plain, &interaction_type, &interaction, &own, &err));
    const uint8_t header[] = {0, (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    buffer_append(&framed, header, sizeof header);
    buffer_append(&framed, own.data + OWN_HEADER, own.size - OWN_HEADER);
    put(made, topic, user_id, framed.data, framed.size);
    codec_destroy(plain);
    buffer_free(&own);
    buffer_free(&framed);
}

static void wait_until_waiting(struct materialiser *materialiser)
{
    for (int tries = 0; tries < 1000 && !materialiser_progress(materialiser).waiting; tries++)
        usleep(10000);
    assert_true(materialiser_progress(materialiser).waiting);
}

static void what_needs_an_answer_waits_in_its_place_and_goes_on_by_itself(void **state)
{
    (void)state;
    struct kafka_topics topics = topics_of("outage", 1);
    struct producer *made = producer();
    put(made, topics.interactions, "k", "garbage", 7);
    put_by_id(made, topics.interactions, 7, 1);
    put_by_id(made, topics.interactions, 12, 2); /* the registry has no such schema: a dead letter, but not before */
    finish(made);

    atomic_store(&fake.trouble, SERVER_ERROR);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_waiting(materialiser);
    usleep(300000); /* what stands before it is stored meanwhile */
    struct materialiser_progress progress = materialiser_progress(materialiser);
    assert_int_equal(progress.messages, 1);
    assert_false(progress.caught_up);
    stop(materialiser); /* within two seconds */
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 1);

    materialiser = start(&topics, false);
    wait_until_waiting(materialiser);
    atomic_store(&fake.trouble, FINE);
    wait_until_caught_up(materialiser);
    progress = materialiser_progress(materialiser);
    assert_false(progress.waiting);
    assert_int_equal(progress.topics[2].applied, 1);
    assert_int_equal(progress.topics[2].dead[DEAD_UNKNOWN_SCHEMA], 1);
    assert_int_equal(progress.dead_letters, 1);
    stop(materialiser);
    assert_int_equal(counts().events, 1);
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_GRAPH(what_needs_an_answer_waits_in_its_place_and_goes_on_by_itself),
    };
    return cmocka_run_group_tests(tests, start_with_registry, stop_with_registry);
}
