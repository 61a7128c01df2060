#include "graph/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "graph/trainer_state.h"

static const float first_decay = 0.9f, second_decay = 0.999f, adam_epsilon = 1e-8f;

static int check_settings(const struct trainer_settings *settings, struct error *err)
{
    if (settings->layers > TRAINER_LAYER_LIMIT)
        return error_set(err, ERROR_BAD_INPUT, "%zu layers; at most %d", settings->layers, TRAINER_LAYER_LIMIT);
    if (settings->dimension == 0 || settings->dimension % PROPAGATION_LANES != 0 ||
        settings->dimension > TRAINER_DIMENSION_LIMIT)
        return error_set(err, ERROR_BAD_INPUT, "dimension %zu: a multiple of %d up to %d is needed",
                         settings->dimension, PROPAGATION_LANES, TRAINER_DIMENSION_LIMIT);
    if (settings->item_bias && settings->layers > 0)
        return error_set(err, ERROR_BAD_INPUT, "a bias needs a model without layers");
    if (!(settings->learning_rate > 0) || !isfinite(settings->learning_rate))
        return error_set(err, ERROR_BAD_INPUT, "the learning rate must be above 0");
    if (!(settings->l2 >= 0) || !isfinite(settings->l2))
        return error_set(err, ERROR_BAD_INPUT, "l2 must be at least 0");
    if (settings->batch == 0 || settings->negatives == 0 ||
        settings->batch > TRAINER_SAMPLE_LIMIT / settings->negatives)
        return error_set(err, ERROR_BAD_INPUT, "a batch of %zu pairs with %zu negatives: 1 to %d samples are needed",
                         settings->batch, settings->negatives, TRAINER_SAMPLE_LIMIT);
    return 0;
}

/* A user who has every item cannot be given a negative: the user's pairs are in the graph, but make no samples. */
static int choose_pairs(struct trainer *trainer, const struct pair *pairs, size_t count, struct error *err)
{
    trainer->pairs = malloc((count + 1) * sizeof *trainer->pairs);
    if (trainer->pairs == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu pairs", count);
    for (size_t i = 0; i < count; i++)
        if (propagation_degree(&trainer->graph, pairs[i].user) < trainer->graph.items)
            trainer->pairs[trainer->pair_count++] = pairs[i];
    if (trainer->pair_count == 0)
        return error_set(err, ERROR_BAD_INPUT,
                         count == 0 ? "there are no edges to train on"
                                    : "every user has every item: there is nothing to tell apart");
    return 0;
}

static float *rows(size_t count, size_t dimension)
{
    return count > SIZE_MAX / sizeof(float) / dimension ? NULL : calloc(count * dimension + 1, sizeof(float));
}

static int allocate(struct trainer *trainer, struct error *err)
{
    size_t nodes = trainer->graph.nodes, dimension = trainer->settings.dimension;
    size_t samples = trainer->settings.batch * trainer->settings.negatives;
    float **const matrices[] = {&trainer->base,   &trainer->final, &trainer->gradient,   &trainer->first,
                                &trainer->second, &trainer->kept,  &trainer->scratch[0], &trainer->scratch[1]};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        if ((*matrices[i] = rows(nodes, dimension)) == NULL)
            goto fail;
    if (trainer->settings.item_bias)
        for (size_t i = 0; i < TRAINER_BIASES; i++)
            if ((trainer->bias[i] = rows(trainer->graph.items, 1)) == NULL)
                goto fail;
    trainer->samples = malloc(samples * sizeof *trainer->samples);
    trainer->slopes = malloc(samples * sizeof *trainer->slopes);
    trainer->losses = malloc(samples * sizeof *trainer->losses);
    trainer->touches = malloc(3 * samples * sizeof *trainer->touches);
    trainer->touch_starts = malloc((nodes + 2) * sizeof *trainer->touch_starts);
    if (trainer->samples != NULL && trainer->slopes != NULL && trainer->losses != NULL && trainer->touches != NULL &&
        trainer->touch_starts != NULL)
        return 0;
fail:
    return error_set(err, ERROR_FATAL, "out of memory for training %zu nodes of %zu dimensions", nodes, dimension);
}

/* Xavier's: uniform, the variance 2 / (rows + columns). */
static void draw_rows(struct trainer *trainer, size_t first, size_t count)
{
    double bound = sqrt(6 / (double)(count + trainer->settings.dimension));
    float *row = trainer->base + first * trainer->settings.dimension;
    for (size_t i = 0; i < count * trainer->settings.dimension; i++)
        row[i] = (float)((2 * random_uniform(&trainer->random) - 1) * bound);
}

int trainer_create(struct trainer **result, const struct trainer_settings *settings, struct pool *pool, size_t users,
                   size_t items, const struct pair *pairs, size_t count, struct error *err)
{
    if (check_settings(settings, err) != 0)
        return -1;
    struct trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    trainer->settings = *settings;
    trainer->pool = pool;
    trainer->random.state = settings->seed;
    if (propagation_create(&trainer->graph, users, items, pairs, count, err) != 0 ||
        choose_pairs(trainer, pairs, count, err) != 0 || allocate(trainer, err) != 0) {
        trainer_destroy(trainer);
        return -1;
    }
    draw_rows(trainer, 0, users);
    draw_rows(trainer, users, items);
    trainer->at = trainer->pair_count;
    *result = trainer;
    return 0;
}

void trainer_destroy(struct trainer *trainer)
{
    if (trainer == NULL)
        return;
    float *const matrices[] = {trainer->base,   trainer->final, trainer->gradient,   trainer->first,
                               trainer->second, trainer->kept,  trainer->scratch[0], trainer->scratch[1]};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        free(matrices[i]);
    for (size_t i = 0; i < TRAINER_BIASES; i++)
        free(trainer->bias[i]);
    free(trainer->samples);
    free(trainer->slopes);
    free(trainer->losses);
    free(trainer->touches);
    free(trainer->touch_starts);
    free(trainer->pairs);
    propagation_free(&trainer->graph);
    free(trainer);
}

size_t trainer_batches(const struct trainer *trainer)
{
    return (trainer->pair_count + trainer->settings.batch - 1) / trainer->settings.batch;
}

/* Fisher and Yates'. */
static void shuffle(struct trainer *trainer)
{
    for (size_t i = trainer->pair_count; i > 1; i--) {
        size_t other = (size_t)random_below(&trainer->random, i);
        struct pair pair = trainer->pairs[i - 1];
        trainer->pairs[i - 1] = trainer->pairs[other];
        trainer->pairs[other] = pair;
    }
}

static uint32_t draw_negative(struct trainer *trainer, uint32_t user)
{
    uint32_t item;
    do
        item = (uint32_t)random_below(&trainer->random, trainer->graph.items);
    while (propagation_has(&trainer->graph, user, item));
    return item;
}

static size_t draw_samples(struct trainer *trainer)
{
    if (trainer->at >= trainer->pair_count) {
        shuffle(trainer);
        trainer->at = 0;
    }
    size_t count = 0, end = trainer->at + trainer->settings.batch;
    for (; trainer->at < end && trainer->at < trainer->pair_count; trainer->at++)
        for (size_t i = 0; i < trainer->settings.negatives; i++) {
            struct pair pair = trainer->pairs[trainer->at];
            trainer->samples[count++] =
                (struct trainer_sample){pair.user, pair.item, draw_negative(trainer, pair.user)};
        }
    return count;
}

struct moments {
    float step;  /* learning rate over the first moment's correction */
    float scale; /* 1 / sqrt of the second moment's correction */
};

static void move_values(const struct moments *moments, float *values, float *first, float *second,
                        const float *gradient, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float slope = gradient[i];
        first[i] = first_decay * first[i] + (1 - first_decay) * slope;
        second[i] = second_decay * second[i] + (1 - second_decay) * slope * slope;
        values[i] -= moments->step * first[i] / (sqrtf(second[i]) * moments->scale + adam_epsilon);
    }
}

struct adam {
    struct trainer *trainer;
    struct moments moments;
};

static void move_rows(void *job, size_t task, size_t worker)
{
    (void)worker;
    const struct adam *adam = job;
    struct trainer *trainer = adam->trainer;
    size_t n = trainer->settings.dimension, first = propagation_first(task) * n;
    size_t count = propagation_end(&trainer->graph, task) * n - first;
    move_values(&adam->moments, trainer->base + first, trainer->first + first, trainer->second + first,
                trainer->gradient + first, count);
}

double trainer_step(struct trainer *trainer)
{
    size_t count = draw_samples(trainer);
    double loss = trainer_differentiate(trainer, trainer->samples, count);
    trainer->steps++;
    struct adam adam = {trainer,
                        {(float)(trainer->settings.learning_rate / (1 - pow(0.9, (double)trainer->steps))),
                         (float)(1 / sqrt(1 - pow(0.999, (double)trainer->steps)))}};
    pool_run(trainer->pool, propagation_tasks(&trainer->graph), move_rows, &adam);
    if (trainer->settings.item_bias)
        move_values(&adam.moments, trainer->bias[BIAS_VALUE], trainer->bias[BIAS_FIRST], trainer->bias[BIAS_SECOND],
                    trainer->bias[BIAS_GRADIENT], trainer->graph.items);
    return loss;
}

const float *trainer_base(const struct trainer *trainer)
{
    return trainer->base;
}

const float *trainer_item_bias(const struct trainer *trainer)
{
    return trainer->bias[BIAS_VALUE];
}

const struct propagation *trainer_graph(const struct trainer *trainer)
{
    return &trainer->graph;
}

static void copy_state(const struct trainer *trainer, float *rows_to, const float *rows_from, float *bias_to,
                       const float *bias_from)
{
    memcpy(rows_to, rows_from, trainer->graph.nodes * trainer->settings.dimension * sizeof *rows_to);
    if (trainer->settings.item_bias)
        memcpy(bias_to, bias_from, trainer->graph.items * sizeof *bias_to);
}

void trainer_keep(struct trainer *trainer)
{
    copy_state(trainer, trainer->kept, trainer->base, trainer->bias[BIAS_KEPT], trainer->bias[BIAS_VALUE]);
    trainer->has_kept = true;
}

void trainer_restore(struct trainer *trainer)
{
    if (trainer->has_kept)
        copy_state(trainer, trainer->base, trainer->kept, trainer->bias[BIAS_VALUE], trainer->bias[BIAS_KEPT]);
}

double trainer_gradient(struct trainer *trainer, const struct trainer_sample *samples, size_t count,
                        const float **gradient, const float **bias_gradient)
{
    double loss = trainer_differentiate(trainer, samples, count);
    *gradient = trainer->gradient;
    *bias_gradient = trainer->bias[BIAS_GRADIENT];
    return loss;
}

void trainer_set_base(struct trainer *trainer, const float *base)
{
    memcpy(trainer->base, base, trainer->graph.nodes * trainer->settings.dimension * sizeof *base);
}
