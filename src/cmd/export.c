/* export.c - logged traffic's prompts with their labels, by the code that scores: training elsewhere has no skew */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/logged.h"
#include "cmd/setup.h"
#include "graph/evidence.h"

struct asked {
    struct logged_flags logged;
    const char *out;
};

struct job {
    const struct asked *asked;
    const struct config *config;
    struct logged logged;
    struct answering answering; /* without heads and engine */
    FILE *out;
    struct buffer line;
};

static void put_ids(struct buffer *line, const char *name, const int32_t *ids, size_t count)
{
    buffer_printf(line, "\"%s\":[", name);
    for (size_t i = 0; i < count; i++)
        buffer_printf(line, i == 0 ? "%d" : ",%d", (int)ids[i]);
    buffer_append_byte(line, ']');
}

static void put_text(struct buffer *line, const char *name, struct text text)
{
    buffer_printf(line, "\"%s\":", name);
    buffer_append_json(line, text);
}

/* Of the newest fact of its kind; null: there is none. */
static void put_time(struct buffer *line, const char *name, int64_t time_ms)
{
    if (time_ms == INT64_MIN)
        buffer_printf(line, "\"%s\":null", name);
    else
        buffer_printf(line, "\"%s\":%lld", name, (long long)time_ms);
}

static void put_evidence(struct buffer *line, const struct evidence *evidence)
{
    double values[EVIDENCE_COUNT];
    evidence_values(evidence, values);
    buffer_append_string(line, ",\"evidence\":{");
    for (size_t i = 0; i < EVIDENCE_COUNT; i++)
        buffer_printf(line, "%s\"%s\":%.17g", i == 0 ? "" : ",", evidence_names[i], values[i]);
    buffer_append_byte(line, '}');
}

/* A cold item has no prompt: its tokens and texts are empty. */
static void put_prompt(struct buffer *line, const struct replay_request *request, size_t c)
{
    const size_t *texts = request->text_offsets, *tokens = request->offsets;
    bool has_text = request->rendered && tokens[c + 1] > tokens[c];
    struct text none = text_of("");
    buffer_append_string(line, ",\"prompt\":{");
    put_text(line, "system", has_text ? request->system_text : none);
    buffer_append_byte(line, ',');
    put_text(line, "user", has_text ? request->user_text : none);
    buffer_append_byte(line, ',');
    put_text(line, "candidate",
             has_text ? (struct text){request->tail_text.data + texts[c], texts[c + 1] - texts[c]} : none);
    buffer_append_string(line, "},\"ids\":{");
    put_ids(line, "prefix", request->prefix, has_text ? request->prefix_length : 0);
    buffer_append_byte(line, ',');
    put_ids(line, "candidate", has_text ? request->tokens + tokens[c] : NULL, has_text ? tokens[c + 1] - tokens[c] : 0);
    buffer_append_byte(line, '}');
}

static void put_row(struct job *job, const struct replay_request *request, size_t c)
{
    static const char *const parts[TRAJECTORY_PARTS] = {"train", "calibrate", "test"};
    const struct trajectory_row *row = &request->rows[c];
    const struct evidence *evidence = &request->plan->candidates[c].evidence;
    struct buffer *line = &job->line;
    buffer_clear(line);
    buffer_printf(line, "{\"row\":%zu,", request->first_row + c);
    put_text(line, "request_id", request->request->request_id);
    buffer_append_byte(line, ',');
    put_text(line, "user_id", request->request->user_id);
    buffer_append_byte(line, ',');
    put_text(line, "item_id", request->request->candidates[c].item_id);
    buffer_printf(line, ",\"part\":\"%s\",\"status\":\"%s\",\"label\":", parts[row->part],
                  candidate_status_name(row->status));
    buffer_append_string(line, row->label == TRAJECTORY_UNLABELLED ? "null" : row->label == 1 ? "1" : "0");
    buffer_printf(line, ",\"times\":{\"request\":%lld,", (long long)row->timestamp_ms);
    put_time(line, "label", row->known_ms);
    buffer_append_byte(line, ',');
    put_time(line, "history", request->plan->history_ms);
    buffer_append_byte(line, ',');
    put_time(line, "evidence", evidence->newest_ms);
    buffer_append_byte(line, '}');
    put_evidence(line, evidence);
    put_prompt(line, request, c);
    buffer_append_string(line, "}\n");
}

static int write_request(void *context, const struct replay_request *request, struct error *err)
{
    struct job *job = context;
    for (size_t c = 0; c < request->request->candidate_count; c++) {
        put_row(job, request, c);
        if (buffer_check(&job->line, "exporting a prompt", err) != 0)
            return -1;
        if (fwrite(job->line.data, 1, job->line.size, job->out) != job->line.size)
            return error_set(err, ERROR_RETRY, "writing %s: %s", job->asked->out, strerror(errno));
    }
    return 0;
}

static int run_job(struct job *job, struct error *err)
{
    const struct replay_visitor visitor = {job, write_request};
    struct replay_totals totals;
    bool to_stdout = strcmp(job->asked->out, "-") == 0;
    if (logged_open(&job->logged, &job->asked->logged, job->config, &interrupted, err) != 0 ||
        setup_prompt(job->config, &job->answering, err) != 0)
        return -1;
    job->out = to_stdout ? stdout : fopen(job->asked->out, "wb");
    if (job->out == NULL)
        return error_set(err, ERROR_FATAL, "--out %s: %s", job->asked->out, strerror(errno));
    job->logged.settings.prompt = job->answering.prompt;
    job->logged.settings.texts = true;
    int result = replay_run(job->logged.log, &job->logged.settings, &visitor, &totals, err);
    int closed = to_stdout ? fflush(stdout) : fclose(job->out);
    if (result == 0 && closed != 0)
        result = error_set(err, ERROR_RETRY, "writing %s: %s", job->asked->out, strerror(errno));
    if (result == 0)
        log_info("cmd", "%llu prompts of %llu requests", (unsigned long long)totals.rows,
                 (unsigned long long)totals.requests);
    return result;
}

int command_export(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct asked asked = {.logged = LOGGED_DEFAULTS, .out = "-"};
    const struct flag flags[] = {
        {"out", "FILE", FLAG_TEXT, &asked.out, "where the lines go (default \"-\": standard output)"},
        LOGGED_FLAGS(asked.logged),
        {"protocol", "NAME", FLAG_TEXT, &asked.logged.protocol, "chronological (default) or paper: the parts"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "export",
        .operands = "",
        .summary = "The prompts of logged traffic as JSON lines, one a candidate: parts, texts, token ids, label,\n"
                   "evidence and the times of all of these, made by the very code that scores. Only what was known\n"
                   "before a request is in its prompt.",
        .example = "headrace export --events ml-100k.inter --items ml-100k.item --item-map 'title={movie_title} "
                   "({release_year})' --sample 0.1 --set model.path=model.gguf --out prompts.jsonl",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    struct job job = {.asked = &asked};
    struct config *config = NULL;
    int code = logged_check(&usage, &asked.logged);
    if (code == EXIT_FINE)
        code = setup_config("export", &config_flags, &config);
    else
        flag_list_free(&config_flags.sets);
    if (code == EXIT_FINE) {
        struct error err;
        job.config = config;
        interrupt_watch();
        if (run_job(&job, &err) != 0)
            code = setup_failed("export", &err);
        setup_answering_close(&job.answering);
        logged_close(&job.logged);
        buffer_free(&job.line);
        config_destroy(config);
    }
    logged_flags_free(&asked.logged);
    return code;
}
