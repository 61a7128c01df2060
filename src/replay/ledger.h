/*
 * ledger.h - proof that replayed traffic let nothing of the future in
 *
 * Who drives logged traffic through a worker, an event only after the answers to the requests that ask for it, enters
 * every step here as it happens. The ledger knows what had been produced when a request went out, so the state that a
 * response reports must be exactly that: more, and something was let in early; less, and the worker had not caught up,
 * which is no leak but no fair score either.
 *
 * What is counted is what the worker counts as an event applied (graph.h): enter no exact repeats and nothing that it
 * refuses.
 *
 * Caveat: a request's timestamp cuts history by itself; the ledger holds both cuts to account, because either alone
 * can hide that the other is broken.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_REPLAY_LEDGER_H
#define HEADRACE_REPLAY_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

enum ledger_verdict {
    LEDGER_CLEAN,
    LEDGER_ANSWER_KNOWN, /* a candidate's rating was produced before the request went out */
    LEDGER_ANSWER_EARLY, /* a candidate's rating is produced before the request's response came */
    LEDGER_AHEAD,        /* the response's state holds more events than had been produced before the request */
    LEDGER_FUTURE,       /* the state's newest event is later than the request's timestamp */
    LEDGER_BEHIND,       /* the state holds fewer: the worker had not caught up; unfair, but nothing leaked */
    LEDGER_UNASKED,      /* a response without an open request: never sent, or answered already */
};

struct ledger_finding {
    enum ledger_verdict verdict;
    char message[256]; /* one line, with ids and numbers; "" when clean */
};

struct ledger;

/* NULL without memory. It remembers every pair and every request: some 100 bytes each. */
struct ledger *ledger_create(void);
void ledger_destroy(struct ledger *ledger);

/*
 * Each enters a step at the moment it is taken and says what is wrong with it; the step counts all the same. Where
 * several things are wrong the first of the enum's order is told. Functions fail only for lack of memory, or for
 * a request id that was used before.
 */

/* A rating is about to be produced. */
int ledger_event(struct ledger *ledger, struct text user_id, struct text item_id, struct ledger_finding *finding,
                 struct error *err);

/* A request is about to go out. */
int ledger_request(struct ledger *ledger, struct text request_id, struct text user_id, int64_t timestamp_ms,
                   const struct text *item_ids, size_t item_count, struct ledger_finding *finding, struct error *err);

/* A response has come in, with the state that it was computed on (struct graph_state on the wire). */
void ledger_response(struct ledger *ledger, struct text request_id, int64_t events_applied, int64_t newest_event_ms,
                     struct ledger_finding *finding);

/* Events entered so far. */
int64_t ledger_events(const struct ledger *ledger);

/* Requests without a response. */
size_t ledger_open_requests(const struct ledger *ledger);

#endif
