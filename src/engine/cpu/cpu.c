#include "engine/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>

static void close_device(struct device *device)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    if (cpu == NULL)
        return;
    batch_free(&cpu->batch);
    for (size_t i = 0; cpu->blocks != NULL && i < pool_threads(cpu->pool); i++)
        block_free(&cpu->blocks[i]);
    free(cpu->blocks);
    forward_free(&cpu->forward);
    weights_free(&cpu->weights);
    pool_destroy(cpu->pool);
    free(cpu);
}

/* The fastest of those that keep the heads' accuracy: see integers.h. */
static enum engine_mode choose_mode(enum engine_mode mode, const struct kernels *kernels)
{
    return mode == ENGINE_MODE_AUTO ? kernels->fastest : mode;
}

static int open_device(struct device **device, const struct model *model, const struct heads *heads,
                       const struct engine_settings *settings, struct error *err)
{
    const struct weights_cache cache = {settings->weights_cache, settings->model_hash};
    const struct kernels *kernels;
    enum engine_mode mode;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the engine");
    cpu->model = model;
    cpu->heads = heads;
    if (kernels_pick(&kernels, settings->cpu, err) != 0)
        goto fail;
    cpu->pool = pool_create(settings->threads);
    if (cpu->pool == NULL) {
        error_set(err, ERROR_FATAL, "cannot start the engine's %zu threads", settings->threads);
        goto fail;
    }
    cpu->blocks = calloc(pool_threads(cpu->pool), sizeof *cpu->blocks);
    if (cpu->blocks == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for the engine");
        goto fail;
    }
    mode = choose_mode(settings->mode, kernels);
    if (weights_open(&cpu->weights, model, kernels, mode, &cache, cpu->pool, err) != 0 ||
        forward_create(&cpu->forward, &cpu->weights, err) != 0)
        goto fail;
    cpu->device.backend = &backend_cpu;
    cpu->device.chunk_bytes =
        sizeof(struct chunk) + CHUNK_TOKENS * model->width * sizeof(float) + model->layer_count * sizeof(void *);
    cpu->device.layer_bytes = cpu->forward.tile_bytes;
    snprintf(cpu->device.arithmetic, sizeof cpu->device.arithmetic, "%s on %s", cpu->weights.format->name,
             kernels->name);
    *device = &cpu->device;
    return 0;

fail:
    close_device(&cpu->device);
    return -1;
}

int cpu_reserve(struct cpu_device *cpu, size_t rows, struct error *err)
{
    for (size_t i = 0; i < pool_threads(cpu->pool); i++)
        if (block_reserve(&cpu->blocks[i], &cpu->forward, rows, err) != 0)
            return -1;
    return 0;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .open = open_device,
    .close = close_device,
    .chunk_create = chunk_create,
    .chunk_destroy = chunk_destroy,
    .chunks_run = chunks_run,
    .batch_start = batch_start,
    .batch_run = batch_run,
    .batch_keep = batch_keep,
};
