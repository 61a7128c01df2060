#include "graph/similar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/similar_table.h"
#include "graph/state.h"
#include "graph/vectors.h"

/* Cosine of a user who has no embedding. */
static const double NOBODY = -2.0;

/* The user's newest edge earlier than `before_ms`; INT64_MIN: none. */
static int64_t newest_activity(const struct graph *graph, uint32_t user, int64_t before_ms)
{
    size_t count;
    const struct edge *edges = graph_user_edges(graph, user, &count);
    count = graph_edges_before(edges, count, before_ms);
    return count == 0 ? INT64_MIN : edges[count - 1].timestamp_ms;
}

static bool id_is_less(struct text a, struct text b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order < 0 : a.size < b.size;
}

static bool comes_before(const struct graph *graph, int64_t before_ms, const struct similar_user *a,
                         const struct similar_user *b)
{
    if (a->cosine != b->cosine)
        return a->cosine > b->cosine;
    int64_t a_active = newest_activity(graph, a->user, before_ms);
    int64_t b_active = newest_activity(graph, b->user, before_ms);
    if (a_active != b_active)
        return a_active > b_active;
    return id_is_less(graph_user_id(graph, a->user), graph_user_id(graph, b->user));
}

/* The best k so far, best first. */
struct ranking {
    const struct graph *graph;
    int64_t before_ms;
    struct similar_user *users;
    size_t count;
    size_t k;
};

static void rank(struct ranking *ranking, struct similar_user user)
{
    size_t at = 0;
    for (size_t end = ranking->count; at < end;) {
        size_t middle = at + (end - at) / 2;
        if (comes_before(ranking->graph, ranking->before_ms, &user, &ranking->users[middle]))
            end = middle;
        else
            at = middle + 1;
    }
    if (at == ranking->k)
        return;
    if (ranking->count < ranking->k)
        ranking->count++;
    memmove(ranking->users + at + 1, ranking->users + at, (ranking->count - at - 1) * sizeof *ranking->users);
    ranking->users[at] = user;
}

static bool is_zero(const float *vector, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (vector[i] != 0)
            return false;
    return true;
}

static double cosine_to(const struct graph *graph, const float *query, uint32_t user)
{
    uint32_t node = graph->nodes.users[user].embedding;
    double cosine = node == GRAPH_NONE ? NAN : embedding_cosine_to(graph->nodes.embedding, node, query);
    return isnan(cosine) ? NOBODY : cosine;
}

/*
 * Users come in no order that memory knows: so many ahead their nodes are asked for, half as many ahead what those lead
 * to. Always inline: gcc takes a function that does nothing but fetch for one without effect, and drops calls of it.
 */
enum { NODES_AHEAD = 16, ROWS_AHEAD = 8 };

static inline __attribute__((always_inline)) void fetch_node(const struct graph *graph, uint32_t user)
{
    __builtin_prefetch(&graph->nodes.users[user]);
}

static inline __attribute__((always_inline)) void fetch_rows(const struct graph *graph, uint32_t user)
{
    const struct user_node *node = &graph->nodes.users[user];
    if (node->embedding != GRAPH_NONE)
        embedding_fetch(graph->nodes.embedding, node->embedding);
    if (node->edges.count > 0)
        __builtin_prefetch(node->edges.at + node->edges.count - 1);
}

void similar_begin(struct similar_search *search, const struct graph *graph, const float *query, uint32_t self,
                   int64_t before_ms)
{
    search->graph = graph;
    search->query = query;
    search->self = self;
    search->before_ms = before_ms;
    for (size_t i = 0; i < SIMILAR_CACHE; i++)
        search->cache[i].user = GRAPH_NONE;
}

static double find_cosine(struct similar_search *search, uint32_t user)
{
    struct similar_cosine *cached = &search->cache[user % SIMILAR_CACHE];
    if (cached->user != user)
        *cached = (struct similar_cosine){user, cosine_to(search->graph, search->query, user)};
    return cached->cosine;
}

static inline __attribute__((always_inline)) void fetch_unknown(const struct similar_search *search, uint32_t user)
{
    if (search->cache[user % SIMILAR_CACHE].user != user)
        fetch_rows(search->graph, user);
}

size_t similar_by_candidate(struct similar_search *search, uint32_t item, size_t k, struct similar_user *out)
{
    struct ranking ranking = {search->graph, search->before_ms, out, 0, k};
    if (item == GRAPH_NONE || k == 0)
        return 0;
    size_t count;
    const struct edge *edges = graph_item_edges(search->graph, item, &count);
    count = graph_edges_before(edges, count, search->before_ms);
    size_t first = count > SIMILAR_RATERS ? count - SIMILAR_RATERS : 0;
    for (size_t i = count; i-- > first;) { /* the latest first: they win ties */
        if (i >= first + NODES_AHEAD)
            fetch_node(search->graph, edges[i - NODES_AHEAD].other);
        if (i >= first + ROWS_AHEAD)
            fetch_unknown(search, edges[i - ROWS_AHEAD].other);
        uint32_t user = edges[i].other;
        double cosine = find_cosine(search, user);
        if (user == search->self || cosine == NOBODY || (ranking.count == k && cosine < out[k - 1].cosine))
            continue;
        rank(&ranking, (struct similar_user){user, cosine, edges[i].verdict});
    }
    return ranking.count;
}

/* The first hits have the highest bounds, and raise the bar for the others. */
static void rank_hits(struct ranking *ranking, const float *query, uint32_t self, const struct similar_hit *hits,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t user = hits[i].user;
        if (count - i > NODES_AHEAD)
            fetch_node(ranking->graph, hits[i + NODES_AHEAD].user);
        if (count - i > ROWS_AHEAD)
            fetch_rows(ranking->graph, hits[i + ROWS_AHEAD].user);
        if (user == self ||
            (ranking->count == ranking->k && (double)hits[i].most < ranking->users[ranking->k - 1].cosine))
            continue;
        double cosine = cosine_to(ranking->graph, query, user);
        if (cosine != NOBODY)
            rank(ranking, (struct similar_user){user, cosine, 0});
    }
}

static void rank_all(struct ranking *ranking, const float *query, uint32_t self)
{
    uint64_t users = graph_counts(ranking->graph).users;
    for (uint32_t user = 0; user < users; user++) {
        double cosine = user == self ? NOBODY : cosine_to(ranking->graph, query, user);
        if (cosine != NOBODY)
            rank(ranking, (struct similar_user){user, cosine, 0});
    }
}

size_t similar_global(const struct graph *graph, const float *query, uint32_t self, size_t k, struct similar_user *out)
{
    struct ranking ranking = {graph, INT64_MAX, out, 0, k};
    struct similar_hit *hits = NULL;
    size_t count, wanted = k + (self != GRAPH_NONE);
    if (k == 0)
        return 0;
    if (graph->similar_table == NULL || similar_table_search(graph->similar_table, query, wanted, &hits, &count) != 0)
        rank_all(&ranking, query, self);
    else
        rank_hits(&ranking, query, self, hits, count);
    free(hits);
    return ranking.count;
}

static const float *trained_row(const struct graph *graph, uint32_t user)
{
    return graph_vectors_find(graph->settings.vectors, VECTORS_USERS, graph_user_id(graph, user));
}

size_t similar_by_vectors(const struct graph *graph, uint32_t user, size_t k, struct similar_user *out)
{
    struct ranking ranking = {graph, INT64_MAX, out, 0, k};
    size_t n = graph->settings.dimension;
    if (graph->settings.vectors == NULL || user == GRAPH_NONE || k == 0)
        return 0;
    const float *query = trained_row(graph, user);
    if (query == NULL || is_zero(query, n))
        return 0;
    uint64_t users = graph_counts(graph).users;
    for (uint32_t other = 0; other < users; other++) {
        const float *row = other == user ? NULL : trained_row(graph, other);
        if (row != NULL && !is_zero(row, n))
            rank(&ranking, (struct similar_user){other, embedding_cosine(query, row, n), 0});
    }
    return ranking.count;
}

/* (items, n); zeros where there is no title, or none that has a vector. NULL: no memory. */
static float *read_titles(const struct graph *graph)
{
    const struct graph_settings *settings = &graph->settings;
    uint64_t items = graph_counts(graph).items;
    float *titles = calloc(items + 1, settings->dimension * sizeof *titles);
    for (uint32_t item = 0; item < items && titles != NULL; item++) {
        struct text title;
        const struct attribute *attributes;
        size_t attribute_count;
        float *row = titles + item * settings->dimension;
        graph_item(graph, item, &title, &attributes, &attribute_count);
        if (title.data != NULL && !settings->title_vector(settings->title_context, title, row))
            memset(row, 0, settings->dimension * sizeof *row);
    }
    return titles;
}

static void sum_titles(const struct graph *graph, const float *titles, uint32_t user, int64_t before_ms, float *out)
{
    size_t count, n = graph->settings.dimension;
    const struct edge *edges = graph_user_edges(graph, user, &count);
    count = graph_edges_before(edges, count, before_ms);
    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < n; j++)
            out[j] += titles[edges[i].other * n + j];
}

int similar_by_titles(const struct graph *graph, uint32_t user, int64_t before_ms, size_t k, struct similar_user *out,
                      size_t *count, struct error *err)
{
    struct ranking ranking = {graph, before_ms, out, 0, k};
    float query[GRAPH_DIMENSION_LIMIT], sum[GRAPH_DIMENSION_LIMIT];
    size_t n = graph->settings.dimension;
    *count = 0;
    if (graph->settings.title_vector == NULL || user == GRAPH_NONE || k == 0)
        return 0;
    float *titles = read_titles(graph);
    if (titles == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the vectors of all titles");
    sum_titles(graph, titles, user, before_ms, query);
    uint64_t users = is_zero(query, n) ? 0 : graph_counts(graph).users;
    for (uint32_t other = 0; other < users; other++) {
        sum_titles(graph, titles, other, before_ms, sum);
        if (other != user && !is_zero(sum, n))
            rank(&ranking, (struct similar_user){other, embedding_cosine(query, sum, n), 0});
    }
    free(titles);
    *count = ranking.count;
    return 0;
}
