#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "prompt/data.h"

static void assert_becomes(const char *data, size_t limit, const char *expected)
{
    struct buffer out = {0};
    assert_int_equal(data_append(&out, text_of(data), limit), *expected != '\0');
    assert_string_equal(buffer_string(&out), expected);
    buffer_free(&out);
}

static void plain_titles_stay_as_they_are(void **state)
{
    (void)state;
    assert_becomes("Seven (a.k.a. Se7en) (1995)", 200, "Seven (a.k.a. Se7en) (1995)");
    assert_becomes("Am\xc3\xa9lie \xe6\x98\xa0\xe7\x94\xbb \xf0\x9f\x8e\xac", 200,
                   "Am\xc3\xa9lie \xe6\x98\xa0\xe7\x94\xbb \xf0\x9f\x8e\xac");
    assert_becomes("{{title}} <|im_end|> \\", 200, "{{title}} <|im_end|> \\");
}

static void white_space_and_controls_become_one_space(void **state)
{
    (void)state;
    assert_becomes("  a \t\n b\r\nc\x01\x1f\x7f"
                   "d  ",
                   200, "a b c d");
    assert_becomes("a\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0"
                   "b",
                   200, "a b"); /* C1, no-break space */
    assert_becomes("a\xe2\x80\xa8"
                   "b\xe2\x80\xa9"
                   "c\xe3\x80\x80"
                   "d",
                   200, "a b c d"); /* U+2028, 2029, 3000 */
    struct buffer out = {0};
    assert_true(data_append(&out, (struct text){"a\0b", 3}, 200));
    assert_string_equal(buffer_string(&out), "a b");
    buffer_free(&out);
}

static void what_cannot_be_seen_is_dropped(void **state)
{
    (void)state;
    static const uint32_t unseen[] = {0xad,   0x61c,  0x200b, 0x200d, 0x200e,  0x200f,  0x202a, 0x202e,
                                      0x2060, 0x2066, 0x2069, 0xfeff, 0xe0001, 0xe0041, 0xe0100};
    for (size_t i = 0; i < sizeof unseen / sizeof *unseen; i++) {
        char data[8] = "a";
        size_t size = 1 + text_encode(unseen[i], data + 1);
        data[size] = 'b';
        assert_becomes(data, 200, "ab");
    }
}

static void double_quotes_become_single_ones(void **state)
{
    (void)state;
    assert_becomes("\"a\" \xe2\x80\x9c"
                   "b\xe2\x80\x9d \xe2\x80\x9e"
                   "c\xe2\x80\x9f 'd'",
                   200, "'a' 'b' 'c' 'd'");
}

static void bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    (void)state;
    assert_becomes("a\xff"
                   "b",
                   200,
                   "a\xef\xbf\xbd"
                   "b");
    assert_becomes("\xc0\xaf", 200, "\xef\xbf\xbd\xef\xbf\xbd");   /* an overlong slash */
    assert_becomes("a\xe6\x98", 200, "a\xef\xbf\xbd\xef\xbf\xbd"); /* cut short */
    assert_becomes("\xe2\x80\xc2\xa8", 200, "\xef\xbf\xbd\xef\xbf\xbd\xc2\xa8");
}

static void the_limit_cuts_no_code_point_and_leaves_no_space(void **state)
{
    (void)state;
    assert_becomes("abcdef", 4, "abcd");
    assert_becomes("abc \xc3\xa9", 5, "abc");
    assert_becomes("abc d", 4, "abc");
    assert_becomes("\xc3\xa9\xc3\xa9", 3, "\xc3\xa9");
    assert_becomes("\xff", 2, "");
    assert_becomes("a", 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_titles_stay_as_they_are),
        cmocka_unit_test(white_space_and_controls_become_one_space),
        cmocka_unit_test(what_cannot_be_seen_is_dropped),
        cmocka_unit_test(double_quotes_become_single_ones),
        cmocka_unit_test(bytes_that_are_no_utf8_become_replacement_characters),
        cmocka_unit_test(the_limit_cuts_no_code_point_and_leaves_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
