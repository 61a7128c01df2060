/* Answers by the tiny model, by its heads and by exit 0. */
#include <math.h>

#include "score/exit0.h"
#include "score/scene.h"

struct answers {
    struct scored_candidate candidates[CANDIDATES];
    uint64_t tokens, token_layers;
    struct buckets_counts shadow;
    struct arena arena;
};

/* A scorer of its own with this rule; `computes` false: without a model. */
static void ask(struct scene *scene, const struct heads *heads, struct exit_rule rule, bool computes, double shadow,
                struct answers *answers)
{
    const struct engine_settings engine_settings = {.rule = rule, .threads = 1, .mode = ENGINE_F32};
    const struct scorer_settings settings = {.similar_mode = SIMILAR_NONE,
                                             .history_max = 15,
                                             .history_min = 3,
                                             .max_candidates = 100,
                                             .explain = true,
                                             .model_id = "tiny",
                                             .heads_id = "test",
                                             .heads = heads,
                                             .rule = rule,
                                             .shadow = shadow};
    struct engine *engine = NULL;
    struct scorer *scorer;
    struct score_response response;
    struct error err;
    if (computes)
        check(engine_create(&engine, &scene->model, heads, &engine_settings, &err), &err);
    check(scorer_create(&scorer, &settings, scene->fixture->graph, scene->prompt, engine, &err), &err);
    arena_init(&answers->arena, 0);
    check(scorer_score(scorer, &scene->request, 0, &answers->arena, &response, &err), &err);
    assert_int_equal(response.status, RESPONSE_OK);
    assert_int_equal(response.candidate_count, CANDIDATES);
    memcpy(answers->candidates, response.candidates, sizeof answers->candidates);
    const struct score_totals *totals = scorer_totals(scorer);
    answers->tokens = totals_get(&totals->tokens);
    answers->token_layers = totals_get(&totals->token_layers);
    answers->shadow = buckets_read(&totals->shadow);
    scorer_destroy(scorer);
    engine_destroy(engine);
}

static struct evidence evidence_of(struct scene *scene, size_t candidate)
{
    const struct plan_settings settings = {.similar_mode = SIMILAR_NONE, .history_max = 15, .history_min = 3};
    struct arena arena;
    struct plan plan;
    struct error err;
    arena_init(&arena, 0);
    check(plan_request(scene->fixture->graph, &settings, &scene->request, &arena, &plan, &err), &err);
    struct evidence evidence = plan.candidates[candidate].evidence;
    arena_free(&arena);
    return evidence;
}

static double weighed(struct scene *scene, size_t candidate, const float *weights)
{
    float features[EVIDENCE_FEATURES];
    double sum = 0;
    const struct evidence evidence = evidence_of(scene, candidate);
    evidence_features(&evidence, features);
    for (size_t i = 0; i < EVIDENCE_FEATURES; i++)
        sum += (double)weights[i] * (double)features[i];
    return sum;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static struct heads with_exit0(struct scene *scene, float leave)
{
    struct heads heads = scene->heads;
    heads.evidence_count = EVIDENCE_FEATURES;
    heads.exit0 = scene->exit0;
    heads.exit0_bias = -0.1f;
    heads.exit0_leave = leave;
    return heads;
}

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};
static const struct exit_rule calibrated = {.kind = EXIT_RULE_CALIBRATED};

static void without_a_model_exit_0_answers_everything(void **state)
{
    struct scene *scene = *state;
    struct answers plain, weighing;
    const struct heads heads = with_exit0(scene, INFINITY);
    ask(scene, NULL, full, false, 0, &plain);
    ask(scene, &heads, full, false, 0, &weighing);
    for (size_t c = 0; c < CANDIDATES; c++) {
        assert_true(plain.candidates[c].probability == evidence_of(scene, c).item_like_rate);
        assert_true(fabs(weighing.candidates[c].probability - sigmoid(weighed(scene, c, scene->exit0) - 0.1)) < 1e-6);
        assert_int_equal(weighing.candidates[c].exit_layer, 0);
        assert_int_equal(weighing.candidates[c].status, c < ITEMS ? CANDIDATE_OK : CANDIDATE_COLD_ITEM);
    }
    arena_free(&plain.arena);
    arena_free(&weighing.arena);
}

static void a_candidate_without_a_title_is_answered_by_exit_0(void **state)
{
    struct scene *scene = *state;
    struct answers plain, weighing;
    const struct heads heads = with_exit0(scene, INFINITY);
    ask(scene, &scene->heads, full, true, 0, &plain);
    ask(scene, &heads, full, true, 0, &weighing);
    for (size_t c = 0; c < ITEMS; c++) {
        assert_int_equal(plain.candidates[c].exit_layer, LAYERS);
        assert_true(plain.candidates[c].probability == weighing.candidates[c].probability);
    }
    assert_int_equal(plain.candidates[ITEMS].exit_layer, 0);
    assert_int_equal(plain.candidates[ITEMS].status, CANDIDATE_COLD_ITEM);
    assert_true(plain.candidates[ITEMS].probability == 0.5);
    double expected = sigmoid(weighed(scene, ITEMS, scene->exit0) - 0.1);
    assert_true(fabs(weighing.candidates[ITEMS].probability - expected) < 1e-6);
    arena_free(&plain.arena);
    arena_free(&weighing.arena);
}

/* What exit 0 is sure of costs nothing; what it is not sure of is answered as if there were no exit 0. */
static void what_exit_0_is_sure_of_never_sees_a_layer(void **state)
{
    struct scene *scene = *state;
    struct answers all, some, none;
    struct heads always = with_exit0(scene, 0.0f), never = with_exit0(scene, INFINITY), sometimes;
    double confidences[ITEMS], middle = 0;
    for (size_t c = 0; c < ITEMS; c++) {
        double p = sigmoid(weighed(scene, c, scene->exit0) - 0.1);
        confidences[c] = fmax(p, 1 - p);
        middle += confidences[c] / ITEMS;
    }
    sometimes = with_exit0(scene, (float)middle);
    ask(scene, &always, calibrated, true, 0, &all);
    ask(scene, &never, full, true, 0, &none);
    ask(scene, &sometimes, calibrated, true, 0, &some);

    size_t settled = 0;
    assert_int_equal(all.tokens + all.token_layers, 0);
    for (size_t c = 0; c < ITEMS; c++) {
        bool sure = confidences[c] >= middle;
        settled += sure;
        assert_int_equal(all.candidates[c].exit_layer, 0);
        assert_int_equal(all.candidates[c].status, CANDIDATE_OK);
        assert_int_equal(some.candidates[c].exit_layer, sure ? 0 : LAYERS);
        assert_true(some.candidates[c].probability ==
                    (sure ? all.candidates[c].probability : none.candidates[c].probability));
    }
    assert_true(settled > 0 && settled < ITEMS);
    assert_true(some.token_layers > 0 && some.token_layers < none.token_layers);
    arena_free(&all.arena);
    arena_free(&some.arena);
    arena_free(&none.arena);
}

static void an_explanation_shows_exit_0_and_changes_no_answer(void **state)
{
    struct scene *scene = *state;
    struct answers terse, explained;
    const struct heads heads = with_exit0(scene, 0.55f);
    ask(scene, &heads, calibrated, true, 0, &terse);
    scene->request.explain = true;
    ask(scene, &heads, calibrated, true, 0, &explained);
    for (size_t c = 0; c < CANDIDATES; c++) {
        const struct scored_candidate *one = &explained.candidates[c];
        assert_true(one->has_explanation);
        const struct explained_exit *exits = one->explanation->exits;
        assert_int_equal(one->explanation->exit_count, c < ITEMS ? 4 : 1);
        assert_int_equal(exits[0].layer, 0);
        assert_int_equal(exits[0].probability_count, 1);
        assert_true(fabs(exits[0].probabilities[0] - sigmoid(weighed(scene, c, scene->exit0) - 0.1)) < 1e-6);
        assert_int_equal(exits[0].fired, fmax(exits[0].probabilities[0], 1 - exits[0].probabilities[0]) >= 0.55);
        assert_true(one->probability == terse.candidates[c].probability);
        assert_int_equal(one->exit_layer, terse.candidates[c].exit_layer);
        assert_int_equal(one->exit_layer == 0, exits[0].fired || c == ITEMS);
    }
    arena_free(&terse.arena);
    arena_free(&explained.arena);
}

static void hybrid_heads_weigh_the_candidate_s_evidence(void **state)
{
    struct scene *scene = *state;
    struct answers text, hybrid;
    struct heads heads = with_exit0(scene, INFINITY);
    ask(scene, &heads, full, true, 0, &text);
    heads.exits[2].evidence = scene->weights;
    ask(scene, &heads, full, true, 0, &hybrid);
    heads.exits[2].evidence = NULL;
    for (size_t c = 0; c < ITEMS; c++) {
        double p = text.candidates[c].probability, logit = log(p / (1 - p)) + weighed(scene, c, scene->weights);
        assert_true(fabs(hybrid.candidates[c].probability - sigmoid(logit)) < 1e-5);
        assert_true(fabs(hybrid.candidates[c].probability - p) > 1e-4);
    }
    arena_free(&text.arena);
    arena_free(&hybrid.arena);
}

static uint64_t shadowed_rows(const struct answers *answers)
{
    return answers->shadow.up_to[answers->shadow.count];
}

static void the_shadow_compares_with_the_reference_and_changes_no_answer(void **state)
{
    struct scene *scene = *state;
    struct answers plain, shadowed, half, reference;
    struct heads heads = with_exit0(scene, 0.6f);
    const struct exit_rule fixed = {.kind = EXIT_RULE_FIXED, .layer = 4};
    heads.exits[0].leave = 0.5f; /* whoever exit 0 is not sure of leaves at layer 2 */
    heads.reference = 4;
    ask(scene, &heads, calibrated, true, 0, &plain);
    ask(scene, &heads, calibrated, true, 1, &shadowed);
    ask(scene, &heads, fixed, true, 0, &reference);

    double sum = 0;
    assert_int_equal(shadowed_rows(&plain), 0);
    assert_int_equal(shadowed_rows(&shadowed), ITEMS);
    for (size_t c = 0; c < CANDIDATES; c++) {
        assert_true(plain.candidates[c].probability == shadowed.candidates[c].probability);
        assert_int_equal(plain.candidates[c].exit_layer, shadowed.candidates[c].exit_layer);
        assert_false(shadowed.candidates[c].has_explanation);
        if (c < ITEMS)
            sum += fabs(plain.candidates[c].probability - reference.candidates[c].probability);
    }
    assert_true(sum > 1e-3);
    assert_true(fabs(shadowed.shadow.sum - sum) < 1e-6);

    /* It goes no deeper than that, and no answer of this rule does. */
    heads.reference = 2;
    arena_free(&reference.arena);
    ask(scene, &heads, calibrated, true, 1, &reference);
    assert_int_equal(shadowed_rows(&reference), ITEMS);
    assert_true(reference.token_layers < shadowed.token_layers);
    heads.reference = 4;

    /* Which requests are taken: about the share asked for, each the same every time. */
    size_t taken = 0;
    for (int i = 0; i < 40; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        scene->request.request_id = text_of(id);
        ask(scene, &heads, calibrated, true, 0.5, &half);
        taken += shadowed_rows(&half) > 0;
        arena_free(&half.arena);
    }
    assert_in_range(taken, 8, 32);
    arena_free(&plain.arena);
    arena_free(&shadowed.arena);
    arena_free(&reference.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_model_exit_0_answers_everything, scene_set_up, scene_tear_down),
        cmocka_unit_test_setup_teardown(a_candidate_without_a_title_is_answered_by_exit_0, scene_set_up,
                                        scene_tear_down),
        cmocka_unit_test_setup_teardown(what_exit_0_is_sure_of_never_sees_a_layer, scene_set_up, scene_tear_down),
        cmocka_unit_test_setup_teardown(an_explanation_shows_exit_0_and_changes_no_answer, scene_set_up,
                                        scene_tear_down),
        cmocka_unit_test_setup_teardown(hybrid_heads_weigh_the_candidate_s_evidence, scene_set_up, scene_tear_down),
        cmocka_unit_test_setup_teardown(the_shadow_compares_with_the_reference_and_changes_no_answer, scene_set_up,
                                        scene_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
