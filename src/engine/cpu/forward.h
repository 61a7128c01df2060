/*
 * forward.h - one layer over a block of rows, by one thread
 *
 * A row is one token's residual stream. A layer comes in two halves, since keys and values are needed of every token,
 * the rest only of those that go on: forward_enter() computes and keeps keys and values, forward_finish() does
 * attention and MLP and adds them to the rows.
 *
 * A block is one thread's own: what it works on stays in that core's cache from layer to layer. A row's result depends
 * on its own sequence alone: every output is one sum in one order, and keys lie in tiles at absolute places.
 *
 * Threads: a block belongs to one; the rest is read-only, but for `broken`.
 */
#ifndef HEADRACE_ENGINE_CPU_FORWARD_H
#define HEADRACE_ENGINE_CPU_FORWARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/backend.h"
#include "engine/cpu/weights.h"

/*
 * Consecutive tokens of one sequence. Keys and values lie in tiles of CHUNK_TOKENS tokens: those of the past in its
 * chunks, those of the sequence's own tokens from `own` on.
 */
struct span {
    size_t row;      /* of the first token; those between first and last lie behind it */
    size_t last_row; /* of the last token: row when there is only one */
    size_t count;
    size_t token;    /* the first one's place among the own tokens */
    size_t position; /* of own token 0 in the sequence */
    struct chunk *const *past;
    size_t past_count;
    uint8_t *own; /* in the layer at hand */
};

/* Rows that run together on one thread, at most about: what they need stays in the second-level cache. */
enum { BLOCK_LEAST_ROWS = 96, BLOCK_MOST_ROWS = 288 };

struct forward {
    const struct weights *weights;
    float *cosines, *sines;   /* (context, head_size / 2) */
    size_t hidden_stride;     /* floats between rows of the residual stream in a block: whole panels */
    size_t key_panel_bytes;   /* of panels in a tile: keys of a head come as (CHUNK_TOKENS / panel) panels, */
    size_t value_panel_bytes; /* values as whole panels over the head */
    size_t value_panels;
    size_t values_offset; /* bytes from a tile's start to its values */
    size_t tile_bytes;
    size_t block_rows;    /* that run together: BLOCK_LEAST_ROWS .. BLOCK_MOST_ROWS */
    atomic_size_t broken; /* least number of layers after which a row was found not finite; SIZE_MAX: none */
};

/* A thread's rows and what is computed from them; row r of each buffer belongs to row r of `hidden`. */
struct block {
    size_t rows;       /* capacity */
    float *hidden;     /* (rows, hidden_stride) */
    uint8_t *normed;   /* operands of the width */
    float *projected;  /* queries, or keys and values, before the rotation */
    uint8_t *queries;  /* (key_heads, rows, heads / key_heads) operands of a head; by place in the spans, not by row */
    float *attended;   /* (rows, heads * head_size) */
    float *gated;      /* where floats are operands: (rows, whole panels over hidden); else a section of each row */
    uint8_t *operands; /* where they are not: of attended, then of gated */
    uint8_t *rests;    /* second operands of the precise rows, the first of them first: of the width or attended */
    uint8_t *gated_rests;      /* of gated */
    float *gate, *up;          /* a panel each, of a few rows */
    float *widened[2];         /* panels that are multiplied in floats */
    float *row;                /* one row of floats of any kind */
    float *keys, *values;      /* of a key head in one tile, widened */
    float *scores;             /* (KERNELS_TILE, CHUNK_TOKENS) */
    struct softmax *softmaxes; /* of the rows in one key head, in the order of `queries` */
    float *out;                /* (of the same, whole panels over a head) */
};

int forward_create(struct forward *forward, const struct weights *weights, struct error *err);

/* A zeroed one is fine, for both. */
void forward_free(struct forward *forward);
void block_free(struct block *block);

/* Makes room for so many rows. */
int block_reserve(struct block *block, const struct forward *forward, size_t rows, struct error *err);

/*
 * Rows first .. first + rows - 1 of a block, each in exactly one of the spans. The last `precise` of them are those
 * that heads will see: where a format's operands lose much (INT8), theirs come in two terms.
 */
struct passage {
    const struct span *spans;
    size_t span_count;
    size_t first, rows, precise;
};

void forward_enter(struct forward *forward, struct block *block, size_t layer, const struct passage *passage);

/*
 * The second half; the sequences must have entered this layer up to each span's end. `normed`: these rows have just
 * been through forward_enter().
 */
void forward_finish(struct forward *forward, struct block *block, size_t layer, const struct passage *passage,
                    bool normed);

/* ERROR_FATAL when a row was not finite; names the layer. */
int forward_check(struct forward *forward, struct error *err);

/* Attention of the spans' rows: queries are in block->queries, results go to block->attended. */
void attention_run(const struct forward *forward, struct block *block, size_t layer, const struct passage *passage);

#endif
