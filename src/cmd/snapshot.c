/* snapshot.c - a consistent copy of the state, and back */
#include "graph/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/progress.h"
#include "cmd/setup.h"

struct told {
    struct progress progress;
    const char *doing;
    const char *family; /* that the progress is of */
};

static void tell(void *context, const char *family, uint64_t records, uint64_t expected, bool done)
{
    struct told *told = context;
    if (told->family == NULL || strcmp(told->family, family) != 0) {
        progress_begin(&told->progress, told->doing, family);
        told->family = family;
    }
    double share = expected == 0 ? 0 : (double)records / (double)expected;
    if (!done)
        progress_show(&told->progress, records, share < 1 ? share : 1);
    else if (records > 0)
        progress_end(&told->progress, records);
}

static void print_summary(const char *what, const char *directory, const struct snapshot_summary *summary)
{
    char created[32], newest[32] = "none";
    clock_format(summary->created_ms, created);
    if (summary->events > 0)
        clock_format(summary->newest_event_ms, newest);
    printf("%-16s %s\n%-16s %s\n", what, directory, "of", created);
    printf("%-16s %llu, the newest of %s\n", "events", (unsigned long long)summary->events, newest);
    printf("%-16s %llu users, %llu items, %llu edges\n", "graph", (unsigned long long)summary->users,
           (unsigned long long)summary->items, (unsigned long long)summary->edges);
    printf("%-16s %.1f MiB\n\n", "size", (double)summary->file_bytes / (1 << 20));
    printf("%-16s %12s %14s  %s\n", "family", "records", "bytes", "checksum");
    for (int i = FAMILY_META; i < FAMILY_COUNT; i++) {
        const struct snapshot_family *family = &summary->families[i];
        printf("%-16s %12llu %14llu  %016llx\n", store_family_name((enum family)i), (unsigned long long)family->records,
               (unsigned long long)family->bytes, (unsigned long long)family->checksum);
    }
}

static const struct action {
    const char *name;
    const char *doing, *done;
    int (*act)(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err);
} actions[] = {
    {"create", "copying", "snapshot made", snapshot_create},
    {"verify", "verifying", "snapshot is fine", snapshot_verify},
    {"restore", "restoring", "restored from", snapshot_restore},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    return NULL;
}

static int act(const struct action *action, const struct config *config, const char *directory)
{
    struct told told = {.doing = action->doing};
    struct snapshot_summary summary;
    struct error err;
    const struct snapshot_settings settings = {
        .state = config_text(config, "state.dir"),
        .directory = directory,
        .memory = (size_t)config_integer(config, "state.memory") << 20,
        .progress = tell,
        .context = &told,
    };
    if (action->act(&settings, &summary, &err) != 0)
        return setup_failed("snapshot", &err);
    print_summary(action->done, directory, &summary);
    return EXIT_FINE;
}

int command_snapshot(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    const struct flag flags[] = {CONFIG_FLAGS(config_flags)};
    const struct usage usage = {
        .command = "snapshot",
        .operands = "create | verify | restore DIR",
        .summary = "A consistent copy of the state directory, also beside a running worker; whether a copy is whole;\n"
                   "and a copy back into an empty state directory, from which a worker goes on at the copy's offsets.",
        .example = "headrace snapshot create /backup/monday --config headrace.yaml\n"
                   "  headrace snapshot verify /backup/monday\n"
                   "  headrace snapshot restore /backup/monday --set state.dir=/var/lib/headrace-new",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .least_operands = 2,
        .most_operands = 2};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    const struct action *action = find_action(argv[operand]);
    if (action == NULL) {
        flag_list_free(&config_flags.sets);
        return flags_wrong(&usage, "\"%s\" is none of create, verify, restore", argv[operand]);
    }
    struct config *config;
    int code = setup_config("snapshot", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;
    code = act(action, config, argv[operand + 1]);
    config_destroy(config);
    return code;
}
