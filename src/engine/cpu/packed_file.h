/*
 * packed_file.h - packed weights kept on disk, for the next start
 *
 * A file is what the weights of one model come to in one mode on one instruction set. It is mapped, not copied: the
 * processes of a machine share it, and it loads twice as fast as into memory of one's own, at the same speed after.
 *
 *   0       the description: text, filled up with zeros to DESCRIPTION_BYTES
 *   512     XXH3 of each layer, then XXH3 of all that is before; numbers of 64 bits, as they lie in memory
 *   PAGE    (a multiple of it) the layers, one behind the other, all of the same size
 *
 * The name says for what it is, the description repeats that. A file counts when nobody but this user can have written
 * it, its size is right, and description and sums are what they must be: whatever else is there does no harm.
 *
 * Its writer puts it beside, under NAME.tmp, and renames it when it is on the disk. NAME.tmp is locked while somebody
 * writes it, so that two processes do not write the same one; what a process that died has left of it is written over.
 *
 * Files may be deleted at any time, also while they are in use. As with every mapped file, one that its owner cuts
 * short while it is in use ends the process.
 *
 * Threads: all functions.
 */
#ifndef HEADRACE_ENGINE_CPU_PACKED_FILE_H
#define HEADRACE_ENGINE_CPU_PACKED_FILE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/pool.h"

struct packed_key {
    const char *directory;
    const char *model;        /* hash of the model's file */
    const char *adapters;     /* of the adapters merged in; "": none */
    const char *mode;         /* of the numbers */
    const char *instructions; /* for which they lie as they do */
    unsigned layout;          /* number of what the packing makes of them: another one, another content */
};

enum { PACKED_DESCRIPTION_BYTES = 512 };

struct packed_file {
    const char *directory;
    char path[PATH_MAX];
    char description[PACKED_DESCRIPTION_BYTES];
    size_t layer_count, layer_bytes;
};

/* `key` must outlive the file. -1: the path is too long. */
int packed_file_describe(struct packed_file *file, const struct packed_key *key, size_t layer_count, size_t layer_bytes,
                         struct error *err);

/*
 * Maps it, for file_unmap(), and checks it; *layers points to the first layer. 0 and an empty map: there is none. An
 * error says what is wrong with the one that is there.
 */
int packed_file_map(const struct packed_file *file, struct pool *pool, struct file_map *map, const uint8_t **layers,
                    struct error *err);

/*
 * Writes it, mode 0600, in the place of the one that is there; the directory is made when it is missing. *written:
 * false when another process is at it, or has just been. An error leaves the old one as it was.
 */
int packed_file_write(const struct packed_file *file, struct pool *pool, const uint8_t *layers, bool *written,
                      struct error *err);

#endif
