#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/gguf_bytes.h"

static const char tiny_path[] = HEADRACE_GOLDEN "/tiny.gguf";

static struct error err;

static struct gguf *open_tiny(void)
{
    struct gguf *gguf;
    if (gguf_open(&gguf, tiny_path, &err) != 0)
        fail_msg("%s", err.message);
    return gguf;
}

/* Opens the file made of `bytes` and frees it at once: for files that must be refused. */
static void assert_refused(struct gguf_bytes *bytes, const char *why)
{
    size_t size;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(bytes, &size);
    int result = gguf_open_memory(&gguf, file, size, "made.gguf", &err);
    free(file);
    if (result == 0)
        fail_msg("opened, though: %s", why);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, why) == NULL || strstr(err.message, "made.gguf") == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

/* By the definition of binary16 instead of by its bits. */
static double half(const uint8_t *bytes)
{
    int bits = bytes[0] | bytes[1] << 8;
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(fraction, -24)
                                       : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static double expected_value(const struct tensor *tensor, size_t row, size_t column)
{
    const uint8_t *data = tensor->data + row * tensor->row_bytes;
    size_t block = column / 32, place = column % 32;
    float value;
    switch (tensor->type) {
    case TENSOR_F32:
        memcpy(&value, data + 4 * column, sizeof value);
        return (double)value;
    case TENSOR_F16:
        return half(data + 2 * column);
    case TENSOR_Q4_1:
        data += 20 * block;
        return half(data) * (data[4 + place % 16] >> (place < 16 ? 0 : 4) & 15) + half(data + 2);
    case TENSOR_Q8_0:
        data += 34 * block;
        return half(data) * (data[2 + place] - (data[2 + place] > 127 ? 256 : 0));
    default:
        return NAN;
    }
}

static void rows_of_a_file_are_read_as_the_format_says(void **state)
{
    (void)state;
    struct gguf *gguf = open_tiny();
    size_t of_type[9] = {0};
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor(gguf, i);
        float row[160];
        assert_true(tensor->columns <= 160);
        of_type[tensor->type]++;
        for (size_t r = 0; r < tensor->rows; r++) {
            tensor_row(tensor, r, row);
            for (size_t column = 0; column < tensor->columns; column++)
                assert_true(fabs((double)row[column] - expected_value(tensor, r, column)) <= 1e-6);
        }
    }
    assert_int_equal(of_type[TENSOR_F32], 15);
    assert_int_equal(of_type[TENSOR_F16], 2);
    assert_int_equal(of_type[TENSOR_Q8_0], 3);
    assert_int_equal(of_type[TENSOR_Q4_1], 36);
    gguf_close(gguf);
}

static void every_half_is_read_exactly(void **state)
{
    (void)state;
    enum { HALVES = 65536 };
    uint8_t *raw = malloc(2 * HALVES);
    float *row = malloc(HALVES * sizeof *row);
    assert_true(raw != NULL && row != NULL);
    for (size_t i = 0; i < HALVES; i++) {
        raw[2 * i] = (uint8_t)i;
        raw[2 * i + 1] = (uint8_t)(i >> 8);
    }
    struct gguf_bytes bytes = {0};
    put_tensor(&bytes, "halves", TENSOR_F16, 1, HALVES, raw, 2 * HALVES);
    size_t size;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    assert_int_equal(gguf_open_memory(&gguf, file, size, "made.gguf", &err), 0);
    tensor_row(gguf_tensor(gguf, 0), 0, row);
    for (size_t i = 0; i < HALVES; i++) {
        double expected = half(raw + 2 * i);
        assert_true(isnan(expected) ? isnan(row[i]) : (double)row[i] >= expected && (double)row[i] <= expected);
        assert_true(isnan(expected) || (signbit(row[i]) != 0) == (signbit(expected) != 0));
    }
    gguf_close(gguf);
    free(file);
    free(raw);
    free(row);
}

static void values_are_found_by_key(void **state)
{
    (void)state;
    struct gguf *gguf = open_tiny();
    struct text text;
    uint64_t number;
    double real;
    bool truth = true;
    size_t count;
    assert_int_equal(gguf_text(gguf, "general.name", &text, &err), 0);
    assert_true(text_equal(text, text_of("tiny")));
    assert_int_equal(gguf_unsigned(gguf, "llama.block_count", 1, 6, &number, &err), 0);
    assert_int_equal(number, 6);
    assert_int_equal(gguf_float(gguf, "llama.rope.freq_base", &real, &err), 0);
    assert_true(fabs(real - 10000) <= 0);
    assert_int_equal(gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &truth, &err), 0);
    assert_false(truth);
    assert_int_equal(gguf_text_array(gguf, "tokenizer.ggml.tokens", &count, &err), 0);
    assert_int_equal(count, 704);
    assert_true(text_equal(gguf_text_at(gguf, "tokenizer.ggml.tokens", 2), text_of("<|im_end|>")));
    assert_int_equal(gguf_int_array(gguf, "tokenizer.ggml.token_type", &count, &err), 0);
    assert_int_equal(count, 704);
    assert_int_equal(gguf_int_at(gguf, "tokenizer.ggml.token_type", 2), 3);
    assert_int_equal(gguf_int_at(gguf, "tokenizer.ggml.token_type", 3), 1);
    gguf_close(gguf);
}

static void a_wrong_question_names_the_file_and_the_key(void **state)
{
    (void)state;
    struct gguf *gguf = open_tiny();
    struct text text;
    uint64_t number;
    double real;
    bool truth;
    size_t count;
    const struct tensor *tensor;
    assert_int_equal(gguf_text(gguf, "general.nothing", &text, &err), -1);
    assert_non_null(strstr(err.message, "tiny.gguf: key general.nothing is missing"));
    assert_int_equal(gguf_text(gguf, "llama.block_count", &text, &err), -1);
    assert_non_null(strstr(err.message, "tiny.gguf: key llama.block_count is a 32-bit integer, must be text"));
    assert_int_equal(gguf_text(gguf, "tokenizer.ggml.tokens", &text, &err), -1);
    assert_int_equal(gguf_unsigned(gguf, "general.name", 0, 9, &number, &err), -1);
    assert_int_equal(gguf_float(gguf, "llama.block_count", &real, &err), -1);
    assert_int_equal(gguf_bool(gguf, "llama.block_count", &truth, &err), -1);
    assert_int_equal(gguf_text_array(gguf, "general.name", &count, &err), -1);
    assert_int_equal(gguf_text_array(gguf, "tokenizer.ggml.token_type", &count, &err), -1);
    assert_int_equal(gguf_int_array(gguf, "tokenizer.ggml.tokens", &count, &err), -1);
    assert_int_equal(gguf_find_tensor(gguf, "blk.9.attn_q.weight", 64, 64, &tensor, &err), -1);
    assert_non_null(strstr(err.message, "tiny.gguf: tensor blk.9.attn_q.weight is missing"));
    assert_int_equal(gguf_unsigned(gguf, "llama.block_count", 7, 9, &number, &err), -1);
    assert_non_null(strstr(err.message, "tiny.gguf: key llama.block_count is 6, must be 7 to 9"));
    assert_int_equal(gguf_find_tensor(gguf, "blk.0.attn_k.weight", 64, 64, &tensor, &err), -1);
    assert_non_null(strstr(err.message, "tensor blk.0.attn_k.weight is 32 x 64"));
    assert_null(gguf_tensor_named(gguf, "blk.0.attn_k"));
    gguf_close(gguf);
}

static void integers_of_any_width_are_taken(void **state)
{
    (void)state;
    const int64_t minus_two = -2;
    const uint64_t huge = UINT64_MAX;
    static const uint32_t types[] = {1, 3, 5, 11}, widths[] = {1, 2, 4, 8};
    struct gguf_bytes bytes = {0};
    char name[32];
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "signed.%u", types[i]);
        put_key(&bytes, name, types[i], &minus_two, widths[i]);
        snprintf(name, sizeof name, "array.%u", types[i]);
        put_key_array(&bytes, name, types[i], 1);
        buffer_append(&bytes.keys, &minus_two, widths[i]);
    }
    put_key(&bytes, "huge", 10, &huge, sizeof huge);
    put_key_array(&bytes, "huge.array", 10, 1);
    put_u64(&bytes.keys, huge);
    size_t size, count;
    uint64_t number;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    assert_int_equal(gguf_open_memory(&gguf, file, size, "made.gguf", &err), 0);
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "signed.%u", types[i]);
        assert_int_equal(gguf_unsigned(gguf, name, 0, UINT64_MAX, &number, &err), -1);
        assert_non_null(strstr(err.message, "is -2"));
        snprintf(name, sizeof name, "array.%u", types[i]);
        assert_int_equal(gguf_int_array(gguf, name, &count, &err), 0);
        assert_int_equal(gguf_int_at(gguf, name, 0), -2);
    }
    assert_int_equal(gguf_unsigned(gguf, "huge", 0, UINT64_MAX, &number, &err), 0);
    assert_true(number == UINT64_MAX);
    assert_int_equal(gguf_int_array(gguf, "huge.array", &count, &err), -1);
    gguf_close(gguf);
    free(file);
}

static void inspection_shows_short_printable_values(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    char long_text[300], shown[96];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    put_key_text(&bytes, "a", "two\nlines\x1b");
    put_key_text(&bytes, "b", long_text);
    put_key_text(&bytes, "c", "\xff");
    put_key_u32(&bytes, "d", 42);
    put_key_bool(&bytes, "e", true);
    put_key_float(&bytes, "f", 0.5f);
    put_key_array(&bytes, "g", 5, 2);
    put_u64(&bytes.keys, 0);
    const char *expected[] = {"two lines ", NULL, "?", "42", "true", "0.5", "array of 2, each a 32-bit integer"};
    size_t size;
    struct text key;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    assert_int_equal(gguf_open_memory(&gguf, file, size, "made.gguf", &err), 0);
    assert_int_equal(gguf_key_count(gguf), 7);
    for (size_t i = 0; i < 7; i++) {
        gguf_key(gguf, i, &key, shown);
        assert_int_equal(key.data[0], "abcdefg"[i]);
        if (expected[i] != NULL)
            assert_string_equal(shown, expected[i]);
        else
            assert_string_equal(shown + strlen(shown) - 5, "xx...");
    }
    gguf_close(gguf);
    free(file);
}

static void the_hash_is_that_of_the_bytes(void **state)
{
    (void)state;
    struct gguf *one = open_tiny(), *other = open_tiny();
    char hash[17];
    assert_int_equal(strlen(gguf_hash(one)), 16);
    snprintf(hash, sizeof hash, "%s", gguf_hash(one));
    assert_string_equal(gguf_hash(one), gguf_hash(other));
    gguf_close(other);
    struct gguf_bytes bytes = {0};
    size_t size;
    uint8_t *file = finish_bytes(&bytes, &size);
    assert_int_equal(gguf_open_memory(&other, file, size, "made.gguf", &err), 0);
    assert_string_not_equal(gguf_hash(other), hash);
    gguf_close(other);
    gguf_close(one);
    free(file);
}

static void counts_beyond_the_file_are_refused(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {.key_count = UINT64_MAX};
    assert_refused(&bytes, "keys");
    bytes = (struct gguf_bytes){.tensor_count = UINT64_MAX / 2};
    assert_refused(&bytes, "tensors");
    put_key_array(&bytes, "long.array", 10, UINT64_MAX / 8 + 2);
    assert_refused(&bytes, "long.array");
    put_key_array(&bytes, "long.texts", 8, UINT64_MAX / 8 + 2);
    assert_refused(&bytes, "long.texts");
    put_key_array(&bytes, "short.texts", 8, 1);
    put_u64(&bytes.keys, UINT64_MAX - 3);
    assert_refused(&bytes, "short.texts");
    put_key(&bytes, "long.text", 8, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
    assert_refused(&bytes, "long.text");
    bytes.key_count = 1;
    put_u64(&bytes.keys, UINT64_MAX);
    put_u64(&bytes.keys, 0);
    assert_refused(&bytes, "key at byte 32");
}

static void values_of_no_known_kind_are_refused(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_key(&bytes, "strange", 13, "12345678", 8);
    assert_refused(&bytes, "key strange: value type 13");
    put_key_array(&bytes, "strange", 77, 1);
    put_u64(&bytes.keys, 0);
    assert_refused(&bytes, "key strange: value type 77");
    put_key_array(&bytes, "nested", 9, 1);
    put_u32(&bytes.keys, 4);
    put_u64(&bytes.keys, 0);
    assert_refused(&bytes, "arrays of arrays");
    put_key(&bytes, "neither", 7, "\x02", 1);
    assert_refused(&bytes, "neither: 2 is no bool");
}

static void names_must_be_printable_and_unique(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_key_u32(&bytes, "same", 1);
    put_key_u32(&bytes, "same", 1);
    assert_refused(&bytes, "key same stands there twice");
    put_key_u32(&bytes, "new\nline", 1);
    assert_refused(&bytes, "printable");
    put_key_u32(&bytes, "", 1);
    assert_refused(&bytes, "printable");
    put_tensor(&bytes, "same", TENSOR_F32, 1, 4, NULL, 16);
    put_tensor(&bytes, "same", TENSOR_F32, 1, 4, NULL, 16);
    assert_refused(&bytes, "tensor same stands there twice");
}

static void impossible_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t rows, columns;
        const char *why;
    } impossible[] = {
        {TENSOR_F32, 2, 0, "dimension 0 is 0"},
        {TENSOR_F32, 0, 2, "dimension 1 is 0"},
        {TENSOR_F32, 2, UINT64_MAX, "impossible"},
        {TENSOR_F32, UINT64_MAX / 2, 2, "larger than the file"},
        {TENSOR_F16, UINT64_C(1) << 62, 2, "larger than the file"},
        {TENSOR_Q8_0, 1, 48, "48 values is impossible in Q8_0"},
        {TENSOR_Q4_1, 1, 16, "16 values is impossible in Q4_1"},
        {TENSOR_F32, 1, 5, "cut short"},
        {10, 1, 256, "type 10 is not supported; supported: F32, F16, BF16, Q4_0"},
        {TENSOR_Q6_K, 1, 128, "128 values is impossible in Q6_K"},
        {UINT32_MAX, 1, 256, "not supported"},
    };
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        struct gguf_bytes bytes = {0};
        put_tensor(&bytes, "weights", impossible[i].type, impossible[i].rows, impossible[i].columns, NULL, 0);
        buffer_append(&bytes.data, "four values here", 16);
        assert_refused(&bytes, impossible[i].why);
        assert_non_null(strstr(err.message, "weights"));
    }
    for (uint32_t dimensions = 0; dimensions <= 5; dimensions += 5) {
        struct gguf_bytes bytes = {.tensor_count = 1};
        put_string(&bytes.infos, "weights");
        put_u32(&bytes.infos, dimensions);
        for (uint32_t i = 0; i < 8; i++)
            put_u64(&bytes.infos, 1);
        assert_refused(&bytes, "dimensions; supported: 1 to 4");
    }
    struct gguf_bytes bytes = {.tensor_count = 1};
    put_string(&bytes.infos, "weights");
    put_u32(&bytes.infos, 4);
    for (uint32_t i = 0; i < 4; i++)
        put_u64(&bytes.infos, UINT64_C(1) << 32);
    put_u32(&bytes.infos, TENSOR_F32);
    put_u64(&bytes.infos, 0);
    assert_refused(&bytes, "dimension 2 is 4294967296, out of range");
}

/* Two tensors of 32 bytes; the second one's offset, the last 8 bytes of its description, is overwritten. */
static void put_two_tensors(struct gguf_bytes *bytes, uint64_t second_offset)
{
    put_tensor(bytes, "first", TENSOR_F32, 1, 8, NULL, 32);
    put_tensor(bytes, "second", TENSOR_F32, 1, 8, NULL, 32);
    memcpy(bytes->infos.data + bytes->infos.size - sizeof second_offset, &second_offset, sizeof second_offset);
}

static void tensors_must_lie_in_the_file_and_apart(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_two_tensors(&bytes, 0);
    assert_refused(&bytes, "overlap");
    put_two_tensors(&bytes, 40);
    assert_refused(&bytes, "tensor second: its offset 40 is not aligned to 32 bytes");
    put_two_tensors(&bytes, 64);
    assert_refused(&bytes, "tensor second: its 32 bytes at offset 64");
    put_two_tensors(&bytes, UINT64_MAX - 31);
    assert_refused(&bytes, "tensor second");
    put_key_u32(&bytes, "general.alignment", 24);
    put_two_tensors(&bytes, 32);
    assert_refused(&bytes, "power of two");
    put_key_u32(&bytes, "general.alignment", 0);
    put_two_tensors(&bytes, 32);
    assert_refused(&bytes, "general.alignment");
}

static void what_is_no_gguf_of_version_2_or_3_is_refused(void **state)
{
    (void)state;
    struct gguf *gguf;
    const struct {
        const char *bytes;
        size_t size;
        const char *why;
    } files[] = {
        {"", 0, "no GGUF file"},
        {"GGU", 3, "no GGUF file"},
        {"PK\3\4 something else", 18, "no GGUF file"},
        {"GGUF\3\0", 6, "version at byte 4"},
        {"GGUF\1\0\0\0", 8, "version 1; supported: 2 and 3"},
        {"GGUF\4\0\0\0", 8, "version 4; supported: 2 and 3"},
        {"GGUF\0\0\0\3", 8, "big-endian"},
        {"GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 19, "key count"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const uint8_t *bytes = (const uint8_t *)files[i].bytes;
        assert_int_equal(gguf_open_memory(&gguf, bytes, files[i].size, "other", &err), -1);
        assert_null(gguf);
        if (strstr(err.message, files[i].why) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.message, files[i].why);
    }
    assert_int_equal(gguf_open(&gguf, "/nowhere/no.gguf", &err), -1);
    assert_non_null(strstr(err.message, "/nowhere/no.gguf"));
    gguf_close(NULL);
}

static void version_2_is_read_as_version_3(void **state)
{
    (void)state;
    struct gguf_bytes bytes = {0};
    put_key_u32(&bytes, "number", 7);
    put_tensor(&bytes, "weights", TENSOR_F32, 1, 4, "four values here", 16);
    size_t size;
    uint64_t number;
    struct gguf *gguf;
    uint8_t *file = finish_bytes(&bytes, &size);
    file[4] = 2; /* the version's lowest byte */
    if (gguf_open_memory(&gguf, file, size, "made.gguf", &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(gguf_unsigned(gguf, "number", 0, 9, &number, &err), 0);
    assert_int_equal(number, 7);
    assert_memory_equal(gguf_tensor_named(gguf, "weights")->data, "four values here", 16);
    gguf_close(gguf);
    free(file);
}

static void a_long_path_does_not_hide_what_is_wrong(void **state)
{
    (void)state;
    char path[400];
    struct gguf *gguf;
    memset(path, 'd', sizeof path);
    snprintf(path + sizeof path - 10, 10, "/the.gguf");
    assert_int_equal(gguf_open_memory(&gguf, (const uint8_t *)"GGUX", 4, path, &err), -1);
    assert_non_null(strstr(err.message, "d/the.gguf: no GGUF file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_file_are_read_as_the_format_says),
        cmocka_unit_test(every_half_is_read_exactly),
        cmocka_unit_test(values_are_found_by_key),
        cmocka_unit_test(a_wrong_question_names_the_file_and_the_key),
        cmocka_unit_test(integers_of_any_width_are_taken),
        cmocka_unit_test(inspection_shows_short_printable_values),
        cmocka_unit_test(the_hash_is_that_of_the_bytes),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(values_of_no_known_kind_are_refused),
        cmocka_unit_test(names_must_be_printable_and_unique),
        cmocka_unit_test(impossible_tensors_are_refused),
        cmocka_unit_test(tensors_must_lie_in_the_file_and_apart),
        cmocka_unit_test(what_is_no_gguf_of_version_2_or_3_is_refused),
        cmocka_unit_test(version_2_is_read_as_version_3),
        cmocka_unit_test(a_long_path_does_not_hide_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
