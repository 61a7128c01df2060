/*
 * kernels.h - the arithmetic of a forward pass on a processor, one table of functions for each instruction set
 *
 * The text of lanes.h is compiled for plain C, for AVX2 with FMA and for AVX-512; what an instruction set can do better
 * stands in its x86_*.c. Within one table a row's result depends on that row alone: every sum runs in the same order
 * whatever tile a row falls in. Between tables results agree within rounding.
 *
 * Matrices lie in panels of `panel` columns (outputs) side by side; how the numbers within a panel lie, and what rows
 * (operands) are multiplied with them, is a format's business.
 *
 * Threads: all functions are reentrant; outputs must not overlap.
 */
#ifndef HEADRACE_ENGINE_CPU_KERNELS_H
#define HEADRACE_ENGINE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"

enum { KERNELS_TILE = 6 }; /* rows that are computed together */

/* Where the softmax of one row of scores stands; starts with -INFINITY and zeros. */
struct softmax {
    float greatest; /* score so far */
    float sums[16]; /* of exp(score - greatest), in so many parts */
};

/*
 * A piece of keys that the rows of a tile come to: of row r, scores[r][0 .. counts[r]) count, none or more, but at
 * least one in the first piece. They become exp(score - greatest), the others up to `limit` 0; what the row has summed
 * up so far, here and in `out`, is scaled down when the greatest score grows.
 */
struct piece {
    size_t rows;
    size_t counts[KERNELS_TILE];
    size_t limit;  /* a multiple of 16 and of the panel, at most 64 */
    float *scores; /* (rows, 64) */
    struct softmax *rows_so_far;
    float *out;
    size_t out_stride, width; /* `width` of each row of `out` are in use, a multiple of 16 and of the panel */
};

/*
 * Memory that will be needed next: `count` bytes of it are fetched into the second-level cache while a product is
 * computed, a few lines with each tile. All at once would fill the queue of outstanding lines, and the product wait.
 */
struct ahead {
    const uint8_t *bytes;
    size_t count;
};

/* A way to multiply: how operands and panels are laid out, and the product. Depths are the inner dimension. */
struct format {
    const char *name;
    bool floats;    /* an operand is `depth` plain floats */
    size_t section; /* where it is not: values that it may be made of at a time, a multiple of 64 */

    size_t (*operand_bytes)(size_t depth); /* a multiple of 64 */
    size_t (*panel_bytes)(size_t depth);   /* a multiple of 64; a panel of zeroed bytes is one of zeros */

    /* Sets one column, `depth` values; the panel was zeroed before the first. */
    void (*put_column)(void *panel, size_t depth, size_t column, const float *values);

    /*
     * Sets the first `count` values of row k, which may go on in further panels behind the first. NULL where only
     * columns can be set.
     */
    void (*put_row)(void *panels, size_t depth, size_t k, const float *values, size_t count);

    /* Makes values first .. first + count - 1 of an operand of `depth`; whole sections, but for the last one. */
    void (*take)(const float *values, size_t depth, size_t first, size_t count, void *operand);

    /*
     * Makes a second operand of what the first one lost: the sum of both products is nearly that of the floats. NULL
     * where an operand loses too little to matter.
     */
    void (*take_rest)(const float *values, size_t depth, size_t first, size_t count, const void *operand, void *rest);

    /* A panel as one of plain floats, for float_format's product, which is faster. NULL: it is not. */
    void (*widen)(const void *panel, size_t depth, float *out);

    /*
     * out[r][c] = sum over k of in[r][k] * panel[k][c], k ascending, c over the whole panel; with `add` the sum goes on
     * from what is in out. in_stride in bytes, out_stride in floats. `ahead` may be NULL.
     */
    void (*multiply)(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows, float *out,
                     size_t out_stride, bool add, const struct ahead *ahead);

    /* Goes on with a softmax over the next piece of keys. NULL where operands are not floats. */
    void (*share)(const struct piece *piece);

    /*
     * Attention in one: operands `queries` meet a panel of keys, set by columns, and the shares weigh panels of values,
     * 64 deep and set by rows; `size` is that of a head. Of the piece, `limit` and `scores` are not used. What is
     * summed up in `out` and in the softmax has a factor in common. NULL: by multiply, share and multiply.
     */
    void (*attend)(const void *keys, const void *values, size_t size, const void *queries, const struct piece *piece);
};

struct kernels {
    const char *name;
    size_t panel;                   /* columns */
    enum engine_mode fastest;       /* of the modes */
    const struct format *floats;    /* F32 */
    const struct format *bfloats;   /* BF16: bfloat16, or 16-bit integers where those are multiplied faster */
    const struct format *integers;  /* INT8: products with weights */
    const struct format *attention; /* of BF16 and INT8; of F32 it is `floats` */

    /* out = in / rms(in); returns the mean of the squares, not finite when something in the row is not. */
    float (*norm)(const float *in, size_t count, float epsilon, float *out);

    /* out[c] = SiLU(gate[c]) * up[c] over a panel. */
    void (*gate)(const float *gate, const float *up, float *out);

    /* Rotary position on the pairs (i, i + pairs), the outcome times `scale`; in place is fine. */
    void (*rotate)(const float *in, const float *cosines, const float *sines, size_t pairs, float scale, float *out);
};

extern const struct kernels kernels_scalar;
extern const struct kernels kernels_avx2, kernels_avx512; /* exist on x86-64 alone */

/*
 * AVX-512 with products of bfloat16 by the instruction made for them. AMD's processors do one a cycle, as many as of
 * 16-bit integers; Intel's (Sapphire and Emerald Rapids) half of one, where they do two of floats and two of 16-bit
 * integers, of twice the operations: for those, kernels_avx512 does BF16 in integers.
 */
extern const struct kernels kernels_avx512_narrow;

/* The table for `cpu`; an error when this processor lacks the instructions. */
int kernels_pick(const struct kernels **kernels, enum engine_cpu cpu, struct error *err);

#endif
