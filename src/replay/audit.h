/*
 * audit.h - proof, request by request, that nothing of the future was used
 *
 * Every fact has the time of the newest event in it: the history that the prompt tells, each candidate's evidence, the
 * graph's state behind the embeddings, the events that trained base vectors and heads. Each must be earlier than the
 * request. The times are taken from the facts themselves, not from the cut that was asked for, so that a cut that does
 * not cut is found out. (ledger.h holds the order of traffic through a worker to account; this, what is in a prompt.)
 *
 * Titles, attributes and profiles carry no times: they are as they are in the log.
 *
 * Threads: reentrant.
 */
#ifndef HEADRACE_REPLAY_AUDIT_H
#define HEADRACE_REPLAY_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "score/plan.h"
#include "wire/messages.h"

struct audit {
    int64_t vectors_ms; /* newest event that graph.vectors were trained on; INT64_MIN: none */
    int64_t heads_ms;   /* newest event that the heads were trained on; INT64_MIN: none */
};

/*
 * ERROR_FATAL names the first leak: row (counted on from `first_row`), request, user, item, fact and both times.
 * `judged`: the request's answers are judged, so its heads must not have seen it.
 */
int audit_request(const struct audit *audit, const struct score_request *request, const struct plan *plan,
                  uint64_t first_row, bool judged, struct error *err);

#endif
