/* inspect_node.c - one user, one item */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "graph/similar.h"

enum { SIMILAR_SHOWN = 10, ID_WIDTH = 12 };

/* A user or an item and what is said of it. */
struct node {
    const struct graph *graph;
    const struct inspection *inspection;
    bool is_user;
    struct text id, title;
    const struct attribute *attributes;
    size_t attribute_count;
    size_t edges, likes, dislikes;
    struct edge *events; /* newest first: a user's history, or the edges of then; an item's edges */
    size_t event_count;
    float embedding[GRAPH_DIMENSION_LIMIT]; /* of now */
    float angle;
    struct similar_user similar[SIMILAR_SHOWN];
    size_t similar_count;
};

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

static bool shows_past(const struct node *node)
{
    return node->inspection->at_ms != INSPECT_NOW;
}

static const char *event_heading(const struct node *node)
{
    return !node->is_user ? "newest edges" : shows_past(node) ? "newest edges then" : "newest events";
}

/* What the store can no longer tell of that time. */
static void print_gaps(const struct node *node)
{
    char start[32];
    if (!shows_past(node))
        return;
    if (!node->is_user)
        printf("%-16sedges replaced or removed since are not known at the item's end\n", "");
    if (node->is_user && graph_history_start(node->graph) > 0) {
        clock_format(graph_history_start(node->graph), start);
        printf("%-16sthe window has taken away what is earlier than %s\n", "", start);
    }
    if (node->is_user && graph_settings(node->graph)->max_edges_per_node > 0)
        printf("%-16sedges that graph.max_edges_per_node took out by then are among them\n", "");
}

static void print_events(const struct node *node)
{
    if (node->event_count == 0)
        return;
    printf("\n%-25s%-*s %-9s %-9s %s\n", event_heading(node), ID_WIDTH, node->is_user ? "item" : "user", "kind",
           "verdict", node->is_user ? "value   title" : "value");
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
        printf(" %-9s %-9s %s", interaction_kind_name(edge->kind), inspect_verdict(edge->verdict), value);
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
    putchar('\n');
    if (shows_past(node)) {
        char date[32];
        clock_format(node->inspection->at_ms, date);
        printf("%-16s%s\n", "as of", date);
    }
    printf("%-16s%zu: %zu likes, %zu dislikes, %zu neutral\n", "edges", node->edges, node->likes, node->dislikes,
           node->edges - node->likes - node->dislikes);
    print_gaps(node);
    printf("%-16s%.4f (smoothed: likes + 1 of edges + 2)\n", "like rate", smoothed_like_rate(node));
    printf("%-16s%.2f degrees from the exact one at most\n", "embedding", (double)node->angle * 57.29577951308232);
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
                                  interaction_kind_name(edge->kind), "verdict", inspect_verdict(edge->verdict), "value",
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
    json_t *embedding = json_array();
    for (size_t i = 0; i < graph_settings(node->graph)->dimension; i++)
        json_array_append_new(embedding, json_real((double)node->embedding[i]));
    json_t *document = json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:f, s:o, s:o}", node->is_user ? "user_id" : "item_id",
                                 inspect_json_text(node->id), node->is_user ? "profile" : "attributes", attributes,
                                 "as_of", shows_past(node) ? json_integer(node->inspection->at_ms) : json_null(),
                                 "edges", (json_int_t)node->edges, "likes", (json_int_t)node->likes, "dislikes",
                                 (json_int_t)node->dislikes, "smoothed_like_rate", smoothed_like_rate(node),
                                 !node->is_user     ? "newest_edges"
                                 : shows_past(node) ? "newest_edges_then"
                                                    : "newest_events",
                                 events_json(node), "embedding", embedding);
    if (!node->is_user) {
        json_object_set_new(document, "title", inspect_json_text(node->title));
        return document;
    }
    int64_t start_ms = graph_history_start(node->graph);
    json_object_set_new(document, "embedding_angle", json_real((double)node->angle));
    json_object_set_new(document, "history_start", start_ms > 0 ? json_integer(start_ms) : json_null());
    json_t *similar = json_array();
    for (size_t i = 0; i < node->similar_count; i++)
        json_array_append_new(similar, json_pack("{s:o, s:f}", "user_id",
                                                 inspect_json_text(graph_user_id(node->graph, node->similar[i].user)),
                                                 "cosine", (double)node->similar[i].cosine));
    json_object_set_new(document, "similar_users", similar);
    return document;
}

/* As many of the newest as are to be shown, newest first. */
static void take_newest(struct node *node, const struct edge *edges, size_t count)
{
    for (; node->event_count < node->inspection->limit && node->event_count < count; node->event_count++)
        node->events[node->event_count] = edges[count - 1 - node->event_count];
}

static int look_back(struct graph *graph, struct node *node, uint32_t user, struct error *err)
{
    struct edge *edges;
    size_t count;
    if (graph_user_edges_at(graph, user, node->inspection->at_ms, &edges, &count, err) != 0)
        return -1;
    count_verdicts(node, edges, count);
    take_newest(node, edges, count);
    free(edges);
    return 0;
}

static int show_user(struct graph *graph, struct node *node, struct error *err)
{
    uint32_t user = graph_find_user(graph, node->id);
    if (user == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "user \"%.100s\" is unknown to the store %.100s", node->id.data,
                         graph_settings(graph)->directory);
    graph_user(graph, user, &node->attributes, &node->attribute_count);
    graph_user_embedding(graph, user, node->embedding);
    node->angle = graph_user_angle(graph, user);
    node->similar_count = similar_global(graph, node->embedding, user, SIMILAR_SHOWN, node->similar);
    if (shows_past(node))
        return look_back(graph, node, user, err);
    size_t count;
    const struct edge *edges = graph_user_edges(graph, user, &count);
    count_verdicts(node, edges, count);
    node->event_count = graph_history(graph, user, INSPECT_NOW, node->inspection->limit, node->events);
    return 0;
}

static int show_item(struct graph *graph, struct node *node, struct error *err)
{
    uint32_t item = graph_find_item(graph, node->id);
    if (item == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "item \"%.100s\" is unknown to the store %.100s", node->id.data,
                         graph_settings(graph)->directory);
    graph_item(graph, item, &node->title, &node->attributes, &node->attribute_count);
    graph_item_embedding(graph, item, node->embedding);
    size_t count;
    const struct edge *edges = graph_item_edges(graph, item, &count);
    count = graph_edges_before(edges, count, node->inspection->at_ms);
    count_verdicts(node, edges, count);
    take_newest(node, edges, count);
    return 0;
}

static int inspect_node(const struct inspection *inspection, bool is_user, struct error *err)
{
    struct inspected inspected;
    if (inspect_open(inspection, &inspected, err) != 0)
        return -1;
    struct graph *graph = inspected.graph;
    struct node node = {
        .graph = graph, .inspection = inspection, .is_user = is_user, .id = text_of(inspection->operand)};
    node.events = calloc(inspection->limit + 1, sizeof *node.events);
    int result = -1;
    graph_read_lock(graph);
    if (node.events == NULL)
        error_set(err, ERROR_FATAL, "out of memory for %zu events", inspection->limit);
    else
        result = (is_user ? show_user : show_item)(graph, &node, err);
    if (result == 0 && inspection->json)
        result = inspect_print_json(node_json(&node), err);
    else if (result == 0)
        print_node(&node);
    graph_read_unlock(graph);
    free(node.events);
    inspect_close(&inspected);
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
