/* temporary.h - a file with given bytes, for the tests of what reads files */
#ifndef HEADRACE_TESTS_REPLAY_TEMPORARY_H
#define HEADRACE_TESTS_REPLAY_TEMPORARY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"

/* The file's name is put into `path`; it is the caller's to unlink. */
static inline void temporary_write(char path[256], const char *suffix, const void *bytes, size_t size)
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, 256, "%s/headrace-XXXXXX%s", parent ? parent : "/tmp", suffix);
    int descriptor = mkstemps(path, (int)strlen(suffix));
    assert_true(descriptor >= 0);
    FILE *file = fdopen(descriptor, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

#endif
