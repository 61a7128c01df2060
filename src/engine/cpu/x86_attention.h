/*
 * x86_attention.h - attention on AVX-512
 *
 * Attention in 16-bit integers, whose products take half the time of those of floats. Each query, key and value has its
 * own scale. That of a value cannot be taken out of a sum over keys: its logarithm is added to the score instead, so
 * that the shares weigh the integers, and the sum of the shares is that of shares / scales.
 *
 * Panels: pairs (depth / 2, PANEL, 2); then for keys their scales (PANEL), for values the logarithms to base 2 of their
 * scales and 1 / scales (64 each, in the first of a head's panels). Operands: numbers; from the next line on the scale.
 *
 * No include guard: x86_avx512.c includes it behind x86_words.h.
 */

enum { SHARE_BITS = 12 };

static size_t pair_operand_bytes(size_t depth)
{
    return pair_number_bytes(depth) + CACHE_LINE;
}

static size_t pair_panel_bytes(size_t depth)
{
    return pair_weight_bytes(depth) + 2 * PANEL * sizeof(float);
}

/* The largest number such that a sum of `depth` products of two stays below 2^31. */
static float most_of_pair(size_t depth)
{
    return fminf(floorf(sqrtf(0x1p31f / (float)(depth + depth % 2))) - 1.0f, 32767.0f);
}

/* A key. */
TARGET static void pair_put_column(void *panel, size_t depth, size_t column, const float *values)
{
    float *scales = (float *)(void *)((char *)panel + pair_weight_bytes(depth));
    char *to = (char *)panel + 2 * column * sizeof(int16_t);
    float size = greatest_magnitude(values, depth), most = most_of_pair(depth);
    float inverse = size > 0.0f ? most / size : 0.0f;

    scales[column] = size / most;
    put_pairs(values, depth, inverse, to);
}

/* Where key k of a tile stands among the pairs: the shares are packed from two vectors of 32-bit numbers at once. */
static size_t pair_place(size_t k)
{
    return k / 32 * 32 + k % 16 / 4 * 8 + k % 32 / 16 * 4 + k % 4;
}

/* A value. One of zeros must not let the logarithm become infinite. */
TARGET static void pair_put_row(void *panels, size_t depth, size_t k, const float *values, size_t count)
{
    float *logarithms = (float *)(void *)((char *)panels + pair_weight_bytes(depth)), *inverses = logarithms + PANEL;
    int16_t *to = (int16_t *)panels + pair_place(k) / 2 * 2 * PANEL + pair_place(k) % 2;
    float size = greatest_magnitude(values, count), most = most_of_pair(depth);
    float scale = size < 0x1p-60f ? 0x1p-60f : size / most, inverse = 1.0f / scale;

    logarithms[k] = log2f(scale);
    inverses[k] = inverse;
    for (size_t c = 0; c < count; c += PANEL, to += pair_panel_bytes(depth) / sizeof *to) {
        size_t here = count - c < PANEL ? count - c : PANEL;
        int16_t numbers[PANEL];
        round_stretch(values + c, here, inverse, numbers);
        for (size_t i = 0; i < here; i++)
            to[2 * i] = numbers[i];
    }
}

/* A query, as a whole; its scale makes scores powers of 2. */
TARGET static void pair_take(const float *values, size_t depth, size_t first, size_t count, void *operand)
{
    (void)first, (void)count;
    int16_t *numbers = operand;
    float size = greatest_magnitude(values, depth), most = most_of_pair(depth);

    for (size_t k = 0; k < depth; k += PANEL)
        round_stretch(values + k, depth - k < PANEL ? depth - k : PANEL, size > 0.0f ? most / size : 0.0f, numbers + k);
    if (depth % 2 != 0)
        numbers[depth] = 0;
    *(float *)(void *)((char *)operand + pair_number_bytes(depth)) = size / most * 0x1.715476p+0f;
}

/* 2^x to 2^-13, for x from -126 on; below, as if it were -126. NaN stays NaN. 0 where the mask has no bit. */
TARGET INLINE __m512 power_of_2(__mmask16 mask, __m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    __m512 nearest = _mm512_sub_ps(_mm512_add_ps(x, _mm512_set1_ps(0x1.8p23f)), _mm512_set1_ps(0x1.8p23f));
    __m512 part = _mm512_sub_ps(x, nearest);
    __m512 sum = _mm512_set1_ps(0x1.c76b6ep-5f);
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0x1.f025dcp-3f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0x1.62e98p-1f));
    sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
    return _mm512_maskz_scalef_ps(mask, sum, nearest);
}

/* Rows that meet a tile of 64 keys, and what becomes of them there. */
struct meeting {
    float scores[ROWS * PANEL];   /* to base 2, with the logarithms of the values' scales */
    int16_t shares[ROWS * PANEL]; /* up to 2^12, in the order of pair_place() */
    float factors[16];            /* that scale down what each row has summed up so far */
} __attribute__((aligned(64)));

/* `size` as for attend(). */
TARGET INLINE void score_pairs(const char *keys, const float *logarithms, size_t size, const char *queries, size_t rows,
                               struct meeting *meeting)
{
    const float *scales = (const float *)(const void *)(keys + pair_weight_bytes(size));
    size_t stride = pair_operand_bytes(size);
    __m512i sum[ROWS][VECTORS];

    sum_pairs(keys, size, queries, stride, rows, sum);
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        const char *scale_place = queries + r * stride + pair_number_bytes(size);
        __m512 scale = _mm512_set1_ps(*(const float *)(const void *)scale_place);
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][v]), scale);
            score = _mm512_fmadd_ps(score, _mm512_load_ps(scales + v * LANES), _mm512_load_ps(logarithms + v * LANES));
            _mm512_store_ps(meeting->scores + r * PANEL + v * LANES, score);
        }
    }
}

/* Which of a row's keys count. */
static uint64_t seen_keys(const struct piece *piece, size_t r)
{
    return piece->counts[r] < 64 ? ((uint64_t)1 << piece->counts[r]) - 1 : UINT64_MAX;
}

/* Brings the rows' greatest scores up to date. */
TARGET INLINE void raise_greatest(const struct piece *piece, size_t rows, struct meeting *meeting)
{
    __m512 differences = _mm512_setzero_ps();
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        uint64_t seen = seen_keys(piece, r);
        float before = piece->rows_so_far[r].greatest;
        __m512 most = _mm512_set1_ps(before);
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            __m512 score = _mm512_load_ps(meeting->scores + r * PANEL + v * LANES);
            most = _mm512_mask_max_ps(most, (__mmask16)(seen >> v * LANES), most, score);
        }
        float greatest = _mm512_reduce_max_ps(most);
        piece->rows_so_far[r].greatest = greatest;
        differences = _mm512_mask_mov_ps(differences, (__mmask16)(1u << r), _mm512_set1_ps(before - greatest));
    }
    _mm512_store_ps(meeting->factors, power_of_2(0xffff, differences));
}

TARGET INLINE void share_pairs(const struct piece *piece, const float *inverses, size_t rows, struct meeting *meeting)
{
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        struct softmax *row = &piece->rows_so_far[r];
        uint64_t seen = seen_keys(piece, r);
        __m512 level = _mm512_set1_ps(row->greatest - SHARE_BITS);
        __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(row->sums), _mm512_set1_ps(meeting->factors[r]));
        __m512i numbers[VECTORS];
        UNROLL for (size_t v = 0; v < VECTORS; v++)
        {
            __mmask16 mask = (__mmask16)(seen >> v * LANES);
            __m512 score = _mm512_load_ps(meeting->scores + r * PANEL + v * LANES);
            __m512 share = power_of_2(mask, _mm512_sub_ps(score, level));
            sum = _mm512_mask3_fmadd_ps(share, _mm512_load_ps(inverses + v * LANES), sum, mask);
            numbers[v] = _mm512_cvtps_epi32(share);
        }
        UNROLL for (size_t v = 0; v < VECTORS; v += 2)
            _mm512_store_si512(meeting->shares + r * PANEL + v * LANES, _mm512_packs_epi32(numbers[v], numbers[v + 1]));
        _mm512_storeu_ps(row->sums, sum);
    }
}

TARGET INLINE void attend_rows(const char *keys, const char *values, size_t size, const char *queries,
                               const struct piece *piece, size_t rows)
{
    const float *logarithms = (const float *)(const void *)(values + pair_weight_bytes(PANEL));
    size_t limit = (piece->counts[rows - 1] + 31) / 32 * 32;
    struct meeting meeting;
    __m512i sum[ROWS][VECTORS];

    score_pairs(keys, logarithms, size, queries, rows, &meeting);
    raise_greatest(piece, rows, &meeting);
    share_pairs(piece, logarithms + PANEL, rows, &meeting);
    for (size_t c = 0; c < piece->width; c += PANEL, values += pair_panel_bytes(PANEL)) {
        sum_pairs(values, limit, (const char *)meeting.shares, PANEL * sizeof(int16_t), rows, sum);
        UNROLL for (size_t r = 0; r < rows; r++)
        {
            __m512 factor = _mm512_set1_ps(meeting.factors[r]);
            UNROLL for (size_t v = 0; v < VECTORS; v++)
            {
                float *out = piece->out + r * piece->out_stride + c + v * LANES;
                _mm512_store_ps(out, _mm512_fmadd_ps(_mm512_load_ps(out), factor, _mm512_cvtepi32_ps(sum[r][v])));
            }
        }
    }
}

TARGET static void pair_attend(const void *keys, const void *values, size_t size, const void *queries,
                               const struct piece *piece)
{
    switch (piece->rows) {
    case 6:
        attend_rows(keys, values, size, queries, piece, 6);
        break;
    case 5:
        attend_rows(keys, values, size, queries, piece, 5);
        break;
    case 4:
        attend_rows(keys, values, size, queries, piece, 4);
        break;
    case 3:
        attend_rows(keys, values, size, queries, piece, 3);
        break;
    case 2:
        attend_rows(keys, values, size, queries, piece, 2);
        break;
    case 1:
        attend_rows(keys, values, size, queries, piece, 1);
        break;
    }
}

static const struct format shorts = {
    .name = "int16",
    .operand_bytes = pair_operand_bytes,
    .panel_bytes = pair_panel_bytes,
    .put_column = pair_put_column,
    .put_row = pair_put_row,
    .take = pair_take,
    .attend = pair_attend,
};
