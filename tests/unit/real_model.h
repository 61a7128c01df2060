/*
 * real_model.h - the default model's file, for tests that compare with other implementations
 *
 * TEST_MODEL names it (./dev test sets it). Without it such a test is skipped with a line that says so; with it, a
 * file that cannot be read is a failure.
 */
#ifndef HEADRACE_TESTS_REAL_MODEL_H
#define HEADRACE_TESTS_REAL_MODEL_H

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

static inline const char *real_model_path(void)
{
    const char *path = getenv("TEST_MODEL");
    if (path == NULL || *path == '\0') {
        fprintf(stderr, "SKIP: TEST_MODEL names no model file (./dev test fetches it)\n");
        return NULL;
    }
    return path;
}

static inline json_t *golden_json(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", HEADRACE_GOLDEN, name);
    json_error_t problem;
    json_t *golden = json_load_file(path, 0, &problem);
    if (golden == NULL)
        fprintf(stderr, "%s: %s\n", path, problem.text);
    return golden;
}

#endif
