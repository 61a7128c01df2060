/*
 * pretokenizer.h - text cut into the pieces that merges never cross
 *
 * Threads: read-only once created; a match belongs to one thread at a time.
 */
#ifndef HEADRACE_MODEL_PRETOKENIZER_H
#define HEADRACE_MODEL_PRETOKENIZER_H

#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

struct pretokenizer;
struct pretokenizer_match;

/* By the name that GGUF files use (tokenizer.ggml.pre); an unknown one is an error that lists the known ones. */
int pretokenizer_create(struct pretokenizer **pretokenizer, struct text name, struct error *err);
void pretokenizer_destroy(struct pretokenizer *pretokenizer);

/* Whether by this convention a piece that is a token as a whole is taken as such, before any merge. */
bool pretokenizer_takes_whole(const struct pretokenizer *pretokenizer);

/* Whether by this convention BOS stands before every sequence where the file does not say. */
bool pretokenizer_adds_bos(const struct pretokenizer *pretokenizer);

/* Scratch memory of a caller; NULL without memory. */
struct pretokenizer_match *pretokenizer_match_create(void);
void pretokenizer_match_destroy(struct pretokenizer_match *match);

/* Length of the piece that starts at byte `at` (below the size) of well-formed UTF-8: at least 1. */
int pretokenizer_next(const struct pretokenizer *pretokenizer, struct pretokenizer_match *match, struct text text,
                      size_t at, size_t *length, struct error *err);

#endif
