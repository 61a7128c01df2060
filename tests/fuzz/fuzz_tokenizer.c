/* Any bytes as text, under every convention: the tokens are plain ones, and stand for exactly the text. */
#include <stdlib.h>

#include "model/conventions.h"
#include "real_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check(const struct tokenizer *tokenizer, struct text text)
{
    struct tokens tokens = {0};
    struct buffer decoded = {0};
    struct error err;
    must(tokenizer_encode(tokenizer, text, &tokens, &err) == 0);
    must(tokens.count <= 3 * text.size); /* of a blank at worst three bytes, U+2581 */
    for (size_t i = 0; i < tokens.count; i++) {
        size_t before = decoded.size;
        must(tokenizer_decode(tokenizer, tokens.ids[i], &decoded, &err) == 0);
        must(decoded.size > before);
    }
    /* U+2581 in the text comes back as the blank that it spells, so compare the tokens of what came back. */
    struct tokens again = {0};
    must(tokenizer_encode(tokenizer, buffer_text(&decoded), &again, &err) == 0);
    must(again.count == tokens.count);
    must(tokens.count == 0 || memcmp(again.ids, tokens.ids, tokens.count * sizeof *tokens.ids) == 0);
    if (memmem(text.data, text.size, "\xe2\x96\x81", 3) == NULL)
        must(text_equal(buffer_text(&decoded), text));
    tokens_free(&tokens);
    tokens_free(&again);
    buffer_free(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct tokenizer *tokenizers[CONVENTIONS];
    if (tokenizers[0] == NULL) {
        json_t *golden = golden_json("tokenizers.json");
        for (size_t i = 0; i < CONVENTIONS; i++)
            tokenizers[i] = convention_tokenizer(golden, i);
        json_decref(golden);
    }
    for (size_t i = 0; i < CONVENTIONS; i++)
        check(tokenizers[i], (struct text){(const char *)bytes, size});
    return 0;
}
