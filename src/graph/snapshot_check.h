/*
 * snapshot_check.h - whether the records of a store are what records.h says, and fit each other
 *
 * Records come family by family in the order of `enum family`, and in key order: ids stand before all that names users
 * and items.
 */
#ifndef HEADRACE_GRAPH_SNAPSHOT_CHECK_H
#define HEADRACE_GRAPH_SNAPSHOT_CHECK_H

#include "graph/store.h"

struct snapshot_check {
    struct store *store; /* each pair is looked for among its user's events here; NULL: it is not */
    struct buffer found; /* scratch of that */
    uint8_t *users;      /* (user_count) the number has an id */
    size_t user_count, user_capacity;
    uint64_t item_count;
    uint64_t live_users, edges;
    uint64_t next_sequence; /* above that of every event and pair */
    int64_t newest_ms;      /* of them */
    uint64_t event_records;
    bool counted;
    uint64_t events; /* as counts have it */
    int64_t newest_event_ms;
};

/* ERROR_FATAL: the record cannot be of an undamaged store, and why. */
int snapshot_check_record(struct snapshot_check *check, enum family family, struct text key, struct text value,
                          struct error *err);

/* After the last record. */
int snapshot_check_end(const struct snapshot_check *check, struct error *err);

void snapshot_check_free(struct snapshot_check *check);

#endif
