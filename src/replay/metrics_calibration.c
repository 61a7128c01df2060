/* metrics_calibration.c - whether probabilities are what they say */
#include <math.h>
#include <stdlib.h>

#include "replay/metrics.h"

static const double pi = 3.14159265358979323846;

struct answer {
    double p;
    bool label;
};

static int by_probability(const void *a, const void *b)
{
    double left = ((const struct answer *)a)->p, right = ((const struct answer *)b)->p;
    return (left > right) - (left < right);
}

/* Where the next bin ends: the share's end, moved on to where the probability changes. */
static size_t bin_end(const struct answer *answers, size_t count, size_t begin, size_t bin)
{
    size_t end = (bin + 1) * count / METRICS_BINS;
    if (end <= begin)
        return begin;
    while (end < count && answers[end].p == answers[end - 1].p)
        end++;
    return end;
}

static struct metrics_bin bin_of(const struct answer *answers, size_t count)
{
    const double z = 1.959963984540054; /* 97.5 % of the normal distribution */
    double n = (double)count, predicted = 0, yes = 0;
    for (size_t i = 0; i < count; i++) {
        predicted += answers[i].p;
        yes += answers[i].label;
    }
    double share = yes / n, middle = (share + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    return (struct metrics_bin){count, predicted / n, share, fmax(middle - half, 0), fmin(middle + half, 1)};
}

int metrics_calibrate(const double *probabilities, const bool *labels, size_t count, struct metrics_calibration *out,
                      struct error *err)
{
    struct answer *answers = calloc(count + 1, sizeof *answers);
    if (answers == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the calibration of %zu rows", count);
    int result = -1;
    for (size_t i = 0; i < count; i++) {
        if (!(probabilities[i] >= 0 && probabilities[i] <= 1)) {
            error_set(err, ERROR_BAD_INPUT, "calibration: row %zu has %g, which is no probability", i,
                      probabilities[i]);
            goto out;
        }
        answers[i] = (struct answer){probabilities[i], labels[i]};
    }
    qsort(answers, count, sizeof *answers, by_probability);

    double error = 0, chance = 0;
    *out = (struct metrics_calibration){.error = NAN, .chance = NAN};
    for (size_t bin = 0, begin = 0, end; bin < METRICS_BINS; bin++, begin = end) {
        end = bin_end(answers, count, begin, bin);
        if (end == begin)
            continue;
        struct metrics_bin filled = out->bins[out->bin_count++] = bin_of(answers + begin, end - begin);
        error += (double)filled.rows * fabs(filled.predicted - filled.observed);
        chance += sqrt((double)filled.rows * filled.predicted * (1 - filled.predicted));
    }
    if (count > 0) {
        out->error = error / (double)count;
        out->chance = sqrt(2 / pi) * chance / (double)count;
    }
    result = 0;
out:
    free(answers);
    return result;
}
