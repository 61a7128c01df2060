/*
 * split.h - which rows train, which calibrate, which are judged
 *
 * CHRONOLOGICAL  by global time: the rows' times in order, cut at the shares. Rows of one time are never parted: what
 *                happens at a cut belongs to the later part. A row whose label became known only after its own part's
 *                end would carry the future into it: its label is dropped (impressions near a cut).
 * PAPER          each request by itself, drawn with the seed, as OptiRAG-Rec splits: train rows are then from the same
 *                weeks, users and items as test rows, and their labels later than some of these. What a row itself
 *                knows is still only what was earlier.
 *
 * Threads: all functions are reentrant.
 */
#ifndef HEADRACE_REPLAY_SPLIT_H
#define HEADRACE_REPLAY_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "replay/trajectory.h"

enum split_protocol { SPLIT_CHRONOLOGICAL, SPLIT_PAPER };

struct split {
    enum split_protocol protocol;
    double shares[TRAJECTORY_PARTS]; /* of the rows, any scale: 8:1:1 */
    uint64_t seed;                   /* PAPER */
};

/* "8:1:1" into shares; ERROR_BAD_INPUT when it is not three numbers, none negative, the last above 0. */
int split_parse(const char *text, double shares[TRAJECTORY_PARTS], struct error *err);

/* Parts anew, on a trajectory of any split; labels are dropped as above, so work on a copy to come back. */
int split_rows(struct trajectory_row *rows, size_t count, const struct split *split, struct error *err);

/* The part of a request, PAPER. */
enum trajectory_part split_draw(const struct split *split, uint64_t request);

#endif
