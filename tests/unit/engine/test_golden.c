/* The tiny model against a float64 forward pass of its own (tests/golden/make_tiny_states.py). */
#include <math.h>

#include "tiny.h"

#include "engine/prefix.h"
#include "real_model.h"

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};

static size_t read_ids(json_t *ids, int32_t *tokens)
{
    for (size_t i = 0; i < json_array_size(ids); i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    return json_array_size(ids);
}

static void compare_states(const char *what, const char *layer, json_t *positions, json_t *expected, const float *got,
                           size_t width)
{
    for (size_t i = 0; i < json_array_size(positions); i++) {
        size_t position = (size_t)json_integer_value(json_array_get(positions, i));
        json_t *row = json_array_get(expected, i);
        double difference = 0.0, norm = 0.0;
        assert_int_equal(json_array_size(row), width);
        for (size_t k = 0; k < width; k++) {
            double value = json_number_value(json_array_get(row, k));
            difference = fmax(difference, fabs(value - (double)got[position * width + k]));
            norm = fmax(norm, fabs(value));
        }
        if (!(difference < 5e-6 * norm))
            fail_msg("%s, layer %s, position %zu: off by %g of %g", what, layer, position, difference, norm);
    }
}

/* The passes that the engine makes, on kernels of our choice. */
static void compare_sequence(const struct tiny *tiny, const struct kernels *kernels, struct pool *pool,
                             json_t *sequence)
{
    struct weights weights;
    struct forward forward;
    struct prefix prefix;
    int32_t tokens[512];
    struct error err;
    size_t length = read_ids(json_object_get(sequence, "tokens"), tokens), compared = 0;
    const char *layer;
    json_t *expected;

    if (weights_pack(&weights, &tiny->model, kernels, pool, &err) != 0 ||
        forward_create(&forward, &weights, pool, &err) != 0 || prefix_create(&prefix, &tiny->model, &err) != 0 ||
        forward_reserve(&forward, length, length, &err) != 0 ||
        prefix_start(&prefix, &forward, tokens, length, &err) != 0)
        fail_msg("%s", err.message);
    json_object_foreach(json_object_get(sequence, "hidden"), layer, expected)
    {
        if (prefix_finish(&prefix, &forward, strtoul(layer, NULL, 10), &err) != 0)
            fail_msg("%s", err.message);
        compare_states(kernels->name, layer, json_object_get(sequence, "positions"), expected, prefix.hidden,
                       tiny->model.width);
        compared++;
    }
    assert_int_equal(compared, 4);
    prefix_free(&prefix);
    forward_free(&forward);
    weights_free(&weights);
}

static void hidden_states_are_those_of_float64_on_every_instruction_set(void **state)
{
    (void)state;
    struct tiny tiny;
    tiny_load(&tiny);
    struct pool *pool = pool_create(2);
    json_t *golden = golden_json("tiny_states.json"), *sequence;
    size_t at;
    assert_true(pool != NULL && golden != NULL);
    assert_int_equal(json_array_size(json_object_get(golden, "sequences")), 2);
    for (size_t i = 0; kernels_supported(i) != NULL; i++)
        json_array_foreach(json_object_get(golden, "sequences"), at, sequence)
        {
            compare_sequence(&tiny, kernels_supported(i), pool, sequence);
        }
    json_decref(golden);
    pool_destroy(pool);
    tiny_free(&tiny);
}

static void the_engine_hands_out_these_hidden_states(void **state)
{
    (void)state;
    struct tiny tiny;
    tiny_load(&tiny);
    struct engine *engine = tiny_engine(&tiny, full, 2);
    json_t *golden = golden_json("tiny_states.json");
    assert_non_null(golden);
    json_t *sequence = json_array_get(json_object_get(golden, "sequences"), 1);
    json_t *hidden = json_object_get(sequence, "hidden"), *positions = json_object_get(sequence, "positions");
    int32_t tokens[512];
    struct error err;
    size_t length = read_ids(json_object_get(sequence, "tokens"), tokens);
    float *states = malloc(length * tiny.model.width * sizeof *states);
    assert_non_null(states);

    static const char *const layers[] = {"6", "0", "3"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(engine_hidden_states(engine, tokens, length, strtoul(layers[i], NULL, 10), states, &err), 0);
        compare_states("engine", layers[i], positions, json_object_get(hidden, layers[i]), states, tiny.model.width);
    }
    free(states);
    json_decref(golden);
    engine_destroy(engine);
    tiny_free(&tiny);
}

static void packed_candidates_score_as_plain_sequences_in_float64(void **state)
{
    (void)state;
    struct tiny tiny;
    tiny_load(&tiny);
    struct engine *engine = tiny_engine(&tiny, full, 2);
    json_t *golden = golden_json("tiny_states.json");
    assert_non_null(golden);
    json_t *prompt = json_object_get(golden, "prompt"), *exits = json_object_get(prompt, "exits");
    int32_t prefix[512], tokens[512];
    size_t offsets[4] = {0};
    struct engine_score scores[3];
    struct error err;
    for (size_t i = 0; i < 3; i++)
        offsets[i + 1] =
            offsets[i] + read_ids(json_array_get(json_object_get(prompt, "candidates"), i), tokens + offsets[i]);
    const struct engine_prompt question = {
        .prefix = prefix,
        .prefix_length = read_ids(json_object_get(prompt, "prefix"), prefix),
        .tokens = tokens,
        .offsets = offsets,
        .candidate_count = 3,
        .explain = true,
    };
    assert_int_equal(engine_score(engine, &question, scores, &err), 0);

    for (size_t i = 0; i < 3; i++) {
        json_t *differences = json_array_get(json_object_get(prompt, "differences"), i);
        assert_int_equal(scores[i].exit_count, json_array_size(exits));
        for (size_t j = 0; j < scores[i].exit_count; j++) {
            const struct engine_exit *seen = &scores[i].exits[j];
            assert_int_equal(seen->layer, json_integer_value(json_array_get(exits, j)));
            assert_int_equal(seen->count, 1);
            double p = (double)seen->probabilities[0], expected = json_number_value(json_array_get(differences, j));
            if (!(fabs(log(p / (1.0 - p)) - expected) < 2e-5))
                fail_msg("candidate %zu at layer %zu: %g instead of %g", i, seen->layer, log(p / (1.0 - p)), expected);
        }
    }
    json_decref(golden);
    engine_destroy(engine);
    tiny_free(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_are_those_of_float64_on_every_instruction_set),
        cmocka_unit_test(the_engine_hands_out_these_hidden_states),
        cmocka_unit_test(packed_candidates_score_as_plain_sequences_in_float64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
