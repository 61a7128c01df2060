/*
 * weights.h - a model's matrices in the order in which the kernels read them
 *
 * Norm gains are multiplied into the matrices behind them. The two halves of a rotary pair, which the model has side by
 * side, lie half a head apart, in queries and keys alike, so that scores stay what they are. The embedding is not here:
 * its rows are unpacked from the file when they are used.
 *
 * Packing takes seconds for a larger model, so what comes of it is kept (packed_file.h) and mapped at the next start.
 * A panel of each layer is packed nevertheless and must be what is in the file: a file that an older version wrote,
 * whose numbers or order were others, is found out even if nobody raised WEIGHTS_LAYOUT.
 *
 * Threads: read-only after the pack.
 */
#ifndef HEADRACE_ENGINE_CPU_WEIGHTS_H
#define HEADRACE_ENGINE_CPU_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/pool.h"
#include "engine/cpu/kernels.h"
#include "model/model.h"

struct matrix {
    size_t depth;   /* inputs */
    size_t columns; /* outputs, filled up to whole panels with zeros */
    size_t panel_bytes;
    const uint8_t *panels;
    float *bias; /* (columns); NULL: none */
};

/* In the order in which their panels lie in memory, which is that of use: what comes next can be fetched ahead. */
struct layer_weights {
    struct matrix key_value; /* key outputs, then value outputs, each filled up to whole panels */
    struct matrix query;
    struct matrix attention_output;
    struct matrix gate_up; /* panels of gate and up in turn */
    struct matrix down;
};

struct weights {
    const struct model *model; /* its shape */
    const struct kernels *kernels;
    const struct format *format;    /* of the matrices */
    const struct format *attention; /* of keys and values, and of what meets them */
    struct layer_weights *layers;
    uint8_t *memory;     /* behind the panels; NULL: they are in the file */
    struct file_map map; /* empty: they are in memory */
    size_t bytes;
};

/* Where packed weights are kept; a NULL: nowhere. */
struct weights_cache {
    const char *directory;
    const char *model; /* hash of the model's file */
};

/* `mode` is not AUTO. A cache that cannot be read or written is logged, and done without. */
int weights_open(struct weights *weights, const struct model *model, const struct kernels *kernels,
                 enum engine_mode mode, const struct weights_cache *cache, struct pool *pool, struct error *err);

/* A zeroed one is fine. */
void weights_free(struct weights *weights);

/* `bytes` on a cache line's border, for free(); NULL without memory or on overflow. */
void *lines_allocate(size_t bytes);

#endif
