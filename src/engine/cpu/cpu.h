/*
 * cpu.h - the backend that computes on the processor: what its parts share
 */
#ifndef HEADRACE_ENGINE_CPU_CPU_H
#define HEADRACE_ENGINE_CPU_CPU_H

#include <stdatomic.h>

#include "base/pool.h"
#include "engine/backend.h"
#include "engine/cpu/forward.h"

/* A candidate of the batch. */
struct member {
    size_t length;
    size_t row;      /* its first in batch->hidden; they stay where they are when others leave */
    size_t position; /* of its first token */
    struct chunk *const *past;
    size_t past_count;
    uint8_t *own; /* keys and values in the layer last entered */
};

struct batch {
    struct member *members; /* those still here, in the order given */
    size_t count;
    size_t layers;  /* that the last tokens have behind them; 0 or one more than the others have */
    float *hidden;  /* (rows, width) */
    uint8_t *tiles; /* behind the members' `own` */
    size_t member_capacity, hidden_capacity, tile_capacity;
    size_t *groups; /* members groups[g] .. groups[g + 1] - 1 run together on one thread */
    size_t group_count, group_capacity;
    struct span *spans; /* (threads, span_stride) */
    size_t span_stride, span_capacity;
};

struct cpu_device {
    struct device device;
    const struct model *model;
    const struct heads *heads;
    struct pool *pool;
    struct weights weights;
    struct forward forward;
    struct block *blocks; /* a thread's each */
    struct batch batch;
    atomic_ullong token_layers;
};

/* Makes room in every thread's block. */
int cpu_reserve(struct cpu_device *cpu, size_t rows, struct error *err);

int chunk_create(struct device *device, const int32_t *tokens, size_t count, size_t position, struct chunk **chunk,
                 struct error *err);
void chunk_destroy(struct device *device, struct chunk *chunk);
int chunks_run(struct device *device, struct chunk *const *chunks, size_t count, size_t entered, struct error *err);

int batch_start(struct device *device, const struct candidate *candidates, size_t count, struct error *err);
int batch_run(struct device *device, size_t layers, const struct reading *readings, size_t count, float *logits,
              float *states, struct error *err);
void batch_keep(struct device *device, const bool *stays);
void batch_free(struct batch *batch);

#endif
