/* SentencePiece on vocabularies made here: what must hold, by hand, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/gguf_bytes.h"
#include "model/tokenizer.h"

enum { BYTES_FROM = 3, PIECES_FROM = BYTES_FROM + 256 }; /* behind <unk>, <s>, </s> */

#define BLANK "\xe2\x96\x81"

static struct error err;

struct piece {
    const char *text;
    float score;
    uint32_t type; /* 0: normal */
};

/* `pieces` end with a NULL; a flag (a key that is `value`), one byte token may be missing (-1: none). */
struct making {
    const struct piece *pieces;
    const char *flag;
    bool value;
    int missing_byte;
    size_t missing_scores;
};

static size_t count_pieces(const struct making *making)
{
    size_t count = 0;
    while (making->pieces[count].text != NULL)
        count++;
    return count;
}

static void put_tokens(struct gguf_bytes *bytes, const struct making *making)
{
    put_key_array(bytes, "tokenizer.ggml.tokens", 8, PIECES_FROM + count_pieces(making));
    put_string(&bytes->keys, "<unk>");
    put_string(&bytes->keys, "<s>");
    put_string(&bytes->keys, "</s>");
    for (int byte = 0; byte < 256; byte++) {
        char spelling[16];
        snprintf(spelling, sizeof spelling, byte == making->missing_byte ? "0x%02X" : "<0x%02X>", (unsigned)byte);
        put_string(&bytes->keys, spelling);
    }
    for (size_t i = 0; i < count_pieces(making); i++)
        put_string(&bytes->keys, making->pieces[i].text);
}

static int create(struct tokenizer **tokenizer, const struct making *making)
{
    struct gguf_bytes bytes = {0};
    size_t count = PIECES_FROM + count_pieces(making), size;
    put_key_text(&bytes, "tokenizer.ggml.model", "llama");
    put_tokens(&bytes, making);
    put_key_array(&bytes, "tokenizer.ggml.token_type", 5, count);
    for (size_t i = 0; i < count; i++) {
        uint32_t type = i < PIECES_FROM ? 0 : making->pieces[i - PIECES_FROM].type;
        put_u32(&bytes.keys, i == 0 ? 2 : i < BYTES_FROM ? 3 : i < PIECES_FROM ? 6 : type == 0 ? 1 : type);
    }
    put_key_array(&bytes, "tokenizer.ggml.scores", 6, count - making->missing_scores);
    for (size_t i = 0; i < count - making->missing_scores; i++) {
        float score = i < PIECES_FROM ? 0 : making->pieces[i - PIECES_FROM].score;
        buffer_append(&bytes.keys, &score, sizeof score);
    }
    put_key_u32(&bytes, "tokenizer.ggml.bos_token_id", 1);
    if (making->flag != NULL)
        put_key_bool(&bytes, making->flag, making->value);
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    if (gguf_open_memory(&gguf, file, size, "made.gguf", &err) != 0)
        fail_msg("%s", err.message);
    int result = tokenizer_create(tokenizer, gguf, &err);
    gguf_close(gguf);
    free(file);
    return result;
}

static struct tokenizer *create_sound(const struct piece *pieces)
{
    struct tokenizer *tokenizer;
    if (create(&tokenizer, &(struct making){.pieces = pieces, .missing_byte = -1}) != 0)
        fail_msg("%s", err.message);
    return tokenizer;
}

/* Ids in words: those of pieces as they are spelt, those of bytes as <..>. */
static void assert_pieces(const struct tokenizer *tokenizer, const struct piece *pieces, const char *text,
                          const char *expected)
{
    struct tokens tokens = {0};
    struct buffer found = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text_of(text), &tokens, &err), 0);
    for (size_t i = 0; i < tokens.count; i++) {
        int32_t id = tokens.ids[i];
        assert_true(id >= BYTES_FROM);
        if (id < PIECES_FROM)
            buffer_printf(&found, "<%02x>", (unsigned)(id - BYTES_FROM));
        else
            buffer_printf(&found, "[%s]", pieces[id - PIECES_FROM].text);
    }
    assert_string_equal(buffer_string(&found), expected);
    buffer_free(&found);
    tokens_free(&tokens);
}

static void the_highest_score_is_joined_first_then_the_leftmost(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"a", -9, 0},  {"b", -9, 0},  {"c", -9, 0},   {"ab", -2, 0},   {"bc", -1, 0},
                                          {"aa", -3, 0}, {"abc", 0, 0}, {"aaa", -8, 0}, {"aaaa", -4, 0}, {NULL, 0, 0}};
    struct tokenizer *tokenizer = create_sound(pieces);
    assert_pieces(tokenizer, pieces, "abc", "[abc]"); /* b and c first; then a and bc are spelt like a token */
    assert_pieces(tokenizer, pieces, "abb", "[ab][b]");
    assert_pieces(tokenizer, pieces, "aab", "[a][ab]");
    assert_pieces(tokenizer, pieces, "aaa", "[aaa]");
    assert_pieces(tokenizer, pieces, "aaaaa", "[aaaa][a]"); /* aa aa a: the pair of -4 before that of -8 */
    tokenizer_destroy(tokenizer);

    static const struct piece equal[] = {{"a", -9, 0}, {"b", -9, 0}, {"ab", -1, 0}, {"ba", -1, 0}, {NULL, 0, 0}};
    tokenizer = create_sound(equal);
    assert_pieces(tokenizer, equal, "aba", "[ab][a]");
    assert_pieces(tokenizer, equal, "bab", "[ba][b]");
    tokenizer_destroy(tokenizer);
}

static void a_character_without_a_token_can_be_part_of_one(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"a", -9, 0},
                                          {"\xc3\xa9"
                                           "a",
                                           -1, 0},
                                          {NULL, 0, 0}};
    struct tokenizer *tokenizer = create_sound(pieces);
    assert_pieces(tokenizer, pieces,
                  "\xc3\xa9"
                  "a\xc3\xa9",
                  "[\xc3\xa9"
                  "a]<c3><a9>");
    tokenizer_destroy(tokenizer);
}

static void what_is_no_token_becomes_its_bytes(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"a", -9, 0}, {BLANK, -9, 0}, {BLANK "a", -1, 0}, {NULL, 0, 0}};
    struct tokenizer *tokenizer = create_sound(pieces);
    assert_pieces(tokenizer, pieces, "a\n a", "[a]<0a>[" BLANK "a]");
    assert_pieces(tokenizer, pieces, "\xe6\x98\xa0", "<e6><98><a0>");
    assert_pieces(tokenizer, pieces, "a\xff\xe2\x96 a", "[a]<ff><e2><96>[" BLANK "a]"); /* no UTF-8 */
    assert_pieces(tokenizer, pieces, BLANK "a  ", "[" BLANK "a][" BLANK "][" BLANK "]");
    tokenizer_destroy(tokenizer);
}

static void special_and_byte_tokens_are_never_made_from_text(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"<", -9, 0},  {"s", -9, 0},  {">", -9, 0}, {"u>", 0, 4},
                                          {"s>", -1, 5}, {"ss", -1, 3}, {NULL, 0, 0}};
    struct tokenizer *tokenizer = create_sound(pieces);
    assert_pieces(tokenizer, pieces, "<s>", "[<][s][>]");
    assert_pieces(tokenizer, pieces, "ss", "[s][s]");
    assert_pieces(tokenizer, pieces, "<0x41>", "[<]<30><78><34><31>[>]");
    assert_int_equal(tokenizer_special(tokenizer, text_of("<s>")), 1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<unk>")), 0);
    assert_int_equal(tokenizer_special(tokenizer, text_of("u>")), PIECES_FROM + 3);
    assert_int_equal(tokenizer_special(tokenizer, text_of("s>")), -1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<0x41>")), -1);
    tokenizer_destroy(tokenizer);
}

static void tokens_are_decoded_to_the_text_they_stand_for(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{BLANK "a" BLANK "b", -1, 0}, {"<0x-1>", 0, 6}, {NULL, 0, 0}};
    static const struct {
        int32_t id;
        const char *text;
    } expected[] = {{1, "<s>"},
                    {BYTES_FROM + 'x', "x"},
                    {BYTES_FROM + '\n', "\n"},
                    {PIECES_FROM, " a b"},
                    {PIECES_FROM + 1, "<0x-1>"}};
    struct tokenizer *tokenizer = create_sound(pieces);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct buffer out = {0};
        assert_int_equal(tokenizer_decode(tokenizer, expected[i].id, &out, &err), 0);
        assert_string_equal(buffer_string(&out), expected[i].text);
        buffer_free(&out);
    }
    tokenizer_destroy(tokenizer);
}

static void a_file_may_want_no_start_token_and_no_blank(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"a", 0, 0}, {NULL, 0, 0}};
    struct making making = {.pieces = pieces, .missing_byte = -1};
    struct tokenizer *tokenizer = create_sound(pieces);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_string_equal(tokenizer_opening(tokenizer).data, " ");
    tokenizer_destroy(tokenizer);
    making.flag = "tokenizer.ggml.add_bos_token";
    assert_int_equal(create(&tokenizer, &making), 0);
    assert_int_equal(tokenizer_bos(tokenizer), -1);
    tokenizer_destroy(tokenizer);
    making.flag = "tokenizer.ggml.add_space_prefix";
    assert_int_equal(create(&tokenizer, &making), 0);
    assert_string_equal(tokenizer_opening(tokenizer).data, "");
    tokenizer_destroy(tokenizer);
}

static void assert_refused(const struct making *making, const char *why)
{
    struct tokenizer *tokenizer;
    if (create(&tokenizer, making) == 0)
        fail_msg("created, though: %s", why);
    assert_null(tokenizer);
    if (strstr(err.message, why) == NULL || strstr(err.message, "made.gguf: ") == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void a_vocabulary_that_is_not_understood_is_refused(void **state)
{
    (void)state;
    static const struct piece pieces[] = {{"a", 0, 0}, {NULL, 0, 0}}, nan[] = {{"a", NAN, 0}, {NULL, 0, 0}};
    assert_refused(&(struct making){.pieces = pieces, .missing_byte = 0x7f}, "without the byte token <0x7F>");
    assert_refused(&(struct making){.pieces = pieces, .missing_byte = -1, .missing_scores = 1},
                   "key tokenizer.ggml.scores has 259 scores for 260 tokens");
    assert_refused(&(struct making){.pieces = nan, .missing_byte = -1}, "the score of token 259");
    static const char *const flags[] = {"tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.add_eos_token",
                                        "tokenizer.ggml.precompiled_charsmap"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        assert_refused(&(struct making){.pieces = pieces, .missing_byte = -1, .flag = flags[i], .value = true},
                       flags[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_score_is_joined_first_then_the_leftmost),
        cmocka_unit_test(a_character_without_a_token_can_be_part_of_one),
        cmocka_unit_test(what_is_no_token_becomes_its_bytes),
        cmocka_unit_test(special_and_byte_tokens_are_never_made_from_text),
        cmocka_unit_test(tokens_are_decoded_to_the_text_they_stand_for),
        cmocka_unit_test(a_file_may_want_no_start_token_and_no_blank),
        cmocka_unit_test(a_vocabulary_that_is_not_understood_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
