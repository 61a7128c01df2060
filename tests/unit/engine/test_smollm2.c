/* The default model's forward pass against transformers in float32 (tests/golden/make_smollm2.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "model/model.h"
#include "real_model.h"

struct loaded {
    struct gguf *gguf;
    struct model model;
    struct heads heads;
    struct engine *engine;
    json_t *golden;
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
    const struct engine_settings settings = {.rule = {.kind = EXIT_RULE_FULL}, .threads = 2, .mode = ENGINE_F32};
    if (gguf_open(&loaded.gguf, path, &err) != 0 || model_load(&loaded.model, loaded.gguf, &err) != 0 ||
        heads_from_output(&loaded.heads, &loaded.model, NULL, 0, yes, no, &err) != 0 ||
        engine_create(&loaded.engine, &loaded.model, &loaded.heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    *state = &loaded;
    return 0;
}

static int unload(void **state)
{
    struct loaded *loaded = *state;
    if (loaded == NULL)
        return 0;
    engine_destroy(loaded->engine);
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

static void compare_hidden(struct loaded *loaded, json_t *prompt, const char *layer, json_t *expected)
{
    size_t count, width = loaded->model.width;
    int32_t *tokens = prompt_ids(prompt, &count);
    float *states = calloc(count * width, sizeof *states);
    struct error err;
    assert_non_null(states);
    assert_int_equal(
        engine_hidden_states(loaded->engine, tokens, count, (size_t)strtoul(layer, NULL, 10), states, &err), 0);
    const float *last = states + (count - 1) * width;
    double difference = 0, norm = 0;
    assert_int_equal(json_array_size(expected), width);
    for (size_t i = 0; i < width; i++) {
        double value = json_number_value(json_array_get(expected, i));
        difference += (value - (double)last[i]) * (value - (double)last[i]);
        norm += value * value;
    }
    double error = sqrt(difference / norm);
    if (!(error < 1e-4))
        fail_msg("hidden state after layer %s: relative error %g", layer, error);
    free(states);
    free(tokens);
}

static void hidden_states_are_those_of_the_reference(void **state)
{
    struct loaded *loaded = *state;
    if (loaded == NULL)
        skip();
    size_t at, compared = 0;
    json_t *prompt, *expected;
    const char *layer;
    json_array_foreach(json_object_get(loaded->golden, "prompts"), at, prompt)
    {
        json_object_foreach(json_object_get(prompt, "hidden"), layer, expected)
        {
            compare_hidden(loaded, prompt, layer, expected);
            compared++;
        }
    }
    assert_int_equal(compared, 6);
}

static void label_logits_are_those_of_the_reference(void **state)
{
    struct loaded *loaded = *state;
    if (loaded == NULL)
        skip();
    json_t *prompts = json_object_get(loaded->golden, "prompts"), *prompt;
    assert_int_equal(json_array_size(prompts), 5);
    size_t at;
    json_array_foreach(prompts, at, prompt)
    {
        size_t count;
        int32_t *tokens = prompt_ids(prompt, &count);
        const size_t prefix = count / 2, offsets[2] = {0, count - prefix};
        const struct engine_prompt question = {tokens, prefix, tokens + prefix, offsets, 1, false, NULL};
        struct engine_score score;
        struct error err;
        assert_int_equal(engine_score(loaded->engine, &question, 1, &score, &err), 0);
        double expected =
            json_number_value(json_object_get(prompt, "yes")) - json_number_value(json_object_get(prompt, "no"));
        double got = log((double)score.probability / (1 - (double)score.probability));
        if (!(fabs(got - expected) < 2e-3))
            fail_msg("prompt %zu: yes - no is %g, the reference says %g", at, got, expected);
        free(tokens);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_are_those_of_the_reference),
        cmocka_unit_test(label_logits_are_those_of_the_reference),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
