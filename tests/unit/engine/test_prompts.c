/* Several prompts in one call. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/backend.h"
#include "tiny.h"

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};
static const struct exit_rule some_leave = {.kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 0.5f};
static const struct exit_rule eager = {
    .kind = EXIT_RULE_LOG_ODDS, .window = 2, .threshold = 1e9f}; /* all leave at layer 3 */

enum { LAYERS = 6, WIDTH = 64, PLENTY = 1 << 30, PREFIX_MOST = 150, PROMPTS_MOST = 7 };

static int set_up(void **state)
{
    static struct tiny tiny;
    tiny_load(&tiny);
    assert_int_equal(tiny.model.layer_count, LAYERS);
    assert_int_equal(tiny.model.width, WIDTH);
    *state = &tiny;
    return 0;
}

static int tear_down(void **state)
{
    tiny_free(*state);
    return 0;
}

static struct engine *engine_with(const struct tiny *tiny, struct exit_rule rule, size_t threads, enum engine_mode mode,
                                  enum engine_cpu cpu, size_t bytes)
{
    const struct engine_settings settings = {
        .rule = rule, .threads = threads, .mode = mode, .cpu = cpu, .prefix_cache_bytes = bytes};
    struct engine *engine = NULL;
    struct error err;
    if (engine_create(&engine, &tiny->model, &tiny->heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    return engine;
}

static void score(struct engine *engine, const struct engine_prompt *prompts, size_t count, struct engine_score *scores)
{
    struct error err;
    if (engine_score(engine, prompts, count, scores, &err) != 0)
        fail_msg("%s", err.message);
}

/* A call's prompts with what they point to. */
struct call {
    size_t count, candidate_count;
    struct engine_prompt prompts[PROMPTS_MOST];
    int32_t prefixes[PROMPTS_MOST][PREFIX_MOST];
    struct candidates candidates[PROMPTS_MOST];
    float *states[PROMPTS_MOST];
    struct engine_score *scores;
};

/* Prompts by candidate counts; all begin with the first `shared` tokens of the first one's prefix. */
static void call_make(struct call *call, struct random *random, const struct tiny *tiny, const size_t *candidate_counts,
                      size_t count, size_t prefix_length, size_t shared)
{
    *call = (struct call){.count = count};
    for (size_t i = 0; i < count; i++) {
        random_tokens(random, &tiny->model, call->prefixes[i], prefix_length);
        memcpy(call->prefixes[i], call->prefixes[0], shared * sizeof **call->prefixes);
        call->candidates[i] = candidates_make(random, &tiny->model, candidate_counts[i], 1, 20);
        call->prompts[i] = (struct engine_prompt){
            .prefix = call->prefixes[i],
            .prefix_length = prefix_length,
            .tokens = call->candidates[i].tokens,
            .offsets = call->candidates[i].offsets,
            .candidate_count = candidate_counts[i],
        };
        call->candidate_count += candidate_counts[i];
    }
    call->scores = calloc(call->candidate_count, sizeof *call->scores);
    assert_non_null(call->scores);
}

static void call_free(struct call *call)
{
    for (size_t i = 0; i < call->count; i++) {
        candidates_free(&call->candidates[i]);
        free(call->states[i]);
    }
    free(call->scores);
}

/*
 * Some prompts without a candidate, some with many, some with one; prefixes that begin alike, as far as any, or are
 * the same; some explain, some want the hidden states, too.
 */
static void call_make_random(struct call *call, struct random *random, const struct tiny *tiny)
{
    size_t counts[PROMPTS_MOST], count = 1 + random_below(random, PROMPTS_MOST);
    for (size_t i = 0; i < count; i++)
        counts[i] = random_below(random, 8) == 0 ? 20 : random_below(random, 4);
    call_make(call, random, tiny, counts, count, PREFIX_MOST, random_below(random, 3) * 70);
    for (size_t i = 0; i < count; i++) {
        struct engine_prompt *prompt = &call->prompts[i];
        prompt->prefix_length = 1 + random_below(random, PREFIX_MOST);
        prompt->explain = random_below(random, 4) == 0;
        if (i > 0 && random_below(random, 5) == 0)
            prompt->prefix = call->prefixes[i - 1];
        if (random_below(random, 2) == 0)
            call->states[i] = calloc(counts[i] * LAYERS * WIDTH + 1, sizeof **call->states);
        prompt->states = call->states[i];
        prompt->max_layer = random_below(random, 3) == 0 ? 1 + random_below(random, LAYERS) : 0;
    }
}

/* To the bit. */
static void assert_same(const struct engine_score *a, const struct engine_score *b)
{
    assert_memory_equal(&a->probability, &b->probability, sizeof a->probability);
    assert_int_equal(a->exit_layer, b->exit_layer);
    assert_int_equal(a->exit_count, b->exit_count);
    for (size_t i = 0; i < a->exit_count; i++) {
        assert_int_equal(a->exits[i].layer, b->exits[i].layer);
        assert_int_equal(a->exits[i].fired, b->exits[i].fired);
        assert_int_equal(a->exits[i].count, b->exits[i].count);
        assert_memory_equal(a->exits[i].probabilities, b->exits[i].probabilities,
                            a->exits[i].count * sizeof *a->exits[i].probabilities);
    }
}

/* Each prompt by itself on a cold engine of one thread gives what the call gave, hidden states as well. */
static void assert_as_alone(const struct call *call, struct engine *cold)
{
    const struct engine_score *together = call->scores;
    for (size_t i = 0; i < call->count; i++) {
        struct engine_prompt prompt = call->prompts[i];
        size_t count = prompt.candidate_count, floats = count * LAYERS * WIDTH;
        struct engine_score *alone = calloc(count + 1, sizeof *alone);
        float *states = calloc(floats + 1, sizeof *states);
        assert_true(alone != NULL && states != NULL);
        prompt.states = prompt.states == NULL ? NULL : states;
        score(cold, &prompt, 1, alone);
        for (size_t c = 0; c < count; c++)
            assert_same(&together[c], &alone[c]);
        if (prompt.states != NULL)
            assert_memory_equal(states, call->states[i], floats * sizeof *states);
        together += count;
        free(alone);
        free(states);
    }
}

static void shuffle(struct call *call, struct random *random)
{
    for (size_t i = call->count; i > 1; i--) {
        size_t j = random_below(random, i);
        struct engine_prompt prompt = call->prompts[i - 1];
        float *states = call->states[i - 1];
        call->prompts[i - 1] = call->prompts[j];
        call->states[i - 1] = call->states[j];
        call->prompts[j] = prompt;
        call->states[j] = states;
    }
}

struct arithmetic {
    enum engine_mode mode;
    enum engine_cpu cpu;
};

static size_t arithmetics(struct arithmetic *all)
{
    enum engine_cpu cpus[3];
    size_t count = 0;
    for (size_t i = 0, found = processors(cpus); i < found; i++)
        for (enum engine_mode mode = ENGINE_F32; mode <= ENGINE_INT8; mode++)
            all[count++] = (struct arithmetic){mode, cpus[i]};
    return count;
}

static void a_candidate_scores_as_if_its_prompt_were_alone_to_the_bit(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t budgets[] = {PLENTY, 400000, 0};
    struct arithmetic all[9];
    struct random random = {21};
    size_t left_at[LAYERS + 1] = {0}, several = 0;

    for (size_t a = 0, count = arithmetics(all); a < count; a++) {
        struct engine *cold = engine_with(tiny, some_leave, 1, all[a].mode, all[a].cpu, 0);
        for (size_t round = 0; round < 4; round++) {
            size_t budget = budgets[random_below(&random, 3)];
            struct engine *engine = engine_with(tiny, some_leave, 1 + round, all[a].mode, all[a].cpu, budget);
            struct call call;
            call_make_random(&call, &random, tiny);
            for (size_t again = 0; again < 2; again++) { /* cold, then warm and in another order */
                score(engine, call.prompts, call.count, call.scores);
                assert_as_alone(&call, cold);
                assert_true(engine_prefix_counters(engine).bytes <= budget);
                shuffle(&call, &random);
            }
            for (size_t i = 0; i < call.candidate_count; i++)
                left_at[call.scores[i].exit_layer]++;
            several += call.count > 1;
            call_free(&call);
            engine_destroy(engine);
        }
        engine_destroy(cold);
    }
    assert_true(several > 0);
    assert_int_equal(left_at[0], 0);
    for (size_t layer = 1; layer <= LAYERS; layer++) /* 1 and 2: where a limit says so, the rule looks at 3 */
        assert_true(left_at[layer] > 0);
}

static void prompts_may_straddle_the_groups_that_run_together(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t counts[] = {60, 0, 150, 1, 80, 20, 0}; /* of 10.5 rows on average, 2048 a group */
    static const size_t budgets[] = {PLENTY, 0};
    struct random random = {22};
    struct call call;

    call_make(&call, &random, tiny, counts, 7, 150, 64);
    assert_true(call.prompts[0].offsets[60] + call.prompts[2].offsets[150] > 2048 + 20);
    call.prompts[4].explain = true;
    for (size_t b = 0; b < 2; b++) {
        struct engine *engine = engine_with(tiny, some_leave, 2, ENGINE_F32, cpu_asked_for(), budgets[b]);
        struct engine *cold = engine_with(tiny, some_leave, 1, ENGINE_F32, cpu_asked_for(), 0);
        score(engine, call.prompts, call.count, call.scores);
        assert_as_alone(&call, cold);
        /* A prefix is taken once, however many groups its candidates are in. */
        struct engine_prefix_counters counters = engine_prefix_counters(engine);
        assert_int_equal(counters.hits, b == 0 ? 4 : 0);
        assert_int_equal(counters.misses, b == 0 ? 1 + 5 * 2 : 5 * 3);
        engine_destroy(engine);
        engine_destroy(cold);
    }
    call_free(&call);
}

/* Layers computed to the end of a prefix of 100 tokens, its first 64 shared: each part as deep as its users go. */
static size_t prefix_layers(const struct call *call, bool shares)
{
    const struct engine_score *scores = call->scores;
    size_t expected = 0, deepest_of_all = 0;
    for (size_t i = 0; i < call->count; i++) {
        size_t deepest = 0;
        for (size_t c = 0; c < call->prompts[i].candidate_count; c++, scores++)
            deepest = scores->exit_layer > deepest ? scores->exit_layer : deepest;
        expected += (deepest - 1) * (shares ? 36 : 100);
        deepest_of_all = deepest > deepest_of_all ? deepest : deepest_of_all;
    }
    return expected + (shares ? (deepest_of_all - 1) * 64 : 0);
}

static void a_prefix_runs_as_deep_as_its_own_deepest_candidate_and_what_is_shared_runs_once(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t counts[] = {2, 1, 2, 1, 1, 2, 1}, budgets[] = {PLENTY, 0};
    struct random random = {23};
    struct call call;
    size_t shallow = 0;

    call_make(&call, &random, tiny, counts, 7, 100, 64);
    for (size_t b = 0; b < 2; b++) {
        struct engine *engine = engine_with(tiny, some_leave, 2, ENGINE_F32, cpu_asked_for(), budgets[b]);
        score(engine, call.prompts, call.count, call.scores);
        const struct engine_score *one = call.scores;
        size_t expected = prefix_layers(&call, budgets[b] > 0);
        for (size_t i = 0; i < call.count; i++)
            for (size_t c = 0; c < counts[i]; c++, one++) {
                size_t others = call.prompts[i].offsets[c + 1] - call.prompts[i].offsets[c] - 1;
                expected += one->exit_layer + others * (one->exit_layer - 1);
                shallow += one->exit_layer < LAYERS && counts[i] == 1;
            }
        assert_int_equal(engine_token_layers(engine), expected);
        struct engine_prefix_counters counters = engine_prefix_counters(engine);
        assert_int_equal(counters.hits, budgets[b] > 0 ? 6 : 0);
        assert_int_equal(counters.deepenings, 0);
        engine_destroy(engine);
    }
    assert_true(shallow > 0);
    call_free(&call);
}

/* The answer at the exit on `layer` of a candidate that explained. */
static float answer_at(const struct engine_score *score, size_t layer)
{
    for (size_t i = 0; i < score->exit_count; i++)
        if (score->exits[i].layer == layer)
            return score->exits[i].probabilities[score->exits[i].count - 1];
    fail_msg("no exit at layer %zu", layer);
    return 0;
}

/* Who would have gone deeper leaves at the limit, with that exit's answer; nobody else is touched. */
static void a_prompt_with_a_limit_goes_no_deeper_and_others_go_on(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t counts[] = {5, 4, 5};
    const struct exit_rule rules[] = {full, some_leave};
    struct engine_score free_of_limits[14], explained[14];
    struct random random = {31};
    struct call call;
    size_t cut = 0, left_before = 0;

    call_make(&call, &random, tiny, counts, 3, 100, 64);
    for (size_t r = 0; r < 2; r++)
        for (size_t limit = 1; limit <= LAYERS; limit++) {
            struct engine *engine = engine_with(tiny, rules[r], 2, ENGINE_F32, cpu_asked_for(), PLENTY);
            for (size_t i = 0; i < 3; i++)
                call.prompts[i].max_layer = 0;
            score(engine, call.prompts, 3, free_of_limits);
            call.prompts[0].explain = true;
            score(engine, call.prompts, 3, explained);
            call.prompts[0].explain = false;
            call.prompts[0].max_layer = limit;
            score(engine, call.prompts, 3, call.scores);
            for (size_t c = 0; c < 5; c++) {
                const struct engine_score *one = &call.scores[c];
                bool deeper = free_of_limits[c].exit_layer > limit;
                cut += deeper;
                left_before += free_of_limits[c].exit_layer < limit;
                if (!deeper) {
                    assert_same(one, &free_of_limits[c]);
                    continue;
                }
                const struct engine_exit *last = &one->exits[one->exit_count - 1];
                assert_int_equal(one->exit_layer, limit);
                assert_int_equal(last->layer, limit);
                assert_false(last->fired);
                assert_true(one->probability == answer_at(&explained[c], limit));
            }
            for (size_t c = 5; c < 14; c++)
                assert_same(&call.scores[c], &free_of_limits[c]);
            engine_destroy(engine);
        }
    assert_true(cut > 0 && left_before > 0);
    call_free(&call);
}

/* Layers above are not computed, and a limit below the first exit is that exit. */
static void a_limit_saves_the_layers_above_it(void **state)
{
    struct tiny tiny = *(const struct tiny *)*state;
    static const size_t counts[] = {3}, layers[] = {2, 4}, limits[] = {1, 2, 3, 4, 5, 6};
    static const size_t exits[] = {2, 2, 2, 4, 4, 6};
    struct random random = {32};
    struct heads heads;
    struct call call;
    struct error err;
    if (heads_from_output(&heads, &tiny.model, layers, 2, 265, 264, &err) != 0)
        fail_msg("%s", err.message);
    tiny.heads = heads;
    call_make(&call, &random, &tiny, counts, 1, 70, 0);
    size_t others = call.candidates[0].offsets[3] - 3;
    for (size_t i = 0; i < 6; i++) {
        struct engine *engine = engine_with(&tiny, full, 1, ENGINE_F32, cpu_asked_for(), PLENTY);
        call.prompts[0].max_layer = limits[i];
        score(engine, call.prompts, 1, call.scores);
        for (size_t c = 0; c < 3; c++)
            assert_int_equal(call.scores[c].exit_layer, exits[i]);
        assert_int_equal(engine_token_layers(engine), (70 + others) * (exits[i] - 1) + 3 * exits[i]);
        assert_int_equal(engine_kept(engine, call.prompts[0].prefix, 70), 70);
        assert_int_equal(engine_kept(engine, call.prompts[0].prefix, 66), 64); /* its last chunk is another one */
        assert_int_equal(engine_kept(engine, call.prompts[0].prefix + 1, 60), 0);
        engine_destroy(engine);
    }
    call_free(&call);
    heads_free(&heads);
}

static void who_explains_sees_every_exit_and_nobody_else_does(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t counts[] = {3, 3};
    struct random random = {24};
    struct engine *engine = engine_with(tiny, full, 2, ENGINE_F32, cpu_asked_for(), PLENTY);
    struct call call;
    call_make(&call, &random, tiny, counts, 2, 20, 0);
    call.prompts[1].explain = true;
    score(engine, call.prompts, 2, call.scores);
    for (size_t c = 0; c < 3; c++) {
        assert_int_equal(call.scores[c].exit_count, 1);
        assert_int_equal(call.scores[c].exits[0].layer, LAYERS);
        assert_int_equal(call.scores[3 + c].exit_count, LAYERS);
        assert_int_equal(call.scores[3 + c].exits[0].layer, 1);
    }
    call_free(&call);
    engine_destroy(engine);
}

static void a_bad_prompt_is_named_and_can_be_found_before(void **state)
{
    const struct tiny *tiny = *state;
    static const size_t counts[] = {2, 3, 1};
    struct random random = {25};
    struct engine *engine = engine_with(tiny, eager, 1, ENGINE_F32, cpu_asked_for(), PLENTY);
    struct call call;
    struct error err;
    call_make(&call, &random, tiny, counts, 3, 20, 0);
    call.candidates[1].tokens[call.candidates[1].offsets[2]] = -1;

    assert_int_equal(engine_check(engine, &call.prompts[0], &err), 0);
    assert_int_equal(engine_check(engine, &call.prompts[2], &err), 0);
    assert_int_equal(engine_check(engine, &call.prompts[1], &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_memory_equal(err.message, "candidate 2: token 0 ", 21);
    assert_int_equal(engine_score(engine, call.prompts, 3, call.scores, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_memory_equal(err.message, "prompt 1: candidate 2: token 0 ", 31);
    assert_int_equal(engine_token_layers(engine), 0);

    assert_int_equal(engine_score(engine, call.prompts, 1, call.scores, &err), 0);
    call_free(&call);
    engine_destroy(engine);
}

/* A gain of 3e38 in the norm before the MLP of layer 4 overflows there and nowhere before. */
static void a_call_that_fails_leaves_nothing_in_use(void **state)
{
    struct tiny tiny = *(const struct tiny *)*state;
    struct model_layer layers[LAYERS];
    float gains[WIDTH];
    for (size_t i = 0; i < WIDTH; i++)
        gains[i] = 3e38f;
    const struct tensor broken = {.name = text_of("broken"),
                                  .type = TENSOR_F32,
                                  .columns = WIDTH,
                                  .rows = 1,
                                  .data = (const uint8_t *)gains,
                                  .row_bytes = sizeof gains};
    memcpy(layers, tiny.model.layers, sizeof layers);
    layers[3].mlp_norm = &broken;
    tiny.model.layers = layers;
    static const size_t counts[] = {2, 1, 2, 1};
    struct random random = {26};
    struct engine *engine = engine_with(&tiny, full, 2, ENGINE_F32, cpu_asked_for(), PLENTY);
    struct call call;
    struct error err;
    call_make(&call, &random, &tiny, counts, 4, 140, 70); /* the first chunk is all prompts', and breaks */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(engine_score(engine, call.prompts, 4, call.scores, &err), -1);
        if (strstr(err.message, "not finite after layer 4 of 6") == NULL)
            fail_msg("%s", err.message);
        assert_int_equal(engine_prefix_counters(engine).entries, 0);
        assert_int_equal(engine_prefix_counters(engine).bytes, 0);
    }
    call_free(&call);
    engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_candidate_scores_as_if_its_prompt_were_alone_to_the_bit),
        cmocka_unit_test(prompts_may_straddle_the_groups_that_run_together),
        cmocka_unit_test(a_prefix_runs_as_deep_as_its_own_deepest_candidate_and_what_is_shared_runs_once),
        cmocka_unit_test(a_prompt_with_a_limit_goes_no_deeper_and_others_go_on),
        cmocka_unit_test(a_limit_saves_the_layers_above_it),
        cmocka_unit_test(who_explains_sees_every_exit_and_nobody_else_does),
        cmocka_unit_test(a_bad_prompt_is_named_and_can_be_found_before),
        cmocka_unit_test(a_call_that_fails_leaves_nothing_in_use),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
