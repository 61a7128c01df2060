#include <math.h>
#include <stdlib.h>

#include "exits/train.h"

static const double least_scale = 1e-3; /* of the columns' root mean square deviation */

int train_scale_create(struct train_scale *scale, size_t count, struct error *err)
{
    *scale = (struct train_scale){.count = count,
                                  .means = calloc(count + 1, sizeof *scale->means),
                                  .scales = calloc(count + 1, sizeof *scale->scales)};
    if (scale->means != NULL && scale->scales != NULL)
        return 0;
    train_scale_free(scale);
    return error_set(err, ERROR_FATAL, "out of memory for the scales of %zu columns", count);
}

void train_scale_free(struct train_scale *scale)
{
    free(scale->means);
    free(scale->scales);
    *scale = (struct train_scale){0};
}

/* What a row is multiplied with before anything else. */
static double row_factor(const struct train_rows *rows, size_t row)
{
    const float *values = rows->values + row * rows->stride;
    double squares = 0;
    if (!rows->norm)
        return 1;
    for (size_t j = 0; j < rows->columns; j++)
        squares += (double)values[j] * (double)values[j];
    return 1 / sqrt(squares / (double)rows->columns + (double)rows->epsilon);
}

static void measure_means(struct train_scale *scale, const struct train_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        double factor = row_factor(rows, i) / (double)rows->count;
        for (size_t j = 0; j < rows->columns; j++)
            scale->means[j] += factor * (double)rows->values[i * rows->stride + j];
    }
}

void train_scale_measure(struct train_scale *scale, const struct train_rows *rows)
{
    double typical = 0;
    for (size_t j = 0; j < rows->columns; j++)
        scale->means[j] = scale->scales[j] = 0;
    measure_means(scale, rows);
    for (size_t i = 0; i < rows->count; i++) {
        double factor = row_factor(rows, i);
        for (size_t j = 0; j < rows->columns; j++) {
            double off = factor * (double)rows->values[i * rows->stride + j] - scale->means[j];
            scale->scales[j] += off * off / (double)rows->count;
        }
    }
    for (size_t j = 0; j < rows->columns; j++)
        typical += scale->scales[j] / (double)rows->columns;
    double least = typical > 0 ? least_scale * sqrt(typical) : 1;
    for (size_t j = 0; j < rows->columns; j++)
        scale->scales[j] = fmax(sqrt(scale->scales[j]), least);
}

void train_scale_apply(const struct train_scale *scale, const struct train_rows *rows, float *out, size_t width)
{
    for (size_t i = 0; i < rows->count; i++) {
        double factor = row_factor(rows, i);
        for (size_t j = 0; j < rows->columns; j++)
            out[i * width + j] =
                (float)((factor * (double)rows->values[i * rows->stride + j] - scale->means[j]) / scale->scales[j]);
    }
}
