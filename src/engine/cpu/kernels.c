#include "engine/cpu/kernels.h"

#if defined(__x86_64__)

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

int kernels_pick(const struct kernels **kernels, enum engine_cpu cpu, struct error *err)
{
    if (cpu == ENGINE_CPU_AUTO)
        cpu = has_avx512() ? ENGINE_AVX512 : has_avx2() ? ENGINE_AVX2 : ENGINE_SCALAR;
    if (cpu == ENGINE_AVX512 && !has_avx512())
        return error_set(err, ERROR_FATAL,
                         "this processor has no AVX-512 with VNNI and BF16: set engine.cpu to auto, avx2 or scalar");
    if (cpu == ENGINE_AVX2 && !has_avx2())
        return error_set(err, ERROR_FATAL, "this processor has no AVX2 with FMA: set engine.cpu to auto or scalar");
    *kernels = &kernels_scalar;
    if (cpu == ENGINE_AVX2)
        *kernels = &kernels_avx2;
    else if (cpu == ENGINE_AVX512)
        *kernels = __builtin_cpu_is("amd") ? &kernels_avx512_narrow : &kernels_avx512;
    return 0;
}

#else

int kernels_pick(const struct kernels **kernels, enum engine_cpu cpu, struct error *err)
{
    if (cpu == ENGINE_AVX512 || cpu == ENGINE_AVX2)
        return error_set(err, ERROR_FATAL,
                         "AVX2 and AVX-512 are instructions of x86-64, this is another processor: set engine.cpu to "
                         "auto or scalar");
    *kernels = &kernels_scalar;
    return 0;
}

#endif
