/*
 * loop.h - logged traffic once more: at each request what was known then, afterwards what came of it
 *
 * One logical thread over all messages in order of (timestamp, topic, partition, offset). At each time first all
 * requests are planned, on a graph that holds what happened before and nothing else, then the time's events are
 * learned. Titles and profiles carry no times of their own: they are known from the start, as they are in the log.
 *
 * What is a request, and a row's label. Where the log has requests: they are as they stand. A candidate's first verdict
 * by the user within the label window is its label (a like, click or purchase 1; a dislike or a rating below the
 * threshold 0; a label of the event itself overrules), and the window's end without one is 0. Events are joined by
 * request id where they have one that is known, else by user and item, to the latest request. In a log with impressions
 * the window's end says nothing of candidates that were not shown.
 *
 * Where it has impressions but no requests: those of one user at one time, and of one request id, are a request just
 * before themselves; labels as above.
 *
 * Where it has neither: the edges (ratings, likes, ...) of one user at one time are a request just before themselves,
 * and its labels.
 *
 * Where events have no times at all (event_file_settings.untimed): one event of each user, drawn with the seed, is a
 * request after all others, and is never learned.
 *
 * The leak audit (audit.h) looks at every request: a fact in prompt or evidence that is not earlier fails the run.
 *
 * Rows are numbered from 0 in the order of requests and, within, of candidates. The same log and settings give the same
 * rows, whatever is sampled away: sampling leaves requests out, never events.
 *
 * Threads: one replay at a time on a log.
 */
#ifndef HEADRACE_REPLAY_LOOP_H
#define HEADRACE_REPLAY_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"
#include "graph/graph.h"
#include "model/model.h"
#include "prompt/prompt.h"
#include "replay/source.h"
#include "replay/split.h"
#include "replay/trajectory.h"
#include "score/plan.h"

struct heads;
struct replay_memo;

struct replay_settings {
    struct graph_settings graph; /* directory NULL: a temporary one, removed at the end */
    struct plan_settings plan;
    const struct prompt_template *prompt; /* NULL: nothing is rendered, evidence only */
    bool texts;                           /* give the visitor the prompts' texts as well */
    int64_t label_window_ms;
    int64_t from_ms, to_ms; /* requests in [from, to); events before `from` are learned. 0, INT64_MAX: all */
    double sample;          /* share of the users whose requests are planned, by hash; 1: all */
    bool sample_requests;   /* a share of the requests instead of the users */
    uint64_t seed;          /* of samples and draws */
    size_t limit;           /* end after the request that brings so many rows; 0: none */
    double warm;            /* share of all rows, the earliest, that are learned but are no rows */
    struct split split;
    bool both_protocols;  /* rendered where either split asks for it; rows carry split.protocol's part */
    unsigned parts;       /* bits 1 << enum trajectory_part: of the other parts' requests only the evidence is wanted,
                             nothing is rendered; 0: all parts */
    double speed;         /* of time; 0: as fast as it goes */
    size_t done_requests; /* so many are known from an earlier run: planned and visited no more */
    int64_t vectors_ms;   /* newest event that graph.vectors were trained on; INT64_MIN: none */
    int64_t heads_ms;     /* newest event that the heads were trained on; INT64_MIN: none. Held to account in the test
                             part of a chronological split */
    const volatile sig_atomic_t *interrupted; /* NULL, or set: the run ends with an error of kind ERROR_RETRY */
};

/* A request as a worker would have met it. All of it holds until the visitor returns. */
struct replay_request {
    uint32_t number; /* of the requests that are planned, from 0 */
    const struct score_request *request;
    const struct plan *plan;
    size_t first_row;
    struct trajectory_row *rows; /* (request->candidate_count) */
    const float *features;       /* (request->candidate_count, EVIDENCE_FEATURES) */
    bool rendered;               /* else nothing below: part not asked for, no template, or no candidate has a title */
    const int32_t *prefix;       /* system and user part */
    size_t prefix_length;
    const int32_t *tokens; /* candidate c's are tokens[offsets[c] .. offsets[c + 1]), none for a cold item */
    const size_t *offsets; /* (request->candidate_count + 1) */
    struct text system_text, user_text, tail_text; /* `texts`: candidate c's text is tail_text's
                                                      [text_offsets[c], text_offsets[c + 1]) */
    const size_t *text_offsets;
};

struct replay_visitor {
    void *context;
    /* 0: go on; 1: enough, the replay ends well; -1: it fails. */
    int (*request)(void *context, const struct replay_request *request, struct error *err);
};

struct replay_totals {
    uint64_t events;   /* learned */
    uint64_t refused;  /* messages that mean nothing: named in the log, left out */
    uint64_t requests; /* planned, or done before */
    uint64_t rows;
    size_t users, items; /* dense numbers given */
};

int replay_run(struct replay_log *log, const struct replay_settings *settings, const struct replay_visitor *visitor,
               struct replay_totals *totals, struct error *err);

/* A named set of heads of one file. */
struct replay_heads {
    char name[16]; /* "text" */
    const struct heads *heads;
};

/* Who computes, and what is asked. */
struct replay_model {
    struct engine *engine;     /* NULL: no hidden states, exit 0 alone */
    const struct model *model; /* the engine's, as are the heads: hidden states are of layers 1 to their last exit's */
    const struct heads *heads;
    const struct replay_heads *sets; /* whose logits are wanted; exit 0 is taken from the first that has one */
    size_t set_count;
    const char *model_id, *model_hash, *heads_id, *template_hash; /* NULL where there is none */
    const char *arithmetic; /* for the key, where the engine may not be there yet; NULL: the engine's */
    /*
     * NULL, or gets the hidden states of each row that ran, in order of rows: (N, width), the last token's residual
     * stream after each layer. `row` is its place in the trajectory, whose row is complete.
     */
    int (*states)(void *context, size_t row, const float *states, struct error *err);
    void *context;
    struct replay_memo *memo; /* NULL, or answers of earlier replays by this model and these sets, and room for more:
                                 prompts that are in it do not run; not with `states` */
    const char *checkpoint;   /* NULL, or a file: what was done before is taken from there, and it is kept up to date.
                                 `states` does not get those rows again */
    bool progress;            /* lines on standard error at doubling counts */
};

/*
 * Replays and keeps: rows, features, readings and logits. The engine gets several requests a call; logits are worked
 * out in double from hidden states, heads' evidence parts included, so that one pass serves all sets. A prompt longer
 * than the model's context has CANDIDATE_ERROR and no logits. On failure nothing is left to free; an interrupted run
 * with a checkpoint can be gone on with.
 */
int replay_collect(struct replay_log *log, const struct replay_settings *settings, const struct replay_model *model,
                   struct trajectory *trajectory, struct replay_totals *totals, struct error *err);

/*
 * 16 hex digits and a NUL over all that a trajectory depends on; that it is made on another kind of processor is not
 * among it. The log is put into order; the engine is not looked at.
 */
int replay_key(struct replay_log *log, const struct replay_settings *settings, const struct replay_model *model,
               char key[17], struct error *err);

#endif
