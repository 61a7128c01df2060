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
    }
    return 0;
}

bool exit_rule_settled(const struct exit_rule *rule, const float *p, size_t n)
{
    static float (*const scale[])(float) = {
        [EXIT_RULE_RATIO] = odds,
        [EXIT_RULE_LOG_ODDS] = log_odds,
        [EXIT_RULE_PROBABILITY] = identity,
    };

    size_t layers = exit_rule_layers(rule);
    if (layers == 0 || n < layers)
        return false;
    return last_step_is_typical(scale[rule->kind], p + (n - layers), layers - 1, rule->threshold);
}
