/*
 * tensor.h - a matrix as it lies in a file, read row by row as floats
 *
 * Rows come out in the order an engine computes with, and with the adapters merged in: whoever takes weights from
 * tensor_row() needs to know of neither.
 *
 * Threads: read-only, any thread.
 */
#ifndef HEADRACE_MODEL_TENSOR_H
#define HEADRACE_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* The numbers of the format. */
enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_BF16 = 30,
};

/* What an adapter adds to a matrix: b * a, the scale already in b. */
struct low_rank {
    size_t rank;
    float *a;              /* (rank, columns) */
    float *b;              /* (rows, rank) */
    struct low_rank *next; /* of another adapter, added after this one; NULL at the end */
};

struct tensor {
    struct text name;
    enum tensor_type type;
    size_t columns; /* length of a row, the format's first dimension: values that lie side by side */
    size_t rows;    /* product of the other dimensions; 1 for a vector */
    const uint8_t *data;
    size_t row_bytes;
    size_t halves;           /* 0; or rows come in groups of so many, each group's second half between its first:
                                row 2i is the file's row i, row 2i + 1 the file's row i + halves / 2 */
    struct low_rank *update; /* NULL: none */
};

/* NULL when we do not read that type. */
const char *tensor_type_name(enum tensor_type type);

/* The types we read, "F32, F16, ...", for messages. */
const char *tensor_types_supported(void);

/* Bytes of a row of so many values; 0 when the type's blocks do not fit into it. */
size_t tensor_row_bytes(enum tensor_type type, size_t columns);

/* Where in the file a row lies: elsewhere only with `halves`. */
size_t tensor_place(const struct tensor *tensor, size_t row);

/* Writes one row as floats: `columns` of them. */
void tensor_row(const struct tensor *tensor, size_t row, float *out);

#endif
