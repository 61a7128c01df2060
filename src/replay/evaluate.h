/*
 * evaluate.h - what heads, a rule and its thresholds would have answered, from a trajectory, without the model
 *
 * A trajectory holds each head's logit at every layer that a rule can look at, so any rule's answers follow from it:
 * exit by exit, the rule sees what the engine shows it (exits/exit_rule.h) and the row takes the first exit that is
 * settled, or the set's last. Where the trajectory has exit 0's logits, rows without text take exit 0's answer as the
 * worker does; without, they have no score: NaN, counted, never guessed.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_REPLAY_EVALUATE_H
#define HEADRACE_REPLAY_EVALUATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "exits/exit_rule.h"
#include "replay/trajectory.h"

enum { EVALUATE_EXITS = 128 }; /* of a set, exit 0 with them */

struct evaluate_policy {
    const char *set; /* of heads: "text", "hybrid", "single"; "exit0": exit 0 answers everything */
    struct exit_rule rule;
    bool exit0;         /* under CALIBRATED, exit 0 is asked first and may answer a row before any layer */
    const float *leave; /* (exits + 1) thresholds of CALIBRATED, exit 0's first; NULL: INFINITY, nobody leaves early */
};

struct evaluate_answers {
    double *p;        /* (count) NaN: no score */
    uint32_t *layers; /* (count) layer of the exit that answered; 0: exit 0, or no score */
    size_t count;     /* rows of the trajectory */
};

/* ERROR_BAD_INPUT: the trajectory has no such set, FIXED names no exit of it, `exit0` without exit 0's logits. */
int evaluate_answer(const struct trajectory *trajectory, const struct evaluate_policy *policy,
                    struct evaluate_answers *answers, struct error *err);
void evaluate_answers_free(struct evaluate_answers *answers);

/* Layers of the set's exits, ascending; returns how many, 0: no such set. `layers` holds EVALUATE_EXITS. */
size_t evaluate_exits(const struct trajectory *trajectory, const char *set, uint32_t layers[]);

/* Most layers that a head of the set has readings on, its own included: what a rule can look at; 0: no such set. */
size_t evaluate_layers(const struct trajectory *trajectory, const char *set);

/*
 * Thresholds of CALIBRATED, made on the labelled CALIBRATE rows (exits/calibrate.h): leave[exits + 1], exit 0's first.
 * ERROR_BAD_INPUT: there are no such rows, or of one label alone.
 */
int evaluate_calibrate(const struct trajectory *trajectory, const char *set, bool exit0, double max_loss, float *leave,
                       struct error *err);

/* What the rows of one part cost. A token layer: one token through one layer. */
struct evaluate_cost {
    size_t rows;         /* with an answer */
    double token_layers; /* a request's prefix as deep as its deepest row, each tail as deep as its row */
    double full;         /* the same at the model's full depth */
    double mean_layer;
    size_t by_layer[EVALUATE_EXITS]; /* rows by layer of the exit; [0]: exit 0 */
    size_t without_score;
};

/* ERROR_BAD_INPUT for a model of more than EVALUATE_EXITS - 1 layers. */
int evaluate_cost(const struct trajectory *trajectory, const struct evaluate_answers *answers, uint8_t part,
                  struct evaluate_cost *cost, struct error *err);

/* Rows of one part with a label, and a score by every scorer asked for: what metrics.h takes. */
struct evaluate_sample {
    size_t count;
    size_t *rows;    /* (count) places in the trajectory, ascending */
    bool *labels;    /* (count) */
    uint32_t *users; /* (count) */
    double **p;      /* (scorer_count, count) */
    size_t scorer_count;
};

/* scores[s] is scorer s's p of all rows of the trajectory. */
int evaluate_take_sample(struct evaluate_sample *sample, const struct trajectory *trajectory, uint8_t part,
                         const double *const scores[], size_t scorer_count, struct error *err);
void evaluate_sample_free(struct evaluate_sample *sample);

/*
 * The baselines, learned on the labelled TRAIN rows alone. Each fills p[count]; NaN everywhere where there are no such
 * rows to learn from.
 */
enum evaluate_baseline {
    EVALUATE_CONSTANT,      /* share of yes */
    EVALUATE_ITEM_PRIOR,    /* the item's smoothed like rate, nothing learned */
    EVALUATE_USER_AND_ITEM, /* regression on the log odds of both rates */
    EVALUATE_FEATURES,      /* regression on all features */
    EVALUATE_BASELINES,
};
extern const char *const evaluate_baseline_names[EVALUATE_BASELINES];

/* `l2`: as regression_fit() takes it (replay/regression.h), the penalty that exit 0 was trained with. */
int evaluate_predict_baseline(const struct trajectory *trajectory, enum evaluate_baseline baseline, double l2,
                              double *p, struct error *err);

#endif
