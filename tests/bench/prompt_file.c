#include "prompt_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

enum { MOST_TOKENS = 1 << 20 }; /* of a prefix, and of a candidate; as many candidates */

static void write_ids(FILE *out, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fprintf(out, " %" PRId32, ids[i]);
    fputc('\n', out);
}

void prompt_file_write(FILE *out, const struct bench_prompt *prompt)
{
    fprintf(out, "prompt %" PRIu32 " %zu %zu\n", prompt->user, prompt->prefix_length, prompt->candidate_count);
    write_ids(out, prompt->prefix, prompt->prefix_length);
    for (size_t c = 0; c < prompt->candidate_count; c++) {
        size_t length = prompt->offsets[c + 1] - prompt->offsets[c];
        fprintf(out, "%d %zu", prompt->liked[c], length);
        write_ids(out, prompt->tokens + prompt->offsets[c], length);
    }
}

static bool read_count(FILE *in, size_t *count)
{
    return fscanf(in, "%zu", count) == 1 && *count >= 1 && *count <= MOST_TOKENS;
}

static bool read_ids(FILE *in, int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fscanf(in, "%" SCNd32, &ids[i]) != 1)
            return false;
    return true;
}

static bool read_candidates(FILE *in, struct bench_prompt *prompt)
{
    size_t capacity = 0;
    for (size_t c = 0; c < prompt->candidate_count; c++) {
        int liked;
        size_t length, start = prompt->offsets[c];
        if (fscanf(in, "%d", &liked) != 1 || !read_count(in, &length) ||
            array_reserve(&prompt->tokens, &capacity, start + length, sizeof *prompt->tokens) != 0 ||
            !read_ids(in, prompt->tokens + start, length))
            return false;
        prompt->liked[c] = liked != 0;
        prompt->offsets[c + 1] = start + length;
    }
    return true;
}

static bool read_prompt(FILE *in, struct bench_prompt *prompt)
{
    if (fscanf(in, "%" SCNu32, &prompt->user) != 1 || !read_count(in, &prompt->prefix_length) ||
        !read_count(in, &prompt->candidate_count))
        return false;
    prompt->prefix = calloc(prompt->prefix_length, sizeof *prompt->prefix);
    prompt->offsets = calloc(prompt->candidate_count + 1, sizeof *prompt->offsets);
    prompt->liked = calloc(prompt->candidate_count, sizeof *prompt->liked);
    return prompt->prefix != NULL && prompt->offsets != NULL && prompt->liked != NULL &&
           read_ids(in, prompt->prefix, prompt->prefix_length) && read_candidates(in, prompt);
}

int prompt_file_read(struct prompt_file *file, const char *path, struct error *err)
{
    *file = (struct prompt_file){0};
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return error_set(err, ERROR_FATAL, "%s: %s", path, strerror(errno));
    size_t capacity = 0;
    char word[16];
    int result = 0;
    while (result == 0 && fscanf(in, "%15s", word) == 1) {
        if (array_reserve(&file->prompts, &capacity, file->count + 1, sizeof *file->prompts) != 0) {
            result = error_set(err, ERROR_FATAL, "%s: out of memory", path);
            break;
        }
        struct bench_prompt *prompt = &file->prompts[file->count++];
        *prompt = (struct bench_prompt){0};
        if (strcmp(word, "prompt") != 0 || !read_prompt(in, prompt))
            result = error_set(err, ERROR_BAD_INPUT, "%s: prompt %zu cannot be read", path, file->count);
    }
    if (result == 0 && file->count == 0)
        result = error_set(err, ERROR_BAD_INPUT, "%s holds no prompt", path);
    fclose(in);
    if (result != 0)
        prompt_file_free(file);
    return result;
}

void prompt_file_free(struct prompt_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        free(file->prompts[i].prefix);
        free(file->prompts[i].offsets);
        free(file->prompts[i].tokens);
        free(file->prompts[i].liked);
    }
    free(file->prompts);
    *file = (struct prompt_file){0};
}
