/*
 * pairs.h - the product of INT8 where only pairs of 16-bit numbers can be multiplied and added
 *
 * An operand's quad of numbers stands as 0, 2, 1, 3, so that the even and the odd bytes of a quad of weights, widened
 * to 16 bits in place, meet their own.
 *
 * No include guard. Before it come lanes.h, slices.h and
 *   MULTIPLY_PAIRS(a, b)   on vectors of 32 bits: the sum of the products of their two signed halves
 */

#define OPERAND int16_t
#define ZERO 0
#define PLACE(k) ((k) / 4 * 4 + (k) % 2 * 2 + (k) % 4 / 2)

typedef int16_t shorts __attribute__((vector_size(4 * LANES)));

TARGET INLINE void integer_tile(const struct slice *slice, size_t depth, const char *in, size_t in_stride, size_t rows,
                                float *out, size_t out_stride, bool add)
{
    const char *weights = slice->weights;
    integers sum[ROWS][VECTORS] = {0};

    for (size_t k = 0; k < depth; k += 4) {
        shorts even[VECTORS], odd[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            shorts quad = (shorts)load((const float *)(const void *)weights + v * LANES);
            even[v] = quad << 8 >> 8;
            odd[v] = quad >> 8;
        }
        weights += 4 * PANEL;
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            int32_t pair[2];
            memcpy(pair, in + r * in_stride + k * sizeof(OPERAND), sizeof pair);
            integers first_pair = pair[0] - (integers){0}, second_pair = pair[1] - (integers){0};
            UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] +=
                MULTIPLY_PAIRS(first_pair, (integers)even[v]) + MULTIPLY_PAIRS(second_pair, (integers)odd[v]);
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        lanes scale = spread(*(const float *)(const void *)(in + r * in_stride + slice->scale_offset));
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            float *to = out + r * out_stride + v * LANES;
            store(to, MULTIPLY_ADD(__builtin_convertvector(sum[r][v], lanes), scale, add ? load(to) : (lanes){0}));
        }
    }
}

#include "engine/cpu/integers.h"
