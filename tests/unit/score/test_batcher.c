/* Many requests at once: the same answers, each once. */
#include <math.h>
#include <unistd.h>

#include "base/clock.h"
#include "score/batcher.h"
#include "score/scene.h"

enum {
    REQUESTS = HEADRACE_SLOWDOWN > 1 ? 24 : 60,
    LONG = HEADRACE_SLOWDOWN > 1 ? 50 : 150,
    TAKE_MS = 60000 * HEADRACE_SLOWDOWN
};

static const struct exit_rule some_leave = {.kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 0.5f};
static const struct exit_rule everybody_stays = {.kind = EXIT_RULE_FULL};

/* A request, and the job it goes through the batcher as. */
struct asked {
    struct batch_job job; /* the first */
    char id[8], user[8], title[16];
    struct request_candidate candidates[LONG];
    struct score_request request;
    struct arena arena;
    size_t taken;
};

struct crowd {
    struct engine *engine;
    struct scorer *scorer;
    struct asked *asked; /* REQUESTS */
    size_t count;
};

static void make_scorer(struct crowd *crowd, struct scene *scene, struct exit_rule rule, size_t threads, size_t bytes)
{
    const struct engine_settings engine = {
        .rule = rule, .threads = threads, .mode = ENGINE_F32, .prefix_cache_bytes = bytes};
    const struct scorer_settings settings = {.similar_mode = SIMILAR_NONE,
                                             .history_max = 15,
                                             .history_min = 3,
                                             .max_candidates = LONG,
                                             .explain = true,
                                             .model_id = "tiny",
                                             .heads_id = "test",
                                             .heads = &scene->heads,
                                             .rule = rule};
    struct error err;
    check(engine_create(&crowd->engine, &scene->model, &scene->heads, &engine, &err), &err);
    check(scorer_create(&crowd->scorer, &settings, scene->fixture->graph, scene->prompt, crowd->engine, &err), &err);
}

static struct crowd crowd_make(struct scene *scene, struct exit_rule rule)
{
    struct crowd crowd = {.asked = calloc(REQUESTS, sizeof *crowd.asked)};
    assert_non_null(crowd.asked);
    make_scorer(&crowd, scene, rule, 2, 1 << 24);
    return crowd;
}

static void crowd_free(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++)
        arena_free(&crowd->asked[i].arena);
    free(crowd->asked);
    scorer_destroy(crowd->scorer);
    engine_destroy(crowd->engine);
}

/* Of this user and so many candidates: the scene's in turn, beyond those by titles of their own. */
static struct asked *ask(struct crowd *crowd, struct scene *scene, size_t user, size_t candidates)
{
    struct asked *asked = &crowd->asked[crowd->count];
    snprintf(asked->id, sizeof asked->id, "%zu", crowd->count++);
    snprintf(asked->user, sizeof asked->user, "u%zu", user);
    for (size_t c = 0; c < candidates; c++) {
        asked->candidates[c] = scene->candidates[c % CANDIDATES];
        if (c >= CANDIDATES)
            asked->candidates[c].title = text_of("a title that came with the request");
    }
    asked->request = (struct score_request){.request_id = text_of(asked->id),
                                            .user_id = text_of(asked->user),
                                            .timestamp_ms = 1000,
                                            .candidates = asked->candidates,
                                            .candidate_count = candidates};
    arena_init(&asked->arena, 0);
    return asked;
}

static void prepare(struct crowd *crowd, struct asked *asked)
{
    struct error err;
    asked->job = (struct batch_job){.arrived_ns = clock_monotonic_ns(), .deadline_ns = INT64_MAX};
    check(scorer_prepare(crowd->scorer, &asked->request, &asked->arena, &asked->job.response, &asked->job.asking, &err),
          &err);
}

static struct batcher *batcher_of(struct crowd *crowd, size_t max_tokens, int max_wait_ms, enum order_overload overload,
                                  double patience_s)
{
    const struct batcher_settings settings = {.capacity = REQUESTS,
                                              .max_tokens = max_tokens,
                                              .max_wait_ms = max_wait_ms,
                                              .overload = overload,
                                              .patience_s = patience_s};
    struct batcher *batcher;
    struct error err;
    check(batcher_create(&batcher, &settings, crowd->scorer, &err), &err);
    return batcher;
}

/* All that were put, each once, finished. */
static void take_all(struct crowd *crowd, struct batcher *batcher)
{
    struct error err;
    for (size_t i = 0; i < crowd->count; i++) {
        struct asked *asked = (struct asked *)batcher_take(batcher, TAKE_MS);
        assert_non_null(asked);
        assert_int_equal(asked->taken++, 0);
        assert_false(asked->job.left);
        if (asked->job.asking != NULL)
            check(scorer_finish(crowd->scorer, asked->job.asking, &asked->job.response, &err), &err);
    }
    assert_null(batcher_take(batcher, 0));
    assert_true(batcher_alive(batcher, &err));
}

/* On an engine of one thread that keeps nothing, one request after the other. */
static void assert_as_one_by_one(const struct crowd *crowd, struct scene *scene, struct exit_rule rule)
{
    struct crowd single = {0};
    make_scorer(&single, scene, rule, 1, 0);
    for (size_t i = 0; i < crowd->count; i++) {
        const struct asked *asked = &crowd->asked[i];
        const struct score_response *together = &asked->job.response;
        struct score_response alone;
        struct arena arena;
        struct error err;
        arena_init(&arena, 0);
        check(scorer_score(single.scorer, &asked->request, 0, &arena, &alone, &err), &err);
        assert_int_equal(together->status, alone.status);
        assert_int_equal(together->candidate_count, alone.candidate_count);
        for (size_t c = 0; c < alone.candidate_count; c++) {
            const struct scored_candidate *a = &together->candidates[c], *b = &alone.candidates[c];
            assert_true(text_equal(a->item_id, b->item_id));
            assert_memory_equal(&a->probability, &b->probability, sizeof a->probability);
            assert_int_equal(a->exit_layer, b->exit_layer);
            assert_int_equal(a->status, b->status);
            assert_int_equal(a->has_explanation, b->has_explanation);
        }
        arena_free(&arena);
    }
    scorer_destroy(single.scorer);
    engine_destroy(single.engine);
}

static uint64_t batches(const struct crowd *crowd)
{
    struct buckets_counts counts = buckets_read(&scorer_totals(crowd->scorer)->batch_requests);
    return counts.up_to[counts.count];
}

static void answers_are_those_of_one_by_one_to_the_bit_and_each_comes_once(void **state)
{
    struct scene *scene = *state;
    static const size_t budgets[] = {150, 2048};
    for (size_t b = 0; b < 2; b++) {
        struct crowd crowd = crowd_make(scene, some_leave);
        struct batcher *batcher = batcher_of(&crowd, budgets[b], 0, ORDER_WAIT, 0);
        size_t cut = 0, engaged = 0;
        for (size_t i = 0; i < REQUESTS; i++) {
            struct asked *asked = ask(&crowd, scene, i * i % 7, 1 + i * 5 % CANDIDATES);
            asked->request.explain = i % 9 == 0;
            prepare(&crowd, asked);
            const struct engine_prompt *prompt = &asked->job.asking->prompt;
            engaged += prompt->candidate_count > 0;
            cut += prompt->candidate_count > 1 && prompt->offsets[prompt->candidate_count] > budgets[b];
        }
        for (size_t i = 0; i < REQUESTS; i++)
            batcher_put(batcher, &crowd.asked[i].job);
        take_all(&crowd, batcher);
        batcher_destroy(batcher);
        assert_as_one_by_one(&crowd, scene, some_leave);
        if (b == 0)
            assert_true(cut > 5 && batches(&crowd) > engaged);
        else
            assert_true(cut == 0 && batches(&crowd) < engaged);
        crowd_free(&crowd);
    }
}

/* What its evidence makes of a prompt is not finite: as if a hidden state were broken. */
static void only_who_breaks_a_batch_is_answered_by_an_error(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, some_leave);
    ask(&crowd, scene, 0, LONG); /* the others come while it runs */
    for (size_t i = 1; i < 12; i++)
        ask(&crowd, scene, i % 3, 4);
    for (size_t i = 0; i < 12; i++)
        prepare(&crowd, &crowd.asked[i]);
    ((float *)crowd.asked[5].job.asking->prompt.evidence)[2] = NAN;
    struct batcher *batcher = batcher_of(&crowd, 1 << 20, 0, ORDER_WAIT, 0);
    for (size_t i = 0; i < 12; i++)
        batcher_put(batcher, &crowd.asked[i].job);
    take_all(&crowd, batcher);
    batcher_destroy(batcher);

    struct score_response *broken = &crowd.asked[5].job.response;
    assert_int_equal(broken->status, RESPONSE_ERROR);
    assert_int_equal(broken->candidate_count, 0);
    assert_non_null(strstr(broken->error.data, "finite"));
    assert_true(totals_get(&scorer_totals(crowd.scorer)->alone) > 1);
    struct asked last = crowd.asked[5];
    crowd.asked[5] = crowd.asked[--crowd.count];
    assert_as_one_by_one(&crowd, scene, some_leave);
    arena_free(&last.arena);
    crowd_free(&crowd);
}

static void a_deadline_that_passes_while_waiting_is_expired(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    for (size_t i = 0; i < 6; i++) {
        ask(&crowd, scene, i, i == 0 ? LONG : 3);
        prepare(&crowd, &crowd.asked[i]);
    }
    struct batcher *batcher = batcher_of(&crowd, 2048, 0, ORDER_WAIT, 0);
    int64_t now_ns = clock_monotonic_ns();
    for (size_t i = 0; i < 6; i++) {
        crowd.asked[i].job.deadline_ns = i % 2 == 0 ? INT64_MAX : now_ns - 1;
        batcher_put(batcher, &crowd.asked[i].job);
    }
    take_all(&crowd, batcher);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(crowd.asked[i].job.response.status, i % 2 == 0 ? RESPONSE_OK : RESPONSE_EXPIRED);
        assert_int_equal(crowd.asked[i].job.response.candidate_count == 0, i % 2);
    }
    batcher_destroy(batcher);
    crowd_free(&crowd);
}

/* A patience of nothing, once the engine's speed is known. */
static struct batcher *overload(struct crowd *crowd, struct scene *scene, enum order_overload policy)
{
    struct batcher *batcher = batcher_of(crowd, 2048, 0, policy, 0);
    ask(crowd, scene, 0, 2);
    prepare(crowd, &crowd->asked[0]);
    batcher_put(batcher, &crowd->asked[0].job);
    struct asked *first = (struct asked *)batcher_take(batcher, TAKE_MS);
    struct error err;
    assert_ptr_equal(first, crowd->asked);
    check(scorer_finish(crowd->scorer, first->job.asking, &first->job.response, &err), &err);
    assert_int_equal(first->job.response.candidates[0].exit_layer, 6); /* nothing was known of the speed */
    arena_free(&first->arena);
    crowd->count = 0;
    memset(crowd->asked, 0, sizeof *crowd->asked);
    for (size_t i = 0; i < 20; i++) {
        ask(crowd, scene, i, i == 0 ? LONG : 5);
        prepare(crowd, &crowd->asked[i]);
    }
    for (size_t i = 0; i < 20; i++)
        batcher_put(batcher, &crowd->asked[i].job);
    return batcher;
}

static void overload_makes_answers_shallow_and_says_so(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    struct batcher *batcher = overload(&crowd, scene, ORDER_DEPTH);
    size_t by_exit_0 = 0, by_first_exit = 0;
    take_all(&crowd, batcher);
    batcher_destroy(batcher);
    for (size_t i = 0; i < crowd.count; i++) {
        const struct score_response *response = &crowd.asked[i].job.response;
        assert_int_equal(response->status, RESPONSE_OK);
        for (size_t c = 0; c < response->candidate_count; c++) {
            const struct scored_candidate *answer = &response->candidates[c];
            if (c % CANDIDATES == ITEMS && c < CANDIDATES) {
                assert_int_equal(answer->status, CANDIDATE_COLD_ITEM);
                continue;
            }
            assert_int_equal(answer->status, CANDIDATE_SHALLOW);
            assert_true(answer->exit_layer == 0 || answer->exit_layer == 2);
            assert_true(answer->probability > 0 && answer->probability < 1);
            by_exit_0 += answer->exit_layer == 0;
            by_first_exit += answer->exit_layer == 2;
        }
    }
    assert_true(by_exit_0 > 0 && by_first_exit > 0);
    crowd_free(&crowd);
}

static void overload_refuses_when_told_to_and_answers_the_rest_in_full(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    struct batcher *batcher = overload(&crowd, scene, ORDER_SHED);
    size_t refused = 0;
    take_all(&crowd, batcher);
    batcher_destroy(batcher);
    for (size_t i = 0; i < crowd.count; i++) {
        const struct score_response *response = &crowd.asked[i].job.response;
        refused += response->status == RESPONSE_SHED;
        assert_int_equal(response->candidate_count == 0, response->status == RESPONSE_SHED);
        if (response->candidate_count > 0)
            assert_int_equal(response->candidates[0].exit_layer, 6);
    }
    assert_in_range(refused, 1, crowd.count - 1);
    crowd_free(&crowd);
}

static size_t tokens_of(const struct asked *asked)
{
    const struct engine_prompt *prompt = &asked->job.asking->prompt;
    return prompt->prefix_length + prompt->offsets[prompt->candidate_count];
}

/* It would wait for as long as a test may take: only company that fills a batch ends it. */
static void an_idle_engine_waits_for_nobody_and_a_busy_one_gathers(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    for (size_t i = 0; i < 4; i++) {
        ask(&crowd, scene, i, i % 2 == 1 ? LONG : 1);
        prepare(&crowd, &crowd.asked[i]);
    }
    size_t two = tokens_of(&crowd.asked[2]) + tokens_of(&crowd.asked[3]);
    struct batcher *batcher = batcher_of(&crowd, two, 10 * TAKE_MS, ORDER_WAIT, 0);
    batcher_put(batcher, &crowd.asked[0].job);
    assert_ptr_equal(batcher_take(batcher, TAKE_MS), &crowd.asked[0].job);

    batcher_put(batcher, &crowd.asked[1].job); /* long enough for the next to find the engine busy */
    while (batches(&crowd) < 2)
        usleep(100);
    batcher_put(batcher, &crowd.asked[2].job);
    assert_ptr_equal(batcher_take(batcher, TAKE_MS), &crowd.asked[1].job);
    assert_null(batcher_take(batcher, 20)); /* the engine is free, and this one waits for company */
    batcher_put(batcher, &crowd.asked[3].job);
    assert_non_null(batcher_take(batcher, TAKE_MS));
    assert_non_null(batcher_take(batcher, TAKE_MS));
    assert_int_equal(batches(&crowd), 3);
    batcher_destroy(batcher);
    crowd_free(&crowd);
}

static void what_waits_at_the_stop_comes_back_undone(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    struct batcher *batcher = batcher_of(&crowd, 64, 0, ORDER_WAIT, 0);
    size_t done = 0, left = 0;
    for (size_t i = 0; i < 20; i++) {
        ask(&crowd, scene, i, i == 0 ? LONG : 5);
        prepare(&crowd, &crowd.asked[i]);
        batcher_put(batcher, &crowd.asked[i].job);
    }
    batcher_stop(batcher);
    for (struct batch_job *job; (job = batcher_take(batcher, 0)) != NULL;)
        *(job->left ? &left : &done) += 1;
    assert_int_equal(done + left, 20);
    assert_true(left > 0);
    batcher_destroy(batcher);
    crowd_free(&crowd);
}

static bool nobody_is(const struct batch_job *job)
{
    (void)job;
    return false;
}

static void what_nobody_wants_any_more_is_not_computed(void **state)
{
    struct scene *scene = *state;
    struct crowd crowd = crowd_make(scene, everybody_stays);
    const struct batcher_settings settings = {
        .capacity = 4, .max_tokens = 2048, .overload = ORDER_WAIT, .is_wanted = nobody_is};
    struct batcher *batcher;
    struct error err;
    check(batcher_create(&batcher, &settings, crowd.scorer, &err), &err);
    for (size_t i = 0; i < 4; i++) {
        ask(&crowd, scene, i, 5);
        prepare(&crowd, &crowd.asked[i]);
        batcher_put(batcher, &crowd.asked[i].job);
    }
    for (size_t i = 0; i < 4; i++) {
        struct batch_job *job = batcher_take(batcher, TAKE_MS);
        assert_non_null(job);
        assert_true(job->left);
    }
    assert_int_equal(engine_token_layers(crowd.engine), 0);
    batcher_destroy(batcher);
    crowd_free(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_one_by_one_to_the_bit_and_each_comes_once),
        cmocka_unit_test(only_who_breaks_a_batch_is_answered_by_an_error),
        cmocka_unit_test(a_deadline_that_passes_while_waiting_is_expired),
        cmocka_unit_test(overload_makes_answers_shallow_and_says_so),
        cmocka_unit_test(overload_refuses_when_told_to_and_answers_the_rest_in_full),
        cmocka_unit_test(an_idle_engine_waits_for_nobody_and_a_busy_one_gathers),
        cmocka_unit_test(what_waits_at_the_stop_comes_back_undone),
        cmocka_unit_test(what_nobody_wants_any_more_is_not_computed),
    };
    return cmocka_run_group_tests(tests, scene_set_up, scene_tear_down);
}
