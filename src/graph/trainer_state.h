/* trainer_state.h - inside the trainer: what trainer.c (samples, Adam), gradient.c and recall.c share */
#ifndef HEADRACE_GRAPH_TRAINER_STATE_H
#define HEADRACE_GRAPH_TRAINER_STATE_H

#include "base/random.h"
#include "graph/trainer.h"

enum { BIAS_VALUE, BIAS_GRADIENT, BIAS_FIRST, BIAS_SECOND, BIAS_KEPT, TRAINER_BIASES };

enum { TRAINER_SAMPLE_LIMIT = 1 << 28 /* in a batch: three touches each are numbered with 32 bits */ };

/* Where a sample touches a node: the number of the sample times three, plus the node's part in it. */
enum touch_part { TOUCH_USER, TOUCH_ITEM, TOUCH_NEGATIVE };

struct trainer {
    struct trainer_settings settings;
    struct pool *pool;
    struct propagation graph;
    struct random random;
    struct pair *pairs; /* that make samples, in this epoch's order */
    size_t pair_count;
    size_t at;    /* pairs of this epoch already taken */
    size_t steps; /* Adam's t */

    /* (nodes, dimension) */
    float *base;     /* e0 */
    float *final;    /* e = propagated e0; of no use after a gradient */
    float *gradient; /* by e, later by e0 */
    float *first, *second;
    float *kept;
    float *scratch[2];
    float *bias[TRAINER_BIASES]; /* (items) each; NULL without */
    bool has_kept;

    /* The batch in hand. */
    struct trainer_sample *samples;
    float *slopes;          /* (samples) derivative of the mean loss by the sample's score difference */
    double *losses;         /* (samples) */
    uint32_t *touches;      /* (3 * samples) by node, in the samples' order */
    uint32_t *touch_starts; /* (nodes + 2) */
};

/* Mean loss of the samples, and its gradient into `gradient` and the biases' one. */
double trainer_differentiate(struct trainer *trainer, const struct trainer_sample *samples, size_t count);

/* e of all nodes into `final`. */
void trainer_propagate(struct trainer *trainer);

/* Sum in a fixed order, in lanes that a compiler can hold in vector registers. */
float trainer_dot(const float *a, const float *b, size_t n);

#endif
