/* The default model's tokenizer against Hugging Face tokenizers (tests/golden/make_smollm2.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/gguf.h"
#include "model/tokenizer.h"
#include "real_model.h"

static void token_ids_are_those_of_the_reference(void **state)
{
    (void)state;
    const char *path = real_model_path();
    if (path == NULL)
        skip();
    struct error err;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    if (gguf_open(&gguf, path, &err) != 0 || tokenizer_create(&tokenizer, gguf, &err) != 0)
        fail_msg("%s", err.message);

    json_t *golden = golden_json("smollm2.json");
    assert_non_null(golden);
    json_t *strings = json_object_get(golden, "strings");
    assert_true(json_array_size(strings) >= 200);
    size_t at;
    json_t *entry;
    json_array_foreach(strings, at, entry)
    {
        json_t *text = json_object_get(entry, "text"), *ids = json_object_get(entry, "ids");
        struct tokens tokens = {0};
        assert_int_equal(tokenizer_encode(tokenizer, (struct text){json_string_value(text), json_string_length(text)},
                                          &tokens, &err),
                         0);
        bool same = tokens.count == json_array_size(ids);
        for (size_t i = 0; same && i < tokens.count; i++)
            same = tokens.ids[i] == json_integer_value(json_array_get(ids, i));
        if (!same)
            fail_msg("string %zu, \"%s\": other token ids than the reference", at, json_string_value(text));
        tokens_free(&tokens);
    }
    json_decref(golden);
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(token_ids_are_those_of_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
