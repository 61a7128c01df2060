#include "engine/kernels.h"

#if defined(__x86_64__)

const struct kernels *kernels_supported(size_t index)
{
    const struct kernels *supported[4] = {0};
    size_t count = 0;

    if (__builtin_cpu_supports("avx512f"))
        supported[count++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        supported[count++] = &kernels_avx2;
    supported[count++] = &kernels_baseline;
    return index < count ? supported[index] : NULL;
}

#else

const struct kernels *kernels_supported(size_t index)
{
    return index == 0 ? &kernels_baseline : NULL;
}

#endif
