/* The kernels in AVX-512: 32 registers of 16 floats. */
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define LANES 16
#define VECTORS 4
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "engine/cpu/lanes.h"

#define OPERAND uint8_t
#define ZERO 128
#define PLACE(k) (k)
#include "engine/cpu/integers.h"

/* As an intrinsic gcc 12 copies every sum before it adds to it. */
#define ADD_PRODUCTS(sum, bytes, weights) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(weights))

TARGET INLINE void integer_tile(const void *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                                float *out, size_t out_stride, bool add)
{
    const char *weights = panel;
    const float *column_scales = (const float *)(const void *)(weights + integer_weight_bytes(depth));
    const int32_t *start = (const int32_t *)(column_scales + PANEL);
    const char *scales = in + integer_number_bytes(depth);
    float total[ROWS * PANEL] __attribute__((aligned(64)));

    UNROLL for (size_t i = 0; i < rows * VECTORS; i++) _mm512_store_ps(total + i * LANES, _mm512_setzero_ps());
    for (size_t first = 0; first < depth; first += GROUP, start += PANEL, scales += sizeof(float)) {
        size_t end = depth - first < GROUP ? depth : first + GROUP;
        __m512i sum[ROWS][VECTORS];
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] = _mm512_load_si512(start + v * LANES);
        }
        for (size_t k = first; k < end; k += 4) {
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
            __m512 scale = _mm512_set1_ps(*(const float *)(const void *)(scales + r * in_stride));
            UNROLL for (size_t v = 0; v < VECTORS; v++)
            {
                float *to = total + r * PANEL + v * LANES;
                __m512 value = _mm512_cvtepi32_ps(sum[r][v]);
                _mm512_store_ps(to, _mm512_fmadd_ps(value, scale, _mm512_load_ps(to)));
            }
        }
    }
    UNROLL for (size_t v = 0; v < VECTORS; v++)
    {
        __m512 scale = _mm512_load_ps(column_scales + v * LANES);
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            float *to = out + r * out_stride + v * LANES;
            __m512 value = _mm512_load_ps(total + r * PANEL + v * LANES);
            _mm512_storeu_ps(to,
                             add ? _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(to)) : _mm512_mul_ps(value, scale));
        }
    }
}

TARGET static void integer_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                    float *out, size_t out_stride, bool add)
{
    const char *row = in;
    TILES(integer_tile)
}

static const struct format whole = {
    .name = "int8",
    .operand_bytes = integer_operand_bytes,
    .panel_bytes = integer_panel_bytes,
    .put_column = integer_put_column,
    .take = integer_take,
    .take_rest = integer_take_rest,
    .multiply = integer_multiply,
};

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .panel = PANEL,
    .fastest = ENGINE_INT8,
    .floats = &floats,
    .bfloats = &bfloats,
    .integers = &whole,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

#endif
