/* The tiny model against a float64 forward pass of its own (tests/golden/make_tiny_states.py). */
#include <math.h>

#include "tiny.h"

#include "real_model.h"

static const struct exit_rule full = {.kind = EXIT_RULE_FULL};

static size_t read_ids(json_t *ids, int32_t *tokens)
{
    for (size_t i = 0; i < json_array_size(ids); i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    return json_array_size(ids);
}

static void compare_states(const char *what, const char *layer, json_t *positions, json_t *expected, const float *got,
                           size_t width, double tolerance)
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
        if (!(difference < tolerance * norm))
            fail_msg("%s, layer %s, position %zu: off by %g of %g", what, layer, position, difference, norm);
    }
}

static void compare_sequence(const struct tiny *tiny, struct engine *engine, json_t *sequence, double tolerance)
{
    int32_t tokens[512];
    struct error err;
    size_t length = read_ids(json_object_get(sequence, "tokens"), tokens), compared = 0;
    float *states = malloc(length * tiny->model.width * sizeof *states);
    const char *layer;
    json_t *expected;

    assert_non_null(states);
    json_object_foreach(json_object_get(sequence, "hidden"), layer, expected)
    {
        if (engine_hidden_states(engine, tokens, length, strtoul(layer, NULL, 10), states, &err) != 0)
            fail_msg("%s", err.message);
        compare_states(engine_arithmetic(engine), layer, json_object_get(sequence, "positions"), expected, states,
                       tiny->model.width, tolerance);
        compared++;
    }
    assert_int_equal(compared, 4);
    free(states);
}

static void hidden_states_are_those_of_float64_in_every_arithmetic(void **state)
{
    (void)state;
    static const double tolerances[] = {[ENGINE_F32] = 5e-6, [ENGINE_BF16] = 0.02, [ENGINE_INT8] = 0.1};
    enum engine_cpu cpus[3];
    struct tiny tiny;
    tiny_load(&tiny);
    json_t *golden = golden_json("tiny_states.json"), *sequence;
    size_t at;
    assert_non_null(golden);
    assert_int_equal(json_array_size(json_object_get(golden, "sequences")), 2);
    for (size_t i = 0; i < processors(cpus); i++)
        for (enum engine_mode mode = ENGINE_F32; mode <= ENGINE_INT8; mode++) {
            struct engine *engine = tiny_engine_on(&tiny, full, 2, mode, cpus[i]);
            json_array_foreach(json_object_get(golden, "sequences"), at, sequence)
            {
                compare_sequence(&tiny, engine, sequence, tolerances[mode]);
            }
            engine_destroy(engine);
        }
    json_decref(golden);
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
    assert_int_equal(engine_score(engine, &question, 1, scores, &err), 0);

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
        cmocka_unit_test(hidden_states_are_those_of_float64_in_every_arithmetic),
        cmocka_unit_test(packed_candidates_score_as_plain_sequences_in_float64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
