#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/gguf.h"
#include "model/gguf_writer.h"

static struct text word_at(const void *context, size_t index)
{
    return text_of(((const char *const *)context)[index]);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    static const char *const words[] = {"one", "", "drei und \"vier\""};
    const float matrix[] = {1, 2, 3, 4, 5, 6}, vector[] = {7, 8, 9};
    struct gguf_writer writer = {0};
    struct buffer bytes = {0};
    struct error err = {0};
    struct gguf *gguf;
    gguf_put_text(&writer, "a.text", text_of("said"));
    gguf_put_unsigned(&writer, "a.number", UINT64_MAX);
    gguf_put_integer(&writer, "a.debt", -5);
    gguf_put_float(&writer, "a.share", 0.1);
    gguf_put_texts(&writer, "a.words", 3, word_at, words);
    gguf_put_tensor(&writer, "matrix", 2, 3, matrix);
    gguf_put_tensor(&writer, "vector", 0, 3, vector);
    assert_int_equal(gguf_writer_bytes(&writer, &bytes, &err), 0);
    if (gguf_open_memory(&gguf, bytes.data, bytes.size, "written", &err) != 0)
        fail_msg("%s", err.message);

    struct text text;
    uint64_t number;
    double share;
    size_t count;
    char shown[96];
    assert_int_equal(gguf_text(gguf, "a.text", &text, &err), 0);
    assert_true(text_equal(text, text_of("said")));
    assert_int_equal(gguf_unsigned(gguf, "a.number", 0, UINT64_MAX, &number, &err), 0);
    assert_true(number == UINT64_MAX);
    gguf_key(gguf, 2, &text, shown);
    assert_true(text_equal(text, text_of("a.debt")));
    assert_string_equal(shown, "-5");
    assert_int_equal(gguf_float(gguf, "a.share", &share, &err), 0);
    assert_true(share == 0.1);
    assert_int_equal(gguf_text_array(gguf, "a.words", &count, &err), 0);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++)
        assert_true(text_equal(gguf_text_at(gguf, "a.words", i), text_of(words[i])));

    const struct tensor *tensor;
    float row[3];
    assert_int_equal(gguf_find_tensor(gguf, "matrix", 2, 3, &tensor, &err), 0);
    tensor_row(tensor, 1, row);
    assert_memory_equal(row, matrix + 3, sizeof row);
    assert_int_equal(gguf_find_tensor(gguf, "vector", 1, 3, &tensor, &err), 0);
    tensor_row(tensor, 0, row);
    assert_memory_equal(row, vector, sizeof row);
    gguf_close(gguf);
    buffer_free(&bytes);
    gguf_writer_free(&writer);
}

static void a_file_without_tensors_is_one_too(void **state)
{
    (void)state;
    struct gguf_writer writer = {0};
    struct buffer bytes = {0};
    struct error err = {0};
    struct gguf *gguf;
    gguf_put_text(&writer, "a", text_of(""));
    assert_int_equal(gguf_writer_bytes(&writer, &bytes, &err), 0);
    assert_int_equal(gguf_open_memory(&gguf, bytes.data, bytes.size, "written", &err), 0);
    assert_int_equal(gguf_tensor_count(gguf), 0);
    gguf_close(gguf);
    buffer_free(&bytes);
    gguf_writer_free(&writer);
}

static void a_file_that_cannot_be_written_is_named(void **state)
{
    (void)state;
    struct gguf_writer writer = {0};
    struct error err = {0};
    assert_int_equal(gguf_writer_save(&writer, "/no/such/directory/x.gguf", &err), -1);
    assert_non_null(strstr(err.message, "/no/such/directory/x.gguf"));
    gguf_writer_free(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_file_without_tensors_is_one_too),
        cmocka_unit_test(a_file_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
