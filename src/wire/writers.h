/*
 * writers.h - inside wire/: the schemas that a type can be read from, found without a lock
 *
 * A table of fixed size that only grows, so that readers need no more than acquire loads. What is in it stays until
 * writers_free(): decoded texts may point into a program.
 *
 * Threads: any number of readers beside one that adds.
 */
#ifndef HEADRACE_WIRE_WRITERS_H
#define HEADRACE_WIRE_WRITERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "wire/codec.h"
#include "wire/program.h"

enum { WRITERS_SLOTS = 2 * CODEC_WRITERS_LIMIT };

struct writer {
    uint64_t key;            /* a fingerprint, or a registry's id */
    struct program *program; /* NULL: it cannot be read as this type */
    char *refusal;           /* then: why */
};

struct writers {
    _Atomic(struct writer *) slots[WRITERS_SLOTS];
    size_t count;
};

/* NULL: it is not there. */
const struct writer *writers_find(const struct writers *writers, uint64_t key);

/*
 * Adds a key that is not there; takes over nothing: `refusal` is copied. NULL with ERROR_BAD_INPUT beyond
 * CODEC_WRITERS_LIMIT, with ERROR_FATAL without memory.
 */
const struct writer *writers_add(struct writers *writers, uint64_t key, struct program *program, const char *refusal,
                                 struct error *err);

/* The programs are the caller's. */
void writers_free(struct writers *writers);

#endif
