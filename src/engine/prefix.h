/*
 * prefix.h - what all candidates of a prompt begin with, computed once and only as deep as it is needed
 *
 * Keys and values of the layers done so far are kept until the next prefix starts, so that a later group of candidates
 * that goes deeper deepens the prefix too.
 */
#ifndef HEADRACE_ENGINE_PREFIX_H
#define HEADRACE_ENGINE_PREFIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/forward.h"

struct prefix {
    size_t length;
    size_t entered;         /* layers with keys and values: as many as finished, or one more */
    size_t finished;        /* layers that the rows have behind them */
    float *hidden;          /* (length, width) */
    size_t hidden_capacity; /* floats */
    size_t layer_count;
    struct stretch *layers;   /* (layer_count) */
    size_t *layer_capacities; /* floats of each */
    struct span *spans;
    size_t span_count;
    size_t span_capacity;
};

int prefix_create(struct prefix *prefix, const struct model *model, struct error *err);

/* A zeroed one is fine. */
void prefix_free(struct prefix *prefix);

/* Forgets the last one and takes the embeddings of these tokens. */
int prefix_start(struct prefix *prefix, const struct forward *forward, const int32_t *tokens, size_t length,
                 struct error *err);

/* Makes sure that layers[0..layer] hold keys and values. */
int prefix_enter(struct prefix *prefix, struct forward *forward, size_t layer, struct error *err);

/* Makes sure that the rows have `layers` layers behind them. */
int prefix_finish(struct prefix *prefix, struct forward *forward, size_t layers, struct error *err);

#endif
