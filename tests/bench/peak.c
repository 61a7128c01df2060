/*
 * The most multiplications and additions a second that the processor does on registers alone, for each kind of number:
 * the roof over the engine's speed. 12 independent sums hide the instructions' latency.
 *
 *   bench_peak THREADS       prints JSON: f32_avx2, f32, bf16, int16 and int8 (the last four on AVX-512) in
 * operations/s, null where the processor has no such instruction
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/pool.h"

#if defined(__x86_64__)

enum { SUMS = 12, ROUNDS = 5000000, REPEATS = 5 };

#define ONE(instruction, width, sum) instruction " %%" width "mm14, %%" width "mm15, %%" width "mm" #sum "\n\t"
/* clang-format off */
#define ALL(i, w) ONE(i, w, 0) ONE(i, w, 1) ONE(i, w, 2) ONE(i, w, 3) ONE(i, w, 4) ONE(i, w, 5) ONE(i, w, 6) \
    ONE(i, w, 7) ONE(i, w, 8) ONE(i, w, 9) ONE(i, w, 10) ONE(i, w, 11)
/* clang-format on */

/* Zeros in the registers: sums must not become denormal numbers or infinite. */
#define RUN(name, instruction, width)                                                                                  \
    static void name(void *job, size_t index, size_t worker)                                                           \
    {                                                                                                                  \
        (void)job, (void)index, (void)worker;                                                                          \
        __asm__ volatile("vzeroall" ::                                                                                 \
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",         \
                               "xmm10", "xmm11", "xmm14", "xmm15");                                                    \
        for (long i = 0; i < ROUNDS; i++)                                                                              \
            __asm__ volatile(ALL(instruction, width)::                                                                 \
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
                                   "xmm10", "xmm11", "xmm14", "xmm15");                                                \
    }

RUN(run_f32_avx2, "vfmadd231ps", "y")
RUN(run_f32, "vfmadd231ps", "z")
RUN(run_bf16, "vdpbf16ps", "z")
RUN(run_int16, "vpdpwssd", "z")
RUN(run_int8, "vpdpbusd", "z")

/* The best of a few runs: a roof is no average. */
static void measure(struct pool *pool, const char *name, void (*run)(void *, size_t, size_t), bool supported,
                    double operations)
{
    double best_ms = 0;
    for (int repeat = 0; supported && repeat < REPEATS; repeat++) {
        int64_t start_ns = clock_monotonic_ns();
        pool_run(pool, pool_threads(pool), run, NULL);
        double ms = clock_since_ms(start_ns);
        best_ms = repeat == 0 || ms < best_ms ? ms : best_ms;
    }
    if (supported)
        printf("\"%s\": %.4g", name, operations * SUMS * ROUNDS * (double)pool_threads(pool) / (best_ms / 1000));
    else
        printf("\"%s\": null", name);
}

static void measure_all(struct pool *pool)
{
    bool avx512 = __builtin_cpu_supports("avx512f");
    measure(pool, "f32_avx2", run_f32_avx2, __builtin_cpu_supports("fma"), 16);
    printf(", ");
    measure(pool, "f32", run_f32, avx512, 32);
    printf(", ");
    measure(pool, "bf16", run_bf16, avx512 && __builtin_cpu_supports("avx512bf16"), 64);
    printf(", ");
    measure(pool, "int16", run_int16, avx512 && __builtin_cpu_supports("avx512vnni"), 64);
    printf(", ");
    measure(pool, "int8", run_int8, avx512 && __builtin_cpu_supports("avx512vnni"), 128);
}

#else

static void measure_all(struct pool *pool)
{
    (void)pool;
    printf("\"f32_avx2\": null, \"f32\": null, \"bf16\": null, \"int16\": null, \"int8\": null");
}

#endif

int main(int argc, char **argv)
{
    int threads = argc == 2 ? atoi(argv[1]) : 0;
    struct pool *pool = threads > 0 ? pool_create((size_t)threads) : NULL;
    if (pool == NULL) {
        fprintf(stderr, "usage: bench_peak THREADS\n");
        return 2;
    }
    printf("{");
    measure_all(pool);
    printf("}\n");
    pool_destroy(pool);
    return 0;
}
