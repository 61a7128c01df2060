/*
 * flags.h - the command line of one sub-command, from one table
 *
 * A table of flags makes both the parser (getopt_long, so `--name value`, `--name=value` and `--` mean what they always
 * mean) and the --help text. Every sub-command that reads the configuration takes --config and --set.
 */
#ifndef HEADRACE_CMD_FLAGS_H
#define HEADRACE_CMD_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Returned by flags_parse() beside indices of operands. */
enum { FLAGS_DONE = -1 /* help was printed: exit fine */, FLAGS_WRONG = -2 /* said why: exit with EXIT_USAGE */ };

enum flag_kind {
    FLAG_SWITCH,  /* bool */
    FLAG_TEXT,    /* const char * */
    FLAG_NUMBER,  /* int64_t, at least 0 */
    FLAG_DECIMAL, /* double, finite, at least 0 */
    FLAG_TIME,    /* int64_t, ms since 1970: see clock_parse() */
    FLAG_LIST,    /* struct flag_list: may be given several times */
};

struct flag_list {
    const char **values;
    size_t count;
};

struct flag {
    const char *name;
    const char *argument; /* what stands for the value in the help; NULL for a switch */
    enum flag_kind kind;
    void *target;
    const char *help;
};

struct usage {
    const char *command;  /* "score" */
    const char *operands; /* "TOPIC", "" */
    const char *summary;  /* one line */
    const char *example;  /* one or more whole command lines */
    const struct flag *flags;
    size_t flag_count;
    size_t least_operands, most_operands;
};

/*
 * argv[0] is the sub-command's name. Flags may stand behind operands: argv is put into order. Returns the index of the
 * first operand, or FLAGS_DONE or FLAGS_WRONG; then no list holds anything.
 */
int flags_parse(const struct usage *usage, int argc, char **argv);

/* Says on standard error what is wrong and where help is; returns EXIT_USAGE. */
int flags_wrong(const struct usage *usage, const char *format, ...) __attribute__((format(printf, 2, 3)));

void flag_list_free(struct flag_list *list);

#endif
