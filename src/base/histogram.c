#include "base/histogram.h"

#include <math.h>

static const double least_value = 1e-3;

void histogram_add(struct histogram *histogram, double value)
{
    double position = value > least_value ? log2(value / least_value) * HISTOGRAM_BUCKETS_A_DOUBLING : 0;
    int bucket = position < HISTOGRAM_BUCKETS - 1 ? (int)position : HISTOGRAM_BUCKETS - 1;
    histogram->buckets[bucket]++;
    histogram->count++;
    histogram->sum += value;
}

double histogram_quantile(const struct histogram *histogram, double q)
{
    if (histogram->count == 0)
        return NAN;
    double rank = q * (double)histogram->count;
    uint64_t seen = 0;
    int bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS - 1) {
        seen += histogram->buckets[bucket];
        if (seen > 0 && (double)seen >= rank)
            break;
        bucket++;
    }
    return least_value * exp2((bucket + 0.5) / HISTOGRAM_BUCKETS_A_DOUBLING);
}
