/* train.h - inside `headrace train graph`: what is trained on, how it is asked for, and the file that comes out */
#ifndef HEADRACE_CMD_TRAIN_H
#define HEADRACE_CMD_TRAIN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"
#include "config/config.h"
#include "graph/trainer.h"
#include "replay/event_file.h"

struct training_source {
    const struct config *config;
    const struct event_file_settings *file; /* NULL: the store of state.dir */
    bool likes;                             /* only edges that are likes */
    int64_t before_ms;                      /* only events earlier than this */
    double held_share;                      /* of the edges, the latest: held out for early stop */
    uint64_t seed;
    const volatile sig_atomic_t *interrupted; /* set: reading stops with an error */
};

/*
 * The newest event of a pair is its edge, as in the graph: a removal takes it out, an impression is none. Users and
 * items are those with an edge that trains; a held-out pair of another one says nothing about training and is left out.
 */
struct training_data {
    struct table users, items;
    struct pair *pairs; /* oldest first */
    size_t pair_count;
    struct pair *held_out; /* by user; of at most about TRAINING_RANKED_USERS users, chosen by the seed */
    size_t held_out_count;
    size_t held_out_edges;     /* before that choice, and before those of unknown users and items went */
    int64_t first_ms, last_ms; /* of the edges that train */
    uint64_t wrong_rows;
};

enum { TRAINING_RANKED_USERS = 4096 };

/* On failure nothing is left to free. Rows that cannot be read are shown on standard error, and counted. */
int training_data_load(struct training_data *data, const struct training_source *source, struct error *err);
void training_data_free(struct training_data *data);

/*
 * The result. Trained rows are written as serving starts from them, z0:
 *
 *   headrace.vectors.source         "lightgcn" or "fm"
 *   headrace.vectors.normalisation  "z": a row is scale * e0 / sqrt(degree), degree in the graph that trained
 * (lightgcn); "none": a row is scale * e0, and the scale is 1 (fm) headrace.vectors.scale          makes the median
 * norm of all rows 1, that of a hashed z0 headrace.vectors.version        hash of all the rest: keys, ids and rows
 *   headrace.vectors.{layers, dimension, seed, edges ("all" or "likes"), edge_count, first_event_ms, last_event_ms,
 *                     epochs, loss, batch, negatives, learning_rate, l2}: how they came about
 *   headrace.vectors.{recall, recall_at, held_out}: how well they rank the held-out pairs; not there without any
 *   headrace.vectors.{users, items}  arrays of ids
 *
 * Tensors, F32, in the order of the ids: users (n_users, dimension), items (n_items, dimension); users.degree,
 * items.degree (n); with fm items.bias (n_items): a score is the bias + the rows' dot product / scale^2.
 */
struct training_result {
    const char *source;
    bool likes;
    size_t epochs; /* that the rows have seen */
    double loss;   /* mean of the last of them */
    double recall; /* below 0: nothing was held out */
    char version[17];
};

enum { TRAINING_RECALL_AT = 20 };

/* Fills in result->version. */
int training_result_save(struct training_result *result, const struct trainer_settings *settings,
                         const struct training_data *data, const struct trainer *trainer, const char *path,
                         struct error *err);

/* Whether --out's directory can be written: before minutes of training, not after. */
int training_check_out(const char *path, struct error *err);

/* `headrace train heads` */
int command_train_heads(int argc, char **argv);

#endif
