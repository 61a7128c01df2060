#include "engine/exits.h"

#include <math.h>

#include "base/log.h"
#include "engine/engine.h"

static int check_head(const struct heads *heads, size_t exit, struct error *err)
{
    const struct head *head = &heads->exits[exit];
    if (head->layer < 1 || (exit > 0 && head->layer <= heads->exits[exit - 1].layer))
        return error_set(err, ERROR_FATAL, "heads %s: exit %zu sits on layer %zu; layers must ascend from 1", heads->id,
                         exit, head->layer);
    if (head->first < 1 || head->first > head->layer)
        return error_set(err, ERROR_FATAL, "heads %s: the exit at layer %zu has rows from layer %zu on", heads->id,
                         head->layer, head->first);
    return 0;
}

static int check_heads(const struct heads *heads, const struct model *model, struct error *err)
{
    if (heads->count < 1 || heads->count > ENGINE_MAX_EXITS)
        return error_set(err, ERROR_FATAL, "heads %s: %zu exits; supported: 1 to %d", heads->id, heads->count,
                         ENGINE_MAX_EXITS);
    if (heads->width != model->width)
        return error_set(err, ERROR_FATAL, "heads %s are for a model of width %zu, this one has %zu", heads->id,
                         heads->width, model->width);
    for (size_t i = 0; i < heads->count; i++)
        if (check_head(heads, i, err) != 0)
            return -1;
    if (heads->exits[heads->count - 1].layer > model->layer_count)
        return error_set(err, ERROR_FATAL, "heads %s: the last head sits on layer %zu of a model of %zu layers",
                         heads->id, heads->exits[heads->count - 1].layer, model->layer_count);
    return 0;
}

static bool looks_at_steps(enum exit_rule_kind kind)
{
    return kind == EXIT_RULE_RATIO || kind == EXIT_RULE_LOG_ODDS || kind == EXIT_RULE_PROBABILITY;
}

/* The numbers of a rule that is not FULL. */
static int check_numbers(const struct exit_rule *rule, struct error *err)
{
    size_t layers = exit_rule_layers(rule);
    if (layers == 0 || layers > ENGINE_MAX_WINDOW)
        return error_set(err, ERROR_FATAL,
                         "the exit rule's window of %zu looks at %zu layers; supported: at most %d, and a window of at "
                         "least 2 (rules on probabilities and patience: 1)",
                         rule->window, layers, ENGINE_MAX_WINDOW);
    if (looks_at_steps(rule->kind) && !(rule->threshold > 0.0f))
        return error_set(err, ERROR_FATAL, "the exit rule's threshold is %g; it must be above 0",
                         (double)rule->threshold);
    if (rule->kind == EXIT_RULE_CONFIDENCE && !(rule->threshold > 0.5f && rule->threshold <= 1.0f))
        return error_set(err, ERROR_FATAL, "the exit rule's threshold is %g; a confidence is above 0.5 and at most 1",
                         (double)rule->threshold);
    if (rule->kind == EXIT_RULE_FIXED && rule->layer < 1)
        return error_set(err, ERROR_FATAL, "the exit rule is for a fixed layer and names none: set exit.layer");
    return 0;
}

static bool is_too_shallow(const struct exits *exits, const struct head *head)
{
    return head->layer - head->first + 1 < exit_rule_layers(&exits->rule);
}

bool exits_can_fire(const struct exits *exits, size_t exit)
{
    const struct exit_rule *rule = &exits->rule;
    const struct head *head = &exits->heads->exits[exit];
    if (exit + 1 >= exits->heads->count || is_too_shallow(exits, head))
        return false;
    switch (rule->kind) {
    case EXIT_RULE_FULL:
        return false;
    case EXIT_RULE_FIXED:
        return head->layer >= rule->layer;
    case EXIT_RULE_PATIENCE:
        return exit + 1 >= rule->window;
    case EXIT_RULE_CALIBRATED:
        return head->leave <= 1.0f;
    case EXIT_RULE_RATIO:
    case EXIT_RULE_LOG_ODDS:
    case EXIT_RULE_PROBABILITY:
    case EXIT_RULE_CONFIDENCE:
        return true;
    }
    return false;
}

bool exits_asks(const struct exits *exits, size_t exit)
{
    return exits->rule.kind == EXIT_RULE_PATIENCE || exits_can_fire(exits, exit);
}

/* Why a rule can fire nowhere, and what to do. */
static int fail_idle(const struct exits *exits, struct error *err)
{
    const struct heads *heads = exits->heads;
    size_t layers = exit_rule_layers(&exits->rule), last = heads->exits[heads->count - 1].layer;

    switch (exits->rule.kind) {
    case EXIT_RULE_FIXED:
        return error_set(err, ERROR_FATAL,
                         "the exit rule is for layer %zu and can fire at no exit: heads %s need one at a layer from "
                         "there to %zu, or set the rule to full depth",
                         exits->rule.layer, heads->id, last - 1);
    case EXIT_RULE_PATIENCE:
        return error_set(err, ERROR_FATAL,
                         "the exit rule waits for %zu answers that agree and can fire at no exit: heads %s have %zu "
                         "before the last, or set the rule to full depth",
                         exits->rule.window, heads->id, heads->count - 1);
    case EXIT_RULE_CALIBRATED:
        return error_set(err, ERROR_FATAL,
                         "the exit rule is calibrated and can fire at no exit: heads %s carry no thresholds; train or "
                         "calibrate them, or set the rule to full depth",
                         heads->id);
    default:
        return error_set(err, ERROR_FATAL,
                         "the exit rule looks at %zu layer%s and can fire at no exit: heads %s need one at a layer "
                         "from %zu to %zu, or set the rule to full depth",
                         layers, layers == 1 ? "" : "s", heads->id, layers, last - 1);
    }
}

int exits_check(struct exits *exits, const struct heads *heads, const struct exit_rule *rule, const struct model *model,
                struct error *err)
{
    size_t able = 0;
    *exits = (struct exits){.heads = heads, .rule = *rule, .window = 1};

    if (check_heads(heads, model, err) != 0)
        return -1;
    if (rule->kind == EXIT_RULE_FULL)
        return 0;
    if (check_numbers(rule, err) != 0)
        return -1;
    exits->window = exit_rule_layers(rule);
    for (size_t i = 0; i < heads->count; i++)
        able += exits_can_fire(exits, i);
    /* Under CALIBRATED candidates that leave before any layer are reason enough. */
    if (able == 0 && !(rule->kind == EXIT_RULE_CALIBRATED && heads->exit0 != NULL && heads->exit0_leave <= 1.0f))
        return fail_idle(exits, err);
    for (size_t i = 0; i + 1 < heads->count; i++)
        if (is_too_shallow(exits, &heads->exits[i]))
            log_warn("engine", "the exit at layer %zu is passed over: the rule looks at %zu layers",
                     heads->exits[i].layer, exits->window);
    return 0;
}
