/* What a vocabulary may look like, and what is refused: on small ones made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/gguf_bytes.h"
#include "model/tokenizer.h"

static struct error err;

/* A vocabulary in words: `tokens` and `merges` end with NULL; a type is a digit of `types`. */
struct vocabulary {
    const char *model, *pre;
    const char *tokens[12], *merges[6];
    const char *types;
    const char *true_flag; /* a key that is true, or NULL */
    bool with_bos;         /* tokenizer.ggml.bos_token_id = 1 */
};

static const struct vocabulary sound = {
    "gpt2", "smollm", {"<s>", "</s>", "a", "b", "c", "ab", "abc", "\xc4\xa0"}, {"a b", "ab c"}, "33111111", NULL, true};

static void put_strings(struct gguf_bytes *bytes, const char *key, const char *const *strings)
{
    size_t count = 0;
    while (strings[count] != NULL)
        count++;
    put_key_array(bytes, key, 8, count);
    for (size_t i = 0; i < count; i++)
        put_string(&bytes->keys, strings[i]);
}

static int create(struct tokenizer **tokenizer, const struct vocabulary *vocabulary)
{
    struct gguf_bytes bytes = {0};
    put_key_text(&bytes, "tokenizer.ggml.model", vocabulary->model);
    put_key_text(&bytes, "tokenizer.ggml.pre", vocabulary->pre);
    put_strings(&bytes, "tokenizer.ggml.tokens", vocabulary->tokens);
    put_strings(&bytes, "tokenizer.ggml.merges", vocabulary->merges);
    put_key_array(&bytes, "tokenizer.ggml.token_type", 5, strlen(vocabulary->types));
    for (const char *type = vocabulary->types; *type != '\0'; type++)
        put_u32(&bytes.keys, (uint32_t)(*type - '0'));
    if (vocabulary->true_flag != NULL)
        put_key_bool(&bytes, vocabulary->true_flag, true);
    if (vocabulary->with_bos)
        put_key_u32(&bytes, "tokenizer.ggml.bos_token_id", 1);
    size_t size;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    if (gguf_open_memory(&gguf, file, size, "made.gguf", &err) != 0)
        fail_msg("%s", err.message);
    int result = tokenizer_create(tokenizer, gguf, &err);
    gguf_close(gguf); /* it needs the file no longer */
    free(file);
    return result;
}

static struct tokenizer *create_sound(const struct vocabulary *vocabulary)
{
    struct tokenizer *tokenizer;
    if (create(&tokenizer, vocabulary) != 0)
        fail_msg("%s", err.message);
    return tokenizer;
}

static void assert_refused(const struct vocabulary *vocabulary, const char *why)
{
    struct tokenizer *tokenizer;
    if (create(&tokenizer, vocabulary) == 0)
        fail_msg("created, though: %s", why);
    assert_null(tokenizer);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, why) == NULL || strstr(err.message, "made.gguf: ") == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void assert_ids(const struct tokenizer *tokenizer, const char *text, const char *expected)
{
    struct tokens tokens = {0};
    struct buffer ids = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text_of(text), &tokens, &err), 0);
    for (size_t i = 0; i < tokens.count; i++)
        buffer_printf(&ids, "%s%d", i == 0 ? "" : " ", tokens.ids[i]);
    assert_string_equal(buffer_string(&ids), expected);
    buffer_free(&ids);
    tokens_free(&tokens);
}

static void merges_go_by_rank_and_from_the_left(void **state)
{
    (void)state;
    struct vocabulary vocabulary = sound;
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, "abcab abc", "6 5 7 6");
    tokenizer_destroy(tokenizer);

    /* b+c comes first, so that "abc" is never whole; of "aaa" the left pair merges. */
    vocabulary = (struct vocabulary){
        "gpt2", "smollm", {"a", "b", "c", "bc", "ab", "abc", "aa"}, {"b c", "a b", "ab c", "a a"}, "1111111",
        NULL,   false};
    tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, "abc", "0 3");
    assert_ids(tokenizer, "aaa", "6 0");
    assert_ids(tokenizer, "aaaa", "6 6");
    tokenizer_destroy(tokenizer);
}

static void a_byte_without_a_token_is_left_out(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = create_sound(&sound);
    assert_ids(tokenizer, "azb!\xff", "5");
    assert_ids(tokenizer, "z", "");
    tokenizer_destroy(tokenizer);
}

static void digits_stand_apart_in_smollm_only(void **state)
{
    (void)state;
    struct vocabulary vocabulary = {"gpt2",
                                    "smollm",
                                    {"1", "2", "12", "\xc4\xa0",
                                     "\xc4\xa0"
                                     "1"},
                                    {"1 2", "\xc4\xa0 1"},
                                    "11111",
                                    NULL,
                                    false};
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, " 12", "3 0 1");
    tokenizer_destroy(tokenizer);
    vocabulary.pre = "gpt-2";
    tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, " 12", "3 2");
    tokenizer_destroy(tokenizer);
}

/* No merge makes "abc", but llama-bpe takes a piece that is a token as it is. */
static void a_piece_is_taken_whole_in_llama_bpe_only(void **state)
{
    (void)state;
    struct vocabulary vocabulary = {"gpt2",
                                    "llama-bpe",
                                    {"a", "b", "c", "ab", "abc", "\xc4\xa0",
                                     "\xc4\xa0"
                                     "abc"},
                                    {"a b"},
                                    "1111113",
                                    NULL,
                                    true};
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, "abc", "4");
    assert_ids(tokenizer, "abca", "3 2 0");
    assert_ids(tokenizer, " abc", "5 3 2"); /* the whole is a control token */
    tokenizer_destroy(tokenizer);
    vocabulary.pre = "qwen2";
    tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, "abc", "3 2");
    tokenizer_destroy(tokenizer);

    char long_token[258];
    memset(long_token, 'a', sizeof long_token - 1);
    long_token[sizeof long_token - 1] = '\0';
    vocabulary.tokens[4] = long_token;
    tokenizer = create_sound(&vocabulary);
    tokenizer_destroy(tokenizer);
    vocabulary.pre = "llama-bpe";
    assert_refused(&vocabulary, "token 4 is spelt in 257 bytes; supported: 256");
}

static void a_special_token_is_never_made_from_text(void **state)
{
    (void)state;
    struct vocabulary vocabulary = sound;
    vocabulary.types = "33311111"; /* "a" is a control token: no text may become one */
    vocabulary.merges[0] = NULL;
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_ids(tokenizer, "abc", "3 4");
    tokenizer_destroy(tokenizer);
    vocabulary = sound;
    vocabulary.types = "33111311";
    assert_refused(&vocabulary, "merge 0: its parts and what they make must be normal tokens");
    vocabulary.types = "33113111";
    assert_refused(&vocabulary, "merge 1");
}

static void special_tokens_are_those_of_three_types(void **state)
{
    (void)state;
    struct vocabulary vocabulary = {
        "gpt2", "smollm", {"a", "<u>", "<c>", "<c>d", "<n>", "\xc3\xa9 b"}, {NULL}, "123454", NULL, false};
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_int_equal(tokenizer_special(tokenizer, text_of("a")), -1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<u>")), 1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<c>")), 2);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<c>d")), 3);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<n>")), -1);
    size_t start, length;
    int32_t id;
    assert_true(tokenizer_find_special(tokenizer, text_of("x<c>d<c>"), &start, &length, &id));
    assert_int_equal(start, 1);
    assert_int_equal(length, 4); /* the longest of those that start there */
    assert_int_equal(id, 3);
    struct buffer spelt = {0};
    assert_int_equal(tokenizer_decode(tokenizer, 5, &spelt, &err), 0);
    assert_string_equal(buffer_string(&spelt), "\xc3\xa9 b");
    buffer_free(&spelt);
    tokenizer_destroy(tokenizer);
}

static void a_start_token_is_told_where_the_file_wants_one(void **state)
{
    (void)state;
    struct vocabulary vocabulary = sound;
    struct tokenizer *tokenizer = create_sound(&vocabulary);
    assert_int_equal(tokenizer_bos(tokenizer), -1);
    tokenizer_destroy(tokenizer);
    vocabulary.true_flag = "tokenizer.ggml.add_bos_token";
    tokenizer = create_sound(&vocabulary);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_ids(tokenizer, "abc", "6"); /* the caller puts it there */
    tokenizer_destroy(tokenizer);
    vocabulary.with_bos = false;
    assert_refused(&vocabulary, "key tokenizer.ggml.bos_token_id is missing");
    vocabulary = sound;
    vocabulary.pre = "llama-bpe"; /* says so by its name */
    tokenizer = create_sound(&vocabulary);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    tokenizer_destroy(tokenizer);
}

static void a_vocabulary_that_is_not_understood_is_refused(void **state)
{
    (void)state;
    struct vocabulary vocabulary = sound;
    vocabulary.model = "bert";
    assert_refused(&vocabulary, "key tokenizer.ggml.model is bert; supported: gpt2 (byte-level BPE), llama (Sentence");
    vocabulary = sound;
    vocabulary.pre = "tekken";
    assert_refused(&vocabulary, "pre-tokeniser tekken is not supported; supported: smollm, gpt-2, llama-bpe, qwen2");
    vocabulary = sound;
    vocabulary.true_flag = "tokenizer.ggml.add_eos_token";
    assert_refused(&vocabulary, "add_eos_token");
    vocabulary.true_flag = "tokenizer.ggml.add_space_prefix";
    assert_refused(&vocabulary, "add_space_prefix");
}

static void a_damaged_vocabulary_is_refused(void **state)
{
    (void)state;
    struct vocabulary vocabulary = sound;
    vocabulary.types = "3311111";
    assert_refused(&vocabulary, "has 8 tokens");
    vocabulary.types = "33011111";
    assert_refused(&vocabulary, "token 2 is of type 0");
    vocabulary.types = "33711111";
    assert_refused(&vocabulary, "token 2 is of type 7");
    vocabulary = sound;
    vocabulary.tokens[4] = "b";
    assert_refused(&vocabulary, "tokens 3 and 4 are spelt alike");
    vocabulary.tokens[4] = "";
    assert_refused(&vocabulary, "token 4");
    vocabulary.tokens[4] = "c c";
    assert_refused(&vocabulary, "token 4 is not spelt in the characters of byte-level BPE");
    vocabulary.tokens[4] = "\xff";
    assert_refused(&vocabulary, "token 4");
    static const char *const merges[] = {"ab", "a  b", "a z", " ab", "ab ", "", "b c", "a b"};
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        vocabulary = sound;
        vocabulary.merges[1] = merges[i];
        assert_refused(&vocabulary, "merge 1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_and_from_the_left),
        cmocka_unit_test(a_byte_without_a_token_is_left_out),
        cmocka_unit_test(digits_stand_apart_in_smollm_only),
        cmocka_unit_test(a_piece_is_taken_whole_in_llama_bpe_only),
        cmocka_unit_test(a_special_token_is_never_made_from_text),
        cmocka_unit_test(special_tokens_are_those_of_three_types),
        cmocka_unit_test(a_start_token_is_told_where_the_file_wants_one),
        cmocka_unit_test(a_vocabulary_that_is_not_understood_is_refused),
        cmocka_unit_test(a_damaged_vocabulary_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
