/*
 * snapshot.h - a consistent copy of a store, and back: how a new worker starts, and how an old one comes back
 *
 * A snapshot is a directory: `manifest.json`, which says what is in it, and `store`, a store of its own. It stands as
 * the state was at one moment, between two batches, with the offsets of that moment; a worker may go on writing
 * meanwhile. What the manifest says: format, time, events, offsets, and of each family and of each file a size and a
 * checksum. Every record is decoded and checked against the others each time that it is copied.
 *
 * Threads: each call on its own; nothing is shared.
 */
#ifndef HEADRACE_GRAPH_SNAPSHOT_H
#define HEADRACE_GRAPH_SNAPSHOT_H

#include "graph/store.h"

enum { SNAPSHOT_FORMAT = 1 };

struct snapshot_family {
    uint64_t records;
    uint64_t bytes;    /* of keys and values */
    uint64_t checksum; /* of all of them, in order */
};

/* What a snapshot holds. */
struct snapshot_summary {
    int64_t created_ms;
    int64_t newest_event_ms;
    uint64_t events, users, items, edges;
    struct snapshot_family families[FAMILY_COUNT];
    uint64_t file_bytes;
};

struct snapshot_settings {
    const char *state;     /* directory of the store; not for verifying */
    const char *directory; /* of the snapshot */
    size_t memory;         /* as in store_open_within() */

    /* Told now and then, and last when a family is done; `expected` may be rough, 0: unknown. NULL: nobody is. */
    void (*progress)(void *context, const char *family, uint64_t records, uint64_t expected, bool done);
    void *context;
};

/*
 * `directory` must not exist. It is made as DIRECTORY.tmp, written to the disk and renamed; on failure nothing is left,
 * and what a kill leaves the next one of that name deletes.
 * ERROR_RETRY: the disk is full, or the worker is too fast.
 */
int snapshot_create(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err);

/*
 * Every file, every record, the records among each other, and against the manifest. ERROR_FATAL: the message says what
 * is damaged, or that the snapshot is of a newer version.
 */
int snapshot_verify(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err);

/*
 * Into `state`, which must be empty or not be there; verified on the way. On failure, or after a kill, no store is in
 * it.
 */
int snapshot_restore(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err);

#endif
