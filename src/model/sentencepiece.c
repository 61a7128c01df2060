#include "model/sentencepiece.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/gguf_file.h"

static const char scores_key[] = "tokenizer.ggml.scores";
static const char blank[] = "\xe2\x96\x81"; /* U+2581 */
enum { BLANK_BYTES = sizeof blank - 1 };

struct sentencepiece {
    const struct vocabulary *vocabulary;
    uint32_t *ranks;       /* by id: how many scores are higher */
    int32_t byte_ids[256]; /* tokens of type byte */
    size_t longest;        /* bytes of a normal token's spelling */
};

struct scored {
    double score;
    size_t id;
};

static int by_score(const void *a, const void *b)
{
    double one = ((const struct scored *)a)->score, other = ((const struct scored *)b)->score;
    return (one < other) - (one > other);
}

static int read_scores(struct sentencepiece *pieces, const struct gguf *gguf, struct error *err)
{
    size_t count, expected = pieces->vocabulary->spellings.count;
    if (gguf_float_array(gguf, scores_key, &count, err) != 0)
        return -1;
    if (count != expected)
        return gguf_fail(gguf, err, "key %s has %zu scores for %zu tokens", scores_key, count, expected);
    struct scored *order = malloc(count * sizeof *order);
    pieces->ranks = malloc(count * sizeof *pieces->ranks);
    int result = 0;
    if (order == NULL || pieces->ranks == NULL)
        result = gguf_fail(gguf, err, "out of memory for %zu scores", count);
    for (size_t id = 0; id < count && result == 0; id++) {
        order[id] = (struct scored){gguf_float_at(gguf, scores_key, id), id};
        if (!isfinite(order[id].score))
            result = gguf_fail(gguf, err, "key %s: the score of token %zu is no finite number", scores_key, id);
    }
    if (result == 0) {
        qsort(order, count, sizeof *order, by_score);
        for (size_t i = 0; i < count; i++)
            pieces->ranks[order[i].id] =
                i > 0 && by_score(&order[i], &order[i - 1]) == 0 ? pieces->ranks[order[i - 1].id] : (uint32_t)i;
    }
    free(order);
    return result;
}

static int find_bytes(struct sentencepiece *pieces, const struct gguf *gguf, struct error *err)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[8];
        snprintf(spelling, sizeof spelling, "<0x%02X>", byte);
        pieces->byte_ids[byte] = vocabulary_find(pieces->vocabulary, text_of(spelling), TOKEN_BYTE);
        if (pieces->byte_ids[byte] < 0)
            return gguf_fail(gguf, err,
                             "a vocabulary without the byte token %s is not supported; supported: byte fallback",
                             spelling);
    }
    return 0;
}

static void find_longest(struct sentencepiece *pieces)
{
    for (size_t id = 0; id < pieces->vocabulary->spellings.count; id++) {
        size_t size = vocabulary_spelling(pieces->vocabulary, id).size;
        if (pieces->vocabulary->types[id] == TOKEN_NORMAL && size > pieces->longest)
            pieces->longest = size;
    }
}

static int check_normalisation(const struct gguf *gguf, struct error *err)
{
    static const char squeeze_key[] = "tokenizer.ggml.remove_extra_whitespaces";
    static const char map_key[] = "tokenizer.ggml.precompiled_charsmap";
    bool squeeze = false;
    if (gguf_has(gguf, squeeze_key) && gguf_bool(gguf, squeeze_key, &squeeze, err) != 0)
        return -1;
    if (squeeze || gguf_has(gguf, map_key))
        return gguf_fail(gguf, err, "key %s: normalising text is not supported", squeeze ? squeeze_key : map_key);
    return 0;
}

int sentencepiece_create(struct sentencepiece **created, const struct vocabulary *vocabulary, const struct gguf *gguf,
                         struct error *err)
{
    struct sentencepiece *pieces = *created = calloc(1, sizeof *pieces);
    if (pieces == NULL)
        return gguf_fail(gguf, err, "out of memory for a tokenizer");
    pieces->vocabulary = vocabulary;
    find_longest(pieces);
    if (check_normalisation(gguf, err) != 0 || find_bytes(pieces, gguf, err) != 0)
        return -1;
    return read_scores(pieces, gguf, err);
}

void sentencepiece_destroy(struct sentencepiece *pieces)
{
    if (pieces == NULL)
        return;
    free(pieces->ranks);
    free(pieces);
}

/* A text under work. Symbols are pieces of it, told apart by their sizes: a place's piece always starts in one place.
 */
struct spelt {
    const struct sentencepiece *pieces;
    struct buffer text; /* blanks as U+2581 */
    int32_t *starts;    /* by place */
};

static struct text piece_at(const struct spelt *spelt, int32_t place, int32_t size)
{
    return (struct text){(const char *)spelt->text.data + spelt->starts[place], (size_t)size};
}

/* A rule of merge.h. */
static bool find_pair(const void *self, int32_t place, int32_t left, int32_t right, uint32_t *rank, int32_t *joined)
{
    const struct spelt *spelt = self;
    if ((size_t)left + (size_t)right > spelt->pieces->longest)
        return false;
    *joined = left + right;
    int32_t id = vocabulary_find(spelt->pieces->vocabulary, piece_at(spelt, place, *joined), TOKEN_NORMAL);
    if (id < 0)
        return false;
    *rank = spelt->pieces->ranks[id];
    return true;
}

/* Each character a symbol. */
static void spell(struct spelt *spelt, struct text text, struct merge *merge)
{
    uint32_t character;
    for (size_t at = 0, length; at < text.size; at += length) {
        length = text_code_point(text.data + at, text.size - at, &character);
        spelt->starts[merge->symbol_count] = (int32_t)spelt->text.size;
        if (character == ' ') {
            buffer_append(&spelt->text, blank, BLANK_BYTES);
            merge_put(merge, BLANK_BYTES);
        } else {
            buffer_append(&spelt->text, text.data + at, length);
            merge_put(merge, (int32_t)length);
        }
    }
}

static int append_piece(const struct sentencepiece *pieces, struct text piece, struct tokens *out, struct error *err)
{
    int32_t id = vocabulary_find(pieces->vocabulary, piece, TOKEN_NORMAL);
    if (id >= 0)
        return tokens_append(out, id, err);
    for (size_t i = 0; i < piece.size; i++)
        if (tokens_append(out, pieces->byte_ids[(uint8_t)piece.data[i]], err) != 0)
            return -1;
    return 0;
}

int sentencepiece_encode(const struct sentencepiece *pieces, struct text text, struct merge *merge, struct tokens *out,
                         struct error *err)
{
    if (text.size > INT32_MAX / BLANK_BYTES)
        return error_set(err, ERROR_BAD_INPUT, "a text of %zu bytes is too long to tokenise", text.size);
    int result = -1;
    struct spelt spelt = {.pieces = pieces, .starts = malloc(text.size * sizeof *spelt.starts)};
    if (merge_begin(merge, text.size, err) != 0)
        goto out;
    if (spelt.starts == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while tokenising %zu bytes", text.size);
        goto out;
    }
    spell(&spelt, text, merge);
    if (buffer_check(&spelt.text, "tokenising", err) != 0)
        goto out;
    merge_run(merge, &(struct merge_rules){find_pair, &spelt});
    for (int32_t place = merge_first(merge); place != MERGE_NONE; place = merge->symbols[place].next)
        if (append_piece(pieces, piece_at(&spelt, place, merge->symbols[place].value), out, err) != 0)
            goto out;
    result = 0;
out:
    buffer_free(&spelt.text);
    free(spelt.starts);
    return result;
}

int32_t sentencepiece_byte(const struct sentencepiece *pieces, uint8_t byte)
{
    return pieces->byte_ids[byte];
}

void sentencepiece_decode(const struct sentencepiece *pieces, int32_t id, struct buffer *out)
{
    struct text spelling = vocabulary_spelling(pieces->vocabulary, (size_t)id);
    for (size_t byte = 0; byte < 256; byte++)
        if (pieces->byte_ids[byte] == id) {
            buffer_append_byte(out, (uint8_t)byte);
            return;
        }
    while (spelling.size > 0) {
        const char *place = memmem(spelling.data, spelling.size, blank, BLANK_BYTES);
        size_t before = place == NULL ? spelling.size : (size_t)(place - spelling.data);
        buffer_append(out, spelling.data, before);
        if (place == NULL)
            break;
        buffer_append_byte(out, ' ');
        spelling.data += before + BLANK_BYTES;
        spelling.size -= before + BLANK_BYTES;
    }
}
