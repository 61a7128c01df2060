#include "model/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "model/gguf_file.h"

enum {
    VERSION_LEAST = 2, /* 3 only allows big-endian files, too; 1 had counts of 32 bits */
    VERSION_MOST = 3,
    DIMENSIONS_MOST = 4,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MOST = 65536,
    NAME_BYTES_MOST = 65535, /* of a key; the format's own limit */
    KEY_BYTES_LEAST = 14,    /* length, one letter, value type, one byte */
    TENSOR_BYTES_LEAST = 33, /* length, one letter, dimension count, one dimension, type, offset */
    PATH_BYTES_SHOWN = 100,
};

/* Where the reader stands in the header. */
struct cursor {
    const struct gguf *gguf;
    size_t at;
    struct error *err;
};

int gguf_fail(const struct gguf *gguf, struct error *err, const char *format, ...)
{
    char message[sizeof err->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    for (char *at = message; *at != '\0'; at++) /* texts of the file may stand in it; a message is one line */
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    /* A long path must not push out what is wrong; its end tells more than its start. */
    size_t length = strlen(gguf->path);
    bool cut = length > PATH_BYTES_SHOWN;
    return error_set(err, ERROR_FATAL, "%s%s: %s", cut ? "..." : "",
                     cut ? gguf->path + length - PATH_BYTES_SHOWN : gguf->path, message);
}

size_t value_type_bytes(enum value_type type)
{
    static const size_t bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

static size_t left(const struct cursor *cursor)
{
    return cursor->gguf->size - cursor->at;
}

/* NULL, and an error, when the file ends before. */
static const uint8_t *take(struct cursor *cursor, size_t size, const char *what)
{
    if (size > left(cursor)) {
        gguf_fail(cursor->gguf, cursor->err, "%s at byte %zu takes %zu bytes, the file ends after %zu", what,
                  cursor->at, size, left(cursor));
        return NULL;
    }
    const uint8_t *bytes = cursor->gguf->bytes + cursor->at;
    cursor->at += size;
    return bytes;
}

static int take_u32(struct cursor *cursor, uint32_t *value, const char *what)
{
    const uint8_t *bytes = take(cursor, sizeof *value, what);
    if (bytes == NULL)
        return -1;
    memcpy(value, bytes, sizeof *value);
    return 0;
}

static int take_u64(struct cursor *cursor, uint64_t *value, const char *what)
{
    const uint8_t *bytes = take(cursor, sizeof *value, what);
    if (bytes == NULL)
        return -1;
    memcpy(value, bytes, sizeof *value);
    return 0;
}

static int take_string(struct cursor *cursor, struct text *text, const char *what)
{
    uint64_t size;
    if (take_u64(cursor, &size, what) != 0)
        return -1;
    const uint8_t *bytes = take(cursor, size, what);
    if (bytes == NULL)
        return -1;
    *text = (struct text){(const char *)bytes, size};
    return 0;
}

/* Keys and tensor names appear in messages, so they have to be printable. */
static int take_name(struct cursor *cursor, struct text *name, const char *what)
{
    size_t at = cursor->at;
    if (take_string(cursor, name, what) != 0)
        return -1;
    bool fine = name->size > 0 && name->size <= NAME_BYTES_MOST;
    for (size_t i = 0; fine && i < name->size; i++)
        fine = name->data[i] > ' ' && name->data[i] <= '~';
    return fine ? 0
                : gguf_fail(cursor->gguf, cursor->err,
                            "%s at byte %zu must be 1 to %d printable ASCII characters without blanks", what, at,
                            NAME_BYTES_MOST);
}

static int take_strings(struct cursor *cursor, struct value *value, struct text key)
{
    if (value->count > left(cursor) / sizeof(uint64_t))
        return gguf_fail(cursor->gguf, cursor->err, "key " TEXT_FORMAT " claims %zu strings, the file has no room",
                         TEXT_ARGS(key), value->count);
    value->texts = calloc(value->count + 1, sizeof *value->texts);
    if (value->texts == NULL)
        return gguf_fail(cursor->gguf, cursor->err, "out of memory at key " TEXT_FORMAT, TEXT_ARGS(key));
    for (size_t i = 0; i < value->count; i++)
        if (take_string(cursor, &value->texts[i], "string") != 0)
            return error_wrap(cursor->err, "key " TEXT_FORMAT, TEXT_ARGS(text_prefix(key, 64)));
    return 0;
}

static int check_bools(struct cursor *cursor, const struct value *value, struct text key)
{
    for (size_t i = 0; i < value->count; i++)
        if (value->data[i] > 1)
            return gguf_fail(cursor->gguf, cursor->err, "key " TEXT_FORMAT ": %d is no bool", TEXT_ARGS(key),
                             value->data[i]);
    return 0;
}

/* `value` joins the file before it is filled in, so that the strings of a bad one are freed with the rest. */
static int take_value(struct cursor *cursor, struct value *value, struct text key)
{
    uint32_t type;
    uint64_t count = 1;
    if (take_u32(cursor, &type, "value type") != 0)
        return -1;
    value->is_array = type == VALUE_ARRAY;
    if (value->is_array &&
        (take_u32(cursor, &type, "element type") != 0 || take_u64(cursor, &count, "element count") != 0))
        return -1;
    if (value->is_array && type == VALUE_ARRAY)
        return gguf_fail(cursor->gguf, cursor->err, "key " TEXT_FORMAT ": arrays of arrays are not supported",
                         TEXT_ARGS(key));
    if (type >= VALUE_TYPES)
        return gguf_fail(cursor->gguf, cursor->err, "key " TEXT_FORMAT ": value type %u is unknown; supported: 0 to %d",
                         TEXT_ARGS(key), (unsigned)type, VALUE_TYPES - 1);
    value->type = (enum value_type)type;
    value->count = count;
    value->data = cursor->gguf->bytes + cursor->at;
    if (value->type == VALUE_STRING)
        return take_strings(cursor, value, key);
    size_t bytes = value_type_bytes(value->type);
    if (count > left(cursor) / bytes)
        return gguf_fail(cursor->gguf, cursor->err, "key " TEXT_FORMAT " claims %zu values, the file has no room",
                         TEXT_ARGS(key), value->count);
    cursor->at += value->count * bytes;
    return value->type == VALUE_BOOL ? check_bools(cursor, value, key) : 0;
}

static int read_keys(struct cursor *cursor, struct gguf *gguf, uint64_t count)
{
    if (count > left(cursor) / KEY_BYTES_LEAST)
        return gguf_fail(gguf, cursor->err, "claims %llu keys, a file of %zu bytes has no room for them",
                         (unsigned long long)count, gguf->size);
    for (size_t i = 0; i < count; i++) {
        struct text key;
        if (take_name(cursor, &key, "key") != 0)
            return -1;
        if (array_reserve(&gguf->values, &gguf->value_capacity, i + 1, sizeof *gguf->values) != 0)
            return gguf_fail(gguf, cursor->err, "out of memory at key " TEXT_FORMAT, TEXT_ARGS(key));
        gguf->values[i] = (struct value){0};
        uint32_t index = table_add(&gguf->keys, key);
        if (index == TABLE_NONE)
            return gguf_fail(gguf, cursor->err, "out of memory at key " TEXT_FORMAT, TEXT_ARGS(key));
        if (index != i)
            return gguf_fail(gguf, cursor->err, "key " TEXT_FORMAT " stands there twice", TEXT_ARGS(key));
        if (take_value(cursor, &gguf->values[i], key) != 0)
            return -1;
    }
    return 0;
}

static int set_type(struct cursor *cursor, struct tensor *tensor, uint32_t type)
{
    tensor->type = (enum tensor_type)type;
    if (tensor_type_name(tensor->type) == NULL)
        return gguf_fail(cursor->gguf, cursor->err, "tensor " TEXT_FORMAT ": type %u is not supported; supported: %s",
                         TEXT_ARGS(text_prefix(tensor->name, 64)), (unsigned)type, tensor_types_supported());
    tensor->row_bytes = tensor_row_bytes(tensor->type, tensor->columns);
    if (tensor->row_bytes == 0)
        return gguf_fail(cursor->gguf, cursor->err, "tensor " TEXT_FORMAT ": a row of %zu values is impossible in %s",
                         TEXT_ARGS(tensor->name), tensor->columns, tensor_type_name(tensor->type));
    if (tensor->rows > cursor->gguf->size / tensor->row_bytes)
        return gguf_fail(cursor->gguf, cursor->err,
                         "tensor " TEXT_FORMAT ": %zu rows of %zu bytes are larger than the file",
                         TEXT_ARGS(tensor->name), tensor->rows, tensor->row_bytes);
    return 0;
}

static int take_dimensions(struct cursor *cursor, struct tensor *tensor)
{
    uint32_t dimensions;
    if (take_u32(cursor, &dimensions, "dimension count") != 0)
        return -1;
    if (dimensions < 1 || dimensions > DIMENSIONS_MOST)
        return gguf_fail(cursor->gguf, cursor->err, "tensor " TEXT_FORMAT ": %u dimensions; supported: 1 to %d",
                         TEXT_ARGS(tensor->name), (unsigned)dimensions, DIMENSIONS_MOST);
    tensor->rows = 1;
    for (uint32_t i = 0; i < dimensions; i++) {
        uint64_t length;
        if (take_u64(cursor, &length, "dimension") != 0)
            return -1;
        if (length == 0 || (i > 0 && length > SIZE_MAX / tensor->rows))
            return gguf_fail(cursor->gguf, cursor->err, "tensor " TEXT_FORMAT ": dimension %u is %llu, out of range",
                             TEXT_ARGS(tensor->name), (unsigned)i, (unsigned long long)length);
        if (i == 0)
            tensor->columns = length;
        else
            tensor->rows *= length;
    }
    return 0;
}

/* Leaves the tensor's offset in *offset: where the data starts is known only behind the last tensor's description. */
static int take_tensor(struct cursor *cursor, struct tensor *tensor, uint64_t *offset)
{
    uint32_t type;
    if (take_name(cursor, &tensor->name, "tensor name") != 0 || take_dimensions(cursor, tensor) != 0 ||
        take_u32(cursor, &type, "tensor type") != 0 || take_u64(cursor, offset, "tensor offset") != 0)
        return -1;
    return set_type(cursor, tensor, type);
}

static int read_tensors(struct cursor *cursor, struct gguf *gguf, uint64_t count, uint64_t **offsets)
{
    if (count > left(cursor) / TENSOR_BYTES_LEAST)
        return gguf_fail(gguf, cursor->err, "claims %llu tensors, a file of %zu bytes has no room for them",
                         (unsigned long long)count, gguf->size);
    *offsets = calloc(count + 1, sizeof **offsets);
    if (*offsets == NULL || array_reserve(&gguf->tensors, &gguf->tensor_capacity, count, sizeof *gguf->tensors) != 0)
        return gguf_fail(gguf, cursor->err, "out of memory for %llu tensors", (unsigned long long)count);
    for (size_t i = 0; i < count; i++) {
        struct tensor *tensor = &gguf->tensors[i];
        *tensor = (struct tensor){0};
        if (take_tensor(cursor, tensor, &(*offsets)[i]) != 0)
            return -1;
        uint32_t index = table_add(&gguf->names, tensor->name);
        if (index == TABLE_NONE)
            return gguf_fail(gguf, cursor->err, "out of memory at tensor " TEXT_FORMAT, TEXT_ARGS(tensor->name));
        if (index != i)
            return gguf_fail(gguf, cursor->err, "tensor " TEXT_FORMAT " stands there twice", TEXT_ARGS(tensor->name));
    }
    return 0;
}

static int read_alignment(const struct gguf *gguf, uint64_t *alignment, struct error *err)
{
    *alignment = ALIGNMENT_DEFAULT;
    if (!gguf_has(gguf, "general.alignment"))
        return 0;
    if (gguf_unsigned(gguf, "general.alignment", 8, ALIGNMENT_MOST, alignment, err) != 0)
        return -1;
    if ((*alignment & (*alignment - 1)) != 0)
        return gguf_fail(gguf, err, "key general.alignment is %llu, must be a power of two",
                         (unsigned long long)*alignment);
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *one = *(const struct tensor *const *)a;
    const struct tensor *other = *(const struct tensor *const *)b;
    return (one->data > other->data) - (one->data < other->data);
}

/* Two tensors over the same bytes are a damaged file, and would score in silence. */
static int check_overlap(const struct gguf *gguf, struct error *err)
{
    size_t count = gguf->names.count;
    const struct tensor **places = calloc(count + 1, sizeof *places);
    if (places == NULL)
        return gguf_fail(gguf, err, "out of memory for %zu tensors", count);
    for (size_t i = 0; i < count; i++)
        places[i] = &gguf->tensors[i];
    qsort(places, count, sizeof *places, by_place);
    int result = 0;
    for (size_t i = 1; i < count && result == 0; i++)
        if (places[i]->data < places[i - 1]->data + places[i - 1]->rows * places[i - 1]->row_bytes)
            result = gguf_fail(gguf, err, "tensors " TEXT_FORMAT " and " TEXT_FORMAT " overlap",
                               TEXT_ARGS(places[i - 1]->name), TEXT_ARGS(places[i]->name));
    free(places);
    return result;
}

static int place_tensors(struct cursor *cursor, struct gguf *gguf, const uint64_t *offsets)
{
    uint64_t alignment;
    if (read_alignment(gguf, &alignment, cursor->err) != 0)
        return -1;
    size_t padding = (size_t)(-cursor->at & (alignment - 1));
    if (gguf->names.count == 0)
        return 0;
    if (take(cursor, padding, "padding") == NULL)
        return -1;
    for (size_t i = 0; i < gguf->names.count; i++) {
        struct tensor *tensor = &gguf->tensors[i];
        size_t bytes = tensor->rows * tensor->row_bytes;
        if (offsets[i] % alignment != 0)
            return gguf_fail(gguf, cursor->err, "tensor " TEXT_FORMAT ": its offset %llu is not aligned to %llu bytes",
                             TEXT_ARGS(tensor->name), (unsigned long long)offsets[i], (unsigned long long)alignment);
        if (offsets[i] > left(cursor) || bytes > left(cursor) - offsets[i])
            return gguf_fail(gguf, cursor->err,
                             "tensor " TEXT_FORMAT ": its %zu bytes at offset %llu of the data lie behind the end of "
                             "the file; is it cut short?",
                             TEXT_ARGS(tensor->name), bytes, (unsigned long long)offsets[i]);
        tensor->data = gguf->bytes + cursor->at + offsets[i];
    }
    return check_overlap(gguf, cursor->err);
}

static int read_header(struct gguf *gguf, struct error *err)
{
    struct cursor cursor = {gguf, 0, err};
    uint32_t version;
    uint64_t tensor_count, key_count;
    uint64_t *offsets = NULL;
    if (gguf->size < 4 || memcmp(gguf->bytes, "GGUF", 4) != 0)
        return gguf_fail(gguf, err, "no GGUF file: it does not start with the letters GGUF");
    if (take(&cursor, 4, "magic") == NULL || take_u32(&cursor, &version, "version") != 0)
        return -1;
    if (version < VERSION_LEAST || version > VERSION_MOST)
        return gguf_fail(gguf, err, "GGUF version %u%s; supported: %d and %d, little-endian", (unsigned)version,
                         version > 0xffff ? " (big-endian?)" : "", VERSION_LEAST, VERSION_MOST);
    if (take_u64(&cursor, &tensor_count, "tensor count") != 0 || take_u64(&cursor, &key_count, "key count") != 0)
        return -1;
    int result = 0;
    if (read_keys(&cursor, gguf, key_count) != 0 || read_tensors(&cursor, gguf, tensor_count, &offsets) != 0 ||
        place_tensors(&cursor, gguf, offsets) != 0)
        result = -1;
    free(offsets);
    return result;
}

int gguf_open_memory(struct gguf **gguf, const uint8_t *bytes, size_t size, const char *name, struct error *err)
{
    *gguf = NULL;
    struct gguf *opened = calloc(1, sizeof *opened);
    char *path = strdup(name);
    if (opened == NULL || path == NULL) {
        free(opened);
        free(path);
        return error_set(err, ERROR_FATAL, "out of memory while opening %s", name);
    }
    opened->path = path;
    opened->bytes = bytes;
    opened->size = size;
    if (read_header(opened, err) != 0) {
        gguf_close(opened);
        return -1;
    }
    *gguf = opened;
    return 0;
}

int gguf_open(struct gguf **gguf, const char *path, struct error *err)
{
    *gguf = NULL;
    struct file_map map;
    if (file_map(path, &map, err) != 0)
        return -1;
    if (gguf_open_memory(gguf, map.data, map.size, path, err) != 0) {
        file_unmap(&map);
        return -1;
    }
    (*gguf)->map = map;
    return 0;
}

void gguf_close(struct gguf *gguf)
{
    if (gguf == NULL)
        return;
    for (size_t i = 0; i < gguf->keys.count; i++)
        free(gguf->values[i].texts);
    free(gguf->values);
    free(gguf->tensors);
    table_free(&gguf->keys);
    table_free(&gguf->names);
    file_unmap(&gguf->map);
    free(gguf->path);
    free(gguf);
}

const char *gguf_hash(struct gguf *gguf)
{
    if (gguf->hash[0] == '\0')
        snprintf(gguf->hash, sizeof gguf->hash, "%016llx", (unsigned long long)XXH3_64bits(gguf->bytes, gguf->size));
    return gguf->hash;
}

const char *gguf_path(const struct gguf *gguf)
{
    return gguf->path;
}
