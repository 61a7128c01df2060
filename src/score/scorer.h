/*
 * scorer.h - a request in, its answer out: graph, prompt and engine joined
 *
 * Every request gets one response, its candidates in order:
 *   EXPIRED  the deadline had passed when the request was taken up; nothing was computed
 *   ERROR    the request as a whole cannot be answered; `error` says why
 *   OK       each candidate has a status of its own:
 *     COLD_ITEM  no title in the store nor inline: answered by exit 0
 *     COLD_USER  fewer than history.min events and no inline history: scored all the same
 *     OK         scored
 * Exit 0 is the evidence alone (score/exit0.h). Under the rule CALIBRATED candidates that it is sure of never see a
 * layer: exit_layer 0, status as if they had.
 *
 * A share of the requests also runs to the reference depth, the layer of the best single exit: how far the answers
 * given are from the answers there is told by the totals. That changes no answer.
 *
 * Threads: one scorer_score() at a time.
 */
#ifndef HEADRACE_SCORE_SCORER_H
#define HEADRACE_SCORE_SCORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "engine/engine.h"
#include "graph/graph.h"
#include "prompt/prompt.h"
#include "score/feedback.h"
#include "score/plan.h"
#include "wire/messages.h"

struct scorer_settings {
    enum similar_mode similar_mode;
    size_t similar_users;
    size_t history_max, history_min;
    size_t max_candidates; /* of a request; more is answered by ERROR */
    size_t max_history;    /* events of an inline history */
    bool explain;          /* whether requests may ask for explanations */
    const char *model_id;  /* stands in responses */
    const char *heads_id;
    const struct heads *heads; /* the engine's; without one exit 0's. NULL: none */
    struct exit_rule rule;     /* the engine's */
    double shadow;             /* share of the requests, 0 to 1 */
    struct feedback *feedback; /* is told of every answer; NULL: none */
};

struct scorer;

/*
 * Everything given must outlive the scorer. `engine` NULL: exit 0 answers everything (engine.backend: none), and
 * `prompt` is not used.
 */
int scorer_create(struct scorer **scorer, const struct scorer_settings *settings, struct graph *graph,
                  const struct prompt_template *prompt, struct engine *engine, struct error *err);
void scorer_destroy(struct scorer *scorer);

/*
 * Fills the response; its texts and lists live in `arena`, in `request` or as long as the scorer. `queue_ms` is
 * how long the request has waited. ERROR_BAD_INPUT: the request cannot even be answered (no request id or user id): it
 * is a dead letter. ERROR_FATAL: the worker must stop.
 */
int scorer_score(struct scorer *scorer, const struct score_request *request, double queue_ms, struct arena *arena,
                 struct score_response *response, struct error *err);

struct scorer_totals {
    uint64_t requests;
    uint64_t candidates;
    uint64_t tokens;       /* of prompts, prefixes once a request */
    uint64_t token_layers; /* computed: tokens * layers less what exits saved */
    uint64_t exit_layers;  /* sum over candidates of the layer that answered */
    uint64_t shadowed;     /* candidates that ran to the reference depth as well */
    double shadow_sum;     /* over them: |p answered - p at the reference depth| */
};

struct scorer_totals scorer_totals(const struct scorer *scorer);

#endif
