#include "graph/z0.h"

#include <math.h>
#include <string.h>

#include "graph/embedding_rows.h"
#include "graph/vectors.h"

static bool take_trained(const struct graph_settings *settings, enum vectors_kind kind, struct text id, float *out)
{
    const float *row = settings->vectors == NULL ? NULL : graph_vectors_find(settings->vectors, kind, id);
    if (row != NULL)
        memcpy(out, row, settings->dimension * sizeof *out);
    return row != NULL;
}

bool z0_follows_titles(const struct graph_settings *settings)
{
    return settings->base == GRAPH_BASE_TITLE && settings->title_vector != NULL;
}

static bool take_title(const struct graph_settings *settings, struct text title, float *out)
{
    if (!z0_follows_titles(settings) || title.size == 0 || !settings->title_vector(settings->title_context, title, out))
        return false;
    for (size_t i = 0; i < settings->dimension; i++)
        if (!(fabsf(out[i]) < COMPONENT_LIMIT))
            return false;
    return true;
}

enum z0_source z0_of_user(const struct graph_settings *settings, struct text id, float *out)
{
    return take_trained(settings, VECTORS_USERS, id, out) ? Z0_TRAINED : Z0_HASHED;
}

enum z0_source z0_of_item(const struct graph_settings *settings, struct text id, struct text title, float *out)
{
    if (take_trained(settings, VECTORS_ITEMS, id, out))
        return Z0_TRAINED;
    return take_title(settings, title, out) ? Z0_TITLE : Z0_HASHED;
}

bool z0_has_sources(const struct graph_settings *settings)
{
    return settings->vectors != NULL || z0_follows_titles(settings);
}

void z0_encode(const struct graph_settings *settings, enum z0_source source, struct buffer *out)
{
    buffer_clear(out);
    if (source == Z0_HASHED)
        return;
    buffer_append_byte(out, (uint8_t)source);
    if (source == Z0_TRAINED)
        buffer_append_string(out, settings->vectors->version);
    else if (settings->title_version != NULL)
        buffer_append_string(out, settings->title_version);
}
