#include "graph/similar.h"

#include <math.h>
#include <string.h>

#include "graph/embedding.h"

/*
 * Cosines are rounded to a grid of 2^-17. Sums that were kept up to date by pushes differ in their last bits between
 * users who are equals, and without the grid these bits, not the users' activity, would break the tie. It is a hundred
 * times coarser than the rounding, so that few ties straddle two points, and finer than what the default push threshold
 * leaves open.
 */
static float on_grid(float cosine)
{
    return (float)(round((double)cosine * 0x1p17) * 0x1p-17);
}

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
    const float *query;
    size_t dimension;
    uint32_t self;
    int64_t before_ms;
    struct similar_user *users;
    size_t count;
    size_t k;
};

static bool is_zero(const float *vector, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (vector[i] != 0)
            return false;
    return true;
}

static void consider(struct ranking *ranking, uint32_t user, int8_t verdict)
{
    float vector[GRAPH_DIMENSION_LIMIT];
    if (user == ranking->self)
        return;
    graph_user_embedding(ranking->graph, user, vector);
    if (is_zero(vector, ranking->dimension))
        return;
    float cosine = on_grid(embedding_cosine(ranking->query, vector, ranking->dimension));
    struct similar_user candidate = {user, cosine, verdict};
    size_t at = ranking->count;
    while (at > 0 && comes_before(ranking->graph, ranking->before_ms, &candidate, &ranking->users[at - 1]))
        at--;
    if (at == ranking->k)
        return;
    if (ranking->count < ranking->k)
        ranking->count++;
    memmove(ranking->users + at + 1, ranking->users + at, (ranking->count - at - 1) * sizeof *ranking->users);
    ranking->users[at] = candidate;
}

size_t similar_by_candidate(const struct graph *graph, const float *query, uint32_t self, uint32_t item,
                            int64_t before_ms, size_t k, struct similar_user *out)
{
    struct ranking ranking = {graph, query, graph_settings(graph)->dimension, self, before_ms, out, 0, k};
    if (item == GRAPH_NONE || is_zero(query, ranking.dimension))
        return 0;
    size_t count;
    const struct edge *edges = graph_item_edges(graph, item, &count);
    count = graph_edges_before(edges, count, before_ms);
    for (size_t i = 0; i < count; i++)
        consider(&ranking, edges[i].other, edges[i].verdict);
    return ranking.count;
}

size_t similar_global(const struct graph *graph, const float *query, uint32_t self, size_t k, struct similar_user *out)
{
    struct ranking ranking = {graph, query, graph_settings(graph)->dimension, self, INT64_MAX, out, 0, k};
    if (is_zero(query, ranking.dimension))
        return 0;
    uint64_t users = graph_counts(graph).users;
    for (uint32_t user = 0; user < users; user++)
        consider(&ranking, user, 0);
    return ranking.count;
}
