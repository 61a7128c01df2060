#include "graph/fixture.h"

#include <math.h>

#include "base/random.h"
#include "graph/embedding.h"

/* The pair's edge, or NULL; fails unless both ends agree. */
static const struct edge *edge_between(const struct fixture *fixture, const char *user, const char *item)
{
    uint32_t u = user_number(fixture, user), i = item_number(fixture, item);
    if (u == GRAPH_NONE || i == GRAPH_NONE)
        return NULL;
    size_t user_count, item_count;
    const struct edge *of_user = graph_user_edges(fixture->graph, u, &user_count), *found = NULL;
    const struct edge *of_item = graph_item_edges(fixture->graph, i, &item_count), *other = NULL;
    for (size_t n = 0; n < user_count; n++)
        if (of_user[n].other == i)
            found = &of_user[n];
    for (size_t n = 0; n < item_count; n++)
        if (of_item[n].other == u)
            other = &of_item[n];
    assert_int_equal(found == NULL, other == NULL);
    if (found != NULL) {
        assert_int_equal(found->timestamp_ms, other->timestamp_ms);
        assert_int_equal(found->verdict, other->verdict);
        assert_int_equal(found->kind, other->kind);
    }
    return found;
}

static void verdicts_follow_kind_value_and_label(void **state)
{
    (void)state;
    struct graph_settings at = {.like_threshold = 4.0, .like_inclusive = true};
    struct graph_settings above = {.like_threshold = 4.0, .like_inclusive = false};
    assert_int_equal(graph_verdict(&at, INTERACTION_RATING, true, 4.0, false, false), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&above, INTERACTION_RATING, true, 4.0, false, false), VERDICT_DISLIKE);
    assert_int_equal(graph_verdict(&above, INTERACTION_RATING, true, 4.5, false, false), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_RATING, true, 3.9, false, false), VERDICT_DISLIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_RATING, false, 0.0, false, false), VERDICT_NEUTRAL);
    assert_int_equal(graph_verdict(&at, INTERACTION_RATING, true, 1.0, true, true), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_LIKE, false, 0.0, true, false), VERDICT_DISLIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_LIKE, false, 0.0, false, false), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_PURCHASE, false, 0.0, false, false), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_CLICK, false, 0.0, false, false), VERDICT_LIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_DISLIKE, false, 0.0, false, false), VERDICT_DISLIKE);
    assert_int_equal(graph_verdict(&at, INTERACTION_UNKNOWN, false, 0.0, false, false), VERDICT_NEUTRAL);
}

static void nothing_is_seen_before_the_commit(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 5.0);
    assert_int_equal(graph_staged(fixture->graph), 1);
    assert_int_equal(graph_counts(fixture->graph).events, 0);
    assert_int_equal(user_number(fixture, "ann"), GRAPH_NONE);
    commit(fixture);
    assert_int_equal(graph_staged(fixture->graph), 0);
    assert_int_equal(graph_counts(fixture->graph).events, 1);
    assert_int_equal(graph_counts(fixture->graph).newest_event_ms, 10);
    const struct edge *edge = edge_between(fixture, "ann", "alien");
    assert_non_null(edge);
    assert_int_equal(edge->verdict, VERDICT_LIKE);
    assert_true(edge->value == 5.0f);
}

static void what_is_not_committed_is_gone_after_a_stop(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "alien", 10, 5.0);
    check(graph_put_offset(fixture->graph, "interactions", 0, 1, &err), &err);
    commit(fixture);
    rate(fixture, "bob", "brazil", 20, 2.0);
    check(graph_put_offset(fixture->graph, "interactions", 0, 2, &err), &err);
    assert_int_equal(graph_offset(fixture->graph, "interactions", 0), 1);
    fixture_reopen(fixture);
    assert_int_equal(user_number(fixture, "bob"), GRAPH_NONE);
    assert_int_equal(graph_counts(fixture->graph).events, 1);
    assert_int_equal(graph_offset(fixture->graph, "interactions", 0), 1);
    assert_int_equal(graph_offset(fixture->graph, "interactions", 1), -1);
    assert_int_equal(graph_offset(fixture->graph, "items", 0), -1);
}

static void the_newer_event_is_the_edge_and_the_older_only_history(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 5.0);
    rate(fixture, "ann", "alien", 20, 1.0); /* same batch */
    rate(fixture, "ann", "alien", 5, 4.0);
    commit(fixture);
    assert_int_equal(edge_between(fixture, "ann", "alien")->timestamp_ms, 20);
    assert_int_equal(edge_between(fixture, "ann", "alien")->verdict, VERDICT_DISLIKE);
    rate(fixture, "ann", "alien", 20, 3.0); /* a tie: the later in the stream */
    commit(fixture);
    assert_true(edge_between(fixture, "ann", "alien")->value == 3.0f);
    assert_int_equal(graph_counts(fixture->graph).edges, 1);
    assert_int_equal(graph_counts(fixture->graph).events, 4);

    struct edge history[8];
    assert_int_equal(graph_history(fixture->graph, user_number(fixture, "ann"), 100, 8, history), 4);
    static const float values[] = {3.0f, 1.0f, 5.0f, 4.0f};
    for (int n = 0; n < 4; n++)
        assert_true(history[n].value == values[n]);
}

static void history_is_strictly_before_and_newest_first(void **state)
{
    struct fixture *fixture = *state;
    static const char *const items[] = {"a", "b", "c", "d", "e", "f"};
    for (int n = 0; n < 6; n++)
        rate(fixture, "ann", items[n], n < 3 ? 10 : 20, n); /* two groups of one time each */
    put(fixture, "ann", "a", 15, INTERACTION_IMPRESSION, 0.0);
    put(fixture, "ann", "b", 16, INTERACTION_REMOVE, 0.0);
    rate(fixture, "bob", "a", 15, 1.0);
    commit(fixture);
    uint32_t ann = user_number(fixture, "ann");
    struct edge history[8];
    assert_int_equal(graph_history(fixture->graph, ann, 0, 8, history), 0);
    assert_int_equal(graph_history(fixture->graph, ann, 10, 8, history), 0);
    assert_int_equal(graph_history(fixture->graph, ann, 11, 8, history), 3);
    assert_int_equal(graph_history(fixture->graph, ann, 20, 8, history), 3);
    assert_int_equal(graph_history(fixture->graph, ann, INT64_MAX, 8, history), 6);
    for (int n = 0; n < 6; n++)
        assert_true(history[n].value == (float)(5 - n)); /* ties: the later in the stream is the newer */
    assert_int_equal(graph_history(fixture->graph, ann, 21, 2, history), 2);
    assert_true(history[0].value == 5.0f && history[1].value == 4.0f);
    assert_int_equal(graph_history(fixture->graph, ann, 21, 0, history), 0);
    assert_int_equal(graph_history(fixture->graph, GRAPH_NONE, 21, 8, history), 0);
}

static void a_repeat_changes_nothing_at_all(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 5.0);
    rate(fixture, "ann", "alien", 10, 5.0); /* in the batch */
    put(fixture, "ann", "alien", 12, INTERACTION_IMPRESSION, 0.0);
    commit(fixture);
    rate(fixture, "ann", "alien", 10, 5.0); /* across batches, and no longer the newest */
    put(fixture, "ann", "alien", 12, INTERACTION_IMPRESSION, 0.0);
    assert_int_equal(graph_staged(fixture->graph), 0);
    commit(fixture);
    fixture_reopen(fixture);
    rate(fixture, "ann", "alien", 10, 5.0);
    commit(fixture);
    assert_int_equal(graph_counts(fixture->graph).events, 2);
    assert_int_equal(graph_counts(fixture->graph).edges, 1);
    struct edge history[4];
    assert_int_equal(graph_history(fixture->graph, user_number(fixture, "ann"), 100, 4, history), 1);
}

static void remove_takes_the_edge_unless_it_is_newer(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 5.0);
    put(fixture, "ann", "alien", 9, INTERACTION_REMOVE, 0.0);
    commit(fixture);
    assert_non_null(edge_between(fixture, "ann", "alien"));
    put(fixture, "ann", "alien", 10, INTERACTION_REMOVE, 0.0);
    commit(fixture);
    assert_null(edge_between(fixture, "ann", "alien"));
    assert_int_equal(graph_counts(fixture->graph).edges, 0);
    rate(fixture, "ann", "alien", 8, 4.0); /* late, from before the removal */
    commit(fixture);
    assert_null(edge_between(fixture, "ann", "alien"));
    fixture_reopen(fixture);
    assert_null(edge_between(fixture, "ann", "alien"));
    rate(fixture, "ann", "alien", 11, 2.0);
    commit(fixture);
    assert_int_equal(edge_between(fixture, "ann", "alien")->timestamp_ms, 11);
    struct edge history[8];
    assert_int_equal(graph_history(fixture->graph, user_number(fixture, "ann"), 100, 8, history), 3);
}

static void impressions_and_unknown_kinds_are_events_but_no_edges(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, "ann", "alien", 10, INTERACTION_IMPRESSION, 0.0);
    put(fixture, "ann", "alien", 11, INTERACTION_UNKNOWN, 0.0);
    put(fixture, "ann", "alien", 12, 256 + INTERACTION_LIKE, 0.0); /* of a newer schema; a like in its lowest byte */
    commit(fixture);
    assert_int_equal(graph_counts(fixture->graph).events, 3);
    assert_int_equal(graph_counts(fixture->graph).edges, 0);
    assert_int_equal(graph_counts(fixture->graph).newest_event_ms, 12);
    float embedding[16];
    graph_user_embedding(fixture->graph, user_number(fixture, "ann"), embedding);
    for (int n = 0; n < 16; n++)
        assert_true(embedding[n] == 0.0f);
}

static void bad_input_is_refused_and_stages_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct interaction bad[] = {
        interaction_of("", "alien", 1, INTERACTION_LIKE, 0.0),
        interaction_of("ann", "", 1, INTERACTION_LIKE, 0.0),
        interaction_of("ann", "al\xff", 1, INTERACTION_LIKE, 0.0),
        interaction_of("ann", "alien", -1, INTERACTION_LIKE, 0.0),
        interaction_of("ann", "alien", 1, INTERACTION_RATING, (double)NAN),
        interaction_of("ann", "alien", 1, INTERACTION_RATING, (double)INFINITY),
        interaction_of("ann", "alien", 1, INTERACTION_RATING, 1e300),
    };
    struct error err;
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) {
        assert_int_equal(graph_put_interaction(fixture->graph, &bad[n], &err), -1);
        assert_int_equal(err.kind, ERROR_BAD_INPUT);
    }
    struct item item = {.title = text_of("Alien")};
    assert_int_equal(graph_put_item(fixture->graph, &item, &err), -1);
    assert_int_equal(graph_put_offset(fixture->graph, "", 0, 0, &err), -1);
    assert_int_equal(graph_staged(fixture->graph), 0);
    commit(fixture);
    assert_int_equal(graph_counts(fixture->graph).users, 0);
    assert_int_equal(graph_counts(fixture->graph).items, 0);
}

static void put_titled(struct fixture *fixture, const char *id, const char *title, const char *genres)
{
    struct attribute attributes[] = {{text_of("genres"), text_of(genres)}, {text_of("year"), text_of("1979")}};
    struct item item = {text_of(id), text_of(title), attributes, 2};
    struct error err;
    check(graph_put_item(fixture->graph, &item, &err), &err);
}

static void titles_attributes_and_profiles_survive_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    put_titled(fixture, "1", "Al", "Horror|SciFi||Horror");
    put_titled(fixture, "1", "Alien", "Horror|SciFi||Horror"); /* the later one holds */
    put_titled(fixture, "2", "", "SciFi");
    struct attribute profile = {text_of("occupation"), text_of("pilot")};
    struct user user = {text_of("ann"), &profile, 1};
    check(graph_put_user(fixture->graph, &user, &err), &err);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        struct text title;
        const struct attribute *attributes;
        size_t count;
        graph_item(fixture->graph, item_number(fixture, "1"), &title, &attributes, &count);
        assert_true(text_equal(title, text_of("Alien")));
        assert_int_equal(count, 2);
        assert_true(text_equal(attributes[0].value, text_of("Horror|SciFi||Horror")));
        assert_true(text_equal(attributes[1].name, text_of("year")));
        size_t values, other_values;
        graph_item_values(fixture->graph, item_number(fixture, "1"), &values);
        graph_item_values(fixture->graph, item_number(fixture, "2"), &other_values);
        assert_int_equal(values, 3); /* Horror, SciFi, 1979 */
        assert_int_equal(other_values, 2);
        graph_item(fixture->graph, item_number(fixture, "2"), &title, &attributes, &count);
        assert_null(title.data);
        graph_user(fixture->graph, user_number(fixture, "ann"), &attributes, &count);
        assert_int_equal(count, 1);
        assert_true(text_equal(attributes[0].value, text_of("pilot")));
        assert_int_equal(graph_counts(fixture->graph).titles, 1);
        assert_int_equal(graph_counts(fixture->graph).users, 1);
        assert_int_equal(graph_counts(fixture->graph).items, 2);
        fixture_reopen(fixture);
    }
}

static void a_deleted_item_loses_its_text_and_keeps_its_edges(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    put_titled(fixture, "alien", "Alien", "Horror");
    rate(fixture, "ann", "alien", 10, 5.0);
    commit(fixture);
    check(graph_delete_item(fixture->graph, text_of("alien"), &err), &err);
    check(graph_delete_item(fixture->graph, text_of("never seen"), &err), &err);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        struct text title;
        const struct attribute *attributes;
        size_t count;
        graph_item(fixture->graph, item_number(fixture, "alien"), &title, &attributes, &count);
        assert_null(title.data);
        assert_int_equal(count, 0);
        graph_item_values(fixture->graph, item_number(fixture, "alien"), &count);
        assert_int_equal(count, 0);
        assert_int_equal(graph_counts(fixture->graph).titles, 0);
        assert_int_equal(graph_counts(fixture->graph).items, 1);
        assert_non_null(edge_between(fixture, "ann", "alien"));
        fixture_reopen(fixture);
    }
}

static void an_erased_user_leaves_nothing_and_may_return(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct attribute profile = {text_of("occupation"), text_of("pilot")};
    struct user user = {text_of("ann"), &profile, 1};
    check(graph_put_user(fixture->graph, &user, &err), &err);
    rate(fixture, "ann", "alien", 10, 5.0);
    put(fixture, "ann", "alien", 11, INTERACTION_IMPRESSION, 0.0);
    rate(fixture, "bob", "alien", 10, 5.0);
    commit(fixture);
    uint32_t ann = user_number(fixture, "ann");
    rate(fixture, "ann", "brazil", 12, 3.0); /* staged, and erased with the rest */
    check(graph_erase_user(fixture->graph, text_of("ann"), &err), &err);
    check(graph_erase_user(fixture->graph, text_of("nobody"), &err), &err);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(user_number(fixture, "ann"), GRAPH_NONE);
        size_t count;
        graph_user_edges(fixture->graph, ann, &count);
        assert_int_equal(count, 0);
        graph_item_edges(fixture->graph, item_number(fixture, "alien"), &count);
        assert_int_equal(count, 1);
        struct edge history[4];
        assert_int_equal(graph_history(fixture->graph, ann, 100, 4, history), 0);
        assert_int_equal(graph_counts(fixture->graph).edges, 1);
        assert_int_equal(graph_counts(fixture->graph).erased_users, 1);
        float embedding[16];
        graph_user_embedding(fixture->graph, ann, embedding);
        for (int n = 0; n < 16; n++)
            assert_true(embedding[n] == 0.0f);
        if (round == 0)
            fixture_reopen(fixture);
    }
    assert_int_equal(graph_user_id(fixture->graph, ann).size, 0);

    rate(fixture, "ann", "alien", 10, 5.0); /* no repeat any more */
    commit(fixture);
    assert_non_null(edge_between(fixture, "ann", "alien"));
    const struct attribute *attributes;
    size_t count;
    graph_user(fixture->graph, user_number(fixture, "ann"), &attributes, &count);
    assert_int_equal(count, 0);
    fixture_reopen(fixture);
    assert_non_null(edge_between(fixture, "ann", "alien"));
}

static void a_user_may_be_erased_and_return_within_one_batch(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "alien", 10, 5.0);
    check(graph_erase_user(fixture->graph, text_of("ann"), &err), &err);
    rate(fixture, "ann", "brazil", 9, 2.0);
    check(graph_erase_user(fixture->graph, text_of("ann"), &err), &err);
    rate(fixture, "ann", "crash", 8, 4.0);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        assert_null(edge_between(fixture, "ann", "alien"));
        assert_null(edge_between(fixture, "ann", "brazil"));
        assert_non_null(edge_between(fixture, "ann", "crash"));
        assert_int_equal(graph_counts(fixture->graph).edges, 1);
        assert_int_equal(graph_counts(fixture->graph).erased_users, 0);
        fixture_reopen(fixture);
    }
}

static void a_new_threshold_holds_for_stored_events(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 3.0);
    commit(fixture);
    assert_int_equal(edge_between(fixture, "ann", "alien")->verdict, VERDICT_DISLIKE);
    fixture->settings.like_threshold = 3.0;
    fixture_reopen(fixture);
    assert_int_equal(edge_between(fixture, "ann", "alien")->verdict, VERDICT_LIKE);
    struct edge history[1];
    assert_int_equal(graph_history(fixture->graph, user_number(fixture, "ann"), 11, 1, history), 1);
    assert_int_equal(history[0].verdict, VERDICT_LIKE);
}

/* The property test's model: every accepted event in an array, searched from end to end. */

enum { MODEL_USERS = 7, MODEL_ITEMS = 9, MODEL_EVENTS = 1500, MODEL_TIMES = 40 };

struct model_event {
    int user, item, kind;
    int64_t timestamp_ms;
    double value;
    bool gone; /* its user was erased */
};

struct model {
    struct model_event events[MODEL_EVENTS]; /* in the order in which they came */
    size_t count;
    size_t accepted;
};

static const char *const model_users[MODEL_USERS] = {"u0", "u1", "u2", "u3", "u4", "u5", "u6"};
static const char *const model_items[MODEL_ITEMS] = {"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7", "i8"};

static bool model_is_edge(int kind)
{
    return kind != INTERACTION_UNKNOWN && kind != INTERACTION_IMPRESSION && kind != INTERACTION_REMOVE;
}

static void model_put(struct model *model, struct model_event event)
{
    for (size_t n = 0; n < model->count; n++) {
        const struct model_event *known = &model->events[n];
        if (!known->gone && known->user == event.user && known->item == event.item && known->kind == event.kind &&
            known->timestamp_ms == event.timestamp_ms && known->value == event.value)
            return;
    }
    assert_true(model->count < MODEL_EVENTS);
    model->events[model->count++] = event;
    model->accepted++;
}

/* Index of the pair's edge in the events, -1: none. */
static int model_edge(const struct model *model, int user, int item)
{
    int newest = -1;
    for (size_t n = 0; n < model->count; n++) {
        const struct model_event *event = &model->events[n];
        bool counts = model_is_edge(event->kind) || event->kind == INTERACTION_REMOVE;
        if (!event->gone && counts && event->user == user && event->item == item &&
            (newest < 0 || event->timestamp_ms >= model->events[newest].timestamp_ms))
            newest = (int)n;
    }
    return newest >= 0 && model_is_edge(model->events[newest].kind) ? newest : -1;
}

static bool model_is_older(const struct model *model, int a, int b)
{
    const struct model_event *x = &model->events[a], *y = &model->events[b];
    return x->timestamp_ms != y->timestamp_ms ? x->timestamp_ms < y->timestamp_ms : a < b;
}

/* Sorts indexes of events, oldest first. */
static void model_sort(const struct model *model, int *indexes, size_t count)
{
    for (size_t n = 1; n < count; n++)
        for (size_t m = n; m > 0 && model_is_older(model, indexes[m], indexes[m - 1]); m--) {
            int swapped = indexes[m];
            indexes[m] = indexes[m - 1];
            indexes[m - 1] = swapped;
        }
}

static void compare_edges(const struct fixture *fixture, const struct model *model, const struct edge *edges,
                          size_t count, const int *indexes, size_t expected, bool of_user)
{
    assert_int_equal(count, expected);
    for (size_t n = 0; n < count; n++) {
        const struct model_event *event = &model->events[indexes[n]];
        uint32_t other =
            of_user ? item_number(fixture, model_items[event->item]) : user_number(fixture, model_users[event->user]);
        assert_int_equal(edges[n].timestamp_ms, event->timestamp_ms);
        assert_int_equal(edges[n].other, other);
        assert_int_equal(edges[n].kind, event->kind);
        if (event->kind == INTERACTION_RATING) {
            assert_true(edges[n].value == (float)event->value);
            assert_int_equal(edges[n].verdict, event->value >= 4.0 ? VERDICT_LIKE : VERDICT_DISLIKE);
        } else {
            assert_true(isnan(edges[n].value));
        }
    }
}

static size_t compare_user(struct fixture *fixture, const struct model *model, int user)
{
    int indexes[MODEL_EVENTS];
    size_t expected = 0, count = 0;
    for (int item = 0; item < MODEL_ITEMS; item++)
        if (model_edge(model, user, item) >= 0)
            indexes[expected++] = model_edge(model, user, item);
    model_sort(model, indexes, expected);
    uint32_t number = user_number(fixture, model_users[user]);
    const struct edge *edges = number == GRAPH_NONE ? NULL : graph_user_edges(fixture->graph, number, &count);
    compare_edges(fixture, model, edges, count, indexes, expected, true);
    return expected;
}

static void compare_item(struct fixture *fixture, const struct model *model, int item)
{
    int indexes[MODEL_USERS];
    size_t expected = 0, count = 0;
    for (int user = 0; user < MODEL_USERS; user++)
        if (model_edge(model, user, item) >= 0)
            indexes[expected++] = model_edge(model, user, item);
    model_sort(model, indexes, expected);
    uint32_t number = item_number(fixture, model_items[item]);
    const struct edge *edges = number == GRAPH_NONE ? NULL : graph_item_edges(fixture->graph, number, &count);
    compare_edges(fixture, model, edges, count, indexes, expected, false);
}

static void compare_history(struct fixture *fixture, const struct model *model, int user, int64_t before_ms,
                            size_t limit)
{
    int indexes[MODEL_EVENTS], newest_first[MODEL_EVENTS];
    size_t count = 0;
    for (size_t n = 0; n < model->count; n++) {
        const struct model_event *event = &model->events[n];
        if (!event->gone && event->user == user && model_is_edge(event->kind) && event->timestamp_ms < before_ms)
            indexes[count++] = (int)n;
    }
    model_sort(model, indexes, count);
    for (size_t n = 0; n < count; n++)
        newest_first[n] = indexes[count - 1 - n];
    struct edge history[MODEL_EVENTS];
    size_t got = graph_history(fixture->graph, user_number(fixture, model_users[user]), before_ms, limit, history);
    compare_edges(fixture, model, history, got, newest_first, count < limit ? count : limit, true);
}

static void compare_with_model(struct fixture *fixture, const struct model *model, struct random *random)
{
    size_t edges = 0;
    for (int user = 0; user < MODEL_USERS; user++)
        edges += compare_user(fixture, model, user);
    for (int item = 0; item < MODEL_ITEMS; item++)
        compare_item(fixture, model, item);
    for (int user = 0; user < MODEL_USERS; user++)
        compare_history(fixture, model, user, (int64_t)random_below(random, MODEL_TIMES + 2),
                        1 + (size_t)random_below(random, 30));
    assert_int_equal(graph_counts(fixture->graph).events, model->accepted);
    assert_int_equal(graph_counts(fixture->graph).edges, edges);
}

static struct model_event random_event(const struct model *model, struct random *random)
{
    static const int kinds[] = {INTERACTION_RATING, INTERACTION_RATING, INTERACTION_CLICK, INTERACTION_REMOVE,
                                INTERACTION_IMPRESSION};
    if (model->count > 0 && random_below(random, 4) == 0) { /* something that was there before */
        struct model_event known = model->events[random_below(random, model->count)];
        known.gone = false;
        return known;
    }
    struct model_event event = {
        .user = (int)random_below(random, MODEL_USERS),
        .item = (int)random_below(random, MODEL_ITEMS),
        .kind = kinds[random_below(random, 5)],
        .timestamp_ms = (int64_t)random_below(random, MODEL_TIMES),
    };
    if (event.kind == INTERACTION_RATING)
        event.value = 1.0 + (double)random_below(random, 5);
    return event;
}

static void step(struct fixture *fixture, struct model *model, struct random *random)
{
    if (random_below(random, 60) == 0) {
        struct error err;
        int user = (int)random_below(random, MODEL_USERS);
        check(graph_erase_user(fixture->graph, text_of(model_users[user]), &err), &err);
        for (size_t n = 0; n < model->count; n++)
            model->events[n].gone |= model->events[n].user == user;
        return;
    }
    struct model_event event = random_event(model, random);
    put(fixture, model_users[event.user], model_items[event.item], event.timestamp_ms, event.kind, event.value);
    model_put(model, event);
}

/* All embeddings lie within the bound of those that a restart computes exactly. */
static void reopen_within_the_bound(struct fixture *fixture)
{
    float before[MODEL_USERS][16] = {0}, after[16];
    float bound = graph_counts(fixture->graph).embedding_bound;
    for (int user = 0; user < MODEL_USERS; user++)
        if (user_number(fixture, model_users[user]) != GRAPH_NONE)
            graph_user_embedding(fixture->graph, user_number(fixture, model_users[user]), before[user]);
    fixture_reopen(fixture);
    for (int user = 0; user < MODEL_USERS; user++) {
        if (user_number(fixture, model_users[user]) == GRAPH_NONE)
            continue;
        graph_user_embedding(fixture->graph, user_number(fixture, model_users[user]), after);
        double distance = 0.0;
        for (int n = 0; n < 16; n++)
            distance += pow((double)before[user][n] - (double)after[n], 2.0);
        assert_true(sqrt(distance) <= (double)bound + 1e-5);
    }
}

enum { LARGE_USERS = 150, OF_A_USER = 80 };

/* More edges than a restart reads without threads of its own: 80 of each user. */
static void put_large(struct fixture *fixture, int items)
{
    char user[16], item[16];
    for (int i = 0; i < LARGE_USERS * OF_A_USER; i++) {
        snprintf(user, sizeof user, "u%d", i % LARGE_USERS);
        snprintf(item, sizeof item, "i%d", (i / LARGE_USERS * 7 + i % LARGE_USERS) % items);
        rate(fixture, user, item, 1000000 + i * 7919 % 20011, 1 + i % 5);
        if (i % 2000 == 0)
            commit(fixture);
    }
    commit(fixture);
}

static void assert_read_back(struct fixture *fixture)
{
    static struct edge before[LARGE_USERS][OF_A_USER];
    static float embeddings[LARGE_USERS][GRAPH_DIMENSION_LIMIT];
    size_t size = fixture->settings.dimension * sizeof(float);
    char user[16];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < LARGE_USERS; i++) {
            size_t count;
            float embedding[GRAPH_DIMENSION_LIMIT];
            snprintf(user, sizeof user, "u%d", i);
            uint32_t number = user_number(fixture, user);
            const struct edge *edges = graph_user_edges(fixture->graph, number, &count);
            graph_user_embedding(fixture->graph, number, embedding);
            assert_int_equal(count, OF_A_USER);
            if (round == 0) {
                memcpy(before[i], edges, sizeof before[i]);
                memcpy(embeddings[i], embedding, size);
            }
            for (size_t at = 0; at < count; at++) {
                assert_true(at == 0 || edges[at - 1].timestamp_ms <= edges[at].timestamp_ms);
                assert_int_equal(edges[at].timestamp_ms, before[i][at].timestamp_ms);
                assert_int_equal(edges[at].other, before[i][at].other);
            }
            assert_memory_equal(embedding, embeddings[i], size);
        }
        fixture_reopen(fixture);
    }
}

static void a_large_graph_is_read_back_edge_for_edge(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.push_threshold = 0.0f; /* exact: a restart computes the same, bit for bit */
    fixture_reopen(fixture);
    put_large(fixture, 110);
    assert_read_back(fixture);
}

/* One axis a last digit. */
static bool vector_of_title(void *context, struct text title, float *out)
{
    (void)context;
    memset(out, 0, GRAPH_DIMENSION_LIMIT * sizeof *out);
    out[(unsigned char)title.data[title.size - 1]] = 1.0f;
    return true;
}

/* So many large rows are more than one piece of memory: a thread clears them beside those that fill them. */
static void large_rows_are_read_back_with_the_vectors_of_titles(void **state)
{
    enum { ITEMS = 700, NODES = LARGE_USERS + ITEMS };
    struct fixture *fixture = *state;
    struct error err;
    char name[16];
    fixture->settings.push_threshold = 0.0f;
    fixture->settings.layers = 2;
    fixture->settings.dimension = GRAPH_DIMENSION_LIMIT;
    fixture->settings.base = GRAPH_BASE_TITLE;
    fixture->settings.title_vector = vector_of_title;
    fixture_reopen(fixture);
    for (int i = 0; i < ITEMS; i += 2) {
        snprintf(name, sizeof name, "i%d", i);
        const struct item item = {.item_id = text_of(name), .title = text_of(name)};
        check(graph_put_item(fixture->graph, &item, &err), &err);
    }
    put_large(fixture, ITEMS);
    assert_true(graph_memory(fixture->graph).embeddings > (size_t)NODES * 4 * GRAPH_DIMENSION_LIMIT * sizeof(float));
    assert_read_back(fixture);
}

static void any_interleaving_agrees_with_a_naive_model(void **state)
{
    struct fixture *fixture = *state;
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    struct random random = {20260131};
    for (int batch = 0; batch < 120; batch++) {
        size_t steps = 1 + (size_t)random_below(&random, 16);
        for (size_t n = 0; n < steps; n++)
            step(fixture, model, &random);
        commit(fixture);
        compare_with_model(fixture, model, &random);
        if (random_below(&random, 8) == 0) {
            reopen_within_the_bound(fixture);
            compare_with_model(fixture, model, &random);
        }
    }
    assert_true(model->accepted > 500);
    free(model);
}

int main(void)
{
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_follow_kind_value_and_label),
        PROMISE(nothing_is_seen_before_the_commit),
        PROMISE(what_is_not_committed_is_gone_after_a_stop),
        PROMISE(the_newer_event_is_the_edge_and_the_older_only_history),
        PROMISE(history_is_strictly_before_and_newest_first),
        PROMISE(a_repeat_changes_nothing_at_all),
        PROMISE(remove_takes_the_edge_unless_it_is_newer),
        PROMISE(impressions_and_unknown_kinds_are_events_but_no_edges),
        PROMISE(bad_input_is_refused_and_stages_nothing),
        PROMISE(titles_attributes_and_profiles_survive_a_restart),
        PROMISE(a_deleted_item_loses_its_text_and_keeps_its_edges),
        PROMISE(an_erased_user_leaves_nothing_and_may_return),
        PROMISE(a_user_may_be_erased_and_return_within_one_batch),
        PROMISE(a_new_threshold_holds_for_stored_events),
        PROMISE(a_large_graph_is_read_back_edge_for_edge),
        PROMISE(large_rows_are_read_back_with_the_vectors_of_titles),
        PROMISE(any_interleaving_agrees_with_a_naive_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
