#include "graph/evidence.h"

#include <string.h>

#include "graph/embedding.h"

enum { RECENT_EDGES = 10 };

const char *const evidence_names[EVIDENCE_COUNT] = {
    "item_like_rate", "item_count",   "item_likes", "user_like_rate", "user_count", "user_likes", "recent_like_rate",
    "recent_count",   "recent_likes", "vote_4",     "vote_8",         "vote_30",    "cosine",     "affinity",
};

_Static_assert(sizeof(struct evidence) == EVIDENCE_COUNT * sizeof(double),
               "values are named in the struct's order, one by one");

struct tally {
    size_t likes;
    size_t count;
};

static double rate(struct tally tally)
{
    return ((double)tally.likes + 1.0) / ((double)tally.count + 2.0);
}

static struct tally tally_edges(const struct edge *edges, size_t count)
{
    struct tally tally = {.count = count};
    for (size_t i = 0; i < count; i++)
        tally.likes += edges[i].verdict == VERDICT_LIKE;
    return tally;
}

static double vote(const struct similar_user *similar, size_t similar_count, size_t voters)
{
    struct tally tally = {.count = similar_count < voters ? similar_count : voters};
    for (size_t i = 0; i < tally.count; i++)
        tally.likes += similar[i].verdict == VERDICT_LIKE;
    return rate(tally);
}

/* Adds the edge to the tally of every value that its item has in common with the candidate; both lists ascend. */
static void tally_common_values(const struct graph *graph, struct edge edge, const uint32_t *values, size_t count,
                                struct tally *tallies)
{
    size_t other_count;
    const uint32_t *others = graph_item_values(graph, edge.other, &other_count);
    for (size_t i = 0, j = 0; i < count && j < other_count;) {
        if (values[i] == others[j]) {
            tallies[i].count++;
            tallies[i].likes += edge.verdict == VERDICT_LIKE;
        }
        bool next_other = others[j] <= values[i];
        i += values[i] <= others[j];
        j += next_other;
    }
}

static double affinity(const struct graph *graph, uint32_t item, const struct edge *edges, size_t count)
{
    enum { CHUNK = 64 }; /* values at a time: no limit on their number, and nothing to allocate */
    size_t value_count;
    const uint32_t *values = graph_item_values(graph, item, &value_count);
    if (value_count == 0)
        return 0.5;
    double sum = 0.0;
    for (size_t at = 0; at < value_count; at += CHUNK) {
        struct tally tallies[CHUNK] = {0};
        size_t some = value_count - at < CHUNK ? value_count - at : CHUNK;
        for (size_t i = 0; i < count; i++)
            tally_common_values(graph, edges[i], values + at, some, tallies);
        for (size_t i = 0; i < some; i++)
            sum += rate(tallies[i]);
    }
    return sum / (double)value_count;
}

static double cosine(const struct graph *graph, uint32_t user, uint32_t item)
{
    float of_user[GRAPH_DIMENSION_LIMIT], of_item[GRAPH_DIMENSION_LIMIT];
    graph_user_embedding(graph, user, of_user);
    graph_item_embedding(graph, item, of_item);
    return (double)embedding_cosine(of_user, of_item, graph_settings(graph)->dimension);
}

void evidence_gather(const struct graph *graph, uint32_t user, uint32_t item, int64_t before_ms,
                     const struct similar_user *similar, size_t similar_count, struct evidence *out)
{
    const struct edge *of_user = NULL, *of_item = NULL;
    size_t user_count = 0, item_count = 0;
    if (user != GRAPH_NONE) {
        of_user = graph_user_edges(graph, user, &user_count);
        user_count = graph_edges_before(of_user, user_count, before_ms);
    }
    if (item != GRAPH_NONE) {
        of_item = graph_item_edges(graph, item, &item_count);
        item_count = graph_edges_before(of_item, item_count, before_ms);
    }
    size_t recent_count = user_count < RECENT_EDGES ? user_count : RECENT_EDGES;
    struct tally item_tally = tally_edges(of_item, item_count);
    struct tally user_tally = tally_edges(of_user, user_count);
    struct tally recent_tally = {0};
    if (recent_count > 0)
        recent_tally = tally_edges(of_user + user_count - recent_count, recent_count);

    *out = (struct evidence){
        .item_like_rate = rate(item_tally),
        .item_count = (double)item_tally.count,
        .item_likes = (double)item_tally.likes,
        .user_like_rate = rate(user_tally),
        .user_count = (double)user_tally.count,
        .user_likes = (double)user_tally.likes,
        .recent_like_rate = rate(recent_tally),
        .recent_count = (double)recent_tally.count,
        .recent_likes = (double)recent_tally.likes,
        .vote_4 = vote(similar, similar_count, 4),
        .vote_8 = vote(similar, similar_count, 8),
        .vote_30 = vote(similar, similar_count, 30),
        .cosine = user == GRAPH_NONE || item == GRAPH_NONE ? 0.0 : cosine(graph, user, item),
        .affinity = item == GRAPH_NONE ? 0.5 : affinity(graph, item, of_user, user_count),
    };
}

void evidence_values(const struct evidence *evidence, double values[EVIDENCE_COUNT])
{
    memcpy(values, evidence, sizeof *evidence);
}
