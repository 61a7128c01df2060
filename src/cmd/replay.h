/* replay.h - inside `headrace replay`: the heads that are looked at, and trajectories, made or known from before */
#ifndef HEADRACE_CMD_REPLAY_H
#define HEADRACE_CMD_REPLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "cmd/logged.h"
#include "cmd/setup.h"
#include "replay/loop.h"
#include "replay/memo.h"
#include "replay/report.h"
#include "replay/trajectory.h"

enum { REPLAY_SETS = 8 };

/* The model and every set of heads of heads.path's file, or the LM head's rows without one. */
struct replay_answerer {
    struct config *config;
    struct answering base;               /* file, model, tokenizer, template; without heads and engine */
    struct answering views[REPLAY_SETS]; /* the same with each set's heads and the rule that serves them */
    struct replay_heads sets[REPLAY_SETS];
    size_t count;
    size_t own;               /* the view whose heads the engine has */
    struct replay_memo *memo; /* prompts that settings share run once */
    struct engine *engine;    /* NULL until a trajectory has to be made */
    char model_hash[36];
    char arithmetic[64];
    double l2;        /* exit 0's penalty, for baselines; 1 where the file does not tell */
    int64_t heads_ms; /* newest event that the heads were trained on; INT64_MIN: none */
};

/* A zeroed one is fine to close, also on -1. `config` is changed and put back. */
int replay_answerer_open(struct replay_answerer *answerer, struct config *config, struct error *err);
void replay_answerer_close(struct replay_answerer *answerer);

/* Makes the engine, once. */
int replay_answerer_start(struct replay_answerer *answerer, struct error *err);

/* What the report says of the sets; `sets` holds REPLAY_SETS. `leaves` holds the file's thresholds. */
struct replay_thresholds {
    float values[REPLAY_SETS][HEADS_MAX_EXITS + 1];
};
void replay_report_sets(const struct replay_answerer *answerer, struct replay_thresholds *thresholds,
                        struct report_set *sets);

struct replay_making {
    struct replay_answerer *answerer;
    struct logged *logged;
    const char *checkpoint; /* NULL: none */
    bool fresh;             /* also where one is known */
};

/*
 * The trajectory of the settings as they are: from the cache when it is there, in which case the model is not loaded;
 * else by a replay, and into the cache.
 */
int replay_make(struct replay_making *making, struct trajectory *trajectory, struct error *err);

/*
 * Each set's operating point on standard output, and into heads.path's file where thresholds can tell it (the rule
 * `calibrated`). A set without one keeps what it has.
 */
int replay_choose(const struct replay_answerer *answerer, const struct report *report, double max_loss,
                  struct error *err);

enum { REPLAY_SPEEDS = 4 * REPLAY_SETS };

struct replay_speeds {
    struct report_speed speeds[REPLAY_SPEEDS];
    char names[REPLAY_SPEEDS][64];
    size_t count;
};

/*
 * Runs the engine on the first `rows` rows of the test part, a call a request as the worker does, for each set at full
 * depth, at its reference depth, under the rule that it is served with and, where `report` is not NULL, at its
 * operating point; prints candidates a second. Rows that exit 0 settles count and cost no layer.
 */
int replay_measure(struct replay_making *making, const struct report *report, size_t rows, struct replay_speeds *speeds,
                   struct error *err);

enum { REPLAY_RUNS = 64 };

/* Settings of the prompts, each with its trajectory. */
struct replay_runs {
    struct report_run runs[REPLAY_RUNS];
    struct trajectory trajectories[REPLAY_RUNS];
    char names[REPLAY_RUNS][48];
    size_t count;
};

/* The settings as they are; with `matrix` also retrieval none, candidate and global, embeddings mean, final and
 * weighted, 1 to 6 similar users, all crossed. On failure what is there is still to be freed. */
int replay_make_runs(struct replay_making *making, bool matrix, struct replay_runs *runs, struct error *err);
void replay_runs_free(struct replay_runs *runs);

#endif
