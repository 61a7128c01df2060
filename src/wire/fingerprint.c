/* What identifies a schema: its Parsing Canonical Form and the CRC-64-AVRO of that. */
#include "wire/schema.h"

#include "base/table.h"

/* All strings are valid names by now: nothing in them needs an escape. */
static void append_quoted(struct buffer *out, const char *name)
{
    buffer_append_byte(out, '"');
    buffer_append_string(out, name);
    buffer_append_byte(out, '"');
}

static void append_type(const struct schema_type *type, struct table *defined, struct buffer *out);

static void append_fields(const struct schema_type *type, struct table *defined, struct buffer *out)
{
    buffer_append_string(out, ",\"fields\":[");
    for (size_t i = 0; i < type->count; i++) {
        buffer_append_string(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        append_quoted(out, type->fields[i].name);
        buffer_append_string(out, ",\"type\":");
        append_type(type->fields[i].type, defined, out);
        buffer_append_byte(out, '}');
    }
    buffer_append_string(out, "]}");
}

static void append_named(const struct schema_type *type, struct table *defined, struct buffer *out)
{
    size_t count = defined->count;
    uint32_t index = table_add(defined, text_of(type->name));
    out->failed = out->failed || index == TABLE_NONE;
    if (index != count) { /* defined further up */
        append_quoted(out, type->name);
        return;
    }
    buffer_append_string(out, "{\"name\":");
    append_quoted(out, type->name);
    buffer_append_string(out, ",\"type\":");
    append_quoted(out, schema_kind_name(type->kind));
    if (type->kind == SCHEMA_RECORD) {
        append_fields(type, defined, out);
    } else if (type->kind == SCHEMA_FIXED) {
        buffer_printf(out, ",\"size\":%zu}", type->size);
    } else {
        buffer_append_string(out, ",\"symbols\":[");
        for (size_t i = 0; i < type->count; i++) {
            buffer_append_string(out, i > 0 ? "," : "");
            append_quoted(out, type->symbols[i]);
        }
        buffer_append_string(out, "]}");
    }
}

static void append_type(const struct schema_type *type, struct table *defined, struct buffer *out)
{
    switch (type->kind) {
    case SCHEMA_RECORD:
    case SCHEMA_ENUM:
    case SCHEMA_FIXED:
        append_named(type, defined, out);
        break;
    case SCHEMA_ARRAY:
    case SCHEMA_MAP:
        buffer_append_string(out, type->kind == SCHEMA_ARRAY ? "{\"type\":\"array\",\"items\":"
                                                             : "{\"type\":\"map\",\"values\":");
        append_type(type->element, defined, out);
        buffer_append_byte(out, '}');
        break;
    case SCHEMA_UNION:
        for (size_t i = 0; i < type->count; i++) {
            buffer_append_byte(out, i > 0 ? ',' : '[');
            append_type(type->branches[i], defined, out);
        }
        buffer_append_byte(out, ']');
        break;
    default:
        append_quoted(out, schema_kind_name(type->kind));
        break;
    }
}

void schema_append_canonical(const struct schema *schema, struct buffer *out)
{
    struct table defined = {0};
    append_type(schema->root, &defined, out);
    table_free(&defined);
}

uint64_t schema_fingerprint(const void *bytes, size_t size)
{
    const uint64_t empty = 0xc15d213aa4d7a795u; /* of no bytes; also the polynomial */
    uint64_t fingerprint = empty;
    for (size_t i = 0; i < size; i++) {
        fingerprint ^= ((const uint8_t *)bytes)[i];
        for (int bit = 0; bit < 8; bit++)
            fingerprint = fingerprint >> 1 ^ (empty & -(fingerprint & 1));
    }
    return fingerprint;
}
