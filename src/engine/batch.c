#include "engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

void batch_free(struct batch *batch)
{
    free(batch->candidates);
    free(batch->hidden);
    free(batch->spans);
    free(batch->stretches);
    free(batch->key_values);
    *batch = (struct batch){0};
}

static int reserve_floats(float **floats, size_t *capacity, size_t count)
{
    if (count <= *capacity)
        return 0;
    free(*floats);
    *floats = floats_allocate(count);
    *capacity = *floats == NULL ? 0 : count;
    return *floats == NULL ? -1 : 0;
}

static void lay_out_spans(struct batch *batch)
{
    size_t row = batch->count, spans = batch->count;

    for (size_t i = 0; i < batch->count; i++) {
        const struct candidate *candidate = &batch->candidates[i];
        size_t others = candidate->length - 1;
        batch->spans[i] = (struct span){.row = i, .count = 1, .token = others, .own = candidate->own};
        for (size_t token = 0; token < others; token += SPAN_TOKENS) {
            size_t count = others - token < SPAN_TOKENS ? others - token : SPAN_TOKENS;
            batch->spans[spans++] = (struct span){row, count, token, candidate->own};
            row += count;
        }
    }
    batch->span_count = spans;
    batch->rows = row;
}

static void embed(struct batch *batch, const struct model *model, const int32_t *tokens, const size_t *offsets)
{
    for (size_t i = 0; i < batch->span_count; i++) {
        const struct span *span = &batch->spans[i];
        const struct candidate *candidate = &batch->candidates[span->own - batch->stretches];
        const int32_t *ids = tokens + offsets[candidate->index] + span->token;
        for (size_t j = 0; j < span->count; j++)
            tensor_row(model->embedding, (size_t)ids[j], batch->hidden + (span->row + j) * model->width);
    }
}

int batch_start(struct batch *batch, const struct forward *forward, const int32_t *tokens, const size_t *offsets,
                size_t first, size_t count, struct error *err)
{
    const struct weights *weights = forward->weights;
    size_t rows = offsets[first + count] - offsets[first], spans = 2 * count + rows / SPAN_TOKENS, floats = 0;

    for (size_t i = 0; i < count; i++)
        floats += stretch_floats(weights, offsets[first + i + 1] - offsets[first + i]);
    if (array_reserve(&batch->candidates, &batch->candidate_capacity, count, sizeof *batch->candidates) != 0 ||
        array_reserve(&batch->stretches, &batch->stretch_capacity, count, sizeof *batch->stretches) != 0 ||
        array_reserve(&batch->spans, &batch->span_capacity, spans, sizeof *batch->spans) != 0 ||
        reserve_floats(&batch->hidden, &batch->hidden_capacity, rows * weights->model->width) != 0 ||
        reserve_floats(&batch->key_values, &batch->key_value_capacity, floats) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu candidates of %zu tokens in all", count, rows);

    float *place = batch->key_values;
    for (size_t i = 0; i < count; i++) {
        size_t length = offsets[first + i + 1] - offsets[first + i];
        stretch_place(&batch->stretches[i], weights, length, place);
        place += stretch_floats(weights, length);
        batch->candidates[i] = (struct candidate){first + i, length, &batch->stretches[i], false};
    }
    batch->count = count;
    lay_out_spans(batch);
    embed(batch, weights->model, tokens, offsets);
    return 0;
}

/* Every row moves towards the front, so that going through them in order never overwrites one that is still needed. */
void batch_compact(struct batch *batch, const struct model *model)
{
    size_t width = model->width, kept = 0, to = 0, from = batch->count;

    for (size_t i = 0; i < batch->count; i++)
        if (!batch->candidates[i].leaves)
            memmove(batch->hidden + to++ * width, batch->hidden + i * width, width * sizeof(float));
    for (size_t i = 0; i < batch->count; i++) {
        struct candidate candidate = batch->candidates[i];
        size_t others = candidate.length - 1;
        if (!candidate.leaves) {
            memmove(batch->hidden + to * width, batch->hidden + from * width, others * width * sizeof(float));
            to += others;
            batch->candidates[kept++] = candidate;
        }
        from += others;
    }
    batch->count = kept;
    lay_out_spans(batch);
}

struct passage batch_all(const struct batch *batch, const struct stretch *before)
{
    return (struct passage){batch->hidden, 0, batch->rows, batch->spans, batch->span_count, before};
}

struct passage batch_last_tokens(const struct batch *batch, const struct stretch *before)
{
    return (struct passage){batch->hidden, 0, batch->count, batch->spans, batch->count, before};
}

struct passage batch_other_tokens(const struct batch *batch, const struct stretch *before)
{
    return (struct passage){
        .hidden = batch->hidden,
        .first = batch->count,
        .rows = batch->rows - batch->count,
        .spans = batch->spans + batch->count,
        .span_count = batch->span_count - batch->count,
        .before = before,
    };
}
