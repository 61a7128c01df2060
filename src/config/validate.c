#include <stdio.h>
#include <string.h>

#include "config/settings.h"

static const char *origin_of(const struct config *config, const char *name)
{
    return config->origins[option_find(name) - config_options].name;
}

static int check_history(const struct config *config, struct error *err)
{
    if (config_integer(config, "history.min") <= config_integer(config, "history.max"))
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "history.min (%s) is above history.max (%s): no user would ever have enough",
                     origin_of(config, "history.min"), origin_of(config, "history.max"));
}

static int check_dimension(const struct config *config, struct error *err)
{
    if (config_integer(config, "graph.dimension") % 16 == 0)
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "graph.dimension (%s) must be a multiple of 16",
                     origin_of(config, "graph.dimension"));
}

static int check_weights(const struct config *config, struct error *err)
{
    enum { WEIGHTED = 2 };
    size_t count;
    const int64_t *weights = config_list(config, "graph.weights", &count);
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += weights[i];
    if (config_choice(config, "graph.result") != WEIGHTED ||
        (sum > 0 && (int64_t)count == config_integer(config, "graph.layers")))
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "graph.weights (%s) must be a number a layer, not all 0: graph.layers (%s)",
                     origin_of(config, "graph.weights"), origin_of(config, "graph.layers"));
}

static int check_max_nodes(const struct config *config, struct error *err)
{
    if (config_integer(config, "graph.max_nodes") != 1)
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "graph.max_nodes (%s): one node makes no edge; use 2 or more, or 0",
                     origin_of(config, "graph.max_nodes"));
}

/* A step needs another one to be compared with; the probability rule looks one further back by itself. */
static int check_window(const struct config *config, struct error *err)
{
    enum { RATIO = 1, LOG_ODDS = 2 };
    size_t rule = config_choice(config, "exit.rule");
    if (config_integer(config, "exit.window") >= 2 || (rule != RATIO && rule != LOG_ODDS))
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "exit.window (%s) must be at least 2 for exit.rule %s (%s)",
                     origin_of(config, "exit.window"), option_find("exit.rule")->choices[rule],
                     origin_of(config, "exit.rule"));
}

/* What a threshold is depends on the rule: a step's size, or how sure an answer must be. */
static int check_threshold(const struct config *config, struct error *err)
{
    enum { CONFIDENCE = 5 };
    double threshold = config_number(config, "exit.threshold");
    if (config_choice(config, "exit.rule") != CONFIDENCE || (threshold > 0.5 && threshold <= 1))
        return 0;
    return error_set(err, ERROR_BAD_INPUT,
                     "exit.threshold (%s) must be above 0.5 and at most 1 for exit.rule confidence (%s)",
                     origin_of(config, "exit.threshold"), origin_of(config, "exit.rule"));
}

static int check_fixed_layer(const struct config *config, struct error *err)
{
    enum { FIXED = 4 };
    if (config_choice(config, "exit.rule") != FIXED || config_integer(config, "exit.layer") > 0)
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "exit.layer (%s) must name a layer for exit.rule fixed (%s)",
                     origin_of(config, "exit.layer"), origin_of(config, "exit.rule"));
}

static int check_topic_pair(const struct config *config, const char *a, const char *b, struct error *err)
{
    const char *first = config_text(config, a), *second = config_text(config, b);
    const char *suffix = config_text(config, "topics.dead_suffix");
    if (strcmp(first, second) == 0)
        return error_set(err, ERROR_BAD_INPUT, "%s (%s) and %s (%s) are the same topic", a, origin_of(config, a), b,
                         origin_of(config, b));
    if (strncmp(first, second, strlen(second)) == 0 && strcmp(first + strlen(second), suffix) == 0)
        return error_set(err, ERROR_BAD_INPUT, "%s (%s) is where the dead letters of %s go (topics.dead_suffix)", a,
                         origin_of(config, a), b);
    return 0;
}

static int check_topics(const struct config *config, struct error *err)
{
    static const char *const topics[] = {"topics.interactions", "topics.items", "topics.users", "topics.requests",
                                         "topics.scores"};
    const size_t count = sizeof topics / sizeof *topics, topic_limit = 249;
    for (size_t i = 0; i < count; i++) {
        if (strlen(config_text(config, topics[i])) + strlen(config_text(config, "topics.dead_suffix")) > topic_limit)
            return error_set(err, ERROR_BAD_INPUT, "%s (%s) and topics.dead_suffix are longer than %zu letters",
                             topics[i], origin_of(config, topics[i]), topic_limit);
        for (size_t j = 0; j < count; j++)
            if (i != j && check_topic_pair(config, topics[i], topics[j], err) != 0)
                return -1;
    }
    return 0;
}

int config_validate(const struct config *config, struct error *err)
{
    if (check_topics(config, err) != 0 || check_dimension(config, err) != 0 || check_history(config, err) != 0 ||
        check_weights(config, err) != 0 || check_max_nodes(config, err) != 0)
        return -1;
    return check_window(config, err) != 0 || check_threshold(config, err) != 0 ? -1 : check_fixed_layer(config, err);
}

int config_require_model(const struct config *config, struct error *err)
{
    enum { BACKEND_NONE = 1 };
    if (config_choice(config, "engine.backend") == BACKEND_NONE || config_text(config, "model.path")[0] != '\0')
        return 0;
    return error_set(err, ERROR_BAD_INPUT,
                     "model.path is empty: give a GGUF file (--set model.path=FILE), or set engine.backend to none to "
                     "answer from the evidence alone");
}
