/*
 * What a stream leaves in memory, by RssAnon and by the graph's own account; with --raw what RocksDB takes for the same
 * stream, to be taken off. Edges are taken in, pushes are not: they take no memory that lasts.
 *
 * Flags: --directory --users --item-count --events --raw
 */
#include <math.h>

#include "graph_bench.h"

static int measure_raw(const struct flags *flags, const struct stream *stream, struct error *err)
{
    struct raw_writer raw;
    size_t before = anonymous_bytes();
    if (raw_open(&raw, flags->directory, stream, err) != 0)
        return -1;
    int result = raw_writes(&raw, stream, 0, stream->count, err);
    size_t names = (flags->users + flags->item_count) * sizeof(uint32_t);
    printf("resident %zd\n", (ssize_t)(anonymous_bytes() - before - names));
    raw_close(&raw);
    return result;
}

static int measure_graph(const struct flags *flags, const struct codec *codec, const struct stream *stream,
                         struct error *err)
{
    struct graph_settings settings = bench_settings(flags->directory);
    struct graph *graph;
    settings.push_threshold = INFINITY;
    size_t before = anonymous_bytes();
    if (graph_open(&graph, &settings, err) != 0)
        return -1;
    int result = graph_writes(graph, codec, stream, 0, stream->count, err);
    struct graph_counts counts = graph_counts(graph);
    struct graph_memory memory = graph_memory(graph);
    printf("resident %zd\naccount %zu\nnodes %llu\nedges %llu\n", (ssize_t)(anonymous_bytes() - before),
           memory.ids + memory.nodes + memory.edges + memory.embeddings + memory.descriptions + memory.limits,
           (unsigned long long)(counts.users + counts.items), (unsigned long long)counts.edges);
    graph_close(graph);
    return result;
}

int bench_memory(const struct flags *flags, struct error *err)
{
    struct stream stream;
    struct codec *codec;
    if (codec_create(&codec, err) != 0)
        return -1;
    remove_directory(flags->directory);
    int result = stream_open(&stream, flags, err);
    if (result == 0)
        result = stream_encode(&stream, codec, err);
    if (result == 0)
        result = flags->raw ? measure_raw(flags, &stream, err) : measure_graph(flags, codec, &stream, err);
    remove_directory(flags->directory);
    stream_close(&stream);
    codec_destroy(codec);
    return result;
}
