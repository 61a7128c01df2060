/*
 * config.h - what the operator has decided, and where
 *
 * One table (options.c) holds every option: name, kind of value, default, a line on it. From it come the checks, the
 * option help, the environment names and config/headrace.yaml. A value is decided by, strongest first
 *
 *   --set graph.layers=2          command line          config_set()
 *   HEADRACE_GRAPH_LAYERS=2       environment           config_load_environment()
 *   graph: {layers: 2}            YAML file             config_load_file()
 *   3                             default               config_create()
 *
 * whatever the order of the calls; of two decisions of the same strength the later counts. A bad value is an error even
 * where a stronger one hides it. Every value remembers its origin.
 *
 * Names. An option is `section.name` or `name`. In the environment dots become underscores and letters capitals, after
 * HEADRACE_; every variable that begins with HEADRACE_ must name an option, so a slip of the pen is found. In
 * Kubernetes a service called "headrace" injects such variables (HEADRACE_SERVICE_HOST, …): set
 * `enableServiceLinks: false` or call the service otherwise.
 *
 * Kafka. Under `kafka` every name that the table does not have passes through to librdkafka unchanged and unchecked:
 * `kafka: {linger.ms: 5}`, `--set kafka.linger.ms=5`, HEADRACE_KAFKA_LINGER_MS=5 (each underscore is a dot,
 * so log_level can only be set in the other ways).
 *
 * Files are YAML 1.1 in UTF-8, at most CONFIG_FILE_LIMIT bytes, one document of sections and values: no anchors,
 * aliases or tags, no key twice, a value wherever an option is named ("" is the empty text). A list is a YAML sequence
 * or its items joined by commas.
 *
 * Secrets (config_is_secret()) are shown as ********, in errors, too. They can come from a file: with _FILE behind its
 * name a variable of the environment gives the path of one that holds the value, line ends behind it left out
 * (HEADRACE_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka). On the command line every user of the machine could read
 * them.
 *
 * Errors. ERROR_BAD_INPUT: what the operator wrote; the message begins with file:line:column, the variable or --set,
 * and gives the nearest known name. ERROR_FATAL: out of memory, file unreadable. A call that fails may have taken over
 * part of its input: start with a new configuration.
 *
 * Threads: one while it is filled, then any number of readers. What the getters return holds until the next change.
 */
#ifndef HEADRACE_CONFIG_CONFIG_H
#define HEADRACE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/property.h"
#include "base/text.h"

enum { CONFIG_FILE_LIMIT = 1 << 20 };

struct config;

/* Every option at its default; NULL without memory. */
struct config *config_create(void);

/* NULL is fine. */
void config_destroy(struct config *config);

int config_load_file(struct config *config, const char *path, struct error *err);

/* The same for a file's content that is already in memory; `path` is what origins and errors call it. */
int config_load_text(struct config *config, const char *path, struct text yaml, struct error *err);

/* `environment` as main's third argument or environ: "NAME=value" strings, NULL behind the last. */
int config_load_environment(struct config *config, char *const *environment, struct error *err);

/* One --set: "graph.layers=2". The value may hold further equal signs. */
int config_set(struct config *config, const char *assignment, struct error *err);

/* What no single value shows: options that contradict each other. Call it when everything is loaded. */
int config_validate(const struct config *config, struct error *err);

/* A command that scores calls this as well: with engine.backend "cpu", model.path must be given. */
int config_require_model(const struct config *config, struct error *err);

/*
 * Getters, by option name. A name that the table does not have or a value of another kind is the caller's mistake and
 * aborts. Ranges have been checked: see config/headrace.yaml.
 */
const char *config_text(const struct config *config, const char *name); /* never NULL */
int64_t config_integer(const struct config *config, const char *name);
double config_number(const struct config *config, const char *name); /* finite */
bool config_flag(const struct config *config, const char *name);

/*
 * The value's place among the option's choices. The table lists them in the order of the enumerations they are for:
 * exit.rule as enum exit_rule_kind and `auto` behind them, graph.similar as enum similar_mode, graph.edges as enum
 * graph_edges, graph.base as enum graph_base, graph.result as enum embedding_result, registry.subject as enum
 * registry_subject, state.on_gap as enum gap_policy, log.level as enum log_level, log.format as enum log_format;
 * engine.backend: cpu 0, none 1.
 */
size_t config_choice(const struct config *config, const char *name);

/* exit.layers: at least one, rising. graph.weights: at least one. */
const int64_t *config_list(const struct config *config, const char *name, size_t *count);

/* roles: whether the list holds that choice ("ingest", "score"); a word that is none of the choices aborts. */
bool config_includes(const struct config *config, const char *name, const char *choice);

/*
 * What goes to librdkafka: bootstrap.servers and group.id always, client.id when it is not empty, then what was passed
 * through; names without "kafka.", none twice.
 */
const struct property *config_kafka_properties(const struct config *config, size_t *count);

/* Whether a value of that name (with or without "kafka.") must not be shown. */
bool config_is_secret(const char *name);

/* Appends a line an option: name, value as it would be written, origin; secrets hidden, control characters escaped. */
void config_describe(const struct config *config, struct buffer *out);

/* Appends config/headrace.yaml: every option with its default and a line on it. */
void config_write_yaml(struct buffer *out);

/* Appends the option table for --help. */
void config_help(struct buffer *out);

#endif
