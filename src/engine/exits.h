/*
 * exits.h - at which exits a rule is asked, and whether rule and heads can work at all
 */
#ifndef HEADRACE_ENGINE_EXITS_H
#define HEADRACE_ENGINE_EXITS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "exits/exit_rule.h"
#include "model/heads.h"
#include "model/model.h"

struct exits {
    const struct heads *heads;
    struct exit_rule rule;
    size_t window; /* layers whose probabilities an exit looks at, its own included */
};

/*
 * ERROR_FATAL: heads that are not this model's, a rule whose numbers mean nothing, or one that can fire at none of the
 * exits. Logs the exits that are too shallow for the rule.
 */
int exits_check(struct exits *exits, const struct heads *heads, const struct exit_rule *rule, const struct model *model,
                struct error *err);

/* Whether a candidate can leave at that exit by the rule. The last exit is where everybody leaves: not by the rule. */
bool exits_can_fire(const struct exits *exits, size_t exit);

/* Whether the rule needs that exit's answer: it can fire there, or takes it into account later. */
bool exits_asks(const struct exits *exits, size_t exit);

#endif
