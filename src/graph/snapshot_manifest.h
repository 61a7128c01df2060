/* snapshot_manifest.h - what a snapshot says of itself: manifest.json */
#ifndef HEADRACE_GRAPH_SNAPSHOT_MANIFEST_H
#define HEADRACE_GRAPH_SNAPSHOT_MANIFEST_H

#include <jansson.h>

#include "graph/snapshot.h"

struct snapshot_manifest {
    struct snapshot_summary summary;
    json_t *offsets; /* [{topic, partition, next_offset}], in the order of the store */
    json_t *files;   /* {name: {bytes, checksum}} of the directory `store` */
};

void snapshot_manifest_free(struct snapshot_manifest *manifest);

/* A record of FAMILY_OFFSETS. */
int snapshot_manifest_add_offset(struct snapshot_manifest *manifest, struct text key, struct text value,
                                 struct error *err);

/* Fills in `files` from the directory. */
int snapshot_manifest_list_files(struct snapshot_manifest *manifest, const char *directory, struct error *err);

int snapshot_manifest_write(const struct snapshot_manifest *manifest, const char *directory, struct error *err);
int snapshot_manifest_read(struct snapshot_manifest *manifest, const char *directory, struct error *err);

/* Whether what was found is what the manifest says; names what is not. */
int snapshot_manifest_compare_files(const struct snapshot_manifest *said, const struct snapshot_manifest *found,
                                    const char *directory, struct error *err);
int snapshot_manifest_compare(const struct snapshot_manifest *said, const struct snapshot_manifest *found,
                              const char *directory, struct error *err);

#endif
