#include <string.h>

#include "base/log.h"
#include "cmd/setup.h"
#include "graph/evidence.h"

enum { RULE_AUTO = EXIT_RULE_CALIBRATED + 1 }; /* the choice behind the rules' */

/* exit.layers below `end`, then exit.max_layer where it is below `end`, too: that is where everybody leaves. */
static int choose_layers(const struct config *config, size_t end, size_t layers[ENGINE_MAX_EXITS], size_t *kept,
                         struct error *err)
{
    size_t count, max_layer = (size_t)config_integer(config, "exit.max_layer");
    const int64_t *wanted = config_list(config, "exit.layers", &count);
    *kept = 0;
    for (size_t i = 0; i < count && (size_t)wanted[i] < end; i++) {
        if (max_layer > 0 && (size_t)wanted[i] >= max_layer)
            break;
        if (*kept == ENGINE_MAX_EXITS - 1)
            return error_set(err, ERROR_BAD_INPUT, "exit.layers: more than %d exits", ENGINE_MAX_EXITS - 1);
        layers[(*kept)++] = (size_t)wanted[i];
    }
    if (max_layer > 0 && max_layer < end)
        layers[(*kept)++] = max_layer;
    return 0;
}

/* Whose heads a file has: the model's of this session, asked in this way. */
static int check_origin(struct answering *answering, struct error *err)
{
    const struct heads_origin *origin = &answering->origin;
    const char *id = answering->heads.id;
    char hash[sizeof origin->model_hash];

    heads_model_hash(hash, answering->gguf, &answering->model);
    if (strcmp(origin->model_hash, hash) != 0)
        return error_set(err, ERROR_FATAL,
                         "heads %s are for the model with hash %s, this one has %s: set model.path and model.lora as "
                         "they were, or train heads for this model",
                         id, origin->model_hash, hash);
    if (origin->yes != origin->no &&
        (origin->yes != prompt_yes(answering->prompt) || origin->no != prompt_no(answering->prompt)))
        return error_set(err, ERROR_FATAL,
                         "heads %s are for the label tokens %d and %d, the template has %d and %d: set prompt.template "
                         "as it was, or train anew",
                         id, (int)origin->yes, (int)origin->no, (int)prompt_yes(answering->prompt),
                         (int)prompt_no(answering->prompt));
    if (strcmp(origin->template_hash, prompt_hash(answering->prompt)) != 0)
        log_warn("cmd", "heads %s were trained on the template with hash %s, this one has %s: their answers may be off",
                 id, origin->template_hash, prompt_hash(answering->prompt));
    return 0;
}

static int load_file(const struct config *config, struct answering *answering, struct error *err)
{
    static const char *const sets[] = {"text", "hybrid", "single"};
    size_t count, layers[ENGINE_MAX_EXITS], max_layer = (size_t)config_integer(config, "exit.max_layer");
    bool computes = answering->prompt != NULL;
    struct gguf *file;

    if (gguf_open(&file, config_text(config, "heads.path"), err) != 0)
        return -1;
    int result = heads_load(&answering->heads, &answering->origin, file, sets[config_choice(config, "heads.set")],
                            computes ? &answering->model : NULL, err);
    if (result == 0)
        result = heads_check_features(file, evidence_names, EVIDENCE_FEATURES, err);
    gguf_close(file);
    if (result != 0 || !computes)
        return result;
    if (check_origin(answering, err) != 0 || choose_layers(config, SIZE_MAX, layers, &count, err) != 0)
        return -1;
    return heads_keep(&answering->heads, layers, count, max_layer, err);
}

static int copy_output(const struct config *config, struct answering *answering, struct error *err)
{
    size_t count, layers[ENGINE_MAX_EXITS], max_layer = (size_t)config_integer(config, "exit.max_layer");
    if (choose_layers(config, answering->model.layer_count, layers, &count, err) != 0 ||
        heads_from_output(&answering->heads, &answering->model, layers, count, prompt_yes(answering->prompt),
                          prompt_no(answering->prompt), err) != 0)
        return -1;
    return heads_keep(&answering->heads, layers, count, max_layer, err);
}

static bool carries_thresholds(const struct heads *heads)
{
    if (heads->exit0 != NULL && heads->exit0_leave <= 1.0f)
        return true;
    for (size_t i = 0; i + 1 < heads->count; i++)
        if (heads->exits[i].leave <= 1.0f)
            return true;
    return false;
}

int setup_heads(const struct config *config, struct answering *answering, struct error *err)
{
    size_t rule = config_choice(config, "exit.rule");
    if (*config_text(config, "heads.path") != '\0') {
        if (load_file(config, answering, err) != 0)
            return error_wrap(err, "heads.path");
    } else if (answering->prompt != NULL && copy_output(config, answering, err) != 0) {
        return -1;
    }
    if (rule == RULE_AUTO)
        rule = carries_thresholds(&answering->heads) ? EXIT_RULE_CALIBRATED : EXIT_RULE_FULL;
    answering->rule = (struct exit_rule){.kind = (enum exit_rule_kind)rule,
                                         .window = (size_t)config_integer(config, "exit.window"),
                                         .threshold = (float)config_number(config, "exit.threshold"),
                                         .layer = (size_t)config_integer(config, "exit.layer")};
    return 0;
}

const char *setup_rule_name(enum exit_rule_kind kind)
{
    static const char *const names[] = {
        [EXIT_RULE_FULL] = "full",         [EXIT_RULE_RATIO] = "ratio",
        [EXIT_RULE_LOG_ODDS] = "log_odds", [EXIT_RULE_PROBABILITY] = "probability",
        [EXIT_RULE_FIXED] = "fixed",       [EXIT_RULE_CONFIDENCE] = "confidence",
        [EXIT_RULE_PATIENCE] = "patience", [EXIT_RULE_CALIBRATED] = "calibrated",
    };
    return names[kind];
}
