#include "graph/embedding_rows.h"

#include <math.h>
#include <string.h>

enum { CARRY_BITS = 20 };

/*
 * 16 lanes, spelled out as a vector type because gcc 12 makes shuffles of plain loops that end in a sum.
 */
typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef double doubles __attribute__((vector_size(128)));
typedef double eight_doubles __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE void load(ints *x, const int32_t *row)
{
    memcpy(x, __builtin_assume_aligned(row, ROW_ALIGNMENT), sizeof *x);
}

INLINE void store(int32_t *row, const ints *x)
{
    memcpy(__builtin_assume_aligned(row, ROW_ALIGNMENT), x, sizeof *x);
}

/* sum += row in 16 of its columns, from `at`. `sign` is 0 to add, -1 to take away. */
INLINE void add_columns(struct sum sum, const int32_t *row, int32_t sign, size_t at)
{
    ints low, x;
    load(&low, sum.low + at);
    load(&x, row + at);
    low += (x ^ sign) - sign;
    if (sum.high == NULL) {
        store(sum.low + at, &low);
        return;
    }
    ints high, carry = low >> CARRY_BITS;
    load(&high, sum.high + at);
    high += carry;
    low -= carry << CARRY_BITS;
    store(sum.low + at, &low);
    store(sum.high + at, &high);
}

INLINE void read_columns(struct sum sum, size_t at, floats *value)
{
    ints low, high;
    load(&low, sum.low + at);
    *value = __builtin_convertvector(low, floats);
    if (sum.high == NULL)
        return;
    load(&high, sum.high + at);
    *value = __builtin_convertvector(high, floats) * (float)(1 << CARRY_BITS) + *value;
}

/* To the nearest whole number, halves away from 0: half a unit with the sign of x, then cut off. */
INLINE void round_columns(const floats *x, ints *rounded)
{
    ints bits;
    memcpy(&bits, x, sizeof bits);
    bits = (bits & INT32_MIN) | 0x3f000000;
    floats half;
    memcpy(&half, &bits, sizeof half);
    *rounded = __builtin_convertvector(*x + half, ints);
}

INLINE float sum_of_lanes(const floats *x)
{
    float quarter[4];
    for (size_t j = 0; j < 4; j++)
        quarter[j] = ((*x)[j] + (*x)[j + 4]) + ((*x)[j + 8] + (*x)[j + 12]);
    return (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
}

/* Of one z, columns from `at`: adds its squares to both. */
INLINE void measure_columns(const floats *z, const int32_t *published, size_t at, floats *norm, floats *moved)
{
    ints rounded, before;
    round_columns(z, &rounded);
    load(&before, published + at);
    floats length = __builtin_convertvector(rounded, floats);
    floats difference = __builtin_convertvector(rounded - before, floats);
    *norm += length * length;
    *moved += difference * difference;
}

WIDEST void row_add(struct sum sum, const int32_t *row, bool take, size_t n)
{
    for (size_t at = 0; at < n; at += ROW_LANES)
        add_columns(sum, row, -(int32_t)take, at);
}

WIDEST struct change row_measure(struct sum sum, float share, const int32_t *published, size_t n)
{
    floats norm = {0}, moved = {0};
    for (size_t at = 0; at < n; at += ROW_LANES) {
        floats z;
        read_columns(sum, at, &z);
        z *= share;
        measure_columns(&z, published, at, &norm, &moved);
    }
    return (struct change){sum_of_lanes(&norm), sum_of_lanes(&moved)};
}

WIDEST void row_publish(struct sum sum, float share, int32_t *published, int32_t *delta, size_t n)
{
    for (size_t at = 0; at < n; at += ROW_LANES) {
        floats z;
        ints rounded, before;
        read_columns(sum, at, &z);
        z *= share;
        round_columns(&z, &rounded);
        load(&before, published + at);
        store(published + at, &rounded);
        before = rounded - before;
        store(delta + at, &before);
    }
}

float row_distance(const int32_t *a, const int32_t *b, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return (float)sqrt(square);
}

WIDEST void row_read(struct sum sum, float scale, float *out, size_t n)
{
    for (size_t at = 0; at < n; at += ROW_LANES) {
        floats value, before;
        read_columns(sum, at, &value);
        memcpy(&before, out + at, sizeof before);
        before += scale * value;
        memcpy(out + at, &before, sizeof before);
    }
}

struct eight_products {
    eight_doubles xy, xx, yy;
};

INLINE void widen(const floats *x, eight_doubles halves[2])
{
    doubles wide = __builtin_convertvector(*x, doubles);
    memcpy(halves, &wide, sizeof wide);
}

/* 16 columns of two vectors. A product of two floats is exact in double: only the order of the sums matters. */
INLINE void multiply(struct eight_products *products, const floats *x, const floats *y)
{
    eight_doubles wide_x[2], wide_y[2];
    widen(x, wide_x);
    widen(y, wide_y);
    for (size_t half = 0; half < 2; half++) {
        products->xy += wide_x[half] * wide_y[half];
        products->xx += wide_x[half] * wide_x[half];
        products->yy += wide_y[half] * wide_y[half];
    }
}

INLINE struct products add_up(const struct eight_products *products)
{
    struct products sum = {0};
    for (size_t j = 0; j < 8; j++) {
        sum.xy += products->xy[j];
        sum.xx += products->xx[j];
        sum.yy += products->yy[j];
    }
    return sum;
}

WIDEST struct products float_products(const float *x, const float *y, size_t n)
{
    struct eight_products products = {0};
    for (size_t at = 0; at < n; at += ROW_LANES) {
        floats sixteen_x, sixteen_y;
        memcpy(&sixteen_x, x + at, sizeof sixteen_x);
        memcpy(&sixteen_y, y + at, sizeof sixteen_y);
        multiply(&products, &sixteen_x, &sixteen_y);
    }
    return add_up(&products);
}

WIDEST struct products row_products(const struct sum *sums, const float *scales, size_t count, const float *x, size_t n)
{
    struct eight_products products = {0};
    for (size_t at = 0; at < n; at += ROW_LANES) {
        floats sixteen_x, y = {0};
        memcpy(&sixteen_x, x + at, sizeof sixteen_x);
        for (size_t k = 0; k < count; k++) {
            floats value;
            read_columns(sums[k], at, &value);
            y += scales[k] * value;
        }
        multiply(&products, &sixteen_x, &y);
    }
    return add_up(&products);
}

void row_fold(struct sum sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum.low[i] += sum.high[i] * (1 << CARRY_BITS);
}
