/*
 * exit0.h - what the evidence alone says of a candidate, before any layer
 *
 * By the heads' exit 0 where they have one, else the item's smoothed like rate. Under the rule CALIBRATED an answer of
 * the heads' exit 0 that is sure enough is final.
 */
#ifndef HEADRACE_SCORE_EXIT0_H
#define HEADRACE_SCORE_EXIT0_H

#include <stdbool.h>

#include "exits/exit_rule.h"
#include "graph/evidence.h"
#include "model/heads.h"

struct exit0 {
    float features[EVIDENCE_FEATURES];
    double probability;
    bool settled; /* no layer needs to run */
};

/* `heads` may have neither exit 0 nor exits. */
struct exit0 exit0_ask(const struct heads *heads, const struct exit_rule *rule, const struct evidence *evidence);

/* By the heads' exit 0 from evidence_features(): NaN where they have none, or one whose weights know no measure. */
double exit0_probability(const struct heads *heads, const float *features);

/* Whether that probability is final under the rule. */
bool exit0_is_settled(const struct heads *heads, const struct exit_rule *rule, double probability);

#endif
