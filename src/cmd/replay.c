/* replay.c - logged traffic once more: what any setting would have cost and gained */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/replay.h"
#include "replay/compare.h"

enum { ROUNDS = 1000, MOST_FACTS = 16, FACT_SIZE = 160 };

static const double default_max_loss = 0.002;

struct asked {
    struct logged_flags logged;
    const char *html, *json, *csv, *checkpoint;
    const char *choose;
    bool fresh, compare, matrix;
    int64_t measured_rows; /* 0: nothing is measured */
    double max_loss, l2, tolerance;
};

struct job {
    const struct asked *asked;
    struct config *config;
    struct logged logged;
    struct replay_answerer answerer;
    struct replay_making making;
    struct replay_runs *runs;
    struct replay_speeds speeds;
    int64_t start_ms, start_ns;
    struct report_fact facts[MOST_FACTS];
    char values[MOST_FACTS][FACT_SIZE];
    size_t fact_count;
};

static void add_fact(struct job *job, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void add_fact(struct job *job, const char *name, const char *format, ...)
{
    va_list arguments;
    if (job->fact_count == MOST_FACTS)
        return;
    char *value = job->values[job->fact_count];
    va_start(arguments, format);
    vsnprintf(value, FACT_SIZE, format, arguments);
    va_end(arguments);
    job->facts[job->fact_count++] = (struct report_fact){name, value};
}

static void gather_facts(struct job *job, const char *protocol)
{
    const struct trajectory *trajectory = &job->runs->trajectories[0];
    const struct logged_flags *logged = &job->asked->logged;
    size_t messages;
    (void)replay_log_messages(job->logged.log, &messages);
    job->fact_count = 0;
    add_fact(job, "model", "%s (%zu layers)", trajectory->model, trajectory->layers);
    add_fact(job, "heads", "%s", trajectory->heads);
    add_fact(job, "arithmetic", "%s", trajectory->mode);
    add_fact(job, "template", "%s", trajectory->template_hash);
    add_fact(job, "messages", "%zu, %llu more could not be read", messages,
             (unsigned long long)replay_log_unreadable(job->logged.log));
    add_fact(job, "rows", "%zu in %zu requests of %zu users, %zu items", trajectory->count, trajectory->requests,
             trajectory->users, trajectory->items);
    add_fact(job, "protocol", "%s, split %s, %g warm", protocol, logged->split, logged->warm);
    add_fact(job, "sample", "%g of the %ss, seed %lld", logged->sample, logged->sample_by, (long long)logged->seed);
    add_fact(job, "trajectory", "%s", trajectory->key);
}

static int write_file(const struct report *report, void (*put)(const struct report *, struct buffer *),
                      const char *path, const char *suffix, struct error *err)
{
    struct buffer out = {0}, name = {0};
    if (path == NULL)
        return 0;
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    size_t stem = dot == NULL || (slash != NULL && dot < slash) ? strlen(path) : (size_t)(dot - path);
    buffer_append(&name, path, stem);
    buffer_append_string(&name, suffix);
    buffer_append_string(&name, path + stem);
    put(report, &out);
    int result = buffer_check(&name, "writing a report", err);
    if (result == 0)
        result = buffer_check(&out, "writing a report", err);
    if (result == 0)
        result = file_replace(buffer_string(&name), out.data, out.size, err);
    if (result == 0)
        printf("%s\n", buffer_string(&name));
    buffer_free(&out);
    buffer_free(&name);
    return result;
}

static int write_files(const struct job *job, const struct report *report, const char *suffix, struct error *err)
{
    const struct asked *asked = job->asked;
    struct buffer table = {0};
    report_put_text(report, &table);
    if (buffer_check(&table, "writing a report", err) != 0)
        return -1;
    fwrite(table.data, 1, table.size, stdout);
    buffer_free(&table);
    if (write_file(report, report_put_html, asked->html, suffix, err) != 0 ||
        write_file(report, report_put_json, asked->json, suffix, err) != 0)
        return -1;
    return write_file(report, report_put_csv, asked->csv, suffix, err);
}

static int make_report(struct job *job, const char *protocol, struct report **made, struct error *err)
{
    char times[128], when[32], title[64];
    struct report_set sets[REPLAY_SETS];
    struct replay_thresholds thresholds;
    gather_facts(job, protocol);
    replay_report_sets(&job->answerer, &thresholds, sets);
    clock_format(job->start_ms, when);
    snprintf(times, sizeof times, "%s, %.1f s", when, clock_since_ms(job->start_ns) / 1000);
    snprintf(title, sizeof title, "Replay, %s", protocol);
    const struct report_settings settings = {
        .title = title,
        .runs = job->runs->runs,
        .run_count = job->runs->count,
        .sets = sets,
        .set_count = job->answerer.count,
        .max_loss = job->asked->max_loss,
        .l2 = job->asked->l2 > 0 ? job->asked->l2 : job->answerer.l2,
        .rounds = ROUNDS,
        .seed = (uint64_t)job->asked->logged.seed,
        .speeds = job->speeds.speeds,
        .speed_count = job->speeds.count,
        .facts = job->facts,
        .fact_count = job->fact_count,
        .times = times,
    };
    return report_create(made, &settings, err);
}

/* Speed is measured at the operating point, which the report knows, and then stands in the report. */
static int report(struct job *job, const char *protocol, const char *suffix, struct error *err)
{
    bool chooses = job->asked->choose != NULL && *suffix == '\0';
    struct report *made;
    if (make_report(job, protocol, &made, err) != 0)
        return -1;
    int result = 0;
    if (job->asked->measured_rows > 0 && job->speeds.count == 0) {
        result =
            replay_measure(&job->making, chooses ? made : NULL, (size_t)job->asked->measured_rows, &job->speeds, err);
        report_destroy(made);
        if (result != 0 || make_report(job, protocol, &made, err) != 0)
            return -1;
    }
    result = write_files(job, made, suffix, err);
    if (result == 0 && chooses)
        result = replay_choose(&job->answerer, made, job->asked->max_loss, err);
    report_destroy(made);
    return result;
}

/* The same rows, parted at random. */
static int report_paper(struct job *job, struct error *err)
{
    struct split split = job->logged.settings.split;
    split.protocol = SPLIT_PAPER;
    for (size_t i = 0; i < job->runs->count; i++)
        if (split_rows(job->runs->trajectories[i].rows, job->runs->trajectories[i].count, &split, err) != 0)
            return -1;
    return report(job, "paper", "-paper", err);
}

static int run_job(struct job *job, struct error *err)
{
    job->making = (struct replay_making){.answerer = &job->answerer,
                                         .logged = &job->logged,
                                         .checkpoint = job->asked->checkpoint,
                                         .fresh = job->asked->fresh};
    job->runs = calloc(1, sizeof *job->runs);
    if (job->runs == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (logged_open(&job->logged, &job->asked->logged, job->config, &interrupted, err) != 0 ||
        replay_answerer_open(&job->answerer, job->config, err) != 0)
        return -1;
    /* The baselines learn from the evidence of the rows that train; the model answers the others. */
    job->logged.settings.parts = 1u << TRAJECTORY_CALIBRATE | 1u << TRAJECTORY_TEST;
    if (replay_make_runs(&job->making, job->asked->matrix, job->runs, err) != 0)
        return -1;
    const char *protocol = job->logged.settings.split.protocol == SPLIT_PAPER ? "paper" : "chronological";
    if (report(job, protocol, "", err) != 0)
        return -1;
    return job->logged.settings.both_protocols ? report_paper(job, err) : 0;
}

static int compare(const struct usage *usage, const struct asked *asked, char **operands, int count)
{
    struct error err;
    if (count != 2)
        return flags_wrong(usage, "--compare takes two reports' JSON files");
    const struct compare_settings settings = {.a = operands[0],
                                              .b = operands[1],
                                              .tolerance = asked->tolerance,
                                              .rounds = ROUNDS,
                                              .seed = (uint64_t)asked->logged.seed};
    int result = compare_reports(&settings, stdout, &err);
    if (result >= 0)
        return result;
    setup_failed("replay", &err);
    return EXIT_USAGE;
}

/* "max_loss=0.002" */
static int check_choice(const struct usage *usage, struct asked *asked)
{
    static const char name[] = "max_loss=";
    char *end;
    if (asked->choose == NULL)
        return EXIT_FINE;
    if (strncmp(asked->choose, name, sizeof name - 1) != 0)
        return flags_wrong(usage, "--choose: \"%s\" is not max_loss=X", asked->choose);
    asked->max_loss = strtod(asked->choose + sizeof name - 1, &end);
    if (*end != '\0' || end == asked->choose + sizeof name - 1 || !(asked->max_loss >= 0 && asked->max_loss <= 1))
        return flags_wrong(usage, "--choose: \"%s\": X is a loss from 0 to 1", asked->choose);
    return EXIT_FINE;
}

static int replay(struct asked *asked, struct config_flags *config_flags)
{
    struct job job = {.asked = asked, .start_ms = clock_wall_ms(), .start_ns = clock_monotonic_ns()};
    struct error err;
    int code = setup_config("replay", config_flags, &job.config);
    if (code != EXIT_FINE)
        return code;
    interrupt_watch();
    if (run_job(&job, &err) != 0)
        code = setup_failed("replay", &err);
    if (job.runs != NULL)
        replay_runs_free(job.runs);
    free(job.runs);
    replay_answerer_close(&job.answerer);
    logged_close(&job.logged);
    config_destroy(job.config);
    return code;
}

int command_replay(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct asked asked = {.logged = LOGGED_DEFAULTS, .max_loss = default_max_loss};
    const struct flag flags[] = {
        LOGGED_FLAGS(asked.logged),
        {"protocol", "NAME", FLAG_TEXT, &asked.logged.protocol,
         "chronological (default): split by time; paper: at random; both"},
        {"store", "DIRECTORY", FLAG_TEXT, &asked.logged.store,
         "keep the graph there (default: a temporary one); what it knows of the future is a leak"},
        {"speed", "max|1x|10x", FLAG_TEXT, &asked.logged.speed, "as fast as it goes (default), or by the clock"},
        {"checkpoint", "FILE", FLAG_TEXT, &asked.checkpoint, "go on from there, and keep it up to date"},
        {"fresh", NULL, FLAG_SWITCH, &asked.fresh, "run the model also where an earlier replay's answers are known"},
        {"report", "FILE.html", FLAG_TEXT, &asked.html, "the report as one page"},
        {"json", "FILE", FLAG_TEXT, &asked.json, "all figures, and each test row's answers"},
        {"csv", "FILE", FLAG_TEXT, &asked.csv, "a line a scorer"},
        {"matrix", NULL, FLAG_SWITCH, &asked.matrix,
         "retrieval, embeddings' layers and similar users crossed; a run of the model each"},
        {"choose", "max_loss=X", FLAG_TEXT, &asked.choose,
         "the cheapest point within X of the reference's log loss, into heads.path's file (0.002)"},
        {"measure", "ROWS", FLAG_NUMBER, &asked.measured_rows, "candidates a second on so many test rows"},
        {"l2", "X", FLAG_DECIMAL, &asked.l2, "penalty of the regression on the evidence (default: exit 0's, else 1)"},
        {"compare", NULL, FLAG_SWITCH, &asked.compare, "A.json B.json: exit code 1 where B is worse"},
        {"tolerance", "X", FLAG_DECIMAL, &asked.tolerance, "AUC or log loss that may be lost (default 0)"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "replay",
        .operands = "[--compare A.json B.json]",
        .summary = "Logged traffic once more, from files or topics: each request is planned on what was known before\n"
                   "it, answered at full depth by all heads, and judged by what came of it. All rules, thresholds and\n"
                   "baselines follow from that one pass, which is kept. A fact that is not earlier than its request\n"
                   "fails the run.",
        .example = "headrace replay --events ml-100k.inter --items ml-100k.item --item-map 'title={movie_title} "
                   "({release_year})' --report replay.html\n"
                   "  headrace replay --config headrace.yaml --from 2026-01-01 --sample 0.1 --json new.json\n"
                   "  headrace replay --compare old.json new.json",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .most_operands = 2};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    int code;
    if (asked.compare) {
        code = compare(&usage, &asked, argv + operand, argc - operand);
        flag_list_free(&config_flags.sets);
    } else {
        code = operand < argc ? flags_wrong(&usage, "\"%s\": only --compare takes files so", argv[operand])
                              : logged_check(&usage, &asked.logged);
        if (code == EXIT_FINE)
            code = check_choice(&usage, &asked);
        if (code == EXIT_FINE)
            code = replay(&asked, &config_flags);
        else
            flag_list_free(&config_flags.sets);
    }
    logged_flags_free(&asked.logged);
    return code;
}
