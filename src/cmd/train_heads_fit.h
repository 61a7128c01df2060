/* train_heads_fit.h - inside the training of heads: standardised inputs, and what is fitted to them */
#ifndef HEADRACE_CMD_TRAIN_HEADS_FIT_H
#define HEADRACE_CMD_TRAIN_HEADS_FIT_H

#include "cmd/train_heads.h"

struct heads_trainer {
    const struct heads_rows *rows;
    const struct heads_choices *choices;
    const struct heads *output;
    struct pool *pool;
    struct train_scale *scales;  /* (layers) of hidden states, by the rows that train */
    struct train_scale evidence; /* of the features */
    struct heads_exit0 exit0;    /* once trained */
    double *exit0_logits;        /* (rows) scaled; NULL: not yet */
};

/* What heads of one kind are fitted to: hidden states, then evidence, then columns of zeroes up to the width. */
struct inputs {
    size_t hidden, evidence, width;
    double l2_evidence;     /* of hybrid heads */
    size_t heads;           /* to fit */
    size_t exits_of_a_head; /* 1; of a shared head all exits */
    float **layers;         /* (layer_count) standardised rows after layer 1 and so on, NULL where no head looks; of
                               evidence alone one */
    size_t layer_count;
};

/* One head, fitted with one penalty. */
struct fit {
    float *weights; /* (width) */
    float bias;
    struct train_result result;
    struct platt platts[HEADS_MAX_EXITS]; /* by the head's exits */
    double *logits;                       /* (exits of a head, rows) scaled by Platt */
    double *losses;                       /* (rows that calibrate) mean over the exits */
    bool failed;
    struct error err;
};

/* Layers from an exit down that its head is fitted to: what the default window of rules looks at. */
enum { HEADS_FITTED_LAYERS = 5 };

/* What fits may differ in: each share of exit 0's answers in the targets with each penalty. */
struct fit_grid {
    const struct heads_grid *distill, *l2;
};

/*
 * Fits all heads at all points of the grid, to their exits' rows alone; chosen[heads] are those of the best point, to
 * be freed each. The share is that of the least loss on the rows that calibrate, the penalty the strongest that is as
 * good there. Those chosen are then fitted to the rows of the layers below as well, which rules see them on.
 */
int fit_heads(const struct heads_trainer *trainer, const struct inputs *inputs, const struct fit_grid *grid,
              const char *what, struct fit *chosen, double *distill, double *penalty, struct error *err);
void fit_free(struct fit *fit);

/* How a fit does at one of its exits, on the rows that calibrate. */
int fit_measure(const struct heads_trainer *trainer, const struct fit *fit, size_t exit, size_t layer,
                struct heads_measure *measure, struct error *err);

#endif
