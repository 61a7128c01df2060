#include "cmd/setup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static int load_config(struct config *config, const struct config_flags *flags, struct error *err)
{
    if (flags->path != NULL && config_load_file(config, flags->path, err) != 0)
        return -1;
    if (config_load_environment(config, environ, err) != 0)
        return -1;
    for (size_t i = 0; i < flags->sets.count; i++)
        if (config_set(config, flags->sets.values[i], err) != 0)
            return -1;
    return config_validate(config, err);
}

int setup_config(const char *command, struct config_flags *flags, struct config **result)
{
    struct error err;
    struct config *config = config_create();
    int loaded = config == NULL ? error_set(&err, ERROR_FATAL, "out of memory") : load_config(config, flags, &err);
    flag_list_free(&flags->sets);
    if (loaded != 0) {
        config_destroy(config);
        setup_failed(command, &err);
        return err.kind == ERROR_BAD_INPUT ? EXIT_USAGE : EXIT_FAILED;
    }
    log_configure((enum log_level)config_choice(config, "log.level"),
                  (enum log_format)config_choice(config, "log.format"));
    *result = config;
    return EXIT_FINE;
}

int setup_failed(const char *command, const struct error *err)
{
    fprintf(stderr, "headrace %s: %s\n", command, err->message);
    return EXIT_FAILED;
}

struct graph_settings setup_graph(const struct config *config, bool read_only)
{
    static const int64_t day_ms = INT64_C(24) * 3600 * 1000;
    struct graph_settings settings = {
        .directory = config_text(config, "state.dir"),
        .read_only = read_only,
        .like_threshold = config_number(config, "label.threshold"),
        .like_inclusive = config_flag(config, "label.inclusive"),
        .layers = (size_t)config_integer(config, "graph.layers"),
        .dimension = (size_t)config_integer(config, "graph.dimension"),
        .push_threshold = (float)config_number(config, "graph.push_threshold"),
        .push_budget = (size_t)config_integer(config, "graph.push_budget"),
        .seed = (uint64_t)config_integer(config, "graph.seed"),
        .result = (enum embedding_result)config_choice(config, "graph.result"),
        .normalise = config_flag(config, "graph.normalise"),
        .edges = (enum graph_edges)config_choice(config, "graph.edges"),
        .base = (enum graph_base)config_choice(config, "graph.base"),
        .similar_table = config_choice(config, "graph.similar") == SIMILAR_GLOBAL,
        .window_ms = config_integer(config, "graph.window_days") * day_ms,
        .max_edges_per_node = (size_t)config_integer(config, "graph.max_edges_per_node"),
        .max_nodes = (size_t)config_integer(config, "graph.max_nodes"),
        .store_memory = (size_t)config_integer(config, "state.memory") << 20,
    };
    size_t count;
    const int64_t *weights = config_list(config, "graph.weights", &count);
    for (size_t i = 0; i < count && i < EMBEDDING_LAYERS_LIMIT; i++)
        settings.weights[i] = (float)weights[i];
    return settings;
}

struct kafka_settings setup_kafka(const struct config *config)
{
    struct kafka_settings settings = {.client_id = "headrace"};
    settings.properties = config_kafka_properties(config, &settings.property_count);
    return settings;
}

struct kafka_topics setup_topics(const struct config *config)
{
    return (struct kafka_topics){
        .interactions = config_text(config, "topics.interactions"),
        .items = config_text(config, "topics.items"),
        .users = config_text(config, "topics.users"),
        .requests = config_text(config, "topics.requests"),
        .scores = config_text(config, "topics.scores"),
        .dead_suffix = config_text(config, "topics.dead_suffix"),
    };
}

int setup_reader(const struct config *config, const struct property *forced, size_t forced_count, rd_kafka_t **client,
                 struct error *err)
{
    struct kafka_settings kafka = setup_kafka(config);
    const struct property defaults[] = {{"fetch.wait.max.ms", "10"}};
    const char *const without[] = {"auto.offset.reset", "group.id"};
    struct property *properties = kafka_properties_over(defaults, 1, &kafka, without, 2, &kafka.property_count);
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    kafka.properties = properties;
    int result = kafka_create_client(client, RD_KAFKA_CONSUMER, &kafka, forced, forced_count, NULL, NULL, NULL, err);
    free(properties);
    return result;
}

const char *setup_instance(const struct config *config, char name[128])
{
    const char *given = config_text(config, "instance_id");
    if (*given != '\0')
        return given;
    if (gethostname(name, 127) != 0)
        strcpy(name, "headrace");
    name[127] = '\0';
    return name;
}

/* model.lora, if it names one. */
static int merge_adapter(const struct config *config, struct model *model, struct error *err)
{
    const char *path = config_text(config, "model.lora");
    struct gguf *adapter;
    if (*path == '\0')
        return 0;
    if (gguf_open(&adapter, path, err) != 0)
        return error_wrap(err, "model.lora");
    int result = model_merge_lora(model, adapter, err);
    gguf_close(adapter);
    return result == 0 ? 0 : error_wrap(err, "model.lora");
}

int setup_prompt(const struct config *config, struct answering *answering, struct error *err)
{
    const char *path = config_text(config, "model.path");
    if (*path == '\0')
        return error_set(err, ERROR_BAD_INPUT, "model.path names no file: give one, or set engine.backend to none");
    if (gguf_open(&answering->gguf, path, err) != 0 || model_load(&answering->model, answering->gguf, err) != 0 ||
        merge_adapter(config, &answering->model, err) != 0 ||
        tokenizer_create(&answering->tokenizer, answering->gguf, err) != 0 ||
        prompt_load(&answering->prompt, config_text(config, "prompt.template"), answering->tokenizer, err) != 0)
        return -1;
    const char *id = config_text(config, "model.id");
    if (*id != '\0')
        snprintf(answering->model_id, sizeof answering->model_id, "%s", id);
    else
        snprintf(answering->model_id, sizeof answering->model_id, TEXT_FORMAT, TEXT_ARGS(answering->model.name));
    return 0;
}

/* XDG Base Directory Specification: a relative path counts as none. */
static const char *absolute(const char *path)
{
    return path != NULL && *path == '/' ? path : NULL;
}

const char *setup_cache(const struct config *config, char path[PATH_MAX])
{
    const char *given = config_text(config, "engine.weights_cache");
    const char *cache = absolute(getenv("XDG_CACHE_HOME")), *home = absolute(getenv("HOME"));
    int length = -1;

    if (*given != '\0')
        return strcmp(given, "none") == 0 ? NULL : given;
    if (cache != NULL)
        length = snprintf(path, PATH_MAX, "%s/headrace", cache);
    else if (home != NULL)
        length = snprintf(path, PATH_MAX, "%s/.cache/headrace", home);
    if (length >= 0 && length < PATH_MAX)
        return path;
    log_info("cmd", "nothing is kept for the next start: neither HOME nor XDG_CACHE_HOME names a directory; "
                    "engine.weights_cache can");
    return NULL;
}

size_t setup_threads(const struct config *config)
{
    int64_t threads = config_integer(config, "engine.threads");
    return (size_t)(threads == 0 ? sysconf(_SC_NPROCESSORS_ONLN) : threads);
}

int setup_engine(const struct config *config, struct answering *answering, struct error *err)
{
    char weights_cache[PATH_MAX];
    struct engine_settings settings = {
        .rule = answering->rule,
        .threads = setup_threads(config),
        .mode = (enum engine_mode)config_choice(config, "engine.mode"),
        .cpu = (enum engine_cpu)config_choice(config, "engine.cpu"),
        .prefix_cache_bytes = (size_t)config_integer(config, "engine.prefix_cache") << 20,
        .weights_cache = setup_cache(config, weights_cache),
    };
    if (settings.weights_cache != NULL) /* else nobody needs to read the whole file */
        settings.model_hash = gguf_hash(answering->gguf);
    return engine_create(&answering->engine, &answering->model, &answering->heads, &settings, err);
}

/* A heads' mode is where their hidden states came from: in another one the same heads answer a little otherwise. */
static void compare_modes(const struct answering *answering)
{
    const char *mode = answering->origin.mode, *arithmetic = engine_arithmetic(answering->engine);
    size_t length = strlen(mode);
    if (length > 0 && (strncmp(arithmetic, mode, length) != 0 || (arithmetic[length] & ~' ') != '\0'))
        log_warn("cmd", "heads %s were trained in mode %s, the engine computes in %s: set engine.mode, or train anew",
                 answering->heads.id, mode, arithmetic);
}

int setup_answering(const struct config *config, struct answering *answering, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    bool computes = config_choice(config, "engine.backend") == 0;
    *answering = (struct answering){.model_id = "none"};

    if ((computes && setup_prompt(config, answering, err) != 0) || setup_heads(config, answering, err) != 0 ||
        (computes && setup_engine(config, answering, err) != 0)) {
        setup_answering_close(answering);
        return -1;
    }
    if (!computes)
        return 0;
    compare_modes(answering);
    log_info("cmd", "model %s, %zu layers, heads %s, exit rule %s, %zu threads, loaded in %.2f s", answering->model_id,
             answering->model.layer_count, answering->heads.id, setup_rule_name(answering->rule.kind),
             setup_threads(config), clock_since_ms(start_ns) / 1000);
    return 0;
}

void setup_answering_close(struct answering *answering)
{
    engine_destroy(answering->engine);
    heads_free(&answering->heads);
    prompt_destroy(answering->prompt);
    tokenizer_destroy(answering->tokenizer);
    model_free(&answering->model);
    gguf_close(answering->gguf);
    *answering = (struct answering){0};
}

struct scorer_settings setup_scorer(const struct config *config, const struct answering *answering)
{
    return (struct scorer_settings){
        .similar_mode = (enum similar_mode)config_choice(config, "graph.similar"),
        .similar_users = (size_t)config_integer(config, "graph.similar_users"),
        .history_max = (size_t)config_integer(config, "history.max"),
        .history_min = (size_t)config_integer(config, "history.min"),
        .max_candidates = (size_t)config_integer(config, "score.max_candidates"),
        .max_history = (size_t)config_integer(config, "score.max_history"),
        .explain = config_flag(config, "score.explain"),
        .model_id = answering->model_id,
        .heads_id = answering->heads.id[0] != '\0' ? answering->heads.id : "exit-0",
        .heads = &answering->heads,
        .rule = answering->rule,
        .shadow = config_number(config, "exit.shadow"),
    };
}
