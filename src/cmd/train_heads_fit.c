/* train_heads_fit.c - heads for every penalty of a grid, and the one that held-out rows speak for */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cmd/progress.h"
#include "cmd/train_heads_fit.h"
#include "replay/metrics.h"

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while training heads");
}

/* What a task of the pool does: one head at one penalty. */
struct fitting {
    const struct heads_trainer *trainer;
    const struct inputs *inputs;
    const struct fit_grid *grid;
    struct fit *fits; /* (shares, penalties, heads) */
    size_t done;
    pthread_mutex_t lock; /* of done and progress */
    struct progress progress;
};

void fit_free(struct fit *fit)
{
    free(fit->weights);
    free(fit->logits);
    free(fit->losses);
    *fit = (struct fit){0};
}

/* Where training begins. Standardised inputs: the LM head's row times scale, what it makes of the mean in the bias. */
static void begin(const struct heads_trainer *trainer, const struct inputs *inputs, size_t exit, struct fit *fit)
{
    struct random random = {trainer->choices->seed + exit};
    size_t yes = 0;
    for (size_t i = 0; i < trainer->rows->train; i++)
        yes += trainer->rows->labels[i];
    fit->bias = (float)log(((double)yes + 1) / ((double)(trainer->rows->train - yes) + 1));
    for (size_t j = 0; j < inputs->hidden + inputs->evidence; j++)
        fit->weights[j] = (float)((2 * random_uniform(&random) - 1) * 0.01);
    if (!trainer->choices->from_output || inputs->hidden == 0)
        return;
    const struct head *head = &trainer->output->exits[exit];
    const struct train_scale *scale = &trainer->scales[head->layer - 1];
    const float *row = head->rows + (head->layer - head->first) * inputs->hidden;
    double bias = (double)head->biases[head->layer - head->first];
    for (size_t j = 0; j < inputs->hidden; j++) {
        fit->weights[j] = (float)((double)row[j] * scale->scales[j]);
        bias += (double)row[j] * scale->means[j];
    }
    fit->bias = (float)bias;
}

static int fit_allocate(struct fit *fit, const struct inputs *inputs, size_t count, size_t held, struct error *err)
{
    fit->weights = calloc(inputs->width, sizeof *fit->weights);
    fit->logits = malloc(inputs->exits_of_a_head * count * sizeof *fit->logits);
    fit->losses = calloc(held, sizeof *fit->losses);
    return fit->weights != NULL && fit->logits != NULL && fit->losses != NULL ? 0 : out_of_memory(err);
}

/* The rows that an exit's answer comes from. */
static const float *rows_at(const struct heads_trainer *trainer, const struct inputs *inputs, size_t exit)
{
    return inputs->layers[inputs->hidden > 0 ? trainer->output->exits[exit].layer - 1 : 0];
}

/* Scaled logits of all rows at each of the head's exits, and the rows' mean losses where they calibrate. */
static int judge(const struct heads_trainer *trainer, const struct inputs *inputs, size_t first, struct fit *fit,
                 struct error *err)
{
    const struct heads_rows *rows = trainer->rows;
    size_t held = rows->count - rows->train;
    for (size_t v = 0; v < inputs->exits_of_a_head; v++) {
        double *logits = fit->logits + v * rows->count;
        struct platt *platt = &fit->platts[v];
        train_logits(rows_at(trainer, inputs, first + v), rows->count, inputs->width, fit->weights, fit->bias, logits);
        if (platt_fit(platt, logits + rows->train, rows->labels + rows->train, held, err) != 0)
            return inputs->hidden == 0 ? error_wrap(err, "exit 0")
                                       : error_wrap(err, "exit %zu", trainer->output->exits[first + v].layer);
        for (size_t i = 0; i < rows->count; i++)
            logits[i] = platt->slope * logits[i] + platt->intercept;
        for (size_t i = 0; i < held; i++)
            fit->losses[i] += train_log_loss(logits[rows->train + i], rows->labels[rows->train + i]) /
                              (double)inputs->exits_of_a_head;
    }
    return 0;
}

/* Labels, and exit 0's answers by their share. */
static void make_targets(const struct heads_trainer *trainer, double share, float *targets)
{
    for (size_t i = 0; i < trainer->rows->train; i++) {
        double label = trainer->rows->labels[i];
        targets[i] =
            (float)(share > 0 ? (1 - share) * label + share * heads_probability(trainer->exit0_logits[i]) : label);
    }
}

/*
 * What an exit's head is fitted to: the rows of its layer and, `below`, those of the layers under it, which weigh as
 * much together. Rules look at the answers there, too: fitted to all, they go from layer to layer in smaller steps.
 */
static size_t add_views(const struct heads_trainer *trainer, const struct inputs *inputs, size_t exit, bool below,
                        struct train_view *views)
{
    const struct heads_choices *choices = trainer->choices;
    size_t count = 1, exits = inputs->heads * inputs->exits_of_a_head;
    double weight = train_weight(choices->lambda, choices->beta, exits - 1 - exit);
    views[0] = (struct train_view){rows_at(trainer, inputs, exit), weight};
    if (!below)
        return 1;
    size_t layer = trainer->output->exits[exit].layer;
    for (; count < HEADS_FITTED_LAYERS && count < layer; count++)
        views[count] = (struct train_view){inputs->layers[layer - 1 - count], weight};
    views[0].weight = weight / 2;
    for (size_t v = 1; v < count; v++)
        views[v].weight = weight / 2 / (double)(count - 1);
    return count;
}

/* `fit` is new, or (`below`) goes on from where it is. */
static int fit_head(const struct heads_trainer *trainer, const struct inputs *inputs, double share, double penalty,
                    size_t head, bool below, struct fit *fit, struct error *err)
{
    const struct heads_rows *rows = trainer->rows;
    size_t first = head * inputs->exits_of_a_head, held = rows->count - rows->train;
    double *l2 = malloc(inputs->width * sizeof *l2);
    float *targets = malloc(rows->train * sizeof *targets);
    struct train_view views[HEADS_MAX_EXITS * HEADS_FITTED_LAYERS];
    size_t view_count = 0;
    int result = l2 == NULL || targets == NULL ? out_of_memory(err)
                 : below                       ? 0
                                               : fit_allocate(fit, inputs, rows->count, held, err);
    if (result != 0)
        goto out;
    for (size_t e = first; e < first + inputs->exits_of_a_head; e++)
        view_count += add_views(trainer, inputs, e, below, views + view_count);
    make_targets(trainer, share, targets);
    for (size_t j = 0; j < inputs->width; j++)
        l2[j] = inputs->hidden > 0 && j >= inputs->hidden ? inputs->l2_evidence : penalty;
    const struct train_problem problem = {.views = views,
                                          .view_count = view_count,
                                          .labels = rows->labels,
                                          .targets = targets,
                                          .count = rows->train,
                                          .held = held,
                                          .width = inputs->width,
                                          .l2 = l2};
    if (!below)
        begin(trainer, inputs, first + inputs->exits_of_a_head - 1, fit);
    memset(fit->losses, 0, held * sizeof *fit->losses);
    result = train_head(&problem, &trainer->choices->adam, fit->weights, &fit->bias, &fit->result, err);
    if (result == 0)
        result = judge(trainer, inputs, first, fit, err);
out:
    free(l2);
    free(targets);
    return result;
}

static void fit_task(void *job, size_t index, size_t worker)
{
    (void)worker;
    struct fitting *fitting = job;
    const struct heads_grid *shares = fitting->grid->distill, *penalties = fitting->grid->l2;
    size_t heads = fitting->inputs->heads, point = index / heads;
    struct fit *fit = &fitting->fits[index];
    fit->failed = fit_head(fitting->trainer, fitting->inputs, shares->values[point / penalties->count],
                           penalties->values[point % penalties->count], index % heads, false, fit, &fit->err) != 0;
    pthread_mutex_lock(&fitting->lock);
    fitting->done++;
    progress_show(&fitting->progress, fitting->done,
                  (double)fitting->done / (double)(heads * shares->count * penalties->count));
    pthread_mutex_unlock(&fitting->lock);
}

/* What a task does in the end: a chosen head once more, to the layers below as well. */
struct refitting {
    const struct heads_trainer *trainer;
    const struct inputs *inputs;
    double share, penalty;
    struct fit *fits; /* (heads) */
};

static void refit_task(void *job, size_t head, size_t worker)
{
    (void)worker;
    const struct refitting *refitting = job;
    struct fit *fit = &refitting->fits[head];
    fit->failed = fit_head(refitting->trainer, refitting->inputs, refitting->share, refitting->penalty, head, true, fit,
                           &fit->err) != 0;
}

static int take_failure(const struct fit *fits, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (fits[i].failed) {
            *err = fits[i].err;
            return -1;
        }
    return 0;
}

/* Loss of a row at a penalty, mean over the heads. */
static double row_loss(const struct fit *fits, size_t heads, size_t row)
{
    double sum = 0;
    for (size_t h = 0; h < heads; h++)
        sum += fits[h].losses[row];
    return sum / (double)heads;
}

static double mean_loss(const struct fit *fits, size_t heads, size_t rows)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        sum += row_loss(fits, heads, i);
    return sum / (double)rows;
}

/* Whether the rows' loss is above that of the best by no more than a standard error of this difference. */
static bool is_as_good(const struct fit *fits, const struct fit *best, size_t heads, size_t rows)
{
    double sum = 0, squares = 0, count = (double)rows;
    for (size_t i = 0; i < rows; i++) {
        double more = row_loss(fits, heads, i) - row_loss(best, heads, i);
        sum += more;
        squares += more * more;
    }
    double mean = sum / count;
    return mean <= sqrt(fmax(0, squares / count - mean * mean) / count);
}

/* A point of the grid. */
static size_t choose_point(const struct fitting *fitting, size_t rows)
{
    size_t heads = fitting->inputs->heads, penalties = fitting->grid->l2->count, best = 0, chosen;
    for (size_t i = 1; i < fitting->grid->distill->count * penalties; i++)
        if (mean_loss(fitting->fits + i * heads, heads, rows) < mean_loss(fitting->fits + best * heads, heads, rows))
            best = i;
    chosen = best;
    for (size_t i = best; i < best - best % penalties + penalties; i++)
        if (is_as_good(fitting->fits + i * heads, fitting->fits + best * heads, heads, rows))
            chosen = i;
    return chosen;
}

int fit_heads(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit_grid *grid,
              const char *what, struct fit *chosen, double *distill, double *penalty, struct error *err)
{
    const struct heads_rows *rows = trainer->rows;
    size_t count = grid->distill->count * grid->l2->count * inputs->heads, best = 0;
    struct fitting fitting = {.trainer = trainer, .inputs = inputs, .grid = grid, .lock = PTHREAD_MUTEX_INITIALIZER};
    fitting.fits = calloc(count, sizeof *fitting.fits);
    if (fitting.fits == NULL)
        return out_of_memory(err);
    progress_begin(&fitting.progress, what, "heads");
    pool_run(trainer->pool, count, fit_task, &fitting);
    progress_end(&fitting.progress, count);
    int result = take_failure(fitting.fits, count, err);
    if (result == 0)
        best = choose_point(&fitting, rows->count - rows->train);
    *distill = grid->distill->values[best / grid->l2->count];
    *penalty = grid->l2->values[best % grid->l2->count];
    for (size_t i = 0; i < count; i++) {
        if (result == 0 && i / inputs->heads == best)
            chosen[i % inputs->heads] = fitting.fits[i];
        else
            fit_free(&fitting.fits[i]);
    }
    free(fitting.fits);
    if (result != 0 || inputs->hidden == 0)
        return result;
    struct refitting refitting = {trainer, inputs, *distill, *penalty, chosen};
    pool_run(trainer->pool, inputs->heads, refit_task, &refitting);
    return take_failure(chosen, inputs->heads, err);
}

int fit_measure(const struct heads_trainer *trainer, const struct fit *fit, size_t exit, size_t layer,
                struct heads_measure *measure, struct error *err)
{
    const struct heads_rows *rows = trainer->rows;
    size_t held = rows->count - rows->train;
    const double *logits = fit->logits + exit * rows->count + rows->train;
    bool *labels = malloc(held * sizeof *labels);
    if (labels == NULL)
        return out_of_memory(err);
    *measure = (struct heads_measure){.layer = layer, .platt = fit->platts[exit], .epochs = fit->result.epochs};
    for (size_t i = 0; i < held; i++) {
        labels[i] = rows->labels[rows->train + i];
        measure->log_loss += train_log_loss(logits[i], labels[i]) / (double)held;
    }
    int result = metrics_auc(logits, labels, held, &measure->auc, err);
    free(labels);
    return result;
}
