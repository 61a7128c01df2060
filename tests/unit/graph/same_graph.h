/* same_graph.h - a stream of all kinds of events, and whether two graphs are the same after it */
#ifndef HEADRACE_TESTS_GRAPH_SAME_GRAPH_H
#define HEADRACE_TESTS_GRAPH_SAME_GRAPH_H

#include "graph/fixture.h"

#include "base/random.h"

enum { USERS = 60, ITEMS = 25, BATCH = 50 };

static inline void put_something(struct fixture *fixture, struct random *random, int number)
{
    char user[32], item[32];
    struct error err;
    snprintf(user, sizeof user, "user %d%s", (int)random_below(random, USERS),
             random_below(random, 2) ? "" : ", whose id is a long one");
    snprintf(item, sizeof item, "%d", (int)(random_below(random, ITEMS) * random_below(random, ITEMS) / ITEMS));
    uint64_t what = random_below(random, 40);
    if (what == 0) {
        check(graph_erase_user(fixture->graph, text_of(user), &err), &err);
    } else if (what == 1) {
        struct item described = {.item_id = text_of(item), .title = text_of("a title")};
        check(graph_put_item(fixture->graph, &described, &err), &err);
    } else {
        int32_t kind = what < 5 ? INTERACTION_REMOVE : INTERACTION_RATING;
        put(fixture, user, item, 1000 * number - (int64_t)random_below(random, 5000) + 5000, kind,
            1 + (double)random_below(random, 5));
    }
}

/* The same events for the same numbers. */
static inline void put_events(struct fixture *fixture, int first, int last)
{
    for (int i = first; i < last; i++) {
        struct random random = {(uint64_t)i};
        put_something(fixture, &random, i);
        if (i % BATCH == BATCH - 1)
            commit(fixture);
    }
    commit(fixture);
}

static inline void assert_same_edges(const struct edge *a, size_t a_count, const struct edge *b, size_t b_count)
{
    assert_int_equal(a_count, b_count);
    for (size_t i = 0; i < a_count; i++) {
        assert_int_equal(a[i].timestamp_ms, b[i].timestamp_ms);
        assert_int_equal(a[i].other, b[i].other);
        assert_int_equal(a[i].verdict, b[i].verdict);
        assert_int_equal(a[i].kind, b[i].kind);
        assert_float_equal(a[i].value, b[i].value, 0);
    }
}

static inline void assert_same_nodes(const struct graph *a, const struct graph *b)
{
    struct graph_counts counts = graph_counts(a), others = graph_counts(b);
    size_t count, other;
    assert_int_equal(counts.events, others.events);
    assert_int_equal(counts.late_events, others.late_events);
    assert_int_equal(counts.newest_event_ms, others.newest_event_ms);
    assert_int_equal(counts.users, others.users);
    assert_int_equal(counts.erased_users, others.erased_users);
    assert_int_equal(counts.items, others.items);
    assert_int_equal(counts.edges, others.edges);
    assert_int_equal(counts.titles, others.titles);
    for (uint32_t user = 0; user < counts.users; user++) {
        assert_true(text_equal(graph_user_id(a, user), graph_user_id(b, user)));
        const struct edge *edges = graph_user_edges(a, user, &count), *of_b = graph_user_edges(b, user, &other);
        assert_same_edges(edges, count, of_b, other);
    }
    for (uint32_t item = 0; item < counts.items; item++) {
        assert_true(text_equal(graph_item_id(a, item), graph_item_id(b, item)));
        const struct edge *edges = graph_item_edges(a, item, &count), *of_b = graph_item_edges(b, item, &other);
        assert_same_edges(edges, count, of_b, other);
    }
}

#endif
