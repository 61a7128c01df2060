/*
 * embedding_rows.h - arithmetic on rows of whole numbers, a row being one vector of one layer of one node
 *
 * A component is counted in units of 2^-21. What a node publishes is less than 4, so a sum of HUB_DEGREE of them fits
 * into 32 bits. The sum of a node with more neighbours, a hub, is high * 2^20 + low with low in [0, 2^20) after every
 * change, which is good for 2^28 neighbours.
 *
 * Every result is the same on every machine: whole numbers are exact, and floats go in one order, without contraction.
 * The dimension n is a multiple of 16, rows are on 64-byte boundaries.
 */
#ifndef HEADRACE_GRAPH_EMBEDDING_ROWS_H
#define HEADRACE_GRAPH_EMBEDDING_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNIT_BITS = 21, HUB_DEGREE = 240, ROW_LANES = 16, ROW_ALIGNMENT = 64 };

/* Largest |component| of a base vector, exclusive. */
static const float COMPONENT_LIMIT = 4.0f;
static const float UNIT = 1.0f / (1 << UNIT_BITS);

/*
 * Where the processor has wider registers than the baseline they are used: every operation rounds the same there. The
 * sanitizers are not ready yet when the loader chooses among clones.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

struct sum {
    int32_t *low;
    int32_t *high; /* NULL: not a hub's */
};

/* Squares of lengths, in units. */
struct change {
    float norm;  /* |z|^2, z = share * sum, rounded */
    float moved; /* |z - published|^2 */
};

/* sum += row, or -= with `take`. */
void row_add(struct sum sum, const int32_t *row, bool take, size_t n);

/* How far z is from what is published. */
struct change row_measure(struct sum sum, float share, const int32_t *published, size_t n);

/* published = z, and delta = what that changed. */
void row_publish(struct sum sum, float share, int32_t *published, int32_t *delta, size_t n);

/* |a - b|, not squared, in units. */
float row_distance(const int32_t *a, const int32_t *b, size_t n);

/* out += scale * sum, in whatever the scale makes of units. */
void row_read(struct sum sum, float scale, float *out, size_t n);

/* x a vector of floats, y the sum of scale * sum over `count` rows, rounded as by row_read(); in double, exact but for
 * the order of the sums. */
struct products {
    double xy, xx, yy;
};

struct products row_products(const struct sum *sums, const float *scales, size_t count, const float *x, size_t n);

/* The same of two vectors of floats. */
struct products float_products(const float *x, const float *y, size_t n);

/* A hub's sum back into 32 bits; there must be no more than HUB_DEGREE neighbours. */
void row_fold(struct sum sum, size_t n);

#endif
