#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/gguf_file.h"

/* Bounds far beyond any model of the family: products of two of these fit into 64 bits without a thought. */
enum { LAYERS_MOST = 1024, WIDTH_MOST = 1 << 20, HEADS_MOST = 4096, HEAD_SIZE_MOST = 4096, CONTEXT_MOST = 1 << 30 };

/* Keys that change the arithmetic of a layer into something that no engine of ours computes. */
static const char *const unsupported_keys[] = {
    "llama.expert_count",           "llama.expert_used_count",        "llama.attention.sliding_window",
    "llama.attention.clamp_kqv",    "llama.attention.max_alibi_bias", "llama.attention.scale",
    "llama.attn_logit_softcapping", "llama.final_logit_softcapping",  "llama.logit_scale",
    "llama.residual_scale",         "llama.embedding_scale",          "llama.rope.scale_linear",
    "llama.rope.scaling.factor",    "llama.rope.scaling.attn_factor",
};

static bool is_zero(const struct gguf *gguf, const char *key)
{
    struct error ignored;
    uint64_t number;
    double real;
    return gguf_unsigned(gguf, key, 0, 0, &number, &ignored) == 0 ||
           (gguf_float(gguf, key, &real, &ignored) == 0 && fpclassify(real) == FP_ZERO);
}

static int check_supported(const struct gguf *gguf, struct error *err)
{
    struct text architecture, scaling;
    if (gguf_text(gguf, "general.architecture", &architecture, err) != 0)
        return -1;
    if (!text_equal(architecture, text_of("llama")))
        return gguf_fail(gguf, err, "architecture " TEXT_FORMAT " is not supported; supported: llama",
                         TEXT_ARGS(text_prefix(architecture, 64)));
    if (gguf_has(gguf, "llama.rope.scaling.type")) {
        if (gguf_text(gguf, "llama.rope.scaling.type", &scaling, err) != 0)
            return -1;
        if (!text_equal(scaling, text_of("none")))
            return gguf_fail(gguf, err, "key llama.rope.scaling.type is " TEXT_FORMAT "; supported: none",
                             TEXT_ARGS(text_prefix(scaling, 64)));
    }
    for (size_t i = 0; i < sizeof unsupported_keys / sizeof *unsupported_keys; i++) {
        const char *key = unsupported_keys[i];
        if (gguf_has(gguf, key) && !is_zero(gguf, key))
            return gguf_fail(gguf, err, "key %s: what it asks for is not supported", key);
    }
    return 0;
}

static int read_size(const struct gguf *gguf, const char *key, uint64_t most, size_t *size, struct error *err)
{
    uint64_t number;
    if (gguf_unsigned(gguf, key, 1, most, &number, err) != 0)
        return -1;
    *size = number;
    return 0;
}

/* What stands there must be `expected`; it may also be absent. */
static int check_size(const struct gguf *gguf, const char *key, size_t expected, struct error *err)
{
    uint64_t number;
    if (!gguf_has(gguf, key))
        return 0;
    return gguf_unsigned(gguf, key, expected, expected, &number, err);
}

static int read_real(const struct gguf *gguf, const char *key, double most, double *real, struct error *err)
{
    if (gguf_float(gguf, key, real, err) != 0)
        return -1;
    if (!(*real > 0 && *real <= most))
        return gguf_fail(gguf, err, "key %s is %g, must be above 0 and at most %g", key, *real, most);
    return 0;
}

static int read_heads(struct model *model, const struct gguf *gguf, struct error *err)
{
    if (read_size(gguf, "llama.attention.head_count", HEADS_MOST, &model->heads, err) != 0)
        return -1;
    model->key_heads = model->heads;
    if (gguf_has(gguf, "llama.attention.head_count_kv") &&
        read_size(gguf, "llama.attention.head_count_kv", model->heads, &model->key_heads, err) != 0)
        return -1;
    if (model->heads % model->key_heads != 0)
        return gguf_fail(gguf, err, "key llama.attention.head_count_kv is %zu, must divide the head count %zu",
                         model->key_heads, model->heads);
    if (gguf_has(gguf, "llama.attention.key_length")) {
        if (read_size(gguf, "llama.attention.key_length", HEAD_SIZE_MOST, &model->head_size, err) != 0)
            return -1;
    } else if (model->width % model->heads != 0) {
        return gguf_fail(gguf, err, "key llama.attention.head_count is %zu, must divide the width %zu", model->heads,
                         model->width);
    } else {
        model->head_size = model->width / model->heads;
    }
    if (model->head_size % 2 != 0)
        return gguf_fail(gguf, err, "heads of %zu values: the size must be even for rotary positions",
                         model->head_size);
    if (check_size(gguf, "llama.attention.value_length", model->head_size, err) != 0)
        return -1;
    return check_size(gguf, "llama.rope.dimension_count", model->head_size, err);
}

static int read_shape(struct model *model, const struct gguf *gguf, struct error *err)
{
    model->name = text_of("");
    model->rope_base = 10000; /* where the file is silent: the first Llama's */
    if (gguf_has(gguf, "general.name") && gguf_text(gguf, "general.name", &model->name, err) != 0)
        return -1;
    if (read_size(gguf, "llama.block_count", LAYERS_MOST, &model->layer_count, err) != 0 ||
        read_size(gguf, "llama.embedding_length", WIDTH_MOST, &model->width, err) != 0 ||
        read_size(gguf, "llama.feed_forward_length", WIDTH_MOST, &model->hidden, err) != 0 ||
        read_size(gguf, "llama.context_length", CONTEXT_MOST, &model->context, err) != 0)
        return -1;
    if (read_real(gguf, "llama.attention.layer_norm_rms_epsilon", 1, &model->norm_epsilon, err) != 0)
        return -1;
    if (gguf_has(gguf, "llama.rope.freq_base") &&
        read_real(gguf, "llama.rope.freq_base", 1e12, &model->rope_base, err) != 0)
        return -1;
    return read_heads(model, gguf, err);
}

static int find_embedding(struct model *model, const struct gguf *gguf, struct error *err)
{
    static const char name[] = "token_embd.weight";
    const struct tensor *embedding = gguf_tensor_named(gguf, name);
    size_t tokens;
    model->vocabulary = embedding != NULL && embedding->rows <= INT32_MAX ? embedding->rows : INT32_MAX;
    if (gguf_find_tensor(gguf, name, model->vocabulary, model->width, &model->embedding, err) != 0 ||
        check_size(gguf, "llama.vocab_size", model->vocabulary, err) != 0)
        return -1;
    if (gguf_has(gguf, "tokenizer.ggml.tokens")) {
        if (gguf_text_array(gguf, "tokenizer.ggml.tokens", &tokens, err) != 0)
            return -1;
        if (tokens > model->vocabulary)
            return gguf_fail(gguf, err, "key tokenizer.ggml.tokens has %zu tokens, tensor %s only %zu rows", tokens,
                             name, model->vocabulary);
    }
    model->output = model->embedding;
    if (gguf_tensor_named(gguf, "output.weight") != NULL &&
        gguf_find_tensor(gguf, "output.weight", model->vocabulary, model->width, &model->output, err) != 0)
        return -1;
    return gguf_find_tensor(gguf, "output_norm.weight", 1, model->width, &model->output_norm, err);
}

static int find_layer(struct model *model, const struct gguf *gguf, size_t index, struct error *err)
{
    struct model_layer *layer = &model->layers[index];
    size_t width = model->width, hidden = model->hidden;
    size_t query_rows = model->heads * model->head_size, key_rows = model->key_heads * model->head_size;
    const struct {
        const char *name;
        size_t rows, columns;
        const struct tensor **tensor;
    } parts[] = {
        {"attn_norm", 1, width, &layer->attention_norm},
        {"attn_q", query_rows, width, &layer->query},
        {"attn_k", key_rows, width, &layer->key},
        {"attn_v", key_rows, width, &layer->value},
        {"attn_output", width, query_rows, &layer->attention_output},
        {"ffn_norm", 1, width, &layer->mlp_norm},
        {"ffn_gate", hidden, width, &layer->gate},
        {"ffn_up", hidden, width, &layer->up},
        {"ffn_down", width, hidden, &layer->down},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%zu.%s.weight", index, parts[i].name);
        if (gguf_find_tensor(gguf, name, parts[i].rows, parts[i].columns, parts[i].tensor, err) != 0)
            return -1;
    }
    return 0;
}

static bool layer_uses(const struct model_layer *layer, const struct tensor *tensor)
{
    return tensor == layer->attention_norm || tensor == layer->query || tensor == layer->key ||
           tensor == layer->value || tensor == layer->attention_output || tensor == layer->mlp_norm ||
           tensor == layer->gate || tensor == layer->up || tensor == layer->down;
}

/* A tensor left over is a bias, an expert, a table of rotary factors: without it the model would answer wrongly. */
static int check_all_used(const struct model *model, const struct gguf *gguf, struct error *err)
{
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor(gguf, i);
        char name[64]; /* names of ours are shorter; of a longer one the number is enough */
        size_t layer = 0;
        snprintf(name, sizeof name, TEXT_FORMAT, TEXT_ARGS(tensor->name));
        bool used = tensor == model->embedding || tensor == model->output || tensor == model->output_norm;
        if (!used && sscanf(name, "blk.%5zu.", &layer) == 1 && layer < model->layer_count)
            used = layer_uses(&model->layers[layer], tensor);
        if (!used)
            return gguf_fail(gguf, err,
                             "tensor " TEXT_FORMAT " has no place in a plain Llama decoder; a model that needs it is "
                             "not supported",
                             TEXT_ARGS(tensor->name));
    }
    return 0;
}

int model_load(struct model *model, const struct gguf *gguf, struct error *err)
{
    *model = (struct model){0};
    if (check_supported(gguf, err) != 0 || read_shape(model, gguf, err) != 0 || find_embedding(model, gguf, err) != 0)
        goto failed;
    model->layers = calloc(model->layer_count, sizeof *model->layers);
    if (model->layers == NULL) {
        gguf_fail(gguf, err, "out of memory for %zu layers", model->layer_count);
        goto failed;
    }
    for (size_t i = 0; i < model->layer_count; i++)
        if (find_layer(model, gguf, i, err) != 0)
            goto failed;
    if (check_all_used(model, gguf, err) != 0)
        goto failed;
    return 0;
failed:
    model_free(model);
    return -1;
}

void model_free(struct model *model)
{
    free(model->layers);
    *model = (struct model){0};
}
