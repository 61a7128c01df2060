/*
 * plan.h - all that a request needs from the graph, taken in one look
 *
 * Under one read lock: history, titles, evidence, similar users, and the state they came from; copied into the
 * request's arena, so that rendering, tokens and the model run without the lock. Only what is earlier than the
 * request's timestamp counts.
 */
#ifndef HEADRACE_SCORE_PLAN_H
#define HEADRACE_SCORE_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "graph/evidence.h"
#include "graph/graph.h"
#include "graph/similar.h"
#include "prompt/prompt.h"
#include "wire/messages.h"

struct plan_settings {
    enum similar_mode similar_mode;
    size_t similar_users;   /* shown in the prompt; with CANDIDATE at most EVIDENCE_VOTERS */
    size_t history_max;     /* events in the prompt, at most: the oldest leave it in steps */
    size_t history_min;     /* fewer: COLD_USER */
    uint64_t pseudonym_key; /* of other users' ids in explanations */
    bool evidence_only;     /* neither prompt nor explanation will be made: nothing is copied for them. Of a title it is
                               told only that it is there */
};

struct plan_candidate {
    struct prompt_candidate prompt; /* title.data == NULL: cold item */
    struct evidence evidence;
    struct explained_user *similar; /* pseudonyms, most similar first */
    size_t similar_count;
};

struct plan {
    struct prompt_user user;
    bool cold_user;
    struct plan_candidate *candidates; /* in the request's order */
    size_t candidate_count;
    struct graph_state state;
    int64_t history_ms; /* newest event of the histories looked at, inline and similar users' too; INT64_MIN: none */
};

/* Everything in `plan` lives in `arena`. ERROR_FATAL without memory. */
int plan_request(struct graph *graph, const struct plan_settings *settings, const struct score_request *request,
                 struct arena *arena, struct plan *plan, struct error *err);

#endif
