/* Every tokenizer convention against an independent implementation: tests/golden/make_tokenizers.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/conventions.h"
#include "model/golden_bytes.h"
#include "real_model.h"

static struct error err;
static json_t *golden;
static struct tokenizer *tokenizers[CONVENTIONS];

static int set_up(void **state)
{
    (void)state;
    golden = golden_json("tokenizers.json");
    assert_non_null(golden);
    for (size_t i = 0; i < CONVENTIONS; i++)
        tokenizers[i] = convention_tokenizer(golden, i);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < CONVENTIONS; i++)
        tokenizer_destroy(tokenizers[i]);
    json_decref(golden);
    return 0;
}

static struct tokens encode(size_t convention, struct text text)
{
    struct tokens tokens = {0};
    if (tokenizer_encode(tokenizers[convention], text, &tokens, &err) != 0)
        fail_msg("%s: %s", conventions[convention], err.message);
    return tokens;
}

static void compare(size_t convention, const json_t *cases, size_t expected_cases)
{
    struct buffer utf8 = {0}, text = {0};
    assert_int_equal(json_array_size(cases), expected_cases);
    for (size_t at = 0; at < json_array_size(cases); at++) {
        const json_t *entry = json_array_get(cases, at), *ids = json_object_get(entry, "ids");
        golden_bytes(entry, "utf8", &utf8);
        buffer_clear(&text);
        buffer_append_text(&text, tokenizer_opening(tokenizers[convention]));
        buffer_append_text(&text, buffer_text(&utf8));
        struct tokens tokens = encode(convention, buffer_text(&text));
        bool same = tokens.count == json_array_size(ids);
        for (size_t i = 0; same && i < tokens.count; i++)
            same = tokens.ids[i] == json_integer_value(json_array_get(ids, i));
        if (!same) {
            for (size_t i = 0; i < tokens.count; i++)
                print_message("%d,", tokens.ids[i]);
            fail_msg("%s: other ids for %s", conventions[convention], json_dumps(entry, JSON_COMPACT));
        }
        tokens_free(&tokens);
    }
    buffer_free(&utf8);
    buffer_free(&text);
}

static void byte_level_ids_are_those_of_an_independent_tokenizer(void **state)
{
    (void)state;
    const json_t *cases = json_object_get(json_object_get(golden, "byte_level"), "cases");
    for (size_t i = 0; i < SENTENCEPIECE; i++)
        compare(i, json_object_get(cases, conventions[i]), 159);
}

static void sentencepiece_ids_are_those_of_an_independent_tokenizer(void **state)
{
    (void)state;
    compare(SENTENCEPIECE, json_object_get(json_object_get(golden, "sentencepiece"), "cases"), 158);
    assert_string_equal(tokenizer_opening(tokenizers[SENTENCEPIECE]).data, " ");
    assert_int_equal(tokenizer_bos(tokenizers[SENTENCEPIECE]), 1);
}

static void assert_comes_back(size_t convention, struct text text)
{
    struct tokens tokens = encode(convention, text);
    struct buffer decoded = {0};
    for (size_t i = 0; i < tokens.count; i++)
        assert_int_equal(tokenizer_decode(tokenizers[convention], tokens.ids[i], &decoded, &err), 0);
    assert_true(text_equal(buffer_text(&decoded), text));
    tokens_free(&tokens);
    buffer_free(&decoded);
}

static void any_bytes_come_back_under_every_convention(void **state)
{
    (void)state;
    static const char *const pieces[] = {" ",        "liked",    "\n",   "\r\n", "12", "'LL",
                                         "\xc3\xa9", "\xe2\x96", "\xff", "(",    "a"};
    struct random random = {3};
    for (int round = 0; round < 3000; round++) {
        struct buffer text = {0};
        for (uint64_t count = random_below(&random, 20); count > 0; count--)
            buffer_append_string(&text, pieces[random_below(&random, sizeof pieces / sizeof *pieces)]);
        assert_comes_back((size_t)round % CONVENTIONS, buffer_text(&text));
        buffer_free(&text);
    }
}

/* An algorithm that looks through the rest for every merge or every piece would take minutes. */
static void a_megabyte_of_one_kind_takes_no_time_under_any_convention(void **state)
{
    (void)state;
    enum { SIZE = (1 << 20) / HEADRACE_SLOWDOWN };
    static const char *const units[] = {" ",  "\n",     " \n", "\n ",          "!\n", "1",
                                        "'s", "liked ", "a",   "\xe3\x80\x80", "\xff"};
    char *bytes = malloc(SIZE);
    double slowest = 0;
    assert_non_null(bytes);
    for (size_t convention = 0; convention < CONVENTIONS; convention++)
        for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++) {
            size_t length = strlen(units[unit]);
            for (size_t i = 0; i < SIZE; i++)
                bytes[i] = units[unit][i % length];
            bytes[SIZE - 1] = 'x';   /* what a run of white space would step back for */
            clock_t start = clock(); /* of the processor: others may be busy */
            struct tokens tokens = encode(convention, (struct text){bytes, SIZE});
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            slowest = seconds > slowest ? seconds : slowest;
            assert_true(seconds < 10); /* Release: about a second; this leaves room for the sanitisers */
            tokens_free(&tokens);
        }
    print_message("%d bytes took %.3f s at most\n", SIZE, slowest);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_ids_are_those_of_an_independent_tokenizer),
        cmocka_unit_test(sentencepiece_ids_are_those_of_an_independent_tokenizer),
        cmocka_unit_test(any_bytes_come_back_under_every_convention),
        cmocka_unit_test(a_megabyte_of_one_kind_takes_no_time_under_any_convention),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
