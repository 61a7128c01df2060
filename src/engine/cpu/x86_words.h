/*
 * x86_words.h - BF16 on AVX-512 where 16-bit integers are multiplied faster than bfloat16 and floats
 *
 * Weights are 16-bit integers with a scale for each output; operands are such with a scale for each WORD_GROUP values.
 * Products are summed exactly in 32-bit integers over a group, the groups in float.
 *
 * That sums stay below 2^31 is seen to by the norm, not by the greatest number: a group's is held below 2^15.5 on
 * either side, and a sum of products, or any part of one, is no larger than the product of the norms. Rounding is off
 * by up to 2^-16.5 of the norm: among 192 values of like size by 2^-13 of each, where bfloat16 is by 2^-9. So nothing
 * needs to be turned as in integers.h, and nothing a second operand.
 *
 * Panels: pairs of weights (depth / 2, PANEL, 2); scales (PANEL). Operands: numbers; from the next line on the groups'
 * scales. What has to do with pairs serves attention, too.
 *
 * No include guard: x86_avx512.c includes it behind slices.h.
 */

static size_t pair_number_bytes(size_t depth)
{
    return whole_lines((depth + depth % 2) * sizeof(int16_t));
}

static size_t pair_weight_bytes(size_t depth)
{
    return (depth + depth % 2) * PANEL * sizeof(int16_t);
}

/* For a vector of `count` values, or the first of more. */
static __mmask16 stretch_mask(size_t count)
{
    return (__mmask16)(count < LANES ? (1u << count) - 1 : 0xffff);
}

/* Numbers that end up below 2^15 unless something is not finite. */
TARGET INLINE void round_stretch(const float *values, size_t count, float inverse, int16_t *numbers)
{
    for (size_t i = 0; i < count; i += LANES) {
        __mmask16 mask = stretch_mask(count - i);
        __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, values + i), _mm512_set1_ps(inverse));
        _mm512_mask_cvtsepi32_storeu_epi16(numbers + i, mask, _mm512_cvtps_epi32(value));
    }
}

/* Sets one column; `to` is its place in the first pairs. */
TARGET static void put_pairs(const float *values, size_t depth, float inverse, char *to)
{
    for (size_t k = 0; k < depth; k += PANEL) {
        size_t count = depth - k < PANEL ? depth - k : PANEL;
        int16_t numbers[PANEL + 1];
        round_stretch(values + k, count, inverse, numbers);
        numbers[count] = 0;
        for (size_t i = 0; i < count; i += 2, to += 2 * PANEL * sizeof(int16_t))
            memcpy(to, numbers + i, 2 * sizeof(int16_t));
    }
}

TARGET INLINE void sum_pairs(const char *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                             __m512i sum[ROWS][VECTORS])
{
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_si512();
    }
    for (size_t k = 0; k < depth; k += 2) {
        __m512i pairs[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++) pairs[v] = _mm512_load_si512(panel + v * 64);
        panel += 2 * PANEL * sizeof(int16_t);
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            int32_t pair;
            memcpy(&pair, in + r * in_stride + k * sizeof(int16_t), sizeof pair);
            __m512i spread_pair = _mm512_set1_epi32(pair);
            UNROLL for (size_t v = 0; v < VECTORS; v++) ADD_PAIRS(sum[r][v], spread_pair, pairs[v]);
        }
    }
}

enum { WORD_GROUP = 192, WORD_MOST = 32767, WORD_NORM = 46300 }; /* 2^15.5, less what rounding can add */

static size_t word_panel_bytes(size_t depth)
{
    return pair_weight_bytes(depth) + PANEL * sizeof(float);
}

static size_t word_operand_bytes(size_t depth)
{
    return pair_number_bytes(depth) + whole_lines(groups_of(depth, WORD_GROUP) * sizeof(float));
}

/* Of a group: its norm and its greatest magnitude. The norm of what is not finite is not. */
struct extent {
    float norm, greatest;
};

TARGET static struct extent extent_of(const float *values, size_t count)
{
    __m512 squares = _mm512_setzero_ps(), greatest = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i += LANES) {
        __m512 value = _mm512_maskz_loadu_ps(stretch_mask(count - i), values + i);
        squares = _mm512_fmadd_ps(value, value, squares);
        greatest = _mm512_max_ps(_mm512_abs_ps(value), greatest);
    }
    return (struct extent){sqrtf(_mm512_reduce_add_ps(squares)), _mm512_reduce_max_ps(greatest)};
}

/* How a number comes from a value, and back. Values so small that their squares vanish become zeros. */
struct rounding {
    float inverse, scale;
};

static struct rounding rounding_of(struct extent extent)
{
    if (extent.norm < 0x1p-40f)
        return (struct rounding){0};
    float by_norm = WORD_NORM / extent.norm, by_greatest = WORD_MOST / extent.greatest;
    float inverse = by_greatest < by_norm ? by_greatest : by_norm;
    return (struct rounding){inverse, 1.0f / inverse};
}

TARGET static void word_put_column(void *panel, size_t depth, size_t column, const float *values)
{
    char *to = (char *)panel + 2 * column * sizeof(int16_t);
    struct extent extent = {0};

    for (size_t k = 0; k < depth; k += WORD_GROUP) {
        struct extent group = extent_of(values + k, group_size(depth, WORD_GROUP, k));
        extent = (struct extent){larger(extent.norm, group.norm), larger(extent.greatest, group.greatest)};
    }
    struct rounding rounding = rounding_of(extent);
    ((float *)(void *)((char *)panel + pair_weight_bytes(depth)))[column] = rounding.scale;
    put_pairs(values, depth, rounding.inverse, to);
}

TARGET static void word_take(const float *values, size_t depth, size_t first, size_t count, void *operand)
{
    int16_t *numbers = operand;
    float *scales = (float *)(void *)((char *)operand + pair_number_bytes(depth));

    for (size_t k = first; k < first + count; k += WORD_GROUP, values += WORD_GROUP) {
        size_t size = group_size(depth, WORD_GROUP, k);
        struct rounding rounding = rounding_of(extent_of(values, size));
        round_stretch(values, size, rounding.inverse, numbers + k);
        scales[k / WORD_GROUP] = rounding.scale;
    }
    if (depth % 2 != 0)
        numbers[depth] = 0;
}

TARGET INLINE void word_tile(const struct slice *slice, size_t depth, const char *in, size_t in_stride, size_t rows,
                             float *out, size_t out_stride, bool add)
{
    __m512i sum[ROWS][VECTORS];
    sum_pairs(slice->weights, depth, in, in_stride, rows, sum);
    scale_tile(sum, in + slice->scale_offset, in_stride, rows, out, out_stride, add);
}

TARGET static void word_slice(const struct slice *panel, size_t depth, const char *row, size_t in_stride, size_t rows,
                              float *out, size_t out_stride, bool add, struct fetch *fetch)
{
    TILES(word_tile)
}

static const struct numbers word_numbers = {
    .group = WORD_GROUP,
    .weight_size = sizeof(int16_t),
    .number_size = sizeof(int16_t),
    .weight_bytes = pair_weight_bytes,
    .number_bytes = pair_number_bytes,
    .multiply = word_slice,
};

TARGET static void word_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                 float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    sliced_multiply(&word_numbers, panel, depth, in, in_stride, rows, out, out_stride, add, ahead);
}

static const struct format words = {
    .name = "bf16-int16",
    .section = WORD_GROUP,
    .operand_bytes = word_operand_bytes,
    .panel_bytes = word_panel_bytes,
    .put_column = word_put_column,
    .take = word_take,
    .multiply = word_multiply,
};
