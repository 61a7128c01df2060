#include "wire/schema.h"

#include <stdlib.h>

#include "base/table.h"

enum { SCHEMA_SIZE_LIMIT = 256 * 1024, NESTING_LIMIT = 64, NAME_LIMIT = 256, FIXED_LIMIT = 1 << 20 };

struct parser {
    struct arena *arena;
    struct table names; /* of named types; the index is that into `types` */
    struct schema_type **types;
    size_t capacity;
    unsigned nesting;
    struct error *err;
};

static const char *const kind_names[] = {"null",   "boolean", "int",  "long",  "float", "double", "bytes",
                                         "string", "record",  "enum", "fixed", "array", "map",    "union"};

/* Types that need no memory of their own. */
static const struct schema_type primitives[] = {
    {.kind = SCHEMA_NULL, .height = 1, .empty = true},
    {.kind = SCHEMA_BOOLEAN, .height = 1},
    {.kind = SCHEMA_INT, .height = 1},
    {.kind = SCHEMA_LONG, .height = 1},
    {.kind = SCHEMA_FLOAT, .height = 1},
    {.kind = SCHEMA_DOUBLE, .height = 1},
    {.kind = SCHEMA_BYTES, .height = 1},
    {.kind = SCHEMA_STRING, .height = 1},
};

static const struct schema_type *parse_type(struct parser *parser, const json_t *json, const char *space);

const char *schema_kind_name(enum schema_kind kind)
{
    return kind_names[kind];
}

const char *schema_short_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

/* So that a failing branch is one line. */
#define REFUSE(parser, ...) (error_set((parser)->err, ERROR_BAD_INPUT, __VA_ARGS__), NULL)

static void *allocate(struct parser *parser, size_t count, size_t size)
{
    void *memory = arena_allocate_array(parser->arena, count, size);
    if (memory == NULL)
        error_set(parser->err, ERROR_FATAL, "out of memory while reading an Avro schema");
    return memory;
}

static bool is_name(const char *name, bool dots)
{
    size_t length = strlen(name);
    bool first = true;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (dots && c == '.' && !first)
            first = true;
        else if (letter || (c >= '0' && c <= '9' && !first))
            first = false;
        else
            return false;
    }
    return !first && length <= NAME_LIMIT;
}

/* The string under `key` if it is a name; else NULL with the error set. */
static const char *parse_name(struct parser *parser, const json_t *json, const char *key, bool dots)
{
    const char *name = json_string_value(json_object_get(json, key));
    if (name == NULL)
        return REFUSE(parser, "\"%s\" is missing or no string", key);
    if (!is_name(name, dots))
        return REFUSE(parser, "\"%.64s\" is not a valid name", name);
    return name;
}

static const char *full_name(struct parser *parser, const char *space, const char *name)
{
    if (strchr(name, '.') != NULL || space[0] == '\0')
        return name;
    size_t size = strlen(space) + 1 + strlen(name) + 1;
    char *full = allocate(parser, size, 1);
    if (full != NULL)
        snprintf(full, size, "%s.%s", space, name);
    return full;
}

/* Sets *space to the namespace that holds inside the type, and returns its full name. */
static const char *parse_full_name(struct parser *parser, const json_t *json, const char **space)
{
    const char *name = parse_name(parser, json, "name", true);
    if (name == NULL)
        return NULL;
    const json_t *given = json_object_get(json, "namespace");
    if (given != NULL && strchr(name, '.') == NULL) {
        *space = json_string_value(given);
        if (*space == NULL || (**space != '\0' && !is_name(*space, true)))
            return REFUSE(parser, "%s: \"namespace\" is not a valid name", name);
    }
    const char *full = full_name(parser, *space, name);
    if (full == NULL)
        return NULL;
    const char *dot = strrchr(full, '.');
    char *inner = allocate(parser, strlen(full) + 1, 1);
    if (inner != NULL && dot != NULL)
        memcpy(inner, full, (size_t)(dot - full));
    *space = inner;
    return inner != NULL ? full : NULL;
}

static struct schema_type *new_type(struct parser *parser, enum schema_kind kind, const json_t *json)
{
    struct schema_type *type = allocate(parser, 1, sizeof *type);
    if (type != NULL)
        *type = (struct schema_type){.kind = kind, .json = json};
    return type;
}

static struct schema_type *new_named_type(struct parser *parser, enum schema_kind kind, const json_t *json,
                                          const char **space)
{
    const char *name = parse_full_name(parser, json, space);
    if (name == NULL)
        return NULL;
    for (int i = 0; i < SCHEMA_RECORD; i++)
        if (strcmp(name, kind_names[i]) == 0)
            return REFUSE(parser, "a %s cannot be named %s", kind_names[kind], name);

    struct schema_type *type = new_type(parser, kind, json);
    if (type == NULL)
        return NULL;
    type->name = name;
    size_t count = parser->names.count;
    uint32_t index = table_add(&parser->names, text_of(name));
    if (index != TABLE_NONE && index != count)
        return REFUSE(parser, "type %s is defined twice", name);
    if (index == TABLE_NONE ||
        array_reserve(&parser->types, &parser->capacity, count + 1, sizeof *parser->types) != 0) {
        error_set(parser->err, ERROR_FATAL, "out of memory while reading an Avro schema");
        return NULL;
    }
    parser->types[index] = type;
    return type;
}

/* A type given by its name: a primitive one or one defined before. */
static const struct schema_type *parse_reference(struct parser *parser, const char *name, const char *space)
{
    for (int i = 0; i < SCHEMA_RECORD; i++)
        if (strcmp(name, kind_names[i]) == 0)
            return &primitives[i];
    const char *full = full_name(parser, space, name);
    if (full == NULL)
        return NULL;
    uint32_t index = table_find(&parser->names, text_of(full));
    if (index == TABLE_NONE)
        index = table_find(&parser->names, text_of(name));
    if (index == TABLE_NONE)
        return REFUSE(parser, "there is no type \"%.64s\"", name);
    if (parser->types[index]->height == 0)
        return REFUSE(parser, "type %s contains itself: recursive types are not supported", parser->types[index]->name);
    return parser->types[index];
}

/* Completes a type over one of its parts. */
static bool add_height(struct parser *parser, unsigned *height, const struct schema_type *part)
{
    if (part->height + 1 > *height)
        *height = part->height + 1;
    if (*height > NESTING_LIMIT)
        error_set(parser->err, ERROR_BAD_INPUT, "types are nested deeper than %d levels", NESTING_LIMIT);
    return *height <= NESTING_LIMIT;
}

static const struct schema_type *parse_fields(struct parser *parser, struct schema_type *type, const json_t *list,
                                              struct table *names, const char *space)
{
    type->count = json_array_size(list);
    type->fields = allocate(parser, type->count, sizeof *type->fields);
    if (type->fields == NULL)
        return NULL;
    unsigned height = 1;
    type->empty = true;
    for (size_t i = 0; i < type->count; i++) {
        struct schema_field *field = &type->fields[i];
        field->json = json_array_get(list, i);
        field->name = parse_name(parser, field->json, "name", false);
        if (field->name == NULL)
            return NULL;
        if (table_add(names, text_of(field->name)) != i)
            return REFUSE(parser, "field %s appears twice", field->name);
        field->type = parse_type(parser, json_object_get(field->json, "type"), space);
        if (field->type == NULL) {
            error_wrap(parser->err, "field %s", field->name);
            return NULL;
        }
        if (!add_height(parser, &height, field->type))
            return NULL;
        type->empty = type->empty && field->type->empty;
    }
    type->height = height;
    return type;
}

static const struct schema_type *parse_record(struct parser *parser, const json_t *json, const char *space)
{
    struct schema_type *type = new_named_type(parser, SCHEMA_RECORD, json, &space);
    if (type == NULL)
        return NULL;
    const json_t *list = json_object_get(json, "fields");
    if (!json_is_array(list))
        return REFUSE(parser, "record %s: \"fields\" is missing or no array", type->name);
    struct table names = {0};
    const struct schema_type *done = parse_fields(parser, type, list, &names, space);
    table_free(&names);
    if (done == NULL)
        error_wrap(parser->err, "record %s", type->name);
    return done;
}

static bool parse_symbols(struct parser *parser, struct schema_type *type, const json_t *list, struct table *names)
{
    type->count = json_array_size(list);
    type->symbols = allocate(parser, type->count, sizeof *type->symbols);
    if (type->symbols == NULL)
        return false;
    for (size_t i = 0; i < type->count; i++) {
        const char *symbol = json_string_value(json_array_get(list, i));
        if (symbol == NULL || !is_name(symbol, false)) {
            error_set(parser->err, ERROR_BAD_INPUT, "enum %s: symbol %zu is not a valid name", type->name, i);
            return false;
        }
        if (table_add(names, text_of(symbol)) != i) {
            error_set(parser->err, ERROR_BAD_INPUT, "enum %s: symbol %s appears twice", type->name, symbol);
            return false;
        }
        type->symbols[i] = symbol;
    }
    return true;
}

static const struct schema_type *parse_enum(struct parser *parser, const json_t *json, const char *space)
{
    struct schema_type *type = new_named_type(parser, SCHEMA_ENUM, json, &space);
    if (type == NULL)
        return NULL;
    const json_t *list = json_object_get(json, "symbols");
    if (json_array_size(list) == 0)
        return REFUSE(parser, "enum %s: \"symbols\" is missing or empty", type->name);
    const json_t *otherwise = json_object_get(json, "default");
    struct table names = {0};
    bool distinct = parse_symbols(parser, type, list, &names);
    uint32_t index = TABLE_NONE;
    if (distinct && json_is_string(otherwise))
        index = table_find(&names, text_of(json_string_value(otherwise)));
    table_free(&names);
    if (!distinct)
        return NULL;
    if (otherwise != NULL && index == TABLE_NONE)
        return REFUSE(parser, "enum %s: \"default\" is none of its symbols", type->name);
    type->default_symbol = otherwise != NULL ? type->symbols[index] : NULL;
    type->height = 1;
    return type;
}

static const struct schema_type *parse_fixed(struct parser *parser, const json_t *json, const char *space)
{
    struct schema_type *type = new_named_type(parser, SCHEMA_FIXED, json, &space);
    if (type == NULL)
        return NULL;
    const json_t *size = json_object_get(json, "size");
    json_int_t bytes = json_integer_value(size);
    if (!json_is_integer(size) || bytes < 0 || bytes > FIXED_LIMIT)
        return REFUSE(parser, "fixed %s: \"size\" is no number from 0 to %d", type->name, FIXED_LIMIT);
    type->size = (size_t)bytes;
    type->empty = bytes == 0;
    type->height = 1;
    return type;
}

static const struct schema_type *parse_list(struct parser *parser, enum schema_kind kind, const json_t *json,
                                            const char *space)
{
    struct schema_type *type = new_type(parser, kind, json);
    if (type == NULL)
        return NULL;
    type->element = parse_type(parser, json_object_get(json, kind == SCHEMA_ARRAY ? "items" : "values"), space);
    if (type->element == NULL || !add_height(parser, &type->height, type->element))
        return NULL;
    return type;
}

static bool same_branch(const struct schema_type *a, const struct schema_type *b)
{
    return a->kind == b->kind && (a->name == NULL || strcmp(a->name, b->name) == 0);
}

static const struct schema_type *parse_union(struct parser *parser, const json_t *json, const char *space)
{
    struct schema_type *type = new_type(parser, SCHEMA_UNION, NULL);
    if (type == NULL)
        return NULL;
    type->count = json_array_size(json);
    if (type->count == 0 || type->count > NAME_LIMIT)
        return REFUSE(parser, "a union of %zu types: at least 1, at most %d", type->count, NAME_LIMIT);
    type->branches = allocate(parser, type->count, sizeof *type->branches);
    if (type->branches == NULL)
        return NULL;
    unsigned height = 1;
    for (size_t i = 0; i < type->count; i++) {
        const struct schema_type *branch = parse_type(parser, json_array_get(json, i), space);
        if (branch == NULL || !add_height(parser, &height, branch))
            return NULL;
        if (branch->kind == SCHEMA_UNION)
            return REFUSE(parser, "a union directly inside a union");
        for (size_t j = 0; j < i; j++)
            if (same_branch(branch, type->branches[j]))
                return REFUSE(parser, "a union has %s twice",
                              branch->name != NULL ? branch->name : kind_names[branch->kind]);
        type->branches[i] = branch;
    }
    type->height = height;
    return type;
}

static const struct schema_type *parse_object(struct parser *parser, const json_t *json, const char *space)
{
    const char *kind = json_string_value(json_object_get(json, "type"));
    if (kind == NULL)
        return REFUSE(parser, "\"type\" is missing or no string");
    if (strcmp(kind, "record") == 0)
        return parse_record(parser, json, space);
    if (strcmp(kind, "enum") == 0)
        return parse_enum(parser, json, space);
    if (strcmp(kind, "fixed") == 0)
        return parse_fixed(parser, json, space);
    if (strcmp(kind, "array") == 0)
        return parse_list(parser, SCHEMA_ARRAY, json, space);
    if (strcmp(kind, "map") == 0)
        return parse_list(parser, SCHEMA_MAP, json, space);

    const struct schema_type *named = parse_reference(parser, kind, space);
    if (named == NULL || named->name != NULL)
        return named;
    struct schema_type *type = new_type(parser, named->kind, json); /* its own, for the logical type beside it */
    if (type != NULL) {
        type->empty = named->empty;
        type->height = named->height;
    }
    return type;
}

static const struct schema_type *parse_type(struct parser *parser, const json_t *json, const char *space)
{
    if (++parser->nesting > NESTING_LIMIT)
        return REFUSE(parser, "types are nested deeper than %d levels", NESTING_LIMIT);
    const struct schema_type *type;
    if (json_is_string(json))
        type = parse_reference(parser, json_string_value(json), space);
    else if (json_is_array(json))
        type = parse_union(parser, json, space);
    else if (json_is_object(json))
        type = parse_object(parser, json, space);
    else
        type = REFUSE(parser, "a type is missing, or neither name, object nor array");
    parser->nesting--;
    return type;
}

int schema_parse(struct schema *schema, struct text json, struct error *err)
{
    *schema = (struct schema){0};
    if (json.size > SCHEMA_SIZE_LIMIT)
        return error_set(err, ERROR_BAD_INPUT, "Avro schema: %zu bytes, at most %d are taken", json.size,
                         SCHEMA_SIZE_LIMIT);
    json_error_t at;
    schema->json =
        json_loadb(json.data != NULL ? json.data : "", json.size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &at);
    if (schema->json == NULL)
        return error_set(err, ERROR_BAD_INPUT, "Avro schema: line %d, column %d: %s", at.line, at.column, at.text);

    arena_init(&schema->arena, 0);
    struct parser parser = {.arena = &schema->arena, .err = err};
    schema->root = parse_type(&parser, schema->json, "");
    table_free(&parser.names);
    free(parser.types);
    if (schema->root == NULL) {
        schema_free(schema);
        return error_wrap(err, "Avro schema");
    }
    return 0;
}

void schema_free(struct schema *schema)
{
    json_decref(schema->json);
    arena_free(&schema->arena);
    *schema = (struct schema){0};
}
