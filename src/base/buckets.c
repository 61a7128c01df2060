#include "base/buckets.h"

#include <math.h>

void buckets_init(struct buckets *buckets, const double *bounds, size_t count)
{
    buckets->count = count < BUCKETS_MAX ? count : BUCKETS_MAX;
    for (size_t i = 0; i < buckets->count; i++)
        buckets->bounds[i] = bounds[i];
    for (size_t i = 0; i <= BUCKETS_MAX; i++)
        atomic_init(&buckets->values[i], 0);
    atomic_init(&buckets->sum, 0);
}

void buckets_init_seconds(struct buckets *buckets)
{
    static const double bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                    0.1,    0.25,    0.5,    1,     2.5,    5,     10,   25,    50};
    buckets_init(buckets, bounds, sizeof bounds / sizeof *bounds);
}

void buckets_init_sizes(struct buckets *buckets)
{
    double bounds[17];
    for (size_t i = 0; i < 17; i++)
        bounds[i] = (double)(1 << i);
    buckets_init(buckets, bounds, 17);
}

void buckets_add(struct buckets *buckets, double value)
{
    if (!isfinite(value))
        return;
    size_t i = 0;
    while (i < buckets->count && value > buckets->bounds[i])
        i++;
    atomic_fetch_add_explicit(&buckets->values[i], 1, memory_order_relaxed);
    double sum = atomic_load_explicit(&buckets->sum, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&buckets->sum, &sum, sum + value, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

struct buckets_counts buckets_read(const struct buckets *buckets)
{
    struct buckets_counts counts = {.count = buckets->count,
                                    .sum = atomic_load_explicit(&buckets->sum, memory_order_relaxed)};
    uint64_t seen = 0;
    for (size_t i = 0; i < buckets->count; i++) {
        counts.bounds[i] = buckets->bounds[i];
        seen += atomic_load_explicit(&buckets->values[i], memory_order_relaxed);
        counts.up_to[i] = seen;
    }
    counts.up_to[buckets->count] = seen + atomic_load_explicit(&buckets->values[buckets->count], memory_order_relaxed);
    return counts;
}
