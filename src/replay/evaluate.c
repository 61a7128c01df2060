#include "replay/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/heads.h"

/* The places of a set's readings: exits[e] spans places[e] .. places[e + 1), its layers ascending to its own. */
struct set_places {
    uint32_t layers[EVALUATE_EXITS];
    size_t places[EVALUATE_EXITS + 1];
    size_t exits, most_layers;
};

static int find_set(struct set_places *set, const struct trajectory *trajectory, const char *name, struct error *err)
{
    *set = (struct set_places){0};
    for (size_t i = 0; i < trajectory->reading_count; i++) {
        const struct trajectory_reading *reading = &trajectory->readings[i];
        if (strcmp(reading->set, name) != 0)
            continue;
        if (set->exits == 0 || set->layers[set->exits - 1] != reading->exit) {
            if (set->exits + 1 == EVALUATE_EXITS)
                return error_set(err, ERROR_BAD_INPUT, "the trajectory has more than %d exits of set '%s'",
                                 EVALUATE_EXITS - 1, name);
            set->places[set->exits] = i;
            set->layers[set->exits++] = reading->exit;
        }
        set->places[set->exits] = i + 1;
        size_t layers = i + 1 - set->places[set->exits - 1];
        set->most_layers = layers > set->most_layers ? layers : set->most_layers;
    }
    if (set->exits == 0)
        return error_set(err, ERROR_BAD_INPUT, "the trajectory has no heads of set '%s'", name);
    return 0;
}

size_t evaluate_exits(const struct trajectory *trajectory, const char *set, uint32_t layers[])
{
    struct set_places places;
    struct error ignored;
    if (find_set(&places, trajectory, set, &ignored) != 0)
        return 0;
    memcpy(layers, places.layers, places.exits * sizeof *layers);
    return places.exits;
}

size_t evaluate_layers(const struct trajectory *trajectory, const char *set)
{
    struct set_places places;
    struct error ignored;
    return find_set(&places, trajectory, set, &ignored) == 0 ? places.most_layers : 0;
}

/* As the engine makes it: in double, then a float. */
static float probability(float logit)
{
    return (float)heads_probability((double)logit);
}

/* One row on its way through the exits. */
struct walk {
    const struct evaluate_policy *policy;
    const struct set_places *set;
    const float *logits; /* the row's */
    size_t exit0;        /* its reading; SIZE_MAX: none */
    float *window;       /* (most_layers) */
};

static bool leaves_at_exit0(const struct walk *walk)
{
    const struct evaluate_policy *policy = walk->policy;
    if (!policy->exit0 || policy->rule.kind != EXIT_RULE_CALIBRATED || policy->leave == NULL)
        return false;
    float p = probability(walk->logits[walk->exit0]);
    return exit_rule_confidence(p) >= policy->leave[0];
}

static bool leaves(const struct walk *walk, size_t exit, float answers[])
{
    size_t first = walk->set->places[exit], count = walk->set->places[exit + 1] - first;
    for (size_t i = 0; i < count; i++)
        walk->window[i] = probability(walk->logits[first + i]);
    answers[exit] = walk->window[count - 1];
    const struct exit_view view = {
        .layer = walk->set->layers[exit],
        .p = walk->window,
        .count = count,
        .answers = answers,
        .exits = exit + 1,
        .leave = walk->policy->leave != NULL ? walk->policy->leave[exit + 1] : INFINITY,
    };
    return exit + 1 == walk->set->exits || exit_rule_settled(&walk->policy->rule, &view);
}

static void answer_row(const struct walk *walk, double *p, uint32_t *layer)
{
    float answers[EVALUATE_EXITS];
    *layer = 0;
    *p = walk->exit0 != SIZE_MAX ? (double)probability(walk->logits[walk->exit0]) : NAN;
    if (isnan(walk->logits[walk->set->places[0]]) || leaves_at_exit0(walk))
        return;
    for (size_t exit = 0; exit < walk->set->exits; exit++)
        if (leaves(walk, exit, answers)) {
            *p = (double)answers[exit];
            *layer = walk->set->layers[exit];
            return;
        }
}

static int check_policy(const struct evaluate_policy *policy, const struct set_places *set, size_t exit0,
                        struct error *err)
{
    if (policy->exit0 && exit0 == SIZE_MAX)
        return error_set(err, ERROR_BAD_INPUT, "the trajectory has no logits of exit 0");
    if (policy->rule.kind != EXIT_RULE_FIXED)
        return 0;
    for (size_t i = 0; i < set->exits; i++)
        if (set->layers[i] == policy->rule.layer)
            return 0;
    return error_set(err, ERROR_BAD_INPUT, "set '%s' has no exit at layer %zu", policy->set, policy->rule.layer);
}

int evaluate_answer(const struct trajectory *trajectory, const struct evaluate_policy *policy,
                    struct evaluate_answers *answers, struct error *err)
{
    struct set_places set;
    size_t count = trajectory->count;
    *answers = (struct evaluate_answers){.count = count};
    struct walk walk = {.policy = policy, .set = &set, .exit0 = trajectory_find(trajectory, "exit0", 0, 0)};
    if (find_set(&set, trajectory, policy->set, err) != 0 || check_policy(policy, &set, walk.exit0, err) != 0)
        return -1;
    int result = -1;
    walk.window = calloc(set.most_layers, sizeof *walk.window);
    answers->p = calloc(count + 1, sizeof *answers->p);
    answers->layers = calloc(count + 1, sizeof *answers->layers);
    if (walk.window == NULL || answers->p == NULL || answers->layers == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for the answers of %zu rows", count);
        goto out;
    }
    for (size_t row = 0; row < count; row++) {
        walk.logits = &trajectory->logits[row * trajectory->reading_count];
        answer_row(&walk, &answers->p[row], &answers->layers[row]);
    }
    result = 0;
out:
    free(walk.window);
    if (result != 0)
        evaluate_answers_free(answers);
    return result;
}

void evaluate_answers_free(struct evaluate_answers *answers)
{
    free(answers->p);
    free(answers->layers);
    *answers = (struct evaluate_answers){0};
}

int evaluate_cost(const struct trajectory *trajectory, const struct evaluate_answers *answers, uint8_t part,
                  struct evaluate_cost *cost, struct error *err)
{
    if (trajectory->layers >= EVALUATE_EXITS)
        return error_set(err, ERROR_BAD_INPUT, "a model of %zu layers; supported: %d", trajectory->layers,
                         EVALUATE_EXITS - 1);
    *cost = (struct evaluate_cost){0};
    double layers = 0, depth = (double)trajectory->layers;
    for (size_t begin = 0, end; begin < trajectory->count; begin = end) {
        uint32_t request = trajectory->rows[begin].request, deepest = 0, prefix = 0;
        for (end = begin; end < trajectory->count && trajectory->rows[end].request == request; end++) {
            const struct trajectory_row *row = &trajectory->rows[end];
            if (row->part != part)
                continue;
            if (isnan(answers->p[end])) {
                cost->without_score++;
                continue;
            }
            uint32_t layer = answers->layers[end];
            if (layer > trajectory->layers)
                return error_set(err, ERROR_BAD_INPUT, "row %zu has an exit at layer %u of %zu", end, layer,
                                 trajectory->layers);
            cost->rows++;
            cost->by_layer[layer]++;
            layers += layer;
            cost->token_layers += (double)row->tail_tokens * layer;
            cost->full += row->tail_tokens * depth;
            deepest = layer > deepest ? layer : deepest;
            prefix = row->tail_tokens > 0 ? row->prefix_tokens : prefix; /* nothing runs where all items are cold */
        }
        cost->token_layers += (double)prefix * deepest;
        cost->full += prefix * depth;
    }
    cost->mean_layer = cost->rows > 0 ? layers / (double)cost->rows : NAN;
    return 0;
}

static bool has_scores(const double *const scores[], size_t scorer_count, size_t row)
{
    for (size_t s = 0; s < scorer_count; s++)
        if (isnan(scores[s][row]))
            return false;
    return true;
}

int evaluate_take_sample(struct evaluate_sample *sample, const struct trajectory *trajectory, uint8_t part,
                         const double *const scores[], size_t scorer_count, struct error *err)
{
    size_t most = trajectory->count + 1;
    *sample = (struct evaluate_sample){
        .rows = calloc(most, sizeof *sample->rows),
        .labels = calloc(most, sizeof *sample->labels),
        .users = calloc(most, sizeof *sample->users),
        .p = calloc(scorer_count + 1, sizeof *sample->p),
    };
    bool failed = sample->rows == NULL || sample->labels == NULL || sample->users == NULL || sample->p == NULL;
    for (size_t s = 0; s < scorer_count && !failed; s++) {
        sample->p[sample->scorer_count++] = calloc(most, sizeof **sample->p);
        failed = sample->p[s] == NULL;
    }
    if (failed) {
        evaluate_sample_free(sample);
        return error_set(err, ERROR_FATAL, "out of memory for the scores of %zu rows", trajectory->count);
    }
    for (size_t i = 0; i < trajectory->count; i++) {
        const struct trajectory_row *row = &trajectory->rows[i];
        if (row->part != part || row->label == TRAJECTORY_UNLABELLED || !has_scores(scores, scorer_count, i))
            continue;
        size_t place = sample->count++;
        sample->rows[place] = i;
        sample->labels[place] = row->label == 1;
        sample->users[place] = row->user;
        for (size_t s = 0; s < scorer_count; s++)
            sample->p[s][place] = scores[s][i];
    }
    return 0;
}

void evaluate_sample_free(struct evaluate_sample *sample)
{
    for (size_t s = 0; s < sample->scorer_count; s++)
        free(sample->p[s]);
    free(sample->p);
    free(sample->rows);
    free(sample->labels);
    free(sample->users);
    *sample = (struct evaluate_sample){0};
}
