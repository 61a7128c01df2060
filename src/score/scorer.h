/*
 * scorer.h - a request in, its answer out: graph, prompt and engine joined
 *
 * Every request gets one response, its candidates in order:
 *   EXPIRED  the deadline had passed when the request was taken up; nothing was computed
 *   ERROR    the request as a whole cannot be answered; `error` says why
 *   OK       each candidate has a status of its own:
 *     COLD_ITEM  no title in the store nor inline: answered by exit 0
 *     SHALLOW    under overload answered at a shallower exit than the rule asked for, or by exit 0
 *     COLD_USER  fewer than history.min events and no inline history: scored all the same
 *     OK         scored
 * Exit 0 is the evidence alone (score/exit0.h). Under the rule CALIBRATED candidates that it is sure of never see a
 * layer: exit_layer 0, status as if they had.
 *
 * A share of the requests also runs to the reference depth, the layer of the best single exit: how far the answers
 * given are from the answers there is told by the totals. That changes no answer.
 *
 * Three steps, for who runs many requests at once (score/batcher.h); scorer_score() is all of them for one:
 *   scorer_prepare()  looks into the graph, renders, tokenises
 *   scorer_run()      the engine, with any rows of any requests; as often as it takes
 *   scorer_finish()   writes the response
 * A candidate's answer is the same bit for bit however its request was cut into runs and whatever ran beside it.
 *
 * Threads: a step on one thread at a time, different steps beside each other; a request in one step at a time.
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
#include "score/exit0.h"
#include "score/feedback.h"
#include "score/plan.h"
#include "score/totals.h"
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
    const struct heads *heads;   /* the engine's; without one exit 0's. NULL: none */
    struct exit_rule rule;       /* the engine's */
    double shadow;               /* share of the requests, 0 to 1 */
    struct feedback *feedback;   /* is told of every answer; NULL: none */
    struct score_totals *totals; /* where to count; NULL: the scorer has some of its own */
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
 * A request on its way: in the request's arena, made by scorer_prepare(). Rows are the candidates that the engine is to
 * be asked about, in the request's order.
 */
struct asking {
    const struct score_request *request;
    struct arena *arena;
    struct plan plan;
    struct exit0 *exit0; /* by candidate */
    bool explain;        /* to who asked */
    bool shadow;         /* runs to the reference depth as well */

    struct engine_prompt prompt; /* all rows; candidate_count 0: the engine need not be asked */
    size_t *row_of;              /* by candidate; SIZE_MAX: has none */
    struct text *texts;          /* by row; of what is explained */
    struct engine_score *scores; /* by row */
    size_t computed;             /* rows 0 .. computed - 1 have scores; others are answered by exit 0 */
    double engine_s;             /* that the engine was at it */
    struct text error;           /* why the engine cannot answer it; null: it can */
};

/*
 * Fills the response as far as it is known; its texts and lists live in `arena`, in `request` or as long as the scorer.
 * *asking is NULL when the response is complete as it is. ERROR_BAD_INPUT: the request cannot even be answered (no
 * request id or user id): it is a dead letter. ERROR_FATAL: the worker must stop.
 */
int scorer_prepare(struct scorer *scorer, const struct score_request *request, struct arena *arena,
                   struct score_response *response, struct asking **asking, struct error *err);

/* Rows from .. to - 1 of a request: the first that are not computed yet. */
struct scorer_piece {
    struct asking *asking;
    size_t from, to;
    size_t max_layer; /* as in struct engine_prompt */
};

struct scorer_effort {
    double seconds;
    uint64_t token_layers;
};

/*
 * One call of the engine. Where a piece makes it fail, each runs alone, and `error` is set in those that fail again.
 * -1: the worker must stop.
 */
int scorer_run(struct scorer *scorer, const struct scorer_piece *pieces, size_t count, struct scorer_effort *effort,
               struct error *err);

/* Completes the response; what is not computed by now is answered by exit 0. ERROR_FATAL: the worker must stop. */
int scorer_finish(struct scorer *scorer, struct asking *asking, struct score_response *response, struct error *err);

/* A response to the request with nothing in it yet. */
void scorer_begin(const struct scorer *scorer, const struct score_request *request, struct score_response *response);

/* Makes the response one without candidates. */
void scorer_refuse(struct score_response *response, enum response_status status, struct text error);

/* All steps. `queue_ms` is how long the request has waited. Errors as from scorer_prepare(). */
int scorer_score(struct scorer *scorer, const struct score_request *request, double queue_ms, struct arena *arena,
                 struct score_response *response, struct error *err);

/* Layers with an exit, ascending, the last being where all leave; *count 0: there is no engine. */
const size_t *scorer_exits(const struct scorer *scorer, size_t *count);

/* NULL: there is none. */
const struct engine *scorer_engine(const struct scorer *scorer);

struct score_totals *scorer_totals(struct scorer *scorer);

#endif
