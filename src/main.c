/* main.c - picks the sub-command, nothing else */
#include <stdio.h>
#include <string.h>

#include "cmd/commands.h"
#include "cmd/flags.h"

static const struct command commands[] = {
    {"run", "the worker: materialises events and items, scores requests", command_run},
    {"score", "scores candidates of a user on a store and a model, without Kafka", command_score},
    {"produce", "files (CSV, TSV, JSON lines, RecBole) into a topic as Avro", command_produce},
    {"consume", "a topic as decoded JSON lines", command_consume},
    {"broker", "the embedded broker, for demos and tests on one machine", command_broker},
    {"demo", "drives logged traffic through a worker and measures its answers", command_demo},
    {"replay", "logged traffic once more: what any setting would have cost and gained", command_replay},
    {"export", "the prompts of logged traffic with labels and token ids, as JSON lines", command_export},
    {"train", "base vectors of users and items, and exit heads, from logged events", command_train},
    {"snapshot", "a consistent copy of the state, also beside a worker, and back", command_snapshot},
    {"inspect", "what the store, the model and the prompt hold", command_inspect},
    {"check", "explains the effective configuration and tries what it points to", command_check},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fprintf(out, "headrace: fresh user-item graph, early-exit language model, click-through probabilities, on Kafka\n\n"
                 "usage: headrace COMMAND [flags]\n\ncommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nheadrace COMMAND --help explains a command, with an example.\n"
                 "exit codes: 0 fine, 1 failed, 2 wrong usage\n");
}

int main(int argc, char **argv)
{
    if (argc >= 2) {
        if (strcmp(argv[1], "--version") == 0) {
            printf("headrace %s\n", HEADRACE_VERSION);
            return EXIT_FINE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
            print_help(stdout);
            return EXIT_FINE;
        }
        for (size_t i = 0; i < COMMANDS; i++)
            if (strcmp(argv[1], commands[i].name) == 0)
                return commands[i].run(argc - 1, argv + 1);
        fprintf(stderr, "headrace: no command \"%s\"\n\n", argv[1]);
    }
    print_help(stderr);
    return EXIT_USAGE;
}
