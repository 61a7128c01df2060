/*
 * join.h - which requests a log holds, and what came of each candidate
 *
 * The rules are loop.h's. Labels are worked out from the whole log before anything is planned, which is no leak: they
 * enter rows, never the graph, and each says when it came to be known.
 *
 * Threads: reentrant.
 */
#ifndef HEADRACE_REPLAY_JOIN_H
#define HEADRACE_REPLAY_JOIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"
#include "base/text.h"
#include "graph/graph.h"
#include "replay/source.h"
#include "replay/trajectory.h"

struct join_settings {
    const struct graph_settings *graph; /* what a like is */
    int64_t label_window_ms;
    bool untimed; /* one event of each user, drawn with the seed, is its only request */
    uint64_t seed;
};

struct joined_request {
    int64_t timestamp_ms;
    const struct score_request *logged; /* NULL: made of events */
    struct text user_id;
    size_t first_row, row_count;
};

struct joined {
    struct joined_request *requests; /* in order of time */
    size_t request_count;
    struct trajectory_row *rows; /* timestamp, request, label and when it was known, user and item */
    struct text *item_ids;       /* (row_count), the log's */
    size_t row_count;
    bool *targets; /* (messages) untimed: events that are a request's answer and must never be learned; else NULL */
    size_t users, items;
};

/* `messages` are in order. ERROR_BAD_INPUT: no request can be made of them. */
int join_requests(struct joined *joined, const struct source_message *messages, size_t count,
                  const struct join_settings *settings, struct error *err);
void joined_free(struct joined *joined);

/*
 * Leaves those requests only that `keep` says; numbers of requests, users and items are dense again, in order of
 * appearance.
 */
int joined_keep(struct joined *joined, bool (*keep)(void *context, const struct joined_request *request), void *context,
                struct error *err);

#endif
