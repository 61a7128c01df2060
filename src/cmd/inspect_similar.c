/* inspect_similar.c - the users most similar to one: of all, or of those who know an item */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "graph/similar.h"

enum { ID_WIDTH = 12, DATE_WIDTH = 25 };

struct nearest {
    const struct inspection *inspection;
    const struct graph *graph;
    uint32_t user, item; /* GRAPH_NONE: of all users */
    struct similar_user *users;
    size_t count;
};

/* Items that both have an edge to. */
static size_t shared_items(const struct graph *graph, uint32_t a, uint32_t b)
{
    size_t of_a, of_b, shared = 0;
    const struct edge *x = graph_user_edges(graph, a, &of_a), *y = graph_user_edges(graph, b, &of_b);
    for (size_t i = 0; i < of_a; i++)
        for (size_t j = 0; j < of_b; j++)
            shared += x[i].other == y[j].other;
    return shared;
}

/* How a user came out of it all: edges, the newest of them, items shared. */
struct company {
    size_t edges, shared;
    int64_t newest_ms;
    float angle;
};

static struct company company_of(const struct nearest *nearest, uint32_t user)
{
    struct company company = {.shared = shared_items(nearest->graph, nearest->user, user),
                              .angle = graph_user_angle(nearest->graph, user)};
    const struct edge *edges = graph_user_edges(nearest->graph, user, &company.edges);
    company.newest_ms = company.edges > 0 ? edges[company.edges - 1].timestamp_ms : 0;
    return company;
}

static void print_nearest(const struct nearest *nearest)
{
    printf("%-16s", "user");
    terminal_print(text_of(nearest->inspection->operand), 0);
    printf("\n%-16s%s", "among", nearest->item == GRAPH_NONE ? "all users" : "the users of item ");
    if (nearest->item != GRAPH_NONE)
        terminal_print(graph_item_id(nearest->graph, nearest->item), 0);
    printf("\n%-16s%.2f degrees from the exact one at most\n\n", "embedding",
           (double)graph_user_angle(nearest->graph, nearest->user) * 57.29577951308232);
    printf("%-*s %-8s %7s %7s %8s  %-*s%s\n", ID_WIDTH, "similar user", "cosine", "edges", "shared", "degrees",
           DATE_WIDTH, "newest edge", nearest->item == GRAPH_NONE ? "" : "verdict on the item");
    for (size_t i = 0; i < nearest->count; i++) {
        struct company company = company_of(nearest, nearest->users[i].user);
        char date[32];
        clock_format(company.newest_ms, date);
        terminal_print(graph_user_id(nearest->graph, nearest->users[i].user), ID_WIDTH);
        printf(" %-8.4f %7zu %7zu %8.2f  %-*s%s\n", nearest->users[i].cosine, company.edges, company.shared,
               (double)company.angle * 57.29577951308232, DATE_WIDTH, date,
               nearest->item == GRAPH_NONE ? "" : inspect_verdict(nearest->users[i].verdict));
    }
    if (nearest->count == 0)
        printf("nobody: there is no other user with an embedding%s\n",
               nearest->item == GRAPH_NONE ? "" : " among them");
}

static json_t *nearest_json(const struct nearest *nearest)
{
    json_t *users = json_array();
    for (size_t i = 0; i < nearest->count; i++) {
        uint32_t user = nearest->users[i].user;
        struct company company = company_of(nearest, user);
        json_t *entry =
            json_pack("{s:o, s:f, s:I, s:I, s:f, s:I}", "user_id",
                      inspect_json_text(graph_user_id(nearest->graph, user)), "cosine", nearest->users[i].cosine,
                      "edges", (json_int_t)company.edges, "shared_items", (json_int_t)company.shared, "embedding_angle",
                      (double)company.angle, "newest_edge_ms", (json_int_t)company.newest_ms);
        if (nearest->item != GRAPH_NONE)
            json_object_set_new(entry, "verdict", json_string(inspect_verdict(nearest->users[i].verdict)));
        json_array_append_new(users, entry);
    }
    return json_pack(
        "{s:s, s:o, s:f, s:o}", "user_id", nearest->inspection->operand, "item_id",
        nearest->item == GRAPH_NONE ? json_null() : inspect_json_text(graph_item_id(nearest->graph, nearest->item)),
        "embedding_angle", (double)graph_user_angle(nearest->graph, nearest->user), "similar_users", users);
}

static int find_ends(struct nearest *nearest, struct error *err)
{
    const struct inspection *inspection = nearest->inspection;
    nearest->user = graph_find_user(nearest->graph, text_of(inspection->operand));
    nearest->item = inspection->item == NULL ? GRAPH_NONE : graph_find_item(nearest->graph, text_of(inspection->item));
    if (nearest->user == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "user \"%.100s\" is unknown to the store", inspection->operand);
    if (inspection->item != NULL && nearest->item == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "item \"%.100s\" is unknown to the store", inspection->item);
    return 0;
}

static int search(struct nearest *nearest, struct error *err)
{
    const struct inspection *inspection = nearest->inspection;
    float query[GRAPH_DIMENSION_LIMIT];
    graph_user_embedding(nearest->graph, nearest->user, query);
    if (nearest->item == GRAPH_NONE) {
        nearest->count = similar_global(nearest->graph, query, nearest->user, inspection->limit, nearest->users);
        return 0;
    }
    struct similar_search *search = malloc(sizeof *search);
    if (search == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while searching similar users");
    similar_begin(search, nearest->graph, query, nearest->user, inspection->at_ms);
    nearest->count = similar_by_candidate(search, nearest->item, inspection->limit, nearest->users);
    free(search);
    return 0;
}

int inspect_similar(const struct inspection *inspection, struct error *err)
{
    struct inspected inspected;
    if (inspect_open(inspection, &inspected, err) != 0)
        return -1;
    struct nearest nearest = {.inspection = inspection, .graph = inspected.graph};
    nearest.users = calloc(inspection->limit + 1, sizeof *nearest.users);
    int result = -1;
    graph_read_lock(inspected.graph);
    if (nearest.users == NULL)
        error_set(err, ERROR_FATAL, "out of memory for %zu users", inspection->limit);
    else if (find_ends(&nearest, err) == 0)
        result = search(&nearest, err);
    if (result == 0 && inspection->json)
        result = inspect_print_json(nearest_json(&nearest), err);
    else if (result == 0)
        print_nearest(&nearest);
    graph_read_unlock(inspected.graph);
    free(nearest.users);
    inspect_close(&inspected);
    return result;
}
