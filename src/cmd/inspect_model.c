/* inspect_model.c - a model file: its keys, its tensors, and whether it can answer */
#include <stdio.h>
#include <sys/stat.h>

#include "cmd/inspect.h"
#include "cmd/terminal.h"

enum { MOST_TYPES = 16 /* the reader knows fewer */, KEY_WIDTH = 44, MIB = 1 << 20 };

/* Tensors of one type. */
struct share {
    enum tensor_type type;
    size_t tensors;
    uint64_t values, bytes;
};

static size_t share_by_type(const struct gguf *gguf, struct share shares[MOST_TYPES], uint64_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct tensor *tensor = gguf_tensor(gguf, i);
        size_t at = 0;
        while (at < count && shares[at].type != tensor->type)
            at++;
        if (at == count && count < MOST_TYPES)
            shares[count++] = (struct share){.type = tensor->type};
        shares[at].tensors++;
        shares[at].values += (uint64_t)tensor->rows * tensor->columns;
        shares[at].bytes += (uint64_t)tensor->rows * tensor->row_bytes;
        *bytes += (uint64_t)tensor->rows * tensor->row_bytes;
    }
    return count;
}

/* The label words as they are spelt in the vocabulary. */
static struct text label(const struct answering *answering, int32_t id, struct buffer *piece)
{
    struct error ignored; /* the template's labels are the tokenizer's own ids */
    buffer_clear(piece);
    tokenizer_decode(answering->tokenizer, id, piece, &ignored);
    return buffer_text(piece);
}

static void print_architecture(const struct model *model)
{
    const struct {
        const char *name;
        size_t value;
    } numbers[] = {{"layers", model->layer_count},    {"width", model->width},         {"hidden", model->hidden},
                   {"heads", model->heads},           {"key heads", model->key_heads}, {"head size", model->head_size},
                   {"vocabulary", model->vocabulary}, {"context", model->context}};
    printf("\n%-20s" TEXT_FORMAT "\n", "model", TEXT_ARGS(model->architecture));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        printf("%-20s%zu\n", numbers[i].name, numbers[i].value);
    printf("%-20s%g\n%-20s%g\n", "norm epsilon", model->norm_epsilon, "rope base", model->rope_base);
    struct model_memory memory = model_memory(model);
    printf("%-20s%.1f MiB in f32, %.1f in bf16, %.1f in int8\n", "memory for weights", (double)memory.f32 / MIB,
           (double)memory.bf16 / MIB, (double)memory.int8 / MIB);
    printf("%-20s%s\n", "output rows", model->output == model->embedding ? "tied to the embedding" : "of their own");
}

static void print_keys(const struct gguf *gguf)
{
    printf("\n%-*s value\n", KEY_WIDTH, "key");
    for (size_t i = 0; i < gguf_key_count(gguf); i++) {
        struct text key;
        char value[96];
        gguf_key(gguf, i, &key, value);
        terminal_print(key, KEY_WIDTH);
        putchar(' ');
        terminal_print(text_of(value), 0);
        putchar('\n');
    }
}

static void print_tensors(const struct gguf *gguf)
{
    struct share shares[MOST_TYPES];
    uint64_t bytes;
    size_t count = share_by_type(gguf, shares, &bytes);
    printf("\n%-8s %8s %14s %14s\n", "type", "tensors", "values", "bytes");
    for (size_t i = 0; i < count; i++)
        printf("%-8s %8zu %14llu %14llu\n", tensor_type_name(shares[i].type), shares[i].tensors,
               (unsigned long long)shares[i].values, (unsigned long long)shares[i].bytes);
    printf("%-8s %8zu %14s %14llu\n", "all", gguf_tensor_count(gguf), "", (unsigned long long)bytes);
}

static void print_model(const struct answering *answering, uint64_t file_bytes)
{
    printf("%-20s%s\n", "file", gguf_path(answering->gguf));
    printf("%-20s%llu bytes\n", "size", (unsigned long long)file_bytes);
    printf("%-20s%s\n", "hash", gguf_hash(answering->gguf));
    print_keys(answering->gguf);
    print_tensors(answering->gguf);
    if (answering->model.layers != NULL)
        print_architecture(&answering->model);
    if (answering->prompt == NULL)
        return;
    struct buffer piece = {0};
    const int32_t ids[] = {prompt_yes(answering->prompt), prompt_no(answering->prompt)};
    for (size_t i = 0; i < 2; i++) {
        printf("%-20s%d \"", i == 0 ? "yes token" : "no token", (int)ids[i]);
        terminal_print(label(answering, ids[i], &piece), 0);
        printf("\"\n");
    }
    buffer_free(&piece);
}

static json_t *keys_json(const struct gguf *gguf)
{
    json_t *keys = json_array();
    for (size_t i = 0; i < gguf_key_count(gguf); i++) {
        struct text key;
        char value[96];
        gguf_key(gguf, i, &key, value);
        json_array_append_new(keys, json_pack("{s:o, s:s}", "key", inspect_json_text(key), "value", value));
    }
    return keys;
}

static json_t *tensors_json(const struct gguf *gguf)
{
    struct share shares[MOST_TYPES];
    uint64_t bytes;
    size_t count = share_by_type(gguf, shares, &bytes);
    json_t *types = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(types, json_pack("{s:s, s:I, s:I, s:I}", "type", tensor_type_name(shares[i].type),
                                               "tensors", (json_int_t)shares[i].tensors, "values",
                                               (json_int_t)shares[i].values, "bytes", (json_int_t)shares[i].bytes));
    return types;
}

static json_t *architecture_json(const struct model *model)
{
    struct model_memory memory = model_memory(model);
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:{s:I, s:I, s:I}}", "architecture",
                     inspect_json_text(model->architecture), "layers", (json_int_t)model->layer_count, "width",
                     (json_int_t)model->width, "hidden", (json_int_t)model->hidden, "heads", (json_int_t)model->heads,
                     "key_heads", (json_int_t)model->key_heads, "head_size", (json_int_t)model->head_size, "vocabulary",
                     (json_int_t)model->vocabulary, "context", (json_int_t)model->context, "norm_epsilon",
                     model->norm_epsilon, "rope_base", model->rope_base, "tied", model->output == model->embedding,
                     "memory_bytes", "f32", (json_int_t)memory.f32, "bf16", (json_int_t)memory.bf16, "int8",
                     (json_int_t)memory.int8);
}

static json_t *label_json(const struct answering *answering, int32_t id)
{
    struct buffer piece = {0};
    json_t *document = json_pack("{s:i, s:o}", "id", (int)id, "piece", inspect_json_text(label(answering, id, &piece)));
    buffer_free(&piece);
    return document;
}

/* `problem` NULL: the model can answer. */
static int print_model_json(const struct answering *answering, uint64_t file_bytes, const char *problem,
                            struct error *err)
{
    json_t *document =
        json_pack("{s:o, s:I, s:s, s:o, s:o}", "file", inspect_json_text(text_of(gguf_path(answering->gguf))), "bytes",
                  (json_int_t)file_bytes, "hash", gguf_hash(answering->gguf), "keys", keys_json(answering->gguf),
                  "tensors", tensors_json(answering->gguf));
    if (answering->model.layers != NULL)
        json_object_set_new(document, "model", architecture_json(&answering->model));
    if (answering->prompt != NULL) {
        json_object_set_new(document, "yes", label_json(answering, prompt_yes(answering->prompt)));
        json_object_set_new(document, "no", label_json(answering, prompt_no(answering->prompt)));
    }
    if (problem != NULL)
        json_object_set_new(document, "error", json_string(problem));
    return inspect_print_json(document, err);
}

static int choose_file(const struct inspection *inspection, struct error *err)
{
    if (inspection->operand == NULL)
        return 0;
    struct buffer assignment = {0};
    buffer_printf(&assignment, "model.path=%s", inspection->operand);
    int result = buffer_check(&assignment, "taking the model's path", err);
    if (result == 0)
        result = config_set(inspection->config, buffer_string(&assignment), err);
    buffer_free(&assignment);
    return result;
}

static uint64_t file_size(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
}

/* As much as can be read is shown, whatever is wrong with the rest: that is the error at the end. */
int inspect_model(const struct inspection *inspection, struct error *err)
{
    struct answering answering = {0};
    if (choose_file(inspection, err) != 0)
        return -1;
    int loaded = setup_prompt(inspection->config, &answering, err);
    int shown = 0;
    if (answering.gguf != NULL) {
        struct error late;
        uint64_t bytes = file_size(gguf_path(answering.gguf));
        if (inspection->json)
            shown = print_model_json(&answering, bytes, loaded == 0 ? NULL : err->message, &late);
        else
            print_model(&answering, bytes);
        if (shown != 0)
            *err = late;
    }
    setup_answering_close(&answering);
    return loaded == 0 && shown == 0 ? 0 : -1;
}
