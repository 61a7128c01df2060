#include "model/tokenizer.h"

#include <stdlib.h>

#include "model/byte_level.h"
#include "model/gguf_file.h"
#include "model/sentencepiece.h"
#include "model/vocabulary.h"

struct tokenizer {
    struct vocabulary vocabulary;
    struct byte_level *bytes;     /* this ... */
    struct sentencepiece *pieces; /* ... or this, the other NULL */
    bool opens_with_blank;
    int32_t bos;
};

int tokens_append(struct tokens *tokens, int32_t id, struct error *err)
{
    if (array_reserve(&tokens->ids, &tokens->capacity, tokens->count + 1, sizeof *tokens->ids) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu tokens", tokens->count + 1);
    tokens->ids[tokens->count++] = id;
    return 0;
}

void tokens_free(struct tokens *tokens)
{
    free(tokens->ids);
    *tokens = (struct tokens){0};
}

/* `flag` holds what an absent key means. */
static int read_flag(const struct gguf *gguf, const char *key, bool *flag, struct error *err)
{
    return gguf_has(gguf, key) ? gguf_bool(gguf, key, flag, err) : 0;
}

/* Where the file is silent, SentencePiece's vocabularies open with BOS and a blank, byte-level ones mostly with
 * neither. */
static int read_conventions(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    bool is_sentencepiece = tokenizer->pieces != NULL, add_eos = false;
    bool add_bos = is_sentencepiece || byte_level_adds_bos(tokenizer->bytes);
    uint64_t bos;
    tokenizer->opens_with_blank = is_sentencepiece;
    if (read_flag(gguf, "tokenizer.ggml.add_bos_token", &add_bos, err) != 0 ||
        read_flag(gguf, "tokenizer.ggml.add_eos_token", &add_eos, err) != 0 ||
        read_flag(gguf, "tokenizer.ggml.add_space_prefix", &tokenizer->opens_with_blank, err) != 0)
        return -1;
    if (add_eos || (tokenizer->opens_with_blank && !is_sentencepiece))
        return gguf_fail(gguf, err, "key tokenizer.ggml.%s is true, which is not supported",
                         add_eos ? "add_eos_token" : "add_space_prefix");
    tokenizer->bos = -1;
    if (!add_bos)
        return 0;
    if (gguf_unsigned(gguf, "tokenizer.ggml.bos_token_id", 0, tokenizer->vocabulary.spellings.count - 1, &bos, err) !=
        0)
        return -1;
    tokenizer->bos = (int32_t)bos;
    return 0;
}

static int read_tokenizer(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    struct text model;
    if (gguf_text(gguf, "tokenizer.ggml.model", &model, err) != 0)
        return -1;
    bool is_sentencepiece = text_equal(model, text_of("llama"));
    if (!is_sentencepiece && !text_equal(model, text_of("gpt2")))
        return gguf_fail(gguf, err,
                         "key tokenizer.ggml.model is " TEXT_FORMAT "; supported: gpt2 (byte-level BPE), llama "
                         "(SentencePiece)",
                         TEXT_ARGS(text_prefix(model, 64)));
    if (vocabulary_read(&tokenizer->vocabulary, gguf, err) != 0)
        return -1;
    int created = is_sentencepiece ? sentencepiece_create(&tokenizer->pieces, &tokenizer->vocabulary, gguf, err)
                                   : byte_level_create(&tokenizer->bytes, &tokenizer->vocabulary, gguf, err);
    return created == 0 ? read_conventions(tokenizer, gguf, err) : -1;
}

int tokenizer_create(struct tokenizer **tokenizer, const struct gguf *gguf, struct error *err)
{
    *tokenizer = NULL;
    struct tokenizer *created = calloc(1, sizeof *created);
    if (created == NULL)
        return gguf_fail(gguf, err, "out of memory for a tokenizer");
    if (read_tokenizer(created, gguf, err) != 0) {
        tokenizer_destroy(created);
        return -1;
    }
    *tokenizer = created;
    return 0;
}

void tokenizer_destroy(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    byte_level_destroy(tokenizer->bytes);
    sentencepiece_destroy(tokenizer->pieces);
    vocabulary_free(&tokenizer->vocabulary);
    free(tokenizer);
}

/* The longest start of `text` that is well-formed UTF-8. */
static struct text well_formed(struct text text)
{
    uint32_t character;
    size_t size = 0, length;
    while ((length = text_code_point(text.data + size, text.size - size, &character)) > 0)
        size += length;
    return (struct text){text.data, size};
}

static int encode_well_formed(const struct tokenizer *tokenizer, struct text text, struct merge *merge,
                              struct tokens *out, struct error *err)
{
    if (text.size == 0)
        return 0;
    return tokenizer->bytes != NULL ? byte_level_encode(tokenizer->bytes, text, merge, out, err)
                                    : sentencepiece_encode(tokenizer->pieces, text, merge, out, err);
}

static int encode_byte(const struct tokenizer *tokenizer, uint8_t byte, struct tokens *out, struct error *err)
{
    int32_t id = tokenizer->bytes != NULL ? byte_level_byte(tokenizer->bytes, byte)
                                          : sentencepiece_byte(tokenizer->pieces, byte);
    return id < 0 ? 0 : tokens_append(out, id, err);
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct text text, struct tokens *out, struct error *err)
{
    if (text.size > INT32_MAX)
        return error_set(err, ERROR_BAD_INPUT, "a text of %zu bytes is too long to tokenise", text.size);
    size_t count = out->count;
    struct merge merge = {0};
    int result = 0;
    while (text.size > 0 && result == 0) {
        struct text part = well_formed(text);
        result = encode_well_formed(tokenizer, part, &merge, out, err);
        text.data += part.size;
        text.size -= part.size;
        if (text.size == 0 || result != 0)
            break;
        /* What is no UTF-8 goes by byte, and nothing merges across it. */
        result = encode_byte(tokenizer, (uint8_t)*text.data, out, err);
        text.data++;
        text.size--;
    }
    if (result != 0)
        out->count = count;
    merge_free(&merge);
    return result;
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, struct text spelling)
{
    return vocabulary_special(&tokenizer->vocabulary, spelling);
}

bool tokenizer_find_special(const struct tokenizer *tokenizer, struct text text, size_t *start, size_t *length,
                            int32_t *id)
{
    return vocabulary_find_special(&tokenizer->vocabulary, text, start, length, id);
}

int tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, struct buffer *out, struct error *err)
{
    const struct vocabulary *vocabulary = &tokenizer->vocabulary;
    if (id < 0 || (size_t)id >= vocabulary->spellings.count)
        return error_set(err, ERROR_FATAL, "token %d is out of range: the vocabulary has 0 to %zu", id,
                         vocabulary->spellings.count - 1);
    uint8_t type = vocabulary->types[id];
    if (tokenizer->bytes != NULL && type == TOKEN_NORMAL)
        byte_level_decode(tokenizer->bytes, id, out);
    else if (tokenizer->pieces != NULL && (type == TOKEN_NORMAL || type == TOKEN_BYTE))
        sentencepiece_decode(tokenizer->pieces, id, out);
    else
        buffer_append_text(out, vocabulary_spelling(vocabulary, (size_t)id));
    return buffer_check(out, "decoding tokens", err);
}

size_t tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary.spellings.count;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

struct text tokenizer_opening(const struct tokenizer *tokenizer)
{
    return text_of(tokenizer->opens_with_blank ? " " : "");
}
