#include "exits/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS = 128 /* whose gradients are summed in float before they go to double */, STALL_EPOCHS = 10 };

static const double first_decay = 0.9, second_decay = 0.999, adam_epsilon = 1e-12;
static const double least_gain =
    1e-11; /* of the objective, relative: after STALL_EPOCHS without it the rate is halved */
static const double least_rate = 1e-5; /* of the rate at the beginning: below it training ends */

/* Adam over weights and bias, with the bias as one more parameter at the end. */
struct adam {
    size_t width;                                          /* weights */
    double *parameters, *gradient, *first, *second, *best; /* (width + 1) each; best: on the held rows */
    float *weights;                                        /* (width) the parameters' as the rows meet them */
    float *chunk;                                          /* (width) a chunk's gradient */
    double first_power, second_power;                      /* decays to the power of the steps done */
};

static double sigmoid(double logit)
{
    return logit >= 0 ? 1 / (1 + exp(-logit)) : exp(logit) / (1 + exp(logit));
}

double train_log_loss(double logit, uint8_t label)
{
    double against = label ? -logit : logit;
    return against > 0 ? against + log1p(exp(-against)) : log1p(exp(against));
}

double train_weight(double lambda0, double beta, size_t distance)
{
    return lambda0 * exp(-beta * (double)distance);
}

/* In lanes, so that it vectorises and sums in the same order on every processor. */
static float dot(const float *restrict a, const float *restrict b, size_t width)
{
    float lanes[TRAIN_LANES] = {0}, sum = 0;
    for (size_t i = 0; i < width; i += TRAIN_LANES)
        for (size_t lane = 0; lane < TRAIN_LANES; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    for (size_t lane = 0; lane < TRAIN_LANES; lane++)
        sum += lanes[lane];
    return sum;
}

static void add_scaled(float *restrict sum, const float *restrict row, float factor, size_t width)
{
    for (size_t i = 0; i < width; i++)
        sum[i] += factor * row[i];
}

void train_logits(const float *rows, size_t count, size_t width, const float *weights, float bias, double *logits)
{
    for (size_t i = 0; i < count; i++)
        logits[i] = (double)dot(rows + i * width, weights, width) + (double)bias;
}

static double target_of(const struct train_problem *problem, size_t row)
{
    return problem->targets != NULL ? (double)problem->targets[row] : problem->labels[row];
}

/* Adds a chunk's gradient; returns its loss. One pass: a row is still at hand when its slope is known. */
static double pass_chunk(struct adam *adam, const struct train_problem *problem, const struct train_view *view,
                         size_t begin, size_t end)
{
    size_t width = adam->width;
    double loss = 0, slopes = 0, bias = adam->parameters[width];

    memset(adam->chunk, 0, width * sizeof *adam->chunk);
    for (size_t i = begin; i < end; i++) {
        const float *row = view->rows + i * width;
        double logit = (double)dot(row, adam->weights, width) + bias, target = target_of(problem, i);
        double slope = sigmoid(logit) - target;
        loss += train_log_loss(logit, 0) - target * logit;
        slopes += slope;
        add_scaled(adam->chunk, row, (float)slope, width);
    }
    for (size_t j = 0; j < width; j++)
        adam->gradient[j] += view->weight * (double)adam->chunk[j];
    adam->gradient[width] += view->weight * slopes;
    return view->weight * loss;
}

/* The objective at the parameters, and its gradient. *loss: without the penalty. */
static double pass(struct adam *adam, const struct train_problem *problem, double *loss)
{
    double penalty = 0;

    *loss = 0;
    adam->gradient[adam->width] = 0;
    for (size_t j = 0; j < adam->width; j++) {
        double weight = adam->parameters[j];
        adam->weights[j] = (float)weight;
        adam->gradient[j] = problem->l2[j] * weight;
        penalty += 0.5 * problem->l2[j] * weight * weight;
    }
    for (size_t v = 0; v < problem->view_count; v++)
        for (size_t i = 0; i < problem->count; i += CHUNK_ROWS) {
            size_t end = problem->count - i < CHUNK_ROWS ? problem->count : i + CHUNK_ROWS;
            *loss += pass_chunk(adam, problem, &problem->views[v], i, end);
        }
    return *loss + penalty;
}

static void step(struct adam *adam, double rate)
{
    adam->first_power *= first_decay;
    adam->second_power *= second_decay;
    double first_scale = 1 / (1 - adam->first_power), second_scale = 1 / (1 - adam->second_power);
    for (size_t j = 0; j <= adam->width; j++) {
        double slope = adam->gradient[j];
        adam->first[j] += (1 - first_decay) * (slope - adam->first[j]);
        adam->second[j] += (1 - second_decay) * (slope * slope - adam->second[j]);
        adam->parameters[j] -=
            rate * adam->first[j] * first_scale / (sqrt(adam->second[j] * second_scale) + adam_epsilon);
    }
}

/* Mean loss of the held rows, with the weights of the last pass. */
static double held_loss(const struct adam *adam, const struct train_problem *problem)
{
    double loss = 0, weights = 0, bias = adam->parameters[adam->width];
    for (size_t v = 0; v < problem->view_count; v++) {
        const struct train_view *view = &problem->views[v];
        weights += view->weight;
        for (size_t i = problem->count; i < problem->count + problem->held; i++) {
            double logit = (double)dot(view->rows + i * adam->width, adam->weights, adam->width) + bias;
            loss += view->weight * train_log_loss(logit, problem->labels[i]);
        }
    }
    return loss / weights / (double)problem->held;
}

static int check_settings(const struct train_problem *problem, const struct train_settings *settings, struct error *err)
{
    if (!(settings->learning_rate > 0) || !isfinite(settings->learning_rate))
        return error_set(err, ERROR_BAD_INPUT, "the learning rate must be above 0");
    if (settings->epochs == 0)
        return error_set(err, ERROR_BAD_INPUT, "at least 1 epoch is needed");
    if (problem->view_count == 0 || problem->width == 0 || problem->width % TRAIN_LANES != 0)
        return error_set(err, ERROR_BAD_INPUT, "%zu views of rows of %zu numbers: at least one, and a multiple of %d",
                         problem->view_count, problem->width, TRAIN_LANES);
    for (size_t j = 0; j < problem->width; j++)
        if (!(problem->l2[j] > 0) || !isfinite(problem->l2[j]))
            return error_set(err, ERROR_BAD_INPUT, "l2 is %g for column %zu; it must be above 0", problem->l2[j], j);
    return 0;
}

static int check_rows(const struct train_problem *problem, struct error *err)
{
    size_t yes = 0, all = problem->count + problem->held;
    for (size_t i = 0; i < problem->count; i++)
        yes += problem->labels[i];
    if (yes == 0 || yes == problem->count)
        return error_set(err, ERROR_BAD_INPUT, "%zu rows to train on, %zu of them yes: both labels are needed",
                         problem->count, yes);
    for (size_t i = 0; i < problem->count; i++)
        if (!(target_of(problem, i) >= 0 && target_of(problem, i) <= 1))
            return error_set(err, ERROR_BAD_INPUT, "the target of row %zu is %g; it must be from 0 to 1", i,
                             target_of(problem, i));
    for (size_t v = 0; v < problem->view_count; v++) {
        if (!(problem->views[v].weight > 0) || !isfinite(problem->views[v].weight))
            return error_set(err, ERROR_BAD_INPUT, "an exit's weight is %g; it must be above 0",
                             problem->views[v].weight);
        for (size_t i = 0; i < all * problem->width; i++)
            if (!isfinite(problem->views[v].rows[i]))
                return error_set(err, ERROR_BAD_INPUT, "row %zu is not finite in column %zu", i / problem->width,
                                 i % problem->width);
    }
    return 0;
}

static int start(struct adam *adam, size_t width, const float *weights, float bias, struct error *err)
{
    double **const arrays[] = {&adam->parameters, &adam->gradient, &adam->first, &adam->second, &adam->best};
    *adam = (struct adam){.width = width, .first_power = 1, .second_power = 1};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if ((*arrays[i] = calloc(width + 1, sizeof(double))) == NULL)
            return error_set(err, ERROR_FATAL, "out of memory for training");
    adam->weights = malloc(width * sizeof *adam->weights);
    adam->chunk = malloc(width * sizeof *adam->chunk);
    if (adam->weights == NULL || adam->chunk == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for training");
    for (size_t j = 0; j < width; j++)
        adam->parameters[j] = (double)weights[j];
    adam->parameters[width] = (double)bias;
    return 0;
}

static void end(struct adam *adam)
{
    free(adam->parameters);
    free(adam->gradient);
    free(adam->first);
    free(adam->second);
    free(adam->best);
    free(adam->weights);
    free(adam->chunk);
}

static double sum_weights(const struct train_problem *problem)
{
    double sum = 0;
    for (size_t v = 0; v < problem->view_count; v++)
        sum += problem->views[v].weight;
    return sum;
}

/* Leaves the head in adam->best. */
static void descend(struct adam *adam, const struct train_problem *problem, const struct train_settings *settings,
                    struct train_result *result)
{
    double rate = settings->learning_rate, least = INFINITY, rows = sum_weights(problem) * (double)problem->count;
    size_t stalled = 0, since_best = 0;

    *result = (struct train_result){.loss = NAN, .held_loss = problem->held > 0 ? INFINITY : NAN};
    while (result->epochs < settings->epochs && !result->settled) {
        double loss, objective = pass(adam, problem, &loss), held = problem->held > 0 ? held_loss(adam, problem) : NAN;
        bool gained = objective<least *(1 - least_gain), best = problem->held> 0 ? held < result->held_loss : gained;
        result->epochs++;
        if (!isfinite(objective)) {
            result->loss = NAN;
            return;
        }
        since_best = best ? 0 : since_best + 1;
        stalled = gained ? 0 : stalled + 1;
        least = fmin(least, objective);
        if (best) {
            memcpy(adam->best, adam->parameters, (adam->width + 1) * sizeof *adam->best);
            result->loss = loss / rows;
            result->held_loss = held;
        }
        if (stalled == STALL_EPOCHS) {
            rate *= 0.5;
            stalled = 0;
        }
        result->settled =
            rate < least_rate * settings->learning_rate || (problem->held > 0 && since_best > settings->patience);
        step(adam, rate);
    }
}

int train_head(const struct train_problem *problem, const struct train_settings *settings, float *weights, float *bias,
               struct train_result *result, struct error *err)
{
    struct adam adam = {0};
    int failed = check_settings(problem, settings, err) != 0 || check_rows(problem, err) != 0 ||
                 start(&adam, problem->width, weights, *bias, err) != 0;
    if (failed)
        goto out;
    descend(&adam, problem, settings, result);
    if (!isfinite(result->loss)) {
        failed = error_set(err, ERROR_BAD_INPUT,
                           "the loss is not finite: the learning rate %g is too high, or the "
                           "head that training began with is no head",
                           settings->learning_rate);
        goto out;
    }
    for (size_t j = 0; j < problem->width; j++)
        weights[j] = (float)adam.best[j];
    *bias = (float)adam.best[problem->width];
out:
    end(&adam);
    return failed ? -1 : 0;
}

size_t train_width(size_t columns)
{
    return (columns + TRAIN_LANES - 1) / TRAIN_LANES * TRAIN_LANES;
}

struct train_settings train_defaults(void)
{
    return (struct train_settings){.learning_rate = 0.003, .epochs = 3000, .patience = 100};
}
