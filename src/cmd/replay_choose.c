/* replay_choose.c - the operating point, into the file of heads */
#include <math.h>
#include <stdio.h>

#include "cmd/replay.h"
#include "replay/evaluate.h"

/* Rules that are thresholds of confidence, each exit its own. */
static bool is_thresholds(enum exit_rule_kind kind)
{
    return kind == EXIT_RULE_CALIBRATED || kind == EXIT_RULE_FIXED || kind == EXIT_RULE_CONFIDENCE;
}

static void print_point(const char *set, const struct exit_rule *rule, const struct heads *heads, const float *leave,
                        double max_loss)
{
    printf("%s, max_loss %g: %s", set, max_loss, setup_rule_name(rule->kind));
    if (rule->kind == EXIT_RULE_FIXED)
        printf(" %zu", rule->layer);
    else if (!is_thresholds(rule->kind))
        printf(", window %zu, threshold %g", rule->window, (double)rule->threshold);
    if (is_thresholds(rule->kind) && isfinite(leave[0]))
        printf("; exit 0 from %.4f", (double)leave[0]);
    for (size_t i = 0; is_thresholds(rule->kind) && i < heads->count; i++)
        if (isfinite(leave[i + 1]))
            printf("; layer %zu from %.4f", heads->exits[i].layer, (double)leave[i + 1]);
    printf("\n");
}

static int choose(const struct replay_answerer *answerer, size_t view, const struct report *report, double max_loss,
                  struct error *err)
{
    const struct heads *heads = &answerer->views[view].heads;
    const char *set = answerer->sets[view].name, *path = config_text(answerer->config, "heads.path");
    float leave[EVALUATE_EXITS + 1];
    size_t layers[HEADS_MAX_EXITS], count;
    struct exit_rule rule;
    if (!report_chosen(report, set, &rule, leave, &count)) {
        printf("%s, max_loss %g: no rule keeps to it on the calibrate slice\n", set, max_loss);
        return 0;
    }
    print_point(set, &rule, heads, leave, max_loss);
    if (*path == '\0' || count != heads->count + 1)
        return 0;
    if (!is_thresholds(rule.kind)) {
        printf("%s: that is no matter of thresholds; set exit.rule, exit.window and exit.threshold\n", set);
        return 0;
    }
    for (size_t i = 0; i < heads->count; i++)
        layers[i] = heads->exits[i].layer;
    return heads_write_leave(path, set, layers, leave, heads->count, err);
}

int replay_choose(const struct replay_answerer *answerer, const struct report *report, double max_loss,
                  struct error *err)
{
    for (size_t i = 0; i < answerer->count; i++)
        if (choose(answerer, i, report, max_loss, err) != 0)
            return error_wrap(err, "--choose");
    return 0;
}
