#include "score/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "graph/records.h"

enum { SIMILAR_HISTORY = 5 }; /* events shown of each user that is similar over all, not by the candidate */

/*
 * A full history gives up its oldest events so many at a time: its beginning, and with it all that the engine has kept
 * of the prompt, stays the same for so many new events.
 */
enum { HISTORY_STEP = 5 };

/* What the steps of one plan share. */
struct planning {
    struct graph *graph;
    const struct plan_settings *settings;
    const struct score_request *request;
    struct arena *arena;
    uint32_t user;
    float *query;        /* the user's embedding */
    struct edge *events; /* the request's own history, if that is taken, as edges, oldest first */
    size_t event_count;
    struct evidence_request *evidence;
    struct plan *plan;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while planning a request");
}

static int copy_text(struct arena *arena, struct text from, struct text *to, struct error *err)
{
    *to = (struct text){0};
    if (from.data == NULL)
        return 0;
    char *copy = arena_allocate(arena, from.size + 1);
    if (copy == NULL)
        return out_of_memory(err);
    memcpy(copy, from.data, from.size);
    *to = (struct text){copy, from.size};
    return 0;
}

static int copy_fields(struct arena *arena, const struct attribute *from, size_t count, const struct prompt_field **to,
                       struct error *err)
{
    struct prompt_field *fields = arena_allocate_array(arena, count, sizeof *fields);
    if (fields == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        if (copy_text(arena, from[i].name, &fields[i].name, err) != 0 ||
            copy_text(arena, from[i].value, &fields[i].value, err) != 0)
            return -1;
    *to = fields;
    return 0;
}

/* An event without a title cannot be told: it is left out of the prompt (*told is false). */
static int tell_event(struct planning *planning, uint32_t item, struct text title, int verdict, float value,
                      struct prompt_event *event, bool *told, struct error *err)
{
    if (title.data == NULL && item != GRAPH_NONE) {
        const struct attribute *attributes;
        size_t attribute_count;
        graph_item(planning->graph, item, &title, &attributes, &attribute_count);
    }
    *told = title.data != NULL;
    *event = (struct prompt_event){
        .verdict = verdict, .has_value = !isnan(value), .value = isnan(value) ? 0 : (double)value};
    return copy_text(planning->arena, title, &event->title, err);
}

static void note_history(struct planning *planning, int64_t timestamp_ms)
{
    if (timestamp_ms > planning->plan->history_ms)
        planning->plan->history_ms = timestamp_ms;
}

/* At most so many events of a user who has `count` are told, the newest; more than half of `most`. */
static size_t history_limit(size_t count, size_t most)
{
    size_t step = most < 2 * HISTORY_STEP ? (most + 1) / 2 : HISTORY_STEP;
    if (count <= most || step == 0)
        return most;
    return count - (count - most + step - 1) / step * step;
}

/* The newest `limit` events of `user` in the graph, oldest first. *known counts those without a title, too. */
static int tell_history(struct planning *planning, uint32_t user, size_t limit, const struct prompt_event **events,
                        size_t *event_count, size_t *known, struct error *err)
{
    struct edge *edges = arena_allocate_array(planning->arena, limit + 1, sizeof *edges);
    struct prompt_event *told = arena_allocate_array(planning->arena, limit + 1, sizeof *told);
    if (edges == NULL || told == NULL)
        return out_of_memory(err);
    size_t count = 0;
    *known = graph_history(planning->graph, user, planning->request->timestamp_ms, limit, edges);
    for (size_t i = *known; i > 0; i--) {
        const struct edge *edge = &edges[i - 1];
        bool has_title;
        note_history(planning, edge->timestamp_ms);
        if (tell_event(planning, edge->other, (struct text){0}, edge->verdict, edge->value, &told[count], &has_title,
                       err) != 0)
            return -1;
        count += has_title;
    }
    *events = told;
    *event_count = count;
    return 0;
}

static int older_first(const void *a, const void *b)
{
    const struct request_event *const *x = a, *const *y = b;
    if ((*x)->timestamp_ms != (*y)->timestamp_ms)
        return (*x)->timestamp_ms < (*y)->timestamp_ms ? -1 : 1;
    return *x < *y ? -1 : *x > *y; /* as they stand in the request */
}

static bool comes_again(const struct request_event *const *order, size_t count, size_t at)
{
    for (size_t i = at + 1; i < count; i++)
        if (text_equal(order[i]->item_id, order[at]->item_id))
            return true;
    return false;
}

/*
 * The user's edges and embedding as they would be if the graph had seen these events, oldest first. The embedding stays
 * the graph's where none of the items has one.
 */
static int take_inline_history(struct planning *planning, const struct request_event *const *order, size_t count,
                               struct error *err)
{
    const struct graph_settings *settings = graph_settings(planning->graph);
    struct edge *edges = arena_allocate_array(planning->arena, count + 1, sizeof *edges);
    uint32_t *items = arena_allocate_array(planning->arena, count + 1, sizeof *items);
    float *embedding = arena_allocate_array(planning->arena, settings->dimension, sizeof *embedding);
    size_t edge_count = 0, item_count = 0;
    if (edges == NULL || items == NULL || embedding == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++) {
        const struct request_event *event = order[i];
        if (!event_is_edge((uint8_t)event->kind) || comes_again(order, count, i))
            continue;
        enum verdict verdict = graph_verdict(settings, event->kind, event->has_value, event->value, false, false);
        uint32_t item = graph_find_item(planning->graph, event->item_id);
        edges[edge_count++] =
            (struct edge){.timestamp_ms = event->timestamp_ms, .other = item, .verdict = (int8_t)verdict};
        if (settings->edges == GRAPH_EDGES_ALL || verdict == VERDICT_LIKE)
            items[item_count++] = item;
    }
    planning->events = edges;
    planning->event_count = edge_count;
    if (graph_embed_history(planning->graph, items, item_count, embedding, err) != 0)
        return -1;
    for (size_t i = 0; i < settings->dimension; i++)
        if (embedding[i] != 0.0f)
            planning->query = embedding;
    return 0;
}

/* The request's own history, for a user that the graph does not know. */
static int tell_inline_history(struct planning *planning, size_t *known, struct error *err)
{
    const struct score_request *request = planning->request;
    const struct graph_settings *settings = graph_settings(planning->graph);
    const struct request_event **order =
        arena_allocate_array(planning->arena, request->history_count + 1, sizeof *order);
    struct prompt_event *told = arena_allocate_array(planning->arena, request->history_count + 1, sizeof *told);
    if (order == NULL || told == NULL)
        return out_of_memory(err);
    size_t earlier = 0;
    for (size_t i = 0; i < request->history_count; i++)
        if (request->history[i].timestamp_ms < request->timestamp_ms)
            order[earlier++] = &request->history[i];
    qsort(order, earlier, sizeof *order, older_first);

    size_t limit = history_limit(earlier, planning->settings->history_max), count = 0;
    for (size_t i = earlier > limit ? earlier - limit : 0; i < earlier; i++) {
        const struct request_event *event = order[i];
        int verdict = graph_verdict(settings, event->kind, event->has_value, event->value, false, false);
        float value = event->has_value ? (float)event->value : NAN;
        bool has_title;
        note_history(planning, event->timestamp_ms);
        if (tell_event(planning, graph_find_item(planning->graph, event->item_id), event->title, verdict, value,
                       &told[count], &has_title, err) != 0)
            return -1;
        count += has_title;
    }
    planning->plan->user.history = told;
    planning->plan->user.history_count = count;
    *known = earlier;
    return take_inline_history(planning, order, earlier, err);
}

static int find_similar_users(struct planning *planning, size_t wanted, struct similar_user *similar, size_t *count,
                              struct error *err)
{
    const struct graph *graph = planning->graph;
    *count = 0;
    switch (planning->settings->similar_mode) {
    case SIMILAR_NONE:
    case SIMILAR_CANDIDATE:
        break;
    case SIMILAR_GLOBAL:
        *count = similar_global(graph, planning->query, planning->user, wanted, similar);
        break;
    case SIMILAR_FM:
        *count = similar_by_vectors(graph, planning->user, wanted, similar);
        break;
    case SIMILAR_TEXT:
        return similar_by_titles(graph, planning->user, planning->request->timestamp_ms, wanted, similar, count, err);
    }
    return 0;
}

static int tell_similar_users(struct planning *planning, struct error *err)
{
    size_t wanted = planning->settings->similar_users;
    struct similar_user *similar = arena_allocate_array(planning->arena, wanted + 1, sizeof *similar);
    struct prompt_similar *told = arena_allocate_array(planning->arena, wanted + 1, sizeof *told);
    if (similar == NULL || told == NULL)
        return out_of_memory(err);
    size_t count;
    if (find_similar_users(planning, wanted, similar, &count, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        size_t known;
        if (tell_history(planning, similar[i].user, SIMILAR_HISTORY, &told[i].events, &told[i].event_count, &known,
                         err) != 0)
            return -1;
    }
    planning->plan->user.similar = told;
    planning->plan->user.similar_count = count;
    return 0;
}

/*
 * The user's own history. How many events it has is told by the user's edges, which are at hand: for one who meets the
 * same items again and again they are fewer, and the oldest events leave one by one.
 */
static int tell_own_history(struct planning *planning, size_t *known, struct error *err)
{
    struct plan *plan = planning->plan;
    size_t edge_count;
    const struct edge *edges = graph_user_edges(planning->graph, planning->user, &edge_count);
    size_t met = graph_edges_before(edges, edge_count, planning->request->timestamp_ms);
    size_t limit = history_limit(met, planning->settings->history_max);
    if (planning->settings->evidence_only && met >= planning->settings->history_min) {
        *known = met; /* each edge comes of an event: the store need not be asked */
        return 0;
    }
    if (tell_history(planning, planning->user, limit, &plan->user.history, &plan->user.history_count, known, err) != 0)
        return -1;
    if (*known == limit && *known < met)
        *known = met;
    return 0;
}

static int plan_user(struct planning *planning, struct error *err)
{
    struct plan *plan = planning->plan;
    size_t known = 0;
    if (planning->user != GRAPH_NONE) {
        const struct attribute *profile;
        size_t profile_count;
        graph_user(planning->graph, planning->user, &profile, &profile_count);
        if (tell_own_history(planning, &known, err) != 0 ||
            (!planning->settings->evidence_only &&
             copy_fields(planning->arena, profile, profile_count, &plan->user.profile, err) != 0))
            return -1;
        plan->user.profile_count = plan->user.profile == NULL ? 0 : profile_count;
        graph_user_embedding(planning->graph, planning->user, planning->query);
    }
    if (known < planning->settings->history_min && planning->request->has_history &&
        tell_inline_history(planning, &known, err) != 0)
        return -1;
    plan->cold_user = known < planning->settings->history_min;
    if (!planning->settings->evidence_only && tell_similar_users(planning, err) != 0)
        return -1;
    const struct evidence_user user = {planning->user, planning->query, planning->events, planning->event_count};
    return evidence_begin(&planning->evidence, planning->graph, &user, planning->request->timestamp_ms, planning->arena,
                          err);
}

static struct text pseudonym(struct planning *planning, uint32_t user)
{
    struct text id = graph_user_id(planning->graph, user);
    char *name = arena_allocate(planning->arena, 32);
    if (name == NULL)
        return (struct text){0};
    XXH64_hash_t hash = XXH3_64bits_withSeed(id.data, id.size, planning->settings->pseudonym_key);
    int length = snprintf(name, 32, "user-%012llx", (unsigned long long)(hash >> 16));
    return (struct text){name, (size_t)length};
}

static const char *verdict_name(int verdict)
{
    return verdict > 0 ? "liked" : verdict < 0 ? "disliked" : "neutral";
}

/* The most similar of the item's users: their verdicts for the prompt, their pseudonyms for an explanation. */
static int tell_voters(struct planning *planning, const struct similar_user *voters, size_t voter_count,
                       struct plan_candidate *candidate, struct error *err)
{
    size_t count = planning->settings->similar_mode != SIMILAR_CANDIDATE ? 0 : planning->settings->similar_users;
    if (count > voter_count)
        count = voter_count;
    int *verdicts = arena_allocate_array(planning->arena, count, sizeof *verdicts);
    candidate->similar = arena_allocate_array(planning->arena, count, sizeof *candidate->similar);
    if (verdicts == NULL || candidate->similar == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++) {
        verdicts[i] = voters[i].verdict;
        candidate->similar[i] = (struct explained_user){.user = pseudonym(planning, voters[i].user),
                                                        .cosine = (double)voters[i].cosine,
                                                        .verdict = text_of(verdict_name(voters[i].verdict))};
    }
    candidate->prompt.similar_verdicts = verdicts;
    candidate->prompt.similar_verdict_count = count;
    candidate->similar_count = count;
    return 0;
}

static int plan_candidate(struct planning *planning, const struct request_candidate *asked,
                          struct plan_candidate *candidate, struct error *err)
{
    uint32_t item = graph_find_item(planning->graph, asked->item_id);
    struct text title = asked->title;
    struct similar_user voters[EVIDENCE_VOTERS];
    if (item != GRAPH_NONE) {
        const struct attribute *attributes;
        struct text stored;
        size_t attribute_count;
        graph_item(planning->graph, item, &stored, &attributes, &attribute_count);
        if (title.data == NULL)
            title = stored;
        if (!planning->settings->evidence_only) {
            if (copy_fields(planning->arena, attributes, attribute_count, &candidate->prompt.attributes, err) != 0)
                return -1;
            candidate->prompt.attribute_count = attribute_count;
        }
    }
    size_t voter_count = evidence_gather(planning->evidence, item, &candidate->evidence, voters);
    if (planning->settings->evidence_only) {
        candidate->prompt.title = text_of(title.data == NULL ? NULL : "");
        return 0;
    }
    candidate->prompt.ratings = (uint64_t)candidate->evidence.item_count;
    candidate->prompt.likes = (uint64_t)candidate->evidence.item_likes;
    candidate->prompt.recent = (uint64_t)candidate->evidence.recent_count;
    candidate->prompt.recent_likes = (uint64_t)candidate->evidence.recent_likes;
    candidate->prompt.user_ratings = (uint64_t)candidate->evidence.user_count;
    candidate->prompt.user_likes = (uint64_t)candidate->evidence.user_likes;
    candidate->prompt.affinity = candidate->prompt.attribute_count > 0 ? candidate->evidence.affinity : 0;
    candidate->prompt.vote = voter_count > 0 ? candidate->evidence.vote_30 : 0;
    if (copy_text(planning->arena, title, &candidate->prompt.title, err) != 0)
        return -1;
    return tell_voters(planning, voters, voter_count, candidate, err);
}

int plan_request(struct graph *graph, const struct plan_settings *settings, const struct score_request *request,
                 struct arena *arena, struct plan *plan, struct error *err)
{
    *plan = (struct plan){.candidate_count = request->candidate_count, .history_ms = INT64_MIN};
    struct planning planning = {.graph = graph, .settings = settings, .request = request, .arena = arena, .plan = plan};
    planning.query = arena_allocate_array(arena, graph_settings(graph)->dimension, sizeof *planning.query);
    plan->candidates = arena_allocate_array(arena, request->candidate_count, sizeof *plan->candidates);
    if (planning.query == NULL || plan->candidates == NULL)
        return out_of_memory(err);

    graph_read_lock(graph);
    struct graph_counts counts = graph_counts(graph);
    plan->state = (struct graph_state){.events_applied = (int64_t)counts.events,
                                       .newest_event_ms = counts.newest_event_ms,
                                       .embedding_bound = (double)counts.embedding_bound};
    planning.user = graph_find_user(graph, request->user_id);
    int result = plan_user(&planning, err);
    for (size_t i = 0; result == 0 && i < request->candidate_count; i++)
        result = plan_candidate(&planning, &request->candidates[i], &plan->candidates[i], err);
    graph_read_unlock(graph);
    return result;
}
