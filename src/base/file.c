#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct error *err, const char *doing, const char *path)
{
    enum error_kind kind = errno == ENOSPC || errno == EIO || errno == EMFILE ? ERROR_RETRY : ERROR_FATAL;
    return error_set(err, kind, "%s %s: %s", doing, path, strerror(errno));
}

int file_read(const char *path, size_t limit, struct buffer *out, struct error *err)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fail(err, "opening", path);
    uint8_t block[16384];
    size_t total = 0, got;
    int result = 0;
    while ((got = fread(block, 1, sizeof block, file)) > 0) {
        total += got;
        if (total > limit) {
            result = error_set(err, ERROR_BAD_INPUT, "%s is larger than %zu bytes", path, limit);
            goto out;
        }
        buffer_append(out, block, got);
    }
    if (ferror(file)) {
        result = fail(err, "reading", path);
        goto out;
    }
    result = buffer_check(out, "reading a file", err);
out:
    fclose(file);
    return result;
}

int file_map(const char *path, struct file_map *map, struct error *err)
{
    *map = (struct file_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(err, "opening", path);
    int result = 0;
    struct stat status;
    if (fstat(fd, &status) != 0) {
        result = fail(err, "reading", path);
        goto out;
    }
    if (!S_ISREG(status.st_mode)) {
        result = error_set(err, ERROR_FATAL, "%s is not a regular file", path);
        goto out;
    }
    if (status.st_size == 0)
        goto out;
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        result = fail(err, "mapping", path);
        goto out;
    }
    *map = (struct file_map){data, (size_t)status.st_size};
out:
    close(fd);
    return result;
}

void file_unmap(struct file_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct file_map){0};
}

int file_replace(const char *path, const void *data, size_t size, struct error *err)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        return error_set(err, ERROR_FATAL, "path %s is too long", path);
    FILE *file = fopen(temporary, "wb");
    if (file == NULL)
        return fail(err, "creating", temporary);
    int written = fwrite(data, 1, size, file) == size && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (fclose(file) != 0 || !written || rename(temporary, path) != 0) {
        int result = fail(err, "writing", path);
        unlink(temporary);
        return result;
    }
    return 0;
}

int file_sync(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(err, "opening", path);
    int result = fsync(fd) == 0 ? 0 : fail(err, "syncing", path);
    close(fd);
    return result;
}

int file_make_directories(const char *path, struct error *err)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return error_set(err, ERROR_FATAL, "path \"%.80s\" is empty or too long", path);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char kept = part[i];
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return fail(err, "creating directory", part);
        part[i] = kept;
    }
    return 0;
}
