/*
 * slices.h - the product of integers whose operands have a scale for each group of values
 *
 * A group of a panel stays in the first-level cache while some rows go past it; their sums are kept in float meanwhile.
 *
 * No include guard. Before it comes lanes.h.
 */

enum { SLICE_ROWS = 48 };

/* A group of a panel, as a tile sees it. */
struct slice {
    const char *weights;
    const int32_t *sums; /* (PANEL) where a tile's sums of the group start from; of INT8 alone */
    size_t scale_offset; /* bytes from an operand's first number of the group to the group's scale */
};

/* A group's part of the product, before the columns' scales. */
typedef void slice_product(const struct slice *slice, size_t depth, const char *in, size_t in_stride, size_t rows,
                           float *out, size_t out_stride, bool add, struct fetch *fetch);

/*
 * How they lie. Panels: weights (depth, PANEL) in some order; the columns' scales (PANEL); sums for each group (PANEL),
 * of INT8 alone. Operands: numbers; the groups' scales.
 */
struct numbers {
    size_t group;
    size_t weight_size, number_size; /* bytes of one */
    size_t (*weight_bytes)(size_t depth), (*number_bytes)(size_t depth);
    slice_product *multiply;
};

static size_t groups_of(size_t depth, size_t group)
{
    return (depth + group - 1) / group;
}

static size_t group_size(size_t depth, size_t group, size_t first)
{
    return depth - first < group ? depth - first : group;
}

/* NaN when one of them is. */
static float larger(float a, float b)
{
    return a > b || isnan(a) ? a : b;
}

TARGET static void sliced_rows(const struct numbers *numbers, const char *panel, size_t depth, const char *in,
                               size_t in_stride, size_t rows, float *out, size_t out_stride, bool add,
                               struct fetch *fetch)
{
    const float *scales = (const float *)(const void *)(panel + numbers->weight_bytes(depth));
    float sums[SLICE_ROWS * PANEL] __attribute__((aligned(64)));
    size_t group = numbers->group, number_size = numbers->number_size;

    for (size_t k = 0; k < depth; k += group) {
        const struct slice slice = {
            .weights = panel + k * PANEL * numbers->weight_size,
            .sums = (const int32_t *)(const void *)(scales + (1 + k / group) * PANEL),
            .scale_offset = numbers->number_bytes(depth) + k / group * sizeof(float) - k * number_size,
        };
        numbers->multiply(&slice, group_size(depth, group, k), in + k * number_size, in_stride, rows, sums, PANEL,
                          k > 0, fetch);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < PANEL; c += LANES) {
            float *to = out + r * out_stride + c;
            store(to, MULTIPLY_ADD(load(sums + r * PANEL + c), load(scales + c), add ? load(to) : (lanes){0}));
        }
}

TARGET static void sliced_multiply(const struct numbers *numbers, const void *panel, size_t depth, const void *in,
                                   size_t in_stride, size_t rows, float *out, size_t out_stride, bool add,
                                   const struct ahead *ahead)
{
    struct fetch fetch = start_fetch(ahead, tiles_of(rows) * groups_of(depth, numbers->group));
    for (size_t r = 0; r < rows; r += SLICE_ROWS)
        sliced_rows(numbers, panel, depth, (const char *)in + r * in_stride, in_stride,
                    rows - r < SLICE_ROWS ? rows - r : SLICE_ROWS, out + r * out_stride, out_stride, add, &fetch);
}
