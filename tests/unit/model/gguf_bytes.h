/* gguf_bytes.h - GGUF files made in memory, sound or broken on purpose */
#ifndef HEADRACE_TEST_GGUF_BYTES_H
#define HEADRACE_TEST_GGUF_BYTES_H

#include <stdlib.h>

#include "base/buffer.h"
#include "model/gguf.h"

struct gguf_bytes {
    struct buffer keys, infos, data;
    uint64_t key_count, tensor_count;
};

static inline void put_u32(struct buffer *out, uint32_t value)
{
    buffer_append(out, &value, sizeof value);
}

static inline void put_u64(struct buffer *out, uint64_t value)
{
    buffer_append(out, &value, sizeof value);
}

static inline void put_string(struct buffer *out, const char *string)
{
    put_u64(out, strlen(string));
    buffer_append_string(out, string);
}

/* A key whose value is `size` bytes of any type. */
static inline void put_key(struct gguf_bytes *bytes, const char *name, uint32_t type, const void *value, size_t size)
{
    put_string(&bytes->keys, name);
    put_u32(&bytes->keys, type);
    buffer_append(&bytes->keys, value, size);
    bytes->key_count++;
}

static inline void put_key_u32(struct gguf_bytes *bytes, const char *name, uint32_t value)
{
    put_key(bytes, name, 4, &value, sizeof value);
}

static inline void put_key_float(struct gguf_bytes *bytes, const char *name, float value)
{
    put_key(bytes, name, 6, &value, sizeof value);
}

static inline void put_key_bool(struct gguf_bytes *bytes, const char *name, bool value)
{
    uint8_t byte = value;
    put_key(bytes, name, 7, &byte, 1);
}

static inline void put_key_text(struct gguf_bytes *bytes, const char *name, const char *value)
{
    put_key(bytes, name, 8, "", 0);
    put_string(&bytes->keys, value);
}

/* The head of an array; its elements follow with put_...(&bytes->keys, ...). */
static inline void put_key_array(struct gguf_bytes *bytes, const char *name, uint32_t type, uint64_t count)
{
    put_key(bytes, name, 9, &type, sizeof type);
    put_u64(&bytes->keys, count);
}

/* A tensor of zeros where `values` is NULL. */
static inline void put_tensor(struct gguf_bytes *bytes, const char *name, uint32_t type, uint64_t rows,
                              uint64_t columns, const void *values, size_t size)
{
    put_string(&bytes->infos, name);
    put_u32(&bytes->infos, rows == 1 ? 1 : 2);
    put_u64(&bytes->infos, columns);
    if (rows != 1)
        put_u64(&bytes->infos, rows);
    put_u32(&bytes->infos, type);
    put_u64(&bytes->infos, bytes->data.size);
    for (size_t i = 0; i < size; i++)
        buffer_append_byte(&bytes->data, values == NULL ? 0 : ((const uint8_t *)values)[i]);
    while (bytes->data.size % 32 != 0)
        buffer_append_byte(&bytes->data, 0);
    bytes->tensor_count++;
}

/*
 * The file of all that, in memory of exactly its size, so that a sanitiser sees every byte read behind it. Frees
 * `bytes`; the caller frees the file.
 */
static inline uint8_t *finish_bytes(struct gguf_bytes *bytes, size_t *size)
{
    struct buffer out = {0};
    buffer_append_string(&out, "GGUF");
    put_u32(&out, 3);
    put_u64(&out, bytes->tensor_count);
    put_u64(&out, bytes->key_count);
    buffer_append_text(&out, buffer_text(&bytes->keys));
    buffer_append_text(&out, buffer_text(&bytes->infos));
    while (out.size % 32 != 0)
        buffer_append_byte(&out, 0);
    buffer_append_text(&out, buffer_text(&bytes->data));
    uint8_t *file = malloc(out.size);
    if (out.failed || file == NULL)
        abort();
    memcpy(file, out.data, out.size);
    *size = out.size;
    buffer_free(&out);
    buffer_free(&bytes->keys);
    buffer_free(&bytes->infos);
    buffer_free(&bytes->data);
    *bytes = (struct gguf_bytes){0};
    return file;
}

#endif
