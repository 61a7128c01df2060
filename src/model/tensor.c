#include "model/gguf.h"

enum { BLOCK = 32, Q4_1_BYTES = 20, Q8_0_BYTES = 34 }; /* values and bytes of a quantised block */

const char *tensor_type_name(enum tensor_type type)
{
    switch (type) {
    case TENSOR_F32:
        return "F32";
    case TENSOR_F16:
        return "F16";
    case TENSOR_Q4_1:
        return "Q4_1";
    case TENSOR_Q8_0:
        return "Q8_0";
    }
    return "unknown";
}

size_t tensor_row_bytes(enum tensor_type type, size_t columns)
{
    if (columns > SIZE_MAX / 4)
        return 0;
    switch (type) {
    case TENSOR_F32:
        return columns * 4;
    case TENSOR_F16:
        return columns * 2;
    case TENSOR_Q4_1:
        return columns % BLOCK == 0 ? columns / BLOCK * Q4_1_BYTES : 0;
    case TENSOR_Q8_0:
        return columns % BLOCK == 0 ? columns / BLOCK * Q8_0_BYTES : 0;
    }
    return 0;
}

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

/* A block: scale d and least value m as halves, then 32 steps of 4 bits: the first 16 in the low halves of the bytes.
 */
static void row_q4_1(const uint8_t *block, size_t columns, float *out)
{
    for (size_t column = 0; column < columns; column += BLOCK, block += Q4_1_BYTES) {
        float scale = read_half(block);
        float least = read_half(block + 2);
        for (size_t i = 0; i < BLOCK / 2; i++) {
            uint8_t steps = block[4 + i];
            out[column + i] = scale * (float)(steps & 0x0f) + least;
            out[column + BLOCK / 2 + i] = scale * (float)(steps >> 4) + least;
        }
    }
}

/* A block: scale d as a half, then 32 signed bytes. */
static void row_q8_0(const uint8_t *block, size_t columns, float *out)
{
    for (size_t column = 0; column < columns; column += BLOCK, block += Q8_0_BYTES) {
        float scale = read_half(block);
        for (size_t i = 0; i < BLOCK; i++)
            out[column + i] = scale * (float)(int8_t)block[2 + i];
    }
}

void tensor_row(const struct tensor *tensor, size_t row, float *out)
{
    const uint8_t *data = tensor->data + row * tensor->row_bytes;
    switch (tensor->type) {
    case TENSOR_F32:
        memcpy(out, data, tensor->columns * sizeof *out);
        return;
    case TENSOR_F16:
        for (size_t i = 0; i < tensor->columns; i++)
            out[i] = read_half(data + 2 * i);
        return;
    case TENSOR_Q4_1:
        row_q4_1(data, tensor->columns, out);
        return;
    case TENSOR_Q8_0:
        row_q8_0(data, tensor->columns, out);
        return;
    }
}
