#include "materialiser_fixture.h"

static void wait_until_stopped(struct materialiser *materialiser)
{
    for (int tries = 0; tries < 1000 && !materialiser_progress(materialiser).stopped; tries++)
        usleep(10000);
    assert_true(materialiser_progress(materialiser).stopped);
    assert_false(materialiser_progress(materialiser).caught_up);
}

/* A topic of ten events whose state stands somewhere else. */
static struct kafka_topics topics_with_a_gap(const char *name, int64_t next, uint64_t mark)
{
    struct error err;
    struct kafka_topics topics = topics_of(name, 1);
    struct producer *made = producer();
    for (int i = 0; i < 10; i++)
        put_interaction(made, topics.interactions, i, i, 1000 + i);
    finish(made);
    assert_ok(graph_put_marked_offset(graph, topics.interactions, 0, next, mark, &err));
    assert_ok(graph_commit(graph, &err));
    return topics;
}

static void an_offset_behind_the_end_of_the_log_stops_it_with_what_to_do(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_with_a_gap("gap", 1000, 0);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_stopped(materialiser);
    assert_false(materialiser_progress(materialiser).rebuild);
    assert_int_equal(materialiser_stop(materialiser, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "topic gap-interactions is not the one"));
    assert_non_null(strstr(err.message, "ends at 10, the state stands at 1000"));
    assert_non_null(strstr(err.message, "state.on_gap to rebuild"));
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 1000);
    assert_int_equal(counts().events, 0);
}

static void another_message_before_our_place_is_another_topic(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_with_a_gap("other", 5, 12345);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_stopped(materialiser);
    assert_int_equal(materialiser_stop(materialiser, &err), -1);
    assert_non_null(strstr(err.message, "topic other-interactions is not the one"));
    assert_non_null(strstr(err.message, "another message at 4"));
    assert_int_equal(graph_offset(graph, topics.interactions, 0), 5);
}

/* The message that we stand behind could be compared nowhere but at the log's end: there is none behind it. */
static void a_log_that_ends_just_before_our_place_is_another_topic(void **state)
{
    (void)state;
    struct error err;
    struct kafka_topics topics = topics_with_a_gap("short", 11, 12345);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_stopped(materialiser);
    assert_int_equal(materialiser_stop(materialiser, &err), -1);
    assert_non_null(strstr(err.message, "ends at 10, the state stands at 11"));
}

static void an_accepted_gap_is_counted_and_read_from_the_oldest(void **state)
{
    (void)state;
    on_gap = GAP_ACCEPT;
    struct kafka_topics topics = topics_with_a_gap("accept", 1000, 0);
    for (int round = 0; round < 2; round++) { /* the second start knows of no gap any more */
        struct materialiser *materialiser = start(&topics, false);
        wait_until_caught_up(materialiser);
        struct materialiser_progress progress = materialiser_progress(materialiser);
        assert_int_equal(progress.gaps, round == 0);
        assert_int_equal(progress.gap_messages, 0); /* how many another topic's were nobody knows */
        stop(materialiser);
        assert_int_equal(counts().events, 10);
        assert_int_equal(graph_offset(graph, topics.interactions, 0), 10);
    }
    on_gap = GAP_STOP;
}

static void a_gap_to_rebuild_ends_it_and_after_a_drop_everything_is_read(void **state)
{
    (void)state;
    struct error err;
    on_gap = GAP_REBUILD;
    struct kafka_topics topics = topics_with_a_gap("rebuild", 5, 12345);
    struct materialiser *materialiser = start(&topics, false);
    wait_until_stopped(materialiser);
    assert_true(materialiser_progress(materialiser).rebuild);
    assert_int_equal(materialiser_stop(materialiser, &err), -1);
    graph_close(graph);
    assert_ok(graph_drop(directory, &err));
    open_graph();
    materialiser = start(&topics, false);
    wait_until_caught_up(materialiser);
    assert_false(materialiser_progress(materialiser).rebuild);
    stop(materialiser);
    assert_int_equal(counts().events, 10);
    on_gap = GAP_STOP;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_GRAPH(an_offset_behind_the_end_of_the_log_stops_it_with_what_to_do),
        ON_A_GRAPH(another_message_before_our_place_is_another_topic),
        ON_A_GRAPH(a_log_that_ends_just_before_our_place_is_another_topic),
        ON_A_GRAPH(an_accepted_gap_is_counted_and_read_from_the_oldest),
        ON_A_GRAPH(a_gap_to_rebuild_ends_it_and_after_a_drop_everything_is_read),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
