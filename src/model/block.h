/*
 * block.h - the number formats of GGUF's tensors, a block as floats
 *
 * Each reads `count` blocks that lie one behind the other, at any alignment, little-endian.
 */
#ifndef HEADRACE_MODEL_BLOCK_H
#define HEADRACE_MODEL_BLOCK_H

#include <stddef.h>
#include <stdint.h>

/* A value a block. */
void blocks_f32(const uint8_t *block, size_t count, float *out);
void blocks_f16(const uint8_t *block, size_t count, float *out);
void blocks_bf16(const uint8_t *block, size_t count, float *out);

/* 32 values a block. */
void blocks_q4_0(const uint8_t *block, size_t count, float *out);
void blocks_q4_1(const uint8_t *block, size_t count, float *out);
void blocks_q5_0(const uint8_t *block, size_t count, float *out);
void blocks_q5_1(const uint8_t *block, size_t count, float *out);
void blocks_q8_0(const uint8_t *block, size_t count, float *out);

/* 256 values a block. */
void blocks_q4_k(const uint8_t *block, size_t count, float *out);
void blocks_q5_k(const uint8_t *block, size_t count, float *out);
void blocks_q6_k(const uint8_t *block, size_t count, float *out);

#endif
