/* The kernels in AVX-512: 32 registers of 16 floats. */
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define LANES 16
#define VECTORS 4
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "engine/cpu/lanes.h"
#include "engine/cpu/slices.h"

#define OPERAND uint8_t
#define ZERO 128
#define PLACE(k) (k)

/* As intrinsics gcc 12 copies every sum before it adds to it. */
#define ADD_QUADS(sum, bytes, weights) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(weights))
#define ADD_PAIRS(sum, a, b) __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* What a tile has summed up over a group, times the operands' scales. */
TARGET INLINE void scale_tile(__m512i sum[ROWS][VECTORS], const char *scales, size_t in_stride, size_t rows, float *out,
                              size_t out_stride, bool add)
{
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        __m512 scale = _mm512_set1_ps(*(const float *)(const void *)(scales + r * in_stride));
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            float *to = out + r * out_stride + v * LANES;
            __m512 value = _mm512_cvtepi32_ps(sum[r][v]);
            _mm512_store_ps(to, add ? _mm512_fmadd_ps(value, scale, _mm512_load_ps(to)) : _mm512_mul_ps(value, scale));
        }
    }
}

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
            UNROLL for (size_t v = 0; v < VECTORS; v++) ADD_QUADS(sum[r][v], spread_bytes, quad[v]);
        }
    }
    scale_tile(sum, in + slice->scale_offset, in_stride, rows, out, out_stride, add);
}

#include "engine/cpu/integers.h"
#include "engine/cpu/x86_words.h"

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
    .section = 64,
    .operand_bytes = short_operand_bytes,
    .panel_bytes = bfloat_panel_bytes,
    .put_column = bfloat_put_column,
    .take = short_take,
    .multiply = short_multiply,
};

#include "engine/cpu/x86_attention.h"

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .panel = PANEL,
    .fastest = ENGINE_INT8,
    .floats = &floats,
    .bfloats = &words,
    .integers = &whole,
    .attention = &shorts,
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
    .attention = &shorts,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

#endif
