/* gradient.c - the loss of a batch and its gradient */
#include <math.h>
#include <string.h>

#include "graph/trainer_state.h"

enum { SAMPLES_A_TASK = 256 };

float trainer_dot(const float *a, const float *b, size_t n)
{
    float lanes[PROPAGATION_LANES] = {0}, sum = 0;
    for (size_t i = 0; i < n; i += PROPAGATION_LANES)
        for (size_t lane = 0; lane < PROPAGATION_LANES; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    for (size_t lane = 0; lane < PROPAGATION_LANES; lane++)
        sum += lanes[lane];
    return sum;
}

void trainer_propagate(struct trainer *trainer)
{
    propagation_mean(&trainer->graph, trainer->pool, trainer->settings.layers, trainer->settings.dimension,
                     trainer->base, trainer->final, trainer->scratch);
}

struct batch {
    struct trainer *trainer;
    const struct trainer_sample *samples;
    size_t count;
    size_t users, n; /* the trainer's: n is the dimension */
};

static const float *row(const struct batch *batch, const float *matrix, size_t node)
{
    return matrix + node * batch->n;
}

static double square(const struct batch *batch, size_t node)
{
    const float *base = row(batch, batch->trainer->base, node);
    return (double)trainer_dot(base, base, batch->n);
}

/* -ln sigmoid(x), without overflow on either side. */
static double log_loss(double x)
{
    return x > 0 ? log1p(exp(-x)) : -x + log1p(exp(x));
}

static void score_samples(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct batch *batch = job;
    struct trainer *trainer = batch->trainer;
    const float *bias = trainer->bias[BIAS_VALUE];
    size_t end = (task + 1) * SAMPLES_A_TASK < batch->count ? (task + 1) * SAMPLES_A_TASK : batch->count;
    for (size_t i = task * SAMPLES_A_TASK; i < end; i++) {
        struct trainer_sample sample = batch->samples[i];
        size_t item = batch->users + sample.item, negative = batch->users + sample.negative;
        const float *user = row(batch, trainer->final, sample.user);
        double difference = (double)trainer_dot(user, row(batch, trainer->final, item), batch->n) -
                            (double)trainer_dot(user, row(batch, trainer->final, negative), batch->n);
        double squares = square(batch, sample.user) + square(batch, item) + square(batch, negative);
        if (bias != NULL) {
            double own = (double)bias[sample.item], other = (double)bias[sample.negative];
            difference += own - other;
            squares += own * own + other * other;
        }
        trainer->losses[i] = log_loss(difference) + trainer->settings.l2 / 2 * squares;
        trainer->slopes[i] = (float)(-1 / (1 + exp(difference)) / (double)batch->count);
    }
}

/* Counting sort of who is touched where, so that each row's gradient is summed by one thread in the samples' order. */
static void list_touches(struct trainer *trainer, const struct trainer_sample *samples, size_t count)
{
    uint32_t *next = trainer->touch_starts + 1;
    uint32_t users = (uint32_t)trainer->graph.users;
    memset(trainer->touch_starts, 0, (trainer->graph.nodes + 2) * sizeof *trainer->touch_starts);
    for (size_t i = 0; i < count; i++) {
        next[samples[i].user + 1]++;
        next[users + samples[i].item + 1]++;
        next[users + samples[i].negative + 1]++;
    }
    for (size_t node = 1; node < trainer->graph.nodes; node++)
        next[node] += next[node - 1];
    for (uint32_t i = 0; i < count; i++) {
        trainer->touches[next[samples[i].user]++] = 3 * i + TOUCH_USER;
        trainer->touches[next[users + samples[i].item]++] = 3 * i + TOUCH_ITEM;
        trainer->touches[next[users + samples[i].negative]++] = 3 * i + TOUCH_NEGATIVE;
    }
}

/* What one sample says of the row of the node that has this part in it. */
static void add_touch(const struct batch *batch, uint32_t touch, float *out)
{
    const struct trainer *trainer = batch->trainer;
    struct trainer_sample sample = batch->samples[touch / 3];
    float slope = trainer->slopes[touch / 3];
    if (touch % 3 == TOUCH_USER) {
        const float *item = row(batch, trainer->final, batch->users + sample.item);
        const float *negative = row(batch, trainer->final, batch->users + sample.negative);
        for (size_t i = 0; i < batch->n; i++)
            out[i] += slope * (item[i] - negative[i]);
        return;
    }
    const float *user = row(batch, trainer->final, sample.user);
    float weight = touch % 3 == TOUCH_ITEM ? slope : -slope;
    for (size_t i = 0; i < batch->n; i++)
        out[i] += weight * user[i];
}

static float penalty(const struct batch *batch, size_t touches)
{
    return (float)(batch->trainer->settings.l2 * (double)touches / (double)batch->count);
}

/* By e, and by the bias in full. */
static void sum_touches(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct batch *batch = job;
    struct trainer *trainer = batch->trainer;
    size_t end = propagation_end(&trainer->graph, task);
    for (size_t node = propagation_first(task); node < end; node++) {
        uint32_t first = trainer->touch_starts[node], last = trainer->touch_starts[node + 1];
        float *out = trainer->gradient + node * batch->n;
        memset(out, 0, batch->n * sizeof *out);
        for (uint32_t i = first; i < last; i++)
            add_touch(batch, trainer->touches[i], out);
        if (!trainer->settings.item_bias || node < batch->users)
            continue;
        float sum = penalty(batch, last - first) * trainer->bias[BIAS_VALUE][node - batch->users];
        for (uint32_t i = first; i < last; i++)
            sum += (trainer->touches[i] % 3 == TOUCH_ITEM ? 1.0f : -1.0f) * trainer->slopes[trainer->touches[i] / 3];
        trainer->bias[BIAS_GRADIENT][node - batch->users] = sum;
    }
}

/* The penalty is on e0, so it joins behind the propagation. */
static void add_penalty(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct batch *batch = job;
    struct trainer *trainer = batch->trainer;
    size_t end = propagation_end(&trainer->graph, task);
    for (size_t node = propagation_first(task); node < end; node++) {
        float weight = penalty(batch, trainer->touch_starts[node + 1] - trainer->touch_starts[node]);
        for (size_t i = node * batch->n; i < (node + 1) * batch->n; i++)
            trainer->gradient[i] += weight * trainer->base[i];
    }
}

double trainer_differentiate(struct trainer *trainer, const struct trainer_sample *samples, size_t count)
{
    struct batch batch = {trainer, samples, count, trainer->graph.users, trainer->settings.dimension};
    size_t tasks = propagation_tasks(&trainer->graph);
    trainer_propagate(trainer);
    pool_run(trainer->pool, (count + SAMPLES_A_TASK - 1) / SAMPLES_A_TASK, score_samples, &batch);
    list_touches(trainer, samples, count);
    pool_run(trainer->pool, tasks, sum_touches, &batch);

    propagation_mean(&trainer->graph, trainer->pool, trainer->settings.layers, trainer->settings.dimension,
                     trainer->gradient, trainer->final, trainer->scratch);
    float *by_final = trainer->gradient;
    trainer->gradient = trainer->final;
    trainer->final = by_final;
    pool_run(trainer->pool, tasks, add_penalty, &batch);

    double loss = 0;
    for (size_t i = 0; i < count; i++)
        loss += trainer->losses[i];
    return loss / (double)count;
}
