/* Exits by every rule, heads with rows of their own for each layer, evidence in the logits, and a model cut short. */
#include <math.h>

#include "tiny.h"

enum { LAYERS = 6, WIDTH = 64, PREFIX = 40, CANDIDATES = 24 };

struct scene {
    struct tiny tiny; /* its heads have a row of their own for every layer */
    int32_t prefix[PREFIX];
    struct candidates candidates;
    float evidence[CANDIDATES * LAYERS];
};

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};

/* Between -1 and 1. */
static float random_weight(struct random *random)
{
    return (float)random_below(random, 20001) / 10000.0f - 1.0f;
}

/* Every row and bias another, answers on both sides of a half. */
static void shake_heads(struct heads *heads, struct random *random)
{
    for (size_t e = 0; e < heads->count; e++) {
        struct head *head = &heads->exits[e];
        for (size_t i = 0; i < head->layer * WIDTH; i++)
            head->rows[i] = 0.15f * random_weight(random);
        for (size_t i = 0; i < head->layer; i++)
            head->biases[i] = 0.2f * random_weight(random);
    }
}

static int set_up(void **state)
{
    static struct scene scene;
    struct random random = {21};
    tiny_load(&scene.tiny);
    shake_heads(&scene.tiny.heads, &random);
    random_tokens(&random, &scene.tiny.model, scene.prefix, PREFIX);
    scene.candidates = candidates_make(&random, &scene.tiny.model, CANDIDATES, 1, 12);
    for (size_t i = 0; i < CANDIDATES * LAYERS; i++)
        scene.evidence[i] = random_weight(&random);
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

static struct engine *engine_of(const struct scene *scene, const struct heads *heads, struct exit_rule rule)
{
    const struct engine_settings settings = {.rule = rule, .threads = 2, .mode = ENGINE_F32, .cpu = cpu_asked_for()};
    struct engine *engine = NULL;
    struct error err;
    if (engine_create(&engine, &scene->tiny.model, heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    return engine;
}

static void ask(struct scene *scene, const struct heads *heads, struct exit_rule rule, bool explain, float *states,
                const float *evidence, struct engine_score scores[CANDIDATES])
{
    const struct engine_prompt prompt = {.prefix = scene->prefix,
                                         .prefix_length = PREFIX,
                                         .tokens = scene->candidates.tokens,
                                         .offsets = scene->candidates.offsets,
                                         .candidate_count = CANDIDATES,
                                         .explain = explain,
                                         .states = states,
                                         .evidence = evidence};
    struct engine *engine = engine_of(scene, heads, rule);
    struct error err;
    memset(scores, 0, CANDIDATES * sizeof *scores);
    if (engine_score(engine, &prompt, 1, scores, &err) != 0)
        fail_msg("%s", err.message);
    engine_destroy(engine);
}

static double log_odds(float p)
{
    return log((double)p / (1.0 - (double)p));
}

/* What a head makes of a hidden state, written down once more. */
static double logit_of(const struct heads *heads, size_t exit, size_t layer, const float *state)
{
    const struct head *head = &heads->exits[exit];
    size_t place = layer - head->first;
    double squares = 0, product = 0;
    for (size_t i = 0; i < WIDTH; i++) {
        squares += (double)state[i] * (double)state[i];
        product += (double)state[i] * (double)head->rows[place * WIDTH + i];
    }
    return product / sqrt(squares / WIDTH + (double)heads->norm_epsilon) + (double)head->biases[place];
}

static void every_layer_meets_its_own_row_and_the_evidence(void **state)
{
    struct scene *scene = *state;
    const struct heads *heads = &scene->tiny.heads;
    const struct exit_rule rule = {.kind = EXIT_RULE_PROBABILITY, .window = 1, .threshold = 1e-3f};
    static float states[CANDIDATES * LAYERS * WIDTH];
    struct engine_score scores[CANDIDATES];

    ask(scene, heads, rule, true, states, scene->evidence, scores);
    for (size_t c = 0; c < CANDIDATES; c++) {
        assert_int_equal(scores[c].exit_count, LAYERS);
        for (size_t e = 0; e < LAYERS; e++) {
            const struct engine_exit *seen = &scores[c].exits[e];
            assert_int_equal(seen->count, e + 1 < 3 ? e + 1 : 3);
            for (size_t j = 0; j < seen->count; j++) {
                size_t layer = seen->layer - seen->count + 1 + j;
                double expected = logit_of(heads, e, layer, states + (c * LAYERS + layer - 1) * WIDTH) +
                                  (double)scene->evidence[c * LAYERS + e];
                if (!(fabs(log_odds(seen->probabilities[j]) - expected) < 1e-4))
                    fail_msg("candidate %zu, exit %zu, layer %zu: %g, not %g", c, e, layer,
                             log_odds(seen->probabilities[j]), expected);
            }
        }
    }
}

static void states_are_those_after_every_layer(void **state)
{
    struct scene *scene = *state;
    const size_t only[] = {3};
    static float states[CANDIDATES * LAYERS * WIDTH], sparse[CANDIDATES * LAYERS * WIDTH];
    struct engine_score scores[CANDIDATES];
    struct heads heads;
    struct error err;
    int32_t sequence[PREFIX + 12];
    float *plain = calloc((PREFIX + 12) * WIDTH, sizeof *plain);
    assert_non_null(plain);

    ask(scene, &scene->tiny.heads, full, true, states, NULL, scores);
    struct engine *engine = engine_of(scene, &scene->tiny.heads, full);
    const size_t *offsets = scene->candidates.offsets;
    size_t length = offsets[1] - offsets[0];
    memcpy(sequence, scene->prefix, sizeof scene->prefix);
    memcpy(sequence + PREFIX, scene->candidates.tokens, length * sizeof *sequence);
    for (size_t layer = 1; layer <= LAYERS; layer++) {
        assert_int_equal(engine_hidden_states(engine, sequence, PREFIX + length, layer, plain, &err), 0);
        for (size_t i = 0; i < WIDTH; i++)
            assert_true(fabsf(plain[(PREFIX + length - 1) * WIDTH + i] - states[(layer - 1) * WIDTH + i]) < 1e-4f);
    }
    engine_destroy(engine);
    free(plain);

    /* The exits in between change nothing. */
    assert_int_equal(heads_from_output(&heads, &scene->tiny.model, only, 1, 265, 264, &err), 0);
    ask(scene, &heads, full, true, sparse, NULL, scores);
    assert_memory_equal(states, sparse, sizeof states);
    heads_free(&heads);
}

/* Whom the rule lets go where, from what everybody's answers are at every exit. */
static size_t expected_exit(const struct heads *heads, const struct exit_rule *rule, const struct engine_score *seen)
{
    float answers[LAYERS];
    for (size_t e = 0; e + 1 < heads->count; e++) {
        answers[e] = seen->exits[e].probabilities[seen->exits[e].count - 1];
        float confidence = answers[e] > 0.5f ? answers[e] : 1.0f - answers[e];
        bool agree = e + 1 >= rule->window;
        for (size_t k = 0; agree && k < rule->window; k++)
            agree = (answers[e - k] > 0.5f) == (answers[e] > 0.5f);
        if ((rule->kind == EXIT_RULE_FIXED && heads->exits[e].layer >= rule->layer) ||
            (rule->kind == EXIT_RULE_CONFIDENCE && confidence >= rule->threshold) ||
            (rule->kind == EXIT_RULE_PATIENCE && agree) ||
            (rule->kind == EXIT_RULE_CALIBRATED && confidence >= heads->exits[e].leave))
            return heads->exits[e].layer;
    }
    return heads->exits[heads->count - 1].layer;
}

static void candidates_leave_where_the_rule_says(void **state)
{
    struct scene *scene = *state;
    static const struct {
        struct exit_rule rule;
        size_t places; /* at least so many exits are taken */
    } cases[] = {
        {{.kind = EXIT_RULE_FIXED, .layer = 3}, 1},
        {{.kind = EXIT_RULE_CONFIDENCE, .threshold = 0.7f}, 3},
        {{.kind = EXIT_RULE_PATIENCE, .window = 3}, 3},
        {{.kind = EXIT_RULE_CALIBRATED}, 3},
    };
    struct heads *heads = &scene->tiny.heads;
    struct engine_score all[CANDIDATES], terse[CANDIDATES], explained[CANDIDATES];
    const float leaves[] = {INFINITY, 0.72f, INFINITY, 0.6f, 0.0f, INFINITY};
    for (size_t e = 0; e < LAYERS; e++)
        heads->exits[e].leave = leaves[e];
    ask(scene, heads, full, true, NULL, NULL, all);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct exit_rule *rule = &cases[i].rule;
        size_t taken[LAYERS + 1] = {0}, places = 0;
        ask(scene, heads, *rule, false, NULL, NULL, terse);
        ask(scene, heads, *rule, true, NULL, NULL, explained);
        for (size_t c = 0; c < CANDIDATES; c++) {
            size_t layer = expected_exit(heads, rule, &all[c]);
            const struct engine_exit *there = &all[c].exits[layer - 1];
            places += taken[layer]++ == 0;
            assert_int_equal(terse[c].exit_layer, layer);
            assert_true(terse[c].probability == there->probabilities[there->count - 1]);
            assert_int_equal(explained[c].exit_layer, layer);
            assert_true(explained[c].probability == terse[c].probability);
            assert_int_equal(explained[c].exit_count, LAYERS);
        }
        if (places < cases[i].places)
            fail_msg("case %zu: only %zu exits are taken", i, places);
    }
    for (size_t e = 0; e < LAYERS; e++)
        heads->exits[e].leave = INFINITY;
}

static void a_model_ends_at_the_last_head(void **state)
{
    struct scene *scene = *state;
    struct engine_score whole[CANDIDATES], cut[CANDIDATES];
    struct heads heads = scene->tiny.heads;
    static float states[CANDIDATES * 4 * WIDTH], more[CANDIDATES * LAYERS * WIDTH];
    const struct exit_rule rule = {.kind = EXIT_RULE_CONFIDENCE, .threshold = 0.8f};

    ask(scene, &scene->tiny.heads, rule, true, more, NULL, whole);
    heads.count = 4;
    ask(scene, &heads, rule, true, states, NULL, cut);
    for (size_t c = 0; c < CANDIDATES; c++) {
        assert_int_equal(cut[c].exit_count, 4);
        assert_int_equal(cut[c].exit_layer, whole[c].exit_layer < 4 ? whole[c].exit_layer : 4);
        for (size_t e = 0; e < 4; e++)
            assert_memory_equal(cut[c].exits[e].probabilities, whole[c].exits[e].probabilities, sizeof(float));
        assert_memory_equal(states + c * 4 * WIDTH, more + c * LAYERS * WIDTH, 4 * WIDTH * sizeof(float));
    }

    struct engine *engine = engine_of(scene, &heads, full);
    const struct engine_prompt prompt = {.prefix = scene->prefix,
                                         .prefix_length = PREFIX,
                                         .tokens = scene->candidates.tokens,
                                         .offsets = scene->candidates.offsets,
                                         .candidate_count = 1};
    struct error err;
    assert_int_equal(engine_score(engine, &prompt, 1, cut, &err), 0);
    size_t length = scene->candidates.offsets[1];
    assert_int_equal(engine_token_layers(engine), 3 * (PREFIX + length) + 1);
    engine_destroy(engine);
}

static void assert_idle(const struct scene *scene, const struct heads *heads, struct exit_rule rule,
                        const char *message)
{
    const struct engine_settings settings = {.rule = rule, .threads = 1, .mode = ENGINE_F32};
    struct engine *engine = NULL;
    struct error err;
    assert_int_equal(engine_create(&engine, &scene->tiny.model, heads, &settings, &err), -1);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, message);
}

static void a_rule_that_can_fire_nowhere_is_refused_with_its_reason(void **state)
{
    struct scene *scene = *state;
    struct heads heads = scene->tiny.heads;
    const struct exit_rule calibrated = {.kind = EXIT_RULE_CALIBRATED};
    float exit0[] = {1.0f};
    assert_idle(scene, &heads, (struct exit_rule){.kind = EXIT_RULE_FIXED, .layer = 6}, "is for layer 6");
    assert_idle(scene, &heads, (struct exit_rule){.kind = EXIT_RULE_FIXED}, "set exit.layer");
    assert_idle(scene, &heads, (struct exit_rule){.kind = EXIT_RULE_PATIENCE, .window = 6}, "have 5 before the last");
    assert_idle(scene, &heads, (struct exit_rule){.kind = EXIT_RULE_CONFIDENCE, .threshold = 0.5f}, "above 0.5");
    assert_idle(scene, &heads, calibrated, "carry no thresholds");
    heads.exit0 = exit0;
    heads.exit0_leave = 0.9f; /* before any layer */
    engine_destroy(engine_of(scene, &heads, calibrated));

    /* Rows from layer 3 on alone: no window of three before layer 5. */
    const struct exit_rule steps = {.kind = EXIT_RULE_RATIO, .window = 2, .threshold = 1e9f};
    struct engine_score scores[CANDIDATES];
    for (size_t e = 2; e < LAYERS; e++)
        heads.exits[e].first = 3;
    ask(scene, &heads, steps, false, NULL, NULL, scores);
    assert_int_equal(scores[0].exit_layer, 5);
    for (size_t e = 2; e < LAYERS; e++)
        heads.exits[e].first = 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_meets_its_own_row_and_the_evidence),
        cmocka_unit_test(states_are_those_after_every_layer),
        cmocka_unit_test(candidates_leave_where_the_rule_says),
        cmocka_unit_test(a_model_ends_at_the_last_head),
        cmocka_unit_test(a_rule_that_can_fire_nowhere_is_refused_with_its_reason),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
