#include "engine/cpu/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STEP_ROWS = 24, /* that go past a panel at once, while a piece of the next panel is fetched; in the MLP, so many
                       rows of gate and up stay in the first-level cache */
    CACHE_LINE = 64,
};
_Static_assert(STEP_ROWS % KERNELS_TILE == 0, "whole tiles");

static size_t lesser(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t greater(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void note_broken(struct forward *forward, size_t layers)
{
    size_t seen = atomic_load(&forward->broken);
    while (layers < seen && !atomic_compare_exchange_weak(&forward->broken, &seen, layers))
        ;
}

/* Operands of a passage's rows; the last `precise` have a second one. */
struct operands {
    const uint8_t *rows;
    const uint8_t *rests; /* of the first precise row */
    size_t stride;        /* bytes */
    size_t count, precise;
};

static struct operands operands_of(const struct forward *forward, const uint8_t *rows, const uint8_t *rests,
                                   size_t stride, const struct passage *passage)
{
    return (struct operands){rows, rests, stride, passage->rows,
                             forward->weights->format->take_rest == NULL ? 0 : passage->precise};
}

/* Values first .. first + count - 1 of an operand, of row `row` of a passage's rows; `rests` as in struct operands. */
static void take_values(const struct forward *forward, const struct passage *passage, size_t row, const float *values,
                        size_t depth, size_t first, size_t count, uint8_t *operand, uint8_t *rests)
{
    const struct format *format = forward->weights->format;
    size_t precise = passage->rows - passage->precise;

    format->take(values, depth, first, count, operand);
    if (row >= precise && format->take_rest != NULL)
        format->take_rest(values, depth, first, count, operand, rests + (row - precise) * format->operand_bytes(depth));
}

/* Operands from the residual stream; `layers` are behind it. */
static void norm_rows(struct forward *forward, struct block *block, const struct passage *passage, size_t layers)
{
    const struct weights *weights = forward->weights;
    size_t width = weights->model->width, bytes = weights->format->operand_bytes(width);

    for (size_t i = 0; i < passage->rows; i++) {
        size_t r = passage->first + i;
        const float *in = block->hidden + r * forward->hidden_stride;
        float mean = weights->kernels->norm(in, width, (float)weights->model->norm_epsilon, block->row);
        if (!isfinite(mean))
            note_broken(forward, layers);
        take_values(forward, passage, i, block->row, width, 0, width, block->normed + r * bytes, block->rests);
    }
}

/* A panel made ready for its products, in the block's place `slot` if it must be widened. */
static const void *ready_panel(const struct forward *forward, struct block *block, const struct matrix *matrix,
                               size_t panel, size_t slot)
{
    const struct format *format = forward->weights->format;
    const uint8_t *weights = matrix->panels + panel * matrix->panel_bytes;

    if (format->widen == NULL)
        return weights;
    format->widen(weights, matrix->depth, block->widened[slot]);
    return block->widened[slot];
}

/* The panel's product with rows first .. first + rows - 1 of the operands; `out` is that of row `first`. */
static void multiply_panel(const struct forward *forward, const void *panel, size_t depth, const struct operands *in,
                           size_t first, size_t rows, float *out, size_t out_stride, bool add,
                           const struct ahead *ahead)
{
    const struct weights *weights = forward->weights;
    const struct format *format = weights->format->widen == NULL ? weights->format : weights->kernels->floats;
    size_t precise = in->count - in->precise;

    format->multiply(panel, depth, in->rows + first * in->stride, in->stride, rows, out, out_stride, add, ahead);
    if (first + rows <= precise)
        return;
    size_t from = first > precise ? first : precise;
    format->multiply(panel, depth, in->rests + (from - precise) * in->stride, in->stride, first + rows - from,
                     out + (from - first) * out_stride, out_stride, true, NULL);
}

/* What `step` of `steps` fetches of so many bytes. */
static struct ahead share_ahead(const uint8_t *bytes, size_t count, size_t step, size_t steps)
{
    size_t start = count * step / steps / CACHE_LINE * CACHE_LINE;
    size_t end = step + 1 == steps ? count : count * (step + 1) / steps / CACHE_LINE * CACHE_LINE;
    return (struct ahead){bytes + start, end - start};
}

static void multiply_rows(const struct forward *forward, struct block *block, const struct matrix *matrix,
                          const struct operands *in, float *out, size_t out_stride, bool add)
{
    size_t width = forward->weights->kernels->panel, bytes = matrix->panel_bytes;

    for (size_t r = 0; r < in->count; r += BLOCK_MOST_ROWS) {
        size_t end = lesser(in->count, r + BLOCK_MOST_ROWS), steps = (end - r + STEP_ROWS - 1) / STEP_ROWS;
        for (size_t p = 0; p < matrix->columns / width; p++) {
            const void *panel = ready_panel(forward, block, matrix, p, 0);
            for (size_t i = 0; i < steps; i++) {
                size_t row = r + i * STEP_ROWS;
                struct ahead ahead = share_ahead(matrix->panels + (p + 1) * bytes, bytes, i, steps);
                multiply_panel(forward, panel, matrix->depth, in, row, lesser(end - row, STEP_ROWS),
                               out + row * out_stride + p * width, out_stride, add, &ahead);
            }
        }
    }
}

static struct operands normed_operands(const struct forward *forward, const struct block *block,
                                       const struct passage *passage)
{
    size_t bytes = forward->weights->format->operand_bytes(forward->weights->model->width);
    return operands_of(forward, block->normed + passage->first * bytes, block->rests, bytes, passage);
}

/* Queries, or keys and values, with their bias. */
static void project_rows(const struct forward *forward, struct block *block, const struct matrix *matrix,
                         const struct passage *passage)
{
    struct operands in = normed_operands(forward, block, passage);
    float *out = block->projected + passage->first * matrix->columns;

    multiply_rows(forward, block, matrix, &in, out, matrix->columns, false);
    for (size_t r = 0; matrix->bias != NULL && r < passage->rows; r++)
        for (size_t c = 0; c < matrix->columns; c++)
            out[r * matrix->columns + c] += matrix->bias[c];
}

/* Adds the product with what attention gave to the residual stream. */
static void add_attended(const struct forward *forward, struct block *block, const struct matrix *matrix,
                         const struct passage *passage)
{
    const struct format *format = forward->weights->format;
    const float *attended = block->attended + passage->first * matrix->depth;
    size_t bytes = format->operand_bytes(matrix->depth);
    struct operands in = operands_of(forward, block->operands, block->rests, bytes, passage);

    if (format->floats) {
        in.rows = (const uint8_t *)attended;
        in.stride = matrix->depth * sizeof *attended;
    } else {
        for (size_t i = 0; i < passage->rows; i++)
            take_values(forward, passage, i, attended + i * matrix->depth, matrix->depth, 0, matrix->depth,
                        block->operands + i * bytes, block->rests);
    }
    multiply_rows(forward, block, matrix, &in, block->hidden + passage->first * forward->hidden_stride,
                  forward->hidden_stride, true);
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
        format->put_row(values, CHUNK_TOKENS, place, projected + values_column + head * size, size);
    }
}

void forward_enter(struct forward *forward, struct block *block, size_t layer, const struct passage *passage)
{
    const struct weights *weights = forward->weights;
    const struct matrix *matrix = &weights->layers[layer].key_value;
    size_t panel = weights->kernels->panel;
    size_t values = (weights->model->key_heads * weights->model->head_size + panel - 1) / panel * panel;

    norm_rows(forward, block, passage, layer);
    project_rows(forward, block, matrix, passage);
    for (size_t i = 0; i < passage->span_count; i++) {
        const struct span *span = &passage->spans[i];
        for (size_t j = 0; j < span->count; j++)
            keep_token(forward, block, span, j, block->projected + row_of(span, j) * matrix->columns, values);
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
                weights->attention->take(block->row, size, 0, size, block->queries + slot * bytes);
            }
        }
}

/* A panel of gate and its panel of up, over some rows; `out` is that of row `first`. */
static void gate_panel(const struct forward *forward, struct block *block, const struct matrix *matrix, size_t pair,
                       const struct operands *in, size_t first, size_t rows, float *out, size_t out_stride)
{
    const struct kernels *kernels = forward->weights->kernels;
    const void *gate = ready_panel(forward, block, matrix, 2 * pair, 0);
    const void *up = ready_panel(forward, block, matrix, 2 * pair + 1, 1);
    const uint8_t *next = matrix->panels + (2 * pair + 2) * matrix->panel_bytes;
    size_t steps = (rows + STEP_ROWS - 1) / STEP_ROWS;

    for (size_t i = 0; i < steps; i++) {
        size_t row = i * STEP_ROWS, count = lesser(rows - row, STEP_ROWS);
        struct ahead ahead[2];
        for (size_t j = 0; j < 2; j++)
            ahead[j] = share_ahead(next, 2 * matrix->panel_bytes, 2 * i + j, 2 * steps);
        multiply_panel(forward, gate, matrix->depth, in, first + row, count, block->gate, kernels->panel, false,
                       &ahead[0]);
        multiply_panel(forward, up, matrix->depth, in, first + row, count, block->up, kernels->panel, false, &ahead[1]);
        for (size_t j = 0; j < count; j++)
            kernels->gate(block->gate + j * kernels->panel, block->up + j * kernels->panel,
                          out + (row + j) * out_stride);
    }
}

/* Gated values as operands: each section of them is rounded while it is in the cache. */
static struct operands gate_rows(const struct forward *forward, struct block *block, const struct matrix *matrix,
                                 const struct passage *passage)
{
    const struct format *format = forward->weights->format;
    struct operands in = normed_operands(forward, block, passage);
    size_t panel = forward->weights->kernels->panel, hidden = forward->weights->model->hidden;
    size_t columns = matrix->columns / 2, stride = format->floats ? columns : format->section;
    size_t bytes = format->floats ? stride * sizeof(float) : format->operand_bytes(hidden);

    for (size_t r = 0; r < passage->rows; r += BLOCK_MOST_ROWS) {
        size_t rows = lesser(passage->rows - r, BLOCK_MOST_ROWS);
        for (size_t c = 0; c < columns; c += panel) {
            float *out = block->gated + (format->floats ? r * stride + c : c % stride);
            size_t section = c / stride * stride;
            gate_panel(forward, block, matrix, c / panel, &in, r, rows, out, stride);
            if (format->floats || ((c + panel) % stride != 0 && c + panel < columns))
                continue;
            for (size_t i = 0; i < rows; i++)
                take_values(forward, passage, r + i, block->gated + i * stride, hidden, section,
                            lesser(hidden - section, stride), block->operands + (r + i) * bytes, block->gated_rests);
        }
    }
    return operands_of(forward, format->floats ? (const uint8_t *)block->gated : block->operands, block->gated_rests,
                       bytes, passage);
}

void forward_finish(struct forward *forward, struct block *block, size_t layer, const struct passage *passage,
                    bool normed)
{
    const struct layer_weights *weights = &forward->weights->layers[layer];

    if (!normed)
        norm_rows(forward, block, passage, layer);
    project_rows(forward, block, &weights->query, passage);
    take_queries(forward, block, passage, weights->query.columns);
    attention_run(forward, block, layer, passage);
    add_attended(forward, block, &weights->attention_output, passage);

    norm_rows(forward, block, passage, layer + 1);
    struct operands gated = gate_rows(forward, block, &weights->gate_up, passage);
    multiply_rows(forward, block, &weights->down, &gated, block->hidden + passage->first * forward->hidden_stride,
                  forward->hidden_stride, true);
}

int forward_check(struct forward *forward, struct error *err)
{
    size_t layers = atomic_exchange(&forward->broken, SIZE_MAX);
    if (layers == SIZE_MAX)
        return 0;
    return error_set(err, ERROR_BAD_INPUT,
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

/* A row of a model of width 576 needs about 8 KiB of it; which rows run together changes no number. */
static size_t choose_block_rows(void)
{
    long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    size_t rows = cache > 0 ? (size_t)cache / 8192 / STEP_ROWS * STEP_ROWS : BLOCK_LEAST_ROWS;
    return rows < BLOCK_LEAST_ROWS ? BLOCK_LEAST_ROWS : rows > BLOCK_MOST_ROWS ? BLOCK_MOST_ROWS : rows;
}

int forward_create(struct forward *forward, const struct weights *weights, struct error *err)
{
    const struct model *model = weights->model;
    size_t panel = weights->kernels->panel;

    *forward = (struct forward){.weights = weights, .broken = SIZE_MAX};
    forward->block_rows = choose_block_rows();
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

void block_free(struct block *block)
{
    free(block->hidden);
    free(block->normed);
    free(block->projected);
    free(block->queries);
    free(block->attended);
    free(block->gated);
    free(block->operands);
    free(block->rests);
    free(block->gated_rests);
    free(block->gate);
    free(block->up);
    free(block->widened[0]);
    free(block->widened[1]);
    free(block->row);
    free(block->keys);
    free(block->values);
    free(block->scores);
    free(block->softmaxes);
    free(block->out);
    *block = (struct block){0};
}

int block_reserve(struct block *block, const struct forward *forward, size_t rows, struct error *err)
{
    const struct weights *weights = forward->weights;
    const struct format *format = weights->format;
    const struct model *model = weights->model;
    const struct layer_weights *layer = &weights->layers[0];
    size_t group = model->heads / model->key_heads, out = forward->value_panels * weights->kernels->panel;
    size_t panel = weights->kernels->panel, query_width = model->heads * model->head_size;
    size_t projected = greater(layer->key_value.columns, layer->query.columns);
    size_t gated = format->floats ? layer->gate_up.columns / 2 : format->section;
    size_t hidden_operand = format->operand_bytes(greater(query_width, model->hidden));
    size_t rest = format->take_rest == NULL ? 0 : format->operand_bytes(greater(query_width, model->width));
    size_t widened = format->widen == NULL ? 0 : greater(model->width, greater(query_width, model->hidden)) * panel;

    if (rows <= block->rows)
        return 0;
    block_free(block);
    const struct {
        void *at;
        size_t bytes;
    } buffers[] = {
        {&block->hidden, rows * forward->hidden_stride * sizeof(float)},
        {&block->normed, rows * format->operand_bytes(model->width)},
        {&block->projected, rows * projected * sizeof(float)},
        {&block->queries, rows * model->heads * weights->attention->operand_bytes(model->head_size)},
        {&block->attended, rows * query_width * sizeof(float)},
        {&block->gated, rows * gated * sizeof(float)},
        {&block->operands, format->floats ? 0 : rows * hidden_operand},
        {&block->rests, rows * rest},
        {&block->gated_rests, format->take_rest == NULL ? 0 : rows * hidden_operand},
        {&block->gate, STEP_ROWS * panel * sizeof(float)},
        {&block->up, STEP_ROWS * panel * sizeof(float)},
        {&block->widened[0], (widened + panel) * sizeof(float)},
        {&block->widened[1], (widened + panel) * sizeof(float)},
        {&block->keys, (model->head_size + 1) * CHUNK_TOKENS * sizeof(float)},
        {&block->values, CHUNK_TOKENS * out * sizeof(float)},
        {&block->scores, KERNELS_TILE * CHUNK_TOKENS * sizeof(float)},
        {&block->softmaxes, rows * group * sizeof(struct softmax)},
        {&block->out, rows * group * out * sizeof(float)},
        {&block->row, (greater(model->width, model->head_size) + panel) * sizeof(float)},
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        void *memory = lines_allocate(buffers[i].bytes);
        if (memory == NULL)
            return error_set(err, ERROR_FATAL, "out of memory for %zu rows of activations", rows);
        memcpy(buffers[i].at, &memory, sizeof memory);
    }
    memset(block->hidden, 0, rows * forward->hidden_stride * sizeof(float));
    block->rows = rows;
    return 0;
}
