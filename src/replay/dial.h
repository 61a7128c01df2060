/*
 * dial.h - what each rule costs and what it is worth: the points between which one chooses
 *
 * A point is one rule at one setting on one set of heads, over the labelled rows of one part of a trajectory, beside
 * the reference depth: the best single exit by log loss on the calibrate slice, which need not be the last.
 *
 * Caveat: a point chosen among many on the rows that it is then reported on looks better than it is. So dial_choose()
 * is for points of the calibrate slice, and the report shows what they do on the test rows.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_REPLAY_DIAL_H
#define HEADRACE_REPLAY_DIAL_H

#include "replay/evaluate.h"
#include "replay/metrics.h"

struct dial_point {
    struct evaluate_policy policy;
    double max_loss;                  /* that CALIBRATED's thresholds were made for; NaN otherwise */
    float thresholds[EVALUATE_EXITS]; /* the same as CALIBRATED's, where `writable` */
    bool writable; /* thresholds say it: FULL, FIXED, CONFIDENCE, CALIBRATED. So a head file can carry it */
    struct evaluate_cost cost;
    double auc, log_loss;
    struct metrics_difference increase; /* of log loss over the reference depth's, paired, 95 % over users */
};

/* Its points' policies name the settings' `set`, which must live as long as they are used. */
struct dial {
    char set[16];
    size_t reference; /* layer of the reference depth; 0: exit 0 */
    struct dial_point *points;
    size_t count;
};

struct dial_settings {
    const char *set;
    uint8_t part;  /* TRAJECTORY_TEST to report, TRAJECTORY_CALIBRATE to choose */
    size_t rounds; /* of the bootstrap */
    uint64_t seed;
    bool exit0;       /* exit 0 is the chain's first: CALIBRATED asks it, and it may be the reference depth */
    size_t reference; /* SIZE_MAX: found on the calibrate slice (on `part` where that is empty) */
};

/*
 * All rules: FULL, FIXED at each exit (with `exit0` also "fixed 0", exit 0 alone), PROBABILITY, RATIO and LOG_ODDS with
 * windows 2 to 5 and thresholds .001 .005 .01 .05 .1, CONFIDENCE, PATIENCE, and CALIBRATED for max_loss .0005 .001 .002
 * .005 .01 where there is a calibrate slice to make thresholds on. Rules that look at more layers than the trajectory
 * has are left out. Points stand in that order. ERROR_BAD_INPUT where no row of the part has both a score and a label.
 */
int dial_make(const struct trajectory *trajectory, const struct dial_settings *settings, struct dial *dial,
              struct error *err);
void dial_free(struct dial *dial);

/* The cheapest writable point whose increase stays <= max_loss with its whole interval; NULL: none does. */
const struct dial_point *dial_choose(const struct dial *dial, double max_loss);

/* "probability, m 3, tau 0.01"; max_loss as in struct dial_point. */
void dial_rule_name(const struct exit_rule *rule, double max_loss, char *name, size_t size);

/*
 * The set's exit of least log loss on a part, if all rows were answered there; `exit0`: exit 0 competes. SIZE_MAX
 * without rows to tell by.
 */
int dial_find_reference(const struct trajectory *trajectory, const char *set, bool exit0, uint8_t part, size_t *layer,
                        struct error *err);

#endif
