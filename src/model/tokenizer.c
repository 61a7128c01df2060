#include "model/tokenizer.h"

#include <stdlib.h>

#include "base/table.h"
#include "model/bpe.h"
#include "model/gguf_file.h"
#include "model/pretokenizer.h"

/* The numbers of tokenizer.ggml.token_type. */
enum token_type { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

enum { ALPHABET = 0x144 }; /* one above the last character that stands for a byte */

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";
static const char merges_key[] = "tokenizer.ggml.merges";

struct tokenizer {
    struct table spellings; /* a spelling's number is its token's id */
    uint8_t *types;         /* (spellings.count) enum token_type */
    struct bpe bpe;
    struct pretokenizer *pretokenizer;
    uint32_t alphabet[256];           /* character a byte is spelt with */
    int16_t alphabet_bytes[ALPHABET]; /* the other way, -1: none */
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

/* GPT-2 spells a byte as itself where Latin-1 has a visible character, else as the next free one from U+0100 on. */
static void fill_alphabet(struct tokenizer *tokenizer)
{
    uint32_t free_character = 0x100;
    for (size_t i = 0; i < ALPHABET; i++)
        tokenizer->alphabet_bytes[i] = -1;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool visible = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
        uint32_t character = visible ? byte : free_character++;
        tokenizer->alphabet[byte] = character;
        tokenizer->alphabet_bytes[character] = (int16_t)byte;
    }
}

/* Takes one character off `spelling`; the byte it stands for, -1 when it is none of the alphabet. */
static int next_byte(const struct tokenizer *tokenizer, struct text *spelling)
{
    uint32_t character;
    size_t length = text_code_point(spelling->data, spelling->size, &character);
    if (length == 0 || character >= ALPHABET)
        return -1;
    spelling->data += length;
    spelling->size -= length;
    return tokenizer->alphabet_bytes[character];
}

static bool is_spelt_in_bytes(const struct tokenizer *tokenizer, struct text spelling)
{
    while (spelling.size > 0)
        if (next_byte(tokenizer, &spelling) < 0)
            return false;
    return true;
}

static int read_tokens(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    size_t count, type_count;
    if (gguf_text_array(gguf, tokens_key, &count, err) != 0 || gguf_int_array(gguf, types_key, &type_count, err) != 0)
        return -1;
    if (count == 0 || count > INT32_MAX || type_count != count)
        return gguf_fail(gguf, err, "key %s has %zu tokens, key %s %zu types: must be as many, at least one",
                         tokens_key, count, types_key, type_count);
    tokenizer->types = malloc(count);
    if (tokenizer->types == NULL)
        return gguf_fail(gguf, err, "out of memory for %zu tokens", count);
    for (size_t id = 0; id < count; id++) {
        struct text spelling = gguf_text_at(gguf, tokens_key, id);
        int64_t type = gguf_int_at(gguf, types_key, id);
        if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
            return gguf_fail(gguf, err, "token %zu is of type %lld; supported: %d to %d", id, (long long)type,
                             TOKEN_NORMAL, TOKEN_BYTE);
        if (spelling.size == 0 || (type == TOKEN_NORMAL && !is_spelt_in_bytes(tokenizer, spelling)))
            return gguf_fail(gguf, err, "token %zu is not spelt in the characters of byte-level BPE", id);
        uint32_t added = table_add(&tokenizer->spellings, spelling);
        if (added == TABLE_NONE)
            return gguf_fail(gguf, err, "out of memory for %zu tokens", count);
        if (added != id)
            return gguf_fail(gguf, err, "tokens %u and %zu are spelt alike", (unsigned)added, id);
        tokenizer->types[id] = (uint8_t)type;
    }
    return 0;
}

/* Id of a token that text may become: special tokens are none, whatever the file says. */
static int32_t find_normal(const struct tokenizer *tokenizer, struct text spelling)
{
    uint32_t id = table_find(&tokenizer->spellings, spelling);
    return id == TABLE_NONE || tokenizer->types[id] != TOKEN_NORMAL ? -1 : (int32_t)id;
}

static void find_bytes(struct tokenizer *tokenizer)
{
    for (size_t byte = 0; byte < 256; byte++) {
        char spelling[4];
        size_t size = text_encode(tokenizer->alphabet[byte], spelling);
        tokenizer->bpe.byte_ids[byte] = find_normal(tokenizer, (struct text){spelling, size});
    }
}

/* `joined` is scratch memory. */
static int read_merge(struct tokenizer *tokenizer, const struct gguf *gguf, size_t rank, struct buffer *joined,
                      struct error *err)
{
    struct text merge = gguf_text_at(gguf, merges_key, rank);
    const char *blank = merge.size > 0 ? memchr(merge.data, ' ', merge.size) : NULL;
    if (blank == NULL)
        return gguf_fail(gguf, err, "merge %zu is no pair of tokens with a blank between", rank);
    struct text left = {merge.data, (size_t)(blank - merge.data)};
    struct text right = {blank + 1, merge.size - left.size - 1};
    buffer_clear(joined);
    buffer_append_text(joined, left);
    buffer_append_text(joined, right);
    if (buffer_check(joined, "reading merges", err) != 0)
        return -1;
    int32_t left_id = find_normal(tokenizer, left);
    int32_t right_id = find_normal(tokenizer, right);
    int32_t joined_id = find_normal(tokenizer, buffer_text(joined));
    if (left_id < 0 || right_id < 0 || joined_id < 0)
        return gguf_fail(gguf, err, "merge %zu: its parts and what they make must be normal tokens", rank);
    int added = bpe_add(&tokenizer->bpe, left_id, right_id, joined_id);
    if (added < 0)
        return gguf_fail(gguf, err, "out of memory at merge %zu", rank);
    return added == 0 ? 0 : gguf_fail(gguf, err, "merge %zu stands there twice", rank);
}

static int read_merges(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    size_t count;
    struct buffer joined = {0};
    int result = gguf_text_array(gguf, merges_key, &count, err);
    for (size_t rank = 0; result == 0 && rank < count; rank++)
        result = read_merge(tokenizer, gguf, rank, &joined, err);
    buffer_free(&joined);
    return result;
}

/* True only if the key is there and says so. */
static int read_flag(const struct gguf *gguf, const char *key, bool *flag, struct error *err)
{
    *flag = false;
    return gguf_has(gguf, key) ? gguf_bool(gguf, key, flag, err) : 0;
}

static int read_conventions(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    struct text model;
    bool add_bos, add_eos, add_blank;
    uint64_t bos;
    if (gguf_text(gguf, "tokenizer.ggml.model", &model, err) != 0 ||
        read_flag(gguf, "tokenizer.ggml.add_bos_token", &add_bos, err) != 0 ||
        read_flag(gguf, "tokenizer.ggml.add_eos_token", &add_eos, err) != 0 ||
        read_flag(gguf, "tokenizer.ggml.add_space_prefix", &add_blank, err) != 0)
        return -1;
    if (!text_equal(model, text_of("gpt2")))
        return gguf_fail(gguf, err, "tokenizer model " TEXT_FORMAT " is not supported; supported: gpt2",
                         TEXT_ARGS(text_prefix(model, 64)));
    if (add_eos || add_blank)
        return gguf_fail(gguf, err, "key tokenizer.ggml.%s is true, which is not supported",
                         add_eos ? "add_eos_token" : "add_space_prefix");
    tokenizer->bos = -1;
    if (!add_bos)
        return 0;
    if (gguf_unsigned(gguf, "tokenizer.ggml.bos_token_id", 0, tokenizer->spellings.count - 1, &bos, err) != 0)
        return -1;
    tokenizer->bos = (int32_t)bos;
    return 0;
}

static int read_pretokenizer(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    struct text name;
    struct error why;
    if (gguf_text(gguf, "tokenizer.ggml.pre", &name, err) != 0)
        return -1;
    if (pretokenizer_create(&tokenizer->pretokenizer, name, &why) != 0)
        return gguf_fail(gguf, err, "key tokenizer.ggml.pre: %s", why.message);
    return 0;
}

int tokenizer_create(struct tokenizer **tokenizer, const struct gguf *gguf, struct error *err)
{
    *tokenizer = NULL;
    struct tokenizer *created = calloc(1, sizeof *created);
    if (created == NULL)
        return gguf_fail(gguf, err, "out of memory for a tokenizer");
    fill_alphabet(created);
    if (read_tokens(created, gguf, err) != 0 || read_conventions(created, gguf, err) != 0 ||
        read_pretokenizer(created, gguf, err) != 0) {
        tokenizer_destroy(created);
        return -1;
    }
    find_bytes(created);
    if (read_merges(created, gguf, err) != 0) {
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
    table_free(&tokenizer->spellings);
    free(tokenizer->types);
    bpe_free(&tokenizer->bpe);
    pretokenizer_destroy(tokenizer->pretokenizer);
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

static int encode_pieces(const struct tokenizer *tokenizer, struct text text, struct pretokenizer_match *match,
                         struct bpe_scratch *scratch, struct tokens *out, struct error *err)
{
    size_t length;
    for (size_t at = 0; at < text.size; at += length) {
        if (pretokenizer_next(tokenizer->pretokenizer, match, text, at, &length, err) != 0 ||
            bpe_encode(&tokenizer->bpe, (struct text){text.data + at, length}, scratch, out, err) != 0)
            return -1;
    }
    return 0;
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct text text, struct tokens *out, struct error *err)
{
    if (text.size > INT32_MAX)
        return error_set(err, ERROR_BAD_INPUT, "a text of %zu bytes is too long to tokenise", text.size);
    size_t count = out->count;
    struct bpe_scratch scratch = {0};
    int result = -1;
    struct pretokenizer_match *match = pretokenizer_match_create();
    if (match == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while tokenising %zu bytes", text.size);
        goto out;
    }
    while (text.size > 0) {
        struct text part = well_formed(text);
        if (encode_pieces(tokenizer, part, match, &scratch, out, err) != 0)
            goto out;
        text.data += part.size;
        text.size -= part.size;
        if (text.size == 0)
            break;
        /* What is no UTF-8 goes by byte, and nothing merges across it. */
        if (bpe_encode(&tokenizer->bpe, (struct text){text.data, 1}, &scratch, out, err) != 0)
            goto out;
        text.data++;
        text.size--;
    }
    result = 0;
out:
    if (result != 0)
        out->count = count;
    pretokenizer_match_destroy(match);
    bpe_scratch_free(&scratch);
    return result;
}

static bool is_special(const struct tokenizer *tokenizer, size_t id)
{
    uint8_t type = tokenizer->types[id];
    return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED || type == TOKEN_UNKNOWN;
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, struct text spelling)
{
    uint32_t id = table_find(&tokenizer->spellings, spelling);
    return id == TABLE_NONE || !is_special(tokenizer, id) ? -1 : (int32_t)id;
}

bool tokenizer_find_special(const struct tokenizer *tokenizer, struct text text, size_t *start, size_t *length,
                            int32_t *id)
{
    bool found = false;
    for (size_t i = 0; i < tokenizer->spellings.count; i++) {
        if (!is_special(tokenizer, i) || text.size == 0)
            continue;
        struct text special = table_key(&tokenizer->spellings, (uint32_t)i);
        const char *place = memmem(text.data, text.size, special.data, special.size);
        if (place == NULL)
            continue;
        size_t at = (size_t)(place - text.data);
        if (found && (at > *start || (at == *start && special.size < *length)))
            continue;
        found = true;
        *start = at;
        *length = special.size;
        *id = (int32_t)i;
    }
    return found;
}

int tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, struct buffer *out, struct error *err)
{
    if (id < 0 || (size_t)id >= tokenizer->spellings.count)
        return error_set(err, ERROR_FATAL, "token %d is out of range: the vocabulary has 0 to %zu", id,
                         tokenizer->spellings.count - 1);
    struct text spelling = table_key(&tokenizer->spellings, (uint32_t)id);
    if (tokenizer->types[id] != TOKEN_NORMAL)
        buffer_append_text(out, spelling);
    else
        while (spelling.size > 0)
            buffer_append_byte(out, (uint8_t)next_byte(tokenizer, &spelling));
    return buffer_check(out, "decoding tokens", err);
}

size_t tokenizer_size(const struct tokenizer *tokenizer)
{
    return tokenizer->spellings.count;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}
