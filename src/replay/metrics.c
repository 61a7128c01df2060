#include "replay/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

static const double clip = 1e-7;

/* A row as the AUC needs it. */
struct ranked {
    double score;
    uint32_t cluster;
    bool label;
};

static int by_score(const void *a, const void *b)
{
    double left = ((const struct ranked *)a)->score, right = ((const struct ranked *)b)->score;
    return (left > right) - (left < right);
}

/* By cluster, and in it by score. */
static int by_cluster(const void *a, const void *b)
{
    uint32_t left = ((const struct ranked *)a)->cluster, right = ((const struct ranked *)b)->cluster;
    return left != right ? (left > right) - (left < right) : by_score(a, b);
}

/* Rows in the order of their scores; `clusters` may be NULL. NULL with the error set on failure. */
static struct ranked *rank_rows(const double *scores, const bool *labels, const uint32_t *clusters, size_t count,
                                struct error *err)
{
    struct ranked *rows = calloc(count + 1, sizeof *rows);
    if (rows == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for the AUC of %zu rows", count);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (isnan(scores[i])) {
            error_set(err, ERROR_BAD_INPUT, "AUC: the score of row %zu is not a number", i);
            free(rows);
            return NULL;
        }
        rows[i] = (struct ranked){scores[i], clusters != NULL ? clusters[i] : 0, labels[i]};
    }
    qsort(rows, count, sizeof *rows, by_score);
    return rows;
}

/* AUC of sorted rows, each taken weights[its cluster] times. Whole numbers throughout, so sums are exact to 2^53. */
static double weighted_auc(const struct ranked *rows, size_t count, const uint32_t *weights)
{
    double no_below = 0, yes_total = 0, wins = 0;
    for (size_t i = 0; i < count;) {
        double yes = 0, no = 0, score = rows[i].score;
        for (; i < count && rows[i].score == score; i++) {
            double weight = weights[rows[i].cluster];
            if (rows[i].label)
                yes += weight;
            else
                no += weight;
        }
        wins += yes * (no_below + no / 2);
        no_below += no;
        yes_total += yes;
    }
    return yes_total > 0 && no_below > 0 ? wins / (yes_total * no_below) : NAN;
}

int metrics_auc(const double *scores, const bool *labels, size_t count, double *auc, struct error *err)
{
    struct ranked *rows = rank_rows(scores, labels, NULL, count, err);
    if (rows == NULL)
        return -1;
    *auc = weighted_auc(rows, count, &(uint32_t){1});
    free(rows);
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Between the two values that the share falls between, in proportion. */
static double percentile(const double *sorted, size_t count, double share)
{
    double place = share * (double)(count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

static int check_clusters(const uint32_t *clusters, size_t count, size_t cluster_count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (clusters[i] >= cluster_count)
            return error_set(err, ERROR_BAD_INPUT, "AUC: row %zu is of cluster %u, of %zu", i, clusters[i],
                             cluster_count);
    return 0;
}

/* The bootstrap: what it draws depends on seed and rows' clusters alone, so that two scorers get the same rounds. */
struct resampling {
    uint32_t *numbers; /* (count) the rows' clusters, numbered from 0 in order of appearance */
    uint32_t *weights; /* (clusters) how often this round took each */
    double *values;    /* (rounds) */
    size_t clusters, rounds, kept;
    struct random random;
};

static void resampling_free(struct resampling *resampling)
{
    free(resampling->numbers);
    free(resampling->weights);
    free(resampling->values);
}

static int resampling_init(struct resampling *resampling, const uint32_t *clusters, size_t count, size_t cluster_count,
                           size_t rounds, uint64_t seed, struct error *err)
{
    *resampling = (struct resampling){.rounds = rounds, .random = {seed}};
    if (check_clusters(clusters, count, cluster_count, err) != 0)
        return -1;
    resampling->numbers = calloc(count + 1, sizeof *resampling->numbers);
    resampling->weights = calloc(cluster_count + 1, sizeof *resampling->weights);
    resampling->values = calloc(rounds + 1, sizeof *resampling->values);
    if (resampling->numbers == NULL || resampling->weights == NULL || resampling->values == NULL) {
        resampling_free(resampling);
        return error_set(err, ERROR_FATAL, "out of memory for %zu rounds over %zu clusters", rounds, cluster_count);
    }
    for (size_t i = 0; i < count; i++) { /* the weights' place serves for the numbers, plus 1 */
        uint32_t *number = &resampling->weights[clusters[i]];
        if (*number == 0)
            *number = (uint32_t)++resampling->clusters;
        resampling->numbers[i] = *number - 1;
    }
    return 0;
}

static void draw_weights(struct resampling *resampling)
{
    memset(resampling->weights, 0, resampling->clusters * sizeof *resampling->weights);
    for (size_t i = 0; i < resampling->clusters; i++)
        resampling->weights[random_below(&resampling->random, resampling->clusters)]++;
}

static void keep_value(struct resampling *resampling, double value)
{
    if (!isnan(value))
        resampling->values[resampling->kept++] = value;
}

static struct metrics_interval interval_of(struct resampling *resampling)
{
    double *values = resampling->values;
    if (resampling->kept == 0)
        return (struct metrics_interval){NAN, NAN};
    qsort(values, resampling->kept, sizeof *values, by_value);
    return (struct metrics_interval){percentile(values, resampling->kept, 0.025),
                                     percentile(values, resampling->kept, 0.975)};
}

/* AUC of a, or a's less b's: `b` may be NULL. */
static int bootstrap_auc(const double *a, const double *b, const bool *labels, struct resampling *resampling,
                         size_t count, struct metrics_interval *interval, struct error *err)
{
    struct ranked *other = NULL, *rows = rank_rows(a, labels, resampling->numbers, count, err);
    int result = -1;
    if (rows == NULL || (b != NULL && (other = rank_rows(b, labels, resampling->numbers, count, err)) == NULL))
        goto out;
    for (size_t round = 0; round < resampling->rounds && resampling->clusters >= 2; round++) {
        draw_weights(resampling);
        double auc = weighted_auc(rows, count, resampling->weights);
        keep_value(resampling, b != NULL ? auc - weighted_auc(other, count, resampling->weights) : auc);
    }
    *interval = interval_of(resampling);
    result = 0;
out:
    free(rows);
    free(other);
    return result;
}

int metrics_auc_interval(const double *scores, const bool *labels, const uint32_t *clusters, size_t count,
                         size_t cluster_count, size_t rounds, uint64_t seed, struct metrics_interval *interval,
                         struct error *err)
{
    struct resampling resampling;
    if (resampling_init(&resampling, clusters, count, cluster_count, rounds, seed, err) != 0)
        return -1;
    int result = bootstrap_auc(scores, NULL, labels, &resampling, count, interval, err);
    resampling_free(&resampling);
    return result;
}

int metrics_auc_difference(const double *a, const double *b, const bool *labels, const uint32_t *clusters, size_t count,
                           size_t cluster_count, size_t rounds, uint64_t seed, struct metrics_difference *difference,
                           struct error *err)
{
    double of_a, of_b;
    struct resampling resampling;
    if (metrics_auc(a, labels, count, &of_a, err) != 0 || metrics_auc(b, labels, count, &of_b, err) != 0 ||
        resampling_init(&resampling, clusters, count, cluster_count, rounds, seed, err) != 0)
        return -1;
    int result = bootstrap_auc(a, b, labels, &resampling, count, &difference->interval, err);
    difference->value = of_a - of_b;
    resampling_free(&resampling);
    return result;
}

/* Means by cluster: a round costs what there are clusters, not rows. */
static int bootstrap_mean(const double *values, struct resampling *resampling, size_t count,
                          struct metrics_interval *interval, struct error *err)
{
    struct sum {
        double sum, rows;
    } *sums = calloc(resampling->clusters + 1, sizeof *sums);
    if (sums == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the means of %zu clusters", resampling->clusters);
    for (size_t i = 0; i < count; i++) {
        sums[resampling->numbers[i]].sum += values[i];
        sums[resampling->numbers[i]].rows++;
    }
    for (size_t round = 0; round < resampling->rounds && resampling->clusters >= 2; round++) {
        double sum = 0, rows = 0;
        draw_weights(resampling);
        for (size_t i = 0; i < resampling->clusters; i++) {
            sum += resampling->weights[i] * sums[i].sum;
            rows += resampling->weights[i] * sums[i].rows;
        }
        keep_value(resampling, sum / rows);
    }
    *interval = interval_of(resampling);
    free(sums);
    return 0;
}

int metrics_mean_interval(const double *values, const uint32_t *clusters, size_t count, size_t cluster_count,
                          size_t rounds, uint64_t seed, struct metrics_interval *interval, struct error *err)
{
    struct resampling resampling;
    if (resampling_init(&resampling, clusters, count, cluster_count, rounds, seed, err) != 0)
        return -1;
    int result = bootstrap_mean(values, &resampling, count, interval, err);
    resampling_free(&resampling);
    return result;
}

/* NaN where it is no probability. */
static double row_loss(double p, bool label)
{
    if (!(p >= 0 && p <= 1))
        return NAN;
    p = fmin(fmax(p, clip), 1 - clip);
    return label ? -log(p) : -log1p(-p);
}

int metrics_losses(const double *probabilities, const bool *labels, size_t count, double *losses, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        losses[i] = row_loss(probabilities[i], labels[i]);
        if (isnan(losses[i]))
            return error_set(err, ERROR_BAD_INPUT, "log loss: row %zu has %g, which is no probability", i,
                             probabilities[i]);
    }
    return 0;
}

int metrics_log_loss(const double *probabilities, const bool *labels, size_t count, double *log_loss, struct error *err)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double loss = row_loss(probabilities[i], labels[i]);
        if (isnan(loss))
            return error_set(err, ERROR_BAD_INPUT, "log loss: row %zu has %g, which is no probability", i,
                             probabilities[i]);
        sum += loss;
    }
    *log_loss = count > 0 ? sum / (double)count : NAN;
    return 0;
}

double metrics_entropy(double share)
{
    return share > 0 && share < 1     ? -share * log(share) - (1 - share) * log1p(-share)
           : share >= 0 && share <= 1 ? 0
                                      : NAN;
}

int metrics_gauc(const double *scores, const bool *labels, const uint32_t *groups, size_t count, size_t group_count,
                 double *gauc, size_t *rows, struct error *err)
{
    if (check_clusters(groups, count, group_count, err) != 0)
        return -1;
    struct ranked *ranked = rank_rows(scores, labels, groups, count, err);
    if (ranked == NULL)
        return -1;
    qsort(ranked, count, sizeof *ranked, by_cluster);
    double sum = 0;
    size_t counted = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin; end < count && ranked[end].cluster == ranked[begin].cluster; end++)
            ;
        for (size_t i = end; i-- > begin;)
            ranked[i].cluster = 0;
        double auc = weighted_auc(ranked + begin, end - begin, &(uint32_t){1});
        if (isnan(auc))
            continue;
        sum += auc * (double)(end - begin);
        counted += end - begin;
    }
    *gauc = counted > 0 ? sum / (double)counted : NAN;
    if (rows != NULL)
        *rows = counted;
    free(ranked);
    return 0;
}

int metrics_log_loss_difference(const double *a, const double *b, const bool *labels, const uint32_t *clusters,
                                size_t count, size_t cluster_count, size_t rounds, uint64_t seed,
                                struct metrics_difference *difference, struct error *err)
{
    int result = -1;
    double sum = 0, *gains = calloc(2 * count + 1, sizeof *gains), *of_b = gains == NULL ? NULL : gains + count;
    if (gains == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for the log losses of %zu rows", count);
        goto out;
    }
    if (metrics_losses(a, labels, count, gains, err) != 0 || metrics_losses(b, labels, count, of_b, err) != 0)
        goto out;
    for (size_t i = 0; i < count; i++) {
        gains[i] -= of_b[i];
        sum += gains[i];
    }
    difference->value = count > 0 ? sum / (double)count : NAN;
    result = metrics_mean_interval(gains, clusters, count, cluster_count, rounds, seed, &difference->interval, err);
out:
    free(gains);
    return result;
}
