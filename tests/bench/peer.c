/*
 * The peer's side of the bench: libllama on the same tokens in the way that costs it least. The prefix is decoded once
 * and shared with the candidates by llama_memory_seq_cp(); candidates are decoded in groups, with logits for their last
 * tokens alone; a group's cells are given back before the next.
 *
 *   peer --model FILE --prompts FILE [--prompt INDEX] --yes ID --no ID [--threads N] [--ubatch N] [--group N]
 *        [--flash 0|1] [--unified 0|1]
 *
 * --unified 1: one cache for all sequences, the prefix in it once; 0: a stream each, the prefix copied to it.
 *
 * Says "ready" with the library's version on a line, then reads rounds from standard input, a line each,
 *   cold|warm CANDIDATES
 * (warm: the prefix of the round before is kept) and answers with one line of JSON: seconds, and each candidate's
 * logit of yes less that of no.
 */
#include <getopt.h>
#include <llama.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "prompt_file.h"

struct peer {
    const char *model_path;
    const char *prompts_path;
    size_t prompt_index;
    int32_t yes, no;
    int32_t threads, ubatch, group;
    bool flash, unified;

    struct prompt_file file;
    const struct bench_prompt *prompt;
    struct llama_model *model;
    struct llama_context *context;
    struct llama_batch batch;
    float *margins; /* (candidates) */
};

static void die(const char *message)
{
    fprintf(stderr, "peer: %s\n", message);
    exit(1);
}

static void log_problems(enum ggml_log_level level, const char *text, void *context)
{
    (void)context;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static void batch_add(struct llama_batch *batch, int32_t token, size_t position, int32_t sequence, bool logits)
{
    int32_t i = batch->n_tokens++;
    batch->token[i] = token;
    batch->pos[i] = (int32_t)position;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = sequence;
    batch->logits[i] = logits;
}

static void decode(struct peer *peer)
{
    if (llama_decode(peer->context, peer->batch) != 0)
        die("llama_decode() failed");
    llama_synchronize(peer->context);
}

static void decode_prefix(struct peer *peer)
{
    llama_memory_clear(llama_get_memory(peer->context), false);
    peer->batch.n_tokens = 0;
    for (size_t i = 0; i < peer->prompt->prefix_length; i++)
        batch_add(&peer->batch, peer->prompt->prefix[i], i, 0, false);
    decode(peer);
}

/* Candidates first .. first + count - 1, as the sequences 1 .. count. */
static void decode_group(struct peer *peer, size_t first, size_t count)
{
    const struct bench_prompt *prompt = peer->prompt;
    llama_memory_t memory = llama_get_memory(peer->context);
    peer->batch.n_tokens = 0;
    for (size_t c = first; c < first + count; c++) {
        int32_t sequence = (int32_t)(c - first + 1);
        llama_memory_seq_cp(memory, 0, sequence, -1, -1);
        for (size_t i = prompt->offsets[c]; i < prompt->offsets[c + 1]; i++)
            batch_add(&peer->batch, prompt->tokens[i], prompt->prefix_length + i - prompt->offsets[c], sequence,
                      i + 1 == prompt->offsets[c + 1]);
    }
    decode(peer);
    for (size_t c = first; c < first + count; c++) {
        size_t last = prompt->offsets[c + 1] - prompt->offsets[first] - 1;
        const float *logits = llama_get_logits_ith(peer->context, (int32_t)last);
        peer->margins[c] = logits[peer->yes] - logits[peer->no];
        llama_memory_seq_rm(memory, (int32_t)(c - first + 1), -1, -1);
    }
}

static void run_round(struct peer *peer, bool cold, size_t candidates)
{
    int64_t start_ns = clock_monotonic_ns();
    if (cold)
        decode_prefix(peer);
    double prefix_ms = clock_since_ms(start_ns);
    for (size_t first = 0; first < candidates; first += (size_t)peer->group) {
        size_t left = candidates - first;
        decode_group(peer, first, left < (size_t)peer->group ? left : (size_t)peer->group);
    }
    double all_ms = clock_since_ms(start_ns);

    printf("{\"prefix\": %.6f, \"seconds\": %.6f, \"margins\": [", prefix_ms / 1000, all_ms / 1000);
    for (size_t c = 0; c < candidates; c++)
        printf("%s%.6g", c > 0 ? ", " : "", (double)peer->margins[c]);
    printf("]}\n");
}

static void open_context(struct peer *peer)
{
    size_t longest = 0;
    for (size_t c = 0; c < peer->prompt->candidate_count; c++) {
        size_t length = peer->prompt->offsets[c + 1] - peer->prompt->offsets[c];
        longest = length > longest ? length : longest;
    }
    size_t group = (size_t)peer->group, prefix = peer->prompt->prefix_length;
    size_t cells = peer->unified ? prefix + group * longest : (group + 1) * ((prefix + longest + 255) / 256 * 256);
    size_t largest_batch = prefix > group * longest ? prefix : group * longest;

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)cells;
    params.n_batch = (uint32_t)largest_batch;
    params.n_ubatch = (uint32_t)peer->ubatch;
    params.n_seq_max = (uint32_t)group + 1;
    params.n_threads = params.n_threads_batch = peer->threads;
    params.flash_attn_type = peer->flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.kv_unified = peer->unified;
    peer->context = llama_init_from_model(peer->model, params);
    if (peer->context == NULL)
        die("no context with these settings");
    peer->batch = llama_batch_init((int32_t)largest_batch, 0, 1);
}

static void peer_open(struct peer *peer)
{
    struct error err;
    if (prompt_file_read(&peer->file, peer->prompts_path, &err) != 0)
        die(err.message);
    if (peer->prompt_index >= peer->file.count)
        die("there is no such prompt");
    peer->prompt = &peer->file.prompts[peer->prompt_index];
    peer->margins = calloc(peer->prompt->candidate_count, sizeof *peer->margins);

    llama_log_set(log_problems, NULL);
    llama_backend_init();
    peer->model = llama_model_load_from_file(peer->model_path, llama_model_default_params());
    if (peer->model == NULL || peer->margins == NULL)
        die("the model cannot be loaded");
    open_context(peer);
}

static void peer_close(struct peer *peer)
{
    llama_batch_free(peer->batch);
    llama_free(peer->context);
    llama_model_free(peer->model);
    llama_backend_free();
    free(peer->margins);
    prompt_file_free(&peer->file);
}

static void read_flags(struct peer *peer, int argc, char **argv)
{
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                            {"prompts", required_argument, NULL, 'p'},
                                            {"prompt", required_argument, NULL, 'i'},
                                            {"yes", required_argument, NULL, 'y'},
                                            {"no", required_argument, NULL, 'n'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"ubatch", required_argument, NULL, 'u'},
                                            {"group", required_argument, NULL, 'g'},
                                            {"flash", required_argument, NULL, 'f'},
                                            {"unified", required_argument, NULL, 'k'},
                                            {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            exit(2);
        int32_t number = atoi(optarg);
        switch (c) {
        case 'm':
            peer->model_path = optarg;
            break;
        case 'p':
            peer->prompts_path = optarg;
            break;
        case 'i':
            peer->prompt_index = (size_t)number;
            break;
        case 'y':
            peer->yes = number;
            break;
        case 'n':
            peer->no = number;
            break;
        case 't':
            peer->threads = number;
            break;
        case 'u':
            peer->ubatch = number;
            break;
        case 'g':
            peer->group = number;
            break;
        case 'f':
            peer->flash = number != 0;
            break;
        case 'k':
            peer->unified = number != 0;
            break;
        }
    }
    if (peer->model_path == NULL || peer->prompts_path == NULL || peer->threads < 1 || peer->ubatch < 1 ||
        peer->group < 1)
        die("--model and --prompts name files; threads, ubatch and group are above 0");
}

int main(int argc, char **argv)
{
    struct peer peer = {.threads = 2, .ubatch = 512, .group = 10, .flash = true, .unified = true};
    read_flags(&peer, argc, argv);
    peer_open(&peer);
    printf("ready %s\n", llama_version());
    fflush(stdout);

    char word[8];
    size_t candidates;
    while (scanf("%7s %zu", word, &candidates) == 2) {
        if (candidates < 1 || candidates > peer.prompt->candidate_count)
            die("the prompt has not so many candidates");
        run_round(&peer, strcmp(word, "cold") == 0, candidates);
        fflush(stdout);
    }
    peer_close(&peer);
    return 0;
}
