/*
 * lanes.h - kernels on vectors of floats, compiled once for each instruction set
 *
 * No include guard: an including file first defines
 *   TARGET                   attribute that switches the instruction set on
 *   LANES                    floats in a vector, at most 16
 *   VECTORS                  of a panel; KERNELS_TILE rows of so many are a tile of sums, which must fit the registers
 *   MULTIPLY_ADD(a, b, c)    a * b + c on vectors, fused or not, but always the same
 * and gets the static functions of two formats, `floats` and `bfloats` (bfloat16 panels widened as they are read), and
 * norm(), gate() and rotate().
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/cpu/kernels.h"

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

enum { PANEL = LANES * VECTORS, ROWS = KERNELS_TILE };

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

/* Rounds up to a multiple of 64. */
static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t float_operand_bytes(size_t depth)
{
    return whole_lines((depth + depth % 2) * sizeof(float));
}

/* A last operand value of an odd depth has a zero behind it: bfloat16 panels are read in pairs. */
static void float_take(const float *values, size_t depth, size_t first, size_t count, void *operand)
{
    memcpy((float *)operand + first, values, count * sizeof *values);
    if (depth % 2 != 0)
        ((float *)operand)[depth] = 0.0f;
}

/* Panels of floats: (depth, PANEL). */
static size_t float_panel_bytes(size_t depth)
{
    return whole_lines(depth * PANEL * sizeof(float));
}

static void float_put_column(void *panel, size_t depth, size_t column, const float *values)
{
    float *to = (float *)panel + column;
    for (size_t k = 0; k < depth; k++)
        to[k * PANEL] = values[k];
}

static void float_put_row(void *panels, size_t depth, size_t k, const float *values, size_t count)
{
    float *to = (float *)panels + k * PANEL;
    for (size_t c = 0; c < count; c += PANEL, to += float_panel_bytes(depth) / sizeof *to)
        memcpy(to, values + c, (count - c < PANEL ? count - c : PANEL) * sizeof *values);
}

/* Panels of bfloat16: (depth / 2, PANEL, 2), depth rounded up to even. */
static size_t bfloat_panel_bytes(size_t depth)
{
    return whole_lines((depth + depth % 2) * PANEL * sizeof(uint16_t));
}

/* To the nearest, ties to even; what is not finite stays so. */
static uint16_t to_bfloat(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7f800000) == 0x7f800000)
        return (uint16_t)(bits >> 16 | ((bits & 0xffff) != 0));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void bfloat_put_column(void *panel, size_t depth, size_t column, const float *values)
{
    uint16_t *to = (uint16_t *)panel + 2 * column;
    for (size_t k = 0; k < depth; k++)
        to[k / 2 * 2 * PANEL + k % 2] = to_bfloat(values[k]);
}

static void bfloat_put_row(void *panels, size_t depth, size_t k, const float *values, size_t count)
{
    uint16_t *to = (uint16_t *)panels + k / 2 * 2 * PANEL + k % 2;
    size_t panel_numbers = bfloat_panel_bytes(depth) / sizeof *to;
    for (size_t c = 0; c < count; c++)
        to[c / PANEL * panel_numbers + c % PANEL * 2] = to_bfloat(values[c]);
}

/*
 * The tile of `rows` rows, a constant where it is called: out[r][c] = sum of in[r][k] * panel[k][c] for k = 0 .. depth
 * - 1 in this order. All loops over the tile must unroll, or the compiler puts it in memory.
 */
TARGET INLINE void float_tile(const float *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                              float *out, size_t out_stride, bool add)
{
    lanes sum[ROWS][VECTORS];

    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] =
            add ? load(out + r * out_stride + v * LANES) : (lanes){0};
    }
    for (size_t k = 0; k < depth; k++) {
        lanes column[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++) column[v] = load(panel + v * LANES);
        panel += PANEL;
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            lanes value = spread(((const float *)(const void *)(in + r * in_stride))[k]);
            UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] = MULTIPLY_ADD(value, column[v], sum[r][v]);
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) store(out + r * out_stride + v * LANES, sum[r][v]);
    }
}

/* The same on a panel of bfloat16: the first of a pair lies in the low half of 32 bits, the second in the high one. */
TARGET INLINE void bfloat_tile(const int32_t *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                               float *out, size_t out_stride, bool add)
{
    lanes sum[ROWS][VECTORS];

    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] =
            add ? load(out + r * out_stride + v * LANES) : (lanes){0};
    }
    for (size_t k = 0; k < depth; k += 2) {
        integers pair[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++) pair[v] = (integers)load((const float *)panel + v * LANES);
        panel += PANEL;
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            const float *row = (const float *)(const void *)(in + r * in_stride);
            lanes first = spread(row[k]), second = spread(row[k + 1]);
            UNROLL for (size_t v = 0; v < VECTORS; v++)
            {
                sum[r][v] = MULTIPLY_ADD(first, (lanes)(pair[v] << 16), sum[r][v]);
                sum[r][v] = MULTIPLY_ADD(second, (lanes)(pair[v] & (int32_t)0xffff0000), sum[r][v]);
            }
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) store(out + r * out_stride + v * LANES, sum[r][v]);
    }
}

TARGET static void bfloat_widen(const void *panel, size_t depth, float *out)
{
    const float *pairs = panel;
    for (size_t k = 0; k < depth; k += 2, pairs += PANEL, out += 2 * PANEL)
        for (size_t v = 0; v < VECTORS; v++) {
            integers pair = (integers)load(pairs + v * LANES);
            store(out + v * LANES, (lanes)(pair << 16));
            store(out + PANEL + v * LANES, (lanes)(pair & (int32_t)0xffff0000));
        }
}

/* What is left to fetch ahead, and how much of it with each tile. */
struct fetch {
    const uint8_t *next, *end;
    size_t step; /* bytes */
};

enum { CACHE_LINE = 64 };

/* To go along with `tiles` tiles. */
static struct fetch start_fetch(const struct ahead *ahead, size_t tiles)
{
    if (ahead == NULL || ahead->count == 0)
        return (struct fetch){0};
    return (struct fetch){ahead->bytes, ahead->bytes + ahead->count, whole_lines((ahead->count + tiles - 1) / tiles)};
}

INLINE void fetch_some(struct fetch *fetch)
{
    size_t left = (size_t)(fetch->end - fetch->next), count = left < fetch->step ? left : fetch->step;
    const uint8_t *end = fetch->next + count;
    for (; fetch->next < end; fetch->next += CACHE_LINE)
        __builtin_prefetch(fetch->next, 0, 2);
    fetch->next = end;
}

static size_t tiles_of(size_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

/* Calls a tile function with its rows as a constant. */
#define TILES(tile)                                                                                                    \
    for (; rows >= ROWS; rows -= ROWS, row += ROWS * in_stride, out += ROWS * out_stride) {                            \
        fetch_some(fetch);                                                                                             \
        tile(panel, depth, row, in_stride, ROWS, out, out_stride, add);                                                \
    }                                                                                                                  \
    if (rows > 0)                                                                                                      \
        fetch_some(fetch);                                                                                             \
    switch (rows) {                                                                                                    \
    case 5:                                                                                                            \
        tile(panel, depth, row, in_stride, 5, out, out_stride, add);                                                   \
        break;                                                                                                         \
    case 4:                                                                                                            \
        tile(panel, depth, row, in_stride, 4, out, out_stride, add);                                                   \
        break;                                                                                                         \
    case 3:                                                                                                            \
        tile(panel, depth, row, in_stride, 3, out, out_stride, add);                                                   \
        break;                                                                                                         \
    case 2:                                                                                                            \
        tile(panel, depth, row, in_stride, 2, out, out_stride, add);                                                   \
        break;                                                                                                         \
    case 1:                                                                                                            \
        tile(panel, depth, row, in_stride, 1, out, out_stride, add);                                                   \
        break;                                                                                                         \
    }
_Static_assert(KERNELS_TILE == 6, "TILES() knows this many rows");

/* Slices of a panel stay in the first-level cache while all rows go past them; sums go on from slice to slice. */
enum { SLICE = 24576 / (PANEL * 4) };

TARGET static void float_slice(const float *panel, size_t depth, const char *row, size_t in_stride, size_t rows,
                               float *out, size_t out_stride, bool add, struct fetch *fetch){TILES(float_tile)}

TARGET static void float_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                  float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    struct fetch fetch = start_fetch(ahead, tiles_of(rows) * ((depth + SLICE - 1) / SLICE));
    for (size_t k = 0; k < depth; k += SLICE)
        float_slice((const float *)panel + k * PANEL, depth - k < SLICE ? depth - k : SLICE,
                    (const char *)in + k * sizeof(float), in_stride, rows, out, out_stride, add || k > 0, &fetch);
}

TARGET static void bfloat_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                   float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    const char *row = in;
    struct fetch all = start_fetch(ahead, tiles_of(rows)), *fetch = &all;
    TILES(bfloat_tile)
}

TARGET static float norm(const float *in, size_t count, float epsilon, float *out)
{
    lanes squares[4] = {0}; /* sums apart do not wait for each other */
    size_t whole = count - count % (4 * LANES);
    for (size_t i = 0; i < whole; i += 4 * LANES)
        UNROLL for (size_t j = 0; j < 4; j++)
        {
            lanes value = load(in + i + j * LANES);
            squares[j] = MULTIPLY_ADD(value, value, squares[j]);
        }
    float sum = sum_of((squares[0] + squares[1]) + (squares[2] + squares[3]));
    for (size_t i = whole; i < count; i++)
        sum += in[i] * in[i];

    float mean = sum / (float)count;
    float scale = 1.0f / sqrtf(mean + epsilon);
    for (size_t i = 0; i < count; i++)
        out[i] = in[i] * scale;
    return mean;
}

/* One row of a piece; returns by how much what came before is scaled. */
TARGET INLINE float share_row(float *scores, size_t count, size_t limit, struct softmax *row)
{
    for (size_t i = count; i < limit; i++)
        scores[i] = -INFINITY;
    lanes best = load(scores);
    for (size_t i = LANES; i < limit; i += LANES) {
        lanes next = load(scores + i);
        best = choose(next > best, next, best);
    }
    float greatest = row->greatest;
    for (size_t i = 0; i < LANES; i++)
        greatest = best[i] > greatest ? best[i] : greatest;

    float scale = greatest == row->greatest ? 1.0f : exponential(spread(row->greatest) - greatest)[0];
    lanes sum = load(row->sums) * scale;
    for (size_t i = 0; i < limit; i += LANES) {
        lanes score = load(scores + i);
        lanes share = choose(score == spread(-INFINITY), spread(0.0f), exponential(score - greatest));
        store(scores + i, share);
        sum += share;
    }
    store(row->sums, sum);
    row->greatest = greatest;
    return scale;
}

TARGET static void float_share(const struct piece *piece)
{
    for (size_t r = 0; r < piece->rows; r++) {
        float scale = share_row(piece->scores + r * 64, piece->counts[r], piece->limit, &piece->rows_so_far[r]);
        float *out = piece->out + r * piece->out_stride;
        for (size_t i = 0; scale != 1.0f && i < piece->width; i += LANES)
            store(out + i, load(out + i) * scale);
    }
}

TARGET static void gate(const float *gates, const float *up, float *out)
{
    for (size_t i = 0; i < PANEL; i += LANES) {
        lanes g = load(gates + i);
        store(out + i, g / (exponential(-g) + 1.0f) * load(up + i));
    }
}

TARGET static void rotate(const float *in, const float *cosines, const float *sines, size_t pairs, float scale,
                          float *out)
{
    for (size_t i = 0; i < pairs; i++) {
        float x = in[i], y = in[i + pairs];
        out[i] = (x * cosines[i] - y * sines[i]) * scale;
        out[i + pairs] = (x * sines[i] + y * cosines[i]) * scale;
    }
}

static const struct format floats = {
    .name = "f32",
    .floats = true,
    .operand_bytes = float_operand_bytes,
    .panel_bytes = float_panel_bytes,
    .put_column = float_put_column,
    .put_row = float_put_row,
    .take = float_take,
    .multiply = float_multiply,
    .share = float_share,
};

static const struct format bfloats = {
    .name = "bf16",
    .floats = true,
    .operand_bytes = float_operand_bytes,
    .panel_bytes = bfloat_panel_bytes,
    .put_column = bfloat_put_column,
    .put_row = bfloat_put_row,
    .take = float_take,
    .widen = bfloat_widen,
    .multiply = bfloat_multiply,
    .share = float_share,
};
