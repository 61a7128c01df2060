#include "replay/dial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

static const float thresholds[] = {0.001F, 0.005F, 0.01F, 0.05F, 0.1F};
static const float confidences[] = {0.6F, 0.7F, 0.8F, 0.9F, 0.95F};
static const float everybody = 0.5F; /* every answer is as sure as that */
static const double max_losses[] = {0.0005, 0.001, 0.002, 0.005, 0.01};
enum { LEAST_WINDOW = 2, MOST_WINDOW = 5, COUNT_OF_THRESHOLDS = sizeof thresholds / sizeof *thresholds };

struct making {
    const struct trajectory *trajectory;
    const struct dial_settings *settings;
    struct dial *dial;
    size_t capacity;
    uint32_t layers[EVALUATE_EXITS]; /* of the exits */
    size_t exits;
    struct evaluate_answers reference;
};

static struct dial_point *add_point(struct making *making, struct exit_rule rule)
{
    struct dial *dial = making->dial;
    if (array_reserve(&dial->points, &making->capacity, dial->count + 1, sizeof *dial->points) != 0)
        return NULL;
    struct dial_point *point = &dial->points[dial->count++];
    *point = (struct dial_point){.policy = {.set = making->settings->set, .rule = rule}, .max_loss = NAN};
    for (size_t i = 0; i < EVALUATE_EXITS; i++)
        point->thresholds[i] = INFINITY;
    return point;
}

/* Everybody leaves at one exit: 0 is exit 0, the set's first is 1. */
static bool add_fixed(struct making *making, size_t exit)
{
    size_t layer = exit > 0 ? making->layers[exit - 1] : 0;
    struct dial_point *point = add_point(making, (struct exit_rule){.kind = EXIT_RULE_FIXED, .layer = layer});
    if (point == NULL)
        return false;
    point->writable = true;
    point->thresholds[exit] = everybody;
    if (exit == 0)
        point->policy.set = "exit0";
    return true;
}

static bool add_confidence(struct making *making, float confidence)
{
    struct dial_point *point = add_point(making, (struct exit_rule){EXIT_RULE_CONFIDENCE, 0, confidence, 0});
    if (point == NULL)
        return false;
    point->writable = true;
    for (size_t exit = 1; exit <= making->exits; exit++)
        point->thresholds[exit] = confidence;
    return true;
}

/* Without a calibrate slice that says something there are no such points. */
static int add_calibrated(struct making *making, double max_loss, struct error *err)
{
    float leave[EVALUATE_EXITS];
    struct error reason;
    if (evaluate_calibrate(making->trajectory, making->settings->set, making->settings->exit0, max_loss, leave,
                           &reason) != 0) {
        if (reason.kind == ERROR_BAD_INPUT)
            return 0;
        *err = reason;
        return -1;
    }
    struct dial_point *point = add_point(making, (struct exit_rule){.kind = EXIT_RULE_CALIBRATED});
    if (point == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the dial of '%s'", making->settings->set);
    point->writable = true;
    point->max_loss = max_loss;
    point->policy.exit0 = making->settings->exit0;
    memcpy(point->thresholds, leave, (making->exits + 1) * sizeof *leave);
    return 0;
}

/* Steps from layer to layer: all windows that the trajectory has the layers for. */
static bool add_steps(struct making *making, enum exit_rule_kind kind)
{
    size_t most = evaluate_layers(making->trajectory, making->settings->set);
    for (size_t window = LEAST_WINDOW; window <= MOST_WINDOW; window++)
        for (size_t t = 0; t < COUNT_OF_THRESHOLDS; t++) {
            struct exit_rule rule = {kind, window, thresholds[t], 0};
            if (exit_rule_layers(&rule) <= most && add_point(making, rule) == NULL)
                return false;
        }
    return true;
}

static bool add_points(struct making *making)
{
    struct dial_point *full = add_point(making, (struct exit_rule){.kind = EXIT_RULE_FULL});
    bool added = full != NULL;
    if (added)
        full->writable = true;
    for (size_t exit = making->settings->exit0 ? 0 : 1; added && exit < making->exits; exit++)
        added = add_fixed(making, exit);
    added = added && add_steps(making, EXIT_RULE_PROBABILITY) && add_steps(making, EXIT_RULE_RATIO) &&
            add_steps(making, EXIT_RULE_LOG_ODDS);
    for (size_t i = 0; added && i < sizeof confidences / sizeof *confidences; i++)
        added = add_confidence(making, confidences[i]);
    for (size_t window = 2; added && window < making->exits; window++)
        added = add_point(making, (struct exit_rule){.kind = EXIT_RULE_PATIENCE, .window = window}) != NULL;
    return added;
}

/* Mean log loss of the policy's answers on a part; NaN where it has no rows. */
static int loss_of(const struct trajectory *trajectory, const struct evaluate_policy *policy, uint8_t part,
                   double *log_loss, struct error *err)
{
    struct evaluate_answers answers;
    struct evaluate_sample sample;
    if (evaluate_answer(trajectory, policy, &answers, err) != 0)
        return -1;
    int result = evaluate_take_sample(&sample, trajectory, part, (const double *const[]){answers.p}, 1, err);
    if (result == 0) {
        result = metrics_log_loss(sample.p[0], sample.labels, sample.count, log_loss, err);
        evaluate_sample_free(&sample);
    }
    evaluate_answers_free(&answers);
    return result;
}

static struct evaluate_policy fixed(const char *set, size_t layer)
{
    struct evaluate_policy policy = {.set = set, .rule = {.kind = EXIT_RULE_FIXED, .layer = layer}};
    return layer > 0 ? policy : (struct evaluate_policy){.set = "exit0"};
}

int dial_find_reference(const struct trajectory *trajectory, const char *set, bool exit0, uint8_t part, size_t *layer,
                        struct error *err)
{
    uint32_t layers[EVALUATE_EXITS + 1] = {0}; /* exit 0's first */
    size_t exits = evaluate_exits(trajectory, set, layers + 1);
    if (exits == 0)
        return error_set(err, ERROR_BAD_INPUT, "the trajectory has no heads of set '%s'", set);
    double best = INFINITY;
    *layer = SIZE_MAX;
    for (size_t i = exit0 ? 0 : 1; i <= exits; i++) {
        double log_loss;
        struct evaluate_policy policy = fixed(set, layers[i]);
        if (loss_of(trajectory, &policy, part, &log_loss, err) != 0)
            return -1;
        if (log_loss < best) {
            best = log_loss;
            *layer = layers[i];
        }
    }
    return 0;
}

static int find_reference(struct making *making, struct error *err)
{
    const struct dial_settings *settings = making->settings;
    size_t layer = settings->reference;
    if (layer == SIZE_MAX &&
        dial_find_reference(making->trajectory, settings->set, settings->exit0, TRAJECTORY_CALIBRATE, &layer, err) != 0)
        return -1;
    if (layer == SIZE_MAX &&
        dial_find_reference(making->trajectory, settings->set, settings->exit0, settings->part, &layer, err) != 0)
        return -1;
    if (layer == SIZE_MAX)
        return error_set(err, ERROR_BAD_INPUT, "no row to evaluate '%s' on has both a label and a score",
                         settings->set);
    making->dial->reference = layer;
    struct evaluate_policy policy = fixed(settings->set, layer);
    return evaluate_answer(making->trajectory, &policy, &making->reference, err);
}

static int measure_sample(const struct evaluate_sample *sample, const struct making *making, struct dial_point *point,
                          struct error *err)
{
    const struct dial_settings *settings = making->settings;
    if (sample->count == 0)
        return error_set(err, ERROR_BAD_INPUT, "no row to evaluate '%s' on has both a label and a score",
                         settings->set);
    if (metrics_auc(sample->p[0], sample->labels, sample->count, &point->auc, err) != 0 ||
        metrics_log_loss(sample->p[0], sample->labels, sample->count, &point->log_loss, err) != 0)
        return -1;
    return metrics_log_loss_difference(sample->p[0], sample->p[1], sample->labels, sample->users, sample->count,
                                       making->trajectory->users, settings->rounds, settings->seed, &point->increase,
                                       err);
}

static int measure(const struct making *making, struct dial_point *point, struct error *err)
{
    struct evaluate_answers answers;
    struct evaluate_sample sample = {0};
    if (evaluate_answer(making->trajectory, &point->policy, &answers, err) != 0)
        return -1;
    int result = evaluate_cost(making->trajectory, &answers, making->settings->part, &point->cost, err);
    if (result == 0)
        result = evaluate_take_sample(&sample, making->trajectory, making->settings->part,
                                      (const double *const[]){answers.p, making->reference.p}, 2, err);
    if (result == 0)
        result = measure_sample(&sample, making, point, err);
    evaluate_sample_free(&sample);
    evaluate_answers_free(&answers);
    return result;
}

int dial_make(const struct trajectory *trajectory, const struct dial_settings *settings, struct dial *dial,
              struct error *err)
{
    struct making making = {.trajectory = trajectory, .settings = settings, .dial = dial};
    *dial = (struct dial){0};
    snprintf(dial->set, sizeof dial->set, "%s", settings->set);
    making.exits = evaluate_exits(trajectory, settings->set, making.layers);
    int result = find_reference(&making, err);
    if (result == 0 && !add_points(&making))
        result = error_set(err, ERROR_FATAL, "out of memory for the dial of '%s'", settings->set);
    for (size_t i = 0; i < sizeof max_losses / sizeof *max_losses && result == 0; i++)
        result = add_calibrated(&making, max_losses[i], err);
    for (size_t i = 0; i < dial->count && result == 0; i++) {
        struct dial_point *point = &dial->points[i]; /* they stay where they are from now on */
        point->policy.leave = point->policy.rule.kind == EXIT_RULE_CALIBRATED ? point->thresholds : NULL;
        result = measure(&making, point, err);
    }
    evaluate_answers_free(&making.reference);
    if (result != 0)
        dial_free(dial);
    return result;
}

void dial_free(struct dial *dial)
{
    free(dial->points);
    *dial = (struct dial){0};
}

const struct dial_point *dial_choose(const struct dial *dial, double max_loss)
{
    const struct dial_point *chosen = NULL;
    for (size_t i = 0; i < dial->count; i++) {
        const struct dial_point *point = &dial->points[i];
        if (point->writable && point->increase.interval.high <= max_loss && point->increase.value <= max_loss &&
            (chosen == NULL || point->cost.token_layers < chosen->cost.token_layers))
            chosen = point;
    }
    return chosen;
}

void dial_rule_name(const struct exit_rule *rule, double max_loss, char *name, size_t size)
{
    static const char *const kinds[] = {
        [EXIT_RULE_FULL] = "full depth",   [EXIT_RULE_RATIO] = "ratio",
        [EXIT_RULE_LOG_ODDS] = "log_odds", [EXIT_RULE_PROBABILITY] = "probability",
        [EXIT_RULE_FIXED] = "fixed",       [EXIT_RULE_CONFIDENCE] = "confidence",
        [EXIT_RULE_PATIENCE] = "patience", [EXIT_RULE_CALIBRATED] = "calibrated",
    };
    const char *kind = kinds[rule->kind];
    double threshold = (double)rule->threshold;
    switch (rule->kind) {
    case EXIT_RULE_FULL:
        snprintf(name, size, "%s", kind);
        return;
    case EXIT_RULE_FIXED:
        snprintf(name, size, "%s %zu", kind, rule->layer);
        return;
    case EXIT_RULE_CONFIDENCE:
        snprintf(name, size, "%s %g", kind, threshold);
        return;
    case EXIT_RULE_PATIENCE:
        snprintf(name, size, "%s %zu", kind, rule->window);
        return;
    case EXIT_RULE_CALIBRATED:
        if (isnan(max_loss))
            snprintf(name, size, "%s", kind);
        else
            snprintf(name, size, "%s, max_loss %g", kind, max_loss);
        return;
    case EXIT_RULE_RATIO:
    case EXIT_RULE_LOG_ODDS:
    case EXIT_RULE_PROBABILITY:
        break;
    }
    snprintf(name, size, "%s, m %zu, tau %g", kind, rule->window, threshold);
}
