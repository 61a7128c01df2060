/*
 * weights.h - a model's matrices as floats, in the order in which the kernels read them
 *
 * The embedding is not here: its rows are unpacked from the file when they are used.
 *
 * Threads: read-only after the pack.
 */
#ifndef HEADRACE_ENGINE_WEIGHTS_H
#define HEADRACE_ENGINE_WEIGHTS_H

#include <stddef.h>

#include "base/error.h"
#include "base/pool.h"
#include "engine/kernels.h"
#include "model/model.h"

struct matrix {
    size_t depth;   /* inputs */
    size_t outputs; /* the last panel is filled up with zeros */
    float *panels;  /* (outputs / panel, depth, panel) */
};

struct layer_weights {
    float *attention_norm; /* (width) */
    float *mlp_norm;       /* (width) */
    struct matrix query;
    struct matrix key_value; /* key outputs, then value outputs */
    struct matrix attention_output;
    struct matrix gate, up, down;
};

struct weights {
    const struct model *model; /* its shape */
    const struct kernels *kernels;
    struct layer_weights *layers;
};

int weights_pack(struct weights *weights, const struct model *model, const struct kernels *kernels, struct pool *pool,
                 struct error *err);

/* A zeroed one is fine. */
void weights_free(struct weights *weights);

/* `count` floats on a cache line's border, for free(); NULL without memory or on overflow. */
float *floats_allocate(size_t count);

#endif
