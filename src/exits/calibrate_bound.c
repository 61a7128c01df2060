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

/* The values' mean, its standard error, and the clusters' moments. */
struct spread {
    double mean, error;
    struct moments moments;
};

static int spread_of(const double *values, const uint32_t *clusters, size_t count, struct spread *spread,
                     struct error *err)
{
    struct member *members = malloc((count + 1) * sizeof *members);
    *spread = (struct spread){0};
    if (members == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the bound over %zu rows", count);
    for (size_t i = 0; i < count; i++)
        spread->mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        members[i] = (struct member){clusters != NULL ? clusters[i] : (uint32_t)i, values[i] - spread->mean};
    qsort(members, count, sizeof *members, by_cluster);
    spread->moments = sum_clusters(members, count);
    free(members);
    double number = (double)spread->moments.clusters;
    if (number > 1)
        spread->error = sqrt(spread->moments.squares * number / (number - 1)) / (double)count;
    return 0;
}

int calibrate_bound(const double *values, const uint32_t *clusters, size_t count, size_t chains, double *bound,
                    struct error *err)
{
    struct spread spread;
    if (spread_of(values, clusters, count, &spread, err) != 0)
        return -1;
    double freedom = (double)spread.moments.clusters - 1;
    if (spread.moments.clusters < CALIBRATE_LEAST_CLUSTERS)
        *bound = INFINITY;
    else
        *bound =
            spread.mean +
            (spread.error > 0 ? widen(t_quantile(normal_quantiles[chains - 1], freedom), &spread.moments) * spread.error
                              : 0);
    return 0;
}

int calibrate_is_within(const double *values, const uint32_t *clusters, size_t count, double most, bool *within,
                        struct error *err)
{
    struct spread spread;
    if (spread_of(values, clusters, count, &spread, err) != 0)
        return -1;
    *within = spread.moments.clusters >= CALIBRATE_LEAST_CLUSTERS && spread.mean <= most && spread.mean <= spread.error;
    return 0;
}
