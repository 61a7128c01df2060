/* inspect_graph.c - the store as a whole */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "graph/embedding.h"

enum { MOST_PARTITIONS = 10000 /* looked for in the offsets: some may never have had a message */ };

int inspect_open(const struct inspection *inspection, struct inspected *inspected, struct error *err)
{
    struct graph_settings settings = setup_graph(inspection->config, true);
    *inspected = (struct inspected){0};
    if (trained_open(&inspected->trained, inspection->config, err) == 0) {
        trained_give(&inspected->trained, &settings);
        if (graph_open(&inspected->graph, &settings, err) == 0)
            return 0;
    }
    inspect_close(inspected);
    return -1;
}

void inspect_close(struct inspected *inspected)
{
    graph_close(inspected->graph);
    trained_close(&inspected->trained);
    *inspected = (struct inspected){0};
}

static bool count_letter(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    (void)topic, (void)partition, (void)offset, (void)letter;
    ++*(uint64_t *)context;
    return true;
}

static void each_offset(const struct inspection *inspection, const struct graph *graph,
                        void (*visit)(void *context, const char *topic, int32_t partition, int64_t offset),
                        void *context)
{
    struct kafka_topics topics = setup_topics(inspection->config);
    const char *const names[] = {topics.interactions, topics.items, topics.users};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int32_t partition = 0; partition < MOST_PARTITIONS; partition++) {
            int64_t offset = graph_offset(graph, names[i], partition);
            if (offset >= 0)
                visit(context, names[i], partition, offset);
        }
}

/* How far embeddings of users may be from the exact ones, radians. */
struct angles {
    size_t count; /* users with an embedding */
    double median, largest;
};

static int compare_angles(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static int find_angles(const struct graph *graph, struct angles *angles, struct error *err)
{
    uint64_t users = graph_counts(graph).users;
    float *all = malloc((users + 1) * sizeof *all);
    *angles = (struct angles){0};
    if (all == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %llu users", (unsigned long long)users);
    for (uint32_t user = 0; user < users; user++) {
        size_t count;
        graph_user_edges(graph, user, &count);
        if (count > 0)
            all[angles->count++] = graph_user_angle(graph, user);
    }
    if (angles->count > 0) {
        qsort(all, angles->count, sizeof *all, compare_angles);
        angles->median = (double)all[angles->count / 2];
        angles->largest = (double)all[angles->count - 1];
    }
    free(all);
    return 0;
}

/* Tables. */

static void print_row(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print_row(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%-24s ", name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

static void print_size(const char *name, uint64_t bytes)
{
    print_row(name, "%10.1f MiB", (double)bytes / (1 << 20));
}

static void print_offset(void *context, const char *topic, int32_t partition, int64_t offset)
{
    bool *any = context;
    if (!*any)
        printf("\n%-24s %9s %14s\n", "topic", "partition", "next offset");
    *any = true;
    terminal_print(text_of(topic), 24);
    printf(" %9d %14lld\n", (int)partition, (long long)offset);
}

static void print_counts(const struct graph_counts *counts, uint64_t letters)
{
    char newest[32] = "none";
    if (counts->events > 0)
        clock_format(counts->newest_event_ms, newest);
    print_row("events", "%llu", (unsigned long long)counts->events);
    if (counts->late_events > 0)
        print_row("too old for the window", "%llu", (unsigned long long)counts->late_events);
    print_row("newest event", "%s", newest);
    if (counts->erased_users > 0)
        print_row("users", "%llu (and %llu erased)", (unsigned long long)(counts->users - counts->erased_users),
                  (unsigned long long)counts->erased_users);
    else
        print_row("users", "%llu", (unsigned long long)counts->users);
    print_row("items", "%llu, %llu with a title", (unsigned long long)counts->items,
              (unsigned long long)counts->titles);
    print_row("edges", "%llu", (unsigned long long)counts->edges);
    print_row("dead letters waiting", "%llu", (unsigned long long)letters);
}

static void print_settings(const struct graph_settings *settings)
{
    static const char *const results[] = {"mean of the layers", "last layer", "weighted mean of the layers"};
    printf("\nopened with\n");
    print_row("like", "a rating %s %g", settings->like_inclusive ? "of at least" : "above", settings->like_threshold);
    print_row("embeddings", "%zu layers, %zu dimensions, push threshold %g, budget %zu, seed %llu", settings->layers,
              settings->dimension, (double)settings->push_threshold, settings->push_budget,
              (unsigned long long)settings->seed);
    print_row("", "%s%s, of %s edges", results[settings->result], settings->normalise ? ", normalised" : "",
              settings->edges == GRAPH_EDGES_LIKES ? "liking" : "all");
    if (settings->window_ms > 0)
        print_row("window", "%.0f days", (double)settings->window_ms / 86400000.0);
    if (settings->max_edges_per_node > 0)
        print_row("edges a node", "at most %zu", settings->max_edges_per_node);
    if (settings->max_nodes > 0)
        print_row("nodes", "at most %zu", settings->max_nodes);
}

static void print_embeddings(const struct graph_counts *counts, const struct angles *angles)
{
    static const double degrees = 57.29577951308232;
    printf("\nembeddings\n");
    print_row("bound", "%g (0: just computed from the edges)", (double)counts->embedding_bound);
    print_row("angle to the exact ones", "%.2f degrees at most for half of %zu users, %.2f for all",
              angles->median * degrees, angles->count, angles->largest * degrees);
    print_row("epsilon in force", "%g", (double)counts->embedding_epsilon);
    print_row("waiting", "%llu vector operations", (unsigned long long)counts->embedding_backlog);
    print_row("done", "%llu vector operations", (unsigned long long)counts->embedding_operations);
}

static void print_memory(const struct graph *graph)
{
    struct graph_memory memory = graph_memory(graph);
    struct store_memory store = graph_store_memory(graph);
    printf("\nin memory\n");
    print_size("ids", memory.ids);
    print_size("users and items", memory.nodes);
    print_size("edges", memory.edges);
    print_size("embeddings", memory.embeddings);
    print_size("titles and profiles", memory.descriptions);
    print_size("limits", memory.limits);
    print_size("store: cache", store.cache);
    print_size("store: not in tables", store.buffers);
    print_size("store: open tables", store.readers);
}

static void print_families(const struct graph *graph)
{
    struct store_size size;
    printf("\n%-12s %12s %14s\n", "on the disk", "keys, about", "MiB");
    for (size_t family = 0; (size = graph_store_size(graph, family)).name != NULL; family++)
        if (size.keys > 0 || size.bytes > 0)
            printf("%-12s %12llu %14.1f\n", size.name, (unsigned long long)size.keys, (double)size.bytes / (1 << 20));
}

static void print_graph(const struct inspection *inspection, const struct graph *graph, uint64_t letters,
                        const struct angles *angles)
{
    struct graph_counts counts = graph_counts(graph);
    bool any = false;
    print_row("store", "%s", graph_settings(graph)->directory);
    print_counts(&counts, letters);
    print_settings(graph_settings(graph));
    print_embeddings(&counts, angles);
    print_memory(graph);
    print_families(graph);
    each_offset(inspection, graph, print_offset, &any);
    if (!any)
        printf("\nno offsets: nothing was read from the configured topics\n");
}

/* JSON. */

static void append_offset(void *context, const char *topic, int32_t partition, int64_t offset)
{
    json_array_append_new(context, json_pack("{s:s, s:i, s:I}", "topic", topic, "partition", (int)partition,
                                             "next_offset", (json_int_t)offset));
}

static json_t *settings_json(const struct graph_settings *settings)
{
    static const char *const results[] = {"mean", "final", "weighted"};
    return json_pack("{s:f, s:b, s:I, s:I, s:f, s:I, s:I, s:s, s:b, s:s, s:I, s:I, s:I}", "like_threshold",
                     settings->like_threshold, "like_inclusive", settings->like_inclusive, "layers",
                     (json_int_t)settings->layers, "dimension", (json_int_t)settings->dimension, "push_threshold",
                     (double)settings->push_threshold, "push_budget", (json_int_t)settings->push_budget, "seed",
                     (json_int_t)settings->seed, "result", results[settings->result], "normalise", settings->normalise,
                     "edges", settings->edges == GRAPH_EDGES_LIKES ? "likes" : "all", "window_ms",
                     (json_int_t)settings->window_ms, "max_edges_per_node", (json_int_t)settings->max_edges_per_node,
                     "max_nodes", (json_int_t)settings->max_nodes);
}

static json_t *memory_json(const struct graph *graph)
{
    struct graph_memory memory = graph_memory(graph);
    struct store_memory store = graph_store_memory(graph);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ids", (json_int_t)memory.ids, "nodes",
                     (json_int_t)memory.nodes, "edges", (json_int_t)memory.edges, "embeddings",
                     (json_int_t)memory.embeddings, "descriptions", (json_int_t)memory.descriptions, "limits",
                     (json_int_t)memory.limits, "store_cache", (json_int_t)store.cache, "store_buffers",
                     (json_int_t)store.buffers, "store_readers", (json_int_t)store.readers);
}

static json_t *families_json(const struct graph *graph)
{
    json_t *families = json_object();
    struct store_size size;
    for (size_t family = 0; (size = graph_store_size(graph, family)).name != NULL; family++)
        json_object_set_new(families, size.name,
                            json_pack("{s:I, s:I}", "keys", (json_int_t)size.keys, "bytes", (json_int_t)size.bytes));
    return families;
}

static json_t *embeddings_json(const struct graph_counts *counts, const struct angles *angles)
{
    return json_pack("{s:f, s:{s:f, s:f}, s:f, s:I, s:I}", "bound", (double)counts->embedding_bound, "angle", "median",
                     angles->median, "largest", angles->largest, "epsilon", (double)counts->embedding_epsilon,
                     "backlog", (json_int_t)counts->embedding_backlog, "operations",
                     (json_int_t)counts->embedding_operations);
}

static int print_graph_json(const struct inspection *inspection, const struct graph *graph, uint64_t letters,
                            const struct angles *angles, struct error *err)
{
    struct graph_counts counts = graph_counts(graph);
    json_t *offsets = json_array();
    each_offset(inspection, graph, append_offset, offsets);
    return inspect_print_json(
        json_pack("{s:s, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "directory",
                  graph_settings(graph)->directory, "events", (json_int_t)counts.events, "late_events",
                  (json_int_t)counts.late_events, "newest_event_ms",
                  counts.events > 0 ? json_integer(counts.newest_event_ms) : json_null(), "users",
                  (json_int_t)(counts.users - counts.erased_users), "erased_users", (json_int_t)counts.erased_users,
                  "items", (json_int_t)counts.items, "titles", (json_int_t)counts.titles, "edges",
                  (json_int_t)counts.edges, "dead_letters_waiting", (json_int_t)letters, "settings",
                  settings_json(graph_settings(graph)), "embeddings", embeddings_json(&counts, angles), "memory",
                  memory_json(graph), "families", families_json(graph), "offsets", offsets),
        err);
}

int inspect_graph(const struct inspection *inspection, struct error *err)
{
    struct inspected inspected;
    struct angles angles;
    uint64_t letters = 0;
    if (inspect_open(inspection, &inspected, err) != 0)
        return -1;
    struct graph *graph = inspected.graph;
    int result = graph_each_outbox(graph, count_letter, &letters, err);
    graph_read_lock(graph);
    if (result == 0)
        result = find_angles(graph, &angles, err);
    if (result == 0 && inspection->json)
        result = print_graph_json(inspection, graph, letters, &angles, err);
    else if (result == 0)
        print_graph(inspection, graph, letters, &angles);
    graph_read_unlock(graph);
    inspect_close(&inspected);
    return result;
}
