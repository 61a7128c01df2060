/*
 * batch.h - candidates that run through the layers together
 *
 * Rows: first the last token of every candidate, then the other tokens, candidate by candidate. So at an exit the last
 * tokens can go ahead alone, and those that leave take their other tokens with them before these are computed.
 */
#ifndef HEADRACE_ENGINE_BATCH_H
#define HEADRACE_ENGINE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/forward.h"

struct candidate {
    size_t index; /* its place in the prompt */
    size_t length;
    struct stretch *own;
    bool leaves; /* set by the caller before batch_compact() */
};

struct batch {
    struct candidate *candidates; /* those still here, in the prompt's order */
    size_t count;
    size_t rows;
    float *hidden;      /* (rows, width) */
    struct span *spans; /* one for each last token, then those of the other rows */
    size_t span_count;
    struct stretch *stretches; /* keys and values of the layer at hand */
    float *key_values;
    size_t candidate_capacity, hidden_capacity, span_capacity, stretch_capacity, key_value_capacity;
};

/* A zeroed one is fine, for both. */
void batch_free(struct batch *batch);

/* Takes candidates first .. first + count - 1 and their embeddings. `offsets` as in struct engine_prompt. */
int batch_start(struct batch *batch, const struct forward *forward, const int32_t *tokens, const size_t *offsets,
                size_t first, size_t count, struct error *err);

/* Takes out the candidates that leave; the order of the others stays. */
void batch_compact(struct batch *batch, const struct model *model);

/* All rows, the last tokens', or the others'. `before` is the prefix in the layer at hand. */
struct passage batch_all(const struct batch *batch, const struct stretch *before);
struct passage batch_last_tokens(const struct batch *batch, const struct stretch *before);
struct passage batch_other_tokens(const struct batch *batch, const struct stretch *before);

#endif
