#include "exits/calibrate.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "exits/exit_rule.h"
#include "exits/train.h"

enum which { ALL_CLUSTERS, EVEN_CLUSTERS, ODD_CLUSTERS };

/* Rows as policies see them. */
struct sample {
    float *confidences; /* (count, exits) */
    double *losses;     /* (count, exits) */
    uint32_t *clusters; /* (count) */
    double *increases;  /* (count) scratch */
    size_t count, exits;
};

/* A step of the path: this exit's threshold is lowered to `leave`. */
struct step {
    size_t exit;
    float leave;
    double loss, saving; /* on the rows that order: what it adds and what it takes from the mean cost */
};

struct walk {
    const struct calibrate_settings *settings;
    struct sample order, held;
    float *thresholds; /* (exits, CALIBRATE_NOTCHES + 1): of each exit, from nobody to everybody */
    struct step *path;
    size_t reference, length;
};

static void sample_free(struct sample *sample)
{
    free(sample->confidences);
    free(sample->losses);
    free(sample->clusters);
    free(sample->increases);
}

/* The engine's arithmetic: an answer is a float. */
static float probability(double logit)
{
    return (float)(1 / (1 + exp(-logit)));
}

static int sample_make(struct sample *sample, const struct calibrate_rows *rows, size_t exits, enum which which,
                       struct error *err)
{
    *sample = (struct sample){.confidences = malloc((rows->count * exits + 1) * sizeof *sample->confidences),
                              .losses = malloc((rows->count * exits + 1) * sizeof *sample->losses),
                              .clusters = malloc((rows->count + 1) * sizeof *sample->clusters),
                              .increases = malloc((rows->count + 1) * sizeof *sample->increases),
                              .exits = exits};
    if (sample->confidences == NULL || sample->losses == NULL || sample->clusters == NULL || sample->increases == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for calibrating on %zu rows", rows->count);
    for (size_t i = 0; i < rows->count; i++) {
        uint32_t cluster = rows->clusters != NULL ? rows->clusters[i] : (uint32_t)i;
        if (which != ALL_CLUSTERS && cluster % 2 != (which == ODD_CLUSTERS))
            continue;
        for (size_t e = 0; e < exits; e++) {
            double logit = rows->logits[i * exits + e];
            if (!isfinite(logit))
                return error_set(err, ERROR_BAD_INPUT, "row %zu to calibrate on has no finite logit at exit %zu", i, e);
            sample->confidences[sample->count * exits + e] = exit_rule_confidence(probability(logit));
            sample->losses[sample->count * exits + e] = train_log_loss(logit, rows->labels[i]);
        }
        sample->clusters[sample->count++] = cluster;
    }
    if (sample->count == 0)
        return error_set(err, ERROR_BAD_INPUT, "there are no rows to calibrate on");
    return 0;
}

static size_t exit_of(const struct walk *walk, const struct sample *sample, size_t row, const float *leave)
{
    const float *confidences = sample->confidences + row * sample->exits;
    size_t exit = 0;
    while (exit < walk->reference && !(confidences[exit] >= leave[exit]))
        exit++;
    return exit;
}

/* Mean loss increase over the reference and mean cost of a policy; each row's increase stays in sample->increases. */
static double try_policy(const struct walk *walk, struct sample *sample, const float *leave, double *cost)
{
    double increase = 0;
    *cost = 0;
    for (size_t i = 0; i < sample->count; i++) {
        const double *losses = sample->losses + i * sample->exits;
        size_t exit = exit_of(walk, sample, i, leave);
        sample->increases[i] = losses[exit] - losses[walk->reference];
        increase += sample->increases[i];
        *cost += walk->settings->cost[exit];
    }
    *cost /= (double)sample->count;
    return increase / (double)sample->count;
}

static double mean_loss(const struct sample *sample, size_t exit)
{
    double sum = 0;
    for (size_t i = 0; i < sample->count; i++)
        sum += sample->losses[i * sample->exits + exit];
    return sum / (double)sample->count;
}

/* The shallowest of those that the best is not clearly better than. */
static int choose_reference(struct walk *walk, struct error *err)
{
    struct sample *held = &walk->held;
    size_t best = 0;
    bool within = false;
    for (size_t e = 1; e < held->exits; e++)
        if (mean_loss(held, e) < mean_loss(held, best))
            best = e;
    for (walk->reference = 0; walk->reference < best && !within; walk->reference++) {
        for (size_t i = 0; i < held->count; i++)
            held->increases[i] = held->losses[i * held->exits + walk->reference] - held->losses[i * held->exits + best];
        if (calibrate_is_within(held->increases, held->clusters, held->count, walk->settings->max_loss, &within, err) !=
            0)
            return -1;
    }
    walk->reference -= within;
    return 0;
}

static int descending(const void *a, const void *b)
{
    float one = *(const float *)a, other = *(const float *)b;
    return (one < other) - (one > other);
}

/* An exit's thresholds: nobody, then confidences that another share of the ordering rows reaches each, then everybody.
 */
static int choose_thresholds(struct walk *walk, struct error *err)
{
    const struct sample *sample = &walk->order;
    float *sorted = malloc(sample->count * sizeof *sorted);
    if (sorted == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the confidences of %zu rows", sample->count);
    for (size_t e = 0; e < walk->reference; e++) {
        float *thresholds = walk->thresholds + e * (CALIBRATE_NOTCHES + 1);
        for (size_t i = 0; i < sample->count; i++)
            sorted[i] = sample->confidences[i * sample->exits + e];
        qsort(sorted, sample->count, sizeof *sorted, descending);
        thresholds[0] = INFINITY;
        for (size_t k = 1; k < CALIBRATE_NOTCHES; k++)
            thresholds[k] = sorted[sample->count * k / CALIBRATE_NOTCHES];
        thresholds[CALIBRATE_NOTCHES] = 0.5f;
    }
    free(sorted);
    return 0;
}

/*
 * What a step adds to the loss at worst: mean and standard error of what the rows that leave earlier now add. With the
 * mean alone chance would put steps first that merely seem to gain, and the first that fails its test ends the walk.
 */
static double added_loss(const struct sample *sample, const double *before)
{
    double sum = 0, squares = 0, count = (double)sample->count;
    for (size_t i = 0; i < sample->count; i++) {
        double added = sample->increases[i] - before[i];
        sum += added;
        squares += added * added;
    }
    double mean = sum / count;
    return mean + sqrt(fmax(0, squares / count - mean * mean) / count);
}

/* What saves without losing first, then what loses least for what it saves. */
static bool is_better(const struct step *step, const struct step *best)
{
    if (step->loss <= 0 || best->loss <= 0)
        return step->loss <= 0 && (best->loss > 0 || step->saving > best->saving);
    return step->loss * best->saving < best->loss * step->saving;
}

/* One threshold a notch lower each time, until all rows leave at the first exit. */
static void draw_path(struct walk *walk, double *before)
{
    struct sample *sample = &walk->order;
    size_t lowered[CALIBRATE_MAX_EXITS] = {0};
    float leave[CALIBRATE_MAX_EXITS];
    double cost, there;

    for (size_t e = 0; e < CALIBRATE_MAX_EXITS; e++)
        leave[e] = INFINITY;
    while (walk->length < walk->reference * CALIBRATE_NOTCHES) {
        struct step best = {.loss = INFINITY};
        try_policy(walk, sample, leave, &cost);
        memcpy(before, sample->increases, sample->count * sizeof *before);
        for (size_t e = 0; e < walk->reference; e++) {
            if (lowered[e] == CALIBRATE_NOTCHES)
                continue;
            float kept = leave[e];
            leave[e] = walk->thresholds[e * (CALIBRATE_NOTCHES + 1) + lowered[e] + 1];
            try_policy(walk, sample, leave, &there);
            struct step step = {
                .exit = e, .leave = leave[e], .loss = added_loss(sample, before), .saving = cost - there};
            if (isinf(best.loss) || is_better(&step, &best))
                best = step;
            leave[e] = kept;
        }
        leave[best.exit] = best.leave;
        lowered[best.exit]++;
        walk->path[walk->length++] = best;
    }
}

/* Down a path until a policy fails its test. */
static int follow_path(struct walk *walk, const struct step *path, size_t length, float *leave,
                       struct calibrate_result *result, struct error *err)
{
    const struct calibrate_settings *settings = walk->settings;
    size_t chains = settings->cost[0] <= 0 ? 2 : 1; /* that share out the 5 % */
    float tried[CALIBRATE_MAX_EXITS];
    bool safe = true;

    *result = (struct calibrate_result){.reference = walk->reference,
                                        .reference_loss = mean_loss(&walk->held, walk->reference),
                                        .cost = settings->cost[walk->reference],
                                        .path = length};
    for (size_t e = 0; e < settings->exits; e++)
        leave[e] = tried[e] = e < walk->reference ? INFINITY : 0.5f;
    for (size_t i = 0; i < length && safe; i++) {
        double cost, bound;
        tried[path[i].exit] = path[i].leave;
        double increase = try_policy(walk, &walk->held, tried, &cost);
        if (calibrate_bound(walk->held.increases, walk->held.clusters, walk->held.count, chains, &bound, err) != 0)
            return -1;
        safe = bound <= settings->max_loss;
        if (safe) {
            memcpy(leave, tried, settings->exits * sizeof *leave);
            result->increase = increase;
            result->bound = bound;
            result->cost = cost;
            result->accepted++;
        }
    }
    return 0;
}

/* The test of an exit that costs nothing, then the path. */
static int follow_both(struct walk *walk, float *leave, struct calibrate_result *result, struct error *err)
{
    const struct step at_once = {.exit = 0, .leave = 0.5f};
    bool costless = walk->settings->cost[0] <= 0 && walk->reference > 0;
    if (costless && follow_path(walk, &at_once, 1, leave, result, err) != 0)
        return -1;
    return costless && result->accepted > 0 ? 0 : follow_path(walk, walk->path, walk->length, leave, result, err);
}

static int check(const struct calibrate_settings *settings, struct error *err)
{
    if (settings->exits == 0 || settings->exits > CALIBRATE_MAX_EXITS)
        return error_set(err, ERROR_BAD_INPUT, "a chain of %zu exits: 1 to %d can be calibrated", settings->exits,
                         CALIBRATE_MAX_EXITS);
    if (!(settings->max_loss >= 0) || !isfinite(settings->max_loss))
        return error_set(err, ERROR_BAD_INPUT, "the loss increase allowed is %g; it must be at least 0",
                         settings->max_loss);
    for (size_t e = 1; e < settings->exits; e++)
        if (!(settings->cost[e] > settings->cost[e - 1]))
            return error_set(err, ERROR_BAD_INPUT, "exit %zu costs no more than the one before it", e);
    return 0;
}

int calibrate_leave(const struct calibrate_settings *settings, const struct calibrate_rows *order,
                    const struct calibrate_rows *held, float *leave, struct calibrate_result *result, struct error *err)
{
    struct walk walk = {.settings = settings};
    double *before = NULL;
    int failed = check(settings, err);
    *result = (struct calibrate_result){0};
    if (failed == 0)
        failed = sample_make(&walk.order, order != NULL ? order : held, settings->exits,
                             order != NULL ? ALL_CLUSTERS : EVEN_CLUSTERS, err);
    if (failed == 0)
        failed = sample_make(&walk.held, held, settings->exits, order != NULL ? ALL_CLUSTERS : ODD_CLUSTERS, err);
    if (failed != 0)
        goto out;

    failed = choose_reference(&walk, err);
    if (failed != 0)
        goto out;
    walk.thresholds = malloc((walk.reference + 1) * (CALIBRATE_NOTCHES + 1) * sizeof *walk.thresholds);
    walk.path = malloc((walk.reference + 1) * CALIBRATE_NOTCHES * sizeof *walk.path);
    before = malloc(walk.order.count * sizeof *before);
    if (walk.thresholds == NULL || walk.path == NULL || before == NULL) {
        failed = error_set(err, ERROR_FATAL, "out of memory for the thresholds of %zu exits", settings->exits);
        goto out;
    }
    failed = choose_thresholds(&walk, err);
    if (failed != 0)
        goto out;
    draw_path(&walk, before);
    failed = follow_both(&walk, leave, result, err);
out:
    sample_free(&walk.order);
    sample_free(&walk.held);
    free(walk.thresholds);
    free(walk.path);
    free(before);
    return failed;
}
