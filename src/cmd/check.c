/* check.c - the effective configuration, and whether what it points to works */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/commands.h"
#include "cmd/setup.h"
#include "engine/exits.h"
#include "observe/http.h"
#include "stream/kafka.h"

enum { METADATA_MS = 5000, NAME_WIDTH = 10 };

struct check {
    const struct config *config;
    bool ingests, scores; /* the roles */
    unsigned wrong;
};

static void print_line(const char *mark, const char *name, const char *format, va_list arguments)
{
    printf("%s %-*s ", mark, NAME_WIDTH, name);
    vprintf(format, arguments);
    putchar('\n');
}

static void __attribute__((format(printf, 2, 3))) right(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("\u2713", name, format, arguments);
    va_end(arguments);
}

static void __attribute__((format(printf, 2, 3))) skipped(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("-", name, format, arguments);
    va_end(arguments);
}

static void __attribute__((format(printf, 3, 4))) wrong(struct check *check, const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line("\u2717", name, format, arguments);
    va_end(arguments);
    check->wrong++;
}

/* What to do about the line above. */
static void __attribute__((format(printf, 1, 2))) hint(const char *format, ...)
{
    printf("  %-*s ", NAME_WIDTH, "");
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

/* The store */

/* Whether `directory` can be made: its nearest ancestor that exists is a directory that we may write to. */
static bool can_create(const char *directory, char ancestor[4096])
{
    snprintf(ancestor, 4096, "%s", directory);
    while (access(ancestor, F_OK) != 0) {
        char *slash = strrchr(ancestor, '/');
        if (slash == NULL || slash == ancestor) {
            strcpy(ancestor, slash == NULL ? "." : "/");
            break;
        }
        *slash = '\0';
    }
    struct stat status;
    return stat(ancestor, &status) == 0 && S_ISDIR(status.st_mode) && access(ancestor, W_OK | X_OK) == 0;
}

static void check_missing(struct check *check, const char *directory)
{
    char ancestor[4096];
    if (!check->ingests) {
        wrong(check, "state", "%s does not exist, and without the role ingest nobody fills it", directory);
    } else if (can_create(directory, ancestor)) {
        right("state", "%s will be created", directory);
    } else {
        wrong(check, "state", "%s does not exist and cannot be created in %s", directory, ancestor);
        hint("set state.dir to a directory that user %u may write to", (unsigned)geteuid());
    }
}

static void check_contents(struct check *check, const char *directory)
{
    struct graph *graph = NULL;
    struct error err;
    struct graph_settings settings = setup_graph(check->config, true);
    if (graph_open(&graph, &settings, &err) != 0) {
        wrong(check, "state", "%s", err.message);
        return;
    }
    graph_read_lock(graph);
    struct graph_counts counts = graph_counts(graph);
    graph_read_unlock(graph);
    graph_close(graph);
    right("state", "%s: %llu events, %llu users, %llu items, %llu edges", directory, (unsigned long long)counts.events,
          (unsigned long long)(counts.users - counts.erased_users), (unsigned long long)counts.items,
          (unsigned long long)counts.edges);
}

static void check_state(struct check *check)
{
    const char *directory = config_text(check->config, "state.dir");
    char path[4096];
    struct stat status;
    if (stat(directory, &status) != 0) {
        if (errno == ENOENT)
            check_missing(check, directory);
        else
            wrong(check, "state", "%s: %s", directory, strerror(errno));
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        wrong(check, "state", "%s is no directory", directory);
        return;
    }
    if (check->ingests && access(directory, W_OK | X_OK) != 0) {
        wrong(check, "state", "%s cannot be written to: %s", directory, strerror(errno));
        hint("chown it to user %u, or set state.dir", (unsigned)geteuid());
        return;
    }
    snprintf(path, sizeof path, "%s/CURRENT", directory); /* every RocksDB has one */
    if (access(path, F_OK) == 0)
        check_contents(check, directory);
    else if (check->ingests)
        right("state", "%s holds no store yet: one will be created", directory);
    else
        wrong(check, "state", "%s holds no store, and without the role ingest nobody fills it", directory);
}

/* The model */

static void append_layer(struct buffer *list, size_t layer)
{
    buffer_printf(list, "%s%zu", list->size > 0 ? ", " : "", layer);
}

static void check_rule(struct check *check, const struct answering *answering)
{
    const struct heads *heads = &answering->heads;
    const char *name = setup_rule_name(answering->rule.kind);
    size_t last = heads->exits[heads->count - 1].layer;
    struct exits exits;
    struct error err;
    struct buffer able = {0};

    if (exits_check(&exits, heads, &answering->rule, &answering->model, &err) != 0) {
        wrong(check, "exits", "%s", err.message);
        return;
    }
    if (answering->rule.kind == EXIT_RULE_FULL) {
        skipped("exits", "the rule is full: every answer takes all %zu layers", last);
        return;
    }
    for (size_t i = 0; i < heads->count; i++)
        if (exits_can_fire(&exits, i))
            append_layer(&able, heads->exits[i].layer);
    if (answering->rule.kind == EXIT_RULE_CALIBRATED && heads->exit0_leave <= 1.0f)
        right("exits", "calibrated can fire on the evidence alone%s%s, of %zu layers",
              able.size > 0 ? " and after layers " : "", buffer_string(&able), last);
    else
        right("exits", "%s can fire after layers %s of %zu", name, buffer_string(&able), last);
    buffer_free(&able);
}

/* "layers 5, 10, 30 of 30, exit 0, best at layer 15, trained in bf16" */
static void check_heads(const struct answering *answering)
{
    const struct heads *heads = &answering->heads;
    struct buffer line = {0}, layers = {0};

    for (size_t i = 0; i < heads->count; i++)
        append_layer(&layers, heads->exits[i].layer);
    if (heads->count > 0)
        buffer_printf(&line, "layers %s", buffer_string(&layers));
    if (heads->exit0 != NULL)
        buffer_printf(&line, "%sexit 0 on %zu features", line.size > 0 ? ", " : "", heads->evidence_count);
    if (heads->reference != SIZE_MAX && heads->reference > 0)
        buffer_printf(&line, ", best at layer %zu", heads->reference);
    else if (heads->reference == 0)
        buffer_append_string(&line, ", best at exit 0");
    if (answering->origin.mode[0] != '\0')
        buffer_printf(&line, ", trained in %s", answering->origin.mode);
    right("heads", "%s: %s", heads->id, buffer_string(&line));
    buffer_free(&line);
    buffer_free(&layers);
}

static void check_answers(struct check *check, struct answering *answering)
{
    struct error err;
    if (setup_heads(check->config, answering, &err) != 0) {
        wrong(check, "heads", "%s", err.message);
        return;
    }
    if (answering->heads.id[0] == '\0') {
        skipped("heads", "none: exit 0 is the item's like rate");
        return;
    }
    check_heads(answering);
    if (answering->prompt != NULL)
        check_rule(check, answering);
}

/* setup_prompt() goes as far as it can: what is there tells which step failed. */
static void check_model(struct check *check)
{
    if (!check->scores) {
        skipped("model", "not needed: the role score is off");
        return;
    }
    struct answering answering = {0};
    struct error err = {0};
    if (config_choice(check->config, "engine.backend") != 0) {
        skipped("model", "not needed: engine.backend is none, exit 0 answers");
        check_answers(check, &answering);
        setup_answering_close(&answering);
        return;
    }
    setup_prompt(check->config, &answering, &err);
    if (answering.model.layers != NULL) {
        right("model", "%s: %zu layers, hash %s", gguf_path(answering.gguf), answering.model.layer_count,
              gguf_hash(answering.gguf));
        if (answering.prompt != NULL) {
            right("prompt", "the label words are the single tokens %d (yes) and %d (no)",
                  (int)prompt_yes(answering.prompt), (int)prompt_no(answering.prompt));
            check_answers(check, &answering);
        } else {
            wrong(check, "prompt", "%s", err.message);
        }
    } else {
        wrong(check, "model", "%s", err.message);
        if (answering.gguf != NULL)
            hint("headrace inspect model %s shows what is in it", gguf_path(answering.gguf));
    }
    setup_answering_close(&answering);
}

/* The registry */

static void check_subject(struct check *check, const struct registry_settings *settings,
                          const struct message_type *type, const char *topic)
{
    char subject[320];
    uint32_t id;
    struct error err;
    registry_subject_name(settings->name, type, topic, subject);
    if (registry_look_up(settings, type, topic, &id, &err) == 0) {
        right("subject", "%s has the schema of what is written to %s, id %" PRIu32, subject, topic, id);
    } else if (err.kind == ERROR_BAD_INPUT && settings->may_register) {
        right("subject", "%s: the schema of what is written to %s will be registered", subject, topic);
    } else {
        wrong(check, "subject", "%s", err.message);
        if (err.kind == ERROR_BAD_INPUT)
            hint("set registry.register to true, or register our schema %s there (see schemas/)", type->name);
    }
}

static void check_registry(struct check *check)
{
    struct registry_settings settings = setup_registry(check->config);
    struct error err;
    if (*settings.url == '\0') {
        skipped("registry", "none: messages are in Avro's single-object encoding");
    } else if (registry_probe(&settings, &err) != 0) {
        wrong(check, "registry", "%s", err.message);
    } else {
        right("registry", "%s answers", settings.url);
        if (check->scores)
            check_subject(check, &settings, &score_response_type, setup_topics(check->config).scores);
    }
}

/* Kafka */

struct topic {
    const char *name;
    bool is_dead;   /* the dead letters of the topic of that name */
    bool wanted;    /* by the roles */
    bool optional;  /* run does without it */
    bool compacted; /* holds the newest message of every key */
};

static void hint_create(const struct check *check, const struct topic *topic, const char *name)
{
    struct kafka_settings kafka = setup_kafka(check->config);
    hint("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d%s",
         kafka_property_value(&kafka, "bootstrap.servers"), name, topic->is_dead ? 1 : 4,
         topic->compacted ? " --config cleanup.policy=compact" : "");
}

/* -1: the broker knows no such topic, or none that we may see. */
static int find_topic(const struct rd_kafka_metadata *metadata, const char *name)
{
    for (int i = 0; i < metadata->topic_cnt; i++)
        if (strcmp(metadata->topics[i].topic, name) == 0)
            return i;
    return -1;
}

static void check_topic(struct check *check, const struct rd_kafka_metadata *metadata, const struct topic *topic)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", topic->name,
             topic->is_dead ? config_text(check->config, "topics.dead_suffix") : "");
    int found = find_topic(metadata, name);
    if (found >= 0 && metadata->topics[found].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        wrong(check, "topic", "%s: %s", name, rd_kafka_err2str(metadata->topics[found].err));
    } else if (found >= 0) {
        int partitions = metadata->topics[found].partition_cnt;
        right("topic", "%s: %d partition%s", name, partitions, partitions == 1 ? "" : "s");
    } else if (topic->optional) {
        skipped("topic", "%s does not exist; it is optional", name);
    } else {
        wrong(check, "topic", "%s does not exist, or this user may not describe it", name);
        hint_create(check, topic, name);
    }
}

static void check_topics(struct check *check, const struct rd_kafka_metadata *metadata)
{
    struct kafka_topics names = setup_topics(check->config);
    bool letters = check->ingests && config_flag(check->config, "state.dead_letters");
    const struct topic topics[] = {
        {.name = names.interactions, .wanted = check->ingests},
        {.name = names.items, .wanted = check->ingests, .compacted = true},
        {.name = names.users, .wanted = check->ingests, .optional = true, .compacted = true},
        {.name = names.requests, .wanted = check->scores},
        {.name = names.scores, .wanted = check->scores},
        {.name = names.interactions, .wanted = letters, .is_dead = true},
        {.name = names.items, .wanted = letters, .is_dead = true},
        {.name = names.users, .wanted = letters, .is_dead = true, .optional = true},
        {.name = names.requests, .wanted = check->scores, .is_dead = true},
    };
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        if (topics[i].wanted)
            check_topic(check, metadata, &topics[i]);
}

static void check_kafka(struct check *check)
{
    struct kafka_settings kafka = setup_kafka(check->config);
    const char *servers = kafka_property_value(&kafka, "bootstrap.servers");
    rd_kafka_t *client;
    struct error err;
    if (kafka_create_client(&client, RD_KAFKA_CONSUMER, &kafka, NULL, 0, NULL, NULL, NULL, &err) != 0) {
        wrong(check, "kafka", "%s", err.message);
        return;
    }
    const struct rd_kafka_metadata *metadata;
    /* All topics: asking for one by its name may create it. */
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 1, NULL, &metadata, METADATA_MS);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        wrong(check, "kafka", "%s: no answer in %d s: %s", servers, METADATA_MS / 1000, rd_kafka_err2str(code));
        hint("does a broker listen there, and do security.protocol and sasl.* fit it? The log above may say more");
    } else {
        right("kafka", "%s: %d broker%s", servers, metadata->broker_cnt, metadata->broker_cnt == 1 ? "" : "s");
        check_topics(check, metadata);
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_destroy(client);
}

/* HTTP */

static void check_http(struct check *check)
{
    const char *listen = config_text(check->config, "http.listen");
    struct error err;
    if (*listen == '\0')
        skipped("http", "http.listen is empty: no metrics, and nobody can ask whether the worker is ready");
    else if (http_check(listen, &err) != 0)
        wrong(check, "http", "http.listen: %s", err.message);
    else
        right("http", "http.listen: %s", listen);
}

static int print_config(const struct config *config, struct error *err)
{
    struct buffer text = {0};
    config_describe(config, &text);
    int result = buffer_check(&text, "describing the configuration", err);
    if (result == 0)
        printf(TEXT_FORMAT "\n", TEXT_ARGS(buffer_text(&text)));
    fflush(stdout);
    buffer_free(&text);
    return result;
}

int command_check(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    bool connect = false;
    const struct flag flags[] = {
        {"connect", NULL, FLAG_SWITCH, &connect, "try the broker, the topics and the registry, too"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "check",
        .operands = "",
        .summary = "The effective configuration with the origin of every value, secrets hidden, and a line for each\n"
                   "thing that it points to: \u2713 works, \u2717 does not (exit code 1), - not tried.",
        .example = "headrace check --config headrace.yaml --connect",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags};
    int parsed = flags_parse(&usage, argc, argv);
    if (parsed < 0)
        return parsed == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    struct config *config;
    int code = setup_config("check", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;

    struct check check = {.config = config,
                          .ingests = config_includes(config, "roles", "ingest"),
                          .scores = config_includes(config, "roles", "score")};
    struct error err;
    int result = print_config(config, &err);
    if (result == 0) {
        check_state(&check);
        check_model(&check);
        check_http(&check);
        if (connect) {
            check_kafka(&check);
            check_registry(&check);
        } else {
            skipped("kafka", "not tried: --connect does, and the registry, too");
        }
        if (check.wrong > 0)
            result =
                error_set(&err, ERROR_BAD_INPUT, "%u thing%s wrong", check.wrong, check.wrong == 1 ? " is" : "s are");
    }
    fflush(stdout);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("check", &err);
}
