/* Do descriptor and schema say the same? What decoder, encoder and JSON rest on. */
#include "wire/program.h"

#include <string.h>

static const enum schema_kind schema_kinds[] = {
    [FIELD_TEXT] = SCHEMA_STRING,   [FIELD_LONG] = SCHEMA_LONG,      [FIELD_INT] = SCHEMA_INT,
    [FIELD_DOUBLE] = SCHEMA_DOUBLE, [FIELD_BOOL] = SCHEMA_BOOLEAN,   [FIELD_ENUM] = SCHEMA_ENUM,
    [FIELD_RECORD] = SCHEMA_RECORD, [FIELD_POINTER] = SCHEMA_RECORD, [FIELD_ARRAY] = SCHEMA_ARRAY,
    [FIELD_MAP] = SCHEMA_MAP,
};

static int check_symbols(const struct symbols *symbols, const struct schema_type *type, struct error *err)
{
    if (symbols == NULL || symbols->count != type->count)
        return error_set(err, ERROR_FATAL, "the descriptor has other symbols than the schema");
    for (size_t i = 0; i < type->count; i++)
        if (strcmp(symbols->names[i], type->symbols[i]) != 0)
            return error_set(err, ERROR_FATAL, "the descriptor has symbol %s, the schema %s", symbols->names[i],
                             type->symbols[i]);
    return 0;
}

static int check_kind(const struct field *field, enum field_kind kind, const struct schema_type *type,
                      struct error *err)
{
    if (type->kind != schema_kinds[kind])
        return error_set(err, ERROR_FATAL, "the descriptor wants %s, the schema has %s",
                         schema_kind_name(schema_kinds[kind]), schema_kind_name(type->kind));
    switch (kind) {
    case FIELD_ENUM:
        return check_symbols(field->symbols, type, err);
    case FIELD_RECORD:
    case FIELD_POINTER:
        return descriptor_check(field->record, type, err);
    case FIELD_ARRAY:
        return check_kind(field, field->element, type->element, err);
    case FIELD_MAP:
        return type->element->kind == SCHEMA_STRING ? 0 : error_set(err, ERROR_FATAL, "no map of strings");
    default:
        return 0;
    }
}

static int check_fallback(const struct field *field, const struct schema_field *schema, struct error *err)
{
    json_error_t at;
    json_t *ours = field->fallback != NULL ? json_loads(field->fallback, JSON_DECODE_ANY, &at) : NULL;
    const json_t *theirs = json_object_get(schema->json, "default");
    bool same = field->fallback == NULL ? theirs == NULL : json_equal(ours, theirs) != 0;
    json_decref(ours);
    return same ? 0 : error_set(err, ERROR_FATAL, "the descriptor has another default than the schema");
}

static int check_field(const struct field *field, const struct schema_field *schema, struct error *err)
{
    if (strcmp(field->name, schema->name) != 0)
        return error_set(err, ERROR_FATAL, "the schema has %s in its place", schema->name);
    if (check_fallback(field, schema, err) != 0)
        return -1;
    const struct schema_type *type = schema->type;
    if (field->nullable) {
        if (type->kind != SCHEMA_UNION || type->count != 2 || type->branches[0]->kind != SCHEMA_NULL)
            return error_set(err, ERROR_FATAL, "may be null, but the schema has no union of null and one type");
        type = type->branches[1];
    }
    return check_kind(field, field->kind, type, err);
}

int descriptor_check(const struct message_type *type, const struct schema_type *schema, struct error *err)
{
    if (schema->kind != SCHEMA_RECORD || strcmp(schema->name, type->name) != 0)
        return error_set(err, ERROR_FATAL, "%s: the schema is not a record of that name", type->name);
    if (schema->count != type->field_count)
        return error_set(err, ERROR_FATAL, "%s: the descriptor has %zu fields, the schema %zu", type->name,
                         type->field_count, schema->count);
    for (size_t i = 0; i < type->field_count; i++)
        if (check_field(&type->fields[i], &schema->fields[i], err) != 0)
            return error_wrap(err, "%s: field %s", type->name, type->fields[i].name);
    return 0;
}
