/*
 * text.h - a piece of UTF-8 text that somebody else owns
 *
 * A view: a pointer and a length in bytes, not NUL-terminated. `data == NULL` means "absent" (a null in Avro or JSON),
 * which is not the same as an empty text. A view lives as long as what it points into; the function that hands one out
 * says how long that is.
 */
#ifndef HEADRACE_BASE_TEXT_H
#define HEADRACE_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
    const char *data; /* NULL: absent */
    size_t size;      /* bytes */
};

/* For printf: printf("user " TEXT_FORMAT "\n", TEXT_ARGS(user_id)). */
#define TEXT_FORMAT "%.*s"
#define TEXT_ARGS(t) (int)(t).size, ((t).data ? (t).data : "")

static inline struct text text_of(const char *string)
{
    return (struct text){string, string ? strlen(string) : 0};
}

static inline bool text_equal(struct text a, struct text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/*
 * Reads one code point of at most `size` bytes. Returns the bytes it took (1 to 4), 0 when they are no well-formed
 * UTF-8 (RFC 3629: overlong forms, surrogates and values above U+10FFFF are refused) or size is 0.
 */
size_t text_code_point(const char *data, size_t size, uint32_t *code_point);

/* Writes a code point as UTF-8, at most 4 bytes; returns how many. The code point must be a valid one. */
size_t text_encode(uint32_t code_point, char out[4]);

/* Whether all of it is well-formed UTF-8 without a NUL byte. */
bool text_is_utf8(struct text text);

/* The longest prefix of at most `limit` bytes that does not cut a code point in two. */
struct text text_prefix(struct text text, size_t limit);

/* Takes off `rest` what comes before the first `end`, or all of it, and the `end`, too. For `while (rest.size > 0)`. */
struct text text_cut(struct text *rest, char end);

/* Levenshtein distance, for "did you mean"; both at most 64 bytes, longer ones give SIZE_MAX. */
size_t text_distance(struct text a, struct text b);

#endif
