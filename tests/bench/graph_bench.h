/*
 * graph_bench.h - what the parts of bench_graph share
 *
 * Each part prints its figures as lines "key value" on standard output, for graph.py to gather, and what it is doing on
 * standard error.
 */
#ifndef HEADRACE_BENCH_GRAPH_H
#define HEADRACE_BENCH_GRAPH_H

#include <stdio.h>

#include "base/buffer.h"
#include "base/error.h"
#include "graph/graph.h"
#include "graph/store.h"
#include "wire/codec.h"

enum { BATCH = 1000, LAYERS = 3, DIMENSION = 64, BUDGET = 256 };

struct flags {
    const char *directory;       /* of a store that is made, or opened */
    const char *ratings, *items; /* files; NULL: a synthetic stream */
    size_t users, item_count, events;
    size_t rounds, slices;
    bool no_push;    /* no edge is in the embeddings */
    bool verify;     /* that the graph and the raw writer have written the same */
    bool raw;        /* the raw writer alone */
    bool keep;       /* the graph's store stays */
    bool save;       /* an image is left behind */
    bool every_user; /* of a synthetic stream comes once before any comes again */
};

struct rating {
    uint32_t user, item;
    int64_t timestamp_ms;
    double value;
};

struct stream {
    struct rating *ratings;
    size_t count, capacity;
    struct buffer messages; /* Avro */
    size_t *ends;           /* (count) of each message */
    size_t names;           /* one above the largest number of a user or item */
};

/* graph_stream.c: ml-100k in order of time, or a seeded power law. */
int stream_open(struct stream *stream, const struct flags *flags, struct error *err);
int stream_encode(struct stream *stream, const struct codec *codec, struct error *err);
void stream_close(struct stream *stream);

/* graph_writers.c: the path from bytes to the graph, and the same keys and values written raw. */

struct graph_settings bench_settings(const char *directory);

/* Messages [from, to), committed by the thousand with their offset. */
int graph_writes(struct graph *graph, const struct codec *codec, const struct stream *stream, size_t from, size_t to,
                 struct error *err);

struct raw_writer {
    struct store store;
    uint32_t *users, *items; /* numbers given out, plus one, by name */
    uint32_t user_count, item_count;
};

int raw_open(struct raw_writer *raw, const char *directory, const struct stream *stream, struct error *err);
int raw_writes(struct raw_writer *raw, const struct stream *stream, size_t from, size_t to, struct error *err);
void raw_close(struct raw_writer *raw);

/* The parts. */
int bench_ingest(const struct flags *flags, struct error *err);
int bench_iterate(const struct flags *flags, struct error *err);
int bench_open(const struct flags *flags, struct error *err);
int bench_memory(const struct flags *flags, struct error *err);
int bench_freshness(const struct flags *flags, struct error *err);
int bench_scan(const struct flags *flags, struct error *err);
int bench_evidence(const struct flags *flags, struct error *err);

/* graph.c */
double wall_seconds(void);
double thread_seconds(void);
double median(double *values, size_t count);             /* sorts them */
double quantile(double *values, size_t count, double q); /* of sorted ones */
size_t anonymous_bytes(void);                            /* resident: RssAnon */
void remove_directory(const char *path);
size_t processors(void);

#endif
