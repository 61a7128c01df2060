#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "engine/cpu/cpu.h"

enum { GROUP_LEAST_ROWS = 40 }; /* below, kernels starve: threads get fewer groups instead */

/* One run of the batch. */
struct job {
    struct cpu_device *cpu;
    size_t layers;
    const struct reading *readings;
    size_t reading_count;
    float *logits;
    float *states;
};

void batch_free(struct batch *batch)
{
    free(batch->members);
    free(batch->hidden);
    free(batch->tiles);
    free(batch->groups);
    free(batch->spans);
    *batch = (struct batch){0};
}

static int reserve_bytes(void *memory, size_t *capacity, size_t bytes)
{
    void **at = memory;
    if (bytes <= *capacity)
        return 0;
    free(*at);
    *at = lines_allocate(bytes);
    *capacity = *at == NULL ? 0 : bytes;
    return *at == NULL ? -1 : 0;
}

static size_t tiles_of(size_t length)
{
    return (length + CHUNK_TOKENS - 1) / CHUNK_TOKENS;
}

static void take_candidate(struct cpu_device *cpu, const struct candidate *candidate, struct member *member)
{
    const struct model *model = cpu->model;
    const struct chunk *last = candidate->prefix[candidate->chunk_count - 1];

    member->length = candidate->length;
    member->position = last->position + last->count;
    member->past = candidate->prefix;
    member->past_count = candidate->chunk_count;
    for (size_t i = 0; i < candidate->length; i++)
        tensor_row(model->embedding, (size_t)candidate->tokens[i],
                   cpu->batch.hidden + (member->row + i) * model->width);
}

int batch_start(struct device *device, const struct candidate *candidates, size_t count, struct error *err)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    struct batch *batch = &cpu->batch;
    size_t rows = 0, tiles = 0;

    for (size_t i = 0; i < count; i++) {
        rows += candidates[i].length;
        tiles += tiles_of(candidates[i].length);
    }
    batch->count = batch->layers = 0;
    if (array_reserve(&batch->members, &batch->member_capacity, count, sizeof *batch->members) != 0 ||
        array_reserve(&batch->groups, &batch->group_capacity, count + 1, sizeof *batch->groups) != 0 ||
        reserve_bytes(&batch->hidden, &batch->hidden_capacity, rows * cpu->model->width * sizeof(float)) != 0 ||
        reserve_bytes(&batch->tiles, &batch->tile_capacity, tiles * cpu->forward.tile_bytes) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu candidates of %zu tokens in all", count, rows);

    memset(batch->tiles, 0, tiles * cpu->forward.tile_bytes);
    uint8_t *own = batch->tiles;
    rows = 0;
    for (size_t i = 0; i < count; i++) {
        batch->members[i] = (struct member){.row = rows, .own = own};
        take_candidate(cpu, &candidates[i], &batch->members[i]);
        rows += candidates[i].length;
        own += tiles_of(candidates[i].length) * cpu->forward.tile_bytes;
    }
    batch->count = count;
    return 0;
}

/* Cuts the batch into groups of even size, as many for each thread as for any other. */
static void make_groups(struct batch *batch, size_t threads, size_t most_rows)
{
    size_t rows = 0, done = 0;
    for (size_t i = 0; i < batch->count; i++)
        rows += batch->members[i].length;
    size_t groups = (rows + most_rows * threads - 1) / (most_rows * threads) * threads;
    while (groups > 1 && rows / groups < GROUP_LEAST_ROWS)
        groups--;

    batch->group_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (done >= batch->group_count * rows / groups)
            batch->groups[batch->group_count++] = i;
        done += batch->members[i].length;
    }
    batch->groups[batch->group_count] = batch->count;
}

/* Room for the largest group in every thread. */
static int reserve_groups(struct cpu_device *cpu, struct error *err)
{
    struct batch *batch = &cpu->batch;
    size_t most_rows = 0, most_members = 0, threads = pool_threads(cpu->pool);

    for (size_t g = 0; g < batch->group_count; g++) {
        size_t rows = 0, members = batch->groups[g + 1] - batch->groups[g];
        for (size_t i = batch->groups[g]; i < batch->groups[g + 1]; i++)
            rows += batch->members[i].length;
        most_rows = rows > most_rows ? rows : most_rows;
        most_members = members > most_members ? members : most_members;
    }
    batch->span_stride = most_members;
    if (array_reserve(&batch->spans, &batch->span_capacity, threads * most_members, sizeof *batch->spans) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu candidates", batch->count);
    return cpu_reserve(cpu, most_rows, err);
}

/* A group in a thread's block: its members' other tokens, then their last tokens. */
struct group {
    const struct member *members;
    size_t count;
    size_t others; /* rows; those of the last tokens come behind them */
    struct block *block;
    struct span *spans;
};

enum part { ALL, OTHERS, LASTS };

/* Members without other tokens have no span among OTHERS. */
static struct passage make_passage(struct group *group, enum part part)
{
    struct passage passage = {.spans = group->spans};
    size_t row = 0;

    passage.first = part == LASTS ? group->others : 0;
    passage.rows = part == ALL ? group->others + group->count : part == OTHERS ? group->others : group->count;
    passage.precise = part == OTHERS ? 0 : group->count;

    for (size_t i = 0; i < group->count; i++) {
        const struct member *member = &group->members[i];
        size_t others = member->length - 1, last = group->others + i;
        struct span span = {row,        last, member->length, 0, member->position, member->past, member->past_count,
                            member->own};
        if (part == OTHERS) {
            span.count = others;
            span.last_row = row + others - 1;
        } else if (part == LASTS) {
            span.row = last;
            span.count = 1;
            span.token = others;
        }
        if (span.count > 0)
            group->spans[passage.span_count++] = span;
        row += others;
    }
    return passage;
}

static void move_rows(const struct cpu_device *cpu, const struct group *group, bool in)
{
    size_t width = cpu->model->width, stride = cpu->forward.hidden_stride, row = 0;

    for (size_t i = 0; i < group->count; i++) {
        const struct member *member = &group->members[i];
        for (size_t j = 0; j < member->length; j++) {
            float *here = group->block->hidden + (j + 1 < member->length ? row++ : group->others + i) * stride;
            float *there = cpu->batch.hidden + (member->row + j) * width;
            memcpy(in ? here : there, in ? there : here, width * sizeof *here);
        }
    }
}

static void finish(struct cpu_device *cpu, struct group *group, size_t layer, enum part part, bool normed)
{
    const struct passage passage = make_passage(group, part);

    if (passage.rows > 0)
        forward_finish(&cpu->forward, group->block, layer, &passage, normed);
    atomic_fetch_add(&cpu->token_layers, passage.rows);
}

/* Not finite when the hidden state is not. */
static float head_logit(const struct heads *heads, const struct reading *reading, const float *hidden)
{
    size_t place = reading->layer - reading->head->first;
    const float *row = reading->head->rows + place * heads->width;
    double squares = 0.0, product = 0.0;
    for (size_t i = 0; i < heads->width; i++) {
        squares += (double)hidden[i] * (double)hidden[i];
        product += (double)hidden[i] * (double)row[i];
    }
    double rms = sqrt(squares / (double)heads->width + (double)heads->norm_epsilon);
    return (float)(product / rms + (double)reading->head->biases[place]);
}

/* Puts the heads that want it on the last tokens' hidden states after `layers` layers. */
static void read_heads(const struct job *job, const struct group *group, size_t layers)
{
    size_t first = (size_t)(group->members - job->cpu->batch.members), stride = job->cpu->forward.hidden_stride;

    for (size_t r = 0; r < job->reading_count; r++)
        for (size_t i = 0; job->readings[r].layer == layers && i < group->count; i++)
            job->logits[(first + i) * job->reading_count + r] =
                head_logit(job->cpu->heads, &job->readings[r], group->block->hidden + (group->others + i) * stride);
}

/* For who wants them: the last tokens' hidden states after `layers` layers. */
static void copy_states(const struct job *job, const struct group *group, size_t layers)
{
    const struct cpu_device *cpu = job->cpu;
    size_t first = (size_t)(group->members - cpu->batch.members), width = cpu->model->width;
    size_t run = job->layers - cpu->batch.layers, place = layers - 1 - cpu->batch.layers;

    for (size_t i = 0; job->states != NULL && i < group->count; i++)
        memcpy(job->states + ((first + i) * run + place) * width,
               group->block->hidden + (group->others + i) * cpu->forward.hidden_stride, width * sizeof(float));
}

static void run_group(void *argument, size_t index, size_t worker)
{
    const struct job *job = argument;
    struct cpu_device *cpu = job->cpu;
    struct batch *batch = &cpu->batch;
    struct group group = {
        .members = batch->members + batch->groups[index],
        .count = batch->groups[index + 1] - batch->groups[index],
        .block = &cpu->blocks[worker],
        .spans = batch->spans + worker * batch->span_stride,
    };
    for (size_t i = 0; i < group.count; i++)
        group.others += group.members[i].length - 1;

    move_rows(cpu, &group, true);
    if (batch->layers > 0)
        finish(cpu, &group, batch->layers - 1, OTHERS, false);
    for (size_t layer = batch->layers; layer < job->layers; layer++) {
        const struct passage all = make_passage(&group, ALL);
        forward_enter(&cpu->forward, group.block, layer, &all);
        finish(cpu, &group, layer, layer + 1 == job->layers ? LASTS : ALL, true);
        read_heads(job, &group, layer + 1);
        copy_states(job, &group, layer + 1);
    }
    move_rows(cpu, &group, false);
}

int batch_run(struct device *device, size_t layers, const struct reading *readings, size_t count, float *logits,
              float *states, struct error *err)
{
    struct cpu_device *cpu = (struct cpu_device *)device;
    struct job job = {cpu, layers, readings, count, logits, states};

    make_groups(&cpu->batch, pool_threads(cpu->pool), cpu->forward.block_rows);
    if (reserve_groups(cpu, err) != 0)
        return -1;
    pool_run(cpu->pool, cpu->batch.group_count, run_group, &job);
    cpu->batch.layers = layers;
    device->token_layers = atomic_load(&cpu->token_layers);
    return forward_check(&cpu->forward, err);
}

void batch_keep(struct device *device, const bool *stays)
{
    struct batch *batch = &((struct cpu_device *)device)->batch;
    size_t kept = 0;

    for (size_t i = 0; i < batch->count; i++)
        if (stays[i])
            batch->members[kept++] = batch->members[i];
    batch->count = kept;
}
