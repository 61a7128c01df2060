#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "cmd/titles.h"

static const char model[] = HEADRACE_GOLDEN "/tiny.gguf";

static struct titles *open_titles(size_t dimension)
{
    struct titles *titles;
    struct error err;
    if (titles_open(&titles, model, dimension, &err) != 0)
        fail_msg("%s", err.message);
    return titles;
}

static double product(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void a_title_has_one_vector_of_length_one(void **state)
{
    (void)state;
    float first[64], again[64], other[64];
    struct titles *titles = open_titles(64), *second = open_titles(64);
    assert_true(titles_vector(titles, text_of("The Third Man"), first));
    assert_true(titles_vector(second, text_of("The Third Man"), again));
    assert_true(titles_vector(titles, text_of("Brazil"), other));
    assert_memory_equal(first, again, sizeof first);
    assert_string_equal(titles_version(titles), titles_version(second));
    assert_true(fabs(product(first, first, 64) - 1) < 1e-6 && fabs(product(other, other, 64) - 1) < 1e-6);
    assert_true(product(first, other, 64) < 0.99);
    titles_close(titles);
    titles_close(second);
}

static void it_is_the_mean_of_the_words_that_counts(void **state)
{
    (void)state;
    float once[32], thrice[32];
    struct titles *titles = open_titles(32);
    assert_true(titles_vector(titles, text_of(" 7"), once));
    assert_true(titles_vector(titles, text_of(" 7 7 7"), thrice));
    assert_true(product(once, thrice, 32) > 1 - 1e-6);
    titles_close(titles);
}

static void nothing_has_no_vector(void **state)
{
    (void)state;
    float out[16];
    struct titles *titles = open_titles(16);
    assert_false(titles_vector(titles, text_of(""), out));
    titles_close(titles);
}

static void a_file_that_is_no_model_is_named(void **state)
{
    (void)state;
    struct titles *titles;
    struct error err;
    assert_int_equal(titles_open(&titles, "/nonexistent/model.gguf", 64, &err), -1);
    assert_non_null(strstr(err.message, "/nonexistent/model.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_title_has_one_vector_of_length_one),
        cmocka_unit_test(it_is_the_mean_of_the_words_that_counts),
        cmocka_unit_test(nothing_has_no_vector),
        cmocka_unit_test(a_file_that_is_no_model_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
