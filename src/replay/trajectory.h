/*
 * trajectory.h - what full depth says of logged requests, kept: rows, evidence, labels, every head's logits
 *
 * One pass of the model over labelled traffic gives, for each (request, candidate), the logit of each head on each
 * layer that a rule can look at. Rules, windows, thresholds and calibrations are then worked out from these numbers
 * alone, any number of times.
 *
 * Cost of a row's exit: a request's prefix runs as deep as its deepest row; token layers = prefix_tokens * the deepest
 * exit of the request + sum of tail_tokens * exit over its rows.
 *
 * The file (little-endian; numbers without a size are 64 bits):
 *
 *   "HRTRAJ\0\1"       8 bytes
 *   checksum           XXH3 64 of all that follows
 *   model[64] heads[64] template_hash[17] mode[32] key[17]   texts, each with a NUL
 *   count, reading_count, layers, users, items, requests, feature_count
 *   readings           reading_count * {set[16], exit (4), layer (4)}
 *   rows               count * 48 bytes: timestamp_ms, known_ms (8 each), request, user, item, prefix_tokens,
 * tail_tokens, user_events, item_events (4 each), label, status, part, 0 (1 each) features           count *
 * feature_count floats logits             count * reading_count floats
 *
 * A file of another list of features, of impossible sizes, damaged or cut off is ERROR_BAD_INPUT.
 *
 * Threads: read-only once it is filled; any.
 */
#ifndef HEADRACE_REPLAY_TRAJECTORY_H
#define HEADRACE_REPLAY_TRAJECTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { TRAJECTORY_UNLABELLED = 255 };

enum trajectory_part { TRAJECTORY_TRAIN, TRAJECTORY_CALIBRATE, TRAJECTORY_TEST, TRAJECTORY_PARTS };

struct trajectory_row {
    int64_t timestamp_ms;
    uint32_t request;                    /* rows of one request stand together */
    uint32_t user, item;                 /* numbers, dense from 0 in order of appearance */
    uint8_t label;                       /* 0, 1, TRAJECTORY_UNLABELLED */
    uint8_t status;                      /* enum candidate_status */
    uint8_t part;                        /* enum trajectory_part */
    uint32_t prefix_tokens, tail_tokens; /* of the request's shared prefix (same in its rows), of the candidate; 0 where
                                            nothing was rendered */
    uint32_t user_events, item_events;   /* known before the request */
    int64_t known_ms;                    /* when the label came to be known; INT64_MIN without one */
};

struct trajectory_reading {
    char set[16];         /* "text", "hybrid", "single"; "exit0" */
    uint32_t exit, layer; /* head of the exit at layer `exit` on the hidden state after `layer`; exit 0: 0, 0 */
};

struct trajectory {
    struct trajectory_row *rows;
    size_t count;
    float *features;                     /* (count, EVIDENCE_FEATURES) */
    struct trajectory_reading *readings; /* by set, exit, layer ascending; {"exit0", 0, 0} first when there is one */
    size_t reading_count;
    float *logits; /* (count, reading_count); NaN where the model did not run: the row has no text (cold item) or its
                      part was not asked for (replay_settings.parts). Exit 0 has a logit in every row */
    size_t layers; /* N of the model; 0 without one */
    size_t users, items, requests;
    char model[64], heads[64], template_hash[17], mode[32];
    char key[17]; /* 16 hex digits over all that the numbers depend on: messages, settings, model, heads */
};

/* Written to PATH.tmp and renamed. */
int trajectory_save(const struct trajectory *trajectory, const char *path, struct error *err);

/* ERROR_BAD_INPUT: no such file or not as above; nothing is left to free. */
int trajectory_load(struct trajectory *trajectory, const char *path, struct error *err);

/* A zeroed one is fine. */
void trajectory_free(struct trajectory *trajectory);

/* The place of a reading, SIZE_MAX when it is not there. */
size_t trajectory_find(const struct trajectory *trajectory, const char *set, size_t exit, size_t layer);

#endif
