/*
 * integers.h - the numbers of INT8, compiled once for each instruction set
 *
 * Weights are signed bytes with a scale for each output; operands are signed bytes with a scale for each GROUP values.
 * Products are summed exactly in 32-bit integers over a group, the groups in float.
 *
 * Before they are rounded, both are turned by the same orthogonal matrix, which leaves the product as it is: a
 * Hadamard transform of each whole block of 64 values. It spreads the few channels of a decoder that are many times
 * larger than the rest, which otherwise set the scale for all. Rows that a head will see get a second operand of what
 * the first one lost: between users and items the last token's hidden state varies by a few percent of its norm, and
 * rounding it once would bury that.
 *
 * What was tried: correlation of trained heads' logits with those of F32 (the same heads; 200 prompts from ml-100k,
 * SmolLM2-135M-Instruct; attention in bfloat16 throughout), lowest and highest over exits 5, 10, ..., 30:
 *
 *   turned in blocks of   scale for each   second operand   correlation
 *   -                     64               no               .843  .957
 *   -                     32               no               .902  .971
 *   -                     64               yes              .925  .980
 *   -                     32               yes              .957  .987
 *   -                     16               yes              .974  .991
 *   16                    192              yes              .976  .994
 *   32                    192              yes              .984  .993
 *   64, 512               192              no               .969  .987
 *   64                    row              yes              .981  .993
 *   64                    384              yes              .983  .993
 *   64                    192              yes              .988  .993
 *   64, 512               192              yes              .985  .994
 *   64                    64               yes              .991  .995   this one
 *   weights alone, operands in float                        .990  .997
 *   (bfloat16                                               .996  .999)
 *   (16-bit integers, x86_words.h; on 1,500 prompts         .9999 1.000)
 *
 * On 1,500 prompts, heads of ./dev bench accuracy: .987 to .996 with a scale for each 64 and the AUC at the best exit
 * .001 below that of F32; .977 to .997 and .004 with one for each 192, which is a tenth faster.
 *
 * No include guard. Before it come lanes.h, slices.h and
 *   OPERAND, ZERO     type of an operand's numbers, and what is added to each
 *   PLACE(k)          where number k of an operand stands
 *   integer_tile(slice, depth, in, in_stride, rows, out, out_stride, add)   a group's part of the product of a tile
 */

enum { GROUP = 64, BLOCK = 64 };

/* Panels: quads of weights (depth / 4, PANEL, 4); scales (PANEL); for each group the sums of weights (PANEL) * -ZERO.
 */
static size_t integer_weight_bytes(size_t depth)
{
    return whole_lines((depth + 3) / 4 * 4 * PANEL);
}

static size_t integer_panel_bytes(size_t depth)
{
    return integer_weight_bytes(depth) + whole_lines((1 + groups_of(depth, GROUP)) * PANEL * sizeof(float));
}

/* Operands: numbers, filled up to whole quads; from the next line on the groups' scales. */
static size_t integer_number_bytes(size_t depth)
{
    return whole_lines((depth + 3) / 4 * 4 * sizeof(OPERAND));
}

static size_t integer_operand_bytes(size_t depth)
{
    return integer_number_bytes(depth) + whole_lines(groups_of(depth, GROUP) * sizeof(float));
}

/* To the nearest, ties to even, for magnitudes below 2^22. */
TARGET INLINE int32_t to_integer(float value)
{
    float shifted = value + 0x1.8p23f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

/* NaN when a value is NaN: its bits are greater than infinity's. */
TARGET static float greatest_magnitude(const float *values, size_t count)
{
    int32_t greatest = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= 0x7fffffff;
        greatest = bits > greatest ? bits : greatest;
    }
    float magnitude;
    memcpy(&magnitude, &greatest, sizeof magnitude);
    return magnitude;
}

/* A butterfly between lanes that lie `distance` apart: sums in the lower one, differences in the upper one. */
#define BUTTERFLY(distance)                                                                                            \
    if (LANES > (distance)) {                                                                                          \
        static const int32_t partner[] = {0 ^ (distance),  1 ^ (distance),  2 ^ (distance),  3 ^ (distance),           \
                                          4 ^ (distance),  5 ^ (distance),  6 ^ (distance),  7 ^ (distance),           \
                                          8 ^ (distance),  9 ^ (distance),  10 ^ (distance), 11 ^ (distance),          \
                                          12 ^ (distance), 13 ^ (distance), 14 ^ (distance), 15 ^ (distance)};         \
        integers order = (integers)load((const float *)(const void *)partner);                                         \
        lanes sign = choose(order < lane, spread(-1.0f), spread(1.0f));                                                \
        UNROLL for (size_t i = 0; i < BLOCK / LANES; i++) v[i] =                                                       \
            MULTIPLY_ADD(sign, v[i], __builtin_shuffle(v[i], order));                                                  \
    }

/* The Hadamard transform of BLOCK values, times 8. */
TARGET INLINE void turn_block(const float *in, float *out)
{
    static const int32_t lane_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    integers lane = (integers)load((const float *)(const void *)lane_numbers);
    lanes v[BLOCK / LANES];

    UNROLL for (size_t i = 0; i < BLOCK / LANES; i++) v[i] = load(in + i * LANES);
    BUTTERFLY(1)
    BUTTERFLY(2)
    BUTTERFLY(4)
    BUTTERFLY(8)
    UNROLL for (size_t stage = 0; stage < 4; stage++)
    {
        UNROLL for (size_t i = 0; i < BLOCK / LANES; i++)
        {
            size_t distance = (size_t)1 << stage;
            if (distance < BLOCK / LANES && (i & distance) == 0) {
                lanes sum = v[i] + v[i + distance];
                v[i + distance] = v[i] - v[i + distance];
                v[i] = sum;
            }
        }
    }
    UNROLL for (size_t i = 0; i < BLOCK / LANES; i++) store(out + i * LANES, v[i]);
}

/* Turns at most GROUP values; what does not fill a block stays as it is, times 8. */
TARGET static void turn(const float *in, size_t count, float *out)
{
    size_t whole = count - count % BLOCK;
    for (size_t i = 0; i < whole; i += BLOCK)
        turn_block(in + i, out + i);
    for (size_t i = whole; i < count; i++)
        out[i] = 8.0f * in[i];
}

/* The weights take both factors of 8 back. */
TARGET static void integer_put_column(void *panel, size_t depth, size_t column, const float *values)
{
    int8_t *weights = (int8_t *)panel + 4 * column;
    float *scales = (float *)(void *)((char *)panel + integer_weight_bytes(depth));
    int32_t *sums = (int32_t *)(void *)(scales + PANEL) + column;
    float turned[GROUP], greatest = 0.0f;

    for (size_t k = 0; k < depth; k += GROUP) {
        turn(values + k, group_size(depth, GROUP, k), turned);
        greatest = larger(greatest, greatest_magnitude(turned, group_size(depth, GROUP, k)));
    }
    float inverse = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    scales[column] = greatest / 127.0f * 0x1p-6f;
    for (size_t k = 0; k < depth; k += GROUP, sums += PANEL) {
        turn(values + k, group_size(depth, GROUP, k), turned);
        for (size_t i = 0; i < group_size(depth, GROUP, k); i++) {
            int8_t weight = (int8_t)to_integer(turned[i] * inverse);
            weights[(k + i) / 4 * 4 * PANEL + (k + i) % 4] = weight;
            *sums -= ZERO * weight;
        }
    }
}

/* Rounds a group to `numbers` from k on; returns its scale. */
TARGET INLINE float round_group(const float *turned, size_t count, OPERAND *numbers, size_t k)
{
    float greatest = greatest_magnitude(turned, count);
    float inverse = greatest > 0.0f ? 127.0f / greatest : 0.0f;
    for (size_t i = 0; i < count; i++)
        numbers[PLACE(k + i)] = (OPERAND)(to_integer(turned[i] * inverse) + ZERO);
    return greatest / 127.0f;
}

static void fill_quad(OPERAND *numbers, size_t depth)
{
    for (size_t k = depth; k % 4 != 0; k++)
        numbers[PLACE(k)] = ZERO;
}

TARGET static void integer_take(const float *values, size_t depth, size_t first, size_t count, void *operand)
{
    OPERAND *numbers = operand;
    float *scales = (float *)(void *)((char *)operand + integer_number_bytes(depth));
    float turned[GROUP];

    for (size_t k = first; k < first + count; k += GROUP, values += GROUP) {
        turn(values, group_size(depth, GROUP, k), turned);
        scales[k / GROUP] = round_group(turned, group_size(depth, GROUP, k), numbers, k);
    }
    fill_quad(numbers, depth);
}

TARGET static void integer_take_rest(const float *values, size_t depth, size_t first, size_t count, const void *operand,
                                     void *rest)
{
    const OPERAND *taken = operand;
    const float *scales = (const float *)(const void *)((const char *)operand + integer_number_bytes(depth));
    OPERAND *numbers = rest;
    float *rest_scales = (float *)(void *)((char *)rest + integer_number_bytes(depth));
    float turned[GROUP];

    for (size_t k = first; k < first + count; k += GROUP, values += GROUP) {
        turn(values, group_size(depth, GROUP, k), turned);
        for (size_t i = 0; i < group_size(depth, GROUP, k); i++)
            turned[i] -= scales[k / GROUP] * (float)(taken[PLACE(k + i)] - ZERO);
        rest_scales[k / GROUP] = round_group(turned, group_size(depth, GROUP, k), numbers, k);
    }
    fill_quad(numbers, depth);
}

TARGET static void integer_slice(const struct slice *panel, size_t depth, const char *row, size_t in_stride,
                                 size_t rows, float *out, size_t out_stride, bool add, struct fetch *fetch)
{
    TILES(integer_tile)
}

static const struct numbers integer_numbers = {
    .group = GROUP,
    .weight_size = sizeof(int8_t),
    .number_size = sizeof(OPERAND),
    .weight_bytes = integer_weight_bytes,
    .number_bytes = integer_number_bytes,
    .multiply = integer_slice,
};

TARGET static void integer_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                    float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    sliced_multiply(&integer_numbers, panel, depth, in, in_stride, rows, out, out_stride, add, ahead);
}

static const struct format whole = {
    .name = "int8",
    .section = GROUP,
    .operand_bytes = integer_operand_bytes,
    .panel_bytes = integer_panel_bytes,
    .put_column = integer_put_column,
    .take = integer_take,
    .take_rest = integer_take_rest,
    .multiply = integer_multiply,
};
