/*
 * What exit heads see: the last tokens' hidden states of real prompts at every exit, in one arithmetic mode.
 *
 *   bench_states --prompts FILE --out FILE --set model.path=FILE [--set engine.mode=...] ...
 *
 * The output is floats as they lie in memory: (candidates of all prompts, exits, width), the last exit being full
 * depth. Prints shape and seconds as JSON.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/flags.h"
#include "cmd/setup.h"
#include "prompt_file.h"

/* On a terminal with each prompt, else a line for each tenth of them. */
static void print_progress(size_t done, size_t count, int64_t start_ns)
{
    bool terminal = isatty(STDERR_FILENO);
    if (terminal || done * 10 / count != (done - 1) * 10 / count)
        fprintf(stderr, "%s    %zu of %zu histories, %.0f s%s", terminal ? "\r" : "", done, count,
                clock_since_ms(start_ns) / 1000, terminal ? "" : "\n");
    if (terminal && done == count)
        fprintf(stderr, "\r\033[K");
}

/* Of a candidate's states after every layer those at the exits. */
static int write_exits(const struct heads *heads, const float *states, const char *path, FILE *out, struct error *err)
{
    for (size_t i = 0; i < heads->count; i++) {
        const float *state = states + (heads->exits[i].layer - 1) * heads->width;
        if (fwrite(state, sizeof *state, heads->width, out) != heads->width)
            return error_set(err, ERROR_RETRY, "%s: %s", path, strerror(errno));
    }
    return 0;
}

static int write_states(const struct answering *answering, const struct prompt_file *file, const char *path, FILE *out,
                        struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    const struct heads *heads = &answering->heads;
    size_t row_floats = heads->exits[heads->count - 1].layer * heads->width, most = 0;
    for (size_t i = 0; i < file->count; i++)
        most = file->prompts[i].candidate_count > most ? file->prompts[i].candidate_count : most;
    float *states = calloc(most * row_floats, sizeof *states);
    struct engine_score *scores = calloc(most, sizeof *scores);
    int result = states != NULL && scores != NULL ? 0 : error_set(err, ERROR_FATAL, "out of memory for hidden states");
    for (size_t i = 0; result == 0 && i < file->count; i++) {
        const struct bench_prompt *asked = &file->prompts[i];
        const struct engine_prompt prompt = {.prefix = asked->prefix,
                                             .prefix_length = asked->prefix_length,
                                             .tokens = asked->tokens,
                                             .offsets = asked->offsets,
                                             .candidate_count = asked->candidate_count,
                                             .explain = true,
                                             .states = states};
        result = engine_score(answering->engine, &prompt, 1, scores, err);
        for (size_t c = 0; result == 0 && c < asked->candidate_count; c++)
            result = write_exits(heads, states + c * row_floats, path, out, err);
        if (result == 0)
            print_progress(i + 1, file->count, start_ns);
    }
    free(states);
    free(scores);
    return result;
}

static int run(const struct answering *answering, const struct prompt_file *file, const char *path, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    FILE *out = fopen(path, "w");
    if (out == NULL)
        return error_set(err, ERROR_FATAL, "%s: %s", path, strerror(errno));
    int result = write_states(answering, file, path, out, err);
    if (fclose(out) != 0 && result == 0)
        result = error_set(err, ERROR_RETRY, "%s: %s", path, strerror(errno));
    if (result != 0)
        return -1;
    printf("{\"width\": %zu, \"layers\": [", answering->model.width);
    for (size_t i = 0; i < answering->heads.count; i++)
        printf("%s%zu", i > 0 ? ", " : "", answering->heads.exits[i].layer);
    printf("], \"norm_epsilon\": %g, \"seconds\": %.1f}\n", (double)answering->heads.norm_epsilon,
           clock_since_ms(start_ns) / 1000);
    return 0;
}

int main(int argc, char **argv)
{
    struct config_flags configs = {0};
    const char *prompts = NULL, *out = NULL;
    const struct flag flags[] = {CONFIG_FLAGS(configs),
                                 {"prompts", "FILE", FLAG_TEXT, &prompts, "as bench_prompts writes them"},
                                 {"out", "FILE", FLAG_TEXT, &out, "where the states go"}};
    const struct usage usage = {.command = "bench_states",
                                .operands = "",
                                .summary = "Writes the hidden states of prompts' last tokens at every exit.",
                                .example = "./dev bench accuracy",
                                .flags = flags,
                                .flag_count = sizeof flags / sizeof *flags};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if (prompts == NULL || out == NULL)
        return flags_wrong(&usage, "--prompts and --out name files");

    struct config *config = NULL;
    struct answering answering = {0};
    struct prompt_file file = {0};
    struct error err;
    int result = setup_config(usage.command, &configs, &config);
    if (result != EXIT_FINE)
        return result;
    result = prompt_file_read(&file, prompts, &err);
    if (result == 0)
        result = setup_answering(config, &answering, &err);
    if (result == 0)
        result = run(&answering, &file, out, &err);
    if (result != 0)
        fprintf(stderr, "bench_states: %s\n", err.message);
    setup_answering_close(&answering);
    prompt_file_free(&file);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : EXIT_FAILED;
}
