#include "cmd/logged.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/setup.h"
#include "model/gguf.h"

static const char *const formats[] = {"", "csv", "tsv", "json", "recbole"}; /* in the order of enum event_format */
static const char *const units[] = {"ms", "s"};
static const char *const samples[] = {"user", "request"};
static const char *const protocols[] = {"chronological", "paper", "both"};
static const char *const speeds[] = {"max", "1x", "10x"};

static int choose(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static bool is_topics(const struct logged_flags *flags)
{
    return flags->events == NULL && flags->items == NULL && flags->users == NULL && flags->requests == NULL;
}

/* Digits alone are an offset; files have times only. */
static bool parse_place(const struct logged_flags *flags, const char *text, bool *by_offset, int64_t *place)
{
    *by_offset = is_topics(flags) && text[strspn(text, "0123456789")] == '\0';
    return clock_parse(text, place);
}

static int check_range(const struct usage *usage, struct logged_flags *flags)
{
    bool from_offset = false, to_offset = false;
    flags->range = (struct source_range){.from = INT64_MIN, .to = INT64_MAX};
    if (flags->from != NULL && !parse_place(flags, flags->from, &from_offset, &flags->range.from))
        return flags_wrong(usage, "--from: \"%s\" is neither a time nor an offset", flags->from);
    if (flags->to != NULL && !parse_place(flags, flags->to, &to_offset, &flags->range.to))
        return flags_wrong(usage, "--to: \"%s\" is neither a time nor an offset", flags->to);
    if (flags->from != NULL && flags->to != NULL && from_offset != to_offset)
        return flags_wrong(usage, "--from and --to: two times or two offsets");
    flags->range.by_offset = from_offset || to_offset;
    if (flags->range.from >= flags->range.to)
        return flags_wrong(usage, "--from %s is not before --to %s", flags->from, flags->to);
    return EXIT_FINE;
}

int logged_check(const struct usage *usage, struct logged_flags *flags)
{
    static const double speedups[] = {0, 1, 10};
    struct error err;
    int format = choose(formats, 5, flags->format), speed = choose(speeds, 3, flags->speed);
    if (format < 0)
        return flags_wrong(usage, "--format: \"%s\" is none of csv, tsv, json, recbole", flags->format);
    if (!interaction_kind_parse(text_of(flags->kind), &flags->event_kind))
        return flags_wrong(usage, "--kind: \"%s\" is no kind of interaction", flags->kind);
    if (flags->time_unit != NULL && choose(units, 2, flags->time_unit) < 0)
        return flags_wrong(usage, "--time-unit: \"%s\" is neither s nor ms", flags->time_unit);
    if (choose(samples, 2, flags->sample_by) < 0)
        return flags_wrong(usage, "--sample-by: \"%s\" is neither user nor request", flags->sample_by);
    if (choose(protocols, 3, flags->protocol) < 0)
        return flags_wrong(usage, "--protocol: \"%s\" is none of chronological, paper, both", flags->protocol);
    if (speed < 0)
        return flags_wrong(usage, "--speed: \"%s\" is none of max, 1x, 10x", flags->speed);
    if (flags->sample > 1 || flags->warm >= 1)
        return flags_wrong(usage, "--sample is a share up to 1, --warm below 1");
    if (split_parse(flags->split, flags->shares, &err) != 0)
        return flags_wrong(usage, "--split: %s", err.message);
    if (!is_topics(flags) && flags->events == NULL && flags->requests == NULL)
        return flags_wrong(usage, "--events or --requests is missing: there is nothing to replay");
    flags->event_format = (enum event_format)format;
    flags->speedup = speedups[speed];
    return check_range(usage, flags);
}

void logged_flags_free(struct logged_flags *flags)
{
    flag_list_free(&flags->maps);
    flag_list_free(&flags->item_maps);
    flag_list_free(&flags->user_maps);
}

static int read_file(struct logged *logged, const struct logged_flags *flags, const char *path,
                     const struct message_type *type, const struct flag_list *maps, struct error *err)
{
    struct event_file_settings file = {.path = path, .type = type};
    if (path == NULL)
        return 0;
    if (maps != NULL) {
        file.maps = maps->values;
        file.map_count = maps->count;
    }
    if (type == &interaction_type) {
        file.format = flags->event_format;
        file.kind = flags->event_kind;
        file.timestamp_ms = flags->time_unit == NULL ? 0 : strcmp(flags->time_unit, "s") == 0 ? 1000 : 1;
        file.untimed = strcmp(flags->protocol, "paper") == 0;
    }
    return replay_log_read_file(logged->log, &file, logged->settings.interrupted, err);
}

static int read_files(struct logged *logged, const struct logged_flags *flags, struct error *err)
{
    if (read_file(logged, flags, flags->items, &item_type, &flags->item_maps, err) != 0 ||
        read_file(logged, flags, flags->users, &user_type, &flags->user_maps, err) != 0 ||
        read_file(logged, flags, flags->requests, &score_request_type, NULL, err) != 0)
        return -1;
    return read_file(logged, flags, flags->events, &interaction_type, &flags->maps, err);
}

/* Requests and users are asked for, and may have no topic. */
static int read_topic(struct logged *logged, rd_kafka_t *client, const char *name, enum source_topic topic,
                      struct error *err)
{
    bool may_lack = topic == SOURCE_REQUESTS || topic == SOURCE_USERS;
    int32_t partitions;
    if (may_lack && kafka_partition_count(client, name, 2000, &partitions, err) != 0 && err->kind == ERROR_RETRY &&
        partitions == 0) {
        log_info("cmd", "there is no topic %s: %s", name,
                 topic == SOURCE_USERS ? "no profiles" : "requests are made of the events");
        return 0;
    }
    return replay_log_read_topic(logged->log, client, logged->codec, name, topic, logged->settings.interrupted, err);
}

static int read_topics(struct logged *logged, const struct config *config, struct error *err)
{
    const struct property forced[] = {{"group.id", "headrace-replay"},
                                      {"enable.auto.commit", "false"},
                                      {"enable.partition.eof", "true"},
                                      {"auto.offset.reset", "error"}};
    struct kafka_topics topics = setup_topics(config);
    rd_kafka_t *client = NULL;
    if (setup_codec(config, &logged->codec, err) != 0 ||
        setup_reader(config, forced, sizeof forced / sizeof *forced, &client, err) != 0)
        return -1;
    int result = read_topic(logged, client, topics.items, SOURCE_ITEMS, err);
    if (result == 0)
        result = read_topic(logged, client, topics.users, SOURCE_USERS, err);
    if (result == 0)
        result = read_topic(logged, client, topics.requests, SOURCE_REQUESTS, err);
    if (result == 0)
        result = read_topic(logged, client, topics.interactions, SOURCE_INTERACTIONS, err);
    kafka_destroy_consumer(client);
    return result;
}

/* The newest event that graph.vectors were trained on. */
static int find_vectors_time(struct logged *logged, struct error *err)
{
    logged->settings.vectors_ms = INT64_MIN;
    if (logged->trained.gguf == NULL)
        return 0;
    if (gguf_integer(logged->trained.gguf, "headrace.vectors.last_event_ms", INT64_MIN, INT64_MAX,
                     &logged->settings.vectors_ms, err) != 0)
        return error_wrap(err, "graph.vectors: it cannot be told what they know of the future");
    return 0;
}

static void fill_settings(struct logged *logged, const struct logged_flags *flags, const struct config *config,
                          const volatile sig_atomic_t *interrupted)
{
    enum { PROTOCOL_PAPER = 1, PROTOCOL_BOTH = 2 };
    int protocol = choose(protocols, 3, flags->protocol);
    const struct answering nothing = {0};
    struct scorer_settings scorer = setup_scorer(config, &nothing);
    logged->settings = (struct replay_settings){
        .graph = setup_graph(config, false),
        .plan = {.similar_mode = scorer.similar_mode,
                 .similar_users = scorer.similar_users,
                 .history_max = scorer.history_max,
                 .history_min = scorer.history_min},
        .label_window_ms = config_integer(config, "replay.label_window") * 1000,
        .from_ms = flags->after_ms,
        .to_ms = flags->before_ms,
        .sample = flags->sample,
        .sample_requests = strcmp(flags->sample_by, "request") == 0,
        .seed = (uint64_t)flags->seed,
        .limit = (size_t)flags->limit,
        .warm = flags->warm,
        .split = {.protocol = protocol == PROTOCOL_PAPER ? SPLIT_PAPER : SPLIT_CHRONOLOGICAL,
                  .seed = (uint64_t)flags->seed},
        .both_protocols = protocol == PROTOCOL_BOTH,
        .speed = flags->speedup,
        .heads_ms = INT64_MIN,
        .interrupted = interrupted,
    };
    memcpy(logged->settings.split.shares, flags->shares, sizeof flags->shares);
    logged->settings.graph.directory = flags->store; /* never the worker's own */
}

int logged_open(struct logged *logged, const struct logged_flags *flags, const struct config *config,
                const volatile sig_atomic_t *interrupted, struct error *err)
{
    fill_settings(logged, flags, config, interrupted);
    if (trained_open(&logged->trained, config, err) != 0)
        return -1;
    trained_give(&logged->trained, &logged->settings.graph);
    logged->log = replay_log_create();
    if (logged->log == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    replay_log_set_range(logged->log, &flags->range);
    if (find_vectors_time(logged, err) != 0)
        return -1;
    return is_topics(flags) ? read_topics(logged, config, err) : read_files(logged, flags, err);
}

void logged_close(struct logged *logged)
{
    replay_log_destroy(logged->log);
    codec_destroy(logged->codec);
    trained_close(&logged->trained);
    *logged = (struct logged){0};
}
