/* Any bytes as model, vocabulary, adapter and heads: an error that names the file, or something sound. */
#include <stdlib.h>

#include "model/heads.h"
#include "model/model.h"
#include "model/small_model.h"
#include "model/tokenizer.h"

enum { ROWS_READ = 4, TOKENS_DECODED = 300 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* -1: the error must say which file, in one line. */
static bool fine(int result, const struct error *err)
{
    must(result == 0 || (result == -1 && err->kind == ERROR_FATAL && strstr(err->message, "input.gguf") != NULL &&
                         strchr(err->message, '\n') == NULL));
    return result == 0;
}

static void read_rows(const struct tensor *tensor)
{
    float *row = malloc(tensor->columns * sizeof *row);
    must(row != NULL);
    for (size_t i = 0; i < tensor->rows && i < ROWS_READ; i++) {
        tensor_row(tensor, i, row);
        tensor_row(tensor, tensor->rows - 1 - i, row);
    }
    free(row);
}

static void read_file(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf_key_count(gguf); i++) {
        struct text key;
        char shown[96];
        gguf_key(gguf, i, &key, shown);
        must(memchr(shown, '\0', sizeof shown) != NULL);
    }
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++)
        read_rows(gguf_tensor(gguf, i));
}

static void use_model(const struct gguf *gguf)
{
    struct model model;
    struct error err;
    struct heads heads;
    if (!fine(model_load(&model, gguf, &err), &err))
        return;
    for (size_t i = 0; i < model_tensor_count(&model); i++)
        read_rows(&model.tensors[i]);
    must(model_memory(&model).int8 > 0);
    if (heads_from_output(&heads, &model, NULL, 0, 0, 1, &err) == 0)
        heads_free(&heads);
    model_free(&model);
}

static void use_heads(const struct gguf *gguf)
{
    enum { MOST = 4 };
    char sets[MOST][HEADS_SET_SIZE];
    float features[HEADS_MAX_FEATURES] = {0};
    struct heads_origin origin;
    struct heads heads;
    struct error err;
    size_t count = heads_sets(gguf, sets, MOST);
    for (size_t i = 0; i < count; i++) {
        if (!fine(heads_load(&heads, &origin, gguf, sets[i], NULL, &err), &err))
            continue;
        must(heads.count > 0 && heads.exits[0].first >= 1);
        for (size_t e = 0; e < heads.count; e++)
            head_evidence_logit(&heads, &heads.exits[e], features);
        heads_free(&heads);
    }
}

static void use_tokenizer(const struct gguf *gguf)
{
    static const char text[] = "User: liked Heat (1995)\n\n  \xe2\x96\x81\xc3\xa9'LL 12345 <s>\xff!";
    struct tokenizer *tokenizer;
    struct tokens tokens = {0};
    struct buffer decoded = {0};
    struct error err;
    size_t start, length;
    int32_t id;
    if (!fine(tokenizer_create(&tokenizer, gguf, &err), &err))
        return;
    must(tokenizer_encode(tokenizer, (struct text){text, sizeof text - 1}, &tokens, &err) == 0);
    for (size_t i = 0; i < tokens.count; i++)
        must(tokenizer_decode(tokenizer, tokens.ids[i], &decoded, &err) == 0);
    for (int32_t i = 0; i < TOKENS_DECODED; i++)
        must(tokenizer_decode(tokenizer, i, &decoded, &err) == ((size_t)i < tokenizer_size(tokenizer) ? 0 : -1));
    if (tokenizer_find_special(tokenizer, (struct text){text, sizeof text - 1}, &start, &length, &id))
        must(start + length < sizeof text && id >= 0 && (size_t)id < tokenizer_size(tokenizer));
    must(tokenizer_bos(tokenizer) < (int32_t)tokenizer_size(tokenizer));
    buffer_free(&decoded);
    tokens_free(&tokens);
    tokenizer_destroy(tokenizer);
}

static void use_adapter(struct gguf *adapter)
{
    static uint8_t *file;
    static struct gguf *gguf;
    struct model model;
    struct error err;
    if (gguf == NULL) {
        struct gguf_bytes bytes = {0};
        put_small_keys(&bytes, "");
        put_small_tensors(&bytes, "");
        gguf = open_made(&bytes, &file);
    }
    must(model_load(&model, gguf, &err) == 0);
    bool merged = fine(model_merge_lora(&model, adapter, &err), &err);
    must(merged == (model.adapters[0] != '\0'));
    for (size_t i = 0; i < model_tensor_count(&model); i++)
        read_rows(&model.tensors[i]);
    model_free(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct gguf *gguf;
    struct error err;
    if (!fine(gguf_open_memory(&gguf, bytes, size, "input.gguf", &err), &err))
        return 0;
    read_file(gguf);
    use_model(gguf);
    use_heads(gguf);
    use_tokenizer(gguf);
    use_adapter(gguf);
    gguf_close(gguf);
    return 0;
}
