#include "replay/event_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/table.h"
#include "replay/rows.h"
#include "wire/codec.h"

enum { MAX_COLUMNS = 256, MAX_PIECES = 32, SHOWN = 40 /* bytes of a cell in a message */ };

/* What a cell of the message is made of: literal text and columns, one after the other. */
struct piece {
    struct text literal;
    size_t column;
    bool is_column;
    bool is_list; /* spaces become | */
};

struct mapped {
    const struct field *field;
    struct text entry; /* the key in a map field; absent for the field itself */
    struct piece pieces[MAX_PIECES];
    size_t piece_count;
};

struct event_file {
    struct rows *rows;
    const char *path;
    const struct message_type *type;
    enum event_format format;
    double timestamp_ms;
    bool may_be_untimed, untimed;
    const char *kind; /* name of the kind that rows without one have; NULL: there is a column */
    struct table columns;
    struct mapped *fields; /* entries of one map side by side */
    size_t field_count;
    struct buffer cell;
    struct buffer json;
};

static enum event_format format_of(const char *path)
{
    static const struct {
        const char *suffix;
        enum event_format format;
    } known[] = {{".csv", EVENT_FORMAT_CSV},     {".tsv", EVENT_FORMAT_TSV},       {".jsonl", EVENT_FORMAT_JSON},
                 {".json", EVENT_FORMAT_JSON},   {".inter", EVENT_FORMAT_RECBOLE}, {".item", EVENT_FORMAT_RECBOLE},
                 {".user", EVENT_FORMAT_RECBOLE}};
    const char *suffix = strrchr(path, '.');
    for (size_t i = 0; suffix != NULL && i < sizeof known / sizeof *known; i++)
        if (strcmp(suffix, known[i].suffix) == 0)
            return known[i].format;
    return EVENT_FORMAT_BY_NAME;
}

static const struct field *find_field(const struct message_type *type, struct text name)
{
    for (size_t i = 0; i < type->field_count; i++)
        if (text_equal(text_of(type->fields[i].name), name))
            return &type->fields[i];
    return NULL;
}

static int find_column(const struct event_file *file, struct text name, struct piece *piece, struct error *err)
{
    static const char list_suffix[] = ":list";
    size_t suffix = sizeof list_suffix - 1;
    *piece = (struct piece){.is_column = true};
    if (name.size > suffix && memcmp(name.data + name.size - suffix, list_suffix, suffix) == 0) {
        piece->is_list = true;
        name.size -= suffix;
    }
    uint32_t column = table_find(&file->columns, name);
    if (column == TABLE_NONE)
        return error_set(err, ERROR_BAD_INPUT, "%s has no column \"" TEXT_FORMAT "\"", file->path, TEXT_ARGS(name));
    piece->column = column;
    return 0;
}

/* "a {column} b" */
static int parse_pieces(const struct event_file *file, struct text rule, struct mapped *mapped, struct error *err)
{
    if (memchr(rule.data, '{', rule.size) == NULL) {
        mapped->piece_count = 1;
        return find_column(file, rule, &mapped->pieces[0], err);
    }
    while (rule.size > 0) {
        if (mapped->piece_count == MAX_PIECES)
            return error_set(err, ERROR_BAD_INPUT, "a map has more than %d pieces", MAX_PIECES);
        struct piece *piece = &mapped->pieces[mapped->piece_count++];
        const char *open = memchr(rule.data, '{', rule.size);
        size_t length = open == NULL ? rule.size : (size_t)(open - rule.data);
        if (length > 0) {
            *piece = (struct piece){.literal = {rule.data, length}};
        } else {
            const char *close = memchr(rule.data, '}', rule.size);
            if (close == NULL)
                return error_set(err, ERROR_BAD_INPUT, "a map opens { and never closes it");
            length = (size_t)(close - rule.data) + 1;
            if (find_column(file, (struct text){rule.data + 1, length - 2}, piece, err) != 0)
                return -1;
        }
        rule = (struct text){rule.data + length, rule.size - length};
    }
    return 0;
}

static bool is_mapped(const struct event_file *file, const struct field *field, struct text entry)
{
    for (size_t i = 0; i < file->field_count; i++)
        if (file->fields[i].field == field && text_equal(file->fields[i].entry, entry))
            return true;
    return false;
}

/* Behind the entries of the same map, so that they stay together, in the order in which they were given. */
static struct mapped *add_field(struct event_file *file, const struct field *field, struct text entry)
{
    size_t at = file->field_count;
    for (size_t i = 0; i < file->field_count; i++)
        if (file->fields[i].field == field)
            at = i + 1;
    struct mapped *mapped = &file->fields[at];
    memmove(mapped + 1, mapped, (file->field_count++ - at) * sizeof *mapped);
    *mapped = (struct mapped){.field = field, .entry = entry};
    return mapped;
}

/* Lists and records have no form in a cell: JSON lines tell them. */
static bool fits_cell(const struct field *field)
{
    return field->kind != FIELD_ARRAY && field->kind != FIELD_RECORD && field->kind != FIELD_POINTER;
}

/* "title={movie_title} ({release_year})", "attributes.genres=class:list" */
static int add_map(struct event_file *file, const char *map, struct error *err)
{
    const char *equals = strchr(map, '=');
    if (equals == NULL)
        return error_set(err, ERROR_BAD_INPUT, "map \"%s\" is not FIELD=COLUMN", map);
    struct text name = {map, (size_t)(equals - map)}, entry = {0};
    const char *dot = memchr(map, '.', name.size);
    if (dot != NULL) {
        entry = (struct text){dot + 1, (size_t)(equals - dot) - 1};
        name.size = (size_t)(dot - map);
    }
    const struct field *field = find_field(file->type, name);
    if (field == NULL || !fits_cell(field) || (field->kind == FIELD_MAP) != (dot != NULL) ||
        (dot != NULL && entry.size == 0))
        return error_set(err, ERROR_BAD_INPUT, "map \"%s\": %s has no such field%s", map, file->type->name,
                         field != NULL && field->kind == FIELD_MAP ? ": name an entry of it, FIELD.NAME=COLUMN" : "");
    if (is_mapped(file, field, entry))
        return error_set(err, ERROR_BAD_INPUT, "map \"%s\": " TEXT_FORMAT " is mapped twice", map, (int)(equals - map),
                         map);
    struct mapped *mapped = add_field(file, field, entry);
    if (parse_pieces(file, text_of(equals + 1), mapped, err) != 0)
        return error_wrap(err, "map \"%s\"", map);
    return 0;
}

/* Fields that no map names: a column of the same name, `rating` for an interaction's value, or the default. */
static int add_unmapped(struct event_file *file, struct error *err)
{
    for (size_t i = 0; i < file->type->field_count; i++) {
        const struct field *field = &file->type->fields[i];
        if (field->kind == FIELD_MAP || is_mapped(file, field, (struct text){0}))
            continue;
        if (!fits_cell(field)) {
            if (field->fallback == NULL)
                return error_set(err, ERROR_BAD_INPUT, "%s: %s has a list, \"%s\": only JSON lines can tell it",
                                 file->path, file->type->name, field->name);
            continue;
        }
        uint32_t column = table_find(&file->columns, text_of(field->name));
        if (column == TABLE_NONE && file->type == &interaction_type && strcmp(field->name, "value") == 0)
            column = table_find(&file->columns, text_of("rating"));
        if (column == TABLE_NONE) {
            bool is_kind = file->type == &interaction_type && strcmp(field->name, "kind") == 0;
            bool is_time = file->may_be_untimed && strcmp(field->name, "timestamp") == 0;
            file->untimed = file->untimed || is_time;
            if (field->fallback == NULL && !is_kind && !is_time)
                return error_set(err, ERROR_BAD_INPUT, "%s has no column \"%s\": map one to it", file->path,
                                 field->name);
            continue;
        }
        struct mapped *mapped = add_field(file, field, (struct text){0});
        mapped->piece_count = 1;
        mapped->pieces[0] = (struct piece){.is_column = true, .column = column};
    }
    return 0;
}

static int read_header(struct event_file *file, const struct event_file_settings *settings, struct error *err)
{
    const struct text *cells;
    size_t count;
    int found = rows_next(file->rows, &cells, &count, err);
    if (found <= 0)
        return found < 0 ? -1 : error_set(err, ERROR_BAD_INPUT, "%s is empty: a header line is due", file->path);
    if (count > MAX_COLUMNS)
        return error_set(err, ERROR_BAD_INPUT, "%s has more than %d columns", file->path, MAX_COLUMNS);
    for (size_t i = 0; i < count; i++) {
        struct text name = cells[i];
        const char *colon = memchr(name.data, ':', name.size);
        if (file->format == EVENT_FORMAT_RECBOLE && colon != NULL)
            name.size = (size_t)(colon - name.data);
        if (table_add(&file->columns, name) != i)
            return error_set(err, ERROR_BAD_INPUT, "%s has two columns \"" TEXT_FORMAT "\"", file->path,
                             TEXT_ARGS(name));
    }
    file->fields = calloc(settings->map_count + file->type->field_count, sizeof *file->fields);
    if (file->fields == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening %s", file->path);
    for (size_t i = 0; i < settings->map_count; i++)
        if (add_map(file, settings->maps[i], err) != 0)
            return -1;
    if (add_unmapped(file, err) != 0)
        return -1;
    const struct field *kind = find_field(file->type, text_of("kind"));
    if (kind != NULL && !is_mapped(file, kind, (struct text){0}))
        file->kind = interaction_kind_name(settings->kind);
    return 0;
}

int event_file_open(struct event_file **result, const struct event_file_settings *settings, struct error *err)
{
    struct event_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening %s", settings->path);
    file->path = settings->path;
    file->type = settings->type;
    file->format = settings->format != EVENT_FORMAT_BY_NAME ? settings->format : format_of(settings->path);
    file->may_be_untimed = settings->untimed;
    file->timestamp_ms = settings->timestamp_ms > 0             ? settings->timestamp_ms
                         : file->format == EVENT_FORMAT_RECBOLE ? 1000
                                                                : 1;
    if (file->format == EVENT_FORMAT_BY_NAME) {
        error_set(err, ERROR_BAD_INPUT, "%s: its name does not tell the format: csv, tsv, json or recbole?",
                  file->path);
        goto fail;
    }
    enum row_format rows = file->format == EVENT_FORMAT_CSV    ? ROW_CSV
                           : file->format == EVENT_FORMAT_JSON ? ROW_LINE
                                                               : ROW_TSV;
    if (file->format == EVENT_FORMAT_JSON && settings->map_count > 0) {
        error_set(err, ERROR_BAD_INPUT, "%s: JSON lines name their fields, no map is taken", file->path);
        goto fail;
    }
    if (rows_open(&file->rows, settings->path, rows, err) != 0)
        goto fail;
    if (file->format != EVENT_FORMAT_JSON && read_header(file, settings, err) != 0)
        goto fail;
    *result = file;
    return 0;

fail:
    event_file_close(file);
    return -1;
}

void event_file_close(struct event_file *file)
{
    if (file == NULL)
        return;
    rows_close(file->rows);
    table_free(&file->columns);
    free(file->fields);
    buffer_free(&file->cell);
    buffer_free(&file->json);
    free(file);
}

bool event_file_untimed(const struct event_file *file)
{
    return file->untimed;
}

double event_file_share(const struct event_file *file)
{
    return rows_share(file->rows);
}

/* The text that a row gives a field, into file->cell; false when all its columns are empty. */
static bool fill_cell(struct event_file *file, const struct mapped *mapped, const struct text *cells)
{
    bool filled = false;
    buffer_clear(&file->cell);
    for (size_t i = 0; i < mapped->piece_count; i++) {
        const struct piece *piece = &mapped->pieces[i];
        if (!piece->is_column) {
            buffer_append_text(&file->cell, piece->literal);
            continue;
        }
        struct text cell = cells[piece->column];
        filled = filled || cell.size > 0;
        for (size_t j = 0; j < cell.size; j++)
            buffer_append_byte(&file->cell, (uint8_t)(piece->is_list && cell.data[j] == ' ' ? '|' : cell.data[j]));
    }
    return filled;
}

/* The whole cell as a finite decimal number. */
static bool read_number(struct event_file *file, double *number)
{
    const char *cell = buffer_string(&file->cell);
    char *end;
    *number = strtod(cell, &end);
    return end != cell && end == cell + file->cell.size && isfinite(*number) && strpbrk(cell, "xXpP") == NULL;
}

static int append_number(struct event_file *file, const struct field *field, struct error *err)
{
    struct text cell = text_prefix(buffer_text(&file->cell), SHOWN);
    double number;
    if (!read_number(file, &number))
        return error_set(err, ERROR_BAD_INPUT, "%s: \"" TEXT_FORMAT "\" is no number", field->name, TEXT_ARGS(cell));
    if (field->kind == FIELD_DOUBLE) {
        buffer_printf(&file->json, "%.17g", number);
        return 0;
    }
    if (strcmp(field->name, "timestamp") == 0)
        number *= file->timestamp_ms;
    if (fabs(number) > 9e15)
        return error_set(err, ERROR_BAD_INPUT, "%s: " TEXT_FORMAT " is out of range", field->name, TEXT_ARGS(cell));
    buffer_printf(&file->json, "%.0f", number);
    return 0;
}

/* true, True, 1 or 1.0, as the tools that write such files do. */
static int append_bool(struct event_file *file, const struct field *field, struct error *err)
{
    const char *cell = buffer_string(&file->cell);
    double number;
    bool value = strcasecmp(cell, "true") == 0;
    if (!value && strcasecmp(cell, "false") != 0) {
        if (!read_number(file, &number) || (number < 0 || number > 0) != (number >= 1 && number <= 1))
            return error_set(err, ERROR_BAD_INPUT, "%s: \"" TEXT_FORMAT "\" is neither true nor false", field->name,
                             TEXT_ARGS(text_prefix(buffer_text(&file->cell), SHOWN)));
        value = number > 0;
    }
    buffer_append_string(&file->json, value ? "true" : "false");
    return 0;
}

static int append_value(struct event_file *file, const struct field *field, struct error *err)
{
    switch (field->kind) {
    case FIELD_LONG:
    case FIELD_INT:
    case FIELD_DOUBLE:
        return append_number(file, field, err);
    case FIELD_BOOL:
        return append_bool(file, field, err);
    default:
        if (!text_is_utf8(buffer_text(&file->cell)))
            return error_set(err, ERROR_BAD_INPUT, "%s: no UTF-8 text (iconv converts files)", field->name);
        buffer_append_json(&file->json, buffer_text(&file->cell));
        return 0;
    }
}

/* The row as the JSON of a message: what fields mean, their defaults and limits are message_from_json()'s. */
static int row_to_json(struct event_file *file, const struct text *cells, size_t count, struct error *err)
{
    if (count !=
        file->columns.count) /* a delimiter too many or too few: the cells would be taken for their neighbours */
        return error_set(err, ERROR_BAD_INPUT, "%zu cells where the header has %zu", count, file->columns.count);
    const struct field *open_map = NULL;
    const char *separator = "";
    buffer_clear(&file->json);
    buffer_append_byte(&file->json, '{');
    for (size_t i = 0; i < file->field_count; i++) {
        const struct mapped *mapped = &file->fields[i];
        if (!fill_cell(file, mapped, cells))
            continue;
        if (buffer_check(&file->cell, "reading a row", err) != 0)
            return -1;
        if (open_map != NULL && open_map != mapped->field) {
            buffer_append_byte(&file->json, '}');
            open_map = NULL;
        }
        buffer_append_string(&file->json, separator);
        if (mapped->entry.data == NULL || open_map == NULL)
            buffer_printf(&file->json, "\"%s\":", mapped->field->name);
        if (mapped->entry.data != NULL) {
            if (open_map == NULL)
                buffer_append_byte(&file->json, '{');
            open_map = mapped->field;
            buffer_append_json(&file->json, mapped->entry);
            buffer_append_byte(&file->json, ':');
        }
        if (append_value(file, mapped->field, err) != 0)
            return -1;
        separator = ",";
    }
    if (open_map != NULL)
        buffer_append_byte(&file->json, '}');
    if (file->kind != NULL)
        buffer_printf(&file->json, "%s\"kind\":\"%s\"", separator, file->kind);
    if (file->untimed)
        buffer_append_string(&file->json, ",\"timestamp\":0"); /* behind the ids, which are always there */
    buffer_append_byte(&file->json, '}');
    return buffer_check(&file->json, "reading a row", err);
}

int event_file_next(struct event_file *file, struct arena *arena, void *message, struct error *err)
{
    const struct text *cells;
    size_t count;
    int found = rows_next(file->rows, &cells, &count, err);
    if (found <= 0)
        return found;
    struct text json = cells[0];
    if (file->format != EVENT_FORMAT_JSON) {
        if (row_to_json(file, cells, count, err) != 0)
            goto fail;
        json = buffer_text(&file->json);
    }
    if (message_from_json(file->type, json, message, arena, err) == 0)
        return 1;
fail:
    return error_wrap(err, "%s:%llu", file->path, (unsigned long long)rows_line(file->rows));
}
