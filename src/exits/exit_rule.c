#include "exits/exit_rule.h"

#include <math.h>

static float odds(float p)
{
    return p / (1.0f - p);
}

static float log_odds(float p)
{
    return logf(odds(p));
}

static float identity(float p)
{
    return p;
}

/* Whether the last of `steps` steps of f(p) is within `threshold` of the mean of the steps before it. */
static bool last_step_is_typical(float (*f)(float), const float *p, size_t steps, float threshold)
{
    float before = 0.0f;
    for (size_t i = 0; i + 1 < steps; i++)
        before += fabsf(f(p[i + 1]) - f(p[i]));
    float last = fabsf(f(p[steps]) - f(p[steps - 1]));

    return fabsf(last - before / (float)(steps - 1)) < threshold; /* false on NaN */
}

/* Whether the last `count` answers lie on one side of 1/2. */
static bool agree(const float *answers, size_t count)
{
    bool yes = answers[count - 1] > 0.5f;
    for (size_t i = 0; i < count; i++)
        if (yes ? !(answers[i] > 0.5f) : !(answers[i] < 0.5f))
            return false;
    return true;
}

size_t exit_rule_layers(const struct exit_rule *rule)
{
    switch (rule->kind) {
    case EXIT_RULE_FULL:
        return 0;
    case EXIT_RULE_RATIO:
    case EXIT_RULE_LOG_ODDS:
        return rule->window < 2 ? 0 : rule->window + 1;
    case EXIT_RULE_PROBABILITY:
        return rule->window < 1 ? 0 : rule->window + 2;
    case EXIT_RULE_PATIENCE:
        return rule->window < 1 ? 0 : 1;
    case EXIT_RULE_FIXED:
    case EXIT_RULE_CONFIDENCE:
    case EXIT_RULE_CALIBRATED:
        return 1;
    }
    return 0;
}

float exit_rule_confidence(float p)
{
    return p < 0.5f ? 1.0f - p : p;
}

bool exit_rule_settled(const struct exit_rule *rule, const struct exit_view *view)
{
    size_t layers = exit_rule_layers(rule);
    if (layers == 0 || view->count < layers)
        return false;

    const float *p = view->p + (view->count - layers);
    float answer = p[layers - 1];
    switch (rule->kind) {
    case EXIT_RULE_FULL:
        return false;
    case EXIT_RULE_RATIO:
        return last_step_is_typical(odds, p, layers - 1, rule->threshold);
    case EXIT_RULE_LOG_ODDS:
        return last_step_is_typical(log_odds, p, layers - 1, rule->threshold);
    case EXIT_RULE_PROBABILITY:
        return last_step_is_typical(identity, p, layers - 1, rule->threshold);
    case EXIT_RULE_FIXED:
        return !isnan(answer) && view->layer >= rule->layer;
    case EXIT_RULE_CONFIDENCE:
        return exit_rule_confidence(answer) >= rule->threshold;
    case EXIT_RULE_PATIENCE:
        return view->exits >= rule->window && agree(view->answers + (view->exits - rule->window), rule->window);
    case EXIT_RULE_CALIBRATED:
        return exit_rule_confidence(answer) >= view->leave;
    }
    return false;
}
