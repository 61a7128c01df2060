/* encode.h - a struct as Avro binary, without framing */
#ifndef HEADRACE_WIRE_ENCODE_H
#define HEADRACE_WIRE_ENCODE_H

#include "base/buffer.h"
#include "base/error.h"
#include "wire/messages.h"

/* Appends; on -1 `out` may have a part of the message. Does not look at out->failed. */
int message_encode(const struct message_type *type, const void *message, struct buffer *out, struct error *err);

/* Whether a text may stand in a field: there, UTF-8 without NUL, at most `limit` bytes. ERROR_BAD_INPUT if not. */
int field_check_text(struct text text, size_t limit, struct error *err);

/* Whether a field of the struct at `record` is null; never where the schema has no null. */
bool field_is_null(const struct field *field, const void *record);

#endif
