#include "score/exit0.h"

#include <math.h>

double exit0_probability(const struct heads *heads, const float *features)
{
    return heads->exit0 == NULL ? NAN : heads_probability((double)heads_exit0_logit(heads, features));
}

bool exit0_is_settled(const struct heads *heads, const struct exit_rule *rule, double probability)
{
    return rule->kind == EXIT_RULE_CALIBRATED && exit_rule_confidence((float)probability) >= heads->exit0_leave;
}

struct exit0 exit0_ask(const struct heads *heads, const struct exit_rule *rule, const struct evidence *evidence)
{
    struct exit0 exit0 = {.probability = evidence->item_like_rate};
    evidence_features(evidence, exit0.features);
    double p = exit0_probability(heads, exit0.features);
    if (isnan(p)) /* the like rate is an answer still */
        return exit0;
    exit0.probability = p;
    exit0.settled = exit0_is_settled(heads, rule, p);
    return exit0;
}
