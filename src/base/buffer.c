#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct buffer *buffer, size_t size)
{
    if (buffer->failed || size > SIZE_MAX / 4 - buffer->size ||
        array_reserve(&buffer->data, &buffer->capacity, buffer->size + size, 1) != 0) {
        buffer->failed = true;
        return false;
    }
    return true;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t size)
{
    if (size == 0 || !make_room(buffer, size))
        return;
    memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
}

void buffer_append_text(struct buffer *buffer, struct text text)
{
    buffer_append(buffer, text.data, text.size);
}

void buffer_append_string(struct buffer *buffer, const char *string)
{
    buffer_append(buffer, string, strlen(string));
}

void buffer_append_byte(struct buffer *buffer, uint8_t byte)
{
    buffer_append(buffer, &byte, 1);
}

void buffer_append_json(struct buffer *buffer, struct text text)
{
    buffer_append_byte(buffer, '"');
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        if (byte == '"' || byte == '\\')
            buffer_append_byte(buffer, '\\');
        if (byte < 0x20 || byte == 0x7f)
            buffer_printf(buffer, "\\u%04x", byte);
        else
            buffer_append_byte(buffer, byte);
    }
    buffer_append_byte(buffer, '"');
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !make_room(buffer, (size_t)length + 1)) {
        buffer->failed = true;
        return;
    }
    va_start(arguments, format);
    vsnprintf((char *)buffer->data + buffer->size, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)length;
}

void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

struct text buffer_text(const struct buffer *buffer)
{
    return (struct text){buffer->data ? (const char *)buffer->data : "", buffer->size};
}

const char *buffer_string(struct buffer *buffer)
{
    if (!make_room(buffer, 1))
        return "";
    buffer->data[buffer->size] = '\0';
    return (const char *)buffer->data;
}

int buffer_check(const struct buffer *buffer, const char *doing, struct error *err)
{
    return buffer->failed ? error_set(err, ERROR_FATAL, "out of memory while %s", doing) : 0;
}

int array_reserve(void *items, size_t *capacity, size_t count, size_t item_size)
{
    if (count <= *capacity)
        return 0;
    size_t grown = *capacity < 16 ? 16 : *capacity;
    while (grown < count) {
        if (grown > SIZE_MAX / 2)
            return -1;
        grown *= 2;
    }
    if (grown > SIZE_MAX / item_size)
        return -1;
    void *memory;
    memcpy(&memory, items, sizeof memory);
    memory = realloc(memory, grown * item_size);
    if (memory == NULL)
        return -1;
    memcpy(items, &memory, sizeof memory);
    *capacity = grown;
    return 0;
}
