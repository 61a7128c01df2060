#include "wire/messages.h"

#define SYMBOLS(...)                                                                                                   \
    {                                                                                                                  \
        (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)                \
    }
#define TYPE(schema_name, record, field_table)                                                                         \
    {                                                                                                                  \
        "headrace." schema_name, sizeof(struct record), field_table, sizeof(field_table) / sizeof(field_table)[0]      \
    }
#define MEMBER(record, member) .name = #member, .offset = offsetof(struct record, member)
#define TIMESTAMP(record) .name = "timestamp", .offset = offsetof(struct record, timestamp_ms), .kind = FIELD_LONG
#define COUNT(record, member) .count_offset = offsetof(struct record, member)
#define OR_NULL(record, has) .nullable = true, .fallback = "null", .has_offset = offsetof(struct record, has)
#define TEXT_OR_NULL .nullable = true, .fallback = "null", .kind = FIELD_TEXT

enum { /* bytes of texts */
       ID_LIMIT = 256,
       TITLE_LIMIT = 1024,
       ERROR_LIMIT = 4096,
       PROMPT_LIMIT = 1 << 20,
};
enum { /* elements of lists; what only we write has room to spare */
       ATTRIBUTES_LIMIT = 64,
       CANDIDATES_LIMIT = 10000,
       HISTORY_LIMIT = 1000,
       EXPLAINED_LIMIT = 4096,
};

static const struct symbols interaction_kinds =
    SYMBOLS("unknown", "rating", "click", "like", "dislike", "impression", "purchase", "remove");
static const struct symbols response_statuses = SYMBOLS("ERROR", "OK", "EXPIRED", "SHED");
static const struct symbols candidate_statuses = SYMBOLS("ERROR", "OK", "SHALLOW", "COLD_USER", "COLD_ITEM");

static const struct field interaction_fields[] = {
    {MEMBER(interaction, user_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(interaction, item_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {TIMESTAMP(interaction)},
    {MEMBER(interaction, kind), .kind = FIELD_ENUM, .symbols = &interaction_kinds},
    {MEMBER(interaction, value), .kind = FIELD_DOUBLE, OR_NULL(interaction, has_value)},
    {MEMBER(interaction, label), .kind = FIELD_BOOL, OR_NULL(interaction, has_label)},
    {MEMBER(interaction, request_id), TEXT_OR_NULL, .limit = ID_LIMIT},
};
const struct message_type interaction_type = TYPE("Interaction", interaction, interaction_fields);

static const struct field item_fields[] = {
    {MEMBER(item, item_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(item, title), .kind = FIELD_TEXT, .limit = TITLE_LIMIT},
    {MEMBER(item, attributes), .kind = FIELD_MAP, COUNT(item, attribute_count), .fallback = "{}",
     .limit = ATTRIBUTES_LIMIT},
};
const struct message_type item_type = TYPE("Item", item, item_fields);

static const struct field user_fields[] = {
    {MEMBER(user, user_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(user, profile), .kind = FIELD_MAP, COUNT(user, profile_count), .fallback = "{}", .limit = ATTRIBUTES_LIMIT},
};
const struct message_type user_type = TYPE("User", user, user_fields);

static const struct field request_candidate_fields[] = {
    {MEMBER(request_candidate, item_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(request_candidate, title), TEXT_OR_NULL, .limit = TITLE_LIMIT},
};
static const struct message_type request_candidate_type =
    TYPE("RequestCandidate", request_candidate, request_candidate_fields);

static const struct field request_event_fields[] = {
    {MEMBER(request_event, item_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(request_event, title), TEXT_OR_NULL, .limit = TITLE_LIMIT},
    {MEMBER(request_event, kind), .kind = FIELD_ENUM, .symbols = &interaction_kinds},
    {MEMBER(request_event, value), .kind = FIELD_DOUBLE, OR_NULL(request_event, has_value)},
    {TIMESTAMP(request_event)},
};
static const struct message_type request_event_type = TYPE("RequestEvent", request_event, request_event_fields);

static const struct field score_request_fields[] = {
    {MEMBER(score_request, request_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(score_request, user_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {TIMESTAMP(score_request)},
    {MEMBER(score_request, candidates), .kind = FIELD_ARRAY, COUNT(score_request, candidate_count),
     .element = FIELD_RECORD, .record = &request_candidate_type, .limit = CANDIDATES_LIMIT},
    {MEMBER(score_request, deadline_ms), .kind = FIELD_LONG, OR_NULL(score_request, has_deadline)},
    {MEMBER(score_request, history), .kind = FIELD_ARRAY, COUNT(score_request, history_count), .element = FIELD_RECORD,
     .record = &request_event_type, .limit = HISTORY_LIMIT, OR_NULL(score_request, has_history)},
    {MEMBER(score_request, explain), .kind = FIELD_BOOL, .fallback = "false"},
};
const struct message_type score_request_type = TYPE("ScoreRequest", score_request, score_request_fields);

static const struct field explained_user_fields[] = {
    {MEMBER(explained_user, user), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(explained_user, cosine), .kind = FIELD_DOUBLE},
    {MEMBER(explained_user, verdict), TEXT_OR_NULL, .limit = ID_LIMIT},
};
static const struct message_type explained_user_type = TYPE("ExplainedUser", explained_user, explained_user_fields);

static const struct field explained_value_fields[] = {
    {MEMBER(explained_value, name), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(explained_value, value), .kind = FIELD_DOUBLE},
};
static const struct message_type explained_value_type = TYPE("ExplainedValue", explained_value, explained_value_fields);

static const struct field explained_exit_fields[] = {
    {MEMBER(explained_exit, layer), .kind = FIELD_INT},
    {MEMBER(explained_exit, fired), .kind = FIELD_BOOL},
    {MEMBER(explained_exit, probabilities), .kind = FIELD_ARRAY, COUNT(explained_exit, probability_count),
     .element = FIELD_DOUBLE, .fallback = "[]", .limit = EXPLAINED_LIMIT},
};
static const struct message_type explained_exit_type = TYPE("ExplainedExit", explained_exit, explained_exit_fields);

static const struct field explanation_fields[] = {
    {MEMBER(explanation, prompt), .kind = FIELD_TEXT, .limit = PROMPT_LIMIT},
    {MEMBER(explanation, similar_users), .kind = FIELD_ARRAY, COUNT(explanation, similar_user_count),
     .element = FIELD_RECORD, .record = &explained_user_type, .fallback = "[]", .limit = EXPLAINED_LIMIT},
    {MEMBER(explanation, evidence), .kind = FIELD_ARRAY, COUNT(explanation, evidence_count), .element = FIELD_RECORD,
     .record = &explained_value_type, .fallback = "[]", .limit = EXPLAINED_LIMIT},
    {MEMBER(explanation, exits), .kind = FIELD_ARRAY, COUNT(explanation, exit_count), .element = FIELD_RECORD,
     .record = &explained_exit_type, .fallback = "[]", .limit = EXPLAINED_LIMIT},
};
static const struct message_type explanation_type = TYPE("Explanation", explanation, explanation_fields);

static const struct field scored_candidate_fields[] = {
    {MEMBER(scored_candidate, item_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(scored_candidate, probability), .kind = FIELD_DOUBLE, OR_NULL(scored_candidate, has_probability)},
    {MEMBER(scored_candidate, exit_layer), .kind = FIELD_INT},
    {MEMBER(scored_candidate, status), .kind = FIELD_ENUM, .symbols = &candidate_statuses},
    {MEMBER(scored_candidate, explanation), .kind = FIELD_POINTER, .record = &explanation_type,
     OR_NULL(scored_candidate, has_explanation)},
};
static const struct message_type scored_candidate_type =
    TYPE("ScoredCandidate", scored_candidate, scored_candidate_fields);

static const struct field graph_state_fields[] = {
    {MEMBER(graph_state, events_applied), .kind = FIELD_LONG},
    {MEMBER(graph_state, newest_event_ms), .kind = FIELD_LONG},
    {MEMBER(graph_state, embedding_bound), .kind = FIELD_DOUBLE},
};
static const struct message_type graph_state_type = TYPE("GraphState", graph_state, graph_state_fields);

static const struct field timings_fields[] = {
    {MEMBER(timings, queue_ms), .kind = FIELD_DOUBLE},
    {MEMBER(timings, plan_ms), .kind = FIELD_DOUBLE},
    {MEMBER(timings, engine_ms), .kind = FIELD_DOUBLE},
};
static const struct message_type timings_type = TYPE("Timings", timings, timings_fields);

static const struct field score_response_fields[] = {
    {MEMBER(score_response, request_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(score_response, user_id), .kind = FIELD_TEXT, .limit = ID_LIMIT},
    {MEMBER(score_response, status), .kind = FIELD_ENUM, .symbols = &response_statuses},
    {MEMBER(score_response, error), TEXT_OR_NULL, .limit = ERROR_LIMIT},
    {MEMBER(score_response, candidates), .kind = FIELD_ARRAY, COUNT(score_response, candidate_count),
     .element = FIELD_RECORD, .record = &scored_candidate_type, .limit = CANDIDATES_LIMIT},
    {MEMBER(score_response, model), .kind = FIELD_TEXT, .limit = TITLE_LIMIT},
    {MEMBER(score_response, heads), .kind = FIELD_TEXT, .limit = TITLE_LIMIT},
    {MEMBER(score_response, state), .kind = FIELD_RECORD, .record = &graph_state_type},
    {MEMBER(score_response, timings), .kind = FIELD_RECORD, .record = &timings_type},
};
const struct message_type score_response_type = TYPE("ScoreResponse", score_response, score_response_fields);

size_t field_kind_size(enum field_kind kind, const struct message_type *record)
{
    switch (kind) {
    case FIELD_TEXT:
        return sizeof(struct text);
    case FIELD_LONG:
        return sizeof(int64_t);
    case FIELD_INT:
    case FIELD_ENUM:
        return sizeof(int32_t);
    case FIELD_DOUBLE:
        return sizeof(double);
    case FIELD_BOOL:
        return sizeof(bool);
    case FIELD_RECORD:
        return record->size;
    case FIELD_POINTER:
    case FIELD_ARRAY:
    case FIELD_MAP:
        return sizeof(void *);
    }
    return 0;
}

static const char *symbol_name(const struct symbols *symbols, int32_t index)
{
    return index >= 0 && (size_t)index < symbols->count ? symbols->names[index] : NULL;
}

const char *interaction_kind_name(int32_t kind)
{
    return symbol_name(&interaction_kinds, kind);
}

const char *response_status_name(int32_t status)
{
    return symbol_name(&response_statuses, status);
}

const char *candidate_status_name(int32_t status)
{
    return symbol_name(&candidate_statuses, status);
}

bool interaction_kind_parse(struct text name, int32_t *kind)
{
    for (size_t i = 0; i < interaction_kinds.count; i++) {
        if (name.data != NULL && text_equal(name, text_of(interaction_kinds.names[i]))) {
            *kind = (int32_t)i;
            return true;
        }
    }
    return false;
}
