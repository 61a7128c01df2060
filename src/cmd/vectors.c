#include "cmd/vectors.h"

#include <stdio.h>

#include "base/log.h"
#include "graph/similar.h"

struct ids_of_file {
    const struct gguf *gguf;
    const char *key;
};

static struct text id_at(const void *context, size_t index)
{
    const struct ids_of_file *ids = context;
    return gguf_text_at(ids->gguf, ids->key, index);
}

static int add(struct trained *trained, enum vectors_kind kind, const char *tensor_name, const char *key,
               struct error *err)
{
    const struct ids_of_file ids = {trained->gguf, key};
    const struct tensor *rows;
    size_t count;
    if (gguf_text_array(trained->gguf, key, &count, err) != 0 ||
        gguf_find_tensor(trained->gguf, tensor_name, count, trained->vectors.dimension, &rows, err) != 0)
        return -1;
    if (rows->type != TENSOR_F32)
        return error_set(err, ERROR_BAD_INPUT, "%s: tensor %s is %s; vectors are F32", gguf_path(trained->gguf),
                         tensor_name, tensor_type_name(rows->type));
    /* Tensors are aligned to 32 bytes in the file, and this machine is little-endian as the file is. */
    return graph_vectors_add(&trained->vectors, kind, count, id_at, &ids, (const float *)(const void *)rows->data, err);
}

static int load(struct trained *trained, const char *path, struct error *err)
{
    struct text version;
    char name[64];
    uint64_t dimension;
    if (gguf_open(&trained->gguf, path, err) != 0 ||
        gguf_text(trained->gguf, "headrace.vectors.version", &version, err) != 0 ||
        gguf_unsigned(trained->gguf, "headrace.vectors.dimension", 1, 4096, &dimension, err) != 0)
        return -1;
    snprintf(name, sizeof name, TEXT_FORMAT, TEXT_ARGS(version));
    graph_vectors_init(&trained->vectors, (size_t)dimension, name);
    if (add(trained, VECTORS_USERS, "users", "headrace.vectors.users", err) != 0 ||
        add(trained, VECTORS_ITEMS, "items", "headrace.vectors.items", err) != 0)
        return -1;
    log_info("cmd", "base vectors %s of %zu users and %zu items from %s", name, trained->vectors.ids[0].count,
             trained->vectors.ids[1].count, path);
    return 0;
}

static int open_titles(struct trained *trained, const struct config *config, const char *why, struct error *err)
{
    const char *path = config_text(config, "model.path");
    if (*path == '\0')
        return error_set(err, ERROR_BAD_INPUT, "%s goes by a model's token vectors: name the file in model.path", why);
    return titles_open(&trained->titles, path, (size_t)config_integer(config, "graph.dimension"), err);
}

int trained_open(struct trained *trained, const struct config *config, struct error *err)
{
    const char *path = config_text(config, "graph.vectors");
    size_t similar = config_choice(config, "graph.similar");
    if (*path != '\0' && load(trained, path, err) != 0)
        return error_wrap(err, "graph.vectors");
    if (*path == '\0' && similar == SIMILAR_FM)
        return error_set(
            err, ERROR_BAD_INPUT,
            "graph.similar fm goes by trained vectors: name the file of headrace train graph --model fm in "
            "graph.vectors");
    if (config_choice(config, "graph.base") == GRAPH_BASE_TITLE)
        return open_titles(trained, config, "graph.base title", err);
    return similar == SIMILAR_TEXT ? open_titles(trained, config, "graph.similar text", err) : 0;
}

void trained_close(struct trained *trained)
{
    graph_vectors_free(&trained->vectors);
    gguf_close(trained->gguf);
    titles_close(trained->titles);
    *trained = (struct trained){0};
}

void trained_give(const struct trained *trained, struct graph_settings *settings)
{
    if (trained->gguf != NULL)
        settings->vectors = &trained->vectors;
    if (trained->titles == NULL)
        return;
    settings->title_vector = titles_vector;
    settings->title_context = trained->titles;
    settings->title_version = titles_version(trained->titles);
}
