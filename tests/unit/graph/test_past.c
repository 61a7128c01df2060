#include "graph/fixture.h"

#include "base/random.h"

enum { USERS = 4, ITEMS = 8, EVENTS = 300, TIMES = 40 };

struct happened {
    uint32_t user, item;
    int64_t timestamp_ms;
    int32_t kind;
    double value;
};

/* Times come in no order and often twice. */
static struct happened event_of(int number)
{
    static const int32_t kinds[] = {INTERACTION_RATING, INTERACTION_RATING, INTERACTION_LIKE, INTERACTION_IMPRESSION,
                                    INTERACTION_REMOVE};
    struct random random = {(uint64_t)number};
    return (struct happened){
        .user = (uint32_t)random_below(&random, USERS),
        .item = (uint32_t)random_below(&random, ITEMS),
        .timestamp_ms = (int64_t)random_below(&random, TIMES) + 1,
        .kind = kinds[random_below(&random, 5)],
        .value = (double)random_below(&random, 5) + 1,
    };
}

static void put_all(struct fixture *fixture)
{
    for (int i = 0; i < EVENTS; i++) {
        struct happened event = event_of(i);
        char user[16], item[16];
        snprintf(user, sizeof user, "u%u", event.user);
        snprintf(item, sizeof item, "i%u", event.item);
        put(fixture, user, item, event.timestamp_ms, event.kind, event.value);
        if (i % 7 == 0)
            commit(fixture);
    }
    commit(fixture);
}

/* The pair's edge just before a time, by looking through all that happened; -1: none. */
static int edge_then(uint32_t user, uint32_t item, int64_t from_ms, int64_t before_ms)
{
    int newest = -1;
    for (int i = 0; i < EVENTS; i++) {
        struct happened event = event_of(i);
        if (event.user != user || event.item != item || event.timestamp_ms >= before_ms ||
            event.timestamp_ms < from_ms || event.kind == INTERACTION_IMPRESSION)
            continue;
        if (newest < 0 || event.timestamp_ms >= event_of(newest).timestamp_ms)
            newest = i;
    }
    return newest >= 0 && event_of(newest).kind == INTERACTION_REMOVE ? -1 : newest;
}

static void assert_edges_at(const struct fixture *fixture, uint32_t user, int64_t before_ms)
{
    char name[16];
    struct error err;
    struct edge *edges;
    size_t count, expected = 0;
    int64_t from_ms = graph_history_start(fixture->graph);
    snprintf(name, sizeof name, "u%u", user);
    check(graph_user_edges_at(fixture->graph, user_number(fixture, name), before_ms, &edges, &count, &err), &err);
    for (size_t i = 1; i < count; i++)
        assert_true(edges[i - 1].timestamp_ms <= edges[i].timestamp_ms);
    for (uint32_t item = 0; item < ITEMS; item++) {
        int then = edge_then(user, item, from_ms, before_ms);
        if (then < 0)
            continue;
        struct happened event = event_of(then);
        expected++;
        snprintf(name, sizeof name, "i%u", item);
        size_t place = 0;
        while (place < count && edges[place].other != item_number(fixture, name))
            place++;
        assert_int_not_equal(place, count);
        assert_int_equal(edges[place].timestamp_ms, event.timestamp_ms);
        assert_int_equal(edges[place].kind, event.kind);
        if (event.kind == INTERACTION_RATING) {
            assert_float_equal(edges[place].value, event.value, 0);
            assert_int_equal(edges[place].verdict, event.value >= 4 ? VERDICT_LIKE : VERDICT_DISLIKE);
        }
    }
    assert_int_equal(count, expected);
    free(edges);
}

static void assert_all_times(const struct fixture *fixture)
{
    for (uint32_t user = 0; user < USERS; user++)
        for (int64_t before_ms = 0; before_ms <= TIMES + 2; before_ms++)
            assert_edges_at(fixture, user, before_ms);
}

static void edges_of_any_time_are_those_of_the_events_before_it(void **state)
{
    struct fixture *fixture = *state;
    put_all(fixture);
    assert_int_equal(graph_history_start(fixture->graph), 0);
    for (int round = 0; round < 2; round++) {
        assert_all_times(fixture);
        fixture_reopen(fixture);
    }
}

static void after_all_of_time_they_are_the_current_ones(void **state)
{
    struct fixture *fixture = *state;
    put_all(fixture);
    for (uint32_t user = 0; user < USERS; user++) {
        struct error err;
        struct edge *edges;
        size_t count, now;
        check(graph_user_edges_at(fixture->graph, user, INT64_MAX, &edges, &count, &err), &err);
        const struct edge *current = graph_user_edges(fixture->graph, user, &now);
        assert_int_equal(count, now);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(edges[i].other, current[i].other);
            assert_int_equal(edges[i].timestamp_ms, current[i].timestamp_ms);
            assert_int_equal(edges[i].verdict, current[i].verdict);
        }
        free(edges);
    }
}

static void what_the_window_took_is_missing_and_from_when_on_is_said(void **state)
{
    struct fixture *fixture = *state;
    put_all(fixture);
    fixture->settings.window_ms = TIMES / 2;
    fixture_reopen(fixture);
    assert_int_equal(graph_history_start(fixture->graph), graph_counts(fixture->graph).newest_event_ms - TIMES / 2);
    assert_all_times(fixture);
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROMISE(edges_of_any_time_are_those_of_the_events_before_it),
        PROMISE(after_all_of_time_they_are_the_current_ones),
        PROMISE(what_the_window_took_is_missing_and_from_when_on_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
