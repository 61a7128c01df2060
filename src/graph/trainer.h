/*
 * trainer.h - base vectors from a graph: LightGCN by BPR and Adam
 *
 * Every user and item has a row e0. What ranks is e = propagation_mean(e0) (layers 0..K, propagation.h), a user's score
 * of an item is their rows' dot product. BPR (Rendle et al., UAI 2009) asks that the items a user has score above
 * those the user has not; a sample is (user, item, negative), the negative drawn uniformly from the items that the user
 * has no edge to. The loss of a batch of B samples (He et al., SIGIR 2020, equation 15):
 *
 *     1/B sum -ln sigmoid(s(u, i) - s(u, j)) + l2/(2B) sum (|e0_u|^2 + |e0_i|^2 + |e0_j|^2)
 *
 * Each batch propagates the whole graph forward and the gradient back: 2 K * 2 edges vector operations, so a larger
 * batch makes an epoch cheaper. Rows start as Xavier's uniform ones, of users and of items apart. Adam (Kingma, Ba
 * 2015) has beta 0.9 and 0.999, epsilon 1e-8 and moves every row at every batch.
 *
 * With `layers` 0 this is matrix factorisation, a factorisation machine on ids; `item_bias` then adds b_i to the score.
 * (A user's bias cancels in BPR: there is none.)
 *
 * The same seed, settings and pairs give the same rows bit for bit, for any number of threads: a row is computed by one
 * thread in a fixed order, and samples are drawn in sequence. (Between processors and compilers only as far as their
 * expf() agrees.)
 *
 * Threads: one; the pool's work inside a call.
 */
#ifndef HEADRACE_GRAPH_TRAINER_H
#define HEADRACE_GRAPH_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "graph/propagation.h"

enum { TRAINER_DIMENSION_LIMIT = 256, TRAINER_LAYER_LIMIT = 8 };

struct trainer_settings {
    size_t layers;        /* K, 0 to TRAINER_LAYER_LIMIT */
    size_t dimension;     /* a multiple of 16, at most TRAINER_DIMENSION_LIMIT */
    bool item_bias;       /* only with layers 0 */
    double learning_rate; /* above 0 */
    double l2;            /* at least 0 */
    size_t batch;         /* pairs, at least 1; each gives `negatives` samples */
    size_t negatives;     /* at least 1 */
    uint64_t seed;
};

struct trainer_sample {
    uint32_t user, item, negative;
};

struct trainer;

/*
 * Each pair once; a node without pairs keeps the row it started with. The pool must outlive the trainer.
 * ERROR_BAD_INPUT: a setting is out of range, or nobody can be given a negative; ERROR_FATAL: no memory.
 */
int trainer_create(struct trainer **trainer, const struct trainer_settings *settings, struct pool *pool, size_t users,
                   size_t items, const struct pair *pairs, size_t count, struct error *err);
void trainer_destroy(struct trainer *trainer);

/* Batches in an epoch: one that sees every pair once. */
size_t trainer_batches(const struct trainer *trainer);

/*
 * The next batch; the first of an epoch shuffles the pairs. Returns the batch's mean loss, l2 included. A loss that is
 * not finite means that the rows are lost: the learning rate is too high.
 */
double trainer_step(struct trainer *trainer);

/* The rows now: e0 of users and then items, (users + items, dimension), and b_i of the items (NULL without). */
const float *trainer_base(const struct trainer *trainer);
const float *trainer_item_bias(const struct trainer *trainer);
const struct propagation *trainer_graph(const struct trainer *trainer);

/* Sets aside a copy of what training has changed; trainer_restore() brings back the last copy, if there is one. */
void trainer_keep(struct trainer *trainer);
void trainer_restore(struct trainer *trainer);

/*
 * Recall at `k` with full ranking: of the items in a user's held-out pairs, the share among the k best-scored ones that
 * the user has no edge to; the mean over users. `held_out` is sorted by user, its pairs are not among the trained ones.
 * -1: there is none, or no memory.
 */
double trainer_recall(struct trainer *trainer, const struct pair *held_out, size_t count, size_t k);

/* Loss of these samples, and its gradient: by e0 (nodes, dimension) and b_i (items). For tests. */
double trainer_gradient(struct trainer *trainer, const struct trainer_sample *samples, size_t count,
                        const float **gradient, const float **bias_gradient);

/* For tests: other rows, (users + items, dimension). */
void trainer_set_base(struct trainer *trainer, const float *base);

#endif
