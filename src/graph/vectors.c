#include "graph/vectors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/embedding_rows.h"

void graph_vectors_init(struct graph_vectors *vectors, size_t dimension, const char *version)
{
    *vectors = (struct graph_vectors){.dimension = dimension};
    snprintf(vectors->version, sizeof vectors->version, "%s", version);
}

void graph_vectors_free(struct graph_vectors *vectors)
{
    table_free(&vectors->ids[VECTORS_USERS]);
    table_free(&vectors->ids[VECTORS_ITEMS]);
    *vectors = (struct graph_vectors){0};
}

int graph_vectors_add(struct graph_vectors *vectors, enum vectors_kind kind, size_t count,
                      struct text (*id)(const void *context, size_t index), const void *context, const float *rows,
                      struct error *err)
{
    static const char *const names[] = {"user", "item"};
    struct table *ids = &vectors->ids[kind];
    for (size_t i = 0; i < count; i++) {
        struct text text = id(context, i);
        uint32_t number = table_add(ids, text);
        if (number == TABLE_NONE)
            return error_set(err, ERROR_FATAL, "out of memory for the vectors of %zu %ss", count, names[kind]);
        if (number != i)
            return error_set(err, ERROR_BAD_INPUT, "vectors: %s " TEXT_FORMAT " comes twice", names[kind],
                             TEXT_ARGS(text));
        for (size_t j = 0; j < vectors->dimension; j++)
            if (!(fabsf(rows[i * vectors->dimension + j]) < COMPONENT_LIMIT))
                return error_set(err, ERROR_BAD_INPUT,
                                 "vectors: that of %s " TEXT_FORMAT
                                 " has a component that is no number or not below %g: scale the vectors to a length of "
                                 "about 1",
                                 names[kind], TEXT_ARGS(text), (double)COMPONENT_LIMIT);
    }
    vectors->rows[kind] = rows;
    return 0;
}

const float *graph_vectors_find(const struct graph_vectors *vectors, enum vectors_kind kind, struct text id)
{
    uint32_t number = table_find(&vectors->ids[kind], id);
    return number == TABLE_NONE ? NULL : vectors->rows[kind] + (size_t)number * vectors->dimension;
}
