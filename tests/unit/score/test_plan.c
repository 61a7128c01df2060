#include "graph/fixture.h"
#include "score/plan.h"

enum { MOST_EVENTS = 60 };

/* What the prompt of a user tells of its history. */
struct told {
    size_t count;
    size_t first, last; /* numbers of the events; titles are "film 7" */
    bool cold_user;
};

static size_t number_of(struct text title)
{
    return (size_t)strtoul(title.data + strlen("film "), NULL, 10);
}

static struct told told_of(struct fixture *fixture, const struct score_request *request, size_t most, size_t least)
{
    const struct plan_settings settings = {.similar_mode = SIMILAR_NONE, .history_max = most, .history_min = least};
    struct arena arena;
    struct plan plan;
    struct error err;
    arena_init(&arena, 0);
    check(plan_request(fixture->graph, &settings, request, &arena, &plan, &err), &err);
    struct told told = {.count = plan.user.history_count, .cold_user = plan.cold_user};
    if (told.count > 0) {
        told.first = number_of(plan.user.history[0].title);
        told.last = number_of(plan.user.history[told.count - 1].title);
    }
    for (size_t i = 0; i < told.count; i++)
        assert_int_equal(number_of(plan.user.history[i].title), told.first + i);
    arena_free(&arena);
    return told;
}

/* Events 0 .. count - 1 of user "u" in the graph. */
static struct told told_by_graph(struct fixture *fixture, size_t count, size_t most)
{
    const struct score_request request = {.user_id = text_of("u"), .timestamp_ms = 1000 + (int64_t)count};
    return told_of(fixture, &request, most, 0);
}

/* The same number of events in the request, newest first, of a user whom nobody knows. */
static struct told told_by_request(struct fixture *fixture, size_t count, size_t most)
{
    struct request_event events[MOST_EVENTS];
    char titles[MOST_EVENTS][32];
    for (size_t i = 0; i < count; i++) {
        snprintf(titles[i], sizeof titles[i], "film %zu", i);
        events[count - 1 - i] = (struct request_event){
            .item_id = text_of("elsewhere"), .title = text_of(titles[i]), .timestamp_ms = 1000 + (int64_t)i};
    }
    const struct score_request request = {.user_id = text_of("guest"),
                                          .timestamp_ms = 1000 + (int64_t)count,
                                          .has_history = true,
                                          .history = events,
                                          .history_count = count};
    return told_of(fixture, &request, most, most);
}

static void fill(struct fixture *fixture)
{
    for (size_t i = 0; i < MOST_EVENTS; i++) {
        char id[32], title[32];
        struct error err;
        snprintf(id, sizeof id, "%zu", i);
        snprintf(title, sizeof title, "film %zu", i);
        const struct item item = {.item_id = text_of(id), .title = text_of(title)};
        check(graph_put_item(fixture->graph, &item, &err), &err);
        rate(fixture, "u", id, 1000 + (int64_t)i, 4);
    }
    commit(fixture);
}

static void assert_told(struct told told, size_t count, size_t first)
{
    assert_int_equal(told.count, count - first);
    if (count > first) {
        assert_int_equal(told.first, first);
        assert_int_equal(told.last, count - 1);
    }
}

static void a_full_history_begins_the_same_for_five_events(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    for (size_t count = 0; count <= MOST_EVENTS; count++) {
        size_t first = count <= 15 ? 0 : (count - 15 + 4) / 5 * 5; /* 5 for 16 .. 20 events, 10 for 21 .. 25 */
        assert_told(told_by_graph(fixture, count, 15), count, first);
        assert_told(told_by_request(fixture, count, 15), count, first);
    }
}

static void a_short_history_gives_up_less_than_half(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    for (size_t most = 0; most <= 12; most++)
        for (size_t count = 0; count <= MOST_EVENTS; count++) {
            struct told told = told_by_graph(fixture, count, most);
            assert_true(told.count <= most && told.count <= count);
            assert_true(2 * told.count > most || told.count == count || most == 0);
            assert_told(told, count, count - told.count);
        }
}

static void a_user_with_events_enough_is_not_cold_for_those_that_were_left_out(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    struct score_request request = {.user_id = text_of("u"), .timestamp_ms = 1000 + 16};
    struct told told = told_of(fixture, &request, 15, 15);
    assert_int_equal(told.count, 11);
    assert_false(told.cold_user);
    request.timestamp_ms = 1000 + 14;
    told = told_of(fixture, &request, 15, 15);
    assert_int_equal(told.count, 14);
    assert_true(told.cold_user);
}

/* The same item again and again: one edge, many events. */
static void events_that_replace_each_other_are_told_up_to_the_limit(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    for (int64_t i = 0; i < 40; i++)
        rate(fixture, "again", "7", 1000 + i, (double)(i % 5));
    commit(fixture);
    const struct plan_settings settings = {.similar_mode = SIMILAR_NONE, .history_max = 15, .history_min = 3};
    const struct score_request request = {.user_id = text_of("again"), .timestamp_ms = 2000};
    struct arena arena;
    struct plan plan;
    struct error err;
    arena_init(&arena, 0);
    check(plan_request(fixture->graph, &settings, &request, &arena, &plan, &err), &err);
    assert_int_equal(plan.user.history_count, 15);
    assert_false(plan.cold_user);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_history_begins_the_same_for_five_events, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_short_history_gives_up_less_than_half, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_user_with_events_enough_is_not_cold_for_those_that_were_left_out,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(events_that_replace_each_other_are_told_up_to_the_limit, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
