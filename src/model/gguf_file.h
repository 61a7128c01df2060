/* gguf_file.h - what an open GGUF file holds, shared by its reader (gguf.c) and its look-ups (gguf_value.c) */
#ifndef HEADRACE_MODEL_GGUF_FILE_H
#define HEADRACE_MODEL_GGUF_FILE_H

#include "base/file.h"
#include "base/table.h"
#include "model/gguf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF's numbers are read as they lie in the file");

/* The numbers of the format. */
enum value_type {
    VALUE_UINT8,
    VALUE_INT8,
    VALUE_UINT16,
    VALUE_INT16,
    VALUE_UINT32,
    VALUE_INT32,
    VALUE_FLOAT32,
    VALUE_BOOL,
    VALUE_STRING,
    VALUE_ARRAY,
    VALUE_UINT64,
    VALUE_INT64,
    VALUE_FLOAT64,
    VALUE_TYPES
};

struct value {
    enum value_type type; /* of the elements when it is an array */
    bool is_array;
    size_t count;        /* elements; 1 when it is none */
    const uint8_t *data; /* unaligned; strings: length and bytes, one after the other */
    struct text *texts;  /* (count), of strings only */
};

struct gguf {
    char *path;
    struct file_map map; /* empty when opened from memory */
    const uint8_t *bytes;
    size_t size;
    struct table keys; /* a key's number is that of its value */
    struct value *values;
    size_t value_capacity;
    struct table names; /* a name's number is that of its tensor */
    struct tensor *tensors;
    size_t tensor_capacity;
    char hash[17]; /* "" until asked for */
};

/* Fills in ERROR_FATAL "path: ..." and returns -1. */
int gguf_fail(const struct gguf *gguf, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Bytes of one value, 0 for those of no fixed size: strings and arrays. */
size_t value_type_bytes(enum value_type type);

#endif
