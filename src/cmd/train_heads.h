/* train_heads.h - inside `headrace train heads`: the rows that train, how sets of heads are learned from them */
#ifndef HEADRACE_CMD_TRAIN_HEADS_H
#define HEADRACE_CMD_TRAIN_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/pool.h"
#include "cmd/logged.h"
#include "cmd/setup.h"
#include "exits/calibrate.h"
#include "exits/train.h"
#include "graph/evidence.h"
#include "model/heads.h"

/* Where rows come from. */
struct heads_source {
    const struct answering *answering; /* a model whose last exit is its last layer */
    struct logged *logged;
    double from, to;        /* of the events, by time: shares of their number */
    double rows_share;      /* of the requests in the first nine tenths of that range: these train */
    double calibrate_share; /* of those in the last tenth */
    const char *cache;      /* directory; NULL: nothing is kept */
};

/*
 * Labelled rows and what the model makes of them after each layer. Rows stand in order of time: those that train, then
 * those that calibrate, which are later than all of them.
 */
struct heads_rows {
    const float *states;   /* (count, layers, width): the last token's residual stream after layers 1 .. */
    const float *features; /* (count, EVIDENCE_FEATURES) */
    const uint32_t *users; /* (count) numbers */
    const uint8_t *labels; /* (count) 0 or 1 */
    size_t count, train;   /* the first `train` */
    size_t layers, width;
    int64_t from_ms, calibrate_ms, to_ms; /* rows in [from, calibrate), [calibrate, to) */
    struct file_map map;
    bool known; /* an earlier run had kept them */
};

/*
 * Replays the log up to the end of the range, or maps what an earlier run kept under the same log, settings and model.
 * ERROR_BAD_INPUT: too little in the range to train on.
 */
int heads_rows_load(struct heads_rows *rows, const struct heads_source *source, struct error *err);
void heads_rows_free(struct heads_rows *rows);

enum heads_kind { HEADS_TEXT, HEADS_HYBRID, HEADS_SINGLE, HEADS_KINDS };
extern const char *const heads_kind_names[HEADS_KINDS];

/* Layers under an exit that its head has a row for, its own included: m + 2 for windows of up to 5. */
enum { HEADS_LAYERS = 7, HEADS_GRID = 16 };

/* Penalties that are tried, ascending. */
struct heads_grid {
    double values[HEADS_GRID];
    size_t count;
};

struct heads_choices {
    struct heads_grid l2, l2_evidence;
    struct heads_grid distill; /* shares of exit 0's answers, 0 to 1, in what heads without evidence learn */
    double lambda, beta;
    double max_loss;
    bool from_output; /* training begins at the LM head's rows, else at small random ones */
    struct train_settings adam;
    uint64_t seed;
};

/* An exit on the rows that calibrate, Platt's scaling included. */
struct heads_measure {
    size_t layer; /* 0: exit 0 */
    double auc, log_loss;
    struct platt platt;
    size_t epochs;
};

struct heads_set {
    struct heads heads;
    struct heads_measure measures[HEADS_MAX_EXITS]; /* as heads.exits */
    double l2, l2_evidence;                         /* 0: no such block */
    double distill;
    struct calibrate_result thresholds;
};

struct heads_exit0 {
    float weights[EVIDENCE_FEATURES], bias;
    struct heads_measure measure;
    double l2;
};

struct heads_trainer;

/*
 * `output`: the LM head's copies, whose exits are where heads are trained and whose rows they may begin at. What is
 * handed in must outlive the trainer.
 */
int heads_trainer_create(struct heads_trainer **trainer, const struct heads_rows *rows,
                         const struct heads_choices *choices, const struct heads *output, struct pool *pool,
                         struct error *err);
void heads_trainer_destroy(struct heads_trainer *trainer);

/*
 * Exit 0 comes first: hybrid heads take its penalty for their evidence, and it stands before their chain of exits; the
 * others may learn from its answers. A label is a coin thrown once, exit 0's answer the coin's bias as far as evidence
 * tells it: where the prompt says what exit 0 knows, heads find it in hidden states from far fewer rows. (On ml-100k,
 * 2,100 rows, layer 15: AUC .752 from labels, .778 from exit 0's answers, itself .792.) How much of the targets is
 * exit 0's, the rows that calibrate decide, and by labels: where it knows little its share is 0. Each penalty is the
 * strongest whose loss on the rows that calibrate is within a standard error of the least: what is weaker fits what the
 * rows have by chance.
 */
int heads_train_exit0(struct heads_trainer *trainer, struct heads_exit0 *exit0, struct error *err);

/* set->heads is the caller's to free; it has exit 0 as well, which only a hybrid set lets answer before any layer. */
int heads_train_set(struct heads_trainer *trainer, enum heads_kind kind, struct heads_set *set, struct error *err);

#endif
