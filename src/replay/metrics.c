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

/* Numbers the clusters that have rows from 0 and returns how many; the rows then name these numbers. */
static size_t number_clusters(struct ranked *rows, size_t count, uint32_t *numbers)
{
    uint32_t next = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t *number = &numbers[rows[i].cluster];
        if (*number == 0)
            *number = ++next;
        rows[i].cluster = *number - 1;
    }
    return next;
}

static size_t resample(const struct ranked *rows, size_t count, uint32_t *weights, size_t cluster_count, size_t rounds,
                       uint64_t seed, double *aucs)
{
    struct random random = {seed};
    size_t kept = 0;
    for (size_t round = 0; round < rounds; round++) {
        memset(weights, 0, cluster_count * sizeof *weights);
        for (size_t i = 0; i < cluster_count; i++)
            weights[random_below(&random, cluster_count)]++;
        double auc = weighted_auc(rows, count, weights);
        if (!isnan(auc))
            aucs[kept++] = auc;
    }
    return kept;
}

int metrics_auc_interval(const double *scores, const bool *labels, const uint32_t *clusters, size_t count,
                         size_t cluster_count, size_t rounds, uint64_t seed, struct metrics_interval *interval,
                         struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (clusters[i] >= cluster_count)
            return error_set(err, ERROR_BAD_INPUT, "AUC: row %zu is of cluster %u, of %zu", i, clusters[i],
                             cluster_count);
    struct ranked *rows = rank_rows(scores, labels, clusters, count, err);
    if (rows == NULL)
        return -1;
    int result = -1;
    uint32_t *weights = calloc(cluster_count + 1, sizeof *weights);
    double *aucs = calloc(rounds + 1, sizeof *aucs);
    if (weights == NULL || aucs == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for %zu rounds over %zu clusters", rounds, cluster_count);
        goto out;
    }

    size_t filled = number_clusters(rows, count, weights);
    size_t kept = filled < 2 ? 0 : resample(rows, count, weights, filled, rounds, seed, aucs);
    *interval = (struct metrics_interval){NAN, NAN};
    if (kept > 0) {
        qsort(aucs, kept, sizeof *aucs, by_value);
        *interval = (struct metrics_interval){percentile(aucs, kept, 0.025), percentile(aucs, kept, 0.975)};
    }
    result = 0;
out:
    free(rows);
    free(weights);
    free(aucs);
    return result;
}

int metrics_log_loss(const double *probabilities, const bool *labels, size_t count, double *log_loss, struct error *err)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double p = probabilities[i];
        if (!(p >= 0 && p <= 1))
            return error_set(err, ERROR_BAD_INPUT, "log loss: row %zu has %g, which is no probability", i, p);
        p = fmin(fmax(p, clip), 1 - clip);
        sum -= labels[i] ? log(p) : log1p(-p);
    }
    *log_loss = count > 0 ? sum / (double)count : NAN;
    return 0;
}
