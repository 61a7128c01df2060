#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/text.h"
#include "model/gguf_file.h"
#include "model/model.h"

/* An adapter under work: nothing enters the model before all of it is sound. */
struct merge {
    struct model *model;
    const struct gguf *gguf;
    double alpha;
    struct low_rank **updates; /* (model_tensor_count): NULL where it changes nothing */
    struct error *err;
};

static const char suffix_a[] = ".lora_a", suffix_b[] = ".lora_b";

static int check_kind(const struct merge *merge, const char *key, struct text wanted)
{
    struct text value;
    if (gguf_text(merge->gguf, key, &value, merge->err) != 0)
        return -1;
    if (!text_equal(value, wanted))
        return gguf_fail(merge->gguf, merge->err, "key %s is " TEXT_FORMAT ", must be " TEXT_FORMAT, key,
                         TEXT_ARGS(text_prefix(value, 64)), TEXT_ARGS(wanted));
    return 0;
}

static int read_conventions(struct merge *merge)
{
    static const char alpha_key[] = "adapter.lora.alpha";
    if (check_kind(merge, "general.type", text_of("adapter")) != 0 ||
        check_kind(merge, "general.architecture", merge->model->architecture) != 0 ||
        check_kind(merge, "adapter.type", text_of("lora")) != 0 ||
        gguf_float(merge->gguf, alpha_key, &merge->alpha, merge->err) != 0)
        return -1;
    if (!(merge->alpha > 0 && merge->alpha <= 1e6))
        return gguf_fail(merge->gguf, merge->err, "key %s is %g, must be above 0 and at most 1e6", alpha_key,
                         merge->alpha);
    return gguf_tensor_count(merge->gguf) > 0 ? 0 : gguf_fail(merge->gguf, merge->err, "has no tensors");
}

static void free_low_rank(struct low_rank *update)
{
    if (update == NULL)
        return;
    free(update->a);
    free(update->b);
    free(update);
}

/* b takes the scale alpha / rank. */
static struct low_rank *read_pair(const struct merge *merge, const struct tensor *a, const struct tensor *b)
{
    struct low_rank *update = calloc(1, sizeof *update);
    if (update == NULL)
        return NULL;
    update->rank = a->rows;
    update->a = malloc(a->rows * a->columns * sizeof *update->a);
    update->b = malloc(b->rows * b->columns * sizeof *update->b);
    if (update->a == NULL || update->b == NULL) {
        free_low_rank(update);
        return NULL;
    }
    float scale = (float)(merge->alpha / (double)update->rank);
    for (size_t row = 0; row < a->rows; row++)
        tensor_row(a, row, update->a + row * a->columns);
    for (size_t row = 0; row < b->rows; row++)
        tensor_row(b, row, update->b + row * b->columns);
    for (size_t i = 0; i < b->rows * b->columns; i++)
        update->b[i] *= scale;
    return update;
}

/* The model's tensor of that name among those an adapter may change. */
static size_t find_target(const struct merge *merge, struct text name)
{
    size_t count = model_tensor_count(merge->model), i = 0;
    while (i < count && !text_equal(merge->model->tensors[i].name, name))
        i++;
    return i;
}

/* A tensor of either kind is looked at; the pair is read when it is the turn of its first, `a`. */
static int take_tensor(struct merge *merge, const struct tensor *tensor)
{
    const size_t suffix = sizeof suffix_a - 1;
    struct text name = {tensor->name.data, tensor->name.size > suffix ? tensor->name.size - suffix : 0};
    struct text end = {tensor->name.data + name.size, tensor->name.size - name.size};
    bool is_a = text_equal(end, text_of(suffix_a));
    size_t target = find_target(merge, name);
    if (name.size == 0 || (!is_a && !text_equal(end, text_of(suffix_b))) || target == model_tensor_count(merge->model))
        return gguf_fail(merge->gguf, merge->err,
                         "tensor " TEXT_FORMAT " is not supported; supported: NAME%s and NAME%s of the layers' tensors "
                         "and of an output that is not tied",
                         TEXT_ARGS(text_prefix(tensor->name, 64)), suffix_a, suffix_b);
    char other_name[128];
    const struct tensor *base = &merge->model->tensors[target], *other;
    size_t rank = is_a ? tensor->rows : tensor->columns;
    snprintf(other_name, sizeof other_name, TEXT_FORMAT "%s", TEXT_ARGS(name), is_a ? suffix_b : suffix_a);
    if (gguf_find_tensor(merge->gguf, other_name, is_a ? base->rows : rank, is_a ? rank : base->columns, &other,
                         merge->err) != 0)
        return -1;
    if (!is_a)
        return 0;
    if (tensor->columns != base->columns)
        return gguf_fail(merge->gguf, merge->err, "tensor " TEXT_FORMAT " has %zu columns, the model's has %zu",
                         TEXT_ARGS(tensor->name), tensor->columns, base->columns);
    merge->updates[target] = read_pair(merge, tensor, other);
    if (merge->updates[target] == NULL)
        return gguf_fail(merge->gguf, merge->err, "out of memory at tensor " TEXT_FORMAT, TEXT_ARGS(tensor->name));
    return 0;
}

static void apply(const struct merge *merge)
{
    for (size_t i = 0; i < model_tensor_count(merge->model); i++) {
        struct low_rank **last = &merge->model->tensors[i].update;
        while (*last != NULL)
            last = &(*last)->next;
        *last = merge->updates[i];
    }
}

int model_merge_lora(struct model *model, struct gguf *adapter, struct error *err)
{
    struct merge merge = {.model = model, .gguf = adapter, .err = err};
    int result = -1;
    if (read_conventions(&merge) != 0)
        return -1;
    merge.updates = calloc(model_tensor_count(model), sizeof(struct low_rank *));
    if (merge.updates == NULL)
        return gguf_fail(adapter, err, "out of memory for an adapter");
    for (size_t i = 0; i < gguf_tensor_count(adapter); i++)
        if (take_tensor(&merge, gguf_tensor(adapter, i)) != 0)
            goto out;
    apply(&merge);
    char both[sizeof model->adapters + sizeof model->adapters];
    int length = snprintf(both, sizeof both, "%s%s", model->adapters, gguf_hash(adapter));
    snprintf(model->adapters, sizeof model->adapters, "%016llx", (unsigned long long)XXH3_64bits(both, (size_t)length));
    result = 0;
out:
    for (size_t i = 0; result != 0 && i < model_tensor_count(model); i++)
        free_low_rank(merge.updates[i]);
    free(merge.updates);
    return result;
}
