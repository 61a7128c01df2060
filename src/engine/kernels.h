/*
 * kernels.h - the arithmetic of a forward pass, one table of functions for each instruction set
 *
 * The same text (kernels_body.h) is compiled for the baseline, for AVX2 with FMA and for AVX-512. Within one table a
 * row's result depends on that row alone: tiles that stick out over the last row compute it again and throw it away, so
 * that every row takes the same operations in the same order. Between tables results agree within rounding.
 *
 * Threads: all functions are reentrant; outputs must not overlap.
 */
#ifndef HEADRACE_ENGINE_KERNELS_H
#define HEADRACE_ENGINE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

enum { KERNELS_MAX_TILE = 8 };

struct kernels {
    const char *name;
    size_t panel; /* columns that a panel holds side by side; at least two vectors */
    size_t tile;  /* rows that are computed together, at most KERNELS_MAX_TILE */

    /*
     * out[r][c] = sum over k of in[r][k] * panel[k][c], k ascending; with `add` the sum is added to out.
     * panel: (depth, panel); `columns` of it are written.
     */
    void (*multiply)(const float *panel, size_t depth, const float *in, size_t in_stride, size_t rows, float *out,
                     size_t out_stride, size_t columns, bool add);

    /*
     * out[r][c] += sum over k of weights[r][k] * values[k][c], k ascending, going on from what is in out, so that a sum
     * may be done in stretches. values: (count, columns); up to `panel` floats behind it are read and not used.
     */
    void (*weigh)(const float *weights, size_t weight_stride, size_t rows, const float *values, size_t count,
                  float *out, size_t out_stride, size_t columns);

    /* out = gain * in / rms(in); returns the mean of the squares, not finite when something in the row is not. */
    float (*norm)(const float *in, const float *gain, size_t count, float epsilon, float *out);

    /*
     * scores[0..count) become exp(score - greatest), scores[count..limit) become 0; returns their sum. `limit` is at
     * least 1; as many floats as fill its last panel are written.
     */
    float (*soften)(float *scores, size_t count, size_t limit);

    /* gate = SiLU(gate) * up; `count` is a multiple of `panel`. */
    void (*gate)(float *gate, const float *up, size_t count);
};

extern const struct kernels kernels_baseline;
extern const struct kernels kernels_avx2, kernels_avx512; /* exist on x86-64 alone */

/* The tables that this processor can run, best first; NULL past the last one. */
const struct kernels *kernels_supported(size_t index);

#endif
