#include <stdlib.h>

#include "base/log.h"
#include "graph/staging.h"
#include "graph/z0.h"

/* Where base vectors come from today, against what the store says of the last time. */
struct sources {
    struct graph *graph;
    uint8_t *written[2]; /* (end)(number): has a record */
    struct buffer record;
    size_t changed;
};

static void put_record(struct sources *sources, enum end end, uint32_t number)
{
    uint8_t key[VECTOR_KEY_SIZE];
    vector_key(key, end == END_USER ? 'u' : 'i', number);
    store_put(&sources->graph->store, FAMILY_VECTORS, (struct text){(const char *)key, sizeof key},
              buffer_text(&sources->record));
    sources->changed++;
}

/* What the record would be now; empty: none. */
static int encode_now(struct sources *sources, enum end end, uint32_t number, struct error *err)
{
    const struct graph *graph = sources->graph;
    const struct nodes *nodes = &graph->nodes;
    enum z0_source source = Z0_HASHED;
    float z0[GRAPH_DIMENSION_LIMIT];
    if (end == END_USER && nodes->users[number].edges.count > 0) {
        source = z0_of_user(&graph->settings, ids_text(&nodes->user_ids, number), z0);
    } else if (end == END_ITEM && nodes->items[number].edges.count > 0) {
        const struct description *description = nodes->items[number].description;
        struct text title = description == NULL ? (struct text){0} : description->title;
        source = z0_of_item(&graph->settings, ids_text(&nodes->item_ids, number), title, z0);
    }
    z0_encode(&graph->settings, source, &sources->record);
    return buffer_check(&sources->record, "looking at the sources of vectors", err);
}

static int compare_record(void *context, struct text key, struct text value, struct error *err)
{
    struct sources *sources = context;
    enum end end = key.size > 0 && key.data[0] == 'u' ? END_USER : END_ITEM;
    uint32_t count = end == END_USER ? sources->graph->user_count : sources->graph->item_count;
    if (key.size != VECTOR_KEY_SIZE || bytes_get_32(key.data + 1) >= count)
        return error_set(err, ERROR_FATAL, "the store is damaged: the source of a vector without its node");
    uint32_t number = bytes_get_32(key.data + 1);
    if (encode_now(sources, end, number, err) != 0)
        return -1;
    sources->written[end][number] = 1;
    if (text_equal(buffer_text(&sources->record), value))
        return SCAN_GO_ON;
    if (sources->record.size > 0) {
        put_record(sources, end, number);
    } else {
        store_delete(&sources->graph->store, FAMILY_VECTORS, key);
        sources->changed++;
    }
    return SCAN_GO_ON;
}

static int put_missing(struct sources *sources, enum end end, uint32_t count, struct error *err)
{
    for (uint32_t number = 0; number < count; number++) {
        if (sources->written[end][number])
            continue;
        if (encode_now(sources, end, number, err) != 0)
            return -1;
        if (sources->record.size > 0)
            put_record(sources, end, number);
    }
    return 0;
}

int graph_begin_sources(struct graph *graph, struct error *err)
{
    static const struct text all = {"", 0};
    struct sources sources = {.graph = graph};
    sources.written[END_USER] = calloc((size_t)graph->user_count + 1, 1);
    sources.written[END_ITEM] = calloc((size_t)graph->item_count + 1, 1);
    int result = -1;
    if (sources.written[END_USER] == NULL || sources.written[END_ITEM] == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while looking at the sources of vectors");
        goto out;
    }
    if (store_scan(&graph->store, FAMILY_VECTORS, all, all, compare_record, &sources, err) != 0 ||
        (z0_has_sources(&graph->settings) && (put_missing(&sources, END_USER, graph->user_count, err) != 0 ||
                                              put_missing(&sources, END_ITEM, graph->item_count, err) != 0)))
        goto out;
    result = 0;
    graph->staged.count += sources.changed > 0;
    if (sources.changed > 0)
        log_info("graph", "%zu base vectors come from another source than the last time", sources.changed);
out:
    free(sources.written[END_USER]);
    free(sources.written[END_ITEM]);
    buffer_free(&sources.record);
    return result;
}
