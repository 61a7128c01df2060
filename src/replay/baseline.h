/*
 * baseline.h - what two counters know: the bar that a model's scores must clear
 *
 * The like rate of the item and of the user, as of the events seen so far, smoothed towards a half: (likes + 1) /
 * (events + 2). On ml-100k a logistic regression on the two ranks held-out ratings better than a frozen language model
 * does, so a score is only worth its layers if it beats this.
 *
 * Prequential: for each event first take the rates, then learn it, so no row has seen its own answer. Events of the
 * same time are not history of each other: who replays traffic with such ties looks up all of them before learning the
 * first.
 *
 * Threads: one at a time; baseline_fit() and baseline_predict() are reentrant.
 */
#ifndef HEADRACE_REPLAY_BASELINE_H
#define HEADRACE_REPLAY_BASELINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

struct baseline;

/* NULL without memory. Keeps two counters and the id of each user and item, nothing else. */
struct baseline *baseline_create(void);
void baseline_destroy(struct baseline *baseline);

struct baseline_rates {
    double item; /* in (0, 1); a half: nothing is known */
    double user;
};

/* As of what has been learnt; ids never seen are fine. */
struct baseline_rates baseline_look(const struct baseline *baseline, struct text user_id, struct text item_id);

/* Learns an event. Where `before` is not NULL it gets the rates as they were without it. */
int baseline_observe(struct baseline *baseline, struct text user_id, struct text item_id, bool like,
                     struct baseline_rates *before, struct error *err);

/* P(like) = 1 / (1 + exp(-(bias + item * logit(item rate) + user * logit(user rate)))) */
struct baseline_model {
    double bias;
    double item;
    double user;
};

/*
 * Logistic regression on rows of earlier traffic: minimises the sum of the rows' log losses plus half the squared
 * length of (bias, item, user), which makes the solution unique and finite whatever the rows (for none: all 0). Newton
 * steps, halved where a full one does not descend; the same rows give the same bits. Rates outside (0, 1) are an error.
 */
int baseline_fit(const struct baseline_rates *rates, const bool *likes, size_t count, struct baseline_model *model,
                 struct error *err);

double baseline_predict(const struct baseline_model *model, const struct baseline_rates *rates);

#endif
