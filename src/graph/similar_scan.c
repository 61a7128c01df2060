#include "graph/similar_scan.h"

size_t scan_scalar(const struct scan_rows *rows, const struct scan_query *query, float least, struct similar_hit *hits)
{
    size_t found = 0;
    for (size_t r = 0; r < rows->count; r++) {
        const int8_t *row = rows->rows + r * rows->stride;
        int32_t product = 0;
        for (size_t i = 0; i < rows->stride; i++)
            product += row[i] * query->values[i];
        float most = (float)product * query->scale * rows->scales[r];
        most = most + (rows->errors[r] * (1.0f + query->error) + query->error);
        if (most >= least)
            hits[found++] = (struct similar_hit){(uint32_t)r, most};
    }
    return found;
}

scan_select *scan_pick(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        return scan_avx512;
    if (__builtin_cpu_supports("avx2"))
        return scan_avx2;
#endif
    return scan_scalar;
}
