/*
 * gguf_writer.h - a GGUF file (version 3), put together in memory and written at once
 *
 * Keys and tensors stand in the order they were put. Memory that runs out shows at gguf_writer_save(). Names must be
 * unique, which nobody checks here: gguf_open() does.
 *
 * Threads: one.
 */
#ifndef HEADRACE_MODEL_GGUF_WRITER_H
#define HEADRACE_MODEL_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

/* A zeroed one is an empty file. */
struct gguf_writer {
    struct buffer keys, tensors, data;
    uint64_t key_count, tensor_count;
};

void gguf_put_text(struct gguf_writer *writer, const char *key, struct text value);
void gguf_put_unsigned(struct gguf_writer *writer, const char *key, uint64_t value);
void gguf_put_integer(struct gguf_writer *writer, const char *key, int64_t value);
void gguf_put_float(struct gguf_writer *writer, const char *key, double value);

/* An array of `count` texts: at(context, 0) .. at(context, count - 1). */
void gguf_put_texts(struct gguf_writer *writer, const char *key, size_t count,
                    struct text (*at)(const void *context, size_t index), const void *context);

void gguf_put_integers(struct gguf_writer *writer, const char *key, size_t count, const int64_t *values);
void gguf_put_floats(struct gguf_writer *writer, const char *key, size_t count, const float *values);

/* F32, copied; rows 0: a vector, of one dimension. */
void gguf_put_tensor(struct gguf_writer *writer, const char *name, size_t rows, size_t columns, const float *values);

/* Replaces the file as file_replace() does: a reader sees the old one or the whole new one. */
int gguf_writer_save(const struct gguf_writer *writer, const char *path, struct error *err);

/* The file's bytes, appended to `out`: what gguf_writer_save() writes. */
int gguf_writer_bytes(const struct gguf_writer *writer, struct buffer *out, struct error *err);

void gguf_writer_free(struct gguf_writer *writer);

#endif
