/*
 * model.h - a decoder of the Llama family: its shape, its weights, its exit heads
 *
 * Shape and weights come from a GGUF file (general.architecture = "llama"): RMSNorm, rotary positions on interleaved
 * pairs (as GGUF permutes them), grouped query heads, SiLU-gated MLP, tied or untied output rows. Weights stay as they
 * are in the file; an engine takes them over in its own layout.
 *
 * Lifetime: weights point into the file's mapping; keep the gguf open as long as the model.
 * Threads: read-only after the load.
 */
#ifndef HEADRACE_MODEL_MODEL_H
#define HEADRACE_MODEL_MODEL_H

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
};

struct model {
    struct text name;   /* general.name, "" when the file has none */
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

    const struct tensor *embedding;   /* (vocabulary, width) */
    const struct tensor *output_norm; /* (1, width) */
    const struct tensor *output;      /* (vocabulary, width); the embedding when tied */
    struct model_layer *layers;       /* layer_count */
};

/* ERROR_FATAL names the file, the key or tensor at fault and what is supported. */
int model_load(struct model *model, const struct gguf *gguf, struct error *err);
void model_free(struct model *model);

/*
 * A head reads a hidden state h and says how likely "yes" is:
 * p = sigmoid((yes - no) . (gain * h / rms(h)) + bias), the softmax over the two label logits.
 */
struct head {
    size_t layer;      /* sits on the output of this layer, 1 to N */
    float *difference; /* (width): gain * (yes row - no row) */
    float bias;
};

struct heads {
    struct head *exits; /* by layer, ascending; the last one is the final head, on layer N */
    size_t count;
    size_t width;
    float norm_epsilon;
    char id[64]; /* says in responses which heads answered */
};

/*
 * Heads copied from the LM head: its two label rows behind the final norm's gain, at every layer of `layers` and at the
 * end. `layers` ascending, each 1 to N - 1; `yes` and `no` are token ids.
 */
int heads_from_output(struct heads *heads, const struct model *model, const size_t *layers, size_t count, int32_t yes,
                      int32_t no, struct error *err);
void heads_free(struct heads *heads);

#endif
