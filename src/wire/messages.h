/*
 * messages.h - the records on the wire, as C structs
 *
 * One struct for each schema in schemas/ (*.avsc). The decoder fills them, the encoder reads them, and both go by the
 * descriptors at the end, so that a field is named in two places only: its schema and its descriptor.
 *
 * Views (struct text) point into the message's bytes or into the arena it was decoded into, and hold as long as both.
 * A field that may be null is a view with data == NULL, or has a `has_` beside it. Times are milliseconds since 1970.
 */
#ifndef HEADRACE_WIRE_MESSAGES_H
#define HEADRACE_WIRE_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* Enumerations: in the schemas' order; 0 is the schema's default, what an unknown symbol of a newer writer becomes. */
enum interaction_kind {
    INTERACTION_UNKNOWN,
    INTERACTION_RATING, /* value: the rating */
    INTERACTION_CLICK,
    INTERACTION_LIKE,
    INTERACTION_DISLIKE,
    INTERACTION_IMPRESSION, /* never an edge */
    INTERACTION_PURCHASE,
    INTERACTION_REMOVE, /* takes the pair's edge back */
};

enum response_status { RESPONSE_ERROR, RESPONSE_OK, RESPONSE_EXPIRED, RESPONSE_SHED };

enum candidate_status {
    CANDIDATE_ERROR,
    CANDIDATE_OK,
    CANDIDATE_SHALLOW,   /* answered at a shallower exit than the rule asked for */
    CANDIDATE_COLD_USER, /* fewer than history.min events and no inline history */
    CANDIDATE_COLD_ITEM, /* no title in the store nor inline: answered by exit 0 */
};

struct attribute {
    struct text name;
    struct text value;
};

struct interaction {
    struct text user_id;
    struct text item_id;
    int64_t timestamp_ms;
    int32_t kind; /* enum interaction_kind */
    bool has_value;
    double value;
    bool has_label;
    bool label;
    struct text request_id; /* may be null: the score that led to this event */
};

struct item {
    struct text item_id;
    struct text title;
    struct attribute *attributes;
    size_t attribute_count;
};

struct user {
    struct text user_id;
    struct attribute *profile;
    size_t profile_count;
};

struct request_candidate {
    struct text item_id;
    struct text title; /* may be null: the store's */
};

struct request_event { /* inline history, for a user that the graph does not know */
    struct text item_id;
    struct text title; /* may be null: the store's */
    int32_t kind;      /* enum interaction_kind */
    bool has_value;
    double value;
    int64_t timestamp_ms;
};

struct score_request {
    struct text request_id;
    struct text user_id;
    int64_t timestamp_ms; /* only what happened before counts */
    struct request_candidate *candidates;
    size_t candidate_count;
    bool has_deadline;
    int64_t deadline_ms; /* wall time, since 1970 */
    bool has_history;
    struct request_event *history; /* any order */
    size_t history_count;
    bool explain;
};

struct explained_user {
    struct text user; /* a pseudonym */
    double cosine;
    struct text verdict; /* what the user said of the candidate: "liked", "disliked", "neutral"; null: nothing */
};

struct explained_value {
    struct text name;
    double value;
};

struct explained_exit {
    int32_t layer;
    bool fired;            /* the rule was satisfied here */
    double *probabilities; /* this exit's head on the last layers up to it, oldest first */
    size_t probability_count;
};

struct explanation {
    struct text prompt; /* the text as the model read it */
    struct explained_user *similar_users;
    size_t similar_user_count;
    struct explained_value *evidence;
    size_t evidence_count;
    struct explained_exit *exits;
    size_t exit_count;
};

struct scored_candidate {
    struct text item_id;
    bool has_probability;
    double probability; /* of "yes", in [0, 1] */
    int32_t exit_layer; /* 0: evidence alone; the number of layers: no exit fired */
    int32_t status;     /* enum candidate_status */
    bool has_explanation;
    struct explanation *explanation;
};

struct graph_state {
    int64_t events_applied;  /* interactions in the store when the request was planned */
    int64_t newest_event_ms; /* largest timestamp among them; 0: none */
    double embedding_bound;  /* how far any embedding may be from an exact recomputation (max-row-norm) */
};

struct timings {
    double queue_ms;  /* from the request's arrival in the worker until it was taken up */
    double plan_ms;   /* graph, evidence, prompt, tokens */
    double engine_ms; /* the model */
};

struct score_response {
    struct text request_id;
    struct text user_id;
    int32_t status;    /* enum response_status */
    struct text error; /* why, when status is ERROR; else null */
    struct scored_candidate *candidates;
    size_t candidate_count;
    struct text model;
    struct text heads;
    struct graph_state state;
    struct timings timings;
};

/* Descriptors: what decoder, encoder and JSON know of a struct. They must agree with the schemas: codec_create() looks.
 */

enum field_kind {
    FIELD_TEXT,    /* struct text */
    FIELD_LONG,    /* int64_t */
    FIELD_INT,     /* int32_t */
    FIELD_DOUBLE,  /* double */
    FIELD_BOOL,    /* bool */
    FIELD_ENUM,    /* int32_t, index into the schema's symbols */
    FIELD_RECORD,  /* a struct in place */
    FIELD_POINTER, /* pointer to a struct from the arena; only where it may be null */
    FIELD_ARRAY,   /* pointer to elements from the arena, their number in a size_t at count_offset */
    FIELD_MAP,     /* the same, each element a struct attribute: a map of strings */
};

enum { ATTRIBUTE_NAME_LIMIT = 64, ATTRIBUTE_VALUE_LIMIT = 1024 }; /* bytes */

struct message_type;

struct symbols { /* of an enum, as in the schema */
    const char *const *names;
    size_t count;
};

struct field {
    const char *name; /* as in the schema */
    enum field_kind kind;
    size_t offset;
    bool nullable;        /* ["null", T]: a text is null by its data, anything else by the bool at has_offset */
    const char *fallback; /* the schema's default as JSON ("null", "[]"); NULL where there is none */
    size_t has_offset;
    size_t count_offset;               /* FIELD_ARRAY, FIELD_MAP */
    enum field_kind element;           /* FIELD_ARRAY: FIELD_RECORD, FIELD_DOUBLE, … */
    const struct message_type *record; /* FIELD_RECORD, FIELD_POINTER, FIELD_ARRAY of records */
    const struct symbols *symbols;     /* FIELD_ENUM */
    size_t limit;                      /* bytes of a text, elements of an array or map; more is refused as too large */
};

struct message_type {
    const char *name; /* the schema's full name: headrace.Interaction */
    size_t size;      /* of the struct */
    const struct field *fields;
    size_t field_count;
};

/* Bytes that a value takes in its struct; for an array or map: those of the pointer. */
size_t field_kind_size(enum field_kind kind, const struct message_type *record);

extern const struct message_type interaction_type, item_type, user_type, score_request_type, score_response_type;

/* The schema's JSON text as it stands in schemas/, for the five types above; NULL for another. */
const char *message_schema(const struct message_type *type);

/* Name of an enum's value as in the schema ("rating"), NULL when out of range; and back (false: no such name). */
const char *interaction_kind_name(int32_t kind);
bool interaction_kind_parse(struct text name, int32_t *kind);
const char *response_status_name(int32_t status);
const char *candidate_status_name(int32_t status);

#endif
