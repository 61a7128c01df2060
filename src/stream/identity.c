#include "stream/identity.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { DIGITS = 8, INSTANCE_SIZE = 100 /* of an instance_id, at most: Kafka takes 249 in all */ };

/* Whole or not at all, whoever else does the same: link() fails when the file is there. */
static int make_file(const char *path, struct error *err)
{
    char draft[PATH_MAX], digits[DIGITS + 2];
    uint32_t drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        return error_set(err, ERROR_FATAL, "no random number for %.200s", path);
    snprintf(digits, sizeof digits, "%08x\n", (unsigned)drawn);
    snprintf(draft, sizeof draft, "%s.%ld", path, (long)getpid());
    int file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool written = file >= 0 && write(file, digits, DIGITS + 1) == DIGITS + 1 && fsync(file) == 0;
    if (file >= 0)
        written &= close(file) == 0;
    if (written)
        written = link(draft, path) == 0 || errno == EEXIST;
    int code = errno;
    unlink(draft);
    if (!written)
        return error_set(err, ERROR_FATAL, "%.200s cannot be written (%s): it keeps this worker's name in its group",
                         path, strerror(code));
    return 0;
}

/* 1: there is none yet. */
static int read_digits(const char *path, char digits[DIGITS + 1], struct error *err)
{
    char content[DIGITS + 2];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return 1;
    ssize_t size = file < 0 ? -1 : read(file, content, sizeof content);
    int code = errno;
    if (file >= 0)
        close(file);
    if (size < 0)
        return error_set(err, ERROR_FATAL, "%.200s: %s", path, strerror(code));
    bool ours = size == DIGITS + 1 && content[DIGITS] == '\n';
    for (int i = 0; ours && i < DIGITS; i++)
        ours = isxdigit((unsigned char)content[i]) != 0;
    if (!ours)
        return error_set(err, ERROR_FATAL, "%.200s is not a line of %d hex digits: delete it, a new one will be made",
                         path, DIGITS);
    memcpy(digits, content, DIGITS);
    digits[DIGITS] = '\0';
    return 0;
}

int identity_read(const char *directory, const char *instance_id, char identity[IDENTITY_SIZE], struct error *err)
{
    char path[PATH_MAX - 32], digits[DIGITS + 1], name[INSTANCE_SIZE + 1];
    if ((size_t)snprintf(path, sizeof path, "%s/instance", directory) >= sizeof path)
        return error_set(err, ERROR_FATAL, "state.dir is too long a path: %.200s", directory);
    int rc = read_digits(path, digits, err);
    if (rc == 1)
        rc = make_file(path, err) == 0 ? read_digits(path, digits, err) : -1;
    if (rc != 0)
        return rc < 0 ? -1 : error_set(err, ERROR_FATAL, "%.200s has gone again", path);
    snprintf(name, sizeof name, "%s", instance_id);
    for (char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("._-", *at) == NULL)
            *at = '_';
    snprintf(identity, IDENTITY_SIZE, "%s-%s", name, digits);
    return 0;
}
