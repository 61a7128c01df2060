/*
 * feedback.h - whether answers still come true: expected calibration error over the last hour of joined feedback
 *
 * An answered candidate is remembered by request and item; when an interaction with a label names that request, the two
 * are joined, once. Of the joined ones of the last hour, by the time of joining, the expected calibration error is
 * told: about ten bins of equal mass by probability, in each the distance between mean probability and share of likes.
 *
 * Memory is fixed, 4.1 MB: the newest quarter of a million answers or so are remembered, joined ones are counts.
 *
 * Caveats: only what has a label counts; where all feedback is clicks and nothing says what was not clicked, the share
 * of likes is 1 and the error says nothing. With few rows it is above 0 by chance, by about 0.4 / sqrt(rows of a bin).
 *
 * Threads: all functions but create and destroy, any thread.
 */
#ifndef HEADRACE_SCORE_FEEDBACK_H
#define HEADRACE_SCORE_FEEDBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct feedback;

int feedback_create(struct feedback **feedback, struct error *err);
void feedback_destroy(struct feedback *feedback); /* NULL is fine */

void feedback_answered(struct feedback *feedback, struct text request_id, struct text item_id, double probability);

/* Whether that was an answer still remembered. `now_ms`: any clock that does not go back by minutes. */
bool feedback_labelled(struct feedback *feedback, struct text request_id, struct text item_id, bool label,
                       int64_t now_ms);

struct feedback_calibration {
    uint64_t count;  /* joined in the last hour */
    double error;    /* expected calibration error; 0 of none */
    double mean_p;   /* of the answers */
    double mean_yes; /* share of likes */
};

struct feedback_calibration feedback_calibration(struct feedback *feedback, int64_t now_ms);

#endif
