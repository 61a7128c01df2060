#include "engine/weights.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64 };

struct packing {
    struct matrix *matrix;
    const struct tensor *tensors[2]; /* stacked; the second may be missing */
    size_t panel;
    float *rows; /* (threads, depth) */
};

float *floats_allocate(size_t count)
{
    if (count > SIZE_MAX / sizeof(float) - CACHE_LINE)
        return NULL;
    size_t bytes = (count * sizeof(float) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return aligned_alloc(CACHE_LINE, bytes == 0 ? CACHE_LINE : bytes);
}

static void pack_panel(void *job, size_t index, size_t worker)
{
    const struct packing *packing = job;
    const struct matrix *matrix = packing->matrix;
    size_t panel = packing->panel, depth = matrix->depth;
    float *row = packing->rows + worker * depth;
    float *out = matrix->panels + index * panel * depth;

    for (size_t column = 0; column < panel; column++) {
        size_t output = index * panel + column;
        if (output >= matrix->outputs)
            memset(row, 0, depth * sizeof *row);
        else if (output < packing->tensors[0]->rows)
            tensor_row(packing->tensors[0], output, row);
        else
            tensor_row(packing->tensors[1], output - packing->tensors[0]->rows, row);
        for (size_t k = 0; k < depth; k++)
            out[k * panel + column] = row[k];
    }
}

static int pack(struct matrix *matrix, const struct tensor *first, const struct tensor *second, size_t panel,
                struct pool *pool, struct error *err)
{
    *matrix = (struct matrix){.depth = first->columns, .outputs = first->rows + (second ? second->rows : 0)};
    size_t panels = (matrix->outputs + panel - 1) / panel;
    struct packing packing = {.matrix = matrix, .tensors = {first, second}, .panel = panel};

    matrix->panels = floats_allocate(panels * panel * matrix->depth);
    packing.rows = floats_allocate(pool_threads(pool) * matrix->depth);
    if (matrix->panels == NULL || packing.rows == NULL) {
        free(packing.rows);
        return error_set(err, ERROR_FATAL, "out of memory while unpacking tensor " TEXT_FORMAT, TEXT_ARGS(first->name));
    }
    pool_run(pool, panels, pack_panel, &packing);
    free(packing.rows);
    return 0;
}

static int copy_vector(float **vector, const struct tensor *tensor, struct error *err)
{
    *vector = floats_allocate(tensor->columns);
    if (*vector == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while unpacking tensor " TEXT_FORMAT,
                         TEXT_ARGS(tensor->name));
    tensor_row(tensor, 0, *vector);
    return 0;
}

static int pack_layer(struct layer_weights *to, const struct model_layer *from, size_t panel, struct pool *pool,
                      struct error *err)
{
    if (copy_vector(&to->attention_norm, from->attention_norm, err) != 0 ||
        copy_vector(&to->mlp_norm, from->mlp_norm, err) != 0 ||
        pack(&to->query, from->query, NULL, panel, pool, err) != 0 ||
        pack(&to->key_value, from->key, from->value, panel, pool, err) != 0 ||
        pack(&to->attention_output, from->attention_output, NULL, panel, pool, err) != 0 ||
        pack(&to->gate, from->gate, NULL, panel, pool, err) != 0 ||
        pack(&to->up, from->up, NULL, panel, pool, err) != 0 ||
        pack(&to->down, from->down, NULL, panel, pool, err) != 0)
        return -1;
    return 0;
}

int weights_pack(struct weights *weights, const struct model *model, const struct kernels *kernels, struct pool *pool,
                 struct error *err)
{
    *weights = (struct weights){.model = model, .kernels = kernels};
    weights->layers = calloc(model->layer_count, sizeof *weights->layers);
    if (weights->layers == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while unpacking %zu layers", model->layer_count);

    for (size_t i = 0; i < model->layer_count; i++)
        if (pack_layer(&weights->layers[i], &model->layers[i], kernels->panel, pool, err) != 0) {
            weights_free(weights);
            return -1;
        }
    return 0;
}

void weights_free(struct weights *weights)
{
    for (size_t i = 0; weights->layers != NULL && i < weights->model->layer_count; i++) {
        struct layer_weights *layer = &weights->layers[i];
        free(layer->attention_norm);
        free(layer->mlp_norm);
        free(layer->query.panels);
        free(layer->key_value.panels);
        free(layer->attention_output.panels);
        free(layer->gate.panels);
        free(layer->up.panels);
        free(layer->down.panels);
    }
    free(weights->layers);
    *weights = (struct weights){0};
}
