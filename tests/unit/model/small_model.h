/* small_model.h - the least of models: one layer, width 8, two heads of 4, hidden 16, a vocabulary of 3 */
#ifndef HEADRACE_TESTS_SMALL_MODEL_H
#define HEADRACE_TESTS_SMALL_MODEL_H

#include "base/random.h"
#include "model/gguf_bytes.h"

enum { SMALL_WIDTH = 8, SMALL_HIDDEN = 16, SMALL_HEAD = 4, SMALL_TOKENS = 3 };

/* The keys of a Llama, but for the one of that name. */
static inline void put_small_keys(struct gguf_bytes *bytes, const char *left_out)
{
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"llama.block_count", 1},          {"llama.embedding_length", SMALL_WIDTH},
        {"llama.context_length", 32},      {"llama.feed_forward_length", SMALL_HIDDEN},
        {"llama.attention.head_count", 2},
    };
    put_key_text(bytes, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].key, left_out) != 0)
            put_key_u32(bytes, sizes[i].key, sizes[i].value);
    if (strcmp("llama.attention.layer_norm_rms_epsilon", left_out) != 0)
        put_key_float(bytes, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

/* The same of a Qwen2. */
static inline void put_small_qwen2_keys(struct gguf_bytes *bytes)
{
    put_key_text(bytes, "general.architecture", "qwen2");
    put_key_u32(bytes, "qwen2.block_count", 1);
    put_key_u32(bytes, "qwen2.embedding_length", SMALL_WIDTH);
    put_key_u32(bytes, "qwen2.context_length", 32);
    put_key_u32(bytes, "qwen2.feed_forward_length", SMALL_HIDDEN);
    put_key_u32(bytes, "qwen2.attention.head_count", 2);
    put_key_float(bytes, "qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
}

/* A tensor of random floats that depend on its name only. */
static inline void put_floats(struct gguf_bytes *bytes, const char *name, size_t rows, size_t columns)
{
    struct random random = {0};
    for (const char *at = name; *at != '\0'; at++)
        random.state = 31 * random.state + (uint64_t)*at;
    float *values = malloc(rows * columns * sizeof *values);
    if (values == NULL)
        abort();
    for (size_t i = 0; i < rows * columns; i++)
        values[i] = (float)random_below(&random, 2000) / 1000 - 1;
    put_tensor(bytes, name, TENSOR_F32, rows, columns, values, rows * columns * sizeof *values);
    free(values);
}

/* All tensors but the one of that name. */
static inline void put_small_tensors(struct gguf_bytes *bytes, const char *left_out)
{
    static const struct {
        const char *name;
        size_t rows, columns;
    } tensors[] = {
        {"token_embd.weight", SMALL_TOKENS, SMALL_WIDTH},
        {"output_norm.weight", 1, SMALL_WIDTH},
        {"blk.0.attn_norm.weight", 1, SMALL_WIDTH},
        {"blk.0.attn_q.weight", SMALL_WIDTH, SMALL_WIDTH},
        {"blk.0.attn_k.weight", SMALL_WIDTH, SMALL_WIDTH},
        {"blk.0.attn_v.weight", SMALL_WIDTH, SMALL_WIDTH},
        {"blk.0.attn_output.weight", SMALL_WIDTH, SMALL_WIDTH},
        {"blk.0.ffn_norm.weight", 1, SMALL_WIDTH},
        {"blk.0.ffn_gate.weight", SMALL_HIDDEN, SMALL_WIDTH},
        {"blk.0.ffn_up.weight", SMALL_HIDDEN, SMALL_WIDTH},
        {"blk.0.ffn_down.weight", SMALL_WIDTH, SMALL_HIDDEN},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (strcmp(tensors[i].name, left_out) != 0)
            put_floats(bytes, tensors[i].name, tensors[i].rows, tensors[i].columns);
}

static inline void put_small_biases(struct gguf_bytes *bytes)
{
    put_floats(bytes, "blk.0.attn_q.bias", 1, SMALL_WIDTH);
    put_floats(bytes, "blk.0.attn_k.bias", 1, SMALL_WIDTH);
    put_floats(bytes, "blk.0.attn_v.bias", 1, SMALL_WIDTH);
}

/* Opens the file made of `bytes`, which must be sound; *file is freed after gguf_close(). */
static inline struct gguf *open_made(struct gguf_bytes *bytes, uint8_t **file)
{
    size_t size;
    struct error err;
    struct gguf *gguf;
    *file = finish_bytes(bytes, &size);
    if (gguf_open_memory(&gguf, *file, size, "made.gguf", &err) != 0)
        abort();
    return gguf;
}

#endif
