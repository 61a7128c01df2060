/*
 * slices.h - the product of INT8, group by group
 *
 * A group of a panel stays in the first-level cache while some rows go past it; their sums are kept in float meanwhile.
 *
 * No include guard. Before it comes integers.h and
 *   integer_tile(slice, depth, in, in_stride, rows, out, out_stride, add)   a group's part of the product of a tile,
 *                                                                           before the columns' scales
 */

enum { SLICE_ROWS = 48 };

TARGET static void integer_slice(const struct slice *panel, size_t depth, const char *row, size_t in_stride,
                                 size_t rows, float *out, size_t out_stride, bool add,
                                 struct fetch *fetch){TILES(integer_tile)}

TARGET static void integer_rows(const char *panel, size_t depth, const char *in, size_t in_stride, size_t rows,
                                float *out, size_t out_stride, bool add, struct fetch *fetch)
{
    const float *scales = (const float *)(const void *)(panel + integer_weight_bytes(depth));
    float sums[SLICE_ROWS * PANEL] __attribute__((aligned(64)));

    for (size_t k = 0; k < depth; k += GROUP) {
        const char *numbers = in + k * sizeof(OPERAND);
        const struct slice slice = {
            .weights = panel + k * PANEL,
            .sums = (const int32_t *)(const void *)(scales + (1 + k / GROUP) * PANEL),
            .scale_offset = integer_number_bytes(depth) + k / GROUP * sizeof(float) - k * sizeof(OPERAND),
        };
        integer_slice(&slice, group_size(depth, k), numbers, in_stride, rows, sums, PANEL, k > 0, fetch);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < PANEL; c += LANES) {
            float *to = out + r * out_stride + c;
            store(to, MULTIPLY_ADD(load(sums + r * PANEL + c), load(scales + c), add ? load(to) : (lanes){0}));
        }
}

TARGET static void integer_multiply(const void *panel, size_t depth, const void *in, size_t in_stride, size_t rows,
                                    float *out, size_t out_stride, bool add, const struct ahead *ahead)
{
    struct fetch fetch = start_fetch(ahead, tiles_of(rows) * groups_of(depth));
    for (size_t r = 0; r < rows; r += SLICE_ROWS)
        integer_rows(panel, depth, (const char *)in + r * in_stride, in_stride,
                     rows - r < SLICE_ROWS ? rows - r : SLICE_ROWS, out + r * out_stride, out_stride, add, &fetch);
}
