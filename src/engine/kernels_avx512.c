/* The kernels in AVX-512: 32 registers of 16 floats. */
#include "engine/kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))
#define LANES 16
#define VECTORS 3
#define ROWS 8
#define MULTIPLY_ADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define KERNELS kernels_avx512
#define KERNELS_NAME "avx512"
#include "engine/kernels_body.h"

#endif
