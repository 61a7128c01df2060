#include "cmd/titles.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/random.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/tokenizer.h"

struct titles {
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    size_t width, dimension;
    float *mean;  /* (width) of the vocabulary */
    float *signs; /* (width, dimension) */
    char version[32];
};

static int take_vocabulary(struct titles *titles, struct error *err)
{
    const struct tensor *rows = titles->model.embedding;
    struct random random = {1};
    titles->width = rows->columns;
    titles->mean = calloc(titles->width, sizeof *titles->mean);
    titles->signs = calloc(titles->width * titles->dimension, sizeof *titles->signs);
    float *row = calloc(titles->width, sizeof *row);
    double *sum = calloc(titles->width, sizeof *sum);
    int result = 0;
    if (titles->mean == NULL || titles->signs == NULL || row == NULL || sum == NULL) {
        result = error_set(err, ERROR_FATAL, "out of memory for the vectors of titles");
        goto out;
    }
    for (size_t token = 0; token < rows->rows; token++) {
        tensor_row(rows, token, row);
        for (size_t i = 0; i < titles->width; i++)
            sum[i] += (double)row[i];
    }
    for (size_t i = 0; i < titles->width; i++)
        titles->mean[i] = (float)(sum[i] / (double)rows->rows);
    for (size_t i = 0; i < titles->width * titles->dimension; i++)
        titles->signs[i] = random_next(&random) >> 63 == 0 ? 1.0f : -1.0f;
    snprintf(titles->version, sizeof titles->version, "tokens-%016llx",
             (unsigned long long)XXH3_64bits(titles->mean, titles->width * sizeof *titles->mean));
out:
    free(row);
    free(sum);
    return result;
}

int titles_open(struct titles **out, const char *model_path, size_t dimension, struct error *err)
{
    struct titles *titles = calloc(1, sizeof *titles);
    if (titles == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the vectors of titles");
    titles->dimension = dimension;
    if (gguf_open(&titles->gguf, model_path, err) != 0 || model_load(&titles->model, titles->gguf, err) != 0 ||
        tokenizer_create(&titles->tokenizer, titles->gguf, err) != 0 || take_vocabulary(titles, err) != 0) {
        titles_close(titles);
        return -1;
    }
    *out = titles;
    return 0;
}

void titles_close(struct titles *titles)
{
    if (titles == NULL)
        return;
    tokenizer_destroy(titles->tokenizer);
    model_free(&titles->model);
    gguf_close(titles->gguf);
    free(titles->mean);
    free(titles->signs);
    free(titles);
}

const char *titles_version(const struct titles *titles)
{
    return titles->version;
}

/* sum (width) of the tokens' rows less the mean, which `row` is scratch for. */
static void sum_tokens(const struct titles *titles, const struct tokens *tokens, float *row, float *sum)
{
    for (size_t n = 0; n < tokens->count; n++) {
        tensor_row(titles->model.embedding, (size_t)tokens->ids[n], row);
        for (size_t i = 0; i < titles->width; i++)
            sum[i] += row[i] - titles->mean[i];
    }
}

static bool project(const struct titles *titles, const float *sum, float *out)
{
    double square = 0;
    for (size_t j = 0; j < titles->dimension; j++)
        out[j] = 0;
    for (size_t i = 0; i < titles->width; i++)
        for (size_t j = 0; j < titles->dimension; j++)
            out[j] += sum[i] * titles->signs[i * titles->dimension + j];
    for (size_t j = 0; j < titles->dimension; j++)
        square += (double)out[j] * (double)out[j];
    if (!(square > 0) || isinf(square))
        return false;
    for (size_t j = 0; j < titles->dimension; j++)
        out[j] = (float)((double)out[j] / sqrt(square));
    return true;
}

bool titles_vector(void *context, struct text title, float *out)
{
    const struct titles *titles = context;
    struct tokens tokens = {0};
    struct error err;
    float *row = calloc(2 * titles->width, sizeof *row);
    bool found = row != NULL && tokenizer_encode(titles->tokenizer, title, &tokens, &err) == 0 && tokens.count > 0;
    if (found) {
        sum_tokens(titles, &tokens, row, row + titles->width);
        found = project(titles, row + titles->width, out);
    }
    tokens_free(&tokens);
    free(row);
    return found;
}
