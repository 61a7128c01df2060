/* inspect_graph.c - the store: all of it, one user, one item */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "cmd/vectors.h"
#include "graph/embedding.h"
#include "graph/similar.h"

enum {
    MOST_PARTITIONS = 10000, /* looked for in the offsets: some may never have had a message */
    SIMILAR_SHOWN = 10,
    ID_WIDTH = 12,
};

static int open_graph(const struct inspection *inspection, struct trained *trained, struct graph **graph,
                      struct error *err)
{
    struct graph_settings settings = setup_graph(inspection->config, true);
    if (trained_open(trained, inspection->config, err) != 0)
        return -1;
    settings.vectors = trained_vectors(trained);
    return graph_open(graph, &settings, err);
}

/* The whole store */

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

static void print_offset(void *context, const char *topic, int32_t partition, int64_t offset)
{
    bool *any = context;
    if (!*any)
        printf("\n%-24s %9s %14s\n", "topic", "partition", "next offset");
    *any = true;
    terminal_print(text_of(topic), 24);
    printf(" %9d %14lld\n", (int)partition, (long long)offset);
}

static void append_offset(void *context, const char *topic, int32_t partition, int64_t offset)
{
    json_array_append_new(context, json_pack("{s:s, s:i, s:I}", "topic", topic, "partition", (int)partition,
                                             "next_offset", (json_int_t)offset));
}

static void print_graph(const struct inspection *inspection, const struct graph *graph, uint64_t letters)
{
    struct graph_counts counts = graph_counts(graph);
    const struct graph_settings *settings = graph_settings(graph);
    char newest[32] = "none";
    if (counts.events > 0)
        clock_format(counts.newest_event_ms, newest);
    printf("%-24s %s\n", "store", settings->directory);
    printf("%-24s %llu\n", "events", (unsigned long long)counts.events);
    printf("%-24s %s\n", "newest event", newest);
    printf("%-24s %llu", "users", (unsigned long long)(counts.users - counts.erased_users));
    if (counts.erased_users > 0)
        printf(" (and %llu erased)", (unsigned long long)counts.erased_users);
    printf("\n%-24s %llu, %llu with a title\n", "items", (unsigned long long)counts.items,
           (unsigned long long)counts.titles);
    printf("%-24s %llu\n", "edges", (unsigned long long)counts.edges);
    printf("%-24s %llu\n", "dead letters waiting", (unsigned long long)letters);
    printf("%-24s %g (0: just computed from the edges)\n", "embedding bound", (double)counts.embedding_bound);

    printf("\nopened with\n");
    printf("%-24s a rating %s %g\n", "like", settings->like_inclusive ? "of at least" : "above",
           settings->like_threshold);
    printf("%-24s %zu layers, %zu dimensions, push threshold %g, seed %llu\n", "embeddings", settings->layers,
           settings->dimension, (double)settings->push_threshold, (unsigned long long)settings->seed);
    bool any = false;
    each_offset(inspection, graph, print_offset, &any);
    if (!any)
        printf("\nno offsets: nothing was read from the configured topics\n");
}

static int print_graph_json(const struct inspection *inspection, const struct graph *graph, uint64_t letters,
                            struct error *err)
{
    struct graph_counts counts = graph_counts(graph);
    const struct graph_settings *settings = graph_settings(graph);
    json_t *offsets = json_array();
    each_offset(inspection, graph, append_offset, offsets);
    return inspect_print_json(
        json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:{s:f, s:b, s:I, s:I, s:f, s:I}, s:o}",
                  "directory", settings->directory, "events", (json_int_t)counts.events, "newest_event_ms",
                  counts.events > 0 ? json_integer(counts.newest_event_ms) : json_null(), "users",
                  (json_int_t)(counts.users - counts.erased_users), "erased_users", (json_int_t)counts.erased_users,
                  "items", (json_int_t)counts.items, "titles", (json_int_t)counts.titles, "edges",
                  (json_int_t)counts.edges, "dead_letters_waiting", (json_int_t)letters, "embedding_bound",
                  (double)counts.embedding_bound, "settings", "like_threshold", settings->like_threshold,
                  "like_inclusive", settings->like_inclusive, "layers", (json_int_t)settings->layers, "dimension",
                  (json_int_t)settings->dimension, "push_threshold", (double)settings->push_threshold, "seed",
                  (json_int_t)settings->seed, "offsets", offsets),
        err);
}

int inspect_graph(const struct inspection *inspection, struct error *err)
{
    struct trained trained = {0};
    struct graph *graph = NULL;
    uint64_t letters = 0;
    int result = open_graph(inspection, &trained, &graph, err);
    if (result == 0)
        result = graph_each_outbox(graph, count_letter, &letters, err);
    if (result == 0) {
        graph_read_lock(graph);
        if (inspection->json)
            result = print_graph_json(inspection, graph, letters, err);
        else
            print_graph(inspection, graph, letters);
        graph_read_unlock(graph);
    }
    graph_close(graph);
    trained_close(&trained);
    return result;
}

/* One node */

/* A user or an item and what is said of it; events are a user's history or an item's edges, newest first. */
struct node {
    const struct graph *graph;
    bool is_user;
    struct text id, title;
    const struct attribute *attributes;
    size_t attribute_count;
    size_t edges, likes, dislikes;
    struct edge *events;
    size_t event_count;
    struct similar_user similar[SIMILAR_SHOWN];
    size_t similar_count;
};

static const char *verdict_name(int verdict)
{
    return verdict > 0 ? "like" : verdict < 0 ? "dislike" : "neutral";
}

/* As evidence has it. */
static double smoothed_like_rate(const struct node *node)
{
    return (double)(node->likes + 1) / (double)(node->edges + 2);
}

static void count_verdicts(struct node *node, const struct edge *edges, size_t count)
{
    node->edges = count;
    for (size_t i = 0; i < count; i++) {
        node->likes += edges[i].verdict == VERDICT_LIKE;
        node->dislikes += edges[i].verdict == VERDICT_DISLIKE;
    }
}

static void describe_other(const struct node *node, const struct edge *edge, struct text *id, struct text *title)
{
    *title = (struct text){0};
    if (!node->is_user) {
        *id = graph_user_id(node->graph, edge->other);
        return;
    }
    const struct attribute *attributes;
    size_t count;
    *id = graph_item_id(node->graph, edge->other);
    graph_item(node->graph, edge->other, title, &attributes, &count);
}

static void print_events(const struct node *node)
{
    if (node->event_count == 0)
        return;
    printf("\n%-25s%-*s %-9s %-9s %s\n", node->is_user ? "newest events" : "newest edges", ID_WIDTH,
           node->is_user ? "item" : "user", "kind", "verdict", node->is_user ? "value   title" : "value");
    for (size_t i = 0; i < node->event_count; i++) {
        const struct edge *edge = &node->events[i];
        struct text id, title;
        char date[32], value[32] = "";
        clock_format(edge->timestamp_ms, date);
        describe_other(node, edge, &id, &title);
        if (!isnan(edge->value))
            snprintf(value, sizeof value, "%g", (double)edge->value);
        printf("%-25s", date);
        terminal_print(id, ID_WIDTH);
        printf(" %-9s %-9s %s", interaction_kind_name(edge->kind), verdict_name(edge->verdict), value);
        if (node->is_user) {
            printf("%*s", (int)(8 - strlen(value)), "");
            terminal_print(title.data != NULL ? title : text_of("(no title)"), 0);
        }
        putchar('\n');
    }
}

static void print_node(const struct node *node)
{
    printf("%-16s", node->is_user ? "user" : "item");
    terminal_print(node->id, 0);
    if (!node->is_user) {
        printf("\n%-16s", "title");
        terminal_print(node->title.data != NULL ? node->title : text_of("(none)"), 0);
    }
    for (size_t i = 0; i < node->attribute_count; i++) {
        putchar('\n');
        terminal_print(node->attributes[i].name, 15);
        putchar(' ');
        terminal_print(node->attributes[i].value, 0);
    }
    printf("\n%-16s%zu: %zu likes, %zu dislikes, %zu neutral\n", "edges", node->edges, node->likes, node->dislikes,
           node->edges - node->likes - node->dislikes);
    printf("%-16s%.4f (smoothed: likes + 1 of edges + 2)\n", "like rate", smoothed_like_rate(node));
    print_events(node);
    if (node->similar_count > 0)
        printf("\n%-*s %s\n", ID_WIDTH, "similar user", "cosine");
    for (size_t i = 0; i < node->similar_count; i++) {
        terminal_print(graph_user_id(node->graph, node->similar[i].user), ID_WIDTH);
        printf(" %.4f\n", (double)node->similar[i].cosine);
    }
}

static json_t *events_json(const struct node *node)
{
    json_t *list = json_array();
    for (size_t i = 0; i < node->event_count; i++) {
        const struct edge *edge = &node->events[i];
        struct text id, title;
        describe_other(node, edge, &id, &title);
        json_t *event = json_pack("{s:I, s:o, s:s, s:s, s:o}", "timestamp", (json_int_t)edge->timestamp_ms,
                                  node->is_user ? "item_id" : "user_id", inspect_json_text(id), "kind",
                                  interaction_kind_name(edge->kind), "verdict", verdict_name(edge->verdict), "value",
                                  isnan(edge->value) ? json_null() : json_real((double)edge->value));
        if (node->is_user)
            json_object_set_new(event, "title", inspect_json_text(title));
        json_array_append_new(list, event);
    }
    return list;
}

static json_t *node_json(const struct node *node)
{
    json_t *attributes = json_object();
    for (size_t i = 0; i < node->attribute_count; i++) {
        struct text name = node->attributes[i].name;
        char key[ATTRIBUTE_NAME_LIMIT + 1];
        snprintf(key, sizeof key, TEXT_FORMAT, TEXT_ARGS(name));
        json_object_set_new(attributes, key, inspect_json_text(node->attributes[i].value));
    }
    json_t *document = json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:o}", node->is_user ? "user_id" : "item_id",
                                 inspect_json_text(node->id), node->is_user ? "profile" : "attributes", attributes,
                                 "edges", (json_int_t)node->edges, "likes", (json_int_t)node->likes, "dislikes",
                                 (json_int_t)node->dislikes, "smoothed_like_rate", smoothed_like_rate(node),
                                 node->is_user ? "newest_events" : "newest_edges", events_json(node));
    if (!node->is_user) {
        json_object_set_new(document, "title", inspect_json_text(node->title));
        return document;
    }
    json_t *similar = json_array();
    for (size_t i = 0; i < node->similar_count; i++)
        json_array_append_new(similar, json_pack("{s:o, s:f}", "user_id",
                                                 inspect_json_text(graph_user_id(node->graph, node->similar[i].user)),
                                                 "cosine", (double)node->similar[i].cosine));
    json_object_set_new(document, "similar_users", similar);
    return document;
}

static int print_as_asked(const struct inspection *inspection, const struct node *node, struct error *err)
{
    if (inspection->json)
        return inspect_print_json(node_json(node), err);
    print_node(node);
    return 0;
}

static int show_user(const struct inspection *inspection, struct graph *graph, struct node *node, struct error *err)
{
    uint32_t user = graph_find_user(graph, node->id);
    if (user == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "user \"%.100s\" is unknown to the store %.100s", inspection->operand,
                         graph_settings(graph)->directory);
    graph_user(graph, user, &node->attributes, &node->attribute_count);
    size_t count;
    const struct edge *edges = graph_user_edges(graph, user, &count);
    count_verdicts(node, edges, graph_edges_before(edges, count, inspection->at_ms));
    node->event_count = graph_history(graph, user, inspection->at_ms, inspection->limit, node->events);

    float query[GRAPH_DIMENSION_LIMIT];
    graph_user_embedding(graph, user, query);
    if (count > 0) /* without edges there is no embedding, and everybody is at the same distance */
        node->similar_count = similar_global(graph, query, user, SIMILAR_SHOWN, node->similar);
    return print_as_asked(inspection, node, err);
}

static int show_item(const struct inspection *inspection, struct graph *graph, struct node *node, struct error *err)
{
    uint32_t item = graph_find_item(graph, node->id);
    if (item == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "item \"%.100s\" is unknown to the store %.100s", inspection->operand,
                         graph_settings(graph)->directory);
    graph_item(graph, item, &node->title, &node->attributes, &node->attribute_count);
    size_t count;
    const struct edge *edges = graph_item_edges(graph, item, &count);
    count = graph_edges_before(edges, count, inspection->at_ms);
    count_verdicts(node, edges, count);
    while (node->event_count < inspection->limit && node->event_count < count) {
        node->events[node->event_count] = edges[count - 1 - node->event_count];
        node->event_count++;
    }
    return print_as_asked(inspection, node, err);
}

static int inspect_node(const struct inspection *inspection, bool is_user, struct error *err)
{
    struct trained trained = {0};
    struct graph *graph = NULL;
    struct node node = {.is_user = is_user, .id = text_of(inspection->operand)};
    int result = open_graph(inspection, &trained, &graph, err);
    if (result != 0) {
        trained_close(&trained);
        return result;
    }
    node.graph = graph;
    node.events = calloc(inspection->limit + 1, sizeof *node.events);
    graph_read_lock(graph);
    if (node.events == NULL)
        result = error_set(err, ERROR_FATAL, "out of memory for %zu events", inspection->limit);
    else
        result = (is_user ? show_user : show_item)(inspection, graph, &node, err);
    graph_read_unlock(graph);
    free(node.events);
    graph_close(graph);
    trained_close(&trained);
    return result;
}

int inspect_user(const struct inspection *inspection, struct error *err)
{
    return inspect_node(inspection, true, err);
}

int inspect_item(const struct inspection *inspection, struct error *err)
{
    return inspect_node(inspection, false, err);
}
