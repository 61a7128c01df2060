#include "model/gguf_file.h"

#include <inttypes.h>
#include <stdio.h>

enum { VALUE_SHOWN = 96 };

static const char *const type_names[VALUE_TYPES] = {
    "an 8-bit integer", "an 8-bit integer", "a 16-bit integer",
    "a 16-bit integer", "a 32-bit integer", "a 32-bit integer",
    "a 32-bit float",   "a bool",           "text",
    "an array",         "a 64-bit integer", "a 64-bit integer",
    "a 64-bit float",
};

static const struct value *find(const struct gguf *gguf, const char *key)
{
    uint32_t index = table_find(&gguf->keys, text_of(key));
    return index == TABLE_NONE ? NULL : &gguf->values[index];
}

static int find_kind(const struct gguf *gguf, const char *key, bool is_array, const char *wanted,
                     const struct value **value, struct error *err)
{
    *value = find(gguf, key);
    if (*value == NULL)
        return gguf_fail(gguf, err, "key %s is missing", key);
    if ((*value)->is_array != is_array)
        return gguf_fail(gguf, err, "key %s is %s array, must be %s", key, is_array ? "no" : "an", wanted);
    return 0;
}

static int wrong_type(const struct gguf *gguf, const char *key, const struct value *value, const char *wanted,
                      struct error *err)
{
    return gguf_fail(gguf, err, "key %s is %s%s, must be %s", key, value->is_array ? "an array, each element " : "",
                     type_names[value->type], wanted);
}

/* An integer as a sign and a magnitude, so that both 64-bit kinds fit; false for what is no integer. */
static bool read_integer(const struct value *value, size_t index, bool *negative, uint64_t *magnitude)
{
    const uint8_t *bytes = value->data + index * value_type_bytes(value->type);
    uint64_t bits = 0;
    memcpy(&bits, bytes, value_type_bytes(value->type));
    *negative = false;
    *magnitude = bits;
    switch (value->type) {
    case VALUE_UINT8:
    case VALUE_UINT16:
    case VALUE_UINT32:
    case VALUE_UINT64:
        return true;
    case VALUE_INT8:
    case VALUE_INT16:
    case VALUE_INT32:
    case VALUE_INT64: {
        uint64_t sign = UINT64_C(1) << (8 * value_type_bytes(value->type) - 1);
        *negative = (bits & sign) != 0;
        if (*negative)
            *magnitude = sign - (bits - sign);
        return true;
    }
    default:
        return false;
    }
}

static bool read_float(const struct value *value, size_t index, double *number)
{
    if (value->type == VALUE_FLOAT32) {
        float single;
        memcpy(&single, value->data + index * sizeof single, sizeof single);
        *number = (double)single;
        return true;
    }
    if (value->type == VALUE_FLOAT64)
        memcpy(number, value->data + index * sizeof *number, sizeof *number);
    return value->type == VALUE_FLOAT64;
}

int gguf_text(const struct gguf *gguf, const char *key, struct text *text, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, false, "text", &value, err) != 0)
        return -1;
    if (value->type != VALUE_STRING)
        return wrong_type(gguf, key, value, "text", err);
    *text = value->texts[0];
    return 0;
}

static int find_integer(const struct gguf *gguf, const char *key, bool *negative, uint64_t *magnitude,
                        struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, false, "an integer", &value, err) != 0)
        return -1;
    return read_integer(value, 0, negative, magnitude) ? 0 : wrong_type(gguf, key, value, "an integer", err);
}

int gguf_unsigned(const struct gguf *gguf, const char *key, uint64_t least, uint64_t most, uint64_t *number,
                  struct error *err)
{
    bool negative;
    uint64_t magnitude;
    if (find_integer(gguf, key, &negative, &magnitude, err) != 0)
        return -1;
    if (negative || magnitude < least || magnitude > most)
        return gguf_fail(gguf, err, "key %s is %s%" PRIu64 ", must be %" PRIu64 " to %" PRIu64, key,
                         negative ? "-" : "", magnitude, least, most);
    *number = magnitude;
    return 0;
}

int gguf_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *number,
                 struct error *err)
{
    bool negative;
    uint64_t magnitude;
    if (find_integer(gguf, key, &negative, &magnitude, err) != 0)
        return -1;
    *number = (int64_t)(negative ? -magnitude : magnitude);
    if ((!negative && magnitude > INT64_MAX) || *number < least || *number > most)
        return gguf_fail(gguf, err, "key %s is %s%" PRIu64 ", must be %" PRId64 " to %" PRId64, key,
                         negative ? "-" : "", magnitude, least, most);
    return 0;
}

int gguf_float(const struct gguf *gguf, const char *key, double *number, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, false, "a float", &value, err) != 0)
        return -1;
    return read_float(value, 0, number) ? 0 : wrong_type(gguf, key, value, "a float", err);
}

int gguf_bool(const struct gguf *gguf, const char *key, bool *truth, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, false, "a bool", &value, err) != 0)
        return -1;
    if (value->type != VALUE_BOOL)
        return wrong_type(gguf, key, value, "a bool", err);
    *truth = value->data[0] != 0;
    return 0;
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
    return find(gguf, key) != NULL;
}

int gguf_text_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, true, "an array of texts", &value, err) != 0)
        return -1;
    if (value->type != VALUE_STRING)
        return wrong_type(gguf, key, value, "an array of texts", err);
    *count = value->count;
    return 0;
}

struct text gguf_text_at(const struct gguf *gguf, const char *key, size_t index)
{
    return find(gguf, key)->texts[index];
}

int gguf_int_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, true, "an array of integers", &value, err) != 0)
        return -1;
    for (size_t i = 0; i < value->count; i++) {
        bool negative;
        uint64_t magnitude;
        if (!read_integer(value, i, &negative, &magnitude))
            return wrong_type(gguf, key, value, "an array of integers", err);
        if (!negative && magnitude > INT64_MAX)
            return gguf_fail(gguf, err, "key %s: element %zu is %" PRIu64 ", too large", key, i, magnitude);
    }
    *count = value->count;
    return 0;
}

int64_t gguf_int_at(const struct gguf *gguf, const char *key, size_t index)
{
    bool negative;
    uint64_t magnitude;
    read_integer(find(gguf, key), index, &negative, &magnitude);
    return (int64_t)(negative ? -magnitude : magnitude);
}

int gguf_float_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err)
{
    const struct value *value;
    if (find_kind(gguf, key, true, "an array of floats", &value, err) != 0)
        return -1;
    if (value->type != VALUE_FLOAT32 && value->type != VALUE_FLOAT64)
        return wrong_type(gguf, key, value, "an array of floats", err);
    *count = value->count;
    return 0;
}

double gguf_float_at(const struct gguf *gguf, const char *key, size_t index)
{
    double number = 0;
    read_float(find(gguf, key), index, &number);
    return number;
}

size_t gguf_key_count(const struct gguf *gguf)
{
    return gguf->keys.count;
}

static void show_text(struct text text, char shown[VALUE_SHOWN])
{
    struct text start = text_prefix(text, VALUE_SHOWN - sizeof "...");
    bool is_utf8 = text_is_utf8(start);
    for (size_t i = 0; i < start.size; i++) {
        uint8_t byte = (uint8_t)start.data[i];
        shown[i] = byte < ' ' || byte == 0x7f ? ' ' : byte > 0x7f && !is_utf8 ? '?' : start.data[i];
    }
    strcpy(shown + start.size, start.size < text.size ? "..." : "");
}

void gguf_key(const struct gguf *gguf, size_t index, struct text *key, char shown[VALUE_SHOWN])
{
    *key = table_key(&gguf->keys, (uint32_t)index);
    const struct value *value = &gguf->values[index];
    bool negative;
    uint64_t magnitude;
    double number;
    if (value->is_array)
        snprintf(shown, VALUE_SHOWN, "array of %zu, each %s", value->count, type_names[value->type]);
    else if (value->type == VALUE_STRING)
        show_text(value->texts[0], shown);
    else if (value->type == VALUE_BOOL)
        strcpy(shown, value->data[0] ? "true" : "false");
    else if (read_float(value, 0, &number))
        snprintf(shown, VALUE_SHOWN, "%g", number);
    else if (read_integer(value, 0, &negative, &magnitude))
        snprintf(shown, VALUE_SHOWN, "%s%" PRIu64, negative ? "-" : "", magnitude);
}

size_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->names.count;
}

const struct tensor *gguf_tensor(const struct gguf *gguf, size_t index)
{
    return &gguf->tensors[index];
}

const struct tensor *gguf_tensor_named(const struct gguf *gguf, const char *name)
{
    uint32_t index = table_find(&gguf->names, text_of(name));
    return index == TABLE_NONE ? NULL : &gguf->tensors[index];
}

int gguf_find_tensor(const struct gguf *gguf, const char *name, size_t rows, size_t columns,
                     const struct tensor **tensor, struct error *err)
{
    const struct tensor *found = gguf_tensor_named(gguf, name);
    if (found == NULL)
        return gguf_fail(gguf, err, "tensor %s is missing", name);
    if (found->rows != rows || found->columns != columns)
        return gguf_fail(gguf, err, "tensor %s is %zu x %zu (rows x columns), must be %zu x %zu", name, found->rows,
                         found->columns, rows, columns);
    *tensor = found;
    return 0;
}
