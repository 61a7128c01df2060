#include "graph/fixture.h"

#include "replay/audit.h"

static const struct audit nothing_trained = {INT64_MIN, INT64_MIN};

/* Plans Ann's request for "alien" as of `planned_ms` and audits it as if it had been asked at `asked_ms`. */
static int audit_at(struct fixture *fixture, const char *user, int64_t planned_ms, int64_t asked_ms,
                    const struct audit *audit, bool judged, struct error *err)
{
    const struct plan_settings settings = {.similar_mode = SIMILAR_NONE, .history_max = 15};
    struct request_candidate candidate = {.item_id = text_of("alien")};
    struct score_request request = {.request_id = text_of("r7"),
                                    .user_id = text_of(user),
                                    .timestamp_ms = planned_ms,
                                    .candidates = &candidate,
                                    .candidate_count = 1};
    struct arena arena;
    struct plan plan;
    arena_init(&arena, 0);
    check(plan_request(fixture->graph, &settings, &request, &arena, &plan, err), err);
    request.timestamp_ms = asked_ms;
    int result = audit_request(audit, &request, &plan, 41, judged, err);
    arena_free(&arena);
    return result;
}

static void assert_leak(int result, const struct error *err, const char *fact)
{
    assert_int_equal(result, -1);
    assert_int_equal(err->kind, ERROR_FATAL);
    const char *const told[] = {"row 41", "\"r7\"", "\"ann\"", "\"alien\"", "1970-01-01T00:00:00.200Z", fact};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (strstr(err->message, told[i]) == NULL)
            fail_msg("\"%s\" is not in: %s", told[i], err->message);
}

static void what_was_known_passes(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "brazil", 100, 5);
    rate(fixture, "bob", "alien", 199, 5);
    commit(fixture);
    check(audit_at(fixture, "ann", 200, 200, &nothing_trained, true, &err), &err);
    const struct audit trained = {.vectors_ms = 199, .heads_ms = 199};
    check(audit_at(fixture, "ann", 200, 200, &trained, true, &err), &err);
}

static void a_future_rating_in_the_history_is_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "brazil", 250, 5);
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 300, 200, &nothing_trained, true, &err), &err,
                "the prompt's history holds an event of 1970-01-01T00:00:00.250Z");
}

static void a_rating_of_the_very_same_time_is_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "brazil", 200, 5);
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 201, 200, &nothing_trained, true, &err), &err, "the prompt's history");
}

static void a_future_event_of_an_inline_history_is_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    const struct plan_settings settings = {.history_max = 15, .history_min = 1};
    struct request_candidate candidate = {.item_id = text_of("alien")};
    struct request_event event = {.item_id = text_of("brazil"), .kind = INTERACTION_LIKE, .timestamp_ms = 250};
    struct score_request request = {.request_id = text_of("r7"),
                                    .user_id = text_of("ann"),
                                    .timestamp_ms = 300,
                                    .candidates = &candidate,
                                    .candidate_count = 1,
                                    .has_history = true,
                                    .history = &event,
                                    .history_count = 1};
    struct arena arena;
    struct plan plan;
    arena_init(&arena, 0);
    check(plan_request(fixture->graph, &settings, &request, &arena, &plan, &err), &err);
    request.timestamp_ms = 200;
    assert_leak(audit_request(&nothing_trained, &request, &plan, 41, true, &err), &err, "the prompt's history");
    arena_free(&arena);
}

static void a_future_count_in_the_evidence_is_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "brazil", 100, 5);
    rate(fixture, "bob", "alien", 250, 5);
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 300, 200, &nothing_trained, true, &err), &err,
                "the evidence holds an event of 1970-01-01T00:00:00.250Z");
}

static void embeddings_that_know_the_future_are_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "brazil", 100, 5);
    rate(fixture, "bob", "casablanca", 250, 5); /* neither this user nor this item */
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 200, 200, &nothing_trained, true, &err), &err,
                "the embeddings come from a graph that holds an event of 1970-01-01T00:00:00.250Z");
}

static void vectors_trained_on_the_future_are_a_leak(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    const struct audit audit = {.vectors_ms = 200, .heads_ms = INT64_MIN};
    rate(fixture, "ann", "brazil", 100, 5);
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 200, 200, &audit, false, &err), &err, "graph.vectors were trained on");
}

static void heads_trained_on_the_future_are_a_leak_where_they_are_judged(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    const struct audit audit = {.vectors_ms = INT64_MIN, .heads_ms = 999};
    rate(fixture, "ann", "brazil", 100, 5);
    commit(fixture);
    assert_leak(audit_at(fixture, "ann", 200, 200, &audit, true, &err), &err,
                "the heads were trained on an event of 1970-01-01T00:00:00.999Z");
    check(audit_at(fixture, "ann", 200, 200, &audit, false, &err), &err);
}

int main(void)
{
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        PROMISE(what_was_known_passes),
        PROMISE(a_future_rating_in_the_history_is_a_leak),
        PROMISE(a_rating_of_the_very_same_time_is_a_leak),
        PROMISE(a_future_event_of_an_inline_history_is_a_leak),
        PROMISE(a_future_count_in_the_evidence_is_a_leak),
        PROMISE(embeddings_that_know_the_future_are_a_leak),
        PROMISE(vectors_trained_on_the_future_are_a_leak),
        PROMISE(heads_trained_on_the_future_are_a_leak_where_they_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
