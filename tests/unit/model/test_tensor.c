#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/golden_bytes.h"
#include "model/tensor.h"
#include "real_model.h"

enum { TYPES = 11, TYPE_NUMBERS = 64, LARGE_BLOCK = 256, SMALL_BLOCK = 32 };

/* Rows made and unpacked by an independent implementation: tests/golden/make_blocks.py. */
static void rows_of_every_type_are_those_of_an_independent_reader(void **state)
{
    (void)state;
    json_t *golden = golden_json("blocks.json"), *entry;
    struct buffer raw = {0}, expected = {0};
    size_t at;
    assert_int_equal(json_array_size(golden), TYPES);
    json_array_foreach(golden, at, entry)
    {
        golden_bytes(entry, "raw", &raw);
        golden_bytes(entry, "floats", &expected);
        size_t columns = expected.size / sizeof(float);
        struct tensor tensor = {.type = (enum tensor_type)json_integer_value(json_object_get(entry, "number")),
                                .columns = columns,
                                .rows = 1,
                                .data = raw.data,
                                .row_bytes = raw.size};
        assert_string_equal(tensor_type_name(tensor.type), json_string_value(json_object_get(entry, "name")));
        assert_int_equal(tensor_row_bytes(tensor.type, columns), raw.size);
        float row[512];
        assert_int_equal(columns, 512);
        tensor_row(&tensor, 0, row);
        for (size_t i = 0; i < columns; i++) {
            float value;
            memcpy(&value, expected.data + i * sizeof value, sizeof value);
            if (!(fabsf(row[i] - value) <= 2e-7f * fabsf(value) + 1e-6f))
                fail_msg("%s: value %zu is %g, must be %g", tensor_type_name(tensor.type), i, (double)row[i],
                         (double)value);
        }
    }
    buffer_free(&raw);
    buffer_free(&expected);
    json_decref(golden);
}

static void every_type_that_is_read_is_named_in_messages(void **state)
{
    (void)state;
    size_t known = 0;
    for (unsigned number = 0; number < TYPE_NUMBERS; number++) {
        const char *name = tensor_type_name((enum tensor_type)number);
        known += name != NULL;
        if (name != NULL)
            assert_non_null(strstr(tensor_types_supported(), name));
    }
    assert_int_equal(known, TYPES);
    assert_null(tensor_type_name((enum tensor_type)UINT32_MAX));
}

static void a_row_that_its_blocks_do_not_fill_has_no_size(void **state)
{
    (void)state;
    assert_int_equal(tensor_row_bytes(TENSOR_BF16, 3), 6);
    assert_int_equal(tensor_row_bytes(TENSOR_Q4_0, SMALL_BLOCK + SMALL_BLOCK / 2), 0);
    assert_int_equal(tensor_row_bytes(TENSOR_Q4_K, LARGE_BLOCK + SMALL_BLOCK), 0);
    assert_int_equal(tensor_row_bytes(TENSOR_Q6_K, LARGE_BLOCK), 210);
    assert_int_equal(tensor_row_bytes(TENSOR_F32, SIZE_MAX), 0);
    assert_int_equal(tensor_row_bytes((enum tensor_type)4, LARGE_BLOCK), 0);
}

enum { ROWS = 12, COLUMNS = 7, RANK = 3 };

static struct tensor plain_floats(float values[ROWS][COLUMNS])
{
    struct random random = {5};
    for (size_t row = 0; row < ROWS; row++)
        for (size_t column = 0; column < COLUMNS; column++)
            values[row][column] = (float)random_below(&random, 2000) / 1000 - 1;
    return (struct tensor){.type = TENSOR_F32,
                           .rows = ROWS,
                           .columns = COLUMNS,
                           .data = (const uint8_t *)values,
                           .row_bytes = COLUMNS * sizeof(float)};
}

static void halves_of_a_head_come_out_interleaved(void **state)
{
    (void)state;
    static const size_t places[ROWS] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    float values[ROWS][COLUMNS], row[COLUMNS];
    struct tensor tensor = plain_floats(values);
    tensor.halves = 6;
    for (size_t i = 0; i < ROWS; i++) {
        tensor_row(&tensor, i, row);
        assert_memory_equal(row, values[places[i]], sizeof row);
    }
}

static void adapters_add_their_product_to_the_row_of_the_file(void **state)
{
    (void)state;
    float values[ROWS][COLUMNS], a[2][RANK * COLUMNS], b[2][ROWS * RANK], row[COLUMNS];
    struct tensor tensor = plain_floats(values);
    for (size_t i = 0; i < RANK * COLUMNS; i++)
        a[0][i] = 1 / (float)(i + 1), a[1][i] = (float)i - 9;
    for (size_t i = 0; i < ROWS * RANK; i++)
        b[0][i] = (float)(i % 5) - 2, b[1][i] = 0.25f * (float)(i % 7);
    struct low_rank second = {RANK, a[1], b[1], NULL}, first = {RANK, a[0], b[0], &second};
    tensor.update = &first;
    tensor.halves = 6; /* a row keeps its update wherever it comes out */
    for (size_t out = 0; out < ROWS; out++) {
        size_t in = out / 6 * 6 + out % 6 / 2 + out % 2 * 3;
        tensor_row(&tensor, out, row);
        for (size_t column = 0; column < COLUMNS; column++) {
            double sum = (double)values[in][column];
            for (size_t k = 0; k < 2 * RANK; k++)
                sum += (double)b[k / RANK][in * RANK + k % RANK] * (double)a[k / RANK][k % RANK * COLUMNS + column];
            assert_true(fabs((double)row[column] - sum) < 1e-5);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_type_are_those_of_an_independent_reader),
        cmocka_unit_test(every_type_that_is_read_is_named_in_messages),
        cmocka_unit_test(a_row_that_its_blocks_do_not_fill_has_no_size),
        cmocka_unit_test(halves_of_a_head_come_out_interleaved),
        cmocka_unit_test(adapters_add_their_product_to_the_row_of_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
