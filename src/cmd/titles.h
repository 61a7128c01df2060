/*
 * titles.h - vectors of titles, from the token vectors of a language model
 *
 * The mean of the title's token vectors, less the mean of the whole vocabulary, projected by random signs, scaled to
 * length 1. The same file and dimension give the same vectors.
 */
#ifndef HEADRACE_CMD_TITLES_H
#define HEADRACE_CMD_TITLES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

struct titles;

/* The file's whole vocabulary is read once. */
int titles_open(struct titles **titles, const char *model_path, size_t dimension, struct error *err);

/* NULL is fine. */
void titles_close(struct titles *titles);

/* As graph_settings.title_vector, of a struct titles; any thread. False: no token, or no memory. */
bool titles_vector(void *context, struct text title, float *out);

/* Of the vectors: tells another model's from these. */
const char *titles_version(const struct titles *titles);

#endif
