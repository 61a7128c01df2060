/*
 * The default model's forward pass against transformers in float32 (tests/golden/make_smollm2.py): in F32 on the best
 * instruction set, and with TEST_CPU on that one in every mode.
 */
#include <math.h>

#include "real_model.h"
#include "tiny.h"

struct loaded {
    struct gguf *gguf;
    struct model model;
    struct heads heads;
    json_t *golden;
};

/* How far a mode may be off: a hidden state in relation to its size, and log odds. */
static const struct {
    double state, log_odds;
} tolerances[] = {
    [ENGINE_F32] = {1e-4, 2e-3},
    [ENGINE_BF16] = {0.02, 0.05},
    [ENGINE_INT8] = {0.1, 0.4},
};

static int load(void **state)
{
    static struct loaded loaded;
    *state = NULL;
    const char *path = real_model_path();
    if (path == NULL)
        return 0;
    struct error err;
    loaded.golden = golden_json("smollm2.json");
    assert_non_null(loaded.golden);
    int32_t yes = (int32_t)json_integer_value(json_object_get(loaded.golden, "yes"));
    int32_t no = (int32_t)json_integer_value(json_object_get(loaded.golden, "no"));
    if (gguf_open(&loaded.gguf, path, &err) != 0 || model_load(&loaded.model, loaded.gguf, &err) != 0 ||
        heads_from_output(&loaded.heads, &loaded.model, NULL, 0, yes, no, &err) != 0)
        fail_msg("%s", err.message);
    *state = &loaded;
    return 0;
}

static int unload(void **state)
{
    struct loaded *loaded = *state;
    if (loaded == NULL)
        return 0;
    heads_free(&loaded->heads);
    model_free(&loaded->model);
    gguf_close(loaded->gguf);
    json_decref(loaded->golden);
    return 0;
}

static int32_t *prompt_ids(json_t *prompt, size_t *count)
{
    json_t *ids = json_object_get(prompt, "ids");
    *count = json_array_size(ids);
    int32_t *tokens = calloc(*count, sizeof *tokens);
    assert_non_null(tokens);
    for (size_t i = 0; i < *count; i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    return tokens;
}

static void compare_hidden(struct engine *engine, json_t *prompt, const char *layer, json_t *expected, double tolerance)
{
    size_t count, width = json_array_size(expected);
    int32_t *tokens = prompt_ids(prompt, &count);
    float *states = calloc(count * width, sizeof *states);
    struct error err;
    assert_non_null(states);
    assert_int_equal(engine_hidden_states(engine, tokens, count, strtoul(layer, NULL, 10), states, &err), 0);
    const float *last = states + (count - 1) * width;
    double difference = 0, norm = 0;
    for (size_t i = 0; i < width; i++) {
        double value = json_number_value(json_array_get(expected, i));
        difference += (value - (double)last[i]) * (value - (double)last[i]);
        norm += value * value;
    }
    double error = sqrt(difference / norm);
    if (!(error < tolerance))
        fail_msg("%s, hidden state after layer %s: relative error %g", engine_arithmetic(engine), layer, error);
    free(states);
    free(tokens);
}

static void compare_states(struct loaded *loaded, struct engine *engine, double tolerance)
{
    size_t at, compared = 0;
    json_t *prompt, *expected;
    const char *layer;
    json_array_foreach(json_object_get(loaded->golden, "prompts"), at, prompt)
    {
        json_object_foreach(json_object_get(prompt, "hidden"), layer, expected)
        {
            assert_int_equal(json_array_size(expected), loaded->model.width);
            compare_hidden(engine, prompt, layer, expected, tolerance);
            compared++;
        }
    }
    assert_int_equal(compared, 6);
}

static void compare_log_odds(struct loaded *loaded, struct engine *engine, double tolerance)
{
    json_t *prompts = json_object_get(loaded->golden, "prompts"), *prompt;
    assert_int_equal(json_array_size(prompts), 5);
    size_t at;
    json_array_foreach(prompts, at, prompt)
    {
        size_t count;
        int32_t *tokens = prompt_ids(prompt, &count);
        const size_t prefix = count / 2, offsets[2] = {0, count - prefix};
        const struct engine_prompt question = {tokens, prefix, tokens + prefix, offsets, 1, false, NULL, NULL, 0};
        struct engine_score score;
        struct error err;
        assert_int_equal(engine_score(engine, &question, 1, &score, &err), 0);
        double expected =
            json_number_value(json_object_get(prompt, "yes")) - json_number_value(json_object_get(prompt, "no"));
        double got = log((double)score.probability / (1 - (double)score.probability));
        if (!(fabs(got - expected) < tolerance))
            fail_msg("%s, prompt %zu: yes - no is %g, the reference says %g", engine_arithmetic(engine), at, got,
                     expected);
        free(tokens);
    }
}

static void states_and_log_odds_are_those_of_the_reference(void **state)
{
    struct loaded *loaded = *state;
    if (loaded == NULL)
        skip();
    enum engine_cpu cpu = cpu_asked_for();
    enum engine_mode last = cpu == ENGINE_CPU_AUTO ? ENGINE_F32 : ENGINE_INT8;
    for (enum engine_mode mode = ENGINE_F32; mode <= last; mode++) {
        const struct engine_settings settings = {
            .rule = {.kind = EXIT_RULE_FULL}, .threads = 2, .mode = mode, .cpu = cpu};
        struct engine *engine;
        struct error err;
        if (engine_create(&engine, &loaded->model, &loaded->heads, &settings, &err) != 0)
            fail_msg("%s", err.message);
        compare_states(loaded, engine, tolerances[mode].state);
        compare_log_odds(loaded, engine, tolerances[mode].log_odds);
        engine_destroy(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(states_and_log_odds_are_those_of_the_reference)};
    return cmocka_run_group_tests(tests, load, unload);
}
