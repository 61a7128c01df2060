/*
 * options.h - inside config/: the table of options
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_CONFIG_OPTIONS_H
#define HEADRACE_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTION_NAME_SIZE = 128, OPTION_PHRASE_SIZE = 160 }; /* bytes, NUL included */

/* The order tells: what is below FLAG is text and written in quotes, what is above has a phrase in the documents. */
enum option_kind {
    OPTION_TEXT,     /* anything printable */
    OPTION_REQUIRED, /* text that is not empty */
    OPTION_TOPIC,    /* what Kafka allows in a topic's name */
    OPTION_FLAG,
    OPTION_INTEGER,
    OPTION_NUMBER,
    OPTION_CHOICE,
    OPTION_INTEGERS, /* a list, rising unless it says any_order */
    OPTION_CHOICES,  /* a list of choices, none twice */
};

struct config_option {
    const char *name;
    enum option_kind kind;
    const char *preset;            /* the default, as on the command line */
    const char *line;              /* what it is for; no full stop */
    int64_t least, most;           /* INTEGER, each of INTEGERS */
    bool any_order;                /* INTEGERS: they need not rise */
    double lowest, highest;        /* NUMBER */
    const char *const choices[10]; /* CHOICE, CHOICES; NULL behind the last */
};

struct config_section {
    const char *name;
    const char *line;
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* Options without a dot come first and have none; the others are in the order of the sections. */
extern const struct config_section config_sections[];
extern const size_t config_section_count;

/* NULL when the table does not have it. */
const struct config_option *option_find(const char *name);

/* Whether it is a section's name. */
bool option_is_section(const char *name);

/* Whether `name` begins with "kafka.", so that it passes through when the table does not have it. */
bool option_is_kafka(const char *name);

/* "HEADRACE_GRAPH_LAYERS" */
void option_environment_name(const char *name, char out[OPTION_NAME_SIZE]);

/* What a value must be: "a whole number from 1 to 4". */
void option_phrase(const struct config_option *option, char out[OPTION_PHRASE_SIZE]);

/*
 * The known option or section that was probably meant: one whose last word is `name`, or the one with the fewest
 * changes; NULL when none is near.
 */
const char *option_nearest(const char *name);

#endif
