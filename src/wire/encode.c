#include "wire/encode.h"

#include <inttypes.h>
#include <string.h>

static int encode_record(const struct message_type *type, const char *record, struct buffer *out, struct error *err);

int field_check_text(struct text text, size_t limit, struct error *err)
{
    if (text.data == NULL)
        return error_set(err, ERROR_BAD_INPUT, "may not be null");
    if (text.size > limit)
        return error_set(err, ERROR_BAD_INPUT, "a text of %zu bytes, at most %zu are taken", text.size, limit);
    if (!text_is_utf8(text))
        return error_set(err, ERROR_BAD_INPUT, "a text that is not UTF-8, or has a NUL byte");
    return 0;
}

bool field_is_null(const struct field *field, const void *record)
{
    if (!field->nullable)
        return false;
    if (field->kind == FIELD_TEXT)
        return ((const struct text *)(const void *)((const char *)record + field->offset))->data == NULL;
    return !*(const bool *)((const char *)record + field->has_offset);
}

static void append_long(struct buffer *out, int64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    uint64_t bits = (uint64_t)value << 1 ^ -((uint64_t)value >> 63);
    for (; bits > 0x7f; bits >>= 7)
        bytes[size++] = (uint8_t)(bits | 0x80);
    bytes[size++] = (uint8_t)bits;
    buffer_append(out, bytes, size);
}

static void append_double(struct buffer *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t bytes[8];
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(bits >> 8 * i);
    buffer_append(out, bytes, sizeof bytes);
}

static int encode_text(struct text text, size_t limit, struct buffer *out, struct error *err)
{
    if (field_check_text(text, limit, err) != 0)
        return -1;
    append_long(out, (int64_t)text.size);
    buffer_append(out, text.data, text.size);
    return 0;
}

static int encode_attribute(const struct attribute *attribute, struct buffer *out, struct error *err)
{
    if (encode_text(attribute->name, ATTRIBUTE_NAME_LIMIT, out, err) != 0)
        return error_wrap(err, "the name of an entry");
    if (encode_text(attribute->value, ATTRIBUTE_VALUE_LIMIT, out, err) != 0)
        return error_wrap(err, "the value of an entry");
    return 0;
}

static int encode_value(const struct field *field, enum field_kind kind, const void *at, struct buffer *out,
                        struct error *err);

static int encode_list(const struct field *field, const char *record, struct buffer *out, struct error *err)
{
    const char *elements;
    size_t count;
    memcpy(&elements, record + field->offset, sizeof elements);
    memcpy(&count, record + field->count_offset, sizeof count);
    bool map = field->kind == FIELD_MAP;
    size_t size = map ? sizeof(struct attribute) : field_kind_size(field->element, field->record);
    if (count > field->limit)
        return error_set(err, ERROR_BAD_INPUT, "%zu elements, at most %zu are taken", count, field->limit);
    if (count > 0)
        append_long(out, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        const void *element = elements + i * size;
        int rc = map ? encode_attribute(element, out, err) : encode_value(field, field->element, element, out, err);
        if (rc != 0)
            return error_wrap(err, "element %zu", i);
    }
    append_long(out, 0);
    return 0;
}

static int encode_value(const struct field *field, enum field_kind kind, const void *at, struct buffer *out,
                        struct error *err)
{
    int32_t symbol;
    switch (kind) {
    case FIELD_TEXT:
        return encode_text(*(const struct text *)at, field->limit, out, err);
    case FIELD_LONG:
        append_long(out, *(const int64_t *)at);
        return 0;
    case FIELD_INT:
        append_long(out, *(const int32_t *)at);
        return 0;
    case FIELD_DOUBLE:
        append_double(out, *(const double *)at);
        return 0;
    case FIELD_BOOL:
        buffer_append_byte(out, *(const bool *)at ? 1 : 0);
        return 0;
    case FIELD_ENUM:
        symbol = *(const int32_t *)at;
        if (symbol < 0 || (size_t)symbol >= field->symbols->count)
            return error_set(err, ERROR_BAD_INPUT, "%" PRId32 " is the number of no symbol", symbol);
        append_long(out, symbol);
        return 0;
    case FIELD_RECORD:
        return encode_record(field->record, at, out, err);
    case FIELD_POINTER:
        return encode_record(field->record, *(void *const *)at, out, err);
    case FIELD_ARRAY:
    case FIELD_MAP:
        break; /* encode_list(), which needs the record */
    }
    return error_set(err, ERROR_FATAL, "a list directly inside a list");
}

static int encode_field(const struct field *field, const char *record, struct buffer *out, struct error *err)
{
    bool null = field_is_null(field, record);
    if (field->nullable)
        append_long(out, null ? 0 : 1); /* the branch of ["null", T] */
    if (null)
        return 0;
    if (field->kind == FIELD_ARRAY || field->kind == FIELD_MAP)
        return encode_list(field, record, out, err);
    return encode_value(field, field->kind, record + field->offset, out, err);
}

static int encode_record(const struct message_type *type, const char *record, struct buffer *out, struct error *err)
{
    for (size_t i = 0; i < type->field_count; i++)
        if (encode_field(&type->fields[i], record, out, err) != 0)
            return error_wrap(err, "field %s", type->fields[i].name);
    return 0;
}

int message_encode(const struct message_type *type, const void *message, struct buffer *out, struct error *err)
{
    if (encode_record(type, message, out, err) != 0)
        return error_wrap(err, "%s", type->name);
    return 0;
}
