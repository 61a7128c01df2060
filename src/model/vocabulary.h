/*
 * vocabulary.h - the tokens of a GGUF file: how they are spelt and of what type they are
 *
 * Threads: read-only once read.
 */
#ifndef HEADRACE_MODEL_VOCABULARY_H
#define HEADRACE_MODEL_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"
#include "base/text.h"
#include "model/gguf.h"

/* The numbers of tokenizer.ggml.token_type. */
enum token_type { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

struct vocabulary {
    struct table spellings; /* a spelling's number is its token's id; none is empty */
    uint8_t *types;         /* (spellings.count) enum token_type */
};

/* On an error, too, it is for vocabulary_free(). */
int vocabulary_read(struct vocabulary *vocabulary, const struct gguf *gguf, struct error *err);
void vocabulary_free(struct vocabulary *vocabulary);

/* Id of the token of that spelling and type, -1 when there is none. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, struct text spelling, enum token_type type);

/* The same among special tokens: control, unknown, user-defined. */
int32_t vocabulary_special(const struct vocabulary *vocabulary, struct text spelling);

/* See tokenizer_find_special(). */
bool vocabulary_find_special(const struct vocabulary *vocabulary, struct text text, size_t *start, size_t *length,
                             int32_t *id);

static inline struct text vocabulary_spelling(const struct vocabulary *vocabulary, size_t id)
{
    return table_key(&vocabulary->spellings, (uint32_t)id);
}

#endif
