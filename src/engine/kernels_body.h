/*
 * kernels_body.h - the kernels' text, compiled once for each instruction set
 *
 * No include guard: an including file first defines
 *   TARGET                   attribute that switches the instruction set on
 *   LANES                    floats in a vector
 *   VECTORS, ROWS            the tile of sums that stays in registers: ROWS rows of VECTORS vectors
 *   MULTIPLY_ADD(a, b, c)    a * b + c on vectors, fused or not, but always the same
 *   KERNELS, KERNELS_NAME    the table and its name
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/kernels.h"

/* Without optimisation a tile lives in memory and a forward pass takes minutes: debug builds optimise this text alone.
 */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__OPTIMIZE__)
#pragma GCC optimize("O2", "fp-contract=off")
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef float lanes_anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(4 * LANES)));

enum { PANEL = LANES * VECTORS };
_Static_assert(VECTORS >= 2, "weigh() takes two vectors at a time");
_Static_assert(ROWS <= KERNELS_MAX_TILE, "callers hold a tile's rows in arrays");

TARGET INLINE lanes load(const float *from)
{
    return *(const lanes_anywhere *)from;
}

TARGET INLINE void store(float *to, lanes values)
{
    *(lanes_anywhere *)to = values;
}

TARGET INLINE lanes spread(float value)
{
    return value - (lanes){0};
}

/* `mask` is all ones or all zeros a lane. */
TARGET INLINE lanes choose(integers mask, lanes yes, lanes no)
{
    return (lanes)((mask & (integers)yes) | (~mask & (integers)no));
}

/*
 * e^x, relative error below 3e-7 from -87 to 88, held at those ends outside: x = n ln 2 + r, a polynomial in r, n into
 * the exponent. NaN stays NaN.
 */
TARGET INLINE lanes exponential(lanes x)
{
    const lanes round = spread(0x1.8p23f); /* adding it leaves the nearest integer in the low bits */

    x = choose(x < spread(-87.0f), spread(-87.0f), x);
    x = choose(x > spread(88.0f), spread(88.0f), x);
    lanes shifted = MULTIPLY_ADD(x, spread(0x1.715476p+0f), round);
    lanes n = shifted - round;
    lanes r = MULTIPLY_ADD(n, spread(-0x1.62ep-1f), x); /* ln 2 in two parts, n times the first is exact */
    r = MULTIPLY_ADD(n, spread(-0x1.0bfbe8p-15f), r);

    lanes p = spread(1.0f / 5040.0f);
    p = MULTIPLY_ADD(p, r, spread(1.0f / 720.0f));
    p = MULTIPLY_ADD(p, r, spread(1.0f / 120.0f));
    p = MULTIPLY_ADD(p, r, spread(1.0f / 24.0f));
    p = MULTIPLY_ADD(p, r, spread(1.0f / 6.0f));
    p = MULTIPLY_ADD(p, r, spread(0.5f));
    p = MULTIPLY_ADD(p, r, spread(1.0f));
    p = MULTIPLY_ADD(p, r, spread(1.0f));

    integers exponent = (integers)shifted - (integers)round + 127;
    return p * (lanes)(exponent << 23);
}

TARGET INLINE float sum_of(lanes values)
{
    float sum = values[0];
    for (size_t i = 1; i < LANES; i++)
        sum += values[i];
    return sum;
}

/*
 * sums[r][v] += in[r][k] * columns[k][v] for k = 0 .. depth - 1 in this order. All loops over the tile must unroll, or
 * the compiler puts it in memory.
 */
TARGET INLINE void add_products(size_t vectors, const float *in, size_t in_stride, size_t rows, size_t depth,
                                const float *columns, size_t column_stride, lanes sums[ROWS][VECTORS])
{
    const float *row[ROWS];
    lanes sum[ROWS][VECTORS];

    UNROLL for (size_t r = 0; r < ROWS; r++)
    {
        row[r] = in + (r < rows ? r : rows - 1) * in_stride;
        UNROLL for (size_t v = 0; v < vectors; v++) sum[r][v] = sums[r][v];
    }
    for (size_t k = 0; k < depth; k++) {
        lanes column[VECTORS];
        UNROLL for (size_t v = 0; v < vectors; v++) column[v] = load(columns + v * LANES);
        columns += column_stride;
        UNROLL for (size_t r = 0; r < ROWS; r++)
        {
            lanes value = spread(row[r][k]);
            UNROLL for (size_t v = 0; v < vectors; v++) sum[r][v] = MULTIPLY_ADD(value, column[v], sum[r][v]);
        }
    }
    UNROLL for (size_t r = 0; r < ROWS; r++)
    {
        UNROLL for (size_t v = 0; v < vectors; v++) sums[r][v] = sum[r][v];
    }
}

TARGET static void multiply(const float *panel, size_t depth, const float *in, size_t in_stride, size_t rows,
                            float *out, size_t out_stride, size_t columns, bool add)
{
    for (size_t first = 0; first < rows; first += ROWS) {
        size_t count = rows - first < ROWS ? rows - first : ROWS;
        lanes sums[ROWS][VECTORS] = {0};
        add_products(VECTORS, in + first * in_stride, in_stride, count, depth, panel, PANEL, sums);

        for (size_t r = 0; r < count; r++) {
            const float *from = (const float *)sums[r];
            float *to = out + (first + r) * out_stride;
            if (add)
                for (size_t c = 0; c < columns; c++)
                    to[c] += from[c];
            else
                memcpy(to, from, columns * sizeof *to);
        }
    }
}

TARGET static void weigh(const float *weights, size_t weight_stride, size_t rows, const float *values, size_t count,
                         float *out, size_t out_stride, size_t columns)
{
    for (size_t first = 0; first < rows; first += ROWS) {
        size_t tile = rows - first < ROWS ? rows - first : ROWS;
        for (size_t c = 0; c < columns; c += 2 * LANES) {
            size_t bytes = (columns - c < 2 * LANES ? columns - c : 2 * LANES) * sizeof(float);
            lanes sums[ROWS][VECTORS] = {0};
            for (size_t r = 0; r < tile; r++)
                memcpy(sums[r], out + (first + r) * out_stride + c, bytes);
            add_products(2, weights + first * weight_stride, weight_stride, tile, count, values + c, columns, sums);
            for (size_t r = 0; r < tile; r++)
                memcpy(out + (first + r) * out_stride + c, sums[r], bytes);
        }
    }
}

TARGET static float norm(const float *in, const float *gain, size_t count, float epsilon, float *out)
{
    lanes squares = {0};
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES)
        squares = MULTIPLY_ADD(load(in + i), load(in + i), squares);
    float sum = sum_of(squares);
    for (size_t i = whole; i < count; i++)
        sum += in[i] * in[i];

    float mean = sum / (float)count;
    float scale = 1.0f / sqrtf(mean + epsilon);
    for (size_t i = 0; i < count; i++)
        out[i] = in[i] * scale * gain[i];
    return mean;
}

TARGET static float soften(float *scores, size_t count, size_t limit)
{
    size_t whole = (limit + PANEL - 1) / PANEL * PANEL;
    for (size_t i = count; i < whole; i++)
        scores[i] = -INFINITY;

    lanes best = load(scores);
    for (size_t i = LANES; i < whole; i += LANES) {
        lanes next = load(scores + i);
        best = choose(next > best, next, best);
    }
    float greatest = best[0];
    for (size_t i = 1; i < LANES; i++)
        greatest = best[i] > greatest ? best[i] : greatest;

    for (size_t i = 0; i < whole; i += LANES)
        store(scores + i, exponential(load(scores + i) - greatest));
    for (size_t i = count; i < whole; i++)
        scores[i] = 0.0f;

    lanes sum = {0};
    for (size_t i = 0; i < whole; i += LANES)
        sum += load(scores + i);
    return sum_of(sum);
}

TARGET static void gate(float *gates, const float *up, size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        lanes g = load(gates + i);
        store(gates + i, g / (exponential(-g) + 1.0f) * load(up + i));
    }
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .panel = PANEL,
    .tile = ROWS,
    .multiply = multiply,
    .weigh = weigh,
    .norm = norm,
    .soften = soften,
    .gate = gate,
};
