/* golden_bytes.h - bytes that golden files keep as hexadecimal text */
#ifndef HEADRACE_TESTS_GOLDEN_BYTES_H
#define HEADRACE_TESTS_GOLDEN_BYTES_H

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/buffer.h"

/* Replaces what is in `out` by the bytes of the member. */
static inline void golden_bytes(const json_t *object, const char *member, struct buffer *out)
{
    const char *digits = json_string_value(json_object_get(object, member));
    buffer_clear(out);
    for (unsigned byte; digits != NULL && sscanf(digits, "%2x", &byte) == 1; digits += 2)
        buffer_append_byte(out, (uint8_t)byte);
}

#endif
