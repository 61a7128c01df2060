#include "model/gguf_writer.h"

#include "base/file.h"
#include "model/gguf_file.h"

enum { VERSION = 3, ALIGNMENT = 32 };

static void put_32(struct buffer *out, uint32_t value)
{
    buffer_append(out, &value, sizeof value);
}

static void put_64(struct buffer *out, uint64_t value)
{
    buffer_append(out, &value, sizeof value);
}

static void put_name(struct buffer *out, struct text name)
{
    put_64(out, name.size);
    buffer_append_text(out, name);
}

static void begin_key(struct gguf_writer *writer, const char *key, enum value_type type)
{
    put_name(&writer->keys, text_of(key));
    put_32(&writer->keys, type);
    writer->key_count++;
}

static void pad(struct buffer *out)
{
    while (out->size % ALIGNMENT != 0 && !out->failed)
        buffer_append_byte(out, 0);
}

void gguf_put_text(struct gguf_writer *writer, const char *key, struct text value)
{
    begin_key(writer, key, VALUE_STRING);
    put_name(&writer->keys, value);
}

void gguf_put_unsigned(struct gguf_writer *writer, const char *key, uint64_t value)
{
    begin_key(writer, key, VALUE_UINT64);
    put_64(&writer->keys, value);
}

void gguf_put_integer(struct gguf_writer *writer, const char *key, int64_t value)
{
    begin_key(writer, key, VALUE_INT64);
    buffer_append(&writer->keys, &value, sizeof value);
}

void gguf_put_float(struct gguf_writer *writer, const char *key, double value)
{
    begin_key(writer, key, VALUE_FLOAT64);
    buffer_append(&writer->keys, &value, sizeof value);
}

void gguf_put_texts(struct gguf_writer *writer, const char *key, size_t count,
                    struct text (*at)(const void *context, size_t index), const void *context)
{
    begin_key(writer, key, VALUE_ARRAY);
    put_32(&writer->keys, VALUE_STRING);
    put_64(&writer->keys, count);
    for (size_t i = 0; i < count; i++)
        put_name(&writer->keys, at(context, i));
}

void gguf_put_integers(struct gguf_writer *writer, const char *key, size_t count, const int64_t *values)
{
    begin_key(writer, key, VALUE_ARRAY);
    put_32(&writer->keys, VALUE_INT64);
    put_64(&writer->keys, count);
    buffer_append(&writer->keys, values, count * sizeof *values);
}

void gguf_put_floats(struct gguf_writer *writer, const char *key, size_t count, const float *values)
{
    begin_key(writer, key, VALUE_ARRAY);
    put_32(&writer->keys, VALUE_FLOAT32);
    put_64(&writer->keys, count);
    buffer_append(&writer->keys, values, count * sizeof *values);
}

void gguf_put_tensor(struct gguf_writer *writer, const char *name, size_t rows, size_t columns, const float *values)
{
    put_name(&writer->tensors, text_of(name));
    put_32(&writer->tensors, rows > 0 ? 2 : 1);
    put_64(&writer->tensors, columns);
    if (rows > 0)
        put_64(&writer->tensors, rows);
    put_32(&writer->tensors, TENSOR_F32);
    put_64(&writer->tensors, writer->data.size);
    buffer_append(&writer->data, values, (rows > 0 ? rows : 1) * columns * sizeof *values);
    pad(&writer->data);
    writer->tensor_count++;
}

int gguf_writer_bytes(const struct gguf_writer *writer, struct buffer *out, struct error *err)
{
    if (buffer_check(&writer->keys, "writing GGUF keys", err) != 0 ||
        buffer_check(&writer->tensors, "writing GGUF tensors", err) != 0 ||
        buffer_check(&writer->data, "writing GGUF tensors", err) != 0)
        return -1;
    buffer_append_string(out, "GGUF");
    put_32(out, VERSION);
    put_64(out, writer->tensor_count);
    put_64(out, writer->key_count);
    buffer_append_text(out, buffer_text(&writer->keys));
    buffer_append_text(out, buffer_text(&writer->tensors));
    pad(out);
    buffer_append_text(out, buffer_text(&writer->data));
    return buffer_check(out, "writing a GGUF file", err);
}

int gguf_writer_save(const struct gguf_writer *writer, const char *path, struct error *err)
{
    struct buffer bytes = {0};
    int result = gguf_writer_bytes(writer, &bytes, err);
    if (result == 0)
        result = file_replace(path, bytes.data, bytes.size, err);
    buffer_free(&bytes);
    return result;
}

void gguf_writer_free(struct gguf_writer *writer)
{
    buffer_free(&writer->keys);
    buffer_free(&writer->tensors);
    buffer_free(&writer->data);
    *writer = (struct gguf_writer){0};
}
