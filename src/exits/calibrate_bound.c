#include <math.h>
#include <stdlib.h>

#include "exits/calibrate.h"

static const double normal_quantiles[] = {1.6448536269514722, 1.9599639845400545}; /* of 5 %, and of half of that */

/* Fisher and Cornish's expansion about the normal's: from 7 degrees of freedom on within 1e-3. */
static double t_quantile(double z, double freedom)
{
    double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * freedom) + (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom * freedom) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * freedom * freedom * freedom);
}

struct member {
    uint32_t cluster;
    double off; /* value less mean */
};

/* By value within a cluster, so that sums do not depend on how equals are sorted. */
static int by_cluster(const void *a, const void *b)
{
    const struct member *one = a, *other = b;
    if (one->cluster != other->cluster)
        return one->cluster < other->cluster ? -1 : 1;
    return (one->off > other->off) - (one->off < other->off);
}

/* Of the clusters' sums. */
struct moments {
    size_t clusters;
    double squares, cubes;
};

static struct moments sum_clusters(const struct member *members, size_t count)
{
    struct moments moments = {0};
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += members[i].off;
        if (i + 1 == count || members[i + 1].cluster != members[i].cluster) {
            moments.squares += sum * sum;
            moments.cubes += sum * sum * sum;
            moments.clusters++;
            sum = 0;
        }
    }
    return moments;
}

/*
 * How many standard errors the mean may lie too low. Losses are skewed: the few large ones that a sample happens to
 * lack make mean and deviation too small together. Hall 1992: T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 is nearly free of
 * that, a being the skewness over the root of the number; this is its inverse. Skewed the other way t is safe.
 */
static double widen(double t, const struct moments *moments)
{
    double clusters = (double)moments->clusters, deviation = sqrt(moments->squares / clusters);
    double a = moments->cubes / clusters / (deviation * deviation * deviation) / sqrt(clusters);
    return a > 1e-6 ? 3 / a * (1 - cbrt(1 - a * (t + a / 6))) : t;
}

int calibrate_bound(const double *values, const uint32_t *clusters, size_t count, size_t chains, double *bound,
                    struct error *err)
{
    struct member *members = malloc((count + 1) * sizeof *members);
    double mean = 0;

    if (members == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the bound over %zu rows", count);
    for (size_t i = 0; i < count; i++)
        mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        members[i] = (struct member){clusters != NULL ? clusters[i] : (uint32_t)i, values[i] - mean};
    qsort(members, count, sizeof *members, by_cluster);
    struct moments moments = sum_clusters(members, count);
    free(members);
    if (moments.clusters < CALIBRATE_LEAST_CLUSTERS) {
        *bound = INFINITY;
        return 0;
    }
    double freedom = (double)(moments.clusters - 1);
    double error = sqrt(moments.squares * (double)moments.clusters / freedom) / (double)count;
    *bound = error > 0 ? mean + widen(t_quantile(normal_quantiles[chains - 1], freedom), &moments) * error : mean;
    return 0;
}
