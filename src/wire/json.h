/* json.h - what compiling a program takes from the JSON reader: a field's default */
#ifndef HEADRACE_WIRE_JSON_H
#define HEADRACE_WIRE_JSON_H

#include "base/arena.h"
#include "base/error.h"
#include "wire/messages.h"

/* Sets a field of the (zeroed) struct at `record` to its fallback. */
int field_set_fallback(const struct field *field, void *record, struct arena *arena, struct error *err);

#endif
