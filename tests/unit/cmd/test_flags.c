#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmd/flags.h"
#include "cmd/printed.h"

enum { MOST_ARGUMENTS = 16 };

static bool loud;
static const char *name;
static int64_t count;
static double share;
static struct flag_list sets;

static const struct flag flags[] = {
    {"loud", NULL, FLAG_SWITCH, &loud, "make noise"},          {"name", "NAME", FLAG_TEXT, &name, "of the thing"},
    {"count", "N", FLAG_NUMBER, &count, "how many"},           {"share", "X", FLAG_DECIMAL, &share, "how much"},
    {"set", "NAME=VALUE", FLAG_LIST, &sets, "again for more"},
};
static const struct usage usage = {.command = "try",
                                   .operands = "FILE [OTHER]",
                                   .summary = "Tries.",
                                   .example = "headrace try file",
                                   .flags = flags,
                                   .flag_count = sizeof flags / sizeof *flags,
                                   .least_operands = 1,
                                   .most_operands = 2};

static char *arguments[MOST_ARGUMENTS];
static char said[2048]; /* on standard output and standard error */

static int end(void **state)
{
    (void)state;
    flag_list_free(&sets);
    return 0;
}

static int parse_words(int argc, char **argv)
{
    return flags_parse(&usage, argc, argv);
}

/* Arguments as a line, parted by single blanks; what is printed goes into `said`. */
static int parse(const char *line)
{
    static char words[512];
    flag_list_free(&sets);
    loud = false;
    name = NULL;
    count = -1;
    share = -1;
    snprintf(words, sizeof words, "try %s", line);
    int argc = printed_split(words, arguments);
    return printed_run(parse_words, argc, arguments, said, NULL, sizeof said);
}

static void expect_refusal(const char *line, const char *words)
{
    assert_int_equal(parse(line), FLAGS_WRONG);
    if (strstr(said, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", said, words);
    assert_non_null(strstr(said, "Try: headrace try --help"));
    assert_null(sets.values);
}

static void every_kind_of_flag_is_taken_in_both_spellings(void **state)
{
    (void)state;
    int operand = parse("--loud --name=a=b --count 7 --set x=1 --set=y=2 file");
    assert_string_equal(arguments[operand], "file");
    assert_true(loud);
    assert_string_equal(name, "a=b");
    assert_int_equal(count, 7);
    assert_int_equal(sets.count, 2);
    assert_string_equal(sets.values[0], "x=1");
    assert_string_equal(sets.values[1], "y=2");
    assert_string_equal(said, "");
}

static void flags_that_are_not_given_leave_their_target(void **state)
{
    (void)state;
    assert_true(parse("file") > 0);
    assert_false(loud);
    assert_null(name);
    assert_int_equal(count, -1);
    assert_int_equal(sets.count, 0);
}

static void flags_may_stand_behind_operands(void **state)
{
    (void)state;
    int operand = parse("file --count 0 other --loud");
    assert_string_equal(arguments[operand], "file");
    assert_string_equal(arguments[operand + 1], "other");
    assert_int_equal(count, 0);
    assert_true(loud);
}

static void two_dashes_end_the_flags(void **state)
{
    (void)state;
    int operand = parse("-- --loud -");
    assert_string_equal(arguments[operand], "--loud");
    assert_string_equal(arguments[operand + 1], "-"); /* standard input */
    assert_false(loud);
}

static void a_wrong_flag_is_named(void **state)
{
    (void)state;
    expect_refusal("file --lood", "headrace try: unknown flag --lood");
    expect_refusal("file -xy", "unknown flag -x");
    expect_refusal("file --set a=1 --name", "--name needs a value");
    expect_refusal("file --loud=yes", "--loud=yes: this flag takes no value");
    expect_refusal("file --help=me", "--help=me: this flag takes no value");
}

static void a_number_must_be_one(void **state)
{
    (void)state;
    static const char *const wrong[] = {"x", "1x", "-1", "1.5", "99999999999999999999", "0x10"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[64], words[64];
        snprintf(line, sizeof line, "file --set a=1 --count %s", wrong[i]);
        snprintf(words, sizeof words, "--count: \"%s\"", wrong[i]);
        expect_refusal(line, words);
        assert_int_equal(count, -1);
    }
    expect_refusal("file --count=", "--count: \"\"");
    assert_true(parse("file --count 9223372036854775807") > 0);
    assert_true(count == INT64_MAX);
}

static void a_decimal_must_be_finite_and_not_negative(void **state)
{
    (void)state;
    static const char *const wrong[] = {"x", "0.1x", "-0.1", "inf", "nan", "1e999", "0,1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char line[64], words[64];
        snprintf(line, sizeof line, "file --share %s", wrong[i]);
        snprintf(words, sizeof words, "--share: \"%s\"", wrong[i]);
        expect_refusal(line, words);
        assert_true(share == -1);
    }
    assert_true(parse("file --share 1e-4") > 0);
    assert_true(share == 1e-4);
}

static void operands_are_counted(void **state)
{
    (void)state;
    expect_refusal("--set a=1", "missing operand: FILE [OTHER]");
    expect_refusal("--set a=1 a b c", "unexpected operand \"c\"");
}

static void help_shows_every_flag_and_the_example(void **state)
{
    (void)state;
    assert_int_equal(parse("--set a=1 --help"), FLAGS_DONE);
    static const char *const words[] = {"usage: headrace try [flags] FILE [OTHER]",
                                        "--loud",
                                        "--name NAME",
                                        "--count N",
                                        "again for more",
                                        "--help",
                                        "headrace try file"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(said, words[i]) == NULL)
            fail_msg("help does not say \"%s\"", words[i]);
    assert_null(sets.values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_flag_is_taken_in_both_spellings),
        cmocka_unit_test(flags_that_are_not_given_leave_their_target),
        cmocka_unit_test(flags_may_stand_behind_operands),
        cmocka_unit_test(two_dashes_end_the_flags),
        cmocka_unit_test(a_wrong_flag_is_named),
        cmocka_unit_test(a_number_must_be_one),
        cmocka_unit_test(a_decimal_must_be_finite_and_not_negative),
        cmocka_unit_test(operands_are_counted),
        cmocka_unit_test(help_shows_every_flag_and_the_example),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
