/*
 * compare.h - two reports' JSON files: is the second worse than the first?
 *
 * Scorers are matched by name, rows by (timestamp, request, user, item) and label; scorers or rows that only one file
 * has are counted and left out. Differences are paired, B's less A's, with 95 % intervals over users.
 *
 * Threads: reentrant.
 */
#ifndef HEADRACE_REPLAY_COMPARE_H
#define HEADRACE_REPLAY_COMPARE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct compare_settings {
    const char *a; /* paths */
    const char *b;
    double tolerance; /* AUC lost or log loss gained that is still no worsening */
    size_t rounds;    /* of the bootstrap; 1000 */
    uint64_t seed;
};

/*
 * Prints a table to `out`. 0: B is no worse; 1: of some scorer AUC fell or log loss rose by more than the tolerance;
 * -1: a file cannot be read, is no report, or they have no scored rows in common (error set; a caller exits with 2).
 */
int compare_reports(const struct compare_settings *settings, FILE *out, struct error *err);

#endif
