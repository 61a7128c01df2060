/* file.h - files read whole, and files mapped */
#ifndef HEADRACE_BASE_FILE_H
#define HEADRACE_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct file_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
};

/* Appends the file's bytes; more than `limit` is an error. Messages name the path. */
int file_read(const char *path, size_t limit, struct buffer *out, struct error *err);

/* Maps a regular file read-only. It must not be truncated while mapped. */
int file_map(const char *path, struct file_map *map, struct error *err);
void file_unmap(struct file_map *map);

/* Writes to PATH.tmp, fsyncs and renames, so that a reader sees the old file or the whole new one. */
int file_replace(const char *path, const void *data, size_t size, struct error *err);

/* fsync of a file or a directory: for a directory, that the names in it last. */
int file_sync(const char *path, struct error *err);

/* mkdir -p */
int file_make_directories(const char *path, struct error *err);

#endif
