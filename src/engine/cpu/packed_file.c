#include "engine/cpu/packed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PAGE = 4096 };

struct summing {
    const uint8_t *layers;
    size_t layer_bytes;
    uint64_t *sums;
};

int packed_file_describe(struct packed_file *file, const struct packed_key *key, size_t layer_count, size_t layer_bytes,
                         struct error *err)
{
    *file = (struct packed_file){.directory = key->directory, .layer_count = layer_count, .layer_bytes = layer_bytes};
    int path = snprintf(file->path, sizeof file->path - strlen(".tmp"), "%s/%s%s%s.%s.%s.weights", key->directory,
                        key->model, *key->adapters != '\0' ? "-" : "", key->adapters, key->mode, key->instructions);
    int description = snprintf(file->description, sizeof file->description,
                               "headrace packed weights\nlayout %u\nmodel %s\nadapters %s\nmode %s\ninstructions "
                               "%s\nlayers %zu of %zu bytes\n",
                               key->layout, key->model, *key->adapters != '\0' ? key->adapters : "none", key->mode,
                               key->instructions, layer_count, layer_bytes);
    if (path < 0 || (size_t)path >= sizeof file->path - strlen(".tmp") || description < 0 ||
        (size_t)description >= sizeof file->description)
        return error_set(err, ERROR_FATAL, "the path of packed weights in %.80s... is too long", key->directory);
    return 0;
}

static size_t sums_bytes(const struct packed_file *file)
{
    return (file->layer_count + 1) * sizeof(uint64_t);
}

/* Bytes before the first layer. */
static size_t head_bytes(const struct packed_file *file)
{
    return (sizeof file->description + sums_bytes(file) + PAGE - 1) / PAGE * PAGE;
}

static void sum_layer(void *job, size_t index, size_t worker)
{
    const struct summing *summing = job;
    (void)worker;
    summing->sums[index] = XXH3_64bits(summing->layers + index * summing->layer_bytes, summing->layer_bytes);
}

/* What stands before the layers, for free(): description and sums. NULL without memory. */
static uint8_t *make_head(const struct packed_file *file, struct pool *pool, const uint8_t *layers)
{
    uint8_t *head = calloc(1, head_bytes(file));
    uint64_t *sums = malloc(sums_bytes(file));
    if (head != NULL && sums != NULL) {
        struct summing summing = {layers, file->layer_bytes, sums};
        size_t before = sizeof file->description + file->layer_count * sizeof *sums;
        pool_run(pool, file->layer_count, sum_layer, &summing);
        memcpy(head, file->description, sizeof file->description);
        memcpy(head + sizeof file->description, sums, file->layer_count * sizeof *sums);
        sums[file->layer_count] = XXH3_64bits(head, before);
        memcpy(head + before, &sums[file->layer_count], sizeof *sums);
    } else {
        free(head);
        head = NULL;
    }
    free(sums);
    return head;
}

static int fail(struct error *err, const char *doing, const char *path)
{
    return error_set(err, ERROR_RETRY, "%s %s: %s", doing, path, strerror(errno));
}

/* What somebody else can have written counts for nothing. */
static int check_owner(int descriptor, const char *path, struct stat *status, struct error *err)
{
    if (fstat(descriptor, status) != 0)
        return fail(err, "reading", path);
    if (!S_ISREG(status->st_mode))
        return error_set(err, ERROR_FATAL, "%s is not a regular file", path);
    if (status->st_uid != geteuid())
        return error_set(err, ERROR_FATAL, "%s belongs to another user", path);
    if ((status->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(err, ERROR_FATAL, "%s can be written by other users", path);
    return 0;
}

static int check_content(const struct packed_file *file, struct pool *pool, const struct file_map *map,
                         struct error *err)
{
    if (memcmp(map->data, file->description, sizeof file->description) != 0)
        return error_set(err, ERROR_FATAL, "%s is not what its name says, or of another version", file->path);
    uint8_t *head = make_head(file, pool, map->data + head_bytes(file));
    if (head == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while checking %s", file->path);
    bool same = memcmp(map->data, head, head_bytes(file)) == 0;
    free(head);
    return same ? 0 : error_set(err, ERROR_FATAL, "%s is damaged: a checksum is wrong", file->path);
}

int packed_file_map(const struct packed_file *file, struct pool *pool, struct file_map *map, const uint8_t **layers,
                    struct error *err)
{
    const size_t size = head_bytes(file) + file->layer_count * file->layer_bytes;
    struct stat status;
    void *data;
    int result = -1;

    *map = (struct file_map){0};
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* it could be a pipe */
    if (descriptor < 0) /* who cannot look into the directory will be told so when writing */
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : fail(err, "opening", file->path);
    if (check_owner(descriptor, file->path, &status, err) != 0)
        goto out;
    if ((size_t)status.st_size != size) {
        error_set(err, ERROR_FATAL, "%s has %lld bytes, not %zu", file->path, (long long)status.st_size, size);
        goto out;
    }
    data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) {
        fail(err, "mapping", file->path);
        goto out;
    }
    *map = (struct file_map){data, size};
    madvise(data, size, MADV_WILLNEED);
    result = check_content(file, pool, map, err);
    if (result == 0)
        *layers = map->data + head_bytes(file);
    else
        file_unmap(map);
out:
    close(descriptor);
    return result;
}

/* Opens and locks it. *descriptor -1 on 0: another process is writing it, or has just renamed it. */
static int open_temporary(const char *path, int *descriptor, struct error *err)
{
    struct stat opened, named;

    *descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR);
    if (*descriptor < 0)
        return fail(err, "creating", path);
    int result = check_owner(*descriptor, path, &opened, err);
    if (result == 0) {
        bool locked = flock(*descriptor, LOCK_EX | LOCK_NB) == 0;
        if (!locked && errno != EWOULDBLOCK)
            result = fail(err, "locking", path);
        else if (locked && lstat(path, &named) == 0 && named.st_ino == opened.st_ino && named.st_dev == opened.st_dev)
            return 0;
    }
    close(*descriptor);
    *descriptor = -1;
    return result;
}

static int write_all(int descriptor, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(descriptor, bytes, size);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

/* So that the new name, too, is on the disk. */
static int sync_directory(const char *directory)
{
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    int result = fsync(descriptor);
    close(descriptor);
    return result;
}

static int write_temporary(const struct packed_file *file, int descriptor, const uint8_t *head, const uint8_t *layers)
{
    if (fchmod(descriptor, S_IRUSR | S_IWUSR) != 0 || ftruncate(descriptor, 0) != 0 ||
        write_all(descriptor, head, head_bytes(file)) != 0 ||
        write_all(descriptor, layers, file->layer_count * file->layer_bytes) != 0)
        return -1;
    return fsync(descriptor);
}

int packed_file_write(const struct packed_file *file, struct pool *pool, const uint8_t *layers, bool *written,
                      struct error *err)
{
    char temporary[PATH_MAX + 8];
    int descriptor = -1, result = -1;

    *written = false;
    snprintf(temporary, sizeof temporary, "%s.tmp", file->path);
    if (file_make_directories(file->directory, err) != 0 || open_temporary(temporary, &descriptor, err) != 0)
        return -1;
    if (descriptor < 0)
        return 0;
    uint8_t *head = make_head(file, pool, layers);
    if (head == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while writing %s", file->path);
    } else if (write_temporary(file, descriptor, head, layers) != 0 || rename(temporary, file->path) != 0) {
        fail(err, "writing", file->path);
    } else {
        *written = true;
        result = sync_directory(file->directory) == 0 ? 0 : fail(err, "syncing", file->directory);
    }
    if (!*written) /* else the name may be somebody else's by now */
        unlink(temporary);
    free(head);
    close(descriptor); /* and with it the lock */
    return result;
}
