/*
 * run_observe.h - what a running worker tells about itself over HTTP (http.listen)
 *
 * /livez    200 as long as the process answers, from its first moment on.
 * /readyz   200 when it takes requests, or, without the role score, when its state has caught up; else 503. JSON:
 *             {"ready":false,"reasons":[{"part":"state","reason":"…"}],"troubles":[…]}
 *           `reasons` is what keeps it from being ready: parts state, engine, group, worker (it is stopping).
 * `troubles` is what is wrong around it (registry, broker) while it does what it can: they do not make it unready, as
 *           taking a worker away would mend none of them.
 * /metrics  Prometheus' text format 0.0.4. Series appear with the part that they are about.
 *
 * Labels are few and from small sets; no ids of users, items or requests are ever in one. What is marked (a) is a
 * gauge, (h) a histogram; the rest are counters, from 0 at the start of the process unless it says otherwise.
 *
 *   headrace_build_info (a)                 version, librdkafka; always 1
 *   headrace_model_info (a)                 model, heads, rule, arithmetic; always 1
 *   headrace_ready (a)                      1: as /readyz
 *   process_*                               see observe/process.h
 *
 * State (role ingest)
 *   headrace_events_total                   topic, result: applied, dead
 *   headrace_lag_events (a)                 topic; messages in the log that the state does not hold
 *   headrace_lag_seconds (a)                topic; how old the state is, 0 when it has all
 *   headrace_state_caught_up (a)            1: every topic has been read to its end once
 *   headrace_state_commits_total
 *   headrace_state_gaps_total               gaps in the log that state.on_gap accepted, …
 *   headrace_state_gap_events_total         … and messages in them
 *   headrace_state_waiting (a)              1: reading waits for the schema registry
 *
 * Graph
 *   headrace_graph_nodes (a)                kind: user, item
 *   headrace_graph_edges (a)
 *   headrace_graph_events_total             interactions in the store, over all its life; …
 *   headrace_graph_late_events_total        … and those too old for graph.window_days
 *   headrace_graph_newest_event_timestamp_seconds (a)
 *   headrace_graph_memory_bytes (a)         use: ids, nodes, edges, embeddings, descriptions
 *   headrace_embedding_bound (a)            how far embeddings may be from an exact recomputation, at most
 *   headrace_embedding_epsilon (a)          threshold of a push now; above graph.push_threshold under backlog
 *   headrace_embedding_backlog (a)          nodes that wait to publish a change
 *   headrace_embedding_operations_total
 *   headrace_store_memory_bytes (a)         use: cache, pinned (part of cache), buffers, readers
 *   headrace_store_table_bytes (a)          family; on the disk
 *   headrace_store_compaction_pending_bytes (a)
 *   headrace_store_delayed_write_bytes_per_second (a)  0: writers are not slowed down
 *   headrace_store_stopped (a)              1: writers wait
 *   headrace_store_stall_seconds_total      writers were slowed down or stopped, since the store was opened
 *
 * Requests (role score)
 *   headrace_requests_taken_total           from Kafka
 *   headrace_requests_committed_total       offsets known to be committed
 *   headrace_requests_waiting (a)           in the queue
 *   headrace_requests_unfinished (a)        taken, and not answered for good yet
 *   headrace_requests_paused (a)            1: the queue, or what may be unfinished, is full
 *   headrace_requests_lag (a)               messages in our partitions that are not committed
 *   headrace_assigned_partitions (a)
 *   headrace_rebalances_total
 *   headrace_commits_total                  of offsets, outside of transactions
 *   headrace_answers_total                  result: delivered, dropped (the partition was taken away), refused (too
 *                                           large for the topic)
 *   headrace_transactions_total             result: committed, aborted, unclear (a new producer had to settle it)
 *   headrace_answers_pending (a)            not acknowledged, or not committed, yet
 *   headrace_producer_queue_messages (a)
 *   headrace_requests_total                 status: ok, expired, shed, error
 *   headrace_candidates_total               status: ok, shallow, cold_user, cold_item, error
 *   headrace_exits_total                    layer; 0: exit 0, the evidence alone
 *   headrace_stage_seconds (h)              stage: queue, plan, render, wait, compute, send
 *   headrace_batch_requests, _candidates, _tokens (h)   of a call of the engine
 *   headrace_tokens_total                   of prompts that ran
 *   headrace_token_layers_total             computed; …
 *   headrace_token_layers_full_total        … and what they would have been without exits and kept prefixes
 *   headrace_prompts_alone_total            ran once more alone, as their batch had failed
 *   headrace_requests_planned (a)           wait for the model, wholly or in part
 *   headrace_overload_layer (a)             deepest layer that the load allows now
 *   headrace_prefix_cache_hits_total, _misses_total, _deepenings_total, _evictions_total, _bytes (a), _entries (a)
 *   headrace_shadow_difference (h)          |answer - answer at the reference depth| of a candidate
 *   headrace_feedback_answers (a)           answers of the last hour whose outcome is known, and over them: …
 *   headrace_feedback_calibration_error (a), headrace_feedback_probability_mean (a), headrace_feedback_like_ratio (a)
 *
 * Both roles
 *   headrace_dead_letters_total             topic, class: framing, unknown_schema, decode, semantic, too_large
 *
 * Threads: the pages are made in the HTTP server's thread, the other calls are the main thread's.
 */
#ifndef HEADRACE_CMD_RUN_OBSERVE_H
#define HEADRACE_CMD_RUN_OBSERVE_H

#include <stdbool.h>

#include "base/error.h"
#include "cmd/setup.h"
#include "score/feedback.h"
#include "score/totals.h"
#include "stream/delivery.h"
#include "stream/materialiser.h"
#include "stream/requests.h"

/* The parts of a worker that are there; NULL: not yet, not any more, or not its role. */
struct run_view {
    bool ingests, scores; /* roles */
    bool stopping;
    struct graph *graph;
    struct codec *codec;
    struct materialiser *materialiser;
    struct requests *requests;
    const char *requests_topic;
    struct delivery *delivery;
    const struct score_totals *totals;
    struct feedback *feedback;
    const struct answering *answering;
};

struct run_observe;

/* Listens and logs where; *observe is NULL when http.listen is empty. */
int run_observe_start(struct run_observe **observe, const struct config *config, struct error *err);

/*
 * From here on pages show these parts. When it returns no page looks at those of before: call it when a part has come,
 * and before one goes. Without an observer nothing is done.
 */
void run_observe_show(struct run_observe *observe, const struct run_view *view);

/* NULL is fine. */
void run_observe_stop(struct run_observe *observe);

#endif
