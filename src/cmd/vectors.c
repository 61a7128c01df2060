#include "cmd/vectors.h"

#include <stdio.h>

#include "base/log.h"

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

int trained_open(struct trained *trained, const struct config *config, struct error *err)
{
    const char *path = config_text(config, "graph.vectors");
    if (*path == '\0' || load(trained, path, err) == 0)
        return 0;
    return error_wrap(err, "graph.vectors");
}

void trained_close(struct trained *trained)
{
    graph_vectors_free(&trained->vectors);
    gguf_close(trained->gguf);
    *trained = (struct trained){0};
}

const struct graph_vectors *trained_vectors(const struct trained *trained)
{
    return trained->gguf == NULL ? NULL : &trained->vectors;
}
