/*
 * sentencepiece.h - SentencePiece's BPE with byte fallback, tokenizer.ggml.model = "llama"
 *
 * The text's characters, blanks spelt U+2581, are joined as long as two neighbours together are spelt like a token: the
 * one with the highest score first (Kudo, Richardson 2018; sentencepiece's bpe_model.cc). What is no token in the end
 * becomes the tokens of its bytes. Text is taken as it stands: a file that wants it normalised first is refused.
 *
 * Threads: read-only once created.
 */
#ifndef HEADRACE_MODEL_SENTENCEPIECE_H
#define HEADRACE_MODEL_SENTENCEPIECE_H

#include "base/buffer.h"
#include "model/merge.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

struct sentencepiece;

/* `vocabulary` must outlive it. */
int sentencepiece_create(struct sentencepiece **created, const struct vocabulary *vocabulary, const struct gguf *gguf,
                         struct error *err);
void sentencepiece_destroy(struct sentencepiece *pieces);

/* `text` is well-formed UTF-8. */
int sentencepiece_encode(const struct sentencepiece *pieces, struct text text, struct merge *merge, struct tokens *out,
                         struct error *err);

/* Token of a byte alone. */
int32_t sentencepiece_byte(const struct sentencepiece *pieces, uint8_t byte);

/* Appends the bytes of a normal token, or the byte of a byte's. */
void sentencepiece_decode(const struct sentencepiece *pieces, int32_t id, struct buffer *out);

#endif
