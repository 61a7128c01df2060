#include "replay/temporary.h"

#include "replay/rows.h"

enum { MIB = 1 << 20 };

static char path[256];
static struct rows *rows;
static const struct text *cells;
static size_t count;
static struct error err;

static void open_bytes(enum row_format format, const void *bytes, size_t size)
{
    temporary_write(path, ".txt", bytes, size);
    int result = rows_open(&rows, path, format, &err);
    unlink(path);
    if (result != 0)
        fail_msg("%s", err.message);
}

static void open_text(enum row_format format, const char *text)
{
    open_bytes(format, text, strlen(text));
}

/* The next row has these cells, written with '|' behind each, and begins on that line. */
static void expect_row(const char *wanted, uint64_t line)
{
    int found = rows_next(rows, &cells, &count, &err);
    if (found != 1)
        fail_msg("%s where %s is due", found < 0 ? err.message : "the end", wanted);
    struct buffer got = {0};
    for (size_t i = 0; i < count; i++) {
        assert_non_null(cells[i].data);
        buffer_append_text(&got, cells[i]);
        buffer_append_byte(&got, '|');
    }
    assert_string_equal(buffer_string(&got), wanted);
    buffer_free(&got);
    assert_int_equal(rows_line(rows), line);
}

static void expect_error(const char *words, uint64_t line)
{
    assert_int_equal(rows_next(rows, &cells, &count, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    char place[300];
    snprintf(place, sizeof place, "%s:%llu: ", path, (unsigned long long)line);
    assert_memory_equal(err.message, place, strlen(place));
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void expect_end(void)
{
    assert_int_equal(rows_next(rows, &cells, &count, &err), 0);
    assert_int_equal(rows_next(rows, &cells, &count, &err), 0); /* and it stays the end */
    rows_close(rows);
}

static void csv_cells_may_hold_delimiters_quotes_and_line_ends(void **state)
{
    (void)state;
    open_text(ROW_CSV, "a,\"b, c\",\"say \"\"hi\"\"\"\n\"two\nlines\",,x\n");
    expect_row("a|b, c|say \"hi\"|", 1);
    expect_row("two\nlines||x|", 2);
    expect_end();
}

static void line_ends_of_both_kinds_are_no_part_of_a_cell(void **state)
{
    (void)state;
    static const char text[] = "a,b\r\nc,d\ne,f\r\n";
    open_text(ROW_CSV, text);
    expect_row("a|b|", 1);
    expect_row("c|d|", 2);
    expect_row("e|f|", 3);
    expect_end();
    open_text(ROW_LINE, text);
    expect_row("a,b|", 1);
    expect_row("c,d|", 2);
    expect_row("e,f|", 3);
    expect_end();
    open_text(ROW_TSV, "a\tb\r\nc\td\r");
    expect_row("a|b|", 1);
    expect_row("c|d|", 2);
    expect_end();
}

static void empty_lines_are_passed_over_and_counted(void **state)
{
    (void)state;
    static const enum row_format formats[] = {ROW_CSV, ROW_TSV, ROW_LINE};
    for (size_t i = 0; i < 3; i++) {
        open_text(formats[i], "\n\r\na\r\n\n\r\n\nb\n\n");
        expect_row("a|", 3);
        expect_row("b|", 7);
        expect_end();
    }
}

static void the_last_line_needs_no_end(void **state)
{
    (void)state;
    open_text(ROW_CSV, "a,b\nc,\"d\"");
    expect_row("a|b|", 1);
    expect_row("c|d|", 2);
    expect_end();
    open_text(ROW_TSV, "a\tb\nc\t");
    expect_row("a|b|", 1);
    expect_row("c||", 2);
    expect_end();
}

static void tsv_knows_no_quotes(void **state)
{
    (void)state;
    open_text(ROW_TSV, "\"a\tb\" \"\t\n\t\n");
    expect_row("\"a|b\" \"||", 1);
    expect_row("||", 2);
    expect_end();
}

static void a_byte_order_mark_is_no_part_of_the_first_cell(void **state)
{
    (void)state;
    open_text(ROW_CSV, "\xef\xbb\xbf\"a\",b\n\xef\xbb\xbf,c\n");
    expect_row("a|b|", 1);
    expect_row("\xef\xbb\xbf|c|", 2);
    expect_end();
    open_text(ROW_TSV, "\xef\xbb\xbf"
                       "a\tb\n");
    expect_row("a|b|", 1);
    expect_end();
    open_text(ROW_LINE, "\xef\xbb\xbf");
    expect_end();
    open_text(ROW_LINE, "\xef\xbc\x81 is a letter of its own\n"); /* begins like the mark */
    expect_row("\xef\xbc\x81 is a letter of its own|", 1);
    expect_end();
}

static void files_shorter_than_a_byte_order_mark_are_read(void **state)
{
    (void)state;
    open_text(ROW_LINE, "");
    expect_end();
    open_text(ROW_LINE, "a");
    expect_row("a|", 1);
    expect_end();
    open_text(ROW_CSV, "a\n");
    expect_row("a|", 1);
    expect_end();
}

static void rows_behind_a_bad_one_are_read(void **state)
{
    (void)state;
    open_text(ROW_CSV, "a,b\nc\"d,e\nf,g\n\"h\"i\"\n\"j\",k\n");
    expect_row("a|b|", 1);
    expect_error("a quote inside a cell", 2);
    expect_row("f|g|", 3);
    expect_error("a quote inside a cell", 4);
    expect_row("j|k|", 5);
    expect_end();
}

static void a_quote_that_is_never_closed_is_named_with_the_line_it_is_on(void **state)
{
    (void)state;
    open_text(ROW_CSV, "a,b\n\nc,\"d\ne,f\n");
    expect_row("a|b|", 1);
    expect_error("never closed", 3);
    expect_end();
}

static void a_row_larger_than_the_limit_is_refused_and_the_next_one_read(void **state)
{
    (void)state;
    static const enum row_format formats[] = {ROW_CSV, ROW_TSV, ROW_LINE, ROW_CSV, ROW_TSV};
    static const char fillers[] = {'x', 'x', 'x', ',', '\t'}; /* one long cell, or very many empty ones */
    char *bytes = malloc(6 * MIB);
    assert_non_null(bytes);
    for (size_t i = 0; i < sizeof fillers; i++) {
        memset(bytes, fillers[i], 6 * MIB);
        bytes[1] = '\n';
        bytes[0] = 'a';
        memcpy(bytes + 6 * MIB - 3, "\nb\n", 3);
        open_bytes(formats[i], bytes, 6 * MIB);
        expect_row("a|", 1);
        expect_error("4 MiB", 2);
        expect_row("b|", 3);
        expect_end();
    }
    free(bytes);
}

static void a_quote_left_open_does_not_swallow_more_than_the_limit(void **state)
{
    (void)state;
    char *bytes = malloc(6 * MIB);
    assert_non_null(bytes);
    for (size_t i = 0; i < 6 * MIB; i++)
        bytes[i] = i % 64 == 63 ? '\n' : 'x';
    memcpy(bytes, "a,\"", 3);
    open_bytes(ROW_CSV, bytes, 6 * MIB);
    expect_error("never closed", 1);
    size_t read = 0;
    while (rows_next(rows, &cells, &count, &err) == 1) {
        assert_int_equal(count, 1);
        assert_int_equal(cells[0].size, 63);
        read++;
    }
    assert_int_equal(read, 2 * MIB / 64 - 1);
    expect_end();
    free(bytes);
}

static void a_row_below_the_limit_is_taken_whole(void **state)
{
    (void)state;
    char *bytes = malloc(4 * MIB);
    assert_non_null(bytes);
    memset(bytes, 'x', 4 * MIB);
    bytes[4 * MIB - 1] = '\n';
    static const enum row_format formats[] = {ROW_CSV, ROW_TSV, ROW_LINE};
    for (size_t i = 0; i < 3; i++) {
        open_bytes(formats[i], bytes, 4 * MIB);
        assert_int_equal(rows_next(rows, &cells, &count, &err), 1);
        assert_int_equal(count, 1);
        assert_int_equal(cells[0].size, 4 * MIB - 1);
        expect_end();
    }
    free(bytes);
}

static void the_share_that_is_read_reaches_one(void **state)
{
    (void)state;
    open_text(ROW_LINE, "\xef\xbb\xbf"
                        "a\nb\n");
    assert_int_equal(rows_next(rows, &cells, &count, &err), 1);
    assert_true(rows_share(rows) > 0.5 && rows_share(rows) < 1);
    assert_int_equal(rows_next(rows, &cells, &count, &err), 1);
    assert_true(rows_share(rows) == 1);
    expect_end();
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
    (void)state;
    assert_int_equal(rows_open(&rows, "/nonexistent/rows.csv", ROW_CSV, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "/nonexistent/rows.csv"));
    assert_int_equal(rows_open(&rows, "/", ROW_LINE, &err), 0);
    assert_int_equal(rows_next(rows, &cells, &count, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    rows_close(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_cells_may_hold_delimiters_quotes_and_line_ends),
        cmocka_unit_test(line_ends_of_both_kinds_are_no_part_of_a_cell),
        cmocka_unit_test(empty_lines_are_passed_over_and_counted),
        cmocka_unit_test(the_last_line_needs_no_end),
        cmocka_unit_test(tsv_knows_no_quotes),
        cmocka_unit_test(a_byte_order_mark_is_no_part_of_the_first_cell),
        cmocka_unit_test(files_shorter_than_a_byte_order_mark_are_read),
        cmocka_unit_test(rows_behind_a_bad_one_are_read),
        cmocka_unit_test(a_quote_that_is_never_closed_is_named_with_the_line_it_is_on),
        cmocka_unit_test(a_row_larger_than_the_limit_is_refused_and_the_next_one_read),
        cmocka_unit_test(a_quote_left_open_does_not_swallow_more_than_the_limit),
        cmocka_unit_test(a_row_below_the_limit_is_taken_whole),
        cmocka_unit_test(the_share_that_is_read_reaches_one),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
