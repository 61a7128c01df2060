#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/gguf_file.h"

/* Bounds far beyond any model of the family: products of two of these fit into 64 bits without a thought. */
enum { LAYERS_MOST = 1024, WIDTH_MOST = 1 << 20, HEADS_MOST = 4096, HEAD_SIZE_MOST = 4096, CONTEXT_MOST = 1 << 30 };

enum { LAYER_TENSORS = 9, NAME_MOST = 64 /* bytes of a key or tensor name of ours */ };

enum architecture { LLAMA, QWEN2, ARCHITECTURES };
static const char *const architectures[ARCHITECTURES] = {"llama", "qwen2"};

/* Keys that change the arithmetic of a layer into something that no engine of ours computes. */
static const char *const unsupported_keys[] = {
    "expert_count",           "expert_used_count",        "attention.sliding_window",
    "attention.clamp_kqv",    "attention.max_alibi_bias", "attention.scale",
    "attn_logit_softcapping", "final_logit_softcapping",  "logit_scale",
    "residual_scale",         "embedding_scale",
};

struct loading {
    struct model *model;
    const struct gguf *gguf;
    enum architecture architecture;
    char key[NAME_MOST]; /* of the latest key_of() */
    bool *used;          /* (tensors of the file) */
    struct error *err;
};

/* The architecture's key of that name. */
static const char *key_of(struct loading *loading, const char *name)
{
    snprintf(loading->key, sizeof loading->key, "%s.%s", architectures[loading->architecture], name);
    return loading->key;
}

static bool is_real(const struct gguf *gguf, const char *key, double wanted)
{
    struct error ignored;
    uint64_t number;
    double real;
    if (gguf_unsigned(gguf, key, 0, UINT32_MAX, &number, &ignored) == 0)
        real = (double)number;
    else if (gguf_float(gguf, key, &real, &ignored) != 0)
        return false;
    return fpclassify(real - wanted) == FP_ZERO;
}

static int find_architecture(struct loading *loading)
{
    struct text type;
    const struct gguf *gguf = loading->gguf;
    if (gguf_has(gguf, "general.type")) {
        if (gguf_text(gguf, "general.type", &type, loading->err) != 0)
            return -1;
        if (!text_equal(type, text_of("model")))
            return gguf_fail(gguf, loading->err, "key general.type is " TEXT_FORMAT "; must be model",
                             TEXT_ARGS(text_prefix(type, 64)));
    }
    if (gguf_text(gguf, "general.architecture", &loading->model->architecture, loading->err) != 0)
        return -1;
    for (size_t i = 0; i < ARCHITECTURES; i++)
        if (text_equal(loading->model->architecture, text_of(architectures[i]))) {
            loading->architecture = (enum architecture)i;
            return 0;
        }
    return gguf_fail(gguf, loading->err, "architecture " TEXT_FORMAT " is not supported; supported: llama, qwen2",
                     TEXT_ARGS(text_prefix(loading->model->architecture, 64)));
}

static int check_supported(struct loading *loading)
{
    for (size_t i = 0; i < sizeof unsupported_keys / sizeof *unsupported_keys; i++) {
        const char *key = key_of(loading, unsupported_keys[i]);
        if (gguf_has(loading->gguf, key) && !is_real(loading->gguf, key, 0))
            return gguf_fail(loading->gguf, loading->err, "key %s: what it asks for is not supported", key);
    }
    return 0;
}

static int read_size(struct loading *loading, const char *name, uint64_t most, size_t *size)
{
    uint64_t number;
    if (gguf_unsigned(loading->gguf, key_of(loading, name), 1, most, &number, loading->err) != 0)
        return -1;
    *size = number;
    return 0;
}

/* What stands there must be `expected`; it may also be absent. */
static int check_size(struct loading *loading, const char *name, size_t expected)
{
    uint64_t number;
    const char *key = key_of(loading, name);
    if (!gguf_has(loading->gguf, key))
        return 0;
    return gguf_unsigned(loading->gguf, key, expected, expected, &number, loading->err);
}

static int read_real(struct loading *loading, const char *name, double most, double *real)
{
    const char *key = key_of(loading, name);
    if (gguf_float(loading->gguf, key, real, loading->err) != 0)
        return -1;
    if (!(*real > 0 && *real <= most))
        return gguf_fail(loading->gguf, loading->err, "key %s is %g, must be above 0 and at most %g", key, *real, most);
    return 0;
}

static int read_heads(struct loading *loading)
{
    struct model *model = loading->model;
    if (read_size(loading, "attention.head_count", HEADS_MOST, &model->heads) != 0)
        return -1;
    model->key_heads = model->heads;
    if (gguf_has(loading->gguf, key_of(loading, "attention.head_count_kv")) &&
        read_size(loading, "attention.head_count_kv", model->heads, &model->key_heads) != 0)
        return -1;
    if (model->heads % model->key_heads != 0)
        return gguf_fail(loading->gguf, loading->err, "key %s is %zu, must divide the head count %zu",
                         key_of(loading, "attention.head_count_kv"), model->key_heads, model->heads);
    if (gguf_has(loading->gguf, key_of(loading, "attention.key_length"))) {
        if (read_size(loading, "attention.key_length", HEAD_SIZE_MOST, &model->head_size) != 0)
            return -1;
    } else if (model->width % model->heads != 0) {
        return gguf_fail(loading->gguf, loading->err, "key %s is %zu, must divide the width %zu",
                         key_of(loading, "attention.head_count"), model->heads, model->width);
    } else {
        model->head_size = model->width / model->heads;
    }
    if (model->head_size % 2 != 0)
        return gguf_fail(loading->gguf, loading->err, "heads of %zu values: the size must be even for rotary positions",
                         model->head_size);
    if (check_size(loading, "attention.value_length", model->head_size) != 0)
        return -1;
    return check_size(loading, "rope.dimension_count", model->head_size);
}

static int read_shape(struct loading *loading)
{
    struct model *model = loading->model;
    model->name = text_of("");
    model->rope_base = 10000; /* where the file is silent: the first Llama's */
    if (gguf_has(loading->gguf, "general.name") &&
        gguf_text(loading->gguf, "general.name", &model->name, loading->err) != 0)
        return -1;
    if (read_size(loading, "block_count", LAYERS_MOST, &model->layer_count) != 0 ||
        read_size(loading, "embedding_length", WIDTH_MOST, &model->width) != 0 ||
        read_size(loading, "feed_forward_length", WIDTH_MOST, &model->hidden) != 0 ||
        read_size(loading, "context_length", CONTEXT_MOST, &model->context) != 0)
        return -1;
    if (read_real(loading, "attention.layer_norm_rms_epsilon", 1, &model->norm_epsilon) != 0)
        return -1;
    if (gguf_has(loading->gguf, key_of(loading, "rope.freq_base")) &&
        read_real(loading, "rope.freq_base", 1e12, &model->rope_base) != 0)
        return -1;
    return read_heads(loading);
}

/* The memory that the layers' pointers lead to. */
static int allocate(struct loading *loading)
{
    struct model *model = loading->model;
    model->layers = calloc(model->layer_count, sizeof *model->layers);
    model->tensors = calloc(model->layer_count * LAYER_TENSORS + 1, sizeof *model->tensors);
    loading->used = calloc(gguf_tensor_count(loading->gguf) + 1, sizeof *loading->used);
    if (model->layers == NULL || model->tensors == NULL || loading->used == NULL)
        return gguf_fail(loading->gguf, loading->err, "out of memory for %zu layers", model->layer_count);
    return 0;
}

static int find_tensor(struct loading *loading, const char *name, size_t rows, size_t columns,
                       const struct tensor **tensor)
{
    if (gguf_find_tensor(loading->gguf, name, rows, columns, tensor, loading->err) != 0)
        return -1;
    loading->used[*tensor - gguf_tensor(loading->gguf, 0)] = true;
    return 0;
}

static int find_embedding(struct loading *loading)
{
    static const char name[] = "token_embd.weight";
    struct model *model = loading->model;
    const struct tensor *embedding = gguf_tensor_named(loading->gguf, name);
    size_t tokens;
    model->vocabulary = embedding != NULL && embedding->rows <= INT32_MAX ? embedding->rows : INT32_MAX;
    if (find_tensor(loading, name, model->vocabulary, model->width, &model->embedding) != 0 ||
        check_size(loading, "vocab_size", model->vocabulary) != 0)
        return -1;
    if (gguf_has(loading->gguf, "tokenizer.ggml.tokens")) {
        if (gguf_text_array(loading->gguf, "tokenizer.ggml.tokens", &tokens, loading->err) != 0)
            return -1;
        if (tokens > model->vocabulary)
            return gguf_fail(loading->gguf, loading->err,
                             "key tokenizer.ggml.tokens has %zu tokens, tensor %s only %zu rows", tokens, name,
                             model->vocabulary);
    }
    model->output = model->embedding;
    if (gguf_tensor_named(loading->gguf, "output.weight") != NULL) {
        if (find_tensor(loading, "output.weight", model->vocabulary, model->width, &model->output) != 0)
            return -1;
        struct tensor *own = &model->tensors[model->layer_count * LAYER_TENSORS];
        *own = *model->output;
        model->output = own;
    }
    return find_tensor(loading, "output_norm.weight", 1, model->width, &model->output_norm);
}

/* The product of the tensor's factors, if there is one, and the one for all. */
static int fill_rope_factors(struct loading *loading, const char *tensor_name, float factor)
{
    struct model *model = loading->model;
    size_t pairs = model->head_size / 2;
    const struct tensor *tensor;
    model->rope_factors = malloc(pairs * sizeof *model->rope_factors);
    if (model->rope_factors == NULL)
        return gguf_fail(loading->gguf, loading->err, "out of memory for %zu rotary factors", pairs);
    for (size_t i = 0; i < pairs; i++)
        model->rope_factors[i] = 1;
    if (tensor_name != NULL) {
        if (find_tensor(loading, tensor_name, 1, pairs, &tensor) != 0)
            return -1;
        tensor_row(tensor, 0, model->rope_factors);
    }
    for (size_t i = 0; i < pairs; i++) {
        model->rope_factors[i] *= factor;
        if (!(model->rope_factors[i] >= 1e-6f && model->rope_factors[i] <= 1e6f))
            return gguf_fail(loading->gguf, loading->err,
                             "rotary factor %zu (tensor rope_freqs.weight, key %s) is %g, must be 1e-6 to 1e6", i,
                             key_of(loading, "rope.scaling.factor"), (double)model->rope_factors[i]);
    }
    return 0;
}

/*
 * Llama 3's factors stand in a tensor, ready to divide by; a linear scaling of positions is one factor for all pairs.
 * Where the kind of scaling is not told, a factor means linear.
 */
static int read_rope_factors(struct loading *loading)
{
    static const char tensor_name[] = "rope_freqs.weight";
    struct text scaling = text_of("linear");
    double factor = 1;
    const char *key = key_of(loading, "rope.scaling.type");
    if (gguf_has(loading->gguf, key) && gguf_text(loading->gguf, key, &scaling, loading->err) != 0)
        return -1;
    bool is_linear = text_equal(scaling, text_of("linear"));
    if (!is_linear && !text_equal(scaling, text_of("none")))
        return gguf_fail(loading->gguf, loading->err,
                         "key %s is " TEXT_FORMAT "; supported: none, linear, and factors in tensor %s", key,
                         TEXT_ARGS(text_prefix(scaling, 64)), tensor_name);
    key = key_of(loading, "rope.scaling.attn_factor");
    if (gguf_has(loading->gguf, key) && !is_real(loading->gguf, key, 0) && !is_real(loading->gguf, key, 1))
        return gguf_fail(loading->gguf, loading->err, "key %s must be 1: attention is scaled by nothing else", key);
    const char *name = "rope.scaling.factor";
    if (!gguf_has(loading->gguf, key_of(loading, name)))
        name = "rope.scale_linear"; /* as older files have it */
    key = key_of(loading, name);
    if (is_linear && gguf_has(loading->gguf, key) && !is_real(loading->gguf, key, 0) &&
        read_real(loading, name, 1e6, &factor) != 0)
        return -1;

    bool has_tensor = gguf_tensor_named(loading->gguf, tensor_name) != NULL;
    if (!has_tensor && fpclassify(factor - 1) == FP_ZERO)
        return 0;
    return fill_rope_factors(loading, has_tensor ? tensor_name : NULL, (float)factor);
}

static int find_layer(struct loading *loading, size_t index)
{
    const struct model *model = loading->model;
    struct model_layer *layer = &model->layers[index];
    size_t width = model->width, hidden = model->hidden;
    size_t query_rows = model->heads * model->head_size, key_rows = model->key_heads * model->head_size;
    size_t halves = loading->architecture == QWEN2 ? model->head_size : 0;
    const struct {
        const char *name;
        size_t rows, columns, halves;
        const struct tensor **tensor;
    } parts[LAYER_TENSORS] = {
        {"attn_norm", 1, width, 0, &layer->attention_norm},
        {"attn_q", query_rows, width, halves, &layer->query},
        {"attn_k", key_rows, width, halves, &layer->key},
        {"attn_v", key_rows, width, 0, &layer->value},
        {"attn_output", width, query_rows, 0, &layer->attention_output},
        {"ffn_norm", 1, width, 0, &layer->mlp_norm},
        {"ffn_gate", hidden, width, 0, &layer->gate},
        {"ffn_up", hidden, width, 0, &layer->up},
        {"ffn_down", width, hidden, 0, &layer->down},
    };
    for (size_t i = 0; i < LAYER_TENSORS; i++) {
        struct tensor *own = &model->tensors[index * LAYER_TENSORS + i];
        const struct tensor *found;
        char name[NAME_MOST];
        snprintf(name, sizeof name, "blk.%zu.%s.weight", index, parts[i].name);
        if (find_tensor(loading, name, parts[i].rows, parts[i].columns, &found) != 0)
            return -1;
        *own = *found;
        own->halves = parts[i].halves;
        *parts[i].tensor = own;
    }
    return 0;
}

/* Reads one bias, in the order in which the rows of its matrix come out. */
static int read_bias(struct loading *loading, size_t layer, const char *part, const struct tensor *matrix, float *bias)
{
    const struct tensor *tensor;
    char name[NAME_MOST];
    snprintf(name, sizeof name, "blk.%zu.%s.bias", layer, part);
    if (find_tensor(loading, name, 1, matrix->rows, &tensor) != 0)
        return -1;
    float *row = malloc(matrix->rows * sizeof *row);
    if (row == NULL)
        return gguf_fail(loading->gguf, loading->err, "out of memory for tensor %s", name);
    tensor_row(tensor, 0, row);
    for (size_t i = 0; i < matrix->rows; i++)
        bias[i] = row[tensor_place(matrix, i)];
    free(row);
    return 0;
}

/* Qwen2 always has biases on queries, keys and values, a Llama may have them. */
static int read_biases(struct loading *loading)
{
    struct model *model = loading->model;
    if (loading->architecture == LLAMA && gguf_tensor_named(loading->gguf, "blk.0.attn_q.bias") == NULL)
        return 0;
    size_t rows = (model->heads + 2 * model->key_heads) * model->head_size; /* as many as the layers' tensors have */
    model->biases = malloc(model->layer_count * rows * sizeof *model->biases);
    if (model->biases == NULL)
        return gguf_fail(loading->gguf, loading->err, "out of memory for the biases of %zu layers", model->layer_count);
    float *next = model->biases;
    for (size_t i = 0; i < model->layer_count; i++) {
        struct model_layer *layer = &model->layers[i];
        const struct {
            const char *name;
            const struct tensor *matrix;
            const float **bias;
        } parts[] = {{"attn_q", layer->query, &layer->query_bias},
                     {"attn_k", layer->key, &layer->key_bias},
                     {"attn_v", layer->value, &layer->value_bias}};
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
            if (read_bias(loading, i, parts[part].name, parts[part].matrix, next) != 0)
                return -1;
            *parts[part].bias = next;
            next += parts[part].matrix->rows;
        }
    }
    return 0;
}

/* A tensor left over is a bias, an expert, a norm of heads: without it the model would answer wrongly. */
static int check_all_used(const struct loading *loading)
{
    for (size_t i = 0; i < gguf_tensor_count(loading->gguf); i++)
        if (!loading->used[i])
            return gguf_fail(loading->gguf, loading->err,
                             "tensor " TEXT_FORMAT " has no place in a plain %s decoder; a model that needs it is "
                             "not supported",
                             TEXT_ARGS(text_prefix(gguf_tensor(loading->gguf, i)->name, 64)),
                             loading->architecture == LLAMA ? "Llama" : "Qwen2");
    return 0;
}

static int find_layers(struct loading *loading)
{
    for (size_t i = 0; i < loading->model->layer_count; i++)
        if (find_layer(loading, i) != 0)
            return -1;
    return read_biases(loading);
}

int model_load(struct model *model, const struct gguf *gguf, struct error *err)
{
    *model = (struct model){0};
    struct loading loading = {.model = model, .gguf = gguf, .err = err};
    int result = -1;
    if (find_architecture(&loading) == 0 && check_supported(&loading) == 0 && read_shape(&loading) == 0 &&
        allocate(&loading) == 0 && find_embedding(&loading) == 0 && read_rope_factors(&loading) == 0 &&
        find_layers(&loading) == 0)
        result = check_all_used(&loading);
    free(loading.used);
    if (result != 0)
        model_free(model);
    return result;
}

size_t model_tensor_count(const struct model *model)
{
    return model->layer_count * LAYER_TENSORS + (model->output != model->embedding);
}

static void free_updates(struct tensor *tensor)
{
    while (tensor->update != NULL) {
        struct low_rank *update = tensor->update;
        tensor->update = update->next;
        free(update->a);
        free(update->b);
        free(update);
    }
}

void model_free(struct model *model)
{
    for (size_t i = 0; model->tensors != NULL && i <= model->layer_count * LAYER_TENSORS; i++)
        free_updates(&model->tensors[i]);
    free(model->tensors);
    free(model->rope_factors);
    free(model->biases);
    free(model->layers);
    *model = (struct model){0};
}

struct model_memory model_memory(const struct model *model)
{
    uint64_t weights = 0, channels = 0, floats = 0;
    for (size_t i = 0; i < model->layer_count * LAYER_TENSORS; i++) {
        const struct tensor *tensor = &model->tensors[i];
        if (tensor->rows == 1) {
            floats += tensor->columns;
            continue;
        }
        weights += (uint64_t)tensor->rows * tensor->columns;
        channels += tensor->rows;
    }
    if (model->biases != NULL)
        floats += model->layer_count * (model->heads + 2 * model->key_heads) * model->head_size;
    floats *= sizeof(float);
    return (struct model_memory){
        .f32 = 4 * weights + floats, .bf16 = 2 * weights + floats, .int8 = weights + sizeof(float) * channels + floats};
}
