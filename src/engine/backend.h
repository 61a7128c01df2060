/*
 * backend.h - where layers are computed: one table of functions for each kind of device
 *
 * A backend knows layers, rows, keys and values; it knows no exit rule, no cache, no graph. The engine drives it with
 * two kinds of work:
 *
 *   chunks   a prefix, cut into pieces of CHUNK_TOKENS tokens at absolute places. A chunk holds its keys and values of
 * the layers done and its residual stream, so that it can be kept, shared by all that begin with the same tokens, and
 * deepened later. batch    candidates, packed. Each goes on from a chain of chunks and never sees another candidate.
 * Between exits a batch runs layer by layer; only last tokens meet a head.
 *
 * Laziness: after a run to layer L the last tokens have L layers behind them; all others stop at the keys and values of
 * layer L, and the next run makes up for those candidates that are still there. The same holds for chunks.
 *
 * A row's numbers depend on its own sequence alone: neither on what else runs, nor on threads, nor on what was kept.
 *
 * Threads: one call at a time on a device.
 */
#ifndef HEADRACE_ENGINE_BACKEND_H
#define HEADRACE_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"
#include "model/heads.h"
#include "model/model.h"

enum { CHUNK_TOKENS = 64 };

/* Tokens position .. position + count - 1 of a sequence. */
struct chunk {
    size_t position; /* a multiple of CHUNK_TOKENS */
    size_t count;    /* 1 .. CHUNK_TOKENS; only a prefix's last chunk has fewer than CHUNK_TOKENS */
    size_t entered;  /* layers whose keys and values are here, 0 .. N; N + 1: and the residual stream has N behind it */
    float *residual; /* (count, width): after entered - 1 layers, before any at 0. The device's own memory or ours */
    void **layers;   /* (N): keys and values of each layer as the backend lays them out, NULL from `entered` on */
};

/* A last token's logit by one exit head on the hidden state after `layer` layers, head->first .. head->layer. */
struct reading {
    size_t layer;
    const struct head *head;
};

struct candidate {
    const int32_t *tokens;
    size_t length;               /* at least 1 */
    struct chunk *const *prefix; /* what it goes on from, first to last; the chunks outlive the batch */
    size_t chunk_count;          /* at least 1 */
};

/* The part of a device that all backends have; a backend's own struct begins with it. */
struct device {
    const struct backend *backend;
    char arithmetic[48];   /* "bf16 on avx512" */
    size_t chunk_bytes;    /* of a chunk before any layer: residual stream and book-keeping */
    size_t layer_bytes;    /* of its keys and values, each layer; a chunk of any count */
    uint64_t token_layers; /* see engine_token_layers() */
};

struct backend {
    const char *name;

    /* Takes the model's weights over; `model` and `heads` outlive the device. */
    int (*open)(struct device **device, const struct model *model, const struct heads *heads,
                const struct engine_settings *settings, struct error *err);
    void (*close)(struct device *device); /* NULL is fine */

    /* A chunk of these tokens before any layer. */
    int (*chunk_create)(struct device *device, const int32_t *tokens, size_t count, size_t position,
                        struct chunk **chunk, struct error *err);
    void (*chunk_destroy)(struct device *device, struct chunk *chunk); /* NULL is fine */

    /*
     * Brings chunks[0..count), a prefix from its first token on, to at least `entered` layers each. No chunk may have
     * entered more layers than the one before it. On failure chunks are as deep as they got, and whole.
     */
    int (*chunks_run)(struct device *device, struct chunk *const *chunks, size_t count, size_t entered,
                      struct error *err);

    /* Takes `count` candidates and their embeddings; forgets the batch before. The array may go after the call. */
    int (*batch_start)(struct device *device, const struct candidate *candidates, size_t count, struct error *err);

    /*
     * Runs the batch to `layers` layers, more than before; the candidates' chunks must have entered as many.
     *
     * readings[0..count)  by layer, ascending; above the batch's depth before, at most `layers`
     * logits              (candidates still here, count), the evidence's part not in; not finite where the hidden state
     *                     is not
     * states              NULL, or (candidates still here, layers run, width): last tokens' hidden states after each
     */
    int (*batch_run)(struct device *device, size_t layers, const struct reading *readings, size_t count, float *logits,
                     float *states, struct error *err);

    /* Takes out the candidates with stays[i] false; the order of the others stays. */
    void (*batch_keep)(struct device *device, const bool *stays);
};

extern const struct backend backend_cpu;

#endif
