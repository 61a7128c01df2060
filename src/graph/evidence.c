#include "graph/evidence.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "graph/embedding.h"

enum { RECENT_EDGES = 10 };

const char *const evidence_names[EVIDENCE_COUNT] = {
    "item_like_rate", "item_count",   "item_likes", "user_like_rate", "user_count", "user_likes", "recent_like_rate",
    "recent_count",   "recent_likes", "vote_4",     "vote_8",         "vote_30",    "cosine",     "affinity",
};

_Static_assert(offsetof(struct evidence, newest_ms) == EVIDENCE_COUNT * sizeof(double),
               "values are named in the struct's order, one by one");

struct tally {
    size_t likes;
    size_t count;
};

/* What the user made of the items that have an attribute value. */
struct value_tally {
    uint32_t value;
    bool used;
    struct tally tally;
};

struct evidence_request {
    const struct graph *graph;
    struct evidence_user user; /* its edges are those that count */
    int64_t before_ms;
    struct tally all, recent;
    struct value_tally *values; /* (value_places): open addressing */
    size_t value_places;        /* a power of 2, more than there are values */
    int64_t newest_ms;          /* of the user's edges that count; INT64_MIN: none */
    struct similar_search search;
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

/* Of edges from the oldest to the newest. */
static int64_t newest(const struct edge *edges, size_t count)
{
    return count == 0 ? INT64_MIN : edges[count - 1].timestamp_ms;
}

static double vote(const struct similar_user *similar, size_t similar_count, size_t voters)
{
    struct tally tally = {.count = similar_count < voters ? similar_count : voters};
    for (size_t i = 0; i < tally.count; i++)
        tally.likes += similar[i].verdict == VERDICT_LIKE;
    return rate(tally);
}

/* Where the value's tally is, or would be. */
static struct value_tally *find_value(const struct evidence_request *request, uint32_t value)
{
    size_t place = (value * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    for (;; place++) {
        struct value_tally *found = &request->values[place & (request->value_places - 1)];
        if (!found->used || found->value == value)
            return found;
    }
}

static const uint32_t *values_of(const struct graph *graph, uint32_t item, size_t *count)
{
    *count = 0;
    return item == GRAPH_NONE ? NULL : graph_item_values(graph, item, count);
}

static int tally_values(struct evidence_request *request, struct arena *arena)
{
    const struct evidence_user *user = &request->user;
    size_t most = 0, count;
    for (size_t i = 0; i < user->edge_count; i++) {
        (void)values_of(request->graph, user->edges[i].other, &count);
        most += count;
    }
    for (request->value_places = 1; request->value_places <= 2 * most;)
        request->value_places *= 2;
    request->values = arena_allocate_array(arena, request->value_places, sizeof *request->values);
    if (request->values == NULL)
        return -1;
    for (size_t i = 0; i < user->edge_count; i++) {
        const uint32_t *values = values_of(request->graph, user->edges[i].other, &count);
        for (size_t j = 0; j < count; j++) {
            struct value_tally *found = find_value(request, values[j]);
            found->used = true;
            found->value = values[j];
            found->tally.count++;
            found->tally.likes += user->edges[i].verdict == VERDICT_LIKE;
        }
    }
    return 0;
}

static double affinity(const struct evidence_request *request, uint32_t item)
{
    size_t count;
    const uint32_t *values = values_of(request->graph, item, &count);
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += rate(find_value(request, values[i])->tally);
    return count == 0 ? 0.5 : sum / (double)count;
}

static double cosine(const struct evidence_request *request, uint32_t item)
{
    float of_item[GRAPH_DIMENSION_LIMIT];
    graph_item_embedding(request->graph, item, of_item);
    return embedding_cosine(request->user.embedding, of_item, graph_settings(request->graph)->dimension);
}

/* Embedding and edges of the user where the caller has none. */
static int take_user(struct evidence_request *request, struct arena *arena)
{
    struct evidence_user *user = &request->user;
    const struct graph *graph = request->graph;
    if (user->embedding == NULL) {
        float *own = arena_allocate_array(arena, graph_settings(graph)->dimension, sizeof *own);
        if (own == NULL)
            return -1;
        if (user->number != GRAPH_NONE)
            graph_user_embedding(graph, user->number, own);
        user->embedding = own;
    }
    if (user->edges == NULL && user->number != GRAPH_NONE)
        user->edges = graph_user_edges(graph, user->number, &user->edge_count);
    user->edge_count = graph_edges_before(user->edges, user->edge_count, request->before_ms);
    return 0;
}

int evidence_begin(struct evidence_request **out, const struct graph *graph, const struct evidence_user *user,
                   int64_t before_ms, struct arena *arena, struct error *err)
{
    struct evidence_request *request = arena_allocate(arena, sizeof *request);
    if (request == NULL)
        goto no_memory;
    request->graph = graph;
    request->user = *user;
    request->before_ms = before_ms;
    if (take_user(request, arena) != 0 || tally_values(request, arena) != 0)
        goto no_memory;
    user = &request->user;
    size_t recent = user->edge_count < RECENT_EDGES ? user->edge_count : RECENT_EDGES;
    request->all = tally_edges(user->edges, user->edge_count);
    request->newest_ms = newest(user->edges, user->edge_count);
    if (recent > 0)
        request->recent = tally_edges(user->edges + user->edge_count - recent, recent);
    similar_begin(&request->search, graph, user->embedding, user->number, before_ms);
    *out = request;
    return 0;
no_memory:
    return error_set(err, ERROR_FATAL, "out of memory for the evidence of a request");
}

size_t evidence_gather(struct evidence_request *request, uint32_t item, struct evidence *out,
                       struct similar_user voters[EVIDENCE_VOTERS])
{
    struct tally of_item = {0};
    int64_t newest_ms = request->newest_ms;
    if (item != GRAPH_NONE) {
        size_t count;
        const struct edge *edges = graph_item_edges(request->graph, item, &count);
        count = graph_edges_before(edges, count, request->before_ms);
        of_item = tally_edges(edges, count); /* voters are among them */
        if (newest(edges, count) > newest_ms)
            newest_ms = newest(edges, count);
    }
    size_t voter_count = similar_by_candidate(&request->search, item, EVIDENCE_VOTERS, voters);
    *out = (struct evidence){
        .item_like_rate = rate(of_item),
        .item_count = (double)of_item.count,
        .item_likes = (double)of_item.likes,
        .user_like_rate = rate(request->all),
        .user_count = (double)request->all.count,
        .user_likes = (double)request->all.likes,
        .recent_like_rate = rate(request->recent),
        .recent_count = (double)request->recent.count,
        .recent_likes = (double)request->recent.likes,
        .vote_4 = vote(voters, voter_count, 4),
        .vote_8 = vote(voters, voter_count, 8),
        .vote_30 = vote(voters, voter_count, 30),
        .cosine = item == GRAPH_NONE ? 0.0 : cosine(request, item),
        .affinity = affinity(request, item),
        .newest_ms = newest_ms,
    };
    return voter_count;
}

void evidence_values(const struct evidence *evidence, double values[EVIDENCE_COUNT])
{
    memcpy(values, evidence, EVIDENCE_COUNT * sizeof *values);
}

static float log_odds(double rate)
{
    return (float)log(rate / (1.0 - rate)); /* smoothed rates are never 0 or 1 */
}

void evidence_features(const struct evidence *evidence, float features[EVIDENCE_FEATURES])
{
    const float values[EVIDENCE_FEATURES] = {
        log_odds(evidence->item_like_rate),
        (float)log1p(evidence->item_count),
        (float)log1p(evidence->item_likes),
        log_odds(evidence->user_like_rate),
        (float)log1p(evidence->user_count),
        (float)log1p(evidence->user_likes),
        log_odds(evidence->recent_like_rate),
        (float)log1p(evidence->recent_count),
        (float)log1p(evidence->recent_likes),
        log_odds(evidence->vote_4),
        log_odds(evidence->vote_8),
        log_odds(evidence->vote_30),
        (float)evidence->cosine,
        log_odds(evidence->affinity),
    };
    memcpy(features, values, sizeof values);
}
