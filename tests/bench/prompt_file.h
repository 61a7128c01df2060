/*
 * prompt_file.h - token ids of real prompts, with what came of them, as text
 *
 * What all programs of the bench read, so that every engine is given the same tokens. A prompt is a line
 *   prompt USER PREFIX-LENGTH CANDIDATE-COUNT
 * a line with the prefix's ids, and for each candidate a line
 *   LIKED LENGTH ids...
 */
#ifndef HEADRACE_BENCH_PROMPT_FILE_H
#define HEADRACE_BENCH_PROMPT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct bench_prompt {
    uint32_t user; /* a number from 0 */
    size_t prefix_length;
    int32_t *prefix;
    size_t candidate_count;
    size_t *offsets; /* candidate c is tokens[offsets[c] .. offsets[c + 1]) */
    int32_t *tokens;
    bool *liked; /* what the user thought of each candidate */
};

struct prompt_file {
    struct bench_prompt *prompts;
    size_t count;
};

void prompt_file_write(FILE *out, const struct bench_prompt *prompt);
int prompt_file_read(struct prompt_file *file, const char *path, struct error *err);
void prompt_file_free(struct prompt_file *file);

#endif
