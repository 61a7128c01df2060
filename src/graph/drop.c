#include <string.h>

#include "base/log.h"
#include "graph/graph.h"
#include "graph/store.h"

enum { BOUND_SIZE = 1024 };

/* Ranges, not keys: one write of a few bytes, which is there whole after a crash, or not at all. */
static int drop_all(struct store *store, struct error *err)
{
    char bound[BOUND_SIZE]; /* above every key: ids are UTF-8, numbers short */
    char *message = NULL;
    memset(bound, 0xff, sizeof bound);
    for (int i = FAMILY_META + 1; i < FAMILY_COUNT; i++)
        rocksdb_writebatch_delete_range_cf(store->batch, store->families[i], "", 0, bound, sizeof bound);
    rocksdb_write(store->database, store->write, store->batch, &message);
    if (message != NULL)
        return store_fail(err, "dropping the content of", store->directory, message);
    /* What is read from here on should not have to step over what is gone. */
    for (int i = FAMILY_META + 1; i < FAMILY_COUNT; i++)
        rocksdb_compact_range_cf(store->database, store->families[i], NULL, 0, NULL, 0);
    return 0;
}

int graph_drop(const char *directory, struct error *err)
{
    struct store store;
    if (store_open(&store, directory, false, err) != 0)
        return -1;
    int result = drop_all(&store, err);
    store_close(&store);
    if (result == 0)
        log_warn("graph", "the state in %s was dropped", directory);
    return result;
}
