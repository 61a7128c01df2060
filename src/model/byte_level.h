/*
 * byte_level.h - byte-level BPE, tokenizer.ggml.model = "gpt2"
 *
 * A pre-tokeniser cuts the text into pieces; a piece's bytes become tokens, then pairs merge by their rank. Where the
 * pre-tokeniser's convention says so, a piece that is a token as a whole is taken as such first.
 *
 * Threads: read-only once created.
 */
#ifndef HEADRACE_MODEL_BYTE_LEVEL_H
#define HEADRACE_MODEL_BYTE_LEVEL_H

#include "base/buffer.h"
#include "model/merge.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

struct byte_level;

/* `vocabulary` must outlive it. */
int byte_level_create(struct byte_level **created, const struct vocabulary *vocabulary, const struct gguf *gguf,
                      struct error *err);
void byte_level_destroy(struct byte_level *bytes);

/* Whether BOS stands before every sequence where the file does not say. */
bool byte_level_adds_bos(const struct byte_level *bytes);

/* `text` is well-formed UTF-8. */
int byte_level_encode(const struct byte_level *bytes, struct text text, struct merge *merge, struct tokens *out,
                      struct error *err);

/* Token of a byte alone, -1 when the vocabulary has none. */
int32_t byte_level_byte(const struct byte_level *bytes, uint8_t byte);

/* Appends the bytes of a normal token. */
void byte_level_decode(const struct byte_level *bytes, int32_t id, struct buffer *out);

#endif
