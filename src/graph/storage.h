/* storage.h - what a store takes of memory and disk, and how it copes */
#ifndef HEADRACE_GRAPH_STORAGE_H
#define HEADRACE_GRAPH_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

/* In memory, bytes. */
struct store_memory {
    uint64_t cache, pinned; /* bytes of blocks, and those of them in use */
    uint64_t buffers;       /* not yet in tables */
    uint64_t readers;       /* of open tables, outside the cache */
    uint64_t pending;       /* that compactions have to go through */
    uint64_t write_rate;    /* bytes a second that writers are slowed down to; 0: they are not */
    bool stopped;           /* writers wait */
    double stalled_seconds; /* they were slowed down or stopped for, since the open */
};

/* What a family takes on the disk, tables only, and how many keys it has, roughly. */
struct store_size {
    const char *name;
    uint64_t bytes, keys;
};

#endif
