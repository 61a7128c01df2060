#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/tokenizer.h"

static struct gguf *gguf;
static struct tokenizer *tokenizer;
static struct error err;

static int open_tiny(void **state)
{
    (void)state;
    if (gguf_open(&gguf, HEADRACE_GOLDEN "/tiny.gguf", &err) != 0 || tokenizer_create(&tokenizer, gguf, &err) != 0)
        fail_msg("%s", err.message);
    return 0;
}

static int close_tiny(void **state)
{
    (void)state;
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    return 0;
}

static struct tokens encode(struct text text)
{
    struct tokens tokens = {0};
    if (tokenizer_encode(tokenizer, text, &tokens, &err) != 0)
        fail_msg("%s", err.message);
    return tokens;
}

static void assert_comes_back(struct text text)
{
    struct tokens tokens = encode(text);
    struct buffer decoded = {0};
    for (size_t i = 0; i < tokens.count; i++)
        if (tokenizer_decode(tokenizer, tokens.ids[i], &decoded, &err) != 0)
            fail_msg("%s", err.message);
    assert_true(text_equal(buffer_text(&decoded), text));
    tokens_free(&tokens);
    buffer_free(&decoded);
}

/* Splits {"utf8":"<hex>","ids":[1,2,3]}; see tests/golden/make_tiny_tokens.py. False when the line holds none. */
static bool read_case(const char *line, struct buffer *utf8, struct tokens *ids)
{
    static const char before_text[] = "{\"utf8\":\"", before_ids[] = "\",\"ids\":[";
    buffer_clear(utf8);
    ids->count = 0;
    if (strncmp(line, before_text, sizeof before_text - 1) != 0)
        return false;
    line += sizeof before_text - 1;
    for (unsigned byte; sscanf(line, "%2x", &byte) == 1; line += 2)
        buffer_append_byte(utf8, (uint8_t)byte);
    assert_int_equal(strncmp(line, before_ids, sizeof before_ids - 1), 0);
    line += sizeof before_ids - 1;
    while (*line != ']') {
        char *end;
        assert_int_equal(tokens_append(ids, (int32_t)strtol(line, &end, 10), &err), 0);
        line = *end == ',' ? end + 1 : end;
    }
    return true;
}

static void ids_are_those_of_an_independent_tokenizer(void **state)
{
    (void)state;
    struct buffer utf8 = {0};
    struct tokens expected = {0};
    char *line = NULL;
    size_t capacity = 0, cases = 0;
    FILE *file = fopen(HEADRACE_GOLDEN "/tiny_tokens.json", "r");
    assert_non_null(file);
    while (getline(&line, &capacity, file) > 0) {
        if (!read_case(line, &utf8, &expected))
            continue;
        struct tokens tokens = encode(buffer_text(&utf8));
        bool same = tokens.count == expected.count;
        for (size_t i = 0; same && i < tokens.count; i++)
            same = tokens.ids[i] == expected.ids[i];
        if (!same)
            fail_msg("differs: %s", line);
        tokens_free(&tokens);
        cases++;
    }
    assert_int_equal(cases, 141);
    fclose(file);
    free(line);
    buffer_free(&utf8);
    tokens_free(&expected);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    struct random random = {1};
    for (int round = 0; round < 2000; round++) {
        char bytes[64];
        size_t size = random_below(&random, sizeof bytes + 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = random_below(&random, 2) ? (char)random_below(&random, 256) : " a1\xc3\xa9\xe2"[i % 6];
        assert_comes_back((struct text){bytes, size});
    }
}

static void any_utf8_comes_back(void **state)
{
    (void)state;
    struct random random = {2};
    for (int round = 0; round < 2000; round++) {
        char bytes[40 * 4];
        size_t size = 0;
        for (size_t count = random_below(&random, 40); count > 0; count--) {
            uint32_t range = random_below(&random, 2) ? 0x250 : 0x110000;
            uint32_t character = (uint32_t)random_below(&random, range);
            if (character < 0xd800 || character > 0xdfff)
                size += text_encode(character, bytes + size);
        }
        assert_comes_back((struct text){bytes, size});
    }
}

static void bytes_that_are_no_utf8_go_one_by_one(void **state)
{
    (void)state;
    struct tokens tokens = encode(text_of("Yes\xff\xc3Yes"));
    assert_int_equal(tokens.count, 4);
    assert_int_equal(tokens.ids[0], tokens.ids[3]);
    tokens_free(&tokens);
}

static void special_tokens_in_text_stay_plain(void **state)
{
    (void)state;
    const char *spellings[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (int32_t id = 0; id < 3; id++) {
        struct text spelling = text_of(spellings[id]);
        assert_int_equal(tokenizer_special(tokenizer, spelling), id);
        struct tokens tokens = encode(spelling);
        assert_true(tokens.count > 1);
        for (size_t i = 0; i < tokens.count; i++)
            assert_true(tokens.ids[i] > 2);
        tokens_free(&tokens);
        assert_comes_back(spelling);
    }
    assert_int_equal(tokenizer_special(tokenizer, text_of("Yes")), -1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("<|im_start")), -1);
    assert_int_equal(tokenizer_special(tokenizer, text_of("")), -1);
}

static void a_template_finds_the_earliest_special_token(void **state)
{
    (void)state;
    size_t start = 99, length = 99;
    int32_t id = 99;
    struct text template = text_of("a<|im_end|>\n<|im_start|>b<|im_end|>");
    assert_true(tokenizer_find_special(tokenizer, template, &start, &length, &id));
    assert_int_equal(start, 1);
    assert_int_equal(length, 10);
    assert_int_equal(id, 2);
    template.data += 2;
    template.size -= 2;
    assert_true(tokenizer_find_special(tokenizer, template, &start, &length, &id));
    assert_int_equal(start, 10);
    assert_int_equal(id, 1);
    assert_false(tokenizer_find_special(tokenizer, text_of("<|im_start >"), &start, &length, &id));
    assert_false(tokenizer_find_special(tokenizer, (struct text){0}, &start, &length, &id));
}

static void label_words_are_single_tokens(void **state)
{
    (void)state;
    const char *words[] = {"Yes", "No", "yes", "no", " Yes", " No", " liked"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct tokens tokens = encode(text_of(words[i]));
        assert_int_equal(tokens.count, 1);
        tokens_free(&tokens);
    }
}

static void ids_are_appended_behind_what_is_there(void **state)
{
    (void)state;
    struct tokens tokens = {0};
    assert_int_equal(tokens_append(&tokens, 1, &err), 0);
    assert_int_equal(tokenizer_encode(tokenizer, text_of("Yes"), &tokens, &err), 0);
    assert_int_equal(tokenizer_encode(tokenizer, (struct text){0}, &tokens, &err), 0);
    assert_int_equal(tokens.count, 2);
    assert_int_equal(tokens.ids[0], 1);
    tokens_free(&tokens);
}

static void an_id_out_of_range_is_refused(void **state)
{
    (void)state;
    struct buffer out = {0};
    assert_int_equal(tokenizer_size(tokenizer), 704);
    assert_int_equal(tokenizer_decode(tokenizer, 703, &out, &err), 0);
    assert_int_equal(tokenizer_decode(tokenizer, 704, &out, &err), -1);
    assert_int_equal(tokenizer_decode(tokenizer, -1, &out, &err), -1);
    buffer_free(&out);
}

static void this_model_puts_nothing_before_a_sequence(void **state)
{
    (void)state;
    assert_int_equal(tokenizer_bos(tokenizer), -1);
}

/* An algorithm that looks through the rest for every merge or every piece would take minutes. */
static void a_megabyte_of_one_kind_takes_no_time(void **state)
{
    (void)state;
    enum { SIZE = (1 << 20) / HEADRACE_SLOWDOWN };
    const char *units[] = {"a", " ", "1", "!", "'", "li", " a", "Yes", "\n", "\xff", "\xe3\x80\x80"};
    const char *names[] = {"a", "blanks", "1", "!", "'", "li", " a", "Yes", "newlines", "0xff", "wide blanks"};
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t unit = 0; unit < sizeof units / sizeof *units; unit++) {
        size_t length = strlen(units[unit]);
        for (size_t i = 0; i < SIZE; i++)
            bytes[i] = units[unit][i % length];
        bytes[SIZE - 1] = 'x';   /* what a run of blanks would step back for */
        clock_t start = clock(); /* of the processor: others may be busy */
        struct tokens tokens = encode((struct text){bytes, SIZE});
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        print_message("%d bytes of %s: %.3f s, %zu tokens\n", SIZE, names[unit], seconds, tokens.count);
        assert_true(seconds < 10); /* Release: well under a second; this leaves room for the sanitisers */
        tokens_free(&tokens);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_an_independent_tokenizer),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(any_utf8_comes_back),
        cmocka_unit_test(bytes_that_are_no_utf8_go_one_by_one),
        cmocka_unit_test(special_tokens_in_text_stay_plain),
        cmocka_unit_test(a_template_finds_the_earliest_special_token),
        cmocka_unit_test(label_words_are_single_tokens),
        cmocka_unit_test(ids_are_appended_behind_what_is_there),
        cmocka_unit_test(an_id_out_of_range_is_refused),
        cmocka_unit_test(this_model_puts_nothing_before_a_sequence),
        cmocka_unit_test(a_megabyte_of_one_kind_takes_no_time),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
