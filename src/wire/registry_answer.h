/*
 * registry_answer.h - inside wire/: what a registry said, before anybody believes it
 *
 * Pure: bytes in, a verdict out. registry.h says what counts as an answer.
 */
#ifndef HEADRACE_WIRE_REGISTRY_ANSWER_H
#define HEADRACE_WIRE_REGISTRY_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct registry_answer {
    long status;      /* of HTTP */
    bool is_json;     /* by its Content-Type */
    bool too_large;   /* more than REGISTRY_ANSWER_LIMIT bytes: `body` is not all of it */
    struct text body; /* any bytes */
};

/* To GET /schemas/ids/ID: 0 with the schema's text appended, or an error. */
int registry_answer_schema(const struct registry_answer *answer, struct buffer *schema, struct error *err);

/* To both POSTs: 0 with the id; 1: there is no such subject, or no such schema in it (the error says which). */
int registry_answer_id(const struct registry_answer *answer, uint32_t *id, struct error *err);

#endif
