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
#include "graph/sort.h"
#include "graph/storage.h"

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
    FAMILY_VECTORS,
    FAMILY_COUNT
};

/* Bytes that a store holds in memory unless it is told otherwise. */
enum { STORE_MEMORY = 128 << 20 };

/* What is staged of a family, in the order in which it came. */
struct store_changes {
    struct buffer bytes; /* key and value of each */
    struct store_change {
        size_t at; /* in the bytes */
        uint32_t key_size, value_size;
    } * at;
    size_t count, capacity;
};

struct store {
    char *directory;
    bool read_only;
    bool failed;         /* the last write failed: RocksDB takes no more until it is opened again */
    rocksdb_t *database; /* NULL: it could not even be opened again for reading */
    rocksdb_column_family_handle_t *families[FAMILY_COUNT]; /* NULL: a store of before, read only, has none of it */
    bool present[FAMILY_COUNT];                             /* before it was opened */
    size_t memory;
    int compression;
    struct store_changes changes[FAMILY_COUNT];
    struct sort_entry *sorted[2]; /* scratch */
    size_t sorted_capacity[2];
    rocksdb_writebatch_t *batch; /* what was staged when a write failed */
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
};

/*
 * Creates what is missing, unless read_only. A store that is open for reading only stands as it was at some moment of
 * the open, between two batches. On failure nothing is left open.
 */
int store_open(struct store *store, const char *directory, bool read_only, struct error *err);

/*
 * The same with another limit than STORE_MEMORY, in bytes (0: that one): half of it for what is not yet in tables, half
 * for the cache of blocks, filters and indexes that all families share. What compactions and scans hold at the moment
 * comes on top.
 */
int store_open_within(struct store *store, const char *directory, bool read_only, size_t memory, struct error *err);

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

/* Number of changes ever written; the same number in the same store (store_identity()) means the same content. */
uint64_t store_sequence(const struct store *store);
int store_identity(const struct store *store, struct buffer *identity, struct error *err);

/* Puts into tables, on the disk, what is written so far: neither a power cut nor the next open has to do with its log.
 */
int store_flush(struct store *store, struct error *err);

/* For metrics; all 0 while the store could not be opened again. */
struct store_memory store_memory(const struct store *store);

const char *store_family_name(enum family family);

struct store_size store_size(const struct store *store, enum family family);

/* Writes the staged batch: all of it or, with ERROR_RETRY or ERROR_FATAL, nothing, and it is still staged. */
int store_write(struct store *store, struct error *err);

/*
 * Bulk load of an empty family: straight into tables, which the store takes in at the end. Keys rise.  After -1 only
 * store_bulk_abandon() is left, which is fine for a zeroed one, too.
 */
struct store_bulk {
    struct store *store;
    enum family family;
    rocksdb_options_t *options;
    rocksdb_envoptions_t *environment;
    rocksdb_sstfilewriter_t *writer; /* of the last file; NULL: none is open */
    size_t files;
};

void store_bulk_begin(struct store_bulk *bulk, struct store *store, enum family family);
int store_bulk_put(struct store_bulk *bulk, struct text key, struct text value, struct error *err);
int store_bulk_end(struct store_bulk *bulk, struct error *err);
void store_bulk_abandon(struct store_bulk *bulk);

/* Inside the store: what is staged goes into RocksDB's batch, in order of key, or into nothing. */
int store_hand_over(struct store *store, struct error *err);
void store_forget_changes(struct store *store);

/* Inside the store: what tables of a family are written with; what RocksDB's message means, which is given back. */
rocksdb_options_t *store_table_options(const struct store *store, enum family family);
int store_fail(struct error *err, const char *doing, const char *directory, char *message);

#endif
