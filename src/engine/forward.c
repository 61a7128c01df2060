#include "engine/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NORM_ROWS = 32,     /* of a norm task */
    PRODUCT_ROWS = 240, /* of a product task; a multiple of every kernel's tile */
    GATE_ROWS = 48,     /* whose two panels of gate and up stay in the first-level cache; divides PRODUCT_ROWS */
    PRODUCT_GATES = PRODUCT_ROWS / GATE_ROWS,
};
_Static_assert(PRODUCT_GATES *GATE_ROWS == PRODUCT_ROWS, "gate blocks fill a product task");

struct norm_job {
    struct forward *forward;
    const struct passage *passage;
    const float *gain;
};

struct product_job {
    struct forward *forward;
    const struct matrix *matrix;
    const struct matrix *up; /* of gate_task, where `matrix` is the gate */
    const float *in;         /* row 0 of the passage's range */
    float *out;
    size_t rows;
    size_t panels;
    bool add;
};

struct attention_job {
    struct forward *forward;
    const struct passage *passage;
    const struct model_layer *layer; /* its biases */
};

size_t stretch_floats(const struct weights *weights, size_t length)
{
    size_t panel = weights->kernels->panel;
    size_t capacity = (length + panel - 1) / panel * panel;
    return 2 * capacity * weights->model->key_heads * weights->model->head_size + panel;
}

void stretch_place(struct stretch *stretch, const struct weights *weights, size_t length, float *floats)
{
    size_t panel = weights->kernels->panel;
    size_t capacity = (length + panel - 1) / panel * panel;
    size_t width = weights->model->key_heads * weights->model->head_size;
    *stretch = (struct stretch){floats, floats + capacity * width, capacity, length};
}

static float *keys_of(const struct stretch *stretch, const struct model *model, size_t head)
{
    return stretch->keys + head * stretch->capacity * model->head_size;
}

static float *values_of(const struct stretch *stretch, const struct model *model, size_t head)
{
    return stretch->values + head * stretch->capacity * model->head_size;
}

static void norm_task(void *argument, size_t index, size_t worker)
{
    const struct norm_job *job = argument;
    const struct model *model = job->forward->weights->model;
    const struct passage *passage = job->passage;
    size_t first = passage->first + index * NORM_ROWS;
    size_t end = passage->first + passage->rows;
    (void)worker;

    for (size_t row = first; row < end && row < first + NORM_ROWS; row++) {
        const float *in = passage->hidden + row * model->width;
        float *out = job->forward->normed + row * model->width;
        float mean = job->forward->weights->kernels->norm(in, job->gain, model->width, (float)model->norm_epsilon, out);
        if (!isfinite(mean))
            atomic_store_explicit(&job->forward->broken, true, memory_order_relaxed);
    }
}

static void norm_rows(struct forward *forward, const struct passage *passage, const float *gain)
{
    struct norm_job job = {forward, passage, gain};
    pool_run(forward->pool, (passage->rows + NORM_ROWS - 1) / NORM_ROWS, norm_task, &job);
}

static void product_task(void *argument, size_t index, size_t worker)
{
    const struct product_job *job = argument;
    const struct matrix *matrix = job->matrix;
    const struct kernels *kernels = job->forward->weights->kernels;
    size_t column = index % job->panels * kernels->panel;
    size_t row = index / job->panels * PRODUCT_ROWS;
    size_t columns = matrix->outputs - column < kernels->panel ? matrix->outputs - column : kernels->panel;
    size_t rows = job->rows - row < PRODUCT_ROWS ? job->rows - row : PRODUCT_ROWS;
    (void)worker;

    kernels->multiply(matrix->panels + column * matrix->depth, matrix->depth, job->in + row * matrix->depth,
                      matrix->depth, rows, job->out + row * matrix->outputs + column, matrix->outputs, columns,
                      job->add);
}

/* One panel of gate and the same of up, multiplied into scratch and combined there. */
static void gate_task(void *argument, size_t index, size_t worker)
{
    const struct product_job *job = argument;
    const struct matrix *gate = job->matrix;
    const struct kernels *kernels = job->forward->weights->kernels;
    size_t panel = kernels->panel, depth = gate->depth;
    size_t column = index % job->panels * panel;
    size_t columns = gate->outputs - column < panel ? gate->outputs - column : panel;
    size_t first = index / job->panels * PRODUCT_ROWS;
    float *gates = job->forward->scratch + worker * job->forward->scratch_size;
    float *ups = gates + GATE_ROWS * panel;

    for (size_t row = first; row < job->rows && row < first + PRODUCT_ROWS; row += GATE_ROWS) {
        size_t rows = job->rows - row < GATE_ROWS ? job->rows - row : GATE_ROWS;
        const float *in = job->in + row * depth;
        kernels->multiply(gate->panels + column * depth, depth, in, depth, rows, gates, panel, panel, false);
        kernels->multiply(job->up->panels + column * depth, depth, in, depth, rows, ups, panel, panel, false);
        kernels->gate(gates, ups, rows * panel);
        for (size_t r = 0; r < rows; r++)
            memcpy(job->out + (row + r) * gate->outputs + column, gates + r * panel, columns * sizeof *gates);
    }
}

static void run_product(struct product_job *job, void (*task)(void *, size_t, size_t))
{
    size_t panel = job->forward->weights->kernels->panel;
    job->panels = (job->matrix->outputs + panel - 1) / panel;
    pool_run(job->forward->pool, job->panels * ((job->rows + PRODUCT_ROWS - 1) / PRODUCT_ROWS), task, job);
}

/* out = in * matrix, or added to it; both hold rows from row 0 on, as wide as the matrix says. */
static void multiply_rows(struct forward *forward, const struct passage *passage, const struct matrix *matrix,
                          const float *in, float *out, bool add)
{
    struct product_job job = {
        .forward = forward,
        .matrix = matrix,
        .in = in + passage->first * matrix->depth,
        .out = out + passage->first * matrix->outputs,
        .rows = passage->rows,
        .add = add,
    };
    run_product(&job, product_task);
}

static void gate_rows(struct forward *forward, const struct passage *passage, const struct layer_weights *layer)
{
    struct product_job job = {
        .forward = forward,
        .matrix = &layer->gate,
        .up = &layer->up,
        .in = forward->normed + passage->first * layer->gate.depth,
        .out = forward->gated + passage->first * layer->gate.outputs,
        .rows = passage->rows,
    };
    run_product(&job, gate_task);
}

/* Rotary position on interleaved pairs. */
static void rotate(const struct forward *forward, float *vector, size_t position, float scale)
{
    size_t pairs = forward->weights->model->head_size / 2;
    const float *cosines = forward->cosines + position * pairs;
    const float *sines = forward->sines + position * pairs;

    for (size_t i = 0; i < pairs; i++) {
        float x = vector[2 * i], y = vector[2 * i + 1];
        vector[2 * i] = (x * cosines[i] - y * sines[i]) * scale;
        vector[2 * i + 1] = (x * sines[i] + y * cosines[i]) * scale;
    }
}

/* Of a head, before it is rotated; NULL: the model has none. */
static void add_bias(const float *bias, size_t head, size_t size, float *vector)
{
    for (size_t i = 0; bias != NULL && i < size; i++)
        vector[i] += bias[head * size + i];
}

/* Puts a span's keys and values where attention finds them. */
static void keep_task(void *argument, size_t index, size_t worker)
{
    const struct attention_job *job = argument;
    struct forward *forward = job->forward;
    const struct model *model = forward->weights->model;
    const struct span *span = &job->passage->spans[index];
    size_t before = job->passage->before == NULL ? 0 : job->passage->before->length;
    size_t panel = forward->weights->kernels->panel, size = model->head_size, width = model->key_heads * size;
    (void)worker;

    for (size_t i = 0; i < span->count; i++) {
        float *row = forward->key_value + (span->row + i) * 2 * width;
        size_t token = span->token + i;
        for (size_t head = 0; head < model->key_heads; head++) {
            float *key = row + head * size, *value = row + width + head * size;
            add_bias(job->layer->key_bias, head, size, key);
            add_bias(job->layer->value_bias, head, size, value);
            rotate(forward, key, before + token, 1.0f);
            float *to = keys_of(span->own, model, head) + token / panel * panel * size + token % panel;
            for (size_t k = 0; k < size; k++)
                to[k * panel] = key[k];
            memcpy(values_of(span->own, model, head) + token * size, value, size * sizeof *value);
        }
    }
}

/* Scores of `rows` queries on one stretch's first `count` tokens, and on up to a panel of others behind them. */
static void score_keys(const struct forward *forward, const struct stretch *stretch, size_t key_head, size_t count,
                       const float *queries, size_t rows, float *scores, size_t score_stride)
{
    const struct kernels *kernels = forward->weights->kernels;
    const struct model *model = forward->weights->model;
    const float *keys = keys_of(stretch, model, key_head);

    for (size_t key = 0; key < count; key += kernels->panel)
        kernels->multiply(keys + key * model->head_size, model->head_size, queries, model->heads * model->head_size,
                          rows, scores + key, score_stride, kernels->panel, false);
}

/* One query head over a tile of `rows` tokens: the first is `token` of its sequence and lies in row `row`. */
static void attend(const struct forward *forward, const struct stretch *before, const struct stretch *own, size_t row,
                   size_t token, size_t rows, size_t head, float *scores)
{
    const struct kernels *kernels = forward->weights->kernels;
    const struct model *model = forward->weights->model;
    size_t size = model->head_size, stride = model->heads * size;
    size_t key_head = head / (model->heads / model->key_heads);
    size_t past = before == NULL ? 0 : before->length;
    size_t seen = token + rows; /* by the last row; what the others may not see gets weight 0 */
    size_t score_stride = past + seen + 2 * kernels->panel;
    const float *queries = forward->query + row * stride + head * size;
    float *out = forward->attended + row * stride + head * size;
    float sums[KERNELS_MAX_TILE];

    if (before != NULL)
        score_keys(forward, before, key_head, past, queries, rows, scores, score_stride);
    score_keys(forward, own, key_head, seen, queries, rows, scores + past, score_stride);
    for (size_t r = 0; r < rows; r++) {
        sums[r] = kernels->soften(scores + r * score_stride, past + token + r + 1, past + seen);
        memset(out + r * stride, 0, size * sizeof *out);
    }

    if (before != NULL)
        kernels->weigh(scores, score_stride, rows, values_of(before, model, key_head), past, out, stride, size);
    kernels->weigh(scores + past, score_stride, rows, values_of(own, model, key_head), seen, out, stride, size);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < size; k++)
            out[r * stride + k] /= sums[r];
}

static void attention_task(void *argument, size_t index, size_t worker)
{
    const struct attention_job *job = argument;
    struct forward *forward = job->forward;
    const struct model *model = forward->weights->model;
    const struct stretch *before = job->passage->before;
    const struct span *span = &job->passage->spans[index / model->heads];
    size_t head = index % model->heads, size = model->head_size, tile = forward->weights->kernels->tile;
    size_t past = before == NULL ? 0 : before->length;
    float scale = (float)(1.0 / sqrt((double)size));
    float *scores = forward->scratch + worker * forward->scratch_size;

    for (size_t i = 0; i < span->count; i++) {
        float *query = forward->query + ((span->row + i) * model->heads + head) * size;
        add_bias(job->layer->query_bias, head, size, query);
        rotate(forward, query, past + span->token + i, scale);
    }
    for (size_t i = 0; i < span->count; i += tile)
        attend(forward, before, span->own, span->row + i, span->token + i,
               span->count - i < tile ? span->count - i : tile, head, scores);
}

static int check_finite(struct forward *forward, size_t layer, struct error *err)
{
    if (!atomic_exchange_explicit(&forward->broken, false, memory_order_relaxed))
        return 0;
    return error_set(err, ERROR_FATAL,
                     "a hidden state is not finite after layer %zu of %zu: the model's weights are broken or "
                     "overflow in float",
                     layer, forward->weights->model->layer_count);
}

int forward_enter(struct forward *forward, size_t layer, const struct passage *passage, struct error *err)
{
    const struct layer_weights *weights = &forward->weights->layers[layer];
    struct attention_job job = {forward, passage, &forward->weights->model->layers[layer]};

    norm_rows(forward, passage, weights->attention_norm);
    multiply_rows(forward, passage, &weights->key_value, forward->normed, forward->key_value, false);
    pool_run(forward->pool, passage->span_count, keep_task, &job);
    return check_finite(forward, layer, err);
}

int forward_finish(struct forward *forward, size_t layer, const struct passage *passage, struct error *err)
{
    const struct layer_weights *weights = &forward->weights->layers[layer];
    struct attention_job job = {forward, passage, &forward->weights->model->layers[layer]};

    norm_rows(forward, passage, weights->attention_norm);
    multiply_rows(forward, passage, &weights->query, forward->normed, forward->query, false);
    pool_run(forward->pool, passage->span_count * forward->weights->model->heads, attention_task, &job);
    multiply_rows(forward, passage, &weights->attention_output, forward->attended, passage->hidden, true);

    norm_rows(forward, passage, weights->mlp_norm);
    gate_rows(forward, passage, weights);
    multiply_rows(forward, passage, &weights->down, forward->gated, passage->hidden, true);
    forward->token_layers += passage->rows;
    return check_finite(forward, layer + 1, err);
}

static int make_rotations(struct forward *forward, struct error *err)
{
    const struct model *model = forward->weights->model;
    size_t pairs = model->head_size / 2;

    forward->cosines = floats_allocate(model->context * pairs);
    forward->sines = floats_allocate(model->context * pairs);
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

int forward_create(struct forward *forward, const struct weights *weights, struct pool *pool, struct error *err)
{
    *forward = (struct forward){.weights = weights, .pool = pool};
    return make_rotations(forward, err);
}

static void free_rows(struct forward *forward)
{
    free(forward->normed);
    free(forward->key_value);
    free(forward->query);
    free(forward->attended);
    free(forward->gated);
    forward->normed = forward->key_value = forward->query = forward->attended = forward->gated = NULL;
    forward->row_capacity = 0;
}

void forward_free(struct forward *forward)
{
    free_rows(forward);
    free(forward->scratch);
    free(forward->cosines);
    free(forward->sines);
    *forward = (struct forward){0};
}

static int reserve_rows(struct forward *forward, size_t rows, struct error *err)
{
    const struct model *model = forward->weights->model;
    size_t query_width = model->heads * model->head_size;

    if (rows <= forward->row_capacity)
        return 0;
    free_rows(forward);
    forward->normed = floats_allocate(rows * model->width);
    forward->key_value = floats_allocate(rows * 2 * model->key_heads * model->head_size);
    forward->query = floats_allocate(rows * query_width);
    forward->attended = floats_allocate(rows * query_width);
    forward->gated = floats_allocate(rows * model->hidden);
    if (forward->normed == NULL || forward->key_value == NULL || forward->query == NULL || forward->attended == NULL ||
        forward->gated == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu rows of activations", rows);
    forward->row_capacity = rows;
    return 0;
}

int forward_reserve(struct forward *forward, size_t rows, size_t keys, struct error *err)
{
    const struct kernels *kernels = forward->weights->kernels;
    size_t scores = kernels->tile * (keys + 2 * kernels->panel);
    size_t gates = 2 * GATE_ROWS * kernels->panel;
    size_t size = scores > gates ? scores : gates;

    if (reserve_rows(forward, rows, err) != 0)
        return -1;
    if (size <= forward->scratch_size)
        return 0;
    free(forward->scratch);
    forward->scratch_size = 0;
    forward->scratch = floats_allocate(size * pool_threads(forward->pool));
    if (forward->scratch == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for attention over %zu keys", keys);
    forward->scratch_size = size;
    return 0;
}
