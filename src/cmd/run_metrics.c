#include "cmd/run_metrics.h"

#include <stdio.h>

#include "base/clock.h"
#include "graph/graph.h"
#include "observe/process.h"

static void put_counter(struct metrics *metrics, const char *name, const char *help, uint64_t value)
{
    metrics_single(metrics, name, METRICS_COUNTER, help, (double)value);
}

static void put_gauge(struct metrics *metrics, const char *name, const char *help, double value)
{
    metrics_single(metrics, name, METRICS_GAUGE, help, value);
}

static void put_infos(struct metrics *metrics, const struct run_view *view, bool ready)
{
    metrics_family(metrics, "headrace_build_info", METRICS_GAUGE, "The program; always 1.");
    metrics_put(metrics, METRICS_LABELS({"version", HEADRACE_VERSION}, {"librdkafka", rd_kafka_version_str()}), 1);
    put_gauge(metrics, "headrace_ready", "1: it does what it is there for, as /readyz says.", ready);
    if (view->answering == NULL)
        return;
    const struct answering *answering = view->answering;
    metrics_family(metrics, "headrace_model_info", METRICS_GAUGE, "What answers; always 1.");
    metrics_put(
        metrics,
        METRICS_LABELS({"model", answering->model_id}, {"heads", answering->heads.id},
                       {"rule", setup_rule_name(answering->rule.kind)},
                       {"arithmetic", answering->engine != NULL ? engine_arithmetic(answering->engine) : "none"}),
        1);
}

/* Of one topic, for each class that there is. */
static void put_dead_classes(struct metrics *metrics, const char *topic, const uint64_t *counts)
{
    for (int class = DEAD_FRAMING; class <= DEAD_TOO_LARGE; class ++)
        metrics_put(metrics,
                    METRICS_LABELS({"topic", topic}, {"class", dead_letter_class_name((enum dead_letter_class) class)}),
                    (double)counts[class]);
}

static void put_dead_letters(struct metrics *metrics, const struct run_view *view,
                             const struct materialiser_progress *progress, const struct delivery_totals *delivered)
{
    metrics_family(metrics, "headrace_dead_letters_total", METRICS_COUNTER,
                   "Messages that could not be read or meant nothing, by why.");
    for (int i = 0; view->materialiser != NULL && i < MATERIALISER_TOPICS; i++)
        if (progress->topics[i].name != NULL)
            put_dead_classes(metrics, progress->topics[i].name, progress->topics[i].dead);
    if (view->delivery != NULL)
        put_dead_classes(metrics, view->requests_topic, delivered->dead_classes);
}

static uint64_t dead_of(const struct materialiser_topic *topic)
{
    uint64_t sum = 0;
    for (int class = 0; class < MATERIALISER_DEAD; class ++)
        sum += topic->dead[class];
    return sum;
}

static void put_topics(struct metrics *metrics, const struct materialiser_progress *progress)
{
    const struct materialiser_topic *topics = progress->topics;
    metrics_family(metrics, "headrace_events_total", METRICS_COUNTER, "Messages of the state's topics, by result.");
    for (int i = 0; i < MATERIALISER_TOPICS; i++) {
        if (topics[i].name == NULL)
            continue;
        metrics_put(metrics, METRICS_LABELS({"topic", topics[i].name}, {"result", "applied"}),
                    (double)topics[i].applied);
        metrics_put(metrics, METRICS_LABELS({"topic", topics[i].name}, {"result", "dead"}),
                    (double)dead_of(&topics[i]));
    }
    metrics_family(metrics, "headrace_lag_events", METRICS_GAUGE, "Messages in the log that the state does not hold.");
    for (int i = 0; i < MATERIALISER_TOPICS; i++)
        if (topics[i].name != NULL && topics[i].lag >= 0)
            metrics_put(metrics, METRICS_LABELS({"topic", topics[i].name}), (double)topics[i].lag);
    metrics_family(metrics, "headrace_lag_seconds", METRICS_GAUGE,
                   "Age of the newest message that the state holds, while there are newer ones.");
    for (int i = 0; i < MATERIALISER_TOPICS; i++)
        if (topics[i].name != NULL && topics[i].lag >= 0)
            metrics_put(metrics, METRICS_LABELS({"topic", topics[i].name}), (double)topics[i].lag_ms / 1000);
}

static void put_state(struct metrics *metrics, const struct materialiser_progress *progress)
{
    put_topics(metrics, progress);
    put_gauge(metrics, "headrace_state_caught_up", "1: every topic has been read to its end once.",
              progress->caught_up);
    put_gauge(metrics, "headrace_state_waiting", "1: reading waits for the schema registry.", progress->waiting);
    put_counter(metrics, "headrace_state_commits_total", "Batches committed to the store.", progress->batches);
    put_counter(metrics, "headrace_state_gaps_total", "Gaps in the log that state.on_gap accepted.", progress->gaps);
    put_counter(metrics, "headrace_state_gap_events_total", "Messages in those gaps, as far as offsets tell.",
                progress->gap_messages);
}

static void put_uses(struct metrics *metrics, size_t count, const char *const *uses, const double *bytes)
{
    for (size_t i = 0; i < count; i++)
        metrics_put(metrics, METRICS_LABELS({"use", uses[i]}), bytes[i]);
}

static void put_counts(struct metrics *metrics, const struct graph_counts *counts)
{
    metrics_family(metrics, "headrace_graph_nodes", METRICS_GAUGE, "Users and items that are known.");
    metrics_put(metrics, METRICS_LABELS({"kind", "user"}), (double)(counts->users - counts->erased_users));
    metrics_put(metrics, METRICS_LABELS({"kind", "item"}), (double)counts->items);
    put_gauge(metrics, "headrace_graph_edges", "Current edges between users and items.", (double)counts->edges);
    put_counter(metrics, "headrace_graph_events_total", "Interactions in the store, over all its life.",
                counts->events);
    put_counter(metrics, "headrace_graph_late_events_total", "Interactions too old for graph.window_days.",
                counts->late_events);
    put_gauge(metrics, "headrace_graph_newest_event_timestamp_seconds", "Time of the newest interaction.",
              (double)counts->newest_event_ms / 1000);
    put_gauge(metrics, "headrace_embedding_bound", "How far embeddings may be from an exact recomputation, at most.",
              (double)counts->embedding_bound);
    put_gauge(metrics, "headrace_embedding_epsilon", "Share of its norm by which a node changes before it publishes.",
              (double)counts->embedding_epsilon);
    put_gauge(metrics, "headrace_embedding_backlog", "Nodes that wait to publish a change.",
              (double)counts->embedding_backlog);
    put_counter(metrics, "headrace_embedding_operations_total", "Vectors added to or taken from a node's sums.",
                counts->embedding_operations);
}

static void put_store(struct metrics *metrics, const struct graph *graph)
{
    struct store_memory memory = graph_store_memory(graph);
    metrics_family(metrics, "headrace_store_memory_bytes", METRICS_GAUGE, "Memory of the store, by use.");
    put_uses(
        metrics, 4, (const char *const[]){"cache", "pinned", "buffers", "readers"},
        (const double[]){(double)memory.cache, (double)memory.pinned, (double)memory.buffers, (double)memory.readers});
    metrics_family(metrics, "headrace_store_table_bytes", METRICS_GAUGE, "Tables on the disk, by column family.");
    struct store_size size;
    for (size_t family = 0; (size = graph_store_size(graph, family)).name != NULL; family++)
        metrics_put(metrics, METRICS_LABELS({"family", size.name}), (double)size.bytes);
    put_gauge(metrics, "headrace_store_compaction_pending_bytes", "What compactions have to go through.",
              (double)memory.pending);
    put_gauge(metrics, "headrace_store_delayed_write_bytes_per_second",
              "What writers are slowed down to; 0: they are not.", (double)memory.write_rate);
    put_gauge(metrics, "headrace_store_stopped", "1: writers wait.", memory.stopped);
    metrics_single(metrics, "headrace_store_stall_seconds_total", METRICS_COUNTER,
                   "Writers were slowed down or stopped, since the store was opened.", memory.stalled_seconds);
}

static void put_graph(struct metrics *metrics, struct graph *graph)
{
    graph_read_lock(graph);
    struct graph_counts counts = graph_counts(graph);
    struct graph_memory memory = graph_shared_memory(graph);
    put_store(metrics, graph);
    graph_read_unlock(graph);
    put_counts(metrics, &counts);
    metrics_family(metrics, "headrace_graph_memory_bytes", METRICS_GAUGE, "Memory of the graph, by use.");
    put_uses(metrics, 5, (const char *const[]){"ids", "nodes", "edges", "embeddings", "descriptions"},
             (const double[]){(double)memory.ids, (double)memory.nodes, (double)memory.edges, (double)memory.embeddings,
                              (double)memory.descriptions});
}

static void put_requests(struct metrics *metrics, struct requests *requests)
{
    struct requests_progress progress = requests_progress(requests);
    put_counter(metrics, "headrace_requests_taken_total", "Requests taken from Kafka.", progress.taken);
    put_counter(metrics, "headrace_requests_committed_total", "Offsets of requests known to be committed.",
                progress.committed);
    put_counter(metrics, "headrace_commits_total", "Commits of requests' offsets, outside of transactions.",
                progress.commits);
    put_counter(metrics, "headrace_rebalances_total", "Times that partitions of requests were shared out anew.",
                progress.rebalances);
    put_gauge(metrics, "headrace_requests_lag", "Requests in our partitions that are not committed.",
              (double)progress.lag);
    put_gauge(metrics, "headrace_assigned_partitions", "Partitions of requests that are ours.",
              (double)progress.assigned);
    put_gauge(metrics, "headrace_requests_waiting", "Requests in the queue.", (double)progress.waiting);
    put_gauge(metrics, "headrace_requests_unfinished", "Requests taken and not answered for good yet.",
              (double)progress.unfinished);
    put_gauge(metrics, "headrace_requests_paused", "1: as many as may be taken are, Kafka is not read.",
              progress.paused);
}

static void put_results(struct metrics *metrics, size_t count, const char *const *results, const uint64_t *values)
{
    for (size_t i = 0; i < count; i++)
        metrics_put(metrics, METRICS_LABELS({"result", results[i]}), (double)values[i]);
}

static void put_delivery(struct metrics *metrics, const struct delivery_totals *totals)
{
    metrics_family(metrics, "headrace_answers_total", METRICS_COUNTER, "Answers, by what became of them.");
    put_results(metrics, 3, (const char *const[]){"delivered", "dropped", "refused"},
                (const uint64_t[]){totals->answered, totals->dropped, totals->refused});
    metrics_family(metrics, "headrace_transactions_total", METRICS_COUNTER, "Transactions, by how they ended.");
    put_results(metrics, 3, (const char *const[]){"committed", "aborted", "unclear"},
                (const uint64_t[]){totals->transactions, totals->aborted, totals->unclear});
    put_gauge(metrics, "headrace_answers_pending", "Answers not acknowledged, or not committed, yet.",
              (double)totals->pending);
    put_gauge(metrics, "headrace_producer_queue_messages", "Messages in the producer, waiting for the broker.",
              (double)totals->producer_queue);
}

static void put_statuses(struct metrics *metrics, const struct score_totals *totals)
{
    static const char *const requests[] = {
        [RESPONSE_ERROR] = "error", [RESPONSE_OK] = "ok", [RESPONSE_EXPIRED] = "expired", [RESPONSE_SHED] = "shed"};
    static const char *const candidates[] = {[CANDIDATE_ERROR] = "error",
                                             [CANDIDATE_OK] = "ok",
                                             [CANDIDATE_SHALLOW] = "shallow",
                                             [CANDIDATE_COLD_USER] = "cold_user",
                                             [CANDIDATE_COLD_ITEM] = "cold_item"};
    metrics_family(metrics, "headrace_requests_total", METRICS_COUNTER, "Requests answered, by status.");
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        metrics_put(metrics, METRICS_LABELS({"status", requests[i]}), (double)totals_get(&totals->requests[i]));
    metrics_family(metrics, "headrace_candidates_total", METRICS_COUNTER, "Candidates answered, by status.");
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        metrics_put(metrics, METRICS_LABELS({"status", candidates[i]}), (double)totals_get(&totals->candidates[i]));
}

/* Only layers that have answered: which have an exit is the heads' matter. */
static void put_exits(struct metrics *metrics, const struct score_totals *totals)
{
    char layer[16];
    metrics_family(metrics, "headrace_exits_total", METRICS_COUNTER,
                   "Candidates by the layer whose head answered; 0: exit 0, the evidence alone.");
    for (int i = 0; i < TOTALS_LAYERS; i++) {
        uint64_t count = totals_get(&totals->exits[i]);
        if (count == 0)
            continue;
        snprintf(layer, sizeof layer, "%d", i);
        metrics_put(metrics, METRICS_LABELS({"layer", layer}), (double)count);
    }
}

static void put_histogram(struct metrics *metrics, const char *name, const char *help, const struct buckets *buckets)
{
    struct buckets_counts counts = buckets_read(buckets);
    metrics_family(metrics, name, METRICS_HISTOGRAM, help);
    metrics_put_buckets(metrics, NULL, &counts);
}

static void put_stages(struct metrics *metrics, const struct score_totals *totals)
{
    const struct {
        const char *name;
        const struct buckets *buckets;
    } stages[] = {{"queue", &totals->queue}, {"plan", &totals->plan},       {"render", &totals->render},
                  {"wait", &totals->wait},   {"compute", &totals->compute}, {"send", &totals->send}};
    metrics_family(metrics, "headrace_stage_seconds", METRICS_HISTOGRAM, "How long requests were in each stage.");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        struct buckets_counts counts = buckets_read(stages[i].buckets);
        metrics_put_buckets(metrics, METRICS_LABELS({"stage", stages[i].name}), &counts);
    }
}

static void put_engine(struct metrics *metrics, const struct score_totals *totals)
{
    put_histogram(metrics, "headrace_batch_requests", "Requests in a call of the engine.", &totals->batch_requests);
    put_histogram(metrics, "headrace_batch_candidates", "Candidates in a call of the engine.",
                  &totals->batch_candidates);
    put_histogram(metrics, "headrace_batch_tokens", "Tokens in a call of the engine.", &totals->batch_tokens);
    put_counter(metrics, "headrace_tokens_total", "Tokens of prompts that ran, a prefix once a request.",
                totals_get(&totals->tokens));
    put_counter(metrics, "headrace_token_layers_total", "Tokens times layers computed.",
                totals_get(&totals->token_layers));
    put_counter(metrics, "headrace_token_layers_full_total",
                "Tokens times layers without exits and without kept prefixes.", totals_get(&totals->all_token_layers));
    put_counter(metrics, "headrace_prompts_alone_total", "Prompts that ran once more alone, as their batch had failed.",
                totals_get(&totals->alone));
    put_gauge(metrics, "headrace_requests_planned", "Requests that wait for the model, wholly or in part.",
              (double)totals_get(&totals->waiting));
    put_gauge(metrics, "headrace_overload_layer", "The deepest layer that the load allows now.",
              (double)totals_get(&totals->layers));
    put_histogram(metrics, "headrace_shadow_difference", "How far an answer is from that at the reference depth.",
                  &totals->shadow);
}

static void put_prefix_cache(struct metrics *metrics, const struct score_totals *totals)
{
    put_counter(metrics, "headrace_prefix_cache_hits_total", "Chunks of prefixes that were kept.",
                totals_get(&totals->prefix_hits));
    put_counter(metrics, "headrace_prefix_cache_misses_total", "Chunks of prefixes that were computed.",
                totals_get(&totals->prefix_misses));
    put_counter(metrics, "headrace_prefix_cache_deepenings_total",
                "Chunks kept that had to be run through more layers.", totals_get(&totals->prefix_deepenings));
    put_counter(metrics, "headrace_prefix_cache_evictions_total", "Chunks given back to make room.",
                totals_get(&totals->prefix_evictions));
    put_gauge(metrics, "headrace_prefix_cache_bytes", "Memory of the chunks that are kept.",
              (double)totals_get(&totals->prefix_bytes));
    put_gauge(metrics, "headrace_prefix_cache_entries", "Chunks that are kept.",
              (double)totals_get(&totals->prefix_entries));
}

static void put_feedback(struct metrics *metrics, struct feedback *feedback)
{
    struct feedback_calibration joined = feedback_calibration(feedback, clock_wall_ms());
    put_gauge(metrics, "headrace_feedback_answers", "Answers of the last hour whose outcome is known.",
              (double)joined.count);
    if (joined.count == 0)
        return;
    put_gauge(metrics, "headrace_feedback_calibration_error", "Their expected calibration error.", joined.error);
    put_gauge(metrics, "headrace_feedback_probability_mean", "Their mean probability.", joined.mean_p);
    put_gauge(metrics, "headrace_feedback_like_ratio", "Share of them that were liked.", joined.mean_yes);
}

void run_put_metrics(struct metrics *metrics, const struct run_view *view, bool ready)
{
    struct materialiser_progress progress = {0};
    struct delivery_totals delivered = {0};
    put_infos(metrics, view, ready);
    process_put_metrics(metrics);
    if (view->materialiser != NULL) {
        progress = materialiser_progress(view->materialiser);
        put_state(metrics, &progress);
    }
    if (view->graph != NULL)
        put_graph(metrics, view->graph);
    if (view->requests != NULL)
        put_requests(metrics, view->requests);
    if (view->delivery != NULL) {
        delivered = delivery_totals(view->delivery);
        put_delivery(metrics, &delivered);
    }
    if (view->totals != NULL) {
        put_statuses(metrics, view->totals);
        put_exits(metrics, view->totals);
        put_stages(metrics, view->totals);
        put_engine(metrics, view->totals);
        put_prefix_cache(metrics, view->totals);
    }
    if (view->feedback != NULL)
        put_feedback(metrics, view->feedback);
    put_dead_letters(metrics, view, &progress, &delivered);
}
