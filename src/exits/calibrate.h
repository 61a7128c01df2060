/*
 * calibrate.h - how sure an exit must be, found on held-out rows: Learn then Test
 *
 * A chain is the nested models that a row passes: exit 0 (if it takes part), then the exits by layer. A row leaves at
 * the first one whose confidence (exits/exit_rule.h) reaches that exit's threshold. calibrate_leave() finds thresholds
 * that let rows leave early as long as the mean log loss exceeds that of the reference depth by max_loss at most, with
 * 95 % confidence. The reference is the best single depth, which need not be the last: the shallowest exit whose mean
 * log loss, when all rows leave there, is no more than max_loss and no more than a standard error of the difference
 * above the least. Nothing runs beyond it. (Of exits that lie so near each other the least is chance: on 2,240 rows of
 * ml-100k layer 20 was .0007 better than layer 15, and on later rows worse.)
 *
 * Confidence is what is compared because exit 0 has nothing else, and because nothing did clearly better: on 2,240
 * held-out rows of ml-100k, a quarter of them leaving layer 5 (10) instead of 20 cost .0012 (.0000) of log loss with
 * the surest first, .0022 (.0016) with the least sure first, .0016 (.0045) with those first whose last layers agree;
 * standard errors .002.
 *
 * Two sets of rows. `order` draws a path from "everybody leaves at the reference" to "everybody leaves at once", one
 * threshold a step lower each time: the step that adds least loss, one standard error included, for the layers it
 * saves. Rows that the heads were trained on will do, as the path only decides where we look. Then, on the held-out
 * rows alone, one policy after the other along this path is put to the test: H0 "its mean loss increase is above
 * max_loss" is rejected where the upper 95 % bound of the paired increase is no more than max_loss. The first that
 * fails ends the walk and the one before it is taken. As the path is fixed before the held-out rows are looked at, all
 * tests have the full 5 %, and the chance that the thresholds taken lose more than max_loss is 5 % at most (fixed
 * sequence testing: Angelopoulos and others 2021, section 2.4). The reference is chosen on the held-out rows, which
 * flatters it: what leaves before it is judged the more severely.
 *
 * A first exit that costs nothing (exit 0) gets a test of its own: "everybody leaves there", with half of the 5 %, the
 * path having the other half. To rows that trained them deep heads look better than they are, so a path comes last to
 * where depth adds nothing.
 *
 * The bound is Student's t over clusters, widened where they are skewed (Hall 1992): rows of one user hang together, so
 * users are what is independent. On 300 draws of 60 users' skewed losses 3 % of the thresholds taken lost more than
 * max_loss; with t alone it was 8 %. The promise is about rows like the held-out ones, not about next year's.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_EXITS_CALIBRATE_H
#define HEADRACE_EXITS_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    CALIBRATE_MAX_EXITS = 128,
    CALIBRATE_NOTCHES = 20,       /* thresholds tried at an exit: each lets another twentieth of its rows leave */
    CALIBRATE_LEAST_CLUSTERS = 8, /* with fewer users nothing can be tested, and all rows run to the reference */
};

struct calibrate_rows {
    const double *logits;     /* (count, exits) of the heads as they serve, Platt's scaling included; finite */
    const uint8_t *labels;    /* (count) 0 or 1 */
    const uint32_t *clusters; /* (count) the rows' users; NULL: each row by itself */
    size_t count;
};

struct calibrate_settings {
    size_t exits;       /* of the chain */
    const double *cost; /* (exits) ascending: layers run when a row leaves there, 0 for exit 0 */
    double max_loss;    /* at least 0 */
};

struct calibrate_result {
    size_t reference; /* index in the chain */
    double reference_loss;
    double increase, bound; /* mean log loss of the thresholds above the reference's, and its upper bound */
    double cost;            /* mean over the held-out rows */
    size_t path, accepted;  /* policies on the path, and how many passed */
};

/*
 * `order` NULL: every other cluster of the held-out rows draws the path, and the rest alone are tested on.
 *
 * leave[0..exits): thresholds for struct head's `leave`. INFINITY: nobody leaves there; 1/2: everybody does, which is
 * so at the reference and all exits beyond. ERROR_BAD_INPUT: no rows, one label alone, a logit that is not finite.
 */
int calibrate_leave(const struct calibrate_settings *settings, const struct calibrate_rows *order,
                    const struct calibrate_rows *held, float *leave, struct calibrate_result *result,
                    struct error *err);

/*
 * Upper bound (one-sided) of the mean of `values`: at 95 %, or with `chains` 2 at 97.5 %. INFINITY with fewer than
 * CALIBRATE_LEAST_CLUSTERS clusters; the mean itself where all values are the same. ERROR_FATAL: no memory.
 */
int calibrate_bound(const double *values, const uint32_t *clusters, size_t count, size_t chains, double *bound,
                    struct error *err);

/*
 * Whether the mean of `values` is neither above `most` nor above its standard error over clusters; never so with fewer
 * than CALIBRATE_LEAST_CLUSTERS clusters. ERROR_FATAL: no memory.
 */
int calibrate_is_within(const double *values, const uint32_t *clusters, size_t count, double most, bool *within,
                        struct error *err);

#endif
