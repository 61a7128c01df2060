/* The kernels in AVX2 and FMA: 16 registers of 8 floats. */
#include "engine/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define VECTORS 2
#define ROWS 6
#define MULTIPLY_ADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define KERNELS kernels_avx2
#define KERNELS_NAME "avx2"
#include "engine/kernels_body.h"

#endif
