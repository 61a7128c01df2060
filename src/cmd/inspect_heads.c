/* inspect_heads.c - a file of exit heads: its sets, where they come from, what they were measured at */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "model/heads.h"

enum { MOST_SETS = 16, KEY_WIDTH = 36 };

static const char number_prefix[] = "headrace.heads.number.";

struct shown {
    struct gguf *file;
    struct heads_origin origin;
    size_t count;
    char names[MOST_SETS][HEADS_SET_SIZE];
    struct heads sets[MOST_SETS];
};

static void close_file(struct shown *shown)
{
    for (size_t i = 0; i < shown->count; i++)
        heads_free(&shown->sets[i]);
    gguf_close(shown->file);
}

static int open_file(struct shown *shown, const char *path, struct error *err)
{
    char names[MOST_SETS][HEADS_SET_SIZE];
    if (gguf_open(&shown->file, path, err) != 0)
        return -1;
    size_t count = heads_sets(shown->file, names, MOST_SETS);
    if (count == 0) { /* says what is wrong with the file */
        struct heads none;
        return heads_load(&none, NULL, shown->file, "text", NULL, err);
    }
    for (; shown->count < count; shown->count++) {
        strcpy(shown->names[shown->count], names[shown->count]);
        if (heads_load(&shown->sets[shown->count], &shown->origin, shown->file, names[shown->count], NULL, err) != 0)
            return -1;
    }
    return 0;
}

/* The next measure from `at` on; false: there is none. */
static bool next_number(const struct gguf *file, size_t *at, struct text *name, double *value)
{
    struct error ignored;
    size_t prefix = strlen(number_prefix);
    for (; *at < gguf_key_count(file); ++*at) {
        struct text key;
        char shown[96];
        gguf_key(file, *at, &key, shown);
        if (key.size <= prefix || memcmp(key.data, number_prefix, prefix) != 0)
            continue;
        char copy[256];
        snprintf(copy, sizeof copy, TEXT_FORMAT, TEXT_ARGS(text_prefix(key, sizeof copy - 1)));
        *name = (struct text){key.data + prefix, key.size - prefix};
        if (gguf_float(file, copy, value, &ignored) == 0) {
            ++*at;
            return true;
        }
    }
    return false;
}

static size_t feature_count(const struct gguf *file)
{
    struct error ignored;
    size_t count = 0;
    return gguf_text_array(file, "headrace.heads.features", &count, &ignored) == 0 ? count : 0;
}

static void print_text(const char *name, const char *value)
{
    printf("%-20s", name);
    terminal_print(text_of(*value != '\0' ? value : "-"), 0);
    putchar('\n');
}

static void print_origin(const struct shown *shown)
{
    const struct heads_origin *origin = &shown->origin;
    char from[32], to[32];
    clock_format(origin->from_ms, from);
    clock_format(origin->to_ms, to);
    print_text("file", gguf_path(shown->file));
    print_text("model", origin->model_hash);
    print_text("template", origin->template_hash);
    print_text("mode", origin->mode);
    print_text("made by", origin->made_by);
    printf("%-20s%d (yes), %d (no)\n", "label tokens", (int)origin->yes, (int)origin->no);
    printf("%-20s%" PRId64 "\n", "seed", origin->seed);
    printf("%-20s%s to %s\n", "trained on events", from, to);
    printf("%-20s%zu\n", "width", shown->sets[0].width);
    printf("%-20s", "features");
    size_t count = feature_count(shown->file);
    for (size_t i = 0; i < count; i++) {
        printf("%s", i > 0 ? ", " : "");
        terminal_print(gguf_text_at(shown->file, "headrace.heads.features", i), 0);
    }
    printf("%s\n", count == 0 ? "none" : "");
}

static void print_leave(float leave)
{
    if (leave > 0.5f && leave <= 1.0f)
        printf(" %10.4f", (double)leave);
    else
        printf(" %10s", leave <= 0.5f ? "all leave" : "never");
}

static void print_set(const char *name, const struct heads *heads)
{
    printf("\nset %s", name);
    if (heads->reference == 0)
        printf(", best at exit 0");
    else if (heads->reference != SIZE_MAX)
        printf(", best at layer %zu", heads->reference);
    printf("\n%6s %12s %10s %10s\n", "exit", "rows for", "evidence", "leave at");
    if (heads->exit0 != NULL) {
        printf("%6d %12s %10s", 0, "-", "alone");
        print_leave(heads->exit0_leave);
        putchar('\n');
    }
    for (size_t i = 0; i < heads->count; i++) {
        const struct head *head = &heads->exits[i];
        printf("%6zu %5zu to %3zu %10s", head->layer, head->first, head->layer, head->evidence != NULL ? "yes" : "no");
        print_leave(i + 1 < heads->count ? head->leave : 0.0f);
        putchar('\n');
    }
}

static void print_numbers(const struct gguf *file)
{
    struct text name;
    double value;
    size_t at = 0;
    bool first = true;
    while (next_number(file, &at, &name, &value)) {
        if (first)
            printf("\n%-*s value\n", KEY_WIDTH, "measure");
        first = false;
        terminal_print(name, KEY_WIDTH);
        printf(" %.6g\n", value);
    }
}

/* A threshold that nobody reaches is null: JSON has no infinity. */
static json_t *leave_json(float leave)
{
    return leave <= 1.0f ? json_real((double)leave) : json_null();
}

static json_t *set_json(const struct heads *heads)
{
    json_t *exits = json_array();
    for (size_t i = 0; i < heads->count; i++) {
        const struct head *head = &heads->exits[i];
        json_array_append_new(exits, json_pack("{s:I, s:I, s:b, s:o}", "layer", (json_int_t)head->layer, "first",
                                               (json_int_t)head->first, "evidence", head->evidence != NULL, "leave",
                                               leave_json(head->leave)));
    }
    return json_pack("{s:o, s:b, s:o, s:o}", "exits", exits, "exit0", heads->exit0 != NULL, "exit0_leave",
                     leave_json(heads->exit0_leave), "reference",
                     heads->reference == SIZE_MAX ? json_null() : json_integer((json_int_t)heads->reference));
}

static int print_heads_json(const struct shown *shown, struct error *err)
{
    const struct heads_origin *origin = &shown->origin;
    json_t *sets = json_object(), *features = json_array(), *numbers = json_object();
    for (size_t i = 0; i < shown->count; i++)
        json_object_set_new(sets, shown->names[i], set_json(&shown->sets[i]));
    for (size_t i = 0; i < feature_count(shown->file); i++)
        json_array_append_new(features, inspect_json_text(gguf_text_at(shown->file, "headrace.heads.features", i)));
    struct text name;
    double value;
    for (size_t at = 0; next_number(shown->file, &at, &name, &value);) {
        char key[256];
        snprintf(key, sizeof key, TEXT_FORMAT, TEXT_ARGS(text_prefix(name, sizeof key - 1)));
        json_object_set_new(numbers, key, json_real(value));
    }
    return inspect_print_json(json_pack("{s:o, s:I, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:o, s:o, s:o}",
                                        "file", inspect_json_text(text_of(gguf_path(shown->file))), "width",
                                        (json_int_t)shown->sets[0].width, "model", origin->model_hash, "template",
                                        origin->template_hash, "mode", origin->mode, "made_by", origin->made_by, "yes",
                                        (int)origin->yes, "no", (int)origin->no, "seed", (json_int_t)origin->seed,
                                        "from_ms", (json_int_t)origin->from_ms, "to_ms", (json_int_t)origin->to_ms,
                                        "features", features, "sets", sets, "numbers", numbers),
                              err);
}

int inspect_heads(const struct inspection *inspection, struct error *err)
{
    const char *path =
        inspection->operand != NULL ? inspection->operand : config_text(inspection->config, "heads.path");
    struct shown shown = {0};
    if (*path == '\0')
        return error_set(err, ERROR_BAD_INPUT, "heads.path names no file: headrace inspect heads FILE");
    int result = open_file(&shown, path, err);
    if (result == 0 && inspection->json)
        result = print_heads_json(&shown, err);
    else if (result == 0) {
        print_origin(&shown);
        for (size_t i = 0; i < shown.count; i++)
            print_set(shown.names[i], &shown.sets[i]);
        print_numbers(shown.file);
    }
    close_file(&shown);
    return result;
}
