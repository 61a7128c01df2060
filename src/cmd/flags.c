#include "cmd/flags.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { MAX_FLAGS = 64, HELP_COLUMN = 26 };

static void print_help(const struct usage *usage)
{
    printf("%s\n\nusage: headrace %s%s%s%s\n", usage->summary, usage->command, usage->flag_count > 0 ? " [flags]" : "",
           *usage->operands ? " " : "", usage->operands);
    printf("\nflags:\n");
    for (size_t i = 0; i < usage->flag_count; i++) {
        const struct flag *flag = &usage->flags[i];
        int width = printf("  --%s%s%s", flag->name, flag->argument ? " " : "", flag->argument ? flag->argument : "");
        printf("%*s%s\n", width < HELP_COLUMN ? HELP_COLUMN - width : 1, "", flag->help);
    }
    printf("  --help%*sthis text\n", HELP_COLUMN - 8, "");
    printf("\nexample:\n  %s\n", usage->example);
}

int flags_wrong(const struct usage *usage, const char *format, ...)
{
    fprintf(stderr, "headrace %s: ", usage->command);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry: headrace %s --help\n", usage->command);
    return EXIT_USAGE;
}

static bool take_number(const char *text, int64_t *number)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0)
        return false;
    *number = value;
    return true;
}

static bool take_decimal(const char *text, double *number)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0)
        return false;
    *number = value;
    return true;
}

static bool take_value(const struct flag *flag, const char *value)
{
    switch (flag->kind) {
    case FLAG_SWITCH:
        *(bool *)flag->target = true;
        return true;
    case FLAG_TEXT:
        *(const char **)flag->target = value;
        return true;
    case FLAG_NUMBER:
        return take_number(value, flag->target);
    case FLAG_DECIMAL:
        return take_decimal(value, flag->target);
    case FLAG_TIME:
        return clock_parse(value, flag->target);
    case FLAG_LIST: {
        struct flag_list *list = flag->target;
        const char **values = realloc(list->values, (list->count + 1) * sizeof *values);
        if (values == NULL)
            return false;
        list->values = values;
        list->values[list->count++] = value;
        return true;
    }
    }
    return false;
}

/* The caller gets no operands, so it frees nothing either. */
static void free_lists(const struct usage *usage)
{
    for (size_t i = 0; i < usage->flag_count; i++)
        if (usage->flags[i].kind == FLAG_LIST)
            flag_list_free(usage->flags[i].target);
}

/* getopt's answer is ':' or '?'; optopt is the flag that it knows, or a letter out of "-xyz", or 0. */
static void refuse_flag(const struct usage *usage, int answer, const char *argument)
{
    if (answer == ':')
        flags_wrong(usage, "%s needs a value", argument);
    else if (optopt == 'h' || optopt >= 256)
        flags_wrong(usage, "%s: this flag takes no value", argument);
    else if (optopt != 0)
        flags_wrong(usage, "unknown flag -%c", optopt);
    else
        flags_wrong(usage, "unknown flag %s", argument);
}

int flags_parse(const struct usage *usage, int argc, char **argv)
{
    struct option options[MAX_FLAGS + 2] = {0};
    for (size_t i = 0; i < usage->flag_count; i++)
        options[i] = (struct option){.name = usage->flags[i].name,
                                     .has_arg = usage->flags[i].argument ? required_argument : no_argument,
                                     .val = (int)i + 256};
    options[usage->flag_count] = (struct option){.name = "help", .val = 'h'};

    opterr = 0;
    optind = 0; /* start over, whatever getopt was doing before */
    int found;
    while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (found == 'h') {
            print_help(usage);
            free_lists(usage);
            return FLAGS_DONE;
        }
        if (found < 256) {
            refuse_flag(usage, found, argv[optind - 1]);
            free_lists(usage);
            return FLAGS_WRONG;
        }
        const struct flag *flag = &usage->flags[found - 256];
        if (!take_value(flag, optarg)) {
            flags_wrong(usage, "--%s: \"%s\" is not %s", flag->name, optarg,
                        flag->kind == FLAG_TIME ? "a time: 2026-01-31T12:00:00Z, less of it, or ms since 1970"
                                                : "a number of 0 or more");
            free_lists(usage);
            return FLAGS_WRONG;
        }
    }
    size_t operands = (size_t)(argc - optind);
    if (operands < usage->least_operands || operands > usage->most_operands) {
        if (operands > usage->most_operands)
            flags_wrong(usage, "unexpected operand \"%s\"", argv[optind + (int)usage->most_operands]);
        else
            flags_wrong(usage, "missing operand: %s", usage->operands);
        free_lists(usage);
        return FLAGS_WRONG;
    }
    return optind;
}

void flag_list_free(struct flag_list *list)
{
    free(list->values);
    *list = (struct flag_list){0};
}
