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

/* A group of users around film 0 to 9 and another around 10 to 19; everyone knows film 20, which the first group likes.
 */
static void fill_groups(struct fixture *fixture)
{
    struct error err;
    struct attribute genre = {text_of("genre"), text_of("western")};
    for (int i = 0; i <= 20; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        const struct item item = {text_of(id), text_of("film"), &genre, i >= 18 || i < 3};
        check(graph_put_item(fixture->graph, &item, &err), &err);
    }
    for (int u = 0; u < 80; u++) {
        char user[8], item[8];
        snprintf(user, sizeof user, "u%d", u);
        for (int n = 0; n < 4; n++) {
            snprintf(item, sizeof item, "%d", u % 2 * 10 + (u / 2 + n * n) % 10);
            rate(fixture, user, item, 100 + n, 5 - n);
        }
        rate(fixture, user, "20", 200, u % 2 == 0 ? 5 : 1);
    }
    commit(fixture);
}

static void plan_for(struct fixture *fixture, const struct score_request *request, struct arena *arena,
                     struct plan *plan)
{
    const struct plan_settings settings = {
        .similar_mode = SIMILAR_CANDIDATE, .similar_users = 4, .history_max = 15, .history_min = 3};
    struct error err;
    arena_init(arena, 0);
    check(plan_request(fixture->graph, &settings, request, arena, plan, &err), &err);
}

static struct request_event rating_of(const char *item, double value, int64_t timestamp_ms)
{
    return (struct request_event){.item_id = text_of(item),
                                  .kind = INTERACTION_RATING,
                                  .has_value = true,
                                  .value = value,
                                  .timestamp_ms = timestamp_ms};
}

/* The history of u0 in a request, shuffled, one film twice, with what is no edge and what comes too late between. */
static void a_guest_with_a_history_gets_the_evidence_of_a_user_with_these_edges(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.push_threshold = 0.0f;
    fixture_reopen(fixture);
    fill_groups(fixture);
    struct request_candidate candidates[] = {{.item_id = text_of("20")}, {.item_id = text_of("2")}};
    struct request_event events[] = {
        rating_of("4", 3, 102),  rating_of("0", 5, 100),
        rating_of("1", 1, 90),   rating_of("20", 5, 200),
        rating_of("1", 4, 101),  {.item_id = text_of("17"), .kind = INTERACTION_IMPRESSION, .timestamp_ms = 101},
        rating_of("16", 5, 250), rating_of("9", 2, 103),
    };
    struct score_request request = {.user_id = text_of("guest"),
                                    .timestamp_ms = 250,
                                    .candidates = candidates,
                                    .candidate_count = 2,
                                    .has_history = true,
                                    .history = events,
                                    .history_count = 8};
    struct arena guest_arena, user_arena;
    struct plan guest, user;
    plan_for(fixture, &request, &guest_arena, &guest);
    request.user_id = text_of("u0");
    request.has_history = false;
    plan_for(fixture, &request, &user_arena, &user);
    assert_false(guest.cold_user || user.cold_user);
    for (size_t i = 0; i < 2; i++) {
        double of_guest[EVIDENCE_COUNT], of_user[EVIDENCE_COUNT];
        evidence_values(&guest.candidates[i].evidence, of_guest);
        evidence_values(&user.candidates[i].evidence, of_user);
        for (int n = 0; n < EVIDENCE_COUNT; n++)
            if (strncmp(evidence_names[n], "vote", 4) != 0)
                assert_float_equal(of_guest[n], of_user[n], strcmp(evidence_names[n], "cosine") == 0 ? 1e-4f : 0.0f);
    }
    const struct evidence *evidence = &guest.candidates[0].evidence;
    assert_true(evidence->user_count == 5.0 && evidence->user_likes == 3.0);
    assert_int_equal(guest.candidates[0].similar_count, 4);
    assert_true(guest.candidates[0].similar[0].cosine > 0.9999); /* u0 itself */
    assert_true(text_equal(guest.candidates[0].similar[0].verdict, text_of("liked")));
    assert_true(evidence->vote_4 > 0.8 && evidence->vote_30 > 0.9);
    arena_free(&guest_arena);
    arena_free(&user_arena);
}

static void a_guest_without_a_history_is_compared_with_nobody(void **state)
{
    struct fixture *fixture = *state;
    fill_groups(fixture);
    struct request_candidate candidate = {.item_id = text_of("20")};
    const struct score_request request = {
        .user_id = text_of("guest"), .timestamp_ms = 250, .candidates = &candidate, .candidate_count = 1};
    struct arena arena;
    struct plan plan;
    plan_for(fixture, &request, &arena, &plan);
    const struct evidence *evidence = &plan.candidates[0].evidence;
    assert_true(plan.cold_user && plan.candidates[0].similar_count == 0);
    assert_true(evidence->vote_4 == 0.5 && evidence->cosine == 0.0 && evidence->item_count == 80.0);
    arena_free(&arena);
}

/* What answers without a model: the same evidence, and the same said of user and titles. */
static void planning_for_the_evidence_alone_changes_nothing_of_it(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    const struct item titled = {.item_id = text_of("3"), .title = text_of("film 3")};
    check(graph_put_item(fixture->graph, &titled, &err), &err);
    for (int u = 0; u < 12; u++)
        for (int n = u % 3; n < 8; n += 1 + u % 4) {
            char user[16], item[16];
            snprintf(user, sizeof user, "u%d", u);
            snprintf(item, sizeof item, "%d", n);
            rate(fixture, user, item, 100 + n + u, (u + n) % 3 == 0 ? 2 : 5);
        }
    commit(fixture);
    struct request_candidate candidates[] = {
        {.item_id = text_of("3")}, {.item_id = text_of("4")}, {.item_id = text_of("7")}, {.item_id = text_of("no")}};
    candidates[2].title = text_of("told here");
    size_t cold = 0;
    for (int u = 0; u < 13; u++) { /* the last one is unknown */
        char user[16];
        struct arena arena;
        struct plan plans[2];
        snprintf(user, sizeof user, "u%d", u);
        const struct score_request request = {
            .user_id = text_of(user), .timestamp_ms = 108, .candidates = candidates, .candidate_count = 4};
        arena_init(&arena, 0);
        for (int p = 0; p < 2; p++) {
            const struct plan_settings settings = {.similar_mode = SIMILAR_CANDIDATE,
                                                   .similar_users = 4,
                                                   .history_max = 15,
                                                   .history_min = 3,
                                                   .evidence_only = p == 1};
            check(plan_request(fixture->graph, &settings, &request, &arena, &plans[p], &err), &err);
        }
        assert_int_equal(plans[0].cold_user, plans[1].cold_user);
        cold += plans[0].cold_user;
        for (size_t c = 0; c < 4; c++) {
            const struct plan_candidate *whole = &plans[0].candidates[c], *alone = &plans[1].candidates[c];
            assert_memory_equal(&whole->evidence, &alone->evidence, sizeof whole->evidence);
            assert_int_equal(whole->prompt.title.data == NULL, alone->prompt.title.data == NULL);
        }
        arena_free(&arena);
    }
    assert_in_range(cold, 2, 11);
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
        cmocka_unit_test_setup_teardown(a_guest_with_a_history_gets_the_evidence_of_a_user_with_these_edges,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_guest_without_a_history_is_compared_with_nobody, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(planning_for_the_evidence_alone_changes_nothing_of_it, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
