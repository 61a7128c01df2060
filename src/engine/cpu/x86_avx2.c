/* The kernels in AVX2 and FMA: 16 registers of 8 floats. */
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define VECTORS 2
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#include "engine/cpu/lanes.h"
#include "engine/cpu/slices.h"

#define MULTIPLY_PAIRS(a, b) ((integers)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#include "engine/cpu/pairs.h"

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .panel = PANEL,
    .fastest = ENGINE_BF16,
    .floats = &floats,
    .bfloats = &bfloats,
    .integers = &whole,
    .attention = &bfloats,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

#endif
