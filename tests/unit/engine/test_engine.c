#include <limits.h>
#include <math.h>
#include <string.h>

#include "tiny.h"

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};
static const struct exit_rule eager = {
    .kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 1e9f}; /* fires wherever it can: three layers or more */

enum { PREFIX = 53, CANDIDATES = 300, SOME = CANDIDATES / HEADRACE_SLOWDOWN };

struct scene {
    struct tiny tiny;
    int32_t prefix[PREFIX];
    struct candidates candidates;
    float threshold; /* some of the candidates leave at each exit, some at none */
};

static struct engine_prompt prompt_of(const struct scene *scene)
{
    return (struct engine_prompt){
        .prefix = scene->prefix,
        .prefix_length = PREFIX,
        .tokens = scene->candidates.tokens,
        .offsets = scene->candidates.offsets,
        .candidate_count = scene->candidates.count,
    };
}

static struct engine_score *score(struct engine *engine, const struct engine_prompt *prompt)
{
    struct engine_score *scores = calloc(prompt->candidate_count, sizeof *scores);
    struct error err;
    assert_non_null(scores);
    if (engine_score(engine, prompt, 1, scores, &err) != 0)
        fail_msg("%s", err.message);
    return scores;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The quarter of all (candidate, exit) pairs that is calmest lies below the threshold. */
static void choose_threshold(struct scene *scene)
{
    struct engine *engine = tiny_engine(&scene->tiny, eager, 1);
    struct engine_prompt prompt = prompt_of(scene);
    prompt.explain = true;
    struct engine_score *scores = score(engine, &prompt);
    float *steps = calloc(3 * scene->candidates.count, sizeof *steps);
    size_t count = 0;
    assert_non_null(steps);
    for (size_t i = 0; i < scene->candidates.count; i++)
        for (size_t exit = 2; exit < 5; exit++) {
            const float *p = scores[i].exits[exit].probabilities;
            float odds[3];
            for (size_t k = 0; k < 3; k++)
                odds[k] = logf(p[k] / (1.0f - p[k]));
            steps[count++] = fabsf(fabsf(odds[2] - odds[1]) - fabsf(odds[1] - odds[0]));
        }
    qsort(steps, count, sizeof *steps, compare_floats);
    scene->threshold = 0.5f * (steps[count / 4] + steps[count / 4 + 1]);
    free(steps);
    free(scores);
    engine_destroy(engine);
}

static struct exit_rule rule_of(const struct scene *scene)
{
    return (struct exit_rule){.kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = scene->threshold};
}

/* More rows than run together: several groups, each with long and short candidates. */
static int set_up(void **state)
{
    static struct scene scene;
    struct random random = {7};
    tiny_load(&scene.tiny);
    random_tokens(&random, &scene.tiny.model, scene.prefix, PREFIX);
    scene.candidates = candidates_make(&random, &scene.tiny.model, CANDIDATES, 1, 20);
    assert_true(scene.candidates.offsets[CANDIDATES] > 2048 + 20);
    choose_threshold(&scene);
    *state = &scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    candidates_free(&scene->candidates);
    tiny_free(&scene->tiny);
    return 0;
}

static void assert_same_exit(const struct engine_exit *a, const struct engine_exit *b)
{
    assert_int_equal(a->layer, b->layer);
    assert_int_equal(a->fired, b->fired);
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->probabilities, b->probabilities, a->count * sizeof *a->probabilities);
}

/* To the bit. */
static void assert_same(const struct engine_score *a, const struct engine_score *b)
{
    assert_memory_equal(&a->probability, &b->probability, sizeof a->probability);
    assert_int_equal(a->exit_layer, b->exit_layer);
    assert_int_equal(a->exit_count, b->exit_count);
    for (size_t i = 0; i < a->exit_count; i++)
        assert_same_exit(&a->exits[i], &b->exits[i]);
}

static void the_rule_spreads_the_candidates_over_exits_and_full_depth(void **state)
{
    struct scene *scene = *state;
    const struct exit_rule rule = rule_of(scene);
    struct engine *engine = tiny_engine(&scene->tiny, rule, 2);
    struct engine_prompt prompt = prompt_of(scene);
    struct engine_score *scores = score(engine, &prompt);
    size_t left_at[7] = {0};

    for (size_t i = 0; i < prompt.candidate_count; i++) {
        const struct engine_score *one = &scores[i];
        const struct engine_exit *last = &one->exits[one->exit_count - 1];
        left_at[one->exit_layer]++;
        assert_int_equal(last->layer, one->exit_layer);
        assert_int_equal(one->exit_count, one->exit_layer - 2); /* at layers 1 and 2 the rule cannot fire */
        assert_true(last->probabilities[last->count - 1] == one->probability);
        for (size_t j = 0; j < one->exit_count; j++) {
            const struct engine_exit *seen = &one->exits[j];
            assert_int_equal(seen->layer, j + 3);
            assert_int_equal(seen->count, 3);
            assert_int_equal(seen->fired, exit_rule_settled(&rule, &(struct exit_view){.p = seen->probabilities,
                                                                                       .count = seen->count}));
            assert_true(j + 1 == one->exit_count || !seen->fired);
        }
        assert_true(one->exit_layer == 6 || last->fired);
    }
    assert_int_equal(left_at[0] + left_at[1] + left_at[2], 0);
    for (size_t layer = 3; layer <= 6; layer++)
        assert_true(left_at[layer] > 0);
    free(scores);
    engine_destroy(engine);
}

static void in_every_arithmetic(const struct scene *scene,
                                void (*check)(const struct scene *, enum engine_mode, enum engine_cpu))
{
    enum engine_cpu cpus[3];
    for (size_t i = 0; i < processors(cpus); i++)
        for (enum engine_mode mode = ENGINE_F32; mode <= ENGINE_INT8; mode++)
            check(scene, mode, cpus[i]);
}

static void score_alone(const struct scene *scene, enum engine_mode mode, enum engine_cpu cpu)
{
    struct engine *engine = tiny_engine_on(&scene->tiny, rule_of(scene), 2, mode, cpu);
    struct engine_prompt prompt = prompt_of(scene);
    prompt.candidate_count = SOME;
    struct engine_score *together = score(engine, &prompt);

    for (size_t i = 0; i < prompt.candidate_count; i += 23) {
        struct engine_prompt alone = prompt_of(scene);
        alone.offsets += i;
        alone.candidate_count = 1;
        struct engine_score *one = score(engine, &alone);
        assert_same(one, &together[i]);
        free(one);
    }
    free(together);
    engine_destroy(engine);
}

static void a_candidate_scores_alone_as_in_company_to_the_bit(void **state)
{
    in_every_arithmetic(*state, score_alone);
}

static void score_in_another_order(const struct scene *scene, enum engine_mode mode, enum engine_cpu cpu)
{
    struct engine *engine = tiny_engine_on(&scene->tiny, rule_of(scene), 2, mode, cpu);
    struct engine_prompt prompt = prompt_of(scene);
    prompt.candidate_count = SOME;
    struct engine_prompt shuffled = prompt;
    size_t count = SOME, order[SOME];
    size_t *offsets = calloc(count + 1, sizeof *offsets);
    int32_t *tokens = calloc(prompt.offsets[count], sizeof *tokens);
    struct random random = {8};

    assert_true(offsets != NULL && tokens != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t j = random_below(&random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < count; i++) {
        size_t length = prompt.offsets[order[i] + 1] - prompt.offsets[order[i]];
        memcpy(tokens + offsets[i], prompt.tokens + prompt.offsets[order[i]], length * sizeof *tokens);
        offsets[i + 1] = offsets[i] + length;
    }
    shuffled.tokens = tokens;
    shuffled.offsets = offsets;

    struct engine_score *before = score(engine, &prompt), *after = score(engine, &shuffled);
    for (size_t i = 0; i < count; i++)
        assert_same(&after[i], &before[order[i]]);
    free(before);
    free(after);
    free(offsets);
    free(tokens);
    engine_destroy(engine);
}

static void the_order_of_candidates_changes_no_bit(void **state)
{
    in_every_arithmetic(*state, score_in_another_order);
}

static void score_on_threads(const struct scene *scene, enum engine_mode mode, enum engine_cpu cpu)
{
    struct engine_prompt prompt = prompt_of(scene);
    struct engine_score *scores[4];
    prompt.candidate_count = 100 / HEADRACE_SLOWDOWN;

    for (size_t threads = 1; threads <= 4; threads++) {
        struct engine *engine = tiny_engine_on(&scene->tiny, rule_of(scene), threads, mode, cpu);
        scores[threads - 1] = score(engine, &prompt);
        engine_destroy(engine);
    }
    for (size_t i = 0; i < prompt.candidate_count; i++)
        for (size_t threads = 2; threads <= 4; threads++)
            assert_same(&scores[threads - 1][i], &scores[0][i]);
    for (size_t i = 0; i < 4; i++)
        free(scores[i]);
}

static void the_number_of_threads_changes_no_bit(void **state)
{
    in_every_arithmetic(*state, score_on_threads);
}

static void explaining_changes_no_answer_and_shows_every_exit(void **state)
{
    struct scene *scene = *state;
    struct engine *engine = tiny_engine(&scene->tiny, rule_of(scene), 2);
    struct engine_prompt prompt = prompt_of(scene);
    struct engine_score *terse = score(engine, &prompt);
    prompt.explain = true;
    struct engine_score *explained = score(engine, &prompt);

    for (size_t i = 0; i < prompt.candidate_count; i++) {
        assert_memory_equal(&terse[i].probability, &explained[i].probability, sizeof terse[i].probability);
        assert_int_equal(terse[i].exit_layer, explained[i].exit_layer);
        assert_int_equal(explained[i].exit_count, 6);
        assert_int_equal(explained[i].exits[0].count, 1);
        assert_int_equal(explained[i].exits[1].count, 2);
        assert_false(explained[i].exits[0].fired || explained[i].exits[1].fired);
        for (size_t j = 0; j < terse[i].exit_count; j++)
            assert_same_exit(&terse[i].exits[j], &explained[i].exits[j + 2]);
    }
    free(terse);
    free(explained);
    engine_destroy(engine);
}

static void full_depth_asks_the_final_head_alone(void **state)
{
    struct scene *scene = *state;
    struct engine *engine = tiny_engine(&scene->tiny, full, 2);
    struct engine_prompt prompt = prompt_of(scene);
    prompt.candidate_count = 4;
    struct engine_score *scores = score(engine, &prompt);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(scores[i].exit_layer, 6);
        assert_int_equal(scores[i].exit_count, 1);
        assert_int_equal(scores[i].exits[0].layer, 6);
        assert_int_equal(scores[i].exits[0].count, 1);
        assert_false(scores[i].exits[0].fired);
        assert_true(scores[i].probability > 0.0f && scores[i].probability < 1.0f);
    }
    free(scores);
    engine_destroy(engine);
}

/* The last token is finished in every layer up to the answer's, the other tokens and the prefix in those below it. */
static void layers_are_computed_only_as_deep_as_somebody_needs_them(void **state)
{
    struct scene *scene = *state;
    struct engine_prompt prompt = prompt_of(scene);
    prompt.candidate_count = 100;
    size_t tokens = PREFIX + prompt.offsets[100] - 100;

    struct engine *engine = tiny_engine(&scene->tiny, full, 2);
    free(score(engine, &prompt));
    assert_int_equal(engine_token_layers(engine), 5 * tokens + 6 * 100);
    engine_destroy(engine);

    engine = tiny_engine(&scene->tiny, eager, 2);
    struct engine_score *scores = score(engine, &prompt);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(scores[i].exit_layer, 3);
    assert_int_equal(engine_token_layers(engine), 2 * tokens + 3 * 100);
    free(scores);
    engine_destroy(engine);

    engine = tiny_engine(&scene->tiny, rule_of(scene), 2);
    scores = score(engine, &prompt);
    size_t expected = 0, deepest = 0;
    for (size_t i = 0; i < 100; i++) {
        size_t others = prompt.offsets[i + 1] - prompt.offsets[i] - 1;
        expected += scores[i].exit_layer + others * (scores[i].exit_layer - 1);
        deepest = scores[i].exit_layer > deepest ? scores[i].exit_layer : deepest;
    }
    assert_int_equal(engine_token_layers(engine), expected + (deepest - 1) * PREFIX);
    free(scores);
    engine_destroy(engine);
}

static void assert_refused(struct engine *engine, const struct engine_prompt *prompt, const char *message)
{
    struct engine_score scores[2];
    struct error err;
    assert_int_equal(engine_score(engine, prompt, 1, scores, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, message);
}

static void bad_prompts_are_named_and_do_no_harm(void **state)
{
    struct scene *scene = *state;
    struct engine *engine = tiny_engine(&scene->tiny, rule_of(scene), 2);
    int32_t vocabulary = (int32_t)scene->tiny.model.vocabulary;
    int32_t prefix[] = {1, 2}, tokens[513] = {3, 4, 5};
    size_t offsets[] = {0, 2, 3};
    struct engine_prompt prompt = {prefix, 2, tokens, offsets, 2, false, NULL, NULL, 0};
    struct engine_score *before = score(engine, &prompt);

    tokens[1] = vocabulary;
    assert_refused(engine, &prompt, "candidate 0: token 1 of the candidate");
    tokens[1] = -1;
    assert_refused(engine, &prompt, "has id -1");
    tokens[1] = 4;
    prefix[1] = INT32_MAX;
    assert_refused(engine, &prompt, "token 1 of the prefix");
    prefix[1] = 2;
    offsets[1] = 0;
    assert_refused(engine, &prompt, "candidate 0 has no token");
    offsets[1] = 4;
    assert_refused(engine, &prompt, "candidate 1 has no token");
    offsets[1] = 2;
    prompt.prefix_length = 0;
    assert_refused(engine, &prompt, "prefix is empty");
    prompt.prefix_length = 2;
    offsets[2] = 2 + 511;
    assert_refused(engine, &prompt, "candidate 1 has 511 tokens behind a prefix of 2");
    offsets[2] = 2 + 510; /* fills the context */
    free(score(engine, &prompt));
    offsets[2] = 3;

    struct engine_score *after = score(engine, &prompt);
    assert_same(&after[0], &before[0]);
    assert_same(&after[1], &before[1]);
    free(before);
    free(after);
    engine_destroy(engine);
}

static void no_candidates_are_no_work(void **state)
{
    struct scene *scene = *state;
    struct engine *engine = tiny_engine(&scene->tiny, full, 1);
    const size_t offsets[] = {0};
    const struct engine_prompt prompt = {scene->prefix, PREFIX, NULL, offsets, 0, false, NULL, NULL, 0};
    struct error err;
    assert_int_equal(engine_score(engine, &prompt, 1, NULL, &err), 0);
    assert_int_equal(engine_token_layers(engine), 0);
    engine_destroy(engine);
}

static void assert_not_created(const struct model *model, const struct heads *heads, struct exit_rule rule,
                               const char *message)
{
    struct engine *engine = NULL;
    struct error err;
    const struct engine_settings settings = {.rule = rule, .threads = 1, .mode = ENGINE_F32};
    assert_int_equal(engine_create(&engine, model, heads, &settings, &err), -1);
    assert_null(engine);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, message);
}

static void rules_and_heads_that_cannot_work_are_refused(void **state)
{
    struct scene *scene = *state;
    const struct model *model = &scene->tiny.model;
    struct heads heads = scene->tiny.heads;

    assert_not_created(model, &heads, (struct exit_rule){.kind = EXIT_RULE_RATIO, .window = 5, .threshold = 0.01f},
                       "can fire at no exit");
    assert_not_created(model, &heads, (struct exit_rule){.kind = EXIT_RULE_RATIO, .window = 1, .threshold = 0.01f},
                       "window of 1");
    assert_not_created(model, &heads,
                       (struct exit_rule){.kind = EXIT_RULE_PROBABILITY, .window = 15, .threshold = 0.01f},
                       "window of 15");
    assert_not_created(model, &heads, (struct exit_rule){.kind = EXIT_RULE_RATIO, .window = 3, .threshold = 0.0f},
                       "threshold is 0");
    assert_not_created(model, &heads, (struct exit_rule){.kind = EXIT_RULE_RATIO, .window = 3, .threshold = NAN},
                       "threshold is nan");
    heads.exits[5].layer = 7;
    assert_not_created(model, &heads, full, "last head sits on layer 7 of a model of 6");
    heads.exits[5].layer = 6;
    heads.exits[2].first = 4;
    assert_not_created(model, &heads, full, "layer 3 has rows from layer 4 on");
    heads.exits[2].first = 1;
    heads.count = 0;
    assert_not_created(model, &heads, full, "0 exits");
    heads.count = ENGINE_MAX_EXITS + 1;
    assert_not_created(model, &heads, full, "17 exits");
    heads = scene->tiny.heads;
    heads.width = 32;
    assert_not_created(model, &heads, full, "width 32");
    heads = scene->tiny.heads;
    heads.exits[1].layer = 1;
    assert_not_created(model, &heads, full, "must ascend");
    heads.exits[1].layer = 2;
    heads.exits += 5;
    heads.count = 1;
    assert_not_created(model, &heads, (struct exit_rule){.kind = EXIT_RULE_RATIO, .window = 2, .threshold = 0.01f},
                       "can fire at no exit");
}

/* A gain of 3e38 in the norm before the MLP of layer 4 overflows there and nowhere before. */
static void a_broken_hidden_state_is_an_error_that_names_the_layer(void **state)
{
    struct scene *scene = *state;
    struct tiny tiny = scene->tiny;
    struct model_layer layers[6];
    float gains[64];
    for (size_t i = 0; i < 64; i++)
        gains[i] = 3e38f;
    const struct tensor broken = {
        .name = text_of("broken"),
        .type = TENSOR_F32,
        .columns = 64,
        .rows = 1,
        .data = (const uint8_t *)gains,
        .row_bytes = sizeof gains,
    };
    memcpy(layers, tiny.model.layers, sizeof layers);
    layers[3].mlp_norm = &broken;
    tiny.model.layers = layers;

    struct engine *engine = tiny_engine(&tiny, full, 2);
    struct engine_prompt prompt = prompt_of(scene);
    struct engine_score scores[2];
    struct error err;
    prompt.candidate_count = 2;
    assert_int_equal(engine_score(engine, &prompt, 1, scores, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    if (strstr(err.message, "layer 4 of 6") == NULL)
        fail_msg("\"%s\" names another layer", err.message);

    float *states = calloc(PREFIX * 64, sizeof *states);
    assert_int_equal(engine_hidden_states(engine, scene->prefix, PREFIX, 3, states, &err), 0);
    assert_int_equal(engine_hidden_states(engine, scene->prefix, PREFIX, 4, states, &err), -1);
    assert_non_null(strstr(err.message, "layer 4"));
    free(states);
    engine_destroy(engine);

    engine = tiny_engine(&tiny, eager, 2); /* all leave at layer 3: what is broken behind it is never reached */
    assert_int_equal(engine_score(engine, &prompt, 1, scores, &err), 0);
    engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rule_spreads_the_candidates_over_exits_and_full_depth),
        cmocka_unit_test(a_candidate_scores_alone_as_in_company_to_the_bit),
        cmocka_unit_test(the_order_of_candidates_changes_no_bit),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(explaining_changes_no_answer_and_shows_every_exit),
        cmocka_unit_test(full_depth_asks_the_final_head_alone),
        cmocka_unit_test(layers_are_computed_only_as_deep_as_somebody_needs_them),
        cmocka_unit_test(bad_prompts_are_named_and_do_no_harm),
        cmocka_unit_test(no_candidates_are_no_work),
        cmocka_unit_test(rules_and_heads_that_cannot_work_are_refused),
        cmocka_unit_test(a_broken_hidden_state_is_an_error_that_names_the_layer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
