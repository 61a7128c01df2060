#include "model/block.h"

#include <string.h>

/* Values of a small block; of a large one, and of its parts that share a scale. */
enum { SMALL = 32, LARGE = 256, PART = 32, SIX_BIT_PART = 16 };

/* Bytes of each field, in their order. */
enum {
    HALF = 2,
    SMALL_STEPS = 16,
    SMALL_HIGH_BITS = 4,
    SCALES = 12,
    LARGE_STEPS = 128,
    HIGH_BITS_5 = 32,
    HIGH_BITS_6 = 64
};

/* IEEE 754 binary16, little-endian. */
static float read_half(const uint8_t *bytes)
{
    uint32_t half = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
    uint32_t sign = (half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f;
    uint32_t fraction = half & 0x3ff;
    uint32_t bits;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in binary32 */
        float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    if (exponent == 0x1f)
        bits = sign | 0x7f800000 | fraction << 13;
    else
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void blocks_f32(const uint8_t *block, size_t count, float *out)
{
    memcpy(out, block, count * sizeof *out);
}

void blocks_f16(const uint8_t *block, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = read_half(block + HALF * i);
}

/* The upper half of a binary32. */
void blocks_bf16(const uint8_t *block, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)block[2 * i] << 16 | (uint32_t)block[2 * i + 1] << 24;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

/* Steps of 4 bits: the block's first 16 values in the low halves of the bytes, the others in the high ones. */
static void small_steps(const uint8_t *steps, float scale, float least, float *out)
{
    for (size_t i = 0; i < SMALL / 2; i++) {
        out[i] = scale * (float)(steps[i] & 0x0f) + least;
        out[SMALL / 2 + i] = scale * (float)(steps[i] >> 4) + least;
    }
}

/* Scale; steps around 8. */
void blocks_q4_0(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += HALF + SMALL_STEPS, out += SMALL) {
        float scale = read_half(block);
        small_steps(block + HALF, scale, -8 * scale, out);
    }
}

/* Scale and least value; steps. */
void blocks_q4_1(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += 2 * HALF + SMALL_STEPS, out += SMALL)
        small_steps(block + 2 * HALF, read_half(block), read_half(block + HALF), out);
}

/* The fifth bits, value by value, stand before the steps. */
static void small_steps_5(const uint8_t *bytes, float scale, float least, float *out)
{
    uint32_t high;
    memcpy(&high, bytes, sizeof high);
    const uint8_t *steps = bytes + SMALL_HIGH_BITS;
    for (size_t i = 0; i < SMALL / 2; i++) {
        uint32_t first = (steps[i] & 0x0fu) | (high >> i & 1) << 4;
        uint32_t second = (uint32_t)steps[i] >> 4 | (high >> (SMALL / 2 + i) & 1) << 4;
        out[i] = scale * (float)first + least;
        out[SMALL / 2 + i] = scale * (float)second + least;
    }
}

/* Scale; steps around 16. */
void blocks_q5_0(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += HALF + SMALL_HIGH_BITS + SMALL_STEPS, out += SMALL) {
        float scale = read_half(block);
        small_steps_5(block + HALF, scale, -16 * scale, out);
    }
}

/* Scale and least value; steps. */
void blocks_q5_1(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += 2 * HALF + SMALL_HIGH_BITS + SMALL_STEPS, out += SMALL)
        small_steps_5(block + 2 * HALF, read_half(block), read_half(block + HALF), out);
}

/* Scale; signed bytes. */
void blocks_q8_0(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += HALF + SMALL, out += SMALL) {
        float scale = read_half(block);
        for (size_t i = 0; i < SMALL; i++)
            out[i] = scale * (float)(int8_t)block[HALF + i];
    }
}

/* Eight scales and eight least values of 6 bits in 12 bytes: the last four of each keep their upper two bits in the
 * upper two of the first four. */
static void unpack_scales(const uint8_t *packed, uint8_t scales[8], uint8_t least[8])
{
    for (size_t i = 0; i < 4; i++) {
        scales[i] = packed[i] & 0x3f;
        least[i] = packed[i + 4] & 0x3f;
        scales[i + 4] = (uint8_t)((packed[i + 8] & 0x0f) | (packed[i] >> 6) << 4);
        least[i + 4] = (uint8_t)(packed[i + 8] >> 4 | (packed[i + 4] >> 6) << 4);
    }
}

/* What Q4_K and Q5_K share: scale of the scales, scale of the least values, both; then, of Q5_K only, the fifth bits.
 */
static void large_block(const uint8_t *block, const uint8_t *high, const uint8_t *steps, float *out)
{
    float scale = read_half(block), least_scale = read_half(block + HALF);
    uint8_t scales[8], least[8];
    unpack_scales(block + 2 * HALF, scales, least);
    for (size_t part = 0; part < LARGE / PART; part++, out += PART) {
        const uint8_t *at = steps + part / 2 * PART; /* two parts share bytes: low halves, high halves */
        float part_scale = scale * (float)scales[part], part_least = least_scale * (float)least[part];
        for (size_t i = 0; i < PART; i++) {
            uint32_t step = part % 2 == 0 ? at[i] & 0x0fu : (uint32_t)at[i] >> 4;
            if (high != NULL)
                step |= ((uint32_t)high[i] >> part & 1) << 4;
            out[i] = part_scale * (float)step - part_least;
        }
    }
}

void blocks_q4_k(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += 2 * HALF + SCALES + LARGE_STEPS, out += LARGE)
        large_block(block, NULL, block + 2 * HALF + SCALES, out);
}

void blocks_q5_k(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, block += 2 * HALF + SCALES + HIGH_BITS_5 + LARGE_STEPS, out += LARGE) {
        const uint8_t *high = block + 2 * HALF + SCALES;
        large_block(block, high, high + HIGH_BITS_5, out);
    }
}

/*
 * A half of a large block, eight parts of 16 values: the low bits of the first four and of the last four lie in the
 * same bytes, the upper bits of every other two. Steps around 32.
 */
static void half_block_6(const uint8_t *low, const uint8_t *high, const uint8_t *scales, float scale, float *out)
{
    for (size_t part = 0; part < 8; part++, out += SIX_BIT_PART) {
        const uint8_t *four = low + part % 4 * SIX_BIT_PART, *two = high + part % 2 * SIX_BIT_PART;
        unsigned four_shift = part < 4 ? 0 : 4, two_shift = (unsigned)part / 2 * 2;
        float part_scale = scale * (float)(int8_t)scales[part];
        for (size_t i = 0; i < SIX_BIT_PART; i++) {
            int step = (four[i] >> four_shift & 0x0f) | (two[i] >> two_shift & 3) << 4;
            out[i] = part_scale * (float)(step - 32);
        }
    }
}

/* Low four bits, upper two bits, 16 signed scales, the scale of the scales. */
void blocks_q6_k(const uint8_t *block, size_t count, float *out)
{
    for (; count > 0; count--, out += LARGE) {
        const uint8_t *low = block, *high = low + LARGE_STEPS, *scales = high + HIGH_BITS_6;
        float scale = read_half(scales + LARGE / SIX_BIT_PART);
        half_block_6(low, high, scales, scale, out);
        half_block_6(low + LARGE_STEPS / 2, high + HIGH_BITS_6 / 2, scales + 8, scale, out + LARGE / 2);
        block = scales + LARGE / SIX_BIT_PART + HALF;
    }
}
