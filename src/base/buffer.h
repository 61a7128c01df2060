/*
 * buffer.h - bytes that grow
 *
 * A zeroed `struct buffer` is an empty one. When memory runs out the buffer is marked `failed`, keeps what it had and
 * ignores what comes after, so that a writer of many pieces looks once, at the end.
 *
 * Threads: a buffer belongs to one thread at a time.
 */
#ifndef HEADRACE_BASE_BUFFER_H
#define HEADRACE_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct buffer {
    uint8_t *data;
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
    bool failed;     /* an append found no memory */
};

void buffer_append(struct buffer *buffer, const void *bytes, size_t size);
void buffer_append_text(struct buffer *buffer, struct text text);
void buffer_append_string(struct buffer *buffer, const char *string);
void buffer_append_byte(struct buffer *buffer, uint8_t byte);

/* The text as a JSON string, quotes and all; it should be UTF-8. */
void buffer_append_json(struct buffer *buffer, struct text text);
void buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Empties it and keeps its memory. */
void buffer_clear(struct buffer *buffer);
void buffer_free(struct buffer *buffer);

/* What is in it, as a view that holds until the next append. Never absent. */
struct text buffer_text(const struct buffer *buffer);

/* A NUL behind the content (not counted in size), for calls that want a C string; "" without memory. */
const char *buffer_string(struct buffer *buffer);

/* -1 and ERROR_FATAL "out of memory while <doing>" if an append failed, else 0. */
int buffer_check(const struct buffer *buffer, const char *doing, struct error *err);

/*
 * Makes room for `count` items of `item_size` bytes in a growing array: *items is reallocated to at least that many,
 * doubling, and *capacity follows. Returns 0, or -1 without memory or on overflow (then nothing has changed).
 */
int array_reserve(void *items, size_t *capacity, size_t count, size_t item_size);

#endif
