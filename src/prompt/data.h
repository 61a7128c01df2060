/*
 * data.h - titles and the like, made harmless for a prompt
 *
 * One line of plain text comes out, whatever goes in: controls, line and paragraph ends and every kind of white space
 * become a single space, at the ends none; what has no width or turns the direction of writing (it could hide words
 * from a reader) is dropped, tag characters included; double quotation marks become single ones; bytes that are no
 * UTF-8 become U+FFFD.
 *
 * Caveat: the zero-width joiners go, too: some scripts and emoji sequences then look different.
 */
#ifndef HEADRACE_PROMPT_DATA_H
#define HEADRACE_PROMPT_DATA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/text.h"

/* Appends at most `limit` bytes and cuts no code point in two. Returns whether there was anything to append. */
bool data_append(struct buffer *out, struct text data, size_t limit);

#endif
