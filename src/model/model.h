/*
 * model.h - a decoder of the Llama family: its shape and its weights
 *
 * Shape and weights come from a GGUF file, general.architecture "llama" or "qwen2": RMSNorm, grouped query heads,
 * biases on queries, keys and values where the file has them, SiLU-gated MLP, tied or untied output rows. Whatever the
 * file's convention, rotary positions go over interleaved pairs (2i, 2i + 1) of a head: where a file has them on halves
 * (Qwen2), the rows of queries and keys, and their biases, come out interleaved. Weights stay as they are in the file,
 * adapters apart; an engine takes them over in its own layout by tensor_row().
 *
 * Lifetime: weights point into the file's mapping; keep the gguf open as long as the model.
 * Threads: read-only after the load and the merge of adapters.
 */
#ifndef HEADRACE_MODEL_MODEL_H
#define HEADRACE_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/gguf.h"

struct model_layer {                       /* tensors: (rows, columns), a row a output channel */
    const struct tensor *attention_norm;   /* (1, width) */
    const struct tensor *query;            /* (heads * head_size, width) */
    const struct tensor *key;              /* (key_heads * head_size, width) */
    const struct tensor *value;            /* (key_heads * head_size, width) */
    const struct tensor *attention_output; /* (width, heads * head_size) */
    const struct tensor *mlp_norm;         /* (1, width) */
    const struct tensor *gate, *up;        /* (hidden, width) */
    const struct tensor *down;             /* (width, hidden) */
    const float *query_bias;               /* (heads * head_size), added before the rotation; NULL: none, as below */
    const float *key_bias, *value_bias;    /* (key_heads * head_size); all three or none, in all layers or in none */
};

struct model {
    struct text name; /* general.name, "" when the file has none */
    struct text architecture;
    size_t layer_count; /* N */
    size_t width;       /* H, of the residual stream */
    size_t hidden;      /* of the MLP */
    size_t heads;       /* query heads */
    size_t key_heads;   /* key and value heads; divides heads */
    size_t head_size;   /* even */
    size_t vocabulary;  /* rows of the embedding */
    size_t context;     /* longest sequence */
    double norm_epsilon;
    double rope_base;
    float *rope_factors; /* (head_size / 2); pair i turns by rope_base^(-2i / head_size) / rope_factors[i] a
                                  position. NULL: all are 1 */

    const struct tensor *embedding;   /* (vocabulary, width) */
    const struct tensor *output_norm; /* (1, width) */
    const struct tensor *output;      /* (vocabulary, width); the embedding when tied */
    struct model_layer *layers;       /* layer_count */

    char adapters[17];      /* 16 hex digits over the adapters merged in, "" when there are none: what is derived from
                               the weights and kept has gguf_hash() and this in its key */
    struct tensor *tensors; /* (model_tensor_count()) those of the layers, and output's when it is not tied */
    float *biases;          /* behind the layers' */
};

/* ERROR_FATAL names the file, the key or tensor at fault and what is supported. */
int model_load(struct model *model, const struct gguf *gguf, struct error *err);
void model_free(struct model *model);
size_t model_tensor_count(const struct model *model);

/*
 * Adds an adapter to the weights: a GGUF file with general.type "adapter" and adapter.type "lora", a pair NAME.lora_a,
 * NAME.lora_b for each matrix NAME that it changes, of the layers or an output of its own. tensor_row() gives the sum
 * from then on, so an engine and heads made after the merge compute with it. The adapter can be closed afterwards; its
 * values take 4 bytes each for as long as the model lives. On an error the model is as it was.
 */
int model_merge_lora(struct model *model, struct gguf *adapter, struct error *err);

/* Bytes that an engine needs for the weights of all layers: 4, 2 or 1 each, with int8 a float for the scale of each
 * output channel; norms and biases are floats. The embedding stays in the file. */
struct model_memory {
    uint64_t f32, bf16, int8;
};
struct model_memory model_memory(const struct model *model);

#endif
