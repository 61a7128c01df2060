#include "engine/cpu/weights.h"

#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64 };

/* One matrix of the model that becomes columns of ours. */
struct source {
    const struct tensor *tensor;
    const float *bias; /* NULL: none */
    const float *gain; /* (depth) of the norm before it; NULL: none */
    size_t head_size;  /* not 0: rotary pairs come apart in heads of this size */
    size_t first;      /* column where it starts */
};

struct packing {
    const struct format *format;
    struct matrix *matrix;
    const struct source *sources;
    size_t source_count;
    size_t panel;
    float *rows; /* (threads, depth) */
};

void *lines_allocate(size_t bytes)
{
    if (bytes > SIZE_MAX - CACHE_LINE)
        return NULL;
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return aligned_alloc(CACHE_LINE, bytes == 0 ? CACHE_LINE : bytes);
}

size_t matrix_columns(const struct matrix *matrix, const struct kernels *kernels)
{
    return (matrix->outputs + kernels->panel - 1) / kernels->panel * kernels->panel;
}

/* The model's row that comes at place `index` of the source. */
static size_t source_row(const struct source *source, size_t index)
{
    if (source->head_size == 0)
        return index;
    size_t place = index % source->head_size, pairs = source->head_size / 2;
    return index - place + (place < pairs ? 2 * place : 2 * (place - pairs) + 1);
}

static void put_column(const struct packing *packing, const struct source *source, size_t column, float *row)
{
    struct matrix *matrix = packing->matrix;
    size_t from = source_row(source, column - source->first);

    tensor_row(source->tensor, from, row);
    for (size_t k = 0; source->gain != NULL && k < matrix->depth; k++)
        row[k] *= source->gain[k];
    packing->format->put_column(matrix->panels + column / packing->panel * matrix->panel_bytes, matrix->depth,
                                column % packing->panel, row);
    if (matrix->bias != NULL && source->bias != NULL)
        matrix->bias[column] = source->bias[from];
}

static void pack_panel(void *job, size_t index, size_t worker)
{
    const struct packing *packing = job;
    struct matrix *matrix = packing->matrix;

    memset(matrix->panels + index * matrix->panel_bytes, 0, matrix->panel_bytes);
    for (size_t column = index * packing->panel; column < (index + 1) * packing->panel; column++)
        for (size_t i = 0; i < packing->source_count; i++) {
            const struct source *source = &packing->sources[i];
            if (column >= source->first && column - source->first < source->tensor->rows)
                put_column(packing, source, column, packing->rows + worker * matrix->depth);
        }
}

static int pack(struct matrix *matrix, const struct weights *weights, const struct source *sources, size_t source_count,
                struct pool *pool, struct error *err)
{
    const struct source *last = &sources[source_count - 1];
    size_t panel = weights->kernels->panel;
    *matrix = (struct matrix){.depth = last->tensor->columns, .outputs = last->first + last->tensor->rows};
    size_t panels = (matrix->outputs + panel - 1) / panel;
    struct packing packing = {weights->format, matrix, sources, source_count, panel, NULL};

    matrix->panel_bytes = weights->format->panel_bytes(matrix->depth);
    matrix->panels = lines_allocate(panels * matrix->panel_bytes);
    packing.rows = lines_allocate(pool_threads(pool) * matrix->depth * sizeof(float));
    if (last->bias != NULL)
        matrix->bias = calloc(panels * panel, sizeof(float));
    if (matrix->panels == NULL || packing.rows == NULL || (last->bias != NULL && matrix->bias == NULL)) {
        free(packing.rows);
        return error_set(err, ERROR_FATAL, "out of memory while unpacking tensor " TEXT_FORMAT,
                         TEXT_ARGS(last->tensor->name));
    }
    pool_run(pool, panels, pack_panel, &packing);
    free(packing.rows);
    return 0;
}

static int pack_layer(struct weights *weights, size_t index, float *gains, struct pool *pool, struct error *err)
{
    const struct model *model = weights->model;
    const struct model_layer *from = &model->layers[index];
    struct layer_weights *to = &weights->layers[index];
    size_t panel = weights->kernels->panel, size = model->head_size;
    size_t values = (model->key_heads * size + panel - 1) / panel * panel;
    float *attention_gain = gains, *mlp_gain = gains + model->width;
    const struct source query = {from->query, from->query_bias, attention_gain, size, 0};
    const struct source key_value[] = {{from->key, from->key_bias, attention_gain, size, 0},
                                       {from->value, from->value_bias, attention_gain, 0, values}};
    const struct source output = {from->attention_output, NULL, NULL, 0, 0};
    const struct source gate = {from->gate, NULL, mlp_gain, 0, 0}, up = {from->up, NULL, mlp_gain, 0, 0};
    const struct source down = {from->down, NULL, NULL, 0, 0};

    tensor_row(from->attention_norm, 0, attention_gain);
    tensor_row(from->mlp_norm, 0, mlp_gain);
    if (pack(&to->query, weights, &query, 1, pool, err) != 0 ||
        pack(&to->key_value, weights, key_value, 2, pool, err) != 0 ||
        pack(&to->attention_output, weights, &output, 1, pool, err) != 0 ||
        pack(&to->gate, weights, &gate, 1, pool, err) != 0 || pack(&to->up, weights, &up, 1, pool, err) != 0 ||
        pack(&to->down, weights, &down, 1, pool, err) != 0)
        return -1;
    return 0;
}

int weights_pack(struct weights *weights, const struct model *model, const struct kernels *kernels,
                 enum engine_mode mode, struct pool *pool, struct error *err)
{
    *weights = (struct weights){.model = model, .kernels = kernels};
    weights->format = mode == ENGINE_F32 ? kernels->floats : mode == ENGINE_BF16 ? kernels->bfloats : kernels->integers;
    weights->attention = mode == ENGINE_F32 ? kernels->floats : kernels->bfloats;
    weights->layers = calloc(model->layer_count, sizeof *weights->layers);
    float *gains = lines_allocate(2 * model->width * sizeof *gains);
    int result = -1;

    if (weights->layers == NULL || gains == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while unpacking %zu layers", model->layer_count);
        goto out;
    }
    for (size_t i = 0; i < model->layer_count; i++)
        if (pack_layer(weights, i, gains, pool, err) != 0)
            goto out;
    result = 0;
out:
    free(gains);
    if (result != 0)
        weights_free(weights);
    return result;
}

static void free_matrix(struct matrix *matrix)
{
    free(matrix->panels);
    free(matrix->bias);
}

void weights_free(struct weights *weights)
{
    for (size_t i = 0; weights->layers != NULL && i < weights->model->layer_count; i++) {
        struct layer_weights *layer = &weights->layers[i];
        free_matrix(&layer->query);
        free_matrix(&layer->key_value);
        free_matrix(&layer->attention_output);
        free_matrix(&layer->gate);
        free_matrix(&layer->up);
        free_matrix(&layer->down);
    }
    free(weights->layers);
    *weights = (struct weights){0};
}
