/*
 * prefix.h - what all candidates of a prompt begin with, as a chain of chunks, computed only as deep as it is needed
 */
#ifndef HEADRACE_ENGINE_PREFIX_H
#define HEADRACE_ENGINE_PREFIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/backend.h"

struct prefix {
    struct device *device;
    struct chunk **chunks;
    size_t count;
    size_t capacity;
};

/* A zeroed one is fine. */
void prefix_free(struct prefix *prefix);

/* Forgets the last one and takes these tokens. */
int prefix_start(struct prefix *prefix, struct device *device, const int32_t *tokens, size_t length, struct error *err);

/* Makes sure that keys and values of layers 0 .. layers - 1 are there. */
int prefix_run(struct prefix *prefix, size_t layers, struct error *err);

#endif
