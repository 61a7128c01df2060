/* evaluate_calibrate.c - thresholds of the rule `calibrated`, from a trajectory's held-out rows */
#include <math.h>
#include <stdlib.h>

#include "exits/calibrate.h"
#include "replay/evaluate.h"

/* Exit 0, if it takes part, and the set's exits: where each has its answers. */
struct chain {
    size_t readings[EVALUATE_EXITS];
    double cost[EVALUATE_EXITS];
    size_t exits;
};

struct held {
    double *logits; /* (count, chain's exits) */
    uint8_t *labels;
    uint32_t *users;
    size_t count;
};

static int make_chain(struct chain *chain, const struct trajectory *trajectory, const char *set, bool exit0,
                      struct error *err)
{
    uint32_t layers[EVALUATE_EXITS];
    size_t exits = evaluate_exits(trajectory, set, layers);
    *chain = (struct chain){0};
    if (exits == 0)
        return error_set(err, ERROR_BAD_INPUT, "the trajectory has no heads of set '%s'", set);
    if (exit0) {
        chain->readings[0] = trajectory_find(trajectory, "exit0", 0, 0);
        if (chain->readings[chain->exits++] == SIZE_MAX)
            return error_set(err, ERROR_BAD_INPUT, "the trajectory has no logits of exit 0");
    }
    for (size_t i = 0; i < exits; i++) {
        chain->readings[chain->exits] = trajectory_find(trajectory, set, layers[i], layers[i]);
        if (chain->readings[chain->exits] == SIZE_MAX)
            return error_set(err, ERROR_BAD_INPUT, "set '%s' has no answers at its exit %u", set, layers[i]);
        chain->cost[chain->exits++] = layers[i];
    }
    return 0;
}

static void held_free(struct held *held)
{
    free(held->logits);
    free(held->labels);
    free(held->users);
}

/* Labelled rows of a part that the model has seen; rows without text leave by themselves. */
static int take_rows(struct held *held, const struct trajectory *trajectory, const struct chain *chain, uint8_t part,
                     struct error *err)
{
    size_t most = trajectory->count + 1;
    *held = (struct held){calloc(most * chain->exits, sizeof *held->logits), calloc(most, sizeof *held->labels),
                          calloc(most, sizeof *held->users), 0};
    if (held->logits == NULL || held->labels == NULL || held->users == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for calibrating on %zu rows", trajectory->count);
    for (size_t i = 0; i < trajectory->count; i++) {
        const struct trajectory_row *row = &trajectory->rows[i];
        const float *logits = &trajectory->logits[i * trajectory->reading_count];
        if (row->part != part || row->label == TRAJECTORY_UNLABELLED ||
            isnan(logits[chain->readings[chain->exits - 1]]))
            continue;
        for (size_t e = 0; e < chain->exits; e++)
            held->logits[held->count * chain->exits + e] = (double)logits[chain->readings[e]];
        held->labels[held->count] = row->label;
        held->users[held->count++] = row->user;
    }
    return 0;
}

int evaluate_calibrate(const struct trajectory *trajectory, const char *set, bool exit0, double max_loss, float *leave,
                       struct error *err)
{
    struct chain chain;
    struct held held;
    struct calibrate_result ignored;
    leave[0] = INFINITY;
    if (make_chain(&chain, trajectory, set, exit0, err) != 0)
        return -1;
    int result = take_rows(&held, trajectory, &chain, TRAJECTORY_CALIBRATE, err);
    if (result == 0) {
        const struct calibrate_settings settings = {chain.exits, chain.cost, max_loss};
        const struct calibrate_rows rows = {held.logits, held.labels, held.users, held.count};
        result = calibrate_leave(&settings, NULL, &rows, exit0 ? leave : leave + 1, &ignored, err);
    }
    held_free(&held);
    return result;
}
