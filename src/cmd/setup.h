/*
 * setup.h - from the configuration to the parts that a sub-command runs
 *
 * What is handed out points into the configuration, which must outlive it.
 */
#ifndef HEADRACE_CMD_SETUP_H
#define HEADRACE_CMD_SETUP_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>

#include "base/error.h"
#include "cmd/flags.h"
#include "config/config.h"
#include "engine/engine.h"
#include "graph/graph.h"
#include "model/gguf.h"
#include "model/heads.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "prompt/prompt.h"
#include "score/scorer.h"
#include "stream/kafka.h"
#include "wire/codec.h"
#include "wire/registry.h"

/* --config and --set, as every sub-command that reads the configuration takes them. */
struct config_flags {
    const char *path;
    struct flag_list sets;
};

/* clang-format off */
#define CONFIG_FLAGS(config_flags)                                                                     \
    {"config", "FILE", FLAG_TEXT, &(config_flags).path, "configuration in YAML (default: none)"},      \
    {"set", "NAME=VALUE", FLAG_LIST, &(config_flags).sets, "an option, over environment and file; again for more"}
/* clang-format on */

/*
 * File, environment and --set; checked; the log is set as it says. Says on standard error what is wrong and returns the
 * exit code; EXIT_FINE when all is well. The flags' list is freed.
 */
int setup_config(const char *command, struct config_flags *flags, struct config **config);

/* Prints "headrace COMMAND: message" on standard error; returns EXIT_FAILED. */
int setup_failed(const char *command, const struct error *err);

struct graph_settings setup_graph(const struct config *config, bool read_only);
struct kafka_settings setup_kafka(const struct config *config);
struct kafka_topics setup_topics(const struct config *config);

/* registry.*; the url is empty where there is none. */
struct registry_settings setup_registry(const struct config *config);

/* With the registry, if there is one: every command reads and writes the same way. */
int setup_codec(const struct config *config, struct codec **codec, struct error *err);

/*
 * codec_ready(), waited for: half a minute or until *interrupted. For a command that has nothing to do before it may
 * write.
 */
int setup_codec_ready(struct codec *codec, const volatile sig_atomic_t *interrupted, struct error *err);

/*
 * A consumer for what is no worker: partitions are assigned to it, its group is never joined. `forced` goes over the
 * configuration's properties and names group.id and auto.offset.reset: the configuration's are the workers'.
 */
int setup_reader(const struct config *config, const struct property *forced, size_t forced_count, rd_kafka_t **client,
                 struct error *err);

/* instance_id, or the host's name when it is empty; `name` is where the host's name is put. */
const char *setup_instance(const struct config *config, char name[128]);

/*
 * Everything that answers: model file to engine. With engine.backend none engine is NULL, and of heads.path's file, if
 * it names one, exit 0 is what counts.
 */
struct answering {
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct prompt_template *prompt;
    struct heads heads;         /* no exits: none are loaded */
    struct heads_origin origin; /* of a file's heads */
    struct exit_rule rule;      /* exit.rule, `auto` decided */
    struct engine *engine;
    char model_id[128];
};

int setup_answering(const struct config *config, struct answering *answering, struct error *err);
void setup_answering_close(struct answering *answering);

/* The same without the engine: file, tokenizer and template, for inspection. */
int setup_prompt(const struct config *config, struct answering *answering, struct error *err);

/*
 * Heads and rule, after setup_prompt() or without a model. Of heads.path's file, with the exits that stand in
 * exit.layers and the last one; else copies of the LM head. Another model's heads, other features and label tokens are
 * errors, another template is logged.
 */
int setup_heads(const struct config *config, struct answering *answering, struct error *err);

/* An engine for the model with answering's heads and rule. */
int setup_engine(const struct config *config, struct answering *answering, struct error *err);

/* engine.weights_cache, or headrace's place among the user's caches, put into `path`; NULL: nothing is to be kept. */
const char *setup_cache(const struct config *config, char path[PATH_MAX]);

/* engine.threads, 0 made out. */
size_t setup_threads(const struct config *config);

/* As exit.rule spells it. */
const char *setup_rule_name(enum exit_rule_kind kind);

struct scorer_settings setup_scorer(const struct config *config, const struct answering *answering);

#endif
