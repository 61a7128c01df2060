/*
 * tokenizer.h - text to token ids and back: byte-level BPE, and SentencePiece with byte fallback
 *
 * Which of the two, its vocabulary and its conventions come from the GGUF file (tokenizer.ggml.*). Byte-level BPE has
 * merges and a pre-tokeniser (gpt-2, smollm, llama-bpe, qwen2), whose regular expression runs on PCRE2; SentencePiece
 * has scores. Special are tokens of the types control, unknown and user-defined. Text is taken as it stands: Qwen2's
 * own tokenizer composes accents first (NFC), GGUF files and we leave that to the text. An unknown model or
 * pre-tokeniser is an error, never a guess.
 *
 * Threads: tokenizer_encode() and the rest may be called from any thread.
 */
#ifndef HEADRACE_MODEL_TOKENIZER_H
#define HEADRACE_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "model/gguf.h"

struct tokens {
    int32_t *ids;
    size_t count;
    size_t capacity;
};

/* A zeroed `struct tokens` is an empty one. */
int tokens_append(struct tokens *tokens, int32_t id, struct error *err);
void tokens_free(struct tokens *tokens);

struct tokenizer;

/* ERROR_FATAL names the file, the key and what is supported. Copies what it needs from the file. */
int tokenizer_create(struct tokenizer **tokenizer, const struct gguf *gguf, struct error *err);
void tokenizer_destroy(struct tokenizer *tokenizer);

/*
 * Appends the ids of plain text. Special tokens (control tokens of the file, such as <|im_start|>) are never made from
 * text, however it is spelt: they are tokenised as the characters they are written with. Bytes that are no UTF-8 are
 * tokenised byte by byte. A byte that the vocabulary has no token for is left out, as the original tokenizers do (real
 * vocabularies may lack some control characters and the bytes that UTF-8 never uses). No BOS is added. O(n log n).
 * On an error `out` is as it was.
 */
int tokenizer_encode(const struct tokenizer *tokenizer, struct text text, struct tokens *out, struct error *err);

/* Id of the special token spelt exactly so, -1 when there is none. */
int32_t tokenizer_special(const struct tokenizer *tokenizer, struct text spelling);

/*
 * The first special token in `text`: where it starts, its length and id; false when there is none. For templates, which
 * may hold special tokens; the earliest start wins, then the longest.
 */
bool tokenizer_find_special(const struct tokenizer *tokenizer, struct text text, size_t *start, size_t *length,
                            int32_t *id);

/* Appends the bytes that a token stands for; special ones as they are spelt. An id out of range is an error. */
int tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, struct buffer *out, struct error *err);

size_t tokenizer_size(const struct tokenizer *tokenizer);

/* Id put before every sequence by this model's convention, -1 when it has none. */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);

/*
 * What this model's convention puts before plain text that opens a sequence or stands right behind a special token: a
 * blank (most of SentencePiece's vocabularies) or nothing. Like BOS it is the caller's to put there; never absent.
 */
struct text tokenizer_opening(const struct tokenizer *tokenizer);

#endif
