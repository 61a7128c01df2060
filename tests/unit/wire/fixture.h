/* fixture.h - what the tests of the codec begin with: cmocka, a codec with our schemas, an arena */
#ifndef WIRE_FIXTURE_H
#define WIRE_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/codec.h"

struct fixture {
    struct codec *codec;
    struct arena arena;
    struct buffer out;
    enum dead_letter_class class;
    struct error err;
};

static inline int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    arena_init(&fixture->arena, 64u << 20);
    if (codec_create(&fixture->codec, &fixture->err) != 0) {
        print_error("%s\n", fixture->err.message);
        return -1;
    }
    *state = fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    codec_destroy(fixture->codec);
    arena_free(&fixture->arena);
    buffer_free(&fixture->out);
    free(fixture);
    return 0;
}

#define assert_ok(fixture, call)                                                                                       \
    do {                                                                                                               \
        if ((call) != 0)                                                                                               \
            fail_msg("%s", (fixture)->err.message);                                                                    \
    } while (0)

#define assert_text(text, string)                                                                                      \
    do {                                                                                                               \
        assert_non_null((text).data);                                                                                  \
        assert_int_equal((text).size, strlen(string));                                                                 \
        assert_memory_equal((text).data, string, strlen(string));                                                      \
    } while (0)

#define assert_says(fixture, words)                                                                                    \
    do {                                                                                                               \
        if (strstr((fixture)->err.message, words) == NULL)                                                             \
            fail_msg("\"%s\" is not in: %s", words, (fixture)->err.message);                                           \
    } while (0)

#endif
