/*
 * schema.h - an Avro schema as a tree, read from JSON that may be hostile
 *
 * Read by the Avro 1.11 specification. Beyond it: a schema is at most 256 KiB of text, types are nested at most 64
 * deep, and recursive types are refused, since no message of ours is recursive and no bound could be put on one.
 * Named types are shared, so the "tree" has joints; the number of paths through it may be exponential in its size.
 *
 * Avro C's parser is not used: it overflows the stack on deep nesting, takes sizes unchecked, and forgets the defaults.
 */
#ifndef HEADRACE_WIRE_SCHEMA_H
#define HEADRACE_WIRE_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

enum schema_kind {
    SCHEMA_NULL,
    SCHEMA_BOOLEAN,
    SCHEMA_INT,
    SCHEMA_LONG,
    SCHEMA_FLOAT,
    SCHEMA_DOUBLE,
    SCHEMA_BYTES,
    SCHEMA_STRING,
    SCHEMA_RECORD, /* from here on: not just a name */
    SCHEMA_ENUM,
    SCHEMA_FIXED,
    SCHEMA_ARRAY,
    SCHEMA_MAP,
    SCHEMA_UNION,
};

struct schema_field {
    const char *name;
    const struct schema_type *type;
    const json_t *json; /* for "aliases" and "default" */
};

struct schema_type {
    enum schema_kind kind;
    const char *name; /* full name of a record, enum or fixed; else NULL */
    const json_t
        *json;       /* the object that defines it, for "aliases" and "logicalType"; NULL for a bare name or a union */
    bool empty;      /* a value takes no bytes */
    unsigned height; /* levels of types, its own included; 0 until it is wholly read */
    size_t size;     /* of a fixed, in bytes */
    size_t count;    /* of fields, branches or symbols */
    struct schema_field *fields;
    const struct schema_type **branches;
    const char **symbols;
    const char *default_symbol;        /* of an enum; NULL: none */
    const struct schema_type *element; /* of an array; of a map: its values */
};

struct schema {
    json_t *json;
    struct arena arena;
    const struct schema_type *root;
};

/* On -1 (ERROR_BAD_INPUT; the message has the path of names) there is nothing to free. */
int schema_parse(struct schema *schema, struct text json, struct error *err);
void schema_free(struct schema *schema);

/* Appends the Parsing Canonical Form (specification, "Transforming into Parsing Canonical Form"). */
void schema_append_canonical(const struct schema *schema, struct buffer *out);

/* CRC-64-AVRO (specification, "Schema Fingerprints"); that of a schema is the one of its canonical form. */
uint64_t schema_fingerprint(const void *bytes, size_t size);

/* "string", "record", … */
const char *schema_kind_name(enum schema_kind kind);

/* A full name without its namespace. */
const char *schema_short_name(const char *name);

#endif
