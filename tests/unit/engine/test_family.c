/* Llama 3's rotary factors, an adapter, Qwen2's halves and biases: against Hugging Face transformers. */
#include <math.h>
#include <string.h>

#include <jansson.h>

#include "real_model.h"
#include "tiny.h"

/* The file under tests/golden that a member of `entry` names; "" when it names none. */
static const char *golden_path(const json_t *entry, const char *member, char path[512])
{
    const char *name = json_string_value(json_object_get(entry, member));
    assert_non_null(name);
    snprintf(path, 512, *name == '\0' ? "" : HEADRACE_GOLDEN "/%s", name);
    return path;
}

static void merge_adapter(struct model *model, const char *path)
{
    struct gguf *adapter;
    struct error err;
    if (gguf_open(&adapter, path, &err) != 0 || model_merge_lora(model, adapter, &err) != 0)
        fail_msg("%s", err.message);
    gguf_close(adapter);
}

static void compare(json_t *entry, enum engine_cpu cpu)
{
    static const struct exit_rule full = {.kind = EXIT_RULE_FULL};
    struct tiny made;
    struct error err;
    char path[512], adapter[512];
    if (gguf_open(&made.gguf, golden_path(entry, "file", path), &err) != 0 ||
        model_load(&made.model, made.gguf, &err) != 0)
        fail_msg("%s", err.message);
    if (*golden_path(entry, "adapter", adapter) != '\0')
        merge_adapter(&made.model, adapter);
    if (heads_from_output(&made.heads, &made.model, NULL, 0, 1, 2, &err) != 0)
        fail_msg("%s", err.message);
    struct engine *engine = tiny_engine_on(&made, full, 1, ENGINE_F32, cpu);

    json_t *ids = json_object_get(entry, "tokens"), *layers = json_object_get(entry, "last_token_after_layer");
    size_t length = json_array_size(ids), width = made.model.width;
    int32_t *tokens = calloc(length, sizeof *tokens);
    float *states = calloc(length * width, sizeof *states);
    assert_true(tokens != NULL && states != NULL);
    for (size_t i = 0; i < length; i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    assert_int_equal(json_array_size(layers), made.model.layer_count);
    for (size_t layer = 1; layer <= made.model.layer_count; layer++) {
        if (engine_hidden_states(engine, tokens, length, layer, states, &err) != 0)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < width; i++) {
            double expected = json_number_value(json_array_get(json_array_get(layers, layer - 1), i));
            double found = (double)states[(length - 1) * width + i];
            if (!(fabs(found - expected) < 1e-4 * (1 + fabs(expected))))
                fail_msg("%s %s, layer %zu: value %zu is %g, must be %g", path, adapter, layer, i, found, expected);
        }
    }
    free(tokens);
    free(states);
    engine_destroy(engine);
    tiny_free(&made);
}

static void hidden_states_are_those_of_the_reference(void **state)
{
    (void)state;
    json_t *golden = golden_json("family_states.json"), *entry;
    size_t at;
    assert_int_equal(json_array_size(golden), 3);
    enum engine_cpu cpus[3];
    for (size_t i = 0, count = processors(cpus); i < count; i++)
        json_array_foreach(golden, at, entry) compare(entry, cpus[i]);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hidden_states_are_those_of_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
