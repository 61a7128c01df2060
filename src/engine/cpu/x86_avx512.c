/* The kernels in AVX-512: 32 registers of 16 floats. */
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define LANES 16
#define VECTORS 4
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "engine/cpu/lanes.h"

/*
 * e^x for x <= 0 to 2^-18, as 2^x with a polynomial: enough where shares become bfloat16. 0 where 2^x would be below
 * the normal numbers, at which the processor stumbles.
 */
TARGET INLINE __m512 quick_exponential(__m512 x)
{
    const __m512 least = _mm512_set1_ps(-126.0f);
    x = _mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f));
    __mmask16 normal = _mm512_mask_cmp_ps_mask((__mmask16)0xffff, x, least, _CMP_NLT_UQ); /* NaN stays */
    x = _mm512_max_ps(least, x);
    __m512 whole = _mm512_sub_ps(_mm512_add_ps(x, _mm512_set1_ps(0x1.8p23f)), _mm512_set1_ps(0x1.8p23f));
    __m512 part = _mm512_sub_ps(x, whole);
    __m512 sum = _mm512_set1_ps(0x1.3a02ccp-7f);
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0x1.c9fc46p-5f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0x1.ec0378p-3f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0x1.62e12cp-1f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(normal, sum, whole);
}

/* A row's scores, those past `count` -infinity. */
TARGET INLINE void load_scores(const float *scores, size_t count, __m512 out[VECTORS])
{
    UNROLL for (size_t v = 0; v < VECTORS; v++)
    {
        size_t left = count > v * LANES ? count - v * LANES : 0;
        __mmask16 mask = (__mmask16)(left < LANES ? (1u << left) - 1 : 0xffff);
        out[v] = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), mask, scores + v * LANES);
    }
}

/* What the rows' greatest scores grow to, and by how much what came before is scaled: 1 where they do not grow. */
TARGET INLINE void grow(const struct piece *piece, float greatest[ROWS], float scales[ROWS])
{
    float before[16], after[16];
    for (size_t r = 0; r < piece->rows; r++) {
        __m512 score[VECTORS];
        load_scores(piece->scores + r * PANEL, piece->counts[r], score);
        __m512 most = _mm512_max_ps(_mm512_max_ps(score[0], score[1]), _mm512_max_ps(score[2], score[3]));
        before[r] = piece->rows_so_far[r].greatest;
        after[r] = fmaxf(_mm512_reduce_max_ps(most), before[r]);
    }
    __mmask16 rows = (__mmask16)((1u << piece->rows) - 1);
    __m512 difference = _mm512_sub_ps(_mm512_maskz_loadu_ps(rows, before), _mm512_maskz_loadu_ps(rows, after));
    float scale[16];
    _mm512_storeu_ps(scale, quick_exponential(difference));
    memcpy(greatest, after, ROWS * sizeof *greatest);
    memcpy(scales, scale, ROWS * sizeof *scales);
}

/* One row's shares; without branches, which no processor could foretell. */
TARGET INLINE void share_scores(const struct piece *piece, size_t r, float greatest, float scale,
                                __m512 shares[VECTORS])
{
    struct softmax *row = &piece->rows_so_far[r];
    float *out = piece->out + r * piece->out_stride;
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(row->sums), _mm512_set1_ps(scale));

    load_scores(piece->scores + r * PANEL, piece->counts[r], shares);
    UNROLL for (size_t v = 0; v < VECTORS; v++) shares[v] =
        quick_exponential(_mm512_sub_ps(shares[v], _mm512_set1_ps(greatest)));
    sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_add_ps(shares[0], shares[1]), _mm512_add_ps(shares[2], shares[3])));
    _mm512_storeu_ps(row->sums, sum);
    row->greatest = greatest;
    for (size_t i = 0; i < piece->width; i += LANES)
        _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_loadu_ps(out + i), _mm512_set1_ps(scale)));
}

TARGET static void quick_share(const struct piece *piece)
{
    float greatest[ROWS], scales[ROWS];
    grow(piece, greatest, scales);
    for (size_t r = 0; r < piece->rows; r++) {
        __m512 shares[VECTORS];
        share_scores(piece, r, greatest[r], scales[r], shares);
        UNROLL for (size_t v = 0; v < VECTORS; v++) _mm512_storeu_ps(piece->scores + r * PANEL + v * LANES, shares[v]);
    }
}

#define OPERAND uint8_t
#define ZERO 128
#define PLACE(k) (k)
#include "engine/cpu/integers.h"

/* As an intrinsic gcc 12 copies every sum before it adds to it. */
#define ADD_PRODUCTS(sum, bytes, weights) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(weights))

TARGET INLINE void integer_tile(const struct slice *slice, size_t depth, const char *in, size_t in_stride, size_t rows,
                                float *out, size_t out_stride, bool add)
{
    const char *weights = slice->weights;
    __m512i sum[ROWS][VECTORS];

    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] = _mm512_load_si512(slice->sums + v * LANES);
    }
    for (size_t k = 0; k < depth; k += 4) {
        __m512i quad[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++) quad[v] = _mm512_load_si512(weights + v * 64);
        weights += 4 * PANEL;
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            int32_t bytes;
            memcpy(&bytes, in + r * in_stride + k, 4);
            __m512i spread_bytes = _mm512_set1_epi32(bytes);
            UNROLL for (size_t v = 0; v < VECTORS; v++) ADD_PRODUCTS(sum[r][v], spread_bytes, quad[v]);
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        __m512 scale = _mm512_set1_ps(*(const float *)(const void *)(in + r * in_stride + slice->scale_offset));
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            float *to = out + r * out_stride + v * LANES;
            __m512 value = _mm512_cvtepi32_ps(sum[r][v]);
            _mm512_store_ps(to, add ? _mm512_fmadd_ps(value, scale, _mm512_load_ps(to)) : _mm512_mul_ps(value, scale));
        }
    }
}

#include "engine/cpu/slices.h"

static const struct format whole = {
    .name = "int8",
    .operand_bytes = integer_operand_bytes,
    .panel_bytes = integer_panel_bytes,
    .put_column = integer_put_column,
    .take = integer_take,
    .take_rest = integer_take_rest,
    .multiply = integer_multiply,
};

/* bfloat16 panels and float operands. */
static const struct format wide = {
    .name = "bf16",
    .floats = true,
    .operand_bytes = float_operand_bytes,
    .panel_bytes = bfloat_panel_bytes,
    .put_column = bfloat_put_column,
    .put_row = bfloat_put_row,
    .take = float_take,
    .widen = bfloat_widen,
    .multiply = bfloat_multiply,
    .share = quick_share,
};

static size_t short_operand_bytes(size_t depth)
{
    return whole_lines((depth + depth % 2) * sizeof(uint16_t));
}

TARGET INLINE void store_short(uint16_t *to, __m512 values)
{
    _mm256_storeu_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(values));
}

TARGET static void short_take(const float *values, size_t depth, size_t first, size_t count, void *operand)
{
    uint16_t *to = (uint16_t *)operand + first;
    size_t whole_vectors = count - count % LANES;

    for (size_t i = 0; i < whole_vectors; i += LANES)
        store_short(to + i, _mm512_loadu_ps(values + i));
    for (size_t i = whole_vectors; i < count; i++)
        to[i] = to_bfloat(values[i]);
    if (depth % 2 != 0)
        ((uint16_t *)operand)[depth] = 0;
}

TARGET static void short_share(const struct piece *piece)
{
    float greatest[ROWS], scales[ROWS];
    grow(piece, greatest, scales);
    for (size_t r = 0; r < piece->rows; r++) {
        uint16_t *operand = (uint16_t *)(void *)((char *)piece->operands + r * piece->operand_stride);
        __m512 shares[VECTORS];
        share_scores(piece, r, greatest[r], scales[r], shares);
        UNROLL for (size_t v = 0; v < VECTORS; v++) store_short(operand + v * LANES, shares[v]);
    }
}

TARGET INLINE void short_tile(const uint16_t *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                              float *out, size_t out_stride, bool add)
{
    __m512 sum[ROWS][VECTORS];

    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] =
            add ? _mm512_loadu_ps(out + r * out_stride + v * LANES) : _mm512_setzero_ps();
    }
    for (size_t k = 0; k < depth; k += 2) {
        __m512i pairs[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++) pairs[v] = _mm512_loadu_si512(panel + v * 2 * LANES);
        panel += 2 * PANEL;
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            int32_t pair;
            memcpy(&pair, in + r * in_stride + k * sizeof(uint16_t), sizeof pair);
            __m512i spread_pair = _mm512_set1_epi32(pair);
            UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] =
                _mm512_dpbf16_ps(sum[r][v], (__m512bh)spread_pair, (__m512bh)pairs[v]);
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) _mm512_storeu_ps(out + r * out_stride + v * LANES, sum[r][v]);
    }
}

enum { SHORT_SLICE = 128 };

TARGET static void short_slice(const uint16_t *panel, size_t depth, const char *row, size_t in_stride, size_t rows,
                               float *out, size_t out_stride, bool add, struct fetch *fetch){TILES(short_tile)}

TARGET static void short_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                  float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    struct fetch fetch = start_fetch(ahead, tiles_of(rows) * ((depth + SHORT_SLICE - 1) / SHORT_SLICE));
    for (size_t k = 0; k < depth; k += SHORT_SLICE)
        short_slice((const uint16_t *)panel + k * PANEL, depth - k < SHORT_SLICE ? depth - k : SHORT_SLICE,
                    (const char *)in + k * sizeof(uint16_t), in_stride, rows, out, out_stride, add || k > 0, &fetch);
}

/* bfloat16 on both sides. */
static const struct format narrow = {
    .name = "bf16",
    .operand_bytes = short_operand_bytes,
    .panel_bytes = bfloat_panel_bytes,
    .put_column = bfloat_put_column,
    .put_row = bfloat_put_row,
    .take = short_take,
    .multiply = short_multiply,
    .share = short_share,
};

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .panel = PANEL,
    .fastest = ENGINE_INT8,
    .floats = &floats,
    .bfloats = &wide,
    .integers = &whole,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

const struct kernels kernels_avx512_narrow = {
    .name = "avx512",
    .panel = PANEL,
    .fastest = ENGINE_INT8,
    .floats = &floats,
    .bfloats = &narrow,
    .integers = &whole,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

#endif
