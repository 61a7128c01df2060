#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

/* Of a block: all chunks but the last hold CHUNK_TOKENS, and rows may be rounded up to whole tiles. */
enum { MOST_SPANS = (BLOCK_MOST_ROWS + KERNELS_TILE) / CHUNK_TOKENS + 3 };

/* One more layer for chunks[first..count). */
struct job {
    struct cpu_device *cpu;
    struct chunk *const *chunks;
    size_t first, count;
    size_t rows;       /* of all of them */
    size_t block_rows; /* of one task */
    size_t tasks;
    size_t entered; /* layers with keys and values afterwards */
};

int chunk_create(struct device *device, const int32_t *tokens, size_t count, size_t position, struct chunk **out,
                 struct error *err)
{
    const struct model *model = ((struct cpu_device *)device)->model;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a prefix's chunk");
    *chunk = (struct chunk){.position = position, .count = count};
    chunk->residual = lines_allocate(count * model->width * sizeof *chunk->residual);
    chunk->layers = calloc(model->layer_count, sizeof *chunk->layers);
    if (chunk->residual == NULL || chunk->layers == NULL) {
        chunk_destroy(device, chunk);
        return error_set(err, ERROR_FATAL, "out of memory for a prefix's chunk");
    }
    for (size_t i = 0; i < count; i++)
        tensor_row(model->embedding, (size_t)tokens[i], chunk->residual + i * model->width);
    *out = chunk;
    return 0;
}

void chunk_destroy(struct device *device, struct chunk *chunk)
{
    if (chunk == NULL)
        return;
    const struct model *model = ((struct cpu_device *)device)->model;
    for (size_t i = 0; chunk->layers != NULL && i < model->layer_count; i++)
        free(chunk->layers[i]);
    free(chunk->layers);
    free(chunk->residual);
    free(chunk);
}

/* Rows first .. first + rows - 1 of the chunks that run, as spans; returns how many. At most MOST_SPANS. */
static size_t make_spans(const struct job *job, size_t first, size_t rows, struct span *spans)
{
    size_t count = 0, start = 0;

    for (size_t i = job->first; i < job->count && start < first + rows; start += job->chunks[i++]->count) {
        const struct chunk *chunk = job->chunks[i];
        size_t from = first > start ? first - start : 0;
        size_t to = first + rows - start < chunk->count ? first + rows - start : chunk->count;
        if (from >= chunk->count)
            continue;
        size_t row = start + from - first;
        spans[count++] = (struct span){
            .row = row,
            .last_row = row + to - from - 1,
            .count = to - from,
            .token = from,
            .position = chunk->position,
            .past = job->chunks,
            .past_count = i,
        };
    }
    return count;
}

static void move_rows(const struct job *job, struct block *block, const struct span *spans, size_t span_count, bool in)
{
    size_t width = job->cpu->model->width, stride = job->cpu->forward.hidden_stride;

    for (size_t i = 0; i < span_count; i++) {
        float *residual = job->chunks[spans[i].past_count]->residual + spans[i].token * width;
        for (size_t j = 0; j < spans[i].count; j++, residual += width) {
            float *row = block->hidden + (spans[i].row + j) * stride;
            memcpy(in ? row : residual, in ? residual : row, width * sizeof *row);
        }
    }
}

static void set_layer(const struct job *job, struct span *spans, size_t span_count, size_t layer)
{
    for (size_t i = 0; i < span_count; i++)
        spans[i].own = job->chunks[spans[i].past_count]->layers[layer];
}

/* What is left of the layer before, then keys and values of the next. Late rows, which see most, come first. */
static void run_rows(void *argument, size_t index, size_t worker)
{
    const struct job *job = argument;
    struct forward *forward = &job->cpu->forward;
    struct block *block = &job->cpu->blocks[worker];
    struct span spans[MOST_SPANS] = {0};
    size_t first = (job->tasks - 1 - index) * job->block_rows;
    size_t rows = job->rows - first < job->block_rows ? job->rows - first : job->block_rows;
    size_t span_count = make_spans(job, first, rows, spans);
    const struct passage passage = {spans, span_count, 0, rows, 0};

    move_rows(job, block, spans, span_count, true);
    if (job->entered >= 2) {
        set_layer(job, spans, span_count, job->entered - 2);
        forward_finish(forward, block, job->entered - 2, &passage, false);
        atomic_fetch_add(&job->cpu->token_layers, rows);
        move_rows(job, block, spans, span_count, false);
    }
    if (job->entered <= job->cpu->model->layer_count) {
        set_layer(job, spans, span_count, job->entered - 1);
        forward_enter(forward, block, job->entered - 1, &passage);
    }
}

static int place_layer(const struct job *job, struct error *err)
{
    size_t bytes = job->cpu->forward.tile_bytes;

    for (size_t i = job->first; i < job->count && job->entered <= job->cpu->model->layer_count; i++) {
        void **layer = &job->chunks[i]->layers[job->entered - 1];
        if (*layer == NULL)
            *layer = lines_allocate(bytes);
        if (*layer == NULL)
            return error_set(err, ERROR_FATAL, "out of memory for the keys of a prefix's chunk");
        memset(*layer, 0, bytes);
    }
    return 0;
}

static int run_layer(struct job *job, struct error *err)
{
    size_t threads = pool_threads(job->cpu->pool), most = threads * job->cpu->forward.block_rows;

    if (place_layer(job, err) != 0)
        return -1;
    job->tasks = (job->rows + most - 1) / most * threads;
    job->block_rows = (job->rows + job->tasks - 1) / job->tasks;
    job->block_rows = (job->block_rows + KERNELS_TILE - 1) / KERNELS_TILE * KERNELS_TILE;
    job->tasks = (job->rows + job->block_rows - 1) / job->block_rows;
    if (cpu_reserve(job->cpu, job->block_rows, err) != 0)
        return -1;
    pool_run(job->cpu->pool, job->tasks, run_rows, job);
    for (size_t i = job->first; i < job->count; i++)
        job->chunks[i]->entered = job->entered;
    return forward_check(&job->cpu->forward, err);
}

int chunks_run(struct device *device, struct chunk *const *chunks, size_t count, size_t entered, struct error *err)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    struct job job = {.cpu = cpu, .chunks = chunks, .count = count};
    int result = 0;

    for (job.entered = 1; job.entered <= entered && result == 0; job.entered++) {
        job.first = job.rows = 0;
        while (job.first < count && chunks[job.first]->entered >= job.entered)
            job.first++;
        for (size_t i = job.first; i < count; i++)
            job.rows += chunks[i]->count;
        if (job.rows > 0)
            result = run_layer(&job, err);
    }
    device->token_layers = atomic_load(&cpu->token_layers);
    return result;
}
