#include <stdio.h>

#include "model/heads.h"
#include "model/heads_file.h"

static struct text feature_at(const void *context, size_t index)
{
    return ((const struct text *)context)[index];
}

void heads_put_file(struct gguf_writer *writer, const struct heads *heads, const struct heads_origin *origin,
                    const struct text *feature_names, size_t feature_count)
{
    gguf_put_text(writer, "general.type", text_of(HEADS_TYPE));
    gguf_put_unsigned(writer, HEADS_KEY "format", HEADS_FORMAT);
    gguf_put_unsigned(writer, HEADS_KEY "width", heads->width);
    gguf_put_float(writer, HEADS_KEY "norm_epsilon", (double)heads->norm_epsilon);
    if (feature_count > 0)
        gguf_put_texts(writer, HEADS_KEY "features", feature_count, feature_at, feature_names);
    gguf_put_text(writer, HEADS_KEY "origin.model", text_of(origin->model_hash));
    gguf_put_text(writer, HEADS_KEY "origin.template", text_of(origin->template_hash));
    gguf_put_text(writer, HEADS_KEY "origin.mode", text_of(origin->mode));
    gguf_put_text(writer, HEADS_KEY "origin.made_by", text_of(origin->made_by));
    gguf_put_integer(writer, HEADS_KEY "origin.yes", origin->yes);
    gguf_put_integer(writer, HEADS_KEY "origin.no", origin->no);
    gguf_put_integer(writer, HEADS_KEY "origin.seed", origin->seed);
    gguf_put_integer(writer, HEADS_KEY "origin.from_ms", origin->from_ms);
    gguf_put_integer(writer, HEADS_KEY "origin.to_ms", origin->to_ms);
}

void heads_put_exit0(struct gguf_writer *writer, const struct heads *heads)
{
    gguf_put_float(writer, HEADS_KEY "exit0_bias", (double)heads->exit0_bias);
    gguf_put_tensor(writer, "exit0.weights", 0, heads->evidence_count, heads->exit0);
}

static void put_head(struct gguf_writer *writer, const char *set, const struct heads *heads, const struct head *head)
{
    char name[HEADS_NAME_SIZE];
    size_t layers = head->layer - head->first + 1;
    gguf_put_tensor(writer, heads_tensor_name(name, set, head->layer, "rows"), layers, heads->width, head->rows);
    gguf_put_tensor(writer, heads_tensor_name(name, set, head->layer, "biases"), 0, layers, head->biases);
    if (head->evidence != NULL)
        gguf_put_tensor(writer, heads_tensor_name(name, set, head->layer, "evidence"), 0, heads->evidence_count,
                        head->evidence);
}

void heads_put(struct gguf_writer *writer, const char *set, const struct heads *heads)
{
    int64_t exits[HEADS_MAX_EXITS], firsts[HEADS_MAX_EXITS];
    float leaves[HEADS_MAX_EXITS];
    char key[HEADS_NAME_SIZE];
    for (size_t i = 0; i < heads->count; i++) {
        exits[i] = (int64_t)heads->exits[i].layer;
        firsts[i] = (int64_t)heads->exits[i].first;
        leaves[i] = heads->exits[i].leave;
        put_head(writer, set, heads, &heads->exits[i]);
    }
    gguf_put_integers(writer, heads_set_key(key, set, "exits"), heads->count, exits);
    gguf_put_integers(writer, heads_set_key(key, set, "first"), heads->count, firsts);
    gguf_put_floats(writer, heads_set_key(key, set, "leave"), heads->count, leaves);
    if (heads->reference != SIZE_MAX)
        gguf_put_unsigned(writer, heads_set_key(key, set, "reference"), heads->reference);
    if (heads->exit0 != NULL)
        gguf_put_float(writer, heads_set_key(key, set, "exit0_leave"), (double)heads->exit0_leave);
}

void heads_put_number(struct gguf_writer *writer, const char *set, size_t exit, const char *name, double value)
{
    char key[HEADS_NAME_SIZE];
    if (exit == 0)
        snprintf(key, sizeof key, HEADS_KEY "number.%s.%s", set, name);
    else
        snprintf(key, sizeof key, HEADS_KEY "number.%s.%zu.%s", set, exit, name);
    gguf_put_float(writer, key, value);
}
