/*
 * similar_scan.h - the arithmetic of a search over 8-bit vectors, one function for each instruction set
 *
 * A row r stands for the vector scales[r] * rows[r] of a unit vector that is at most errors[r] away; the query likewise
 * for 16-bit numbers. By Cauchy and Schwarz the cosine of both is then at most `most`, the bound worked out here, and
 * at least `most` less twice what was added to the product:
 *
 *     most = (rows[r] . query) * query_scale * scales[r] + errors[r] * (1 + query_error) + query_error
 *
 * Every function gives the same bits. query_error has room for the rounding of this very formula.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_GRAPH_SIMILAR_SCAN_H
#define HEADRACE_GRAPH_SIMILAR_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { SCAN_ROWS = 16, SCAN_STRIDE = 64, SCAN_DIMENSION_LIMIT = 256 };

struct similar_hit {
    uint32_t user;
    float most; /* the cosine is not above */
};

struct scan_query {
    int16_t values[SCAN_DIMENSION_LIMIT]; /* 0 from the dimension on */
    float scale, error;
};

struct scan_rows {
    const int8_t *rows; /* (count, stride), on a 64-byte boundary */
    const float *scales, *errors;
    size_t stride; /* a multiple of SCAN_STRIDE; 0 from the dimension on */
    size_t count;  /* a multiple of SCAN_ROWS */
};

/* Those rows whose `most` is not below `least`, in order; `user` is the row. Returns how many. */
typedef size_t scan_select(const struct scan_rows *rows, const struct scan_query *query, float least,
                           struct similar_hit *hits);

scan_select scan_scalar;
scan_select scan_avx2, scan_avx512; /* exist on x86-64 alone */

/* The fastest that this processor can do. */
scan_select *scan_pick(void);

#endif
