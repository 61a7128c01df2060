#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/heads.h"
#include "model/model.h"
#include "model/small_model.h"

static struct error err;

static struct gguf *open_tiny(struct model *model)
{
    struct gguf *gguf;
    if (gguf_open(&gguf, HEADRACE_GOLDEN "/tiny.gguf", &err) != 0 || model_load(model, gguf, &err) != 0)
        fail_msg("%s", err.message);
    return gguf;
}

/* NULL for `why`: it must load. */
static void assert_load(struct gguf_bytes *bytes, const char *why)
{
    size_t size;
    struct gguf *gguf;
    struct model model;
    uint8_t *file = finish_bytes(bytes, &size);
    if (gguf_open_memory(&gguf, file, size, "made.gguf", &err) != 0)
        fail_msg("%s", err.message);
    int result = model_load(&model, gguf, &err);
    if (result == 0)
        model_free(&model);
    gguf_close(gguf);
    free(file);
    if (why == NULL && result != 0)
        fail_msg("%s", err.message);
    if (why == NULL)
        return;
    if (result == 0)
        fail_msg("loaded, though: %s", why);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, why) == NULL || strstr(err.message, "made.gguf: ") == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void the_tiny_model_has_its_shape(void **state)
{
    (void)state;
    struct model model;
    struct gguf *gguf = open_tiny(&model);
    assert_true(text_equal(model.name, text_of("tiny")));
    assert_int_equal(model.layer_count, 6);
    assert_int_equal(model.width, 64);
    assert_int_equal(model.hidden, 160);
    assert_int_equal(model.heads, 4);
    assert_int_equal(model.key_heads, 2);
    assert_int_equal(model.head_size, 16);
    assert_int_equal(model.vocabulary, 704);
    assert_int_equal(model.context, 512);
    assert_true(fabs(model.norm_epsilon - 1e-5) < 1e-11);
    assert_true(fabs(model.rope_base - 10000) <= 0);
    assert_ptr_equal(model.output, model.embedding);
    for (size_t i = 0; i < model.layer_count; i++) {
        const struct model_layer *layer = &model.layers[i];
        assert_int_equal(layer->query->rows, 64);
        assert_int_equal(layer->key->rows, 32);
        assert_int_equal(layer->value->rows, 32);
        assert_int_equal(layer->attention_output->columns, 64);
        assert_int_equal(layer->gate->rows, 160);
        assert_int_equal(layer->up->rows, 160);
        assert_int_equal(layer->down->columns, 160);
        assert_int_equal(layer->mlp_norm->columns, 64);
        assert_int_equal(layer->attention_norm->columns, 64);
    }
    assert_true(text_equal(model.layers[3].down->name, text_of("blk.3.ffn_down.weight")));
    model_free(&model);
    gguf_close(gguf);
}

static void what_a_file_may_leave_out_has_a_default(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_small_keys(&bytes, "");
    put_small_tensors(&bytes, "");
    assert_load(&bytes, NULL);
    put_small_keys(&bytes, "");
    put_key_text(&bytes, "llama.rope.scaling.type", "none");
    put_key_u32(&bytes, "llama.expert_count", 0);
    put_key_u32(&bytes, "llama.rope.dimension_count", 4);
    put_small_tensors(&bytes, "");
    put_tensor(&bytes, "output.weight", TENSOR_F32, 3, 8, NULL, 96);
    assert_load(&bytes, NULL);
}

static void keys_that_are_missing_or_out_of_range_are_named(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "llama.block_count",          "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.context_length",   "llama.attention.layer_norm_rms_epsilon",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, keys[i]);
        put_small_tensors(&bytes, "");
        assert_load(&bytes, keys[i]);
        assert_non_null(strstr(err.message, "is missing"));
        put_small_keys(&bytes, keys[i]);
        if (i < 5)
            put_key_u32(&bytes, keys[i], 0);
        else
            put_key_float(&bytes, keys[i], NAN);
        put_small_tensors(&bytes, "");
        assert_load(&bytes, keys[i]);
    }
}

static void arithmetic_that_no_engine_does_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const char *text; /* or the number, when NULL */
        uint32_t number;
        const char *why;
    } keys[] = {
        {"llama.rope.scaling.type", "yarn", 0, "llama.rope.scaling.type is yarn; supported: none, linear"},
        {"llama.rope.scaling.attn_factor", NULL, 2, "llama.rope.scaling.attn_factor must be 1"},
        {"llama.attention.scale", NULL, 2, "llama.attention.scale"},
        {"general.type", "adapter", 0, "key general.type is adapter; must be model"},
        {"llama.rope.scaling.type", "two\nlines", 0, "two?lines"},
        {"llama.expert_count", NULL, 8, "llama.expert_count"},
        {"llama.attention.sliding_window", NULL, 4096, "llama.attention.sliding_window"},
        {"llama.rope.dimension_count", NULL, 2, "llama.rope.dimension_count is 2, must be 4 to 4"},
        {"llama.attention.value_length", NULL, 2, "llama.attention.value_length"},
        {"llama.attention.key_length", NULL, 3, "even"},
        {"llama.attention.head_count_kv", NULL, 3, "llama.attention.head_count_kv"},
        {"llama.vocab_size", NULL, 4, "llama.vocab_size is 4, must be 3 to 3"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, "");
        if (keys[i].text != NULL)
            put_key_text(&bytes, keys[i].key, keys[i].text);
        else
            put_key_u32(&bytes, keys[i].key, keys[i].number);
        put_small_tensors(&bytes, "");
        assert_load(&bytes, keys[i].why);
    }
    struct gguf_bytes bytes = {0};
    put_key_text(&bytes, "general.architecture", "gemma");
    assert_load(&bytes, "architecture gemma is not supported; supported: llama, qwen2");
    put_small_keys(&bytes, "llama.embedding_length");
    put_key_u32(&bytes, "llama.embedding_length", 7);
    assert_load(&bytes, "must divide the width 7");
    put_small_keys(&bytes, "");
    put_key_array(&bytes, "tokenizer.ggml.tokens", 8, 4);
    for (int i = 0; i < 4; i++)
        put_string(&bytes.keys, "t");
    put_small_tensors(&bytes, "");
    assert_load(&bytes, "has 4 tokens");
}

static void every_tensor_must_be_there_and_have_a_place(void **state)
{
    (void)state;
    static const char *const names[] = {
        "token_embd.weight",     "output_norm.weight",  "blk.0.attn_norm.weight",   "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",   "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight",
        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, "");
        put_small_tensors(&bytes, names[i]);
        assert_load(&bytes, names[i]);
        put_small_keys(&bytes, "");
        put_small_tensors(&bytes, names[i]);
        put_tensor(&bytes, names[i], TENSOR_F32, 5, 5, NULL, 100);
        assert_load(&bytes, names[i]);
    }
    static const char *const strangers[] = {"rope_freqs.weight",      "blk.0.attn_q.bias",
                                            "blk.0.attn_output.bias", "blk.0.attn_q_norm.weight",
                                            "blk.1.attn_q.weight",    "blk.99999999999999999999.attn_q.weight"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, "");
        put_small_tensors(&bytes, "");
        put_tensor(&bytes, strangers[i], TENSOR_F32, 1, 4, NULL, 16);
        assert_load(&bytes, strangers[i]);
    }
}

/* Loads a sound model made of `bytes`. */
static void load_made(struct gguf_bytes *bytes, struct model *model, struct gguf **gguf, uint8_t **file)
{
    *gguf = open_made(bytes, file);
    if (model_load(model, *gguf, &err) != 0)
        fail_msg("%s", err.message);
}

static void close_made(struct model *model, struct gguf *gguf, uint8_t *file)
{
    model_free(model);
    gguf_close(gguf);
    free(file);
}

/* NULL for `factors`: there must be none. */
static void assert_rope_factors(struct gguf_bytes *bytes, const float *factors)
{
    struct model model;
    struct gguf *gguf;
    uint8_t *file;
    load_made(bytes, &model, &gguf, &file);
    if (factors == NULL)
        assert_null(model.rope_factors);
    else
        for (size_t i = 0; i < SMALL_HEAD / 2; i++)
            assert_float_equal(model.rope_factors[i], factors[i], 0);
    close_made(&model, gguf, file);
}

static void rotary_factors_come_from_a_tensor_and_from_a_linear_scaling(void **state)
{
    (void)state;
    static const float factors[] = {1, 8}, four[] = {4, 4}, both[] = {4, 32};
    struct gguf_bytes bytes = {0};
    put_small_keys(&bytes, "");
    put_small_tensors(&bytes, "");
    put_tensor(&bytes, "rope_freqs.weight", TENSOR_F32, 1, 2, factors, sizeof factors);
    assert_rope_factors(&bytes, factors);

    put_small_keys(&bytes, "");
    put_key_text(&bytes, "llama.rope.scaling.type", "linear");
    put_key_float(&bytes, "llama.rope.scaling.factor", 4);
    put_small_tensors(&bytes, "");
    assert_rope_factors(&bytes, four);

    put_small_keys(&bytes, "");
    put_key_float(&bytes, "llama.rope.scale_linear", 4);
    put_small_tensors(&bytes, "");
    put_tensor(&bytes, "rope_freqs.weight", TENSOR_F32, 1, 2, factors, sizeof factors);
    assert_rope_factors(&bytes, both);

    put_small_keys(&bytes, "");
    put_key_text(&bytes, "llama.rope.scaling.type", "none");
    put_key_float(&bytes, "llama.rope.scaling.factor", 4);
    put_small_tensors(&bytes, "");
    assert_rope_factors(&bytes, NULL);
}

static void rotary_factors_that_are_no_divisors_are_refused(void **state)
{
    (void)state;
    static const float broken[][2] = {{1, 0}, {-2, 1}, {NAN, 1}, {1, INFINITY}};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, "");
        put_small_tensors(&bytes, "");
        put_tensor(&bytes, "rope_freqs.weight", TENSOR_F32, 1, 2, broken[i], sizeof broken[i]);
        assert_load(&bytes, "rope_freqs.weight");
        put_small_keys(&bytes, "");
        put_key_float(&bytes, "llama.rope.scaling.factor", broken[i][0] > 0 ? 1e-30f : broken[i][0]);
        put_small_tensors(&bytes, "");
        assert_load(&bytes, "llama.rope.scaling.factor");
    }
}

/* Qwen2 rotates value i of a head with value i + 2 of the 4; a model's rows have the two side by side. */
static void qwen2_comes_out_in_interleaved_pairs_with_its_biases(void **state)
{
    (void)state;
    static const size_t places[SMALL_WIDTH] = {0, 2, 1, 3, 4, 6, 5, 7};
    struct gguf_bytes bytes = {0};
    struct model model;
    struct gguf *gguf;
    uint8_t *file;
    put_small_qwen2_keys(&bytes);
    put_small_tensors(&bytes, "");
    put_small_biases(&bytes);
    load_made(&bytes, &model, &gguf, &file);
    assert_true(text_equal(model.architecture, text_of("qwen2")));

    const struct model_layer *layer = &model.layers[0];
    const struct {
        const char *name;
        const struct tensor *matrix;
        const float *bias;
        bool interleaved;
    } parts[] = {{"blk.0.attn_q", layer->query, layer->query_bias, true},
                 {"blk.0.attn_k", layer->key, layer->key_bias, true},
                 {"blk.0.attn_v", layer->value, layer->value_bias, false}};
    for (size_t part = 0; part < 3; part++) {
        char name[64];
        float row[SMALL_WIDTH], in_file[SMALL_WIDTH], biases[SMALL_WIDTH];
        snprintf(name, sizeof name, "%s.weight", parts[part].name);
        const struct tensor *matrix = gguf_tensor_named(gguf, name);
        snprintf(name, sizeof name, "%s.bias", parts[part].name);
        tensor_row(gguf_tensor_named(gguf, name), 0, biases);
        for (size_t i = 0; i < SMALL_WIDTH; i++) {
            size_t place = parts[part].interleaved ? places[i] : i;
            tensor_row(parts[part].matrix, i, row);
            tensor_row(matrix, place, in_file);
            assert_memory_equal(row, in_file, sizeof row);
            assert_float_equal(parts[part].bias[i], biases[place], 0);
        }
    }
    close_made(&model, gguf, file);
}

static void qwen2_without_a_bias_is_refused(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_small_qwen2_keys(&bytes);
    put_small_tensors(&bytes, "");
    put_floats(&bytes, "blk.0.attn_q.bias", 1, SMALL_WIDTH);
    assert_load(&bytes, "tensor blk.0.attn_k.bias is missing");
}

static void a_llama_may_have_biases_and_keeps_its_order(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    struct model model;
    struct gguf *gguf;
    uint8_t *file;
    put_small_keys(&bytes, "");
    put_small_tensors(&bytes, "");
    put_small_biases(&bytes);
    load_made(&bytes, &model, &gguf, &file);
    float biases[SMALL_WIDTH];
    tensor_row(gguf_tensor_named(gguf, "blk.0.attn_q.bias"), 0, biases);
    assert_memory_equal(model.layers[0].query_bias, biases, sizeof biases);
    close_made(&model, gguf, file);
}

static void memory_is_counted_by_mode(void **state)
{
    (void)state;
    enum { MATRICES = 4 * 8 * 8 + 3 * 16 * 8, CHANNELS = 4 * 8 + 16 + 16 + 8, NORMS = 2 * 8, BIASES = 3 * 8 };
    struct gguf_bytes bytes = {0};
    struct model model;
    struct gguf *gguf;
    uint8_t *file;
    put_small_keys(&bytes, "");
    put_small_tensors(&bytes, "");
    put_small_biases(&bytes);
    load_made(&bytes, &model, &gguf, &file);
    struct model_memory memory = model_memory(&model);
    assert_int_equal(memory.f32, 4 * (MATRICES + NORMS + BIASES));
    assert_int_equal(memory.bf16, 2 * MATRICES + 4 * (NORMS + BIASES));
    assert_int_equal(memory.int8, MATRICES + 4 * (CHANNELS + NORMS + BIASES));
    close_made(&model, gguf, file);
}

static void heads_give_the_softmax_over_the_two_label_logits(void **state)
{
    (void)state;
    enum { YES = 300, NO = 301, WIDTH = 64 };
    struct model model;
    struct gguf *gguf = open_tiny(&model);
    struct heads heads;
    const size_t layers[] = {2, 4};
    assert_int_equal(heads_from_output(&heads, &model, layers, 2, YES, NO, &err), 0);
    assert_int_equal(heads.count, 3);
    assert_int_equal(heads.width, WIDTH);
    assert_int_equal(heads.exits[0].layer, 2);
    assert_int_equal(heads.exits[1].layer, 4);
    assert_int_equal(heads.exits[2].layer, 6);
    assert_string_equal(heads.id, "lm-head:2,4");

    float yes[WIDTH], no[WIDTH], gain[WIDTH];
    double yes_logit = 0, no_logit = 0, difference = 0;
    tensor_row(model.embedding, YES, yes);
    tensor_row(model.embedding, NO, no);
    tensor_row(model.output_norm, 0, gain);
    for (size_t i = 0; i < WIDTH; i++) {
        double normed = sin((double)i); /* a hidden state over its rms */
        yes_logit += (double)yes[i] * (double)gain[i] * normed;
        no_logit += (double)no[i] * (double)gain[i] * normed;
        difference += (double)heads.exits[1].rows[3 * WIDTH + i] * normed;
    }
    double softmax = exp(yes_logit) / (exp(yes_logit) + exp(no_logit));
    assert_true(fabs(softmax - 1 / (1 + exp(-difference - (double)heads.exits[1].biases[3]))) < 1e-6);
    assert_true(fabs(softmax - 0.5) > 1e-3);
    heads_free(&heads);
    model_free(&model);
    gguf_close(gguf);
}

static void heads_outside_the_model_are_refused(void **state)
{
    (void)state;
    static const size_t layers[][2] = {{0, 2}, {2, 6}, {3, 3}, {4, 2}};
    static const int32_t labels[][2] = {{-1, 5}, {5, 704}, {7, 7}};
    struct model model;
    struct gguf *gguf = open_tiny(&model);
    struct heads heads;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(heads_from_output(&heads, &model, layers[i], 2, 1, 2, &err), -1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(heads_from_output(&heads, &model, NULL, 0, labels[i][0], labels[i][1], &err), -1);
    assert_int_equal(heads_from_output(&heads, &model, NULL, 0, 1, 2, &err), 0);
    assert_int_equal(heads.count, 1);
    assert_string_equal(heads.id, "lm-head");
    heads_free(&heads);
    model_free(&model);
    gguf_close(gguf);
}

static void many_exits_still_have_a_name_of_their_own(void **state)
{
    (void)state;
    size_t layers[40];
    struct model model;
    struct gguf *gguf = open_tiny(&model);
    struct heads one, other;
    model.layer_count = 100; /* heads read nothing of the layers */
    for (size_t i = 0; i < 40; i++)
        layers[i] = 2 * i + 1;
    assert_int_equal(heads_from_output(&one, &model, layers, 40, 1, 2, &err), 0);
    layers[39]++;
    assert_int_equal(heads_from_output(&other, &model, layers, 40, 1, 2, &err), 0);
    assert_string_not_equal(one.id, other.id);
    assert_int_equal(strncmp(one.id, "lm-head:40-exits-", 17), 0);
    heads_free(&one);
    heads_free(&other);
    model.layer_count = 6;
    model_free(&model);
    gguf_close(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tiny_model_has_its_shape),
        cmocka_unit_test(what_a_file_may_leave_out_has_a_default),
        cmocka_unit_test(keys_that_are_missing_or_out_of_range_are_named),
        cmocka_unit_test(arithmetic_that_no_engine_does_is_refused),
        cmocka_unit_test(every_tensor_must_be_there_and_have_a_place),
        cmocka_unit_test(rotary_factors_come_from_a_tensor_and_from_a_linear_scaling),
        cmocka_unit_test(rotary_factors_that_are_no_divisors_are_refused),
        cmocka_unit_test(qwen2_comes_out_in_interleaved_pairs_with_its_biases),
        cmocka_unit_test(qwen2_without_a_bias_is_refused),
        cmocka_unit_test(a_llama_may_have_biases_and_keeps_its_order),
        cmocka_unit_test(memory_is_counted_by_mode),
        cmocka_unit_test(heads_give_the_softmax_over_the_two_label_logits),
        cmocka_unit_test(heads_outside_the_model_are_refused),
        cmocka_unit_test(many_exits_still_have_a_name_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
