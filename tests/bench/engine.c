/*
 * Our side of the bench: the engine as a worker runs it, set up by the worker's own options.
 *
 *   bench_engine --prompts FILE [--prompt INDEX] --set model.path=FILE [--set engine.threads=2] ...
 *
 * Says "ready" and what it loaded as JSON on a line, then reads rounds from standard input, a line each,
 *   cold|warm CANDIDATES
 * and answers with one line of JSON: seconds, and each candidate's logit of yes less that of no. A cold round's prefix
 * begins with another token each time, so that nothing of it was ever seen; a warm round's is the prompt's own.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/flags.h"
#include "cmd/setup.h"
#include "prompt_file.h"

struct bench {
    struct config *config;
    struct answering answering;
    struct prompt_file file;
    const struct bench_prompt *prompt;
    struct engine_score *scores; /* (candidates) */
    int32_t *fresh_prefix;
    size_t cold_rounds;
};

/* Memory that is ours and not a file's, KiB. */
static long anonymous_kib(void)
{
    long kib = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "RssAnon: %ld", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib;
}

static void print_ready(const struct bench *bench, double load_ms)
{
    const struct model *model = &bench->answering.model;
    const struct bench_prompt *prompt = bench->prompt;
    struct model_memory memory = model_memory(model);
    printf("ready {\"arithmetic\": \"%s\", \"load_seconds\": %.3f, \"yes\": %" PRId32 ", \"no\": %" PRId32,
           engine_arithmetic(bench->answering.engine), load_ms / 1000, prompt_yes(bench->answering.prompt),
           prompt_no(bench->answering.prompt));
    printf(", \"weight_bytes\": {\"f32\": %" PRIu64 ", \"bf16\": %" PRIu64 ", \"int8\": %" PRIu64
           "}, \"cache_bytes\": %" PRId64,
           memory.f32, memory.bf16, memory.int8, config_integer(bench->config, "engine.prefix_cache") << 20);
    printf(", \"layers\": %zu, \"width\": %zu, \"hidden\": %zu, \"heads\": %zu, \"key_heads\": %zu"
           ", \"head_size\": %zu, \"prefix\": %zu, \"candidates\": [",
           model->layer_count, model->width, model->hidden, model->heads, model->key_heads, model->head_size,
           prompt->prefix_length);
    for (size_t c = 0; c < prompt->candidate_count; c++)
        printf("%s%zu", c > 0 ? ", " : "", prompt->offsets[c + 1] - prompt->offsets[c]);
    printf("]}\n");
}

static int run_round(struct bench *bench, bool cold, size_t candidates, struct error *err)
{
    if (cold)
        bench->fresh_prefix[0] = (int32_t)(bench->cold_rounds++ % bench->answering.model.vocabulary);
    const struct engine_prompt prompt = {.prefix = cold ? bench->fresh_prefix : bench->prompt->prefix,
                                         .prefix_length = bench->prompt->prefix_length,
                                         .tokens = bench->prompt->tokens,
                                         .offsets = bench->prompt->offsets,
                                         .candidate_count = candidates};
    uint64_t before = engine_token_layers(bench->answering.engine);
    int64_t start_ns = clock_monotonic_ns();
    if (engine_score(bench->answering.engine, &prompt, 1, bench->scores, err) != 0)
        return -1;
    double ms = clock_since_ms(start_ns);
    printf("{\"seconds\": %.6f, \"token_layers\": %" PRIu64 ", \"anonymous_kib\": %ld, \"evictions\": %" PRIu64
           ", \"margins\": [",
           ms / 1000, engine_token_layers(bench->answering.engine) - before, anonymous_kib(),
           engine_prefix_counters(bench->answering.engine).evictions);
    for (size_t c = 0; c < candidates; c++) {
        double p = (double)bench->scores[c].probability;
        printf("%s%.6g", c > 0 ? ", " : "", log(p) - log1p(-p));
    }
    printf("]}\n");
    return 0;
}

static int run_rounds(struct bench *bench, struct error *err)
{
    char word[8];
    size_t candidates;
    while (scanf("%7s %zu", word, &candidates) == 2) {
        if (candidates < 1 || candidates > bench->prompt->candidate_count)
            return error_set(err, ERROR_BAD_INPUT, "the prompt has %zu candidates, not %zu",
                             bench->prompt->candidate_count, candidates);
        if (run_round(bench, strcmp(word, "cold") == 0, candidates, err) != 0)
            return -1;
        fflush(stdout);
    }
    return 0;
}

static int bench_open(struct bench *bench, const char *prompts, size_t index, struct error *err)
{
    if (prompt_file_read(&bench->file, prompts, err) != 0)
        return -1;
    if (index >= bench->file.count)
        return error_set(err, ERROR_BAD_INPUT, "%s holds %zu prompts: there is no number %zu", prompts,
                         bench->file.count, index);
    bench->prompt = &bench->file.prompts[index];
    bench->scores = calloc(bench->prompt->candidate_count, sizeof *bench->scores);
    bench->fresh_prefix = calloc(bench->prompt->prefix_length, sizeof *bench->fresh_prefix);
    if (bench->scores == NULL || bench->fresh_prefix == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    memcpy(bench->fresh_prefix, bench->prompt->prefix, bench->prompt->prefix_length * sizeof *bench->fresh_prefix);
    return setup_answering(bench->config, &bench->answering, err);
}

int main(int argc, char **argv)
{
    struct config_flags configs = {0};
    const char *prompts = NULL;
    int64_t index = 0;
    const struct flag flags[] = {CONFIG_FLAGS(configs),
                                 {"prompts", "FILE", FLAG_TEXT, &prompts, "as bench_prompts writes them"},
                                 {"prompt", "INDEX", FLAG_NUMBER, &index, "which of them (0)"}};
    const struct usage usage = {.command = "bench_engine",
                                .operands = "",
                                .summary = "Scores one prompt's candidates as often as standard input says.",
                                .example = "./dev bench engine",
                                .flags = flags,
                                .flag_count = sizeof flags / sizeof *flags};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if (prompts == NULL)
        return flags_wrong(&usage, "--prompts names a file");

    struct bench bench = {0};
    struct error err;
    int result = setup_config(usage.command, &configs, &bench.config);
    if (result != EXIT_FINE)
        return result;
    int64_t start_ns = clock_monotonic_ns();
    result = bench_open(&bench, prompts, (size_t)index, &err);
    if (result == 0) {
        print_ready(&bench, clock_since_ms(start_ns));
        fflush(stdout);
        result = run_rounds(&bench, &err);
    }
    if (result != 0)
        fprintf(stderr, "bench_engine: %s\n", err.message);
    setup_answering_close(&bench.answering);
    prompt_file_free(&bench.file);
    free(bench.scores);
    free(bench.fresh_prefix);
    config_destroy(bench.config);
    return result == 0 ? EXIT_FINE : EXIT_FAILED;
}
