/* inspect.c - what the store, the model and the prompt hold: picks what is to be shown */
#include "cmd/inspect.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/commands.h"

enum { DEFAULT_LIMIT = 15, MOST_LIMIT = 1000000 };

/* Flags that not every sub-word takes. */
enum { AT = 1, LIMIT = 2, USER = 4, ITEM = 8, TOKENS = 16, CLASS = 32 };

static const struct what {
    const char *name;
    const char *operand; /* what a second operand is; NULL: there is none */
    bool needs_operand;
    int takes, needs; /* flags */
    int (*show)(const struct inspection *inspection, struct error *err);
} whats[] = {
    {"graph", NULL, false, 0, 0, inspect_graph},
    {"user", "ID", true, AT | LIMIT, 0, inspect_user},
    {"item", "ID", true, AT | LIMIT, 0, inspect_item},
    {"similar", "ID", true, AT | LIMIT | ITEM, 0, inspect_similar},
    {"prompt", NULL, false, AT | USER | ITEM | TOKENS, USER | ITEM, inspect_prompt},
    {"model", "FILE", false, 0, 0, inspect_model},
    {"heads", "FILE", false, 0, 0, inspect_heads},
    {"edges", NULL, false, 0, 0, inspect_edges},
    {"dead", "TOPIC", false, LIMIT | CLASS, 0, inspect_dead},
};

const char *inspect_verdict(int verdict)
{
    return verdict > 0 ? "like" : verdict < 0 ? "dislike" : "neutral";
}

json_t *inspect_json_text(struct text text)
{
    json_t *json = text.data == NULL ? NULL : json_stringn(text.data, text.size);
    return json != NULL ? json : json_null();
}

int inspect_print_json(json_t *document, struct error *err)
{
    if (document == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while writing JSON");
    int result = json_dumpf(document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(document);
    return result == 0 ? 0 : error_set(err, ERROR_FATAL, "writing JSON to standard output failed");
}

static const struct what *find_what(const char *name)
{
    for (size_t i = 0; i < sizeof whats / sizeof *whats; i++)
        if (strcmp(whats[i].name, name) == 0)
            return &whats[i];
    return NULL;
}

static int given_flags(const struct inspection *inspection, int64_t limit)
{
    return (inspection->at_ms != INSPECT_NOW ? AT : 0) | (limit >= 0 ? LIMIT : 0) |
           (inspection->user != NULL ? USER : 0) | (inspection->item != NULL ? ITEM : 0) |
           (inspection->tokens ? TOKENS : 0) | (inspection->class != NULL ? CLASS : 0);
}

/* Flags and operands that the sub-word does not take would be passed over in silence: they are refused. */
static int check_usage(const struct usage *usage, const struct what *what, const char *name,
                       const struct inspection *inspection, int64_t limit)
{
    static const char *const names[] = {"--as-of", "--limit", "--user", "--item", "--tokens", "--class"};
    if (what == NULL)
        return flags_wrong(usage, "\"%s\" is none of graph, user, item, similar, prompt, model, heads, edges, dead",
                           name);
    if (what->needs_operand && inspection->operand == NULL)
        return flags_wrong(usage, "missing operand: headrace inspect %s %s", name, what->operand);
    if (what->operand == NULL && inspection->operand != NULL)
        return flags_wrong(usage, "%s takes no operand: \"%s\"", name, inspection->operand);
    int given = given_flags(inspection, limit);
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
        if (given & ~what->takes & 1 << i)
            return flags_wrong(usage, "%s takes no %s", name, names[i]);
        if (what->needs & ~given & 1 << i)
            return flags_wrong(usage, "%s needs %s", name, names[i]);
    }
    if (limit > MOST_LIMIT)
        return flags_wrong(usage, "--limit: at most %d", MOST_LIMIT);
    return EXIT_FINE;
}

int command_inspect(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct inspection inspection = {.at_ms = INSPECT_NOW};
    int64_t limit = -1;
    const struct flag flags[] = {
        {"as-of", "TIME", FLAG_TIME, &inspection.at_ms,
         "user, item, similar, prompt: as it stood just before: 2026-01-31T12:00:00Z, less of it, or ms since 1970"},
        {"limit", "N", FLAG_NUMBER, &limit,
         "user, item, similar, dead: newest events, edges, users, letters shown (default 15)"},
        {"user", "ID", FLAG_TEXT, &inspection.user, "prompt: for this user"},
        {"item", "ID", FLAG_TEXT, &inspection.item, "prompt: about this candidate; similar: of those who know it"},
        {"class", "CLASS", FLAG_TEXT, &inspection.class,
         "dead: only framing, unknown_schema, decode, semantic, too_large or other"},
        {"tokens", NULL, FLAG_SWITCH, &inspection.tokens, "prompt: every token, id and piece"},
        {"json", NULL, FLAG_SWITCH, &inspection.json, "JSON instead of tables"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "inspect",
        .operands =
            "graph | user ID | item ID | similar ID | prompt | model [FILE] | heads [FILE] | edges | dead [TOPIC]",
        .summary =
            "What the store, the model and the prompt hold. The store is opened read-only, also beside a\n"
            "running worker. Embeddings, and so similar users, are those of now, whatever --as-of says. Dead letters\n"
            "are read from Kafka; headrace produce --from-dead puts them back.",
        .example = "headrace inspect graph --config headrace.yaml\n"
                   "  headrace inspect user 196 --config headrace.yaml --limit 5\n"
                   "  headrace inspect user 196 --config headrace.yaml --as-of 1998-01-29T12:00\n"
                   "  headrace inspect similar 196 --item 242 --config headrace.yaml\n"
                   "  headrace inspect prompt --user 196 --item 242 --config headrace.yaml --tokens\n"
                   "  headrace inspect model SmolLM2-135M-Instruct.Q4_1.gguf --json\n"
                   "  headrace inspect heads config/heads/ml-100k.heads.gguf\n"
                   "  headrace inspect edges --config headrace.yaml > edges.jsonl\n"
                   "  headrace inspect dead --config headrace.yaml --class unknown_schema",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags,
        .least_operands = 1,
        .most_operands = 2};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    const struct what *what = find_what(argv[operand]);
    inspection.operand = operand + 1 < argc ? argv[operand + 1] : NULL;
    inspection.limit = limit < 0 ? DEFAULT_LIMIT : (size_t)limit;
    int code = check_usage(&usage, what, argv[operand], &inspection, limit);
    if (code != EXIT_FINE) {
        flag_list_free(&config_flags.sets);
        return code;
    }

    code = setup_config("inspect", &config_flags, &inspection.config);
    if (code != EXIT_FINE)
        return code;
    if (what->show == inspect_prompt && inspection.at_ms == INSPECT_NOW)
        inspection.at_ms = clock_wall_ms(); /* a request is of some time */
    struct error err;
    int result = what->show(&inspection, &err);
    config_destroy(inspection.config);
    fflush(stdout);
    return result == 0 ? EXIT_FINE : setup_failed("inspect", &err);
}
