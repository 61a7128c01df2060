#include "engine/prefix.h"

#include <stdlib.h>

#include "base/buffer.h"

int prefix_create(struct prefix *prefix, const struct model *model, struct error *err)
{
    *prefix = (struct prefix){0};
    prefix->layers = calloc(model->layer_count, sizeof *prefix->layers);
    prefix->layer_capacities = calloc(model->layer_count, sizeof *prefix->layer_capacities);
    if (prefix->layers == NULL || prefix->layer_capacities == NULL) {
        free(prefix->layers);
        free(prefix->layer_capacities);
        *prefix = (struct prefix){0};
        return error_set(err, ERROR_FATAL, "out of memory for the prefix of %zu layers", model->layer_count);
    }
    prefix->layer_count = model->layer_count;
    return 0;
}

void prefix_free(struct prefix *prefix)
{
    for (size_t i = 0; i < prefix->layer_count; i++)
        free(prefix->layers[i].keys);
    free(prefix->layers);
    free(prefix->layer_capacities);
    free(prefix->hidden);
    free(prefix->spans);
    *prefix = (struct prefix){0};
}

int prefix_start(struct prefix *prefix, const struct forward *forward, const int32_t *tokens, size_t length,
                 struct error *err)
{
    const struct model *model = forward->weights->model;
    size_t floats = length * model->width;

    prefix->length = length;
    prefix->entered = prefix->finished = 0;
    if (floats > prefix->hidden_capacity) {
        free(prefix->hidden);
        prefix->hidden = floats_allocate(floats);
        prefix->hidden_capacity = prefix->hidden == NULL ? 0 : floats;
    }
    if (prefix->hidden == NULL ||
        array_reserve(&prefix->spans, &prefix->span_capacity, length / SPAN_TOKENS + 1, sizeof *prefix->spans) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for a prefix of %zu tokens", length);

    for (size_t i = 0; i < length; i++)
        tensor_row(model->embedding, (size_t)tokens[i], prefix->hidden + i * model->width);
    prefix->span_count = 0;
    for (size_t i = 0; i < length; i += SPAN_TOKENS)
        prefix->spans[prefix->span_count++] = (struct span){
            .row = i,
            .token = i,
            .count = length - i < SPAN_TOKENS ? length - i : SPAN_TOKENS,
        };
    return 0;
}

static int place_layer(struct prefix *prefix, const struct weights *weights, size_t layer, struct error *err)
{
    struct stretch *stretch = &prefix->layers[layer];
    size_t floats = stretch_floats(weights, prefix->length);

    if (floats > prefix->layer_capacities[layer]) {
        free(stretch->keys);
        stretch->keys = floats_allocate(floats);
        prefix->layer_capacities[layer] = stretch->keys == NULL ? 0 : floats;
        if (stretch->keys == NULL)
            return error_set(err, ERROR_FATAL, "out of memory for the keys of a prefix of %zu tokens", prefix->length);
    }
    stretch_place(stretch, weights, prefix->length, stretch->keys);
    return 0;
}

static struct passage passage_of(const struct prefix *prefix, size_t layer)
{
    for (size_t i = 0; i < prefix->span_count; i++)
        prefix->spans[i].own = &prefix->layers[layer];
    return (struct passage){
        .hidden = prefix->hidden,
        .rows = prefix->length,
        .spans = prefix->spans,
        .span_count = prefix->span_count,
    };
}

int prefix_enter(struct prefix *prefix, struct forward *forward, size_t layer, struct error *err)
{
    while (prefix->entered <= layer) {
        size_t next = prefix->entered;
        if (prefix_finish(prefix, forward, next, err) != 0 || place_layer(prefix, forward->weights, next, err) != 0)
            return -1;
        struct passage passage = passage_of(prefix, next);
        if (forward_enter(forward, next, &passage, err) != 0)
            return -1;
        prefix->entered++;
    }
    return 0;
}

int prefix_finish(struct prefix *prefix, struct forward *forward, size_t layers, struct error *err)
{
    while (prefix->finished < layers) {
        size_t next = prefix->finished;
        if (prefix_enter(prefix, forward, next, err) != 0)
            return -1;
        struct passage passage = passage_of(prefix, next);
        if (forward_finish(forward, next, &passage, err) != 0)
            return -1;
        prefix->finished++;
    }
    return 0;
}
