/* conventions.h - a tokenizer of every convention, on the small vocabularies of tests/golden/tokenizers.json */
#ifndef HEADRACE_TESTS_CONVENTIONS_H
#define HEADRACE_TESTS_CONVENTIONS_H

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "model/gguf_bytes.h"
#include "model/tokenizer.h"

static const char *const conventions[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "sentencepiece"};
enum { CONVENTIONS = sizeof conventions / sizeof *conventions, SENTENCEPIECE = CONVENTIONS - 1 };

static inline void put_texts(struct gguf_bytes *bytes, const char *key, const json_t *texts)
{
    put_key_array(bytes, key, 8, json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++)
        put_string(&bytes->keys, json_string_value(json_array_get(texts, i)));
}

static inline void put_pieces(struct gguf_bytes *bytes, const json_t *pieces)
{
    const json_t *scores = json_object_get(pieces, "scores"), *types = json_object_get(pieces, "types");
    put_key_text(bytes, "tokenizer.ggml.model", "llama");
    put_texts(bytes, "tokenizer.ggml.tokens", json_object_get(pieces, "tokens"));
    put_key_array(bytes, "tokenizer.ggml.scores", 6, json_array_size(scores));
    for (size_t i = 0; i < json_array_size(scores); i++) {
        float score = (float)json_number_value(json_array_get(scores, i));
        buffer_append(&bytes->keys, &score, sizeof score);
    }
    put_key_array(bytes, "tokenizer.ggml.token_type", 5, json_array_size(types));
    for (size_t i = 0; i < json_array_size(types); i++)
        put_u32(&bytes->keys, (uint32_t)json_integer_value(json_array_get(types, i)));
    put_key_u32(bytes, "tokenizer.ggml.bos_token_id", (uint32_t)json_integer_value(json_object_get(pieces, "bos")));
}

static inline void put_byte_level(struct gguf_bytes *bytes, const json_t *byte_level, const char *pretokenizer)
{
    const json_t *tokens = json_object_get(byte_level, "tokens");
    put_key_text(bytes, "tokenizer.ggml.model", "gpt2");
    put_key_text(bytes, "tokenizer.ggml.pre", pretokenizer);
    put_texts(bytes, "tokenizer.ggml.tokens", tokens);
    put_texts(bytes, "tokenizer.ggml.merges", json_object_get(byte_level, "merges"));
    put_key_array(bytes, "tokenizer.ggml.token_type", 5, json_array_size(tokens));
    for (size_t i = 0; i < json_array_size(tokens); i++)
        put_u32(&bytes->keys, 1);
    put_key_u32(bytes, "tokenizer.ggml.bos_token_id", 0);
}

/* Of conventions[index]; never NULL. */
static inline struct tokenizer *convention_tokenizer(const json_t *golden, size_t index)
{
    struct gguf_bytes bytes = {0};
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct error err;
    size_t size;
    if (index == SENTENCEPIECE)
        put_pieces(&bytes, json_object_get(golden, "sentencepiece"));
    else
        put_byte_level(&bytes, json_object_get(golden, "byte_level"), conventions[index]);
    uint8_t *file = finish_bytes(&bytes, &size);
    if (gguf_open_memory(&gguf, file, size, conventions[index], &err) != 0 ||
        tokenizer_create(&tokenizer, gguf, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    gguf_close(gguf);
    free(file);
    return tokenizer;
}

#endif
