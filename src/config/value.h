/*
 * value.h - inside config/: a value of an option, checked
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_CONFIG_VALUE_H
#define HEADRACE_CONFIG_VALUE_H

#include "base/error.h"
#include "base/text.h"
#include "config/options.h"

enum { VALUE_LIST_LIMIT = 16 };

struct config_value {
    const char *text; /* as written; not owned */
    union {
        int64_t integer;
        double number;
        bool flag;
        size_t choice;
    };
    int64_t list[VALUE_LIST_LIMIT]; /* INTEGERS: the numbers; CHOICES: indices */
    size_t list_count;
};

/* `text` is UTF-8. ERROR_BAD_INPUT names the option, what it wants and what it got. */
int value_parse(const struct config_option *option, const char *text, struct config_value *value, struct error *err);

/* Index of the choice, or -1. */
int value_find_choice(const struct config_option *option, struct text word);

#endif
