/* train_heads_set.c - sets of heads: from replayed rows to what a file of heads holds */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/train_heads_fit.h"

const char *const heads_kind_names[HEADS_KINDS] = {"text", "hybrid", "single"};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while training heads");
}

static struct train_rows states_after(const struct heads_trainer *trainer, size_t layer, size_t count)
{
    const struct heads_rows *rows = trainer->rows;
    return (struct train_rows){.values = rows->states + (layer - 1) * rows->width,
                               .count = count,
                               .columns = rows->width,
                               .stride = rows->layers * rows->width,
                               .norm = true,
                               .epsilon = trainer->output->norm_epsilon};
}

static struct train_rows features_of(const struct heads_trainer *trainer, size_t count)
{
    return (struct train_rows){
        .values = trainer->rows->features, .count = count, .columns = EVIDENCE_FEATURES, .stride = EVIDENCE_FEATURES};
}

static void measure_layer(void *job, size_t index, size_t worker)
{
    (void)worker;
    struct heads_trainer *trainer = job;
    struct train_rows rows = states_after(trainer, index + 1, trainer->rows->train);
    train_scale_measure(&trainer->scales[index], &rows);
}

static int measure_scales(struct heads_trainer *trainer, struct error *err)
{
    size_t layers = trainer->rows->layers;
    trainer->scales = calloc(layers, sizeof *trainer->scales);
    if (trainer->scales == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < layers; i++)
        if (train_scale_create(&trainer->scales[i], trainer->rows->width, err) != 0)
            return -1;
    if (train_scale_create(&trainer->evidence, EVIDENCE_FEATURES, err) != 0)
        return -1;
    pool_run(trainer->pool, layers, measure_layer, trainer);
    struct train_rows features = features_of(trainer, trainer->rows->train);
    train_scale_measure(&trainer->evidence, &features);
    return 0;
}

int heads_trainer_create(struct heads_trainer **result, const struct heads_rows *rows,
                         const struct heads_choices *choices, const struct heads *output, struct pool *pool,
                         struct error *err)
{
    struct heads_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL)
        return out_of_memory(err);
    trainer->rows = rows;
    trainer->choices = choices;
    trainer->output = output;
    trainer->pool = pool;
    if (measure_scales(trainer, err) != 0) {
        heads_trainer_destroy(trainer);
        return -1;
    }
    *result = trainer;
    return 0;
}

void heads_trainer_destroy(struct heads_trainer *trainer)
{
    if (trainer == NULL)
        return;
    for (size_t i = 0; trainer->scales != NULL && i < trainer->rows->layers; i++)
        train_scale_free(&trainer->scales[i]);
    train_scale_free(&trainer->evidence);
    free(trainer->scales);
    free(trainer->exit0_logits);
    free(trainer);
}

struct filling {
    struct heads_trainer *trainer;
    struct inputs *inputs;
};

static void fill_layer(void *job, size_t index, size_t worker)
{
    (void)worker;
    const struct filling *filling = job;
    struct heads_trainer *trainer = filling->trainer;
    const struct inputs *inputs = filling->inputs;
    float *values = inputs->layers[index];
    size_t count = trainer->rows->count;
    if (values == NULL)
        return;
    if (inputs->hidden > 0) {
        struct train_rows states = states_after(trainer, index + 1, count);
        train_scale_apply(&trainer->scales[index], &states, values, inputs->width);
    }
    if (inputs->evidence > 0) {
        struct train_rows features = features_of(trainer, count);
        train_scale_apply(&trainer->evidence, &features, values + inputs->hidden, inputs->width);
    }
}

static void inputs_free(struct inputs *inputs)
{
    for (size_t i = 0; inputs->layers != NULL && i < inputs->layer_count; i++)
        free(inputs->layers[i]);
    free(inputs->layers);
}

/* Whether an exit's head is fitted to the rows after that layer. */
static bool is_fitted_to(const struct heads_trainer *trainer, size_t layer)
{
    for (size_t e = 0; e < trainer->output->count; e++) {
        size_t top = trainer->output->exits[e].layer;
        if (layer <= top && layer + HEADS_FITTED_LAYERS > top)
            return true;
    }
    return false;
}

static int inputs_make(struct inputs *inputs, struct heads_trainer *trainer, struct error *err)
{
    struct filling filling = {trainer, inputs};
    inputs->width = train_width(inputs->hidden + inputs->evidence);
    inputs->layer_count = inputs->hidden > 0 ? trainer->rows->layers : 1;
    inputs->layers = calloc(inputs->layer_count, sizeof *inputs->layers);
    if (inputs->layers == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < inputs->layer_count; i++) {
        if (inputs->hidden > 0 && !is_fitted_to(trainer, i + 1))
            continue;
        inputs->layers[i] = calloc(trainer->rows->count * inputs->width, sizeof **inputs->layers);
        if (inputs->layers[i] == NULL)
            return out_of_memory(err);
    }
    pool_run(trainer->pool, inputs->layer_count, fill_layer, &filling);
    return 0;
}

/* Scales, means and Platt's scaling go into the weights of raw features; returns what comes out as bias. */
static double fold_evidence(const struct train_scale *scale, const float *weights, const struct platt *platt,
                            float *folded)
{
    double bias = 0;
    for (size_t j = 0; j < EVIDENCE_FEATURES; j++) {
        double weight = platt->slope * (double)weights[j] / scale->scales[j];
        folded[j] = (float)weight;
        bias -= weight * scale->means[j];
    }
    return bias;
}

static const struct heads_grid labels_alone = {{0}, 1};

int heads_train_exit0(struct heads_trainer *trainer, struct heads_exit0 *exit0, struct error *err)
{
    struct inputs inputs = {.evidence = EVIDENCE_FEATURES, .heads = 1, .exits_of_a_head = 1};
    const struct fit_grid grid = {&labels_alone, &trainer->choices->l2_evidence};
    struct fit fit = {0};
    double distill;
    int result = inputs_make(&inputs, trainer, err);
    *exit0 = (struct heads_exit0){0};
    if (result == 0)
        result = fit_heads(trainer, &inputs, &grid, "exit 0", &fit, &distill, &exit0->l2, err);
    if (result == 0)
        result = fit_measure(trainer, &fit, 0, 0, &exit0->measure, err);
    if (result == 0) {
        const struct platt *platt = &fit.platts[0];
        double bias = fold_evidence(&trainer->evidence, fit.weights, platt, exit0->weights);
        exit0->bias = (float)(bias + platt->slope * (double)fit.bias + platt->intercept);
        trainer->exit0 = *exit0;
        free(trainer->exit0_logits);
        trainer->exit0_logits = fit.logits;
        fit.logits = NULL;
    }
    fit_free(&fit);
    inputs_free(&inputs);
    return result;
}

/* A head for the layers under its exit: the same weights behind each layer's own mean and scale. */
static int fold_head(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit *fit,
                     const struct platt *platt, struct head *head, struct error *err)
{
    size_t width = inputs->hidden, layers = head->layer - head->first + 1;
    double common = platt->slope * (double)fit->bias + platt->intercept;
    head->rows = malloc(layers * width * sizeof *head->rows);
    head->biases = malloc(layers * sizeof *head->biases);
    head->evidence = inputs->evidence > 0 ? malloc(EVIDENCE_FEATURES * sizeof *head->evidence) : NULL;
    if (head->rows == NULL || head->biases == NULL || (inputs->evidence > 0 && head->evidence == NULL))
        return out_of_memory(err);
    if (inputs->evidence > 0)
        common += fold_evidence(&trainer->evidence, fit->weights + width, platt, head->evidence);
    for (size_t i = 0; i < layers; i++) {
        const struct train_scale *scale = &trainer->scales[head->first + i - 1];
        double bias = common;
        for (size_t j = 0; j < width; j++) {
            double weight = platt->slope * (double)fit->weights[j] / scale->scales[j];
            head->rows[i * width + j] = (float)weight;
            bias -= weight * scale->means[j];
        }
        head->biases[i] = (float)bias;
    }
    return 0;
}

static int make_heads(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit *fits,
                      struct heads_set *set, struct error *err)
{
    const struct heads *output = trainer->output;
    struct heads *heads = &set->heads;
    *heads = (struct heads){.width = output->width,
                            .norm_epsilon = output->norm_epsilon,
                            .evidence_count = EVIDENCE_FEATURES,
                            .exit0_leave = INFINITY,
                            .reference = SIZE_MAX,
                            .exits = calloc(output->count, sizeof *heads->exits),
                            .exit0 = malloc(EVIDENCE_FEATURES * sizeof *heads->exit0)};
    if (heads->exits == NULL || heads->exit0 == NULL)
        return out_of_memory(err);
    memcpy(heads->exit0, trainer->exit0.weights, sizeof trainer->exit0.weights);
    heads->exit0_bias = trainer->exit0.bias;
    for (size_t e = 0; e < output->count; e++) {
        const struct fit *fit = &fits[e / inputs->exits_of_a_head];
        size_t layer = output->exits[e].layer, exit = e % inputs->exits_of_a_head;
        struct head *head = &heads->exits[heads->count++];
        *head = (struct head){
            .layer = layer, .first = layer > HEADS_LAYERS ? layer - HEADS_LAYERS + 1 : 1, .leave = INFINITY};
        if (fold_head(trainer, inputs, fit, &fit->platts[exit], head, err) != 0 ||
            fit_measure(trainer, fit, exit, layer, &set->measures[e], err) != 0)
            return -1;
    }
    return 0;
}

/* Logits of the chain, row by row: exit 0 first where it takes part. */
static double *gather_chain(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit *fits,
                            bool exit0)
{
    size_t rows = trainer->rows->count, exits = trainer->output->count, chain = exits + exit0;
    double *logits = malloc(rows * chain * sizeof *logits);
    for (size_t i = 0; logits != NULL && i < rows; i++) {
        if (exit0)
            logits[i * chain] = trainer->exit0_logits[i];
        for (size_t e = 0; e < exits; e++)
            logits[i * chain + exit0 + e] =
                fits[e / inputs->exits_of_a_head].logits[e % inputs->exits_of_a_head * rows + i];
    }
    return logits;
}

/* The rows that train draw the path, those that calibrate are tested on. */
static int choose_thresholds(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit *fits,
                             struct heads_set *set, struct error *err)
{
    const struct heads_rows *rows = trainer->rows;
    bool exit0 = inputs->evidence > 0;
    size_t chain = trainer->output->count + exit0;
    double *logits = gather_chain(trainer, inputs, fits, exit0), cost[HEADS_MAX_EXITS + 1] = {0};
    float leave[HEADS_MAX_EXITS + 1];
    if (logits == NULL)
        return out_of_memory(err);
    for (size_t e = 0; e < trainer->output->count; e++)
        cost[exit0 + e] = (double)trainer->output->exits[e].layer;
    const struct calibrate_settings settings = {chain, cost, trainer->choices->max_loss};
    const struct calibrate_rows order = {logits, rows->labels, rows->users, rows->train};
    const struct calibrate_rows held = {logits + rows->train * chain, rows->labels + rows->train,
                                        rows->users + rows->train, rows->count - rows->train};
    int result = calibrate_leave(&settings, &order, &held, leave, &set->thresholds, err);
    free(logits);
    if (result != 0)
        return -1;
    for (size_t e = 0; e < trainer->output->count; e++)
        set->heads.exits[e].leave = leave[exit0 + e];
    if (exit0)
        set->heads.exit0_leave = leave[0];
    set->heads.reference = (size_t)cost[set->thresholds.reference];
    return 0;
}

int heads_train_set(struct heads_trainer *trainer, enum heads_kind kind, struct heads_set *set, struct error *err)
{
    size_t exits = trainer->output->count;
    struct inputs inputs = {.hidden = trainer->rows->width,
                            .evidence = kind == HEADS_HYBRID ? EVIDENCE_FEATURES : 0,
                            .l2_evidence = trainer->exit0.l2,
                            .heads = kind == HEADS_SINGLE ? 1 : exits,
                            .exits_of_a_head = kind == HEADS_SINGLE ? exits : 1};
    const struct fit_grid grid = {kind == HEADS_HYBRID ? &labels_alone : &trainer->choices->distill,
                                  &trainer->choices->l2};
    struct fit *fits = calloc(exits, sizeof *fits);
    *set = (struct heads_set){.l2_evidence = kind == HEADS_HYBRID ? trainer->exit0.l2 : 0};
    int result = fits == NULL ? out_of_memory(err) : inputs_make(&inputs, trainer, err);
    if (result == 0)
        result = fit_heads(trainer, &inputs, &grid, heads_kind_names[kind], fits, &set->distill, &set->l2, err);
    if (result == 0)
        result = make_heads(trainer, &inputs, fits, set, err);
    if (result == 0)
        result = choose_thresholds(trainer, &inputs, fits, set, err);
    for (size_t i = 0; fits != NULL && i < inputs.heads; i++)
        fit_free(&fits[i]);
    free(fits);
    inputs_free(&inputs);
    if (result != 0) {
        heads_free(&set->heads);
        return error_wrap(err, "heads %s", heads_kind_names[kind]);
    }
    return 0;
}
