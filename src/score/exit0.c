#include "score/exit0.h"

#include <math.h>

struct exit0 exit0_ask(const struct heads *heads, const struct exit_rule *rule, const struct evidence *evidence)
{
    struct exit0 exit0 = {.probability = evidence->item_like_rate};
    evidence_features(evidence, exit0.features);
    if (heads->exit0 == NULL)
        return exit0;
    double p = 1.0 / (1.0 + exp(-(double)heads_exit0_logit(heads, exit0.features)));
    if (isnan(p)) /* weights without measure: the like rate is an answer still */
        return exit0;
    exit0.probability = p;
    exit0.settled =
        rule->kind == EXIT_RULE_CALIBRATED && exit_rule_confidence((float)exit0.probability) >= heads->exit0_leave;
    return exit0;
}
