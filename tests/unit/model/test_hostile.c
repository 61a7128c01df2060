/* Files cut short and files with bytes changed: an error or a sound model, never a read beyond the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/random.h"
#include "model/heads.h"
#include "model/model.h"
#include "model/tokenizer.h"

enum { MUTATIONS = 20000 / HEADRACE_SLOWDOWN, CHANGES_MOST = 4 };
enum { HEADER_BYTES = 21312 }; /* of tiny.gguf: its weights start there */

static struct error err;

static struct buffer read_tiny(void)
{
    struct buffer file = {0};
    if (file_read(HEADRACE_GOLDEN "/tiny.gguf", 1 << 20, &file, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(file.size > HEADER_BYTES);
    return file;
}

/* Does everything a worker does with a file before the first forward pass. Returns how far it came, 0 to 3. */
static int use(const uint8_t *bytes, size_t size)
{
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct tokens tokens = {0};
    err.message[0] = '\0';
    if (gguf_open_memory(&gguf, bytes, size, "hostile.gguf", &err) != 0)
        return 0;
    for (size_t i = 0; i < gguf_key_count(gguf); i++) {
        struct text key;
        char shown[96];
        gguf_key(gguf, i, &key, shown);
        assert_true(strlen(shown) < sizeof shown);
    }
    int passed = 1;
    if (model_load(&model, gguf, &err) == 0) {
        struct heads heads;
        passed++;
        if (heads_from_output(&heads, &model, NULL, 0, 1, 2, &err) == 0)
            heads_free(&heads);
        float *row = malloc(model.hidden * sizeof *row);
        assert_non_null(row);
        for (size_t i = 0; i < model.layer_count; i++)
            tensor_row(model.layers[i].down, model.width - 1, row);
        free(row);
        model_free(&model);
    }
    if (tokenizer_create(&tokenizer, gguf, &err) == 0) {
        passed++;
        assert_int_equal(tokenizer_encode(tokenizer, text_of("User: liked Heat\n\xff 5"), &tokens, &err), 0);
        tokens_free(&tokens);
        tokenizer_destroy(tokenizer);
    }
    gguf_close(gguf);
    return passed;
}

/* An error is one line that names the file. */
static void assert_explained(void)
{
    assert_non_null(strstr(err.message, "hostile.gguf"));
    assert_null(strchr(err.message, '\n'));
}

static void a_file_cut_short_is_refused(void **state)
{
    (void)state;
    struct buffer tiny = read_tiny();
    for (size_t size = 0; size < tiny.size; size += size < 2000 ? 1 : size < HEADER_BYTES + 100 ? 17 : 4001) {
        uint8_t *bytes = malloc(size + (size == 0));
        assert_non_null(bytes);
        memcpy(bytes, tiny.data, size);
        assert_int_equal(use(bytes, size), 0);
        assert_explained();
        free(bytes);
    }
    buffer_free(&tiny);
}

/* Values that break sums and products rather than bits. */
static void change(struct random *random, uint8_t *bytes, size_t size)
{
    static const uint64_t edges[] = {
        0, 1, 31, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX};
    size_t at = random_below(random, random_below(random, 20) == 0 ? size : HEADER_BYTES);
    size_t width = size - at < 8 ? size - at : 8;
    switch (random_below(random, 4)) {
    case 0:
        bytes[at] = (uint8_t)random_below(random, 256);
        break;
    case 1:
        bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
        break;
    case 2:
        memcpy(bytes + at, &edges[random_below(random, sizeof edges / sizeof *edges)], width);
        break;
    default:
        memmove(bytes + at, bytes + random_below(random, HEADER_BYTES - 8), width);
    }
}

static void changed_bytes_give_an_error_or_a_sound_model(void **state)
{
    (void)state;
    struct buffer tiny = read_tiny();
    struct random random = {20240301};
    size_t passed[4] = {0};
    uint8_t *bytes = malloc(tiny.size); /* exactly its size: a sanitiser sees the byte behind */
    assert_non_null(bytes);
    for (int round = 0; round < MUTATIONS; round++) {
        memcpy(bytes, tiny.data, tiny.size);
        for (uint64_t changes = 1 + random_below(&random, CHANGES_MOST); changes > 0; changes--)
            change(&random, bytes, tiny.size);
        int reached = use(bytes, tiny.size);
        passed[reached]++;
        if (reached < 3)
            assert_explained();
    }
    print_message("of %d changed files %zu did not open, %zu had neither a model nor a tokenizer, %zu one of them, "
                  "%zu both\n",
                  MUTATIONS, passed[0], passed[1], passed[2], passed[3]);
    for (size_t i = 0; i < 4; i++)
        assert_true(passed[i] > 0); /* the changes reach every stage */
    free(bytes);
    buffer_free(&tiny);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_short_is_refused),
        cmocka_unit_test(changed_bytes_give_an_error_or_a_sound_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
