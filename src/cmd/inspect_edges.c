#include "cmd/inspect.h"

#include <math.h>
#include <stdio.h>

#include "base/buffer.h"
#include "graph/graph.h"
#include "wire/codec.h"
#include "wire/messages.h"

/* An edge as the interaction that it came from: what is printed can be produced again. */
static int print_edge(const struct graph *graph, uint32_t user, const struct edge *edge, struct buffer *line,
                      struct error *err)
{
    const struct interaction event = {.user_id = graph_user_id(graph, user),
                                      .item_id = graph_item_id(graph, edge->other),
                                      .timestamp_ms = edge->timestamp_ms,
                                      .kind = edge->kind,
                                      .has_value = !isnan(edge->value),
                                      .value = isnan(edge->value) ? 0 : (double)edge->value};
    buffer_clear(line);
    if (message_to_json(&interaction_type, &event, line, err) != 0)
        return -1;
    buffer_append_byte(line, '\n');
    if (fwrite(line->data, 1, line->size, stdout) != line->size)
        return error_set(err, ERROR_FATAL, "standard output cannot be written");
    return 0;
}

int inspect_edges(const struct inspection *inspection, struct error *err)
{
    struct inspected inspected;
    if (inspect_open(inspection, &inspected, err) != 0)
        return -1;
    struct graph *graph = inspected.graph;
    struct buffer line = {0};
    int result = 0;
    graph_read_lock(graph);
    uint64_t users = graph_counts(graph).users;
    for (uint32_t user = 0; result == 0 && user < users; user++) {
        size_t count;
        const struct edge *edges = graph_user_edges(graph, user, &count);
        for (size_t i = 0; result == 0 && i < count; i++)
            result = print_edge(graph, user, &edges[i], &line, err);
    }
    graph_read_unlock(graph);
    buffer_free(&line);
    inspect_close(&inspected);
    return result;
}
