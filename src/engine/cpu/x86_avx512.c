/* The kernels in AVX-512: 32 registers of 16 floats. */
#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define LANES 16
#define VECTORS 4
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "engine/cpu/lanes.h"

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .panel = PANEL,
    .floats = &floats,
    .bfloats = &bfloats,
    .norm = norm,
    .gate = gate,
    .rotate = rotate,
};

#endif
