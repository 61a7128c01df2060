#include "wire/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "wire/codec.h"
#include "wire/encode.h"

/* Writing */

static int write_record(const struct message_type *type, const char *record, struct buffer *out, struct error *err);

static int write_text(struct text text, struct buffer *out, struct error *err)
{
    if (field_check_text(text, SIZE_MAX, err) != 0)
        return -1;
    buffer_append_byte(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c == '"' || c == '\\')
            buffer_printf(out, "\\%c", c);
        else if (c == '\n')
            buffer_append_string(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buffer_printf(out, "\\u%04x", c);
        else
            buffer_append_byte(out, c);
    }
    buffer_append_byte(out, '"');
    return 0;
}

/* The shortest of 15 to 17 digits that reads back as the same number. The program stays in the "C" locale. */
static void write_double(double value, struct buffer *out)
{
    char digits[32] = "null";
    for (int precision = 15; isfinite(value) && precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    buffer_append_string(out, digits);
}

static int write_attributes(const struct attribute *attributes, size_t count, struct buffer *out, struct error *err)
{
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        if (write_text(attributes[i].name, out, err) != 0)
            return error_wrap(err, "the name of entry %zu", i);
        buffer_append_byte(out, ':');
        if (write_text(attributes[i].value, out, err) != 0)
            return error_wrap(err, "the value of entry %zu", i);
    }
    buffer_append_byte(out, '}');
    return 0;
}

static int write_value(const struct field *field, enum field_kind kind, const void *at, struct buffer *out,
                       struct error *err)
{
    int32_t symbol;
    switch (kind) {
    case FIELD_TEXT:
        return write_text(*(const struct text *)at, out, err);
    case FIELD_LONG:
        buffer_printf(out, "%" PRId64, *(const int64_t *)at);
        return 0;
    case FIELD_INT:
        buffer_printf(out, "%" PRId32, *(const int32_t *)at);
        return 0;
    case FIELD_DOUBLE:
        write_double(*(const double *)at, out);
        return 0;
    case FIELD_BOOL:
        buffer_append_string(out, *(const bool *)at ? "true" : "false");
        return 0;
    case FIELD_ENUM:
        symbol = *(const int32_t *)at;
        if (symbol < 0 || (size_t)symbol >= field->symbols->count)
            return error_set(err, ERROR_BAD_INPUT, "%" PRId32 " is the number of no symbol", symbol);
        return write_text(text_of(field->symbols->names[symbol]), out, err);
    case FIELD_RECORD:
        return write_record(field->record, at, out, err);
    case FIELD_POINTER:
        return write_record(field->record, *(void *const *)at, out, err);
    case FIELD_ARRAY:
    case FIELD_MAP:
        break; /* write_list(), which needs the record */
    }
    return error_set(err, ERROR_FATAL, "a list directly inside a list");
}

static int write_list(const struct field *field, const char *record, struct buffer *out, struct error *err)
{
    const char *elements;
    size_t count;
    memcpy(&elements, record + field->offset, sizeof elements);
    memcpy(&count, record + field->count_offset, sizeof count);
    if (field->kind == FIELD_MAP)
        return write_attributes((const struct attribute *)(const void *)elements, count, out, err);

    size_t size = field_kind_size(field->element, field->record);
    buffer_append_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        if (write_value(field, field->element, elements + i * size, out, err) != 0)
            return error_wrap(err, "element %zu", i);
    }
    buffer_append_byte(out, ']');
    return 0;
}

static int write_field(const struct field *field, const char *record, struct buffer *out, struct error *err)
{
    buffer_printf(out, "\"%s\":", field->name);
    if (field_is_null(field, record)) {
        buffer_append_string(out, "null");
        return 0;
    }
    if (field->kind == FIELD_ARRAY || field->kind == FIELD_MAP)
        return write_list(field, record, out, err);
    return write_value(field, field->kind, record + field->offset, out, err);
}

static int write_record(const struct message_type *type, const char *record, struct buffer *out, struct error *err)
{
    buffer_append_byte(out, '{');
    for (size_t i = 0; i < type->field_count; i++) {
        if (i > 0)
            buffer_append_byte(out, ',');
        if (write_field(&type->fields[i], record, out, err) != 0)
            return error_wrap(err, "field %s", type->fields[i].name);
    }
    buffer_append_byte(out, '}');
    return 0;
}

int message_to_json(const struct message_type *type, const void *message, struct buffer *out, struct error *err)
{
    size_t before = out->size;
    if (write_record(type, message, out, err) == 0 && buffer_check(out, "writing a message as JSON", err) == 0)
        return 0;
    out->size = before;
    return error_wrap(err, "%s", type->name);
}

/* Reading */

static int read_record(const struct message_type *type, const json_t *json, char *record, struct arena *arena,
                       struct error *err);

static int wrong_type(const json_t *json, const char *wanted, struct error *err)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array",     [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null"};
    return error_set(err, ERROR_BAD_INPUT, "%s where %s is wanted", names[json_typeof(json)], wanted);
}

static void *allocate(struct arena *arena, size_t count, size_t size, struct error *err)
{
    void *memory = arena_allocate_array(arena, count, size);
    if (memory == NULL)
        error_set(err, arena->limit != 0 ? ERROR_BAD_INPUT : ERROR_FATAL, "the message takes too much memory");
    return memory;
}

static int copy_text(struct text from, size_t limit, struct text *to, struct arena *arena, struct error *err)
{
    if (field_check_text(from, limit, err) != 0)
        return -1;
    char *copy = allocate(arena, from.size, 1, err);
    if (copy == NULL)
        return -1;
    memcpy(copy, from.data, from.size);
    *to = (struct text){copy, from.size};
    return 0;
}

static int read_text(const json_t *json, size_t limit, struct text *to, struct arena *arena, struct error *err)
{
    if (!json_is_string(json))
        return wrong_type(json, "a string", err);
    return copy_text((struct text){json_string_value(json), json_string_length(json)}, limit, to, arena, err);
}

static int read_integer(const json_t *json, int64_t least, int64_t most, int64_t *to, struct error *err)
{
    if (!json_is_integer(json))
        return wrong_type(json, "an integer", err);
    *to = json_integer_value(json);
    if (*to < least || *to > most)
        return error_set(err, ERROR_BAD_INPUT, "%" PRId64 " is not between %" PRId64 " and %" PRId64, *to, least, most);
    return 0;
}

static int read_symbol(const json_t *json, const struct symbols *symbols, int32_t *to, struct error *err)
{
    if (!json_is_string(json))
        return wrong_type(json, "a name", err);
    struct text name = {json_string_value(json), json_string_length(json)};
    struct buffer known = {0};
    for (size_t i = 0; i < symbols->count; i++) {
        if (text_equal(name, text_of(symbols->names[i]))) {
            *to = (int32_t)i;
            buffer_free(&known);
            return 0;
        }
        buffer_printf(&known, "%s%s", i > 0 ? ", " : "", symbols->names[i]);
    }
    error_set(err, ERROR_BAD_INPUT, "\"%.64s\" is none of %s", name.data, buffer_string(&known));
    buffer_free(&known);
    return -1;
}

static int read_value(const struct field *field, enum field_kind kind, const json_t *json, void *to,
                      struct arena *arena, struct error *err)
{
    int64_t integer = 0;
    void *record;
    switch (kind) {
    case FIELD_TEXT:
        return read_text(json, field->limit, to, arena, err);
    case FIELD_LONG:
        return read_integer(json, INT64_MIN, INT64_MAX, to, err);
    case FIELD_INT:
        if (read_integer(json, INT32_MIN, INT32_MAX, &integer, err) != 0)
            return -1;
        *(int32_t *)to = (int32_t)integer;
        return 0;
    case FIELD_DOUBLE:
        if (!json_is_number(json))
            return wrong_type(json, "a number", err);
        *(double *)to = json_number_value(json);
        return 0;
    case FIELD_BOOL:
        if (!json_is_boolean(json))
            return wrong_type(json, "true or false", err);
        *(bool *)to = json_is_true(json);
        return 0;
    case FIELD_ENUM:
        return read_symbol(json, field->symbols, to, err);
    case FIELD_RECORD:
        return read_record(field->record, json, to, arena, err);
    case FIELD_POINTER:
        record = allocate(arena, 1, field->record->size, err);
        *(void **)to = record;
        return record != NULL ? read_record(field->record, json, record, arena, err) : -1;
    case FIELD_ARRAY:
    case FIELD_MAP:
        break; /* read_list(), which needs the record */
    }
    return error_set(err, ERROR_FATAL, "a list directly inside a list");
}

static int read_attributes(const json_t *json, struct attribute *to, struct arena *arena, struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        if (copy_text(text_of(name), ATTRIBUTE_NAME_LIMIT, &to->name, arena, err) != 0 ||
            read_text(value, ATTRIBUTE_VALUE_LIMIT, &to->value, arena, err) != 0)
            return error_wrap(err, "%.64s", name);
        to++;
    }
    return 0;
}

static int read_list(const struct field *field, const json_t *json, char *record, struct arena *arena,
                     struct error *err)
{
    bool map = field->kind == FIELD_MAP;
    if (map ? !json_is_object(json) : !json_is_array(json))
        return wrong_type(json, map ? "an object" : "an array", err);
    size_t count = map ? json_object_size(json) : json_array_size(json);
    size_t size = map ? sizeof(struct attribute) : field_kind_size(field->element, field->record);
    if (count > field->limit)
        return error_set(err, ERROR_BAD_INPUT, "%zu elements, at most %zu are taken", count, field->limit);
    char *elements = allocate(arena, count, size, err);
    if (elements == NULL)
        return -1;
    memcpy(record + field->offset, &elements, sizeof elements);
    memcpy(record + field->count_offset, &count, sizeof count);
    if (map)
        return read_attributes(json, (struct attribute *)(void *)elements, arena, err);
    for (size_t i = 0; i < count; i++)
        if (read_value(field, field->element, json_array_get(json, i), elements + i * size, arena, err) != 0)
            return error_wrap(err, "element %zu", i);
    return 0;
}

static int read_field(const struct field *field, const json_t *json, char *record, struct arena *arena,
                      struct error *err)
{
    if (json_is_null(json) && field->nullable)
        return 0;
    if (field->nullable && field->kind != FIELD_TEXT)
        *(bool *)(record + field->has_offset) = true;
    if (field->kind == FIELD_ARRAY || field->kind == FIELD_MAP)
        return read_list(field, json, record, arena, err);
    return read_value(field, field->kind, json, record + field->offset, arena, err);
}

int field_set_fallback(const struct field *field, void *record, struct arena *arena, struct error *err)
{
    if (strcmp(field->fallback, "null") == 0)
        return 0;
    json_error_t at;
    json_t *json = json_loads(field->fallback, JSON_DECODE_ANY, &at);
    if (json == NULL)
        return error_set(err, ERROR_FATAL, "default %s: %s", field->fallback, at.text);
    int rc = read_field(field, json, record, arena, err);
    json_decref(json);
    return rc;
}

static int refuse_unknown(const struct message_type *type, const char *name, struct error *err)
{
    size_t best = SIZE_MAX;
    const char *near = NULL;
    for (size_t i = 0; i < type->field_count; i++) {
        size_t distance = text_distance(text_of(name), text_of(type->fields[i].name));
        if (distance < best) {
            best = distance;
            near = type->fields[i].name;
        }
    }
    if (best <= 3)
        return error_set(err, ERROR_BAD_INPUT, "there is no field \"%.64s\": did you mean %s?", name, near);
    return error_set(err, ERROR_BAD_INPUT, "there is no field \"%.64s\"", name);
}

static int check_names(const struct message_type *type, const json_t *json, struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < type->field_count && !known; i++)
            known = strcmp(name, type->fields[i].name) == 0;
        if (!known)
            return refuse_unknown(type, name, err);
    }
    return 0;
}

static int read_record(const struct message_type *type, const json_t *json, char *record, struct arena *arena,
                       struct error *err)
{
    if (!json_is_object(json))
        return wrong_type(json, "an object", err);
    if (check_names(type, json, err) != 0)
        return -1;
    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *field = &type->fields[i];
        const json_t *value = json_object_get(json, field->name);
        int rc;
        if (value != NULL)
            rc = read_field(field, value, record, arena, err);
        else if (field->fallback != NULL)
            rc = field_set_fallback(field, record, arena, err);
        else
            rc = error_set(err, ERROR_BAD_INPUT, "is missing");
        if (rc != 0)
            return error_wrap(err, "field %s", field->name);
    }
    return 0;
}

int message_from_json(const struct message_type *type, struct text json, void *message, struct arena *arena,
                      struct error *err)
{
    json_error_t at;
    json_t *root =
        json_loadb(json.data != NULL ? json.data : "", json.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &at);
    if (root == NULL)
        return error_set(err, ERROR_BAD_INPUT, "%s: JSON, line %d, column %d: %s", type->name, at.line, at.column,
                         at.text);
    memset(message, 0, type->size);
    int rc = read_record(type, root, message, arena, err);
    json_decref(root);
    return rc == 0 ? 0 : error_wrap(err, "%s", type->name);
}
