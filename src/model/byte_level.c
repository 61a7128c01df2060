#include "model/byte_level.h"

#include <stdlib.h>

#include "model/gguf_file.h"
#include "model/pretokenizer.h"

enum {
    ALPHABET = 0x144, /* one above the last character that stands for a byte */
    WHOLE_MOST = 256, /* bytes of a token's spelling where pieces are looked up whole; Llama 3's longest has 128 */
};

static const char merges_key[] = "tokenizer.ggml.merges";

struct byte_level {
    const struct vocabulary *vocabulary;
    struct pretokenizer *pretokenizer;
    uint32_t alphabet[256];           /* character a byte is spelt with */
    int16_t alphabet_bytes[ALPHABET]; /* the other way, -1: none */
    int32_t byte_ids[256];            /* token of a byte alone, -1: the vocabulary has none */
    struct table pairs;               /* (left id, right id) as 8 bytes; a pair's number is its rank */
    int32_t *joined;                  /* by rank: what the pair becomes */
    size_t joined_capacity;
};

struct pair_key {
    char bytes[2 * sizeof(int32_t)];
};

static struct pair_key pair_key(int32_t left, int32_t right)
{
    struct pair_key key;
    memcpy(key.bytes, &left, sizeof left);
    memcpy(key.bytes + sizeof left, &right, sizeof right);
    return key;
}

/* GPT-2 spells a byte as itself where Latin-1 has a visible character, else as the next free one from U+0100 on. */
static void fill_alphabet(struct byte_level *bytes)
{
    uint32_t free_character = 0x100;
    for (size_t i = 0; i < ALPHABET; i++)
        bytes->alphabet_bytes[i] = -1;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool visible = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
        uint32_t character = visible ? byte : free_character++;
        bytes->alphabet[byte] = character;
        bytes->alphabet_bytes[character] = (int16_t)byte;
    }
}

/* Takes one character off `spelling`; the byte it stands for, -1 when it is none of the alphabet. */
static int next_byte(const struct byte_level *bytes, struct text *spelling)
{
    uint32_t character;
    size_t length = text_code_point(spelling->data, spelling->size, &character);
    if (length == 0 || character >= ALPHABET)
        return -1;
    spelling->data += length;
    spelling->size -= length;
    return bytes->alphabet_bytes[character];
}

static int check_spellings(const struct byte_level *bytes, const struct gguf *gguf, struct error *err)
{
    for (size_t id = 0; id < bytes->vocabulary->spellings.count; id++) {
        struct text spelling = vocabulary_spelling(bytes->vocabulary, id);
        if (bytes->vocabulary->types[id] != TOKEN_NORMAL)
            continue;
        if (spelling.size > WHOLE_MOST && pretokenizer_takes_whole(bytes->pretokenizer))
            return gguf_fail(gguf, err, "token %zu is spelt in %zu bytes; supported: %d", id, spelling.size,
                             WHOLE_MOST);
        while (spelling.size > 0)
            if (next_byte(bytes, &spelling) < 0)
                return gguf_fail(gguf, err, "token %zu is not spelt in the characters of byte-level BPE", id);
    }
    return 0;
}

/* Id of a token that text may become: special tokens are none, whatever the file says. */
static int32_t find_normal(const struct byte_level *bytes, struct text spelling)
{
    return vocabulary_find(bytes->vocabulary, spelling, TOKEN_NORMAL);
}

static void find_bytes(struct byte_level *bytes)
{
    for (size_t byte = 0; byte < 256; byte++) {
        char spelling[4];
        size_t size = text_encode(bytes->alphabet[byte], spelling);
        bytes->byte_ids[byte] = find_normal(bytes, (struct text){spelling, size});
    }
}

/* Ranks ascend in the order of the calls. 0; 1 when the pair has a rank already; -1 without memory. */
static int add_pair(struct byte_level *bytes, int32_t left, int32_t right, int32_t joined)
{
    struct pair_key key = pair_key(left, right);
    size_t rank = bytes->pairs.count;
    if (array_reserve(&bytes->joined, &bytes->joined_capacity, rank + 1, sizeof *bytes->joined) != 0)
        return -1;
    uint32_t added = table_add(&bytes->pairs, (struct text){key.bytes, sizeof key.bytes});
    if (added == TABLE_NONE)
        return -1;
    if (added != rank)
        return 1;
    bytes->joined[rank] = joined;
    return 0;
}

/* `joined` is scratch memory. */
static int read_merge(struct byte_level *bytes, const struct gguf *gguf, size_t rank, struct buffer *joined,
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
    int32_t left_id = find_normal(bytes, left);
    int32_t right_id = find_normal(bytes, right);
    int32_t joined_id = find_normal(bytes, buffer_text(joined));
    if (left_id < 0 || right_id < 0 || joined_id < 0)
        return gguf_fail(gguf, err, "merge %zu: its parts and what they make must be normal tokens", rank);
    int added = add_pair(bytes, left_id, right_id, joined_id);
    if (added < 0)
        return gguf_fail(gguf, err, "out of memory at merge %zu", rank);
    return added == 0 ? 0 : gguf_fail(gguf, err, "merge %zu stands there twice", rank);
}

static int read_merges(struct byte_level *bytes, const struct gguf *gguf, struct error *err)
{
    size_t count;
    struct buffer joined = {0};
    int result = gguf_text_array(gguf, merges_key, &count, err);
    for (size_t rank = 0; result == 0 && rank < count; rank++)
        result = read_merge(bytes, gguf, rank, &joined, err);
    buffer_free(&joined);
    return result;
}

static int read_pretokenizer(struct byte_level *bytes, const struct gguf *gguf, struct error *err)
{
    struct text name;
    struct error why;
    if (gguf_text(gguf, "tokenizer.ggml.pre", &name, err) != 0)
        return -1;
    if (pretokenizer_create(&bytes->pretokenizer, name, &why) != 0)
        return gguf_fail(gguf, err, "key tokenizer.ggml.pre: %s", why.message);
    return 0;
}

int byte_level_create(struct byte_level **created, const struct vocabulary *vocabulary, const struct gguf *gguf,
                      struct error *err)
{
    struct byte_level *bytes = *created = calloc(1, sizeof *bytes);
    if (bytes == NULL)
        return gguf_fail(gguf, err, "out of memory for a tokenizer");
    bytes->vocabulary = vocabulary;
    fill_alphabet(bytes);
    find_bytes(bytes);
    if (read_pretokenizer(bytes, gguf, err) != 0 || check_spellings(bytes, gguf, err) != 0)
        return -1;
    return read_merges(bytes, gguf, err);
}

void byte_level_destroy(struct byte_level *bytes)
{
    if (bytes == NULL)
        return;
    table_free(&bytes->pairs);
    free(bytes->joined);
    pretokenizer_destroy(bytes->pretokenizer);
    free(bytes);
}

bool byte_level_adds_bos(const struct byte_level *bytes)
{
    return pretokenizer_adds_bos(bytes->pretokenizer);
}

/* A rule of merge.h: symbols are token ids. */
static bool find_pair(const void *self, int32_t place, int32_t left, int32_t right, uint32_t *rank, int32_t *joined)
{
    const struct byte_level *bytes = self;
    struct pair_key key = pair_key(left, right);
    (void)place;
    *rank = table_find(&bytes->pairs, (struct text){key.bytes, sizeof key.bytes});
    if (*rank == TABLE_NONE)
        return false;
    *joined = bytes->joined[*rank];
    return true;
}

/* The piece as one token, -1 when it is none. */
static int32_t find_whole(const struct byte_level *bytes, struct text piece)
{
    char spelling[2 * WHOLE_MOST]; /* the alphabet's characters have one byte or two */
    size_t size = 0;
    if (piece.size > WHOLE_MOST)
        return -1;
    for (size_t i = 0; i < piece.size; i++)
        size += text_encode(bytes->alphabet[(uint8_t)piece.data[i]], spelling + size);
    return find_normal(bytes, (struct text){spelling, size});
}

/* A byte that the vocabulary has no token for is left out and its neighbours meet, as in the tokenizer the vocabularies
 * were trained with. */
static int encode_piece(const struct byte_level *bytes, struct text piece, struct merge *merge, struct tokens *out,
                        struct error *err)
{
    int32_t whole = pretokenizer_takes_whole(bytes->pretokenizer) ? find_whole(bytes, piece) : -1;
    if (whole >= 0)
        return tokens_append(out, whole, err);
    if (merge_begin(merge, piece.size, err) != 0)
        return -1;
    for (size_t i = 0; i < piece.size; i++) {
        int32_t id = bytes->byte_ids[(uint8_t)piece.data[i]];
        if (id >= 0)
            merge_put(merge, id);
    }
    merge_run(merge, &(struct merge_rules){find_pair, bytes});
    for (int32_t place = merge_first(merge); place != MERGE_NONE; place = merge->symbols[place].next)
        if (tokens_append(out, merge->symbols[place].value, err) != 0)
            return -1;
    return 0;
}

int byte_level_encode(const struct byte_level *bytes, struct text text, struct merge *merge, struct tokens *out,
                      struct error *err)
{
    size_t length;
    struct pretokenizer_match *match = pretokenizer_match_create();
    if (match == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while tokenising %zu bytes", text.size);
    int result = 0;
    for (size_t at = 0; at < text.size && result == 0; at += length)
        if (pretokenizer_next(bytes->pretokenizer, match, text, at, &length, err) != 0 ||
            encode_piece(bytes, (struct text){text.data + at, length}, merge, out, err) != 0)
            result = -1;
    pretokenizer_match_destroy(match);
    return result;
}

int32_t byte_level_byte(const struct byte_level *bytes, uint8_t byte)
{
    return bytes->byte_ids[byte];
}

void byte_level_decode(const struct byte_level *bytes, int32_t id, struct buffer *out)
{
    struct text spelling = vocabulary_spelling(bytes->vocabulary, (size_t)id);
    while (spelling.size > 0)
        buffer_append_byte(out, (uint8_t)next_byte(bytes, &spelling));
}
