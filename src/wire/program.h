/*
 * program.h - how messages of one writer schema become structs
 *
 * A list of steps, made once by resolving the writer's schema against ours, and run once a message. Steps follow the
 * message's bytes in order; what the struct has and the writer lacks is set by copying prepared bytes.
 *
 * A body (of an array's element, of a struct behind a pointer) stands right behind its step, up to `target`, and is run
 * on its own base address. A union's step is followed by one OP_BRANCH a branch, whose `target` is where the branch's
 * steps are; each ends in an OP_JUMP behind the union, the last by falling there.
 *
 * Threads: a compiled program is read only and may be run by any number of threads.
 */
#ifndef HEADRACE_WIRE_PROGRAM_H
#define HEADRACE_WIRE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "wire/codec.h"
#include "wire/messages.h"
#include "wire/schema.h"

enum op_code {
    OP_TEXT,          /* from string or bytes; at most `limit` bytes */
    OP_LONG,          /* from long */
    OP_LONG_FROM_INT, /* and so on: what the struct has from what the writer wrote */
    OP_INT,
    OP_DOUBLE,
    OP_DOUBLE_FROM_FLOAT,
    OP_DOUBLE_FROM_LONG,
    OP_DOUBLE_FROM_INT,
    OP_BOOL,
    OP_ENUM,     /* `limit` symbols; data: our index for each of the writer's, int32_t, below 0: we have none */
    OP_SET_TRUE, /* no bytes: a value that may be null is there */
    OP_COPY,     /* no bytes: `limit` bytes from data */
    OP_POINTER,  /* body on a new struct of `size` bytes */
    OP_ARRAY,    /* body on each of at most `limit` elements of `size` bytes, their number at count_offset */
    OP_MAP,      /* the same, and the keys (a text at the element's start) must differ */
    OP_UNION,    /* `limit` branches */
    OP_BRANCH,   /* never run */
    OP_JUMP,     /* to `target` */
    OP_REFUSE,   /* a branch that the struct has no place for; data: its name */
    OP_SKIP_INT, /* from here on: bytes that are passed over */
    OP_SKIP_LONG,
    OP_SKIP_BOOL,
    OP_SKIP_ENUM,  /* `limit` symbols */
    OP_SKIP_FIXED, /* `limit` bytes */
    OP_SKIP_BYTES, /* string or bytes */
    OP_SKIP_LIST,  /* array or map: body on each element; an element without a body takes no bytes */
};

struct op {
    enum op_code code;
    uint32_t offset; /* in the struct */
    uint32_t count_offset;
    uint32_t limit;
    uint32_t size;
    uint32_t target;  /* index of a step */
    const char *name; /* of the field, for messages */
    const void *data;
};

struct program {
    struct op *ops;
    size_t count;
    size_t capacity;
    const struct message_type *type;
    struct schema writer; /* names in the steps point into it */
};

/*
 * Takes *writer over, on -1 as well (then it is freed). Fails with ERROR_BAD_INPUT when a field cannot be resolved and
 * with ERROR_FATAL when `type` does not describe `reader`.
 */
int program_compile(struct program *program, struct schema *writer, const struct schema *reader,
                    const struct message_type *type, struct error *err);
void program_free(struct program *program);

/* codec_decode() without the framing. */
int program_run(const struct program *program, const uint8_t *bytes, size_t size, void *message, struct arena *arena,
                enum dead_letter_class *class, struct error *err);

/* Whether the descriptor says what the schema says, field by field; ERROR_FATAL if not. */
int descriptor_check(const struct message_type *type, const struct schema_type *schema, struct error *err);

#endif
