/* heads_file.h - inside model/: what keys and tensors of a file of heads are called, for its reader and its writer */
#ifndef HEADRACE_MODEL_HEADS_FILE_H
#define HEADRACE_MODEL_HEADS_FILE_H

#include <stddef.h>
#include <stdio.h>

#define HEADS_TYPE "exit-heads"
#define HEADS_KEY "headrace.heads."

enum { HEADS_FORMAT = 1, HEADS_NAME_SIZE = 128 };

static inline const char *heads_set_key(char key[HEADS_NAME_SIZE], const char *set, const char *name)
{
    snprintf(key, HEADS_NAME_SIZE, HEADS_KEY "%s.%s", set, name);
    return key;
}

static inline const char *heads_tensor_name(char name[HEADS_NAME_SIZE], const char *set, size_t layer, const char *part)
{
    snprintf(name, HEADS_NAME_SIZE, "%s.%zu.%s", set, layer, part);
    return name;
}

#endif
