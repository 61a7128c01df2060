/*
 * gguf.h - a GGUF file, read by somebody who trusts nothing in it
 *
 * Format: GGUF versions 2 and 3 (ggml-org/ggml, docs/gguf.md), little-endian. The file is mapped; keys and tensors are
 * checked against its size when it is opened: counts, lengths, types, alignment, offsets, duplicate names. What passes
 * can be used without further checks. Every error names the file, the key or tensor, and what is supported.
 *
 * Lifetime: everything handed out points into the mapping and holds until gguf_close().
 * Threads: read-only after the open, any thread; but the first gguf_hash() belongs to one.
 */
#ifndef HEADRACE_MODEL_GGUF_H
#define HEADRACE_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "model/tensor.h"

struct gguf;

int gguf_open(struct gguf **gguf, const char *path, struct error *err);

/* The same over bytes that outlive it, for tests and fuzzing; `name` stands in messages. */
int gguf_open_memory(struct gguf **gguf, const uint8_t *bytes, size_t size, const char *name, struct error *err);
void gguf_close(struct gguf *gguf);

/* XXH3 of the whole file as 16 hex digits, computed at the first call. */
const char *gguf_hash(struct gguf *gguf);
const char *gguf_path(const struct gguf *gguf);

/* Values by key. Integers of any width that fit are taken. -1: the key is missing or of another type. */
int gguf_text(const struct gguf *gguf, const char *key, struct text *value, struct error *err);
int gguf_unsigned(const struct gguf *gguf, const char *key, uint64_t least, uint64_t most, uint64_t *value,
                  struct error *err);
int gguf_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *value,
                 struct error *err);
int gguf_float(const struct gguf *gguf, const char *key, double *value, struct error *err);
int gguf_bool(const struct gguf *gguf, const char *key, bool *value, struct error *err);
bool gguf_has(const struct gguf *gguf, const char *key);

/* Arrays: number of elements, then element by index (below the number). */
int gguf_text_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err);
struct text gguf_text_at(const struct gguf *gguf, const char *key, size_t index);
int gguf_int_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err);
int64_t gguf_int_at(const struct gguf *gguf, const char *key, size_t index);
int gguf_float_array(const struct gguf *gguf, const char *key, size_t *count, struct error *err);
double gguf_float_at(const struct gguf *gguf, const char *key, size_t index);

/* Keys in the file's order, a printable value each (long ones and arrays shortened): for `inspect`. */
size_t gguf_key_count(const struct gguf *gguf);
void gguf_key(const struct gguf *gguf, size_t index, struct text *key, char value[96]);

size_t gguf_tensor_count(const struct gguf *gguf);
const struct tensor *gguf_tensor(const struct gguf *gguf, size_t index);

/* NULL when there is none. */
const struct tensor *gguf_tensor_named(const struct gguf *gguf, const char *name);

/* The tensor of that name and shape; -1 with a message that names what differs. */
int gguf_find_tensor(const struct gguf *gguf, const char *name, size_t rows, size_t columns,
                     const struct tensor **tensor, struct error *err);

#endif
