#include "engine/cpu/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PRODUCT_ROWS = 120, /* that go past a panel together, so that their operands stay in the second-level cache */
    GATE_ROWS = 24,     /* whose panels of gate and up stay in the first-level cache */
};

static size_t lesser(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void note_broken(struct forward *forward, size_t layers)
{
    size_t seen = atomic_load(&forward->broken);
    while (layers < seen && !atomic_compare_exchange_weak(&forward->broken, &seen, layers))
        ;
}

/* Operands of rows first .. first + rows - 1 of a passage; the last `precise` have a second one. */
struct operands {
    const uint8_t *rows;
    const uint8_t *rests; /* of the first precise row */
    size_t stride;        /* bytes */
    size_t count, precise;
};

static struct operands operands_of(const struct forward *forward, const struct block *block, const uint8_t *rows,
                                   size_t stride, const struct passage *passage)
{
    return (struct operands){rows, block->rests, stride, passage->rows,
                             forward->weights->format->take_rest == NULL ? 0 : passage->precise};
}

/* Row `row` of a passage, of `depth` floats, becomes an operand. */
static void take_row(const struct forward *forward, struct block *block, const struct passage *passage, size_t row,
                     const float *values, size_t depth, uint8_t *operand)
{
    const struct format *format = forward->weights->format;
    size_t precise = passage->first + passage->rows - passage->precise;

    format->take(values, depth, operand);
    if (row >= precise && format->take_rest != NULL)
        format->take_rest(values, depth, operand, block->rests + (row - precise) * format->operand_bytes(depth));
}

/* Operands from the residual stream; `layers` are behind it. */
static void norm_rows(struct forward *forward, struct block *block, const struct passage *passage, size_t layers)
{
    const struct weights *weights = forward->weights;
    size_t width = weights->model->width, bytes = weights->format->operand_bytes(width);

    for (size_t r = passage->first; r < passage->first + passage->rows; r++) {
        const float *in = block->hidden + r * forward->hidden_stride;
        float mean = weights->kernels->norm(in, width, (float)weights->model->norm_epsilon, block->row);
        if (!isfinite(mean))
            note_broken(forward, layers);
        take_row(forward, block, passage, r, block->row, width, block->normed + r * bytes);
    }
}

/* A panel's product with rows first .. first + rows - 1 of the operands; `out` is that of row `first`. */
static void multiply_panel(const struct forward *forward, const struct matrix *matrix, size_t panel,
                           const struct operands *in, size_t first, size_t rows, float *out, size_t out_stride,
                           bool add)
{
    const struct format *format = forward->weights->format;
    const uint8_t *weights = matrix->panels + panel * matrix->panel_bytes;
    size_t precise = in->count - in->precise;

    format->multiply(weights, matrix->depth, in->rows + first * in->stride, in->stride, rows, out, out_stride, add);
    if (first + rows <= precise)
        return;
    size_t from = first > precise ? first : precise;
    format->multiply(weights, matrix->depth, in->rests + (from - precise) * in->stride, in->stride, first + rows - from,
                     out + (from - first) * out_stride, out_stride, true);
}

static void multiply_rows(const struct forward *forward, const struct matrix *matrix, const struct operands *in,
                          float *out, size_t out_stride, bool add)
{
    size_t width = forward->weights->kernels->panel, panels = matrix_columns(matrix, forward->weights->kernels) / width;

    for (size_t r = 0; r < in->count; r += PRODUCT_ROWS)
        for (size_t p = 0; p < panels; p++)
            multiply_panel(forward, matrix, p, in, r, lesser(in->count - r, PRODUCT_ROWS),
                           out + r * out_stride + p * width, out_stride, add);
}

static struct operands normed_operands(const struct forward *forward, const struct block *block,
                                       const struct passage *passage)
{
    size_t bytes = forward->weights->format->operand_bytes(forward->weights->model->width);
    return operands_of(forward, block, block->normed + passage->first * bytes, bytes, passage);
}

/* Queries, or keys and values, with their bias. */
static void project_rows(const struct forward *forward, struct block *block, const struct matrix *matrix,
                         const struct passage *passage)
{
    size_t columns = matrix_columns(matrix, forward->weights->kernels);
    struct operands in = normed_operands(forward, block, passage);
    float *out = block->projected + passage->first * columns;

    multiply_rows(forward, matrix, &in, out, columns, false);
    for (size_t r = 0; matrix->bias != NULL && r < passage->rows; r++)
        for (size_t c = 0; c < columns; c++)
            out[r * columns + c] += matrix->bias[c];
}

/* Adds a matrix's product with rows of floats to the residual stream. */
static void add_product(const struct forward *forward, struct block *block, const struct matrix *matrix,
                        const float *floats, size_t stride, const struct passage *passage)
{
    const struct format *format = forward->weights->format;
    float *out = block->hidden + passage->first * forward->hidden_stride;
    size_t bytes = format->operand_bytes(matrix->depth);
    struct operands in = operands_of(forward, block, block->operands, bytes, passage);

    floats += passage->first * stride;
    if (format->floats) {
        in.rows = (const uint8_t *)floats;
        in.stride = stride * sizeof *floats;
    }
    for (size_t r = 0; !format->floats && r < passage->rows; r++)
        take_row(forward, block, passage, passage->first + r, floats + r * stride, matrix->depth,
                 block->operands + r * bytes);
    multiply_rows(forward, matrix, &in, out, forward->hidden_stride, true);
}

static size_t row_of(const struct span *span, size_t i)
{
    return i + 1 == span->count ? span->last_row : span->row + i;
}

/* Puts one token's keys and values where attention finds them. */
static void keep_token(const struct forward *forward, struct block *block, const struct span *span, size_t i,
                       const float *projected, size_t values_column)
{
    const struct weights *weights = forward->weights;
    const struct model *model = weights->model;
    const struct format *format = weights->attention;
    size_t size = model->head_size, pairs = size / 2, panel = weights->kernels->panel;
    size_t token = span->token + i, place = token % CHUNK_TOKENS;
    uint8_t *tile = span->own + token / CHUNK_TOKENS * forward->tile_bytes;
    const float *cosines = forward->cosines + (span->position + token) * pairs;
    const float *sines = forward->sines + (span->position + token) * pairs;

    for (size_t head = 0; head < model->key_heads; head++) {
        uint8_t *keys = tile + (head * (CHUNK_TOKENS / panel) + place / panel) * forward->key_panel_bytes;
        uint8_t *values = tile + forward->values_offset + head * forward->value_panels * forward->value_panel_bytes;
        weights->kernels->rotate(projected + head * size, cosines, sines, pairs, 1.0f, block->row);
        format->put_column(keys, size, place % panel, block->row);
        for (size_t c = 0; c < size; c += panel)
            format->put_row(values + c / panel * forward->value_panel_bytes, place,
                            projected + values_column + head * size + c, lesser(size - c, panel));
    }
}

void forward_enter(struct forward *forward, struct block *block, size_t layer, const struct passage *passage)
{
    const struct weights *weights = forward->weights;
    const struct matrix *matrix = &weights->layers[layer].key_value;
    size_t columns = matrix_columns(matrix, weights->kernels), panel = weights->kernels->panel;
    size_t values = (weights->model->key_heads * weights->model->head_size + panel - 1) / panel * panel;

    norm_rows(forward, block, passage, layer);
    project_rows(forward, block, matrix, passage);
    for (size_t i = 0; i < passage->span_count; i++) {
        const struct span *span = &passage->spans[i];
        for (size_t j = 0; j < span->count; j++)
            keep_token(forward, block, span, j, block->projected + row_of(span, j) * columns, values);
    }
}

/* Operands of the queries, rotated and scaled, those of a key head together, token by token in the spans' order. */
static void take_queries(const struct forward *forward, struct block *block, const struct passage *passage,
                         size_t columns)
{
    const struct weights *weights = forward->weights;
    const struct model *model = weights->model;
    size_t size = model->head_size, pairs = size / 2, group = model->heads / model->key_heads;
    size_t bytes = weights->attention->operand_bytes(size), place = 0;
    float scale = (float)(1.0 / sqrt((double)size));

    for (size_t i = 0; i < passage->span_count; i++)
        for (size_t j = 0; j < passage->spans[i].count; j++, place++) {
            const struct span *span = &passage->spans[i];
            const float *row = block->projected + row_of(span, j) * columns;
            size_t position = span->position + span->token + j;
            for (size_t head = 0; head < model->heads; head++) {
                size_t slot = (head / group * block->rows + place) * group + head % group;
                weights->kernels->rotate(row + head * size, forward->cosines + position * pairs,
                                         forward->sines + position * pairs, pairs, scale, block->row);
                weights->attention->take(block->row, size, block->queries + slot * bytes);
            }
        }
}

static void gate_rows(const struct forward *forward, struct block *block, const struct layer_weights *layer,
                      const struct passage *passage, size_t first, size_t rows)
{
    const struct kernels *kernels = forward->weights->kernels;
    struct operands in = normed_operands(forward, block, passage);
    size_t panel = kernels->panel, columns = matrix_columns(&layer->gate, kernels);

    for (size_t p = 0; p < columns / panel; p++)
        for (size_t r = first; r < first + rows; r += GATE_ROWS) {
            size_t count = lesser(first + rows - r, GATE_ROWS);
            float *gated = block->gated + (passage->first + r) * columns + p * panel;
            multiply_panel(forward, &layer->gate, p, &in, r, count, block->gate, panel, false);
            multiply_panel(forward, &layer->up, p, &in, r, count, block->up, panel, false);
            for (size_t i = 0; i < count; i++)
                kernels->gate(block->gate + i * panel, block->up + i * panel, gated + i * columns);
        }
}

void forward_finish(struct forward *forward, struct block *block, size_t layer, const struct passage *passage,
                    bool normed)
{
    const struct kernels *kernels = forward->weights->kernels;
    const struct layer_weights *weights = &forward->weights->layers[layer];

    if (!normed)
        norm_rows(forward, block, passage, layer);
    project_rows(forward, block, &weights->query, passage);
    take_queries(forward, block, passage, matrix_columns(&weights->query, kernels));
    attention_run(forward, block, layer, passage);
    add_product(forward, block, &weights->attention_output, block->attended, weights->attention_output.depth, passage);

    norm_rows(forward, block, passage, layer + 1);
    for (size_t r = 0; r < passage->rows; r += PRODUCT_ROWS)
        gate_rows(forward, block, weights, passage, r, lesser(passage->rows - r, PRODUCT_ROWS));
    add_product(forward, block, &weights->down, block->gated, matrix_columns(&weights->gate, kernels), passage);
}

int forward_check(struct forward *forward, struct error *err)
{
    size_t layers = atomic_exchange(&forward->broken, SIZE_MAX);
    if (layers == SIZE_MAX)
        return 0;
    return error_set(err, ERROR_FATAL,
                     "a hidden state is not finite after layer %zu of %zu: the model's weights are broken or "
                     "overflow in float",
                     layers, forward->weights->model->layer_count);
}

static int make_rotations(struct forward *forward, struct error *err)
{
    const struct model *model = forward->weights->model;
    size_t pairs = model->head_size / 2;

    forward->cosines = lines_allocate(model->context * pairs * sizeof *forward->cosines);
    forward->sines = lines_allocate(model->context * pairs * sizeof *forward->sines);
    if (forward->cosines == NULL || forward->sines == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the rotations of %zu positions", model->context);

    for (size_t i = 0; i < pairs; i++) {
        double frequency = pow(model->rope_base, -2.0 * (double)i / (double)model->head_size);
        if (model->rope_factors != NULL)
            frequency /= (double)model->rope_factors[i];
        for (size_t position = 0; position < model->context; position++) {
            forward->cosines[position * pairs + i] = (float)cos((double)position * frequency);
            forward->sines[position * pairs + i] = (float)sin((double)position * frequency);
        }
    }
    return 0;
}

int forward_create(struct forward *forward, const struct weights *weights, struct error *err)
{
    const struct model *model = weights->model;
    size_t panel = weights->kernels->panel;

    *forward = (struct forward){.weights = weights, .broken = SIZE_MAX};
    forward->hidden_stride = (model->width + panel - 1) / panel * panel;
    forward->key_panel_bytes = weights->attention->panel_bytes(model->head_size);
    forward->value_panel_bytes = weights->attention->panel_bytes(CHUNK_TOKENS);
    forward->value_panels = (model->head_size + panel - 1) / panel;
    forward->values_offset = model->key_heads * (CHUNK_TOKENS / panel) * forward->key_panel_bytes;
    forward->tile_bytes =
        forward->values_offset + model->key_heads * forward->value_panels * forward->value_panel_bytes;
    return make_rotations(forward, err);
}

void forward_free(struct forward *forward)
{
    free(forward->cosines);
    free(forward->sines);
    *forward = (struct forward){0};
}

static void free_rows(struct block *block)
{
    free(block->hidden);
    free(block->normed);
    free(block->projected);
    free(block->queries);
    free(block->attended);
    free(block->gated);
    free(block->operands);
    free(block->rests);
    free(block->gate);
    free(block->up);
    free(block->row);
    *block = (struct block){.columns = block->columns, .scores = block->scores, .shares = block->shares};
}

void block_free(struct block *block)
{
    free_rows(block);
    free(block->scores);
    free(block->shares);
    *block = (struct block){0};
}

static int reserve_rows(struct block *block, const struct forward *forward, size_t rows, struct error *err)
{
    const struct weights *weights = forward->weights;
    const struct format *format = weights->format;
    const struct model *model = weights->model;
    const struct layer_weights *layer = &weights->layers[0];
    size_t panel = weights->kernels->panel, query_width = model->heads * model->head_size;
    size_t keys = matrix_columns(&layer->key_value, weights->kernels);
    size_t queries = matrix_columns(&layer->query, weights->kernels);
    size_t gated = matrix_columns(&layer->gate, weights->kernels);
    size_t deepest = query_width > model->hidden ? query_width : model->hidden;
    deepest = deepest > model->width ? deepest : model->width;
    size_t row = model->width > model->head_size ? model->width : model->head_size;

    free_rows(block);
    block->hidden = lines_allocate(rows * forward->hidden_stride * sizeof(float));
    block->normed = lines_allocate(rows * format->operand_bytes(model->width));
    block->projected = lines_allocate(rows * (keys > queries ? keys : queries) * sizeof(float));
    block->queries = lines_allocate(rows * model->heads * weights->attention->operand_bytes(model->head_size));
    block->attended = lines_allocate(rows * query_width * sizeof(float));
    block->gated = lines_allocate(rows * gated * sizeof(float));
    block->operands = lines_allocate(format->floats ? 0 : rows * format->operand_bytes(deepest));
    block->rests = lines_allocate(format->take_rest == NULL ? 0 : rows * format->operand_bytes(deepest));
    block->gate = lines_allocate(GATE_ROWS * panel * sizeof(float));
    block->up = lines_allocate(GATE_ROWS * panel * sizeof(float));
    block->row = lines_allocate((row + panel) * sizeof(float));
    if (block->hidden == NULL || block->normed == NULL || block->projected == NULL || block->queries == NULL ||
        block->attended == NULL || block->gated == NULL || block->operands == NULL || block->rests == NULL ||
        block->gate == NULL || block->up == NULL || block->row == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu rows of activations", rows);
    memset(block->hidden, 0, rows * forward->hidden_stride * sizeof(float));
    block->rows = rows;
    return 0;
}

int block_reserve(struct block *block, const struct forward *forward, size_t rows, size_t tiles, struct error *err)
{
    const struct format *attention = forward->weights->attention;
    size_t columns = tiles * CHUNK_TOKENS;

    if (rows > block->rows && reserve_rows(block, forward, rows, err) != 0)
        return -1;
    if (columns <= block->columns)
        return 0;
    free(block->scores);
    free(block->shares);
    block->columns = 0;
    block->scores = lines_allocate(KERNELS_TILE * columns * sizeof(float));
    block->shares = lines_allocate(attention->floats ? 0 : KERNELS_TILE * attention->operand_bytes(columns));
    if (block->scores == NULL || block->shares == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for attention over %zu keys", columns);
    block->columns = columns;
    return 0;
}
