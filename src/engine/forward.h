/*
 * forward.h - one layer over many rows
 *
 * A row is one token's residual stream. A layer comes in two halves, since keys and values are needed of every token,
 * the rest only of those that go on: forward_enter() computes and keeps keys and values, forward_finish() does
 * attention and MLP and adds them to the rows.
 *
 * A row's result depends on its own sequence alone, not on what else is in the passage, nor on the number of threads:
 * every output is computed by one task, and attention takes its tiles of queries from the sequence's first token on.
 *
 * Threads: one call at a time; the work is shared out over the pool.
 */
#ifndef HEADRACE_ENGINE_FORWARD_H
#define HEADRACE_ENGINE_FORWARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "engine/weights.h"

/* Keys and values of one sequence in one layer. */
struct stretch {
    float *keys;     /* (key_heads, capacity / panel, head_size, panel): a panel's tokens side by side */
    float *values;   /* (key_heads, capacity, head_size), and a panel of floats behind that are read and not used */
    size_t capacity; /* tokens, a multiple of the kernels' panel */
    size_t length;   /* tokens of the sequence */
};

/* Floats behind a stretch's keys for `length` tokens. */
size_t stretch_floats(const struct weights *weights, size_t length);

/* Lays a stretch out over stretch_floats() floats, which stay the caller's. */
void stretch_place(struct stretch *stretch, const struct weights *weights, size_t length, float *floats);

/* Consecutive tokens of one sequence that lie in consecutive rows. */
struct span {
    size_t row;
    size_t count;
    size_t token; /* the first one's place in its sequence */
    struct stretch *own;
};

struct passage {
    float *hidden;            /* rows of `width` floats */
    size_t first, rows;       /* the range of rows that the spans make up */
    const struct span *spans; /* every row in exactly one */
    size_t span_count;
    const struct stretch *before; /* what all sequences go on from, NULL: nothing */
};

enum { SPAN_TOKENS = 64 }; /* longer spans are better cut here: the piece of work of a thread; a multiple of any tile */

struct forward {
    const struct weights *weights;
    struct pool *pool;
    float *cosines, *sines; /* (context, head_size / 2) */
    size_t row_capacity;
    float *normed;    /* (rows, width) */
    float *key_value; /* (rows, 2 * key_heads * head_size) */
    float *query;     /* (rows, heads * head_size) */
    float *attended;  /* (rows, heads * head_size) */
    float *gated;     /* (rows, hidden) */
    size_t scratch_size;
    float *scratch;     /* (threads, scratch_size) */
    atomic_bool broken; /* a row that is not finite went by */
    uint64_t token_layers;
};

int forward_create(struct forward *forward, const struct weights *weights, struct pool *pool, struct error *err);

/* A zeroed one is fine. */
void forward_free(struct forward *forward);

/* Makes room for passages that end at row `rows` and sequences of `keys` tokens together with what is before them. */
int forward_reserve(struct forward *forward, size_t rows, size_t keys, struct error *err);

/* ERROR_FATAL: a row is not finite; the message names the layer after which. */
int forward_enter(struct forward *forward, size_t layer, const struct passage *passage, struct error *err);

/* The spans' sequences must have entered this layer up to each span's end, and so must what is before them. */
int forward_finish(struct forward *forward, size_t layer, const struct passage *passage, struct error *err);

#endif
