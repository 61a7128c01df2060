/*
 * store.h - the RocksDB database under the graph: column families, one staged batch, scans
 *
 * Changes are staged in a batch that nothing reads: look-ups and scans see what is written. Who stages knows what
 * (overlay.h).
 *
 * The write-ahead log is on and not synced: a kill loses nothing, a power cut loses the newest batches together with
 * their offsets, and Kafka sends them again.
 *
 * Threads: one writer for everything but the scans, which any thread may call while nobody opens the store again.
 */
#ifndef HEADRACE_GRAPH_STORE_H
#define HEADRACE_GRAPH_STORE_H

#include <rocksdb/c.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

enum family {
    FAMILY_DEFAULT, /* RocksDB wants it; empty */
    FAMILY_META,
    FAMILY_IDS,
    FAMILY_ITEMS,
    FAMILY_USERS,
    FAMILY_EDGES,
    FAMILY_PAIRS,
    FAMILY_COUNTS,
    FAMILY_OFFSETS,
    FAMILY_OUTBOX,
    FAMILY_COUNT
};

struct store {
    char *directory;
    bool read_only;
    bool failed;         /* the last write failed: RocksDB takes no more until it is opened again */
    rocksdb_t *database; /* NULL: it could not even be opened again for reading */
    rocksdb_column_family_handle_t *families[FAMILY_COUNT];
    rocksdb_writebatch_t *batch;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
};

/* Creates what is missing, unless read_only. On failure nothing is left open. */
int store_open(struct store *store, const char *directory, bool read_only, struct error *err);

/* A zeroed store is fine. What is staged is dropped. */
void store_close(struct store *store);

/* Staging; a later change of a key overrules an earlier one. */
void store_put(struct store *store, enum family family, struct text key, struct text value);
void store_delete(struct store *store, enum family family, struct text key);

/* The stored value replaces what is in `value`. */
int store_get(struct store *store, enum family family, struct text key, struct buffer *value, bool *found,
              struct error *err);

enum { SCAN_GO_ON = 0, SCAN_STOP = 1 }; /* and -1: error, `err` is filled in */

/*
 * Visits, in key order, what begins with `prefix` from `start` on (which begins with `prefix`, too). Key and value hold
 * during the visit only.
 */
typedef int store_visit(void *context, struct text key, struct text value, struct error *err);
int store_scan(struct store *store, enum family family, struct text prefix, struct text start, store_visit *visit,
               void *context, struct error *err);

/* The same from the last key that begins with `prefix` (not empty, and not all 0xff) backwards. */
int store_scan_back(struct store *store, enum family family, struct text prefix, store_visit *visit, void *context,
                    struct error *err);

/*
 * Opens the database again, for a store that has failed; keeps the staged batch. Nobody may be scanning. While this
 * does not succeed the store can be read where that is possible.
 */
int store_reopen(struct store *store, struct error *err);

/* Writes the staged batch: all of it or, with ERROR_RETRY or ERROR_FATAL, nothing, and it is still staged. */
int store_write(struct store *store, struct error *err);

#endif
