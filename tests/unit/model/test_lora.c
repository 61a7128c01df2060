#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "model/model.h"
#include "model/small_model.h"

enum { RANK = 2 };

static struct error err;

struct made {
    struct gguf *gguf;
    uint8_t *file;
    struct model model;
};

/* A Qwen2, so that an adapter's rows must follow those of the matrix; `untied`: with output rows of its own. */
static void make(struct made *made, bool untied)
{
    struct gguf_bytes bytes = {0};
    put_small_qwen2_keys(&bytes);
    put_small_tensors(&bytes, "");
    put_small_biases(&bytes);
    if (untied)
        put_floats(&bytes, "output.weight", SMALL_TOKENS, SMALL_WIDTH);
    made->gguf = open_made(&bytes, &made->file);
    if (model_load(&made->model, made->gguf, &err) != 0)
        fail_msg("%s", err.message);
}

static void unmake(struct made *made)
{
    model_free(&made->model);
    gguf_close(made->gguf);
    free(made->file);
}

/* The keys of an adapter but for one, which has another text or is left out (NULL). */
static void put_adapter_keys(struct gguf_bytes *bytes, float alpha, const char *changed, const char *text)
{
    static const char *const keys[][2] = {
        {"general.type", "adapter"}, {"general.architecture", "qwen2"}, {"adapter.type", "lora"}};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(keys[i][0], changed) != 0)
            put_key_text(bytes, keys[i][0], keys[i][1]);
        else if (text != NULL)
            put_key_text(bytes, keys[i][0], text);
    if (strcmp("adapter.lora.alpha", changed) != 0)
        put_key_float(bytes, "adapter.lora.alpha", alpha);
}

static void put_pair(struct gguf_bytes *bytes, const char *name, size_t rows, size_t columns, size_t rank)
{
    char full[96];
    snprintf(full, sizeof full, "%s.lora_a", name);
    put_floats(bytes, full, rank, columns);
    snprintf(full, sizeof full, "%s.lora_b", name);
    put_floats(bytes, full, rows, rank);
}

/* Merges what `bytes` make; the adapter is gone afterwards. */
static int merge(struct made *made, struct gguf_bytes *bytes)
{
    uint8_t *file;
    struct gguf *adapter = open_made(bytes, &file);
    int result = model_merge_lora(&made->model, adapter, &err);
    gguf_close(adapter);
    free(file);
    return result;
}

/* Adds alpha / rank * b * a to row `row` of the file's matrix, in double. */
static void add_product(double *sum, const char *name, size_t row, size_t rows, size_t columns, double alpha)
{
    struct gguf_bytes bytes = {0};
    uint8_t *file;
    char full[96];
    float a[SMALL_HIDDEN], b[RANK];
    put_pair(&bytes, name, rows, columns, RANK);
    struct gguf *gguf = open_made(&bytes, &file);
    snprintf(full, sizeof full, "%s.lora_b", name);
    tensor_row(gguf_tensor_named(gguf, full), row, b);
    snprintf(full, sizeof full, "%s.lora_a", name);
    for (size_t k = 0; k < RANK; k++) {
        tensor_row(gguf_tensor_named(gguf, full), k, a);
        for (size_t i = 0; i < columns; i++)
            sum[i] += alpha / RANK * (double)b[k] * (double)a[i];
    }
    gguf_close(gguf);
    free(file);
}

static void assert_merged(const struct made *made, const struct tensor *merged, const char *name, double alpha)
{
    const struct tensor *plain = gguf_tensor_named(made->gguf, name);
    for (size_t i = 0; i < merged->rows; i++) {
        size_t place = tensor_place(merged, i);
        float row[SMALL_HIDDEN];
        double sum[SMALL_HIDDEN];
        tensor_row(plain, place, row);
        for (size_t column = 0; column < plain->columns; column++)
            sum[column] = (double)row[column];
        add_product(sum, name, place, plain->rows, plain->columns, alpha);
        tensor_row(merged, i, row);
        for (size_t column = 0; column < plain->columns; column++)
            assert_true(fabs((double)row[column] - sum[column]) < 1e-5);
    }
}

static void weights_come_out_with_the_adapter_in_them(void **state)
{
    (void)state;
    struct made made;
    make(&made, true);
    struct gguf_bytes bytes = {0};
    put_adapter_keys(&bytes, 3, "", NULL);
    put_pair(&bytes, "blk.0.attn_q.weight", SMALL_WIDTH, SMALL_WIDTH, RANK);
    put_pair(&bytes, "blk.0.ffn_down.weight", SMALL_WIDTH, SMALL_HIDDEN, RANK);
    put_pair(&bytes, "output.weight", SMALL_TOKENS, SMALL_WIDTH, RANK);
    if (merge(&made, &bytes) != 0)
        fail_msg("%s", err.message);
    assert_merged(&made, made.model.layers[0].query, "blk.0.attn_q.weight", 3);
    assert_merged(&made, made.model.layers[0].down, "blk.0.ffn_down.weight", 3);
    assert_merged(&made, made.model.output, "output.weight", 3);
    assert_null(made.model.layers[0].key->update);
    unmake(&made);
}

static void two_adapters_add_up_and_change_the_key_of_what_is_derived(void **state)
{
    (void)state;
    char first[17], both[17];
    struct made made;
    make(&made, false);
    assert_string_equal(made.model.adapters, "");
    struct gguf_bytes bytes = {0};
    put_adapter_keys(&bytes, 1, "", NULL);
    put_pair(&bytes, "blk.0.ffn_up.weight", SMALL_HIDDEN, SMALL_WIDTH, RANK);
    assert_int_equal(merge(&made, &bytes), 0);
    snprintf(first, sizeof first, "%s", made.model.adapters);
    put_adapter_keys(&bytes, 4, "", NULL);
    put_pair(&bytes, "blk.0.ffn_up.weight", SMALL_HIDDEN, SMALL_WIDTH, RANK);
    assert_int_equal(merge(&made, &bytes), 0);
    snprintf(both, sizeof both, "%s", made.model.adapters);
    assert_int_equal(strlen(first), 16);
    assert_int_equal(strlen(both), 16);
    assert_string_not_equal(first, both);
    assert_merged(&made, made.model.layers[0].up, "blk.0.ffn_up.weight", 5);
    unmake(&made);
}

/* After a refusal the model gives the rows it gave before. */
static void assert_refused(struct gguf_bytes *bytes, const char *why)
{
    struct made made;
    make(&made, false);
    int result = merge(&made, bytes);
    for (size_t i = 0; i < model_tensor_count(&made.model); i++)
        assert_null(made.model.tensors[i].update);
    assert_string_equal(made.model.adapters, "");
    unmake(&made);
    if (result == 0)
        fail_msg("merged, though: %s", why);
    assert_int_equal(err.kind, ERROR_FATAL);
    if (strstr(err.message, why) == NULL || strstr(err.message, "made.gguf: ") == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, why);
}

static void what_is_no_adapter_of_the_model_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text, *why;
    } keys[] = {
        {"general.type", "model", "key general.type is model, must be adapter"},
        {"general.type", NULL, "key general.type is missing"},
        {"general.architecture", "llama", "key general.architecture is llama, must be qwen2"},
        {"adapter.type", "ia3", "key adapter.type is ia3, must be lora"},
        {"adapter.lora.alpha", NULL, "key adapter.lora.alpha is missing"},
    };
    struct gguf_bytes bytes = {0};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        put_adapter_keys(&bytes, 1, keys[i].key, keys[i].text);
        put_pair(&bytes, "blk.0.attn_q.weight", SMALL_WIDTH, SMALL_WIDTH, RANK);
        assert_refused(&bytes, keys[i].why);
    }
    static const float alphas[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++) {
        put_adapter_keys(&bytes, alphas[i], "", NULL);
        put_pair(&bytes, "blk.0.attn_q.weight", SMALL_WIDTH, SMALL_WIDTH, RANK);
        assert_refused(&bytes, "adapter.lora.alpha");
    }
    put_adapter_keys(&bytes, 1, "", NULL);
    assert_refused(&bytes, "no tensors");
}

static void tensors_that_do_not_fit_are_refused_and_leave_the_model_as_it_was(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t rows, columns, rank;
    } tensors[] = {
        {"blk.0.attn_q.weight.lora_a", RANK, SMALL_WIDTH, 0}, /* its b is missing */
        {"blk.0.attn_k.weight.lora_b", SMALL_WIDTH, RANK, 0}, /* its a is missing */
        {"blk.0.attn_q.weight", SMALL_WIDTH + 1, SMALL_WIDTH, RANK},
        {"blk.0.attn_v.weight", SMALL_WIDTH, SMALL_WIDTH + 1, RANK},
        {"blk.1.attn_v.weight", SMALL_WIDTH, SMALL_WIDTH, RANK}, /* no such layer */
        {"token_embd.weight", SMALL_TOKENS, SMALL_WIDTH, RANK},
        {"output.weight", SMALL_TOKENS, SMALL_WIDTH, RANK}, /* tied */
        {"blk.0.attn_q.weight.lora_c", RANK, SMALL_WIDTH, 0},
        {".lora_a", RANK, SMALL_WIDTH, 0},
        {"b", RANK, SMALL_WIDTH, 0},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        struct gguf_bytes bytes = {0};
        put_adapter_keys(&bytes, 1, "", NULL);
        put_pair(&bytes, "blk.0.ffn_gate.weight", SMALL_HIDDEN, SMALL_WIDTH, RANK); /* sound, and comes first */
        if (tensors[i].rank == 0)
            put_floats(&bytes, tensors[i].name, tensors[i].rows, tensors[i].columns);
        else
            put_pair(&bytes, tensors[i].name, tensors[i].rows, tensors[i].columns, tensors[i].rank);
        assert_refused(&bytes, "tensor ");
        if (i > 1)
            assert_non_null(strstr(err.message, tensors[i].name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_come_out_with_the_adapter_in_them),
        cmocka_unit_test(two_adapters_add_up_and_change_the_key_of_what_is_derived),
        cmocka_unit_test(what_is_no_adapter_of_the_model_is_refused),
        cmocka_unit_test(tensors_that_do_not_fit_are_refused_and_leave_the_model_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
