/* produce.c - files into a topic, as Avro; dead letters back into theirs */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/produce_dead.h"
#include "cmd/progress.h"
#include "cmd/setup.h"
#include "replay/event_file.h"
#include "stream/producer.h"
#include "wire/codec.h"

enum { MESSAGE_MEMORY = 64 << 20, IN_FLIGHT = 10000, POLL_MS = 50, SHOWN_ERRORS = 10 };

struct asked {
    const char *type;
    const char *format;
    const char *topic;
    const char *kind;
    const char *time_unit;
    struct flag_list maps;
    int64_t limit;
    int64_t rate;
    bool from_dead;
    struct produce_dead dead;
};

/* What can be produced: its schema, its topic, and the field that is its key. */
struct kind {
    const char *name;
    const struct message_type *type;
    const char *topic_option;
    size_t key_offset;
};

static const struct kind kinds[] = {
    {"interaction", &interaction_type, "topics.interactions", offsetof(struct interaction, user_id)},
    {"item", &item_type, "topics.items", offsetof(struct item, item_id)},
    {"user", &user_type, "topics.users", offsetof(struct user, user_id)},
    {"request", &score_request_type, "topics.requests", offsetof(struct score_request, user_id)},
};

struct job {
    const struct asked *asked;
    const struct kind *kind;
    const char *topic;
    enum event_format format;
    int32_t event_kind; /* of interactions without one */
    struct codec *codec;
    struct producer *producer;
    struct event_file *file;
    struct arena arena;
    struct buffer bytes;
    struct progress progress;
    uint64_t sent, acknowledged, wrong;
    struct error failure; /* the broker's, of a message that it will never take */
    bool failed;
};

static void take_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                        const struct error *error)
{
    (void)opaque, (void)topic, (void)partition, (void)offset;
    struct job *job = context;
    if (error == NULL) {
        job->acknowledged++;
    } else if (!job->failed) {
        job->failed = true;
        job->failure = *error;
    }
}

static int send_message(struct job *job, const void *message, struct error *err)
{
    buffer_clear(&job->bytes);
    if (codec_encode(job->codec, job->kind->type, message, &job->bytes, err) != 0)
        return -1;
    struct text key;
    memcpy(&key, (const char *)message + job->kind->key_offset, sizeof key);
    struct producer_message out = {.topic = job->topic,
                                   .key = key.data,
                                   .key_size = key.size,
                                   .value = job->bytes.data,
                                   .value_size = job->bytes.size};
    while (producer_send(job->producer, &out, err) != 0) {
        if (err->kind != ERROR_RETRY || interrupted)
            return -1;
        producer_poll(job->producer, POLL_MS);
    }
    job->sent++;
    return 0;
}

/* Waits while too much is under way, or we are ahead of --rate. */
static void hold_back(struct job *job, int64_t start_ns)
{
    producer_poll(job->producer, 0);
    while (!interrupted && !job->failed &&
           (producer_pending(job->producer) >= IN_FLIGHT ||
            (job->asked->rate > 0 && (double)job->sent > clock_since_ms(start_ns) / 1000 * (double)job->asked->rate)))
        producer_poll(job->producer, 1);
}

static void report_wrong(struct job *job, const struct error *err)
{
    if (job->wrong++ < SHOWN_ERRORS)
        fprintf(stderr, "headrace produce: %s\n", err->message);
    else if (job->wrong == SHOWN_ERRORS + 1)
        fprintf(stderr, "headrace produce: further bad rows are only counted\n");
}

static int produce_rows(struct job *job, struct error *err)
{
    union {
        struct interaction interaction;
        struct item item;
        struct user user;
        struct score_request request;
    } message;
    int64_t start_ns = clock_monotonic_ns();
    while (!interrupted && !job->failed && (job->asked->limit == 0 || (int64_t)job->sent < job->asked->limit)) {
        arena_reset(&job->arena);
        int found = event_file_next(job->file, &job->arena, &message, err);
        if (found == 0)
            break;
        if (found < 0 || send_message(job, &message, err) != 0) {
            if (err->kind != ERROR_BAD_INPUT)
                return -1;
            report_wrong(job, err);
            continue;
        }
        hold_back(job, start_ns);
        progress_show(&job->progress, job->sent, event_file_share(job->file));
    }
    if (producer_flush(job->producer, 60000, err) != 0)
        return -1;
    progress_end(&job->progress, job->sent);
    if (job->failed) {
        *err = job->failure;
        return -1;
    }
    fprintf(stderr, "%llu messages acknowledged in %s, %.1f s\n", (unsigned long long)job->acknowledged, job->topic,
            clock_since_ms(start_ns) / 1000);
    if (job->wrong > 0)
        return error_set(err, ERROR_BAD_INPUT, "%llu rows could not be read", (unsigned long long)job->wrong);
    return interrupted ? error_set(err, ERROR_FATAL, "interrupted") : 0;
}

static int run_job(struct job *job, const struct config *config, const char *path, struct error *err)
{
    struct kafka_settings kafka = setup_kafka(config);
    struct event_file_settings settings = {
        .path = path,
        .format = job->format,
        .type = job->kind->type,
        .maps = job->asked->maps.values,
        .map_count = job->asked->maps.count,
        .kind = job->event_kind,
        .timestamp_ms = job->asked->time_unit == NULL             ? 0
                        : strcmp(job->asked->time_unit, "s") == 0 ? 1000
                                                                  : 1,
    };
    job->topic = job->asked->topic != NULL ? job->asked->topic : config_text(config, job->kind->topic_option);
    arena_init(&job->arena, MESSAGE_MEMORY);
    progress_begin(&job->progress, job->topic, "messages");
    int result = -1;
    if (event_file_open(&job->file, &settings, err) == 0 && setup_codec(config, &job->codec, err) == 0 &&
        codec_write_to(job->codec, job->kind->type, job->topic, err) == 0 &&
        setup_codec_ready(job->codec, &interrupted, err) == 0 &&
        producer_create(&job->producer, &kafka, take_report, job, err) == 0)
        result = produce_rows(job, err);

    if (job->producer != NULL)
        producer_destroy(job->producer);
    codec_destroy(job->codec);
    event_file_close(job->file);
    buffer_free(&job->bytes);
    arena_free(&job->arena);
    return result;
}

static int choose(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return -1;
}

static int check_dead(const struct usage *usage, const struct asked *asked)
{
    const char *wrong = asked->type != NULL        ? "--type"
                        : asked->format != NULL    ? "--format"
                        : asked->maps.count > 0    ? "--map"
                        : asked->kind != NULL      ? "--kind"
                        : asked->time_unit != NULL ? "--time-unit"
                        : asked->topic != NULL     ? "--topic"
                                                   : NULL;
    return wrong != NULL ? flags_wrong(usage, "--from-dead takes no %s: letters go back as they were", wrong)
                         : EXIT_FINE;
}

static int check_file(const struct usage *usage, const struct asked *asked, bool has_file, struct job *job)
{
    static const char *const formats[] = {"", "csv", "tsv", "json", "recbole"};
    static const char *const units[] = {"ms", "s"};
    const char *type = asked->type != NULL ? asked->type : "interaction";
    const char *kind = asked->kind != NULL ? asked->kind : "rating";
    int format = choose(formats, 5, asked->format != NULL ? asked->format : "");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, type) == 0)
            job->kind = &kinds[i];
    job->format = (enum event_format)format;
    return !has_file                   ? flags_wrong(usage, "missing operand: headrace produce FILE")
           : asked->dead.class != NULL ? flags_wrong(usage, "--class goes with --from-dead")
           : asked->dead.dry_run       ? flags_wrong(usage, "--dry-run goes with --from-dead")
           : job->kind == NULL ? flags_wrong(usage, "--type: \"%s\" is none of interaction, item, user, request", type)
           : format < 0 ? flags_wrong(usage, "--format: \"%s\" is none of csv, tsv, json, recbole", asked->format)
           : !interaction_kind_parse(text_of(kind), &job->event_kind)
               ? flags_wrong(usage, "--kind: \"%s\" is no kind of interaction", kind)
           : asked->time_unit != NULL && choose(units, 2, asked->time_unit) < 0
               ? flags_wrong(usage, "--time-unit: \"%s\" is neither s nor ms", asked->time_unit)
               : EXIT_FINE;
}

static int run(struct job *job, struct asked *asked, const struct config *config, const char *operand,
               struct error *err)
{
    if (!asked->from_dead)
        return run_job(job, config, operand, err);
    asked->dead.topic = operand;
    asked->dead.limit = asked->limit;
    asked->dead.rate = asked->rate;
    return produce_dead(&asked->dead, config, err);
}

int command_produce(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct asked asked = {.limit = 0};
    const struct flag flags[] = {
        {"type", "TYPE", FLAG_TEXT, &asked.type, "interaction (default), item, user or request"},
        {"format", "FORMAT", FLAG_TEXT, &asked.format, "csv, tsv, json, recbole (default: by the file's name)"},
        {"map", "FIELD=RULE", FLAG_LIST, &asked.maps, "a column, or text with {column}s; again for more"},
        {"kind", "KIND", FLAG_TEXT, &asked.kind, "of interactions without a kind column (default rating)"},
        {"time-unit", "s|ms", FLAG_TEXT, &asked.time_unit, "of timestamps (default: s for RecBole, else ms)"},
        {"topic", "TOPIC", FLAG_TEXT, &asked.topic, "default: the type's, by the configuration"},
        {"limit", "N", FLAG_NUMBER, &asked.limit, "stop after so many messages"},
        {"rate", "N", FLAG_NUMBER, &asked.rate, "at most so many messages a second"},
        {"from-dead", NULL, FLAG_SWITCH, &asked.from_dead, "put dead letters back; those of TOPIC, or all"},
        {"class", "CLASS", FLAG_TEXT, &asked.dead.class,
         "with --from-dead: only framing, unknown_schema, decode, semantic, too_large or other"},
        {"dry-run", NULL, FLAG_SWITCH, &asked.dead.dry_run, "with --from-dead: only say what would be put back"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "produce",
        .operands = "FILE | --from-dead [TOPIC]",
        .summary = "A file (\"-\": standard input) into a topic as Avro. CSV and TSV need a header line; JSON lines "
                   "name their\n"
                   "fields as the schema does; RecBole's atomic files are .inter, .item and .user.\n"
                   "With --from-dead: dead letters back into their topics, byte for byte, after what was wrong has "
                   "been\nmended; each once, as a consumer group keeps the place. See headrace inspect dead.",
        .example =
            "headrace produce --set kafka.bootstrap.servers=localhost:9092 ratings.csv --map item_id=movie "
            "--time-unit s\n  headrace produce --type item ml-100k.item --map 'title={movie_title} ({release_year})' "
            "--map attributes.genres=class:list\n"
            "  headrace produce --config headrace.yaml --from-dead interactions --class unknown_schema --dry-run",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .most_operands = 1};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    struct job job = {.asked = &asked};
    struct config *config = NULL;
    int code = asked.from_dead ? check_dead(&usage, &asked) : check_file(&usage, &asked, operand < argc, &job);
    if (code == EXIT_FINE)
        code = setup_config("produce", &config_flags, &config);
    else
        flag_list_free(&config_flags.sets);
    if (code != EXIT_FINE) {
        flag_list_free(&asked.maps);
        return code;
    }
    interrupt_watch();
    struct error err;
    int result = run(&job, &asked, config, operand < argc ? argv[operand] : NULL, &err);
    flag_list_free(&asked.maps);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("produce", &err);
}
