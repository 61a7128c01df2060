/*
 * answers.h - inside replay/: what heads say of hidden states and evidence, worked out in double; progress lines
 *
 * Readings: exit 0 first where a set has one, then for each set and exit the layers that a rule can look at, at most
 * ENGINE_MAX_WINDOW of them.
 */
#ifndef HEADRACE_REPLAY_ANSWERS_H
#define HEADRACE_REPLAY_ANSWERS_H

#include <stdint.h>

#include "replay/loop.h"
#include "replay/trajectory.h"

struct answers {
    const struct replay_model *model;
    const struct trajectory_reading *readings; /* begin's */
    struct answer_place *places;               /* (reading_count): which head's which row */
    size_t reading_count;
    const struct heads *exit0; /* the set whose exit 0 it is; NULL: none */
    double *scales;            /* (layers) 1 / rms of a row's hidden states */
    uint64_t shown_rows, due;  /* of the progress */
    double loss, loss_before;
    uint64_t rows_before;
};

/* The readings are the caller's to free(). ERROR_BAD_INPUT: a set's exit lies above the engine's last layer. */
int answers_begin(struct answers *answers, const struct replay_model *model, struct trajectory_reading **readings,
                  size_t *reading_count, struct error *err);
void answers_free(struct answers *answers);

/* Exit 0's logit, if there is one, at the front of a row's logits. */
void answers_of_evidence(const struct answers *answers, const float *features, float *logits);

/* All others without their evidence, into bare (reading_count); states (N, width). */
void answers_of_states(struct answers *answers, const float *states, double *bare);

/* A row's logits, those of the evidence added. */
void answers_with_evidence(const struct answers *answers, const double *bare, const float *features, float *logits);

/* The probability that stands where no model runs: exit 0's, or the item's like rate. */
double answers_without_model(const struct answers *answers, const float *features);

/* Counts a row into the progress, and prints a line at 1, 2, 4, ... rows. Rows without label do not count. */
void answers_show(struct answers *answers, const struct trajectory_row *row, double p, size_t layers);
void answers_end(struct answers *answers);

#endif
