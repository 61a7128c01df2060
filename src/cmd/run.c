/* run.c - the worker: state from events and items, answers to requests */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/run_observe.h"
#include "cmd/setup.h"
#include "cmd/vectors.h"
#include "score/service.h"
#include "stream/delivery.h"
#include "stream/identity.h"
#include "stream/materialiser.h"
#include "stream/requests.h"

enum { STEP_MS = 50, REPORT_MS = 10000, UNFINISHED = 2048, UNFINISHED_BYTES = 32 << 20 };

static volatile sig_atomic_t stop_signals;

static void on_stop_signal(int number)
{
    (void)number;
    if (stop_signals++ > 0) {
        static const char words[] = "headrace run: stopped at the second signal, without draining\n";
        if (write(STDERR_FILENO, words, sizeof words - 1) < 0)
            _exit(EXIT_FAILED);
        _exit(EXIT_FAILED);
    }
}

static void catch_stop_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

struct worker {
    struct config *config;
    struct run_observe *observe; /* NULL: http.listen is empty */
    bool stopping;
    bool rebuild; /* the topics do not fit the state: it is to be dropped, everything read again */
    struct trained trained;
    struct graph *graph;
    struct codec *codec;
    struct answering answering;
    struct scorer *scorer;
    struct feedback *feedback;         /* of our own answers; NULL: not both roles */
    struct materialiser *materialiser; /* NULL: not our role */
    struct requests *requests;         /* NULL: not our role, or not joined yet */
    struct service *service;
    char host[128];
    char identity[IDENTITY_SIZE]; /* in the group and in transactions */
    int64_t reported_ns;
};

/* Pages show what is there by now: to be called when a part has come. */
static void show_parts(struct worker *worker)
{
    const struct config *config = worker->config;
    run_observe_show(worker->observe,
                     &(struct run_view){
                         .ingests = config_includes(config, "roles", "ingest"),
                         .scores = config_includes(config, "roles", "score"),
                         .stopping = worker->stopping,
                         .graph = worker->graph,
                         .materialiser = worker->materialiser,
                         .requests = worker->requests,
                         .requests_topic = config_text(config, "topics.requests"),
                         .delivery = worker->service != NULL ? service_delivery(worker->service) : NULL,
                         .codec = worker->codec,
                         .feedback = worker->feedback,
                         .answering = worker->scorer != NULL ? &worker->answering : NULL,
                         .totals = worker->scorer != NULL ? scorer_totals(worker->scorer) : NULL,
                     });
}

/* To be called before a part goes. */
static void hide_parts(struct worker *worker)
{
    run_observe_show(worker->observe, &(struct run_view){.stopping = true});
}

/* What became of our answers, as the interactions tell it. */
static void take_feedback(void *observer, const struct interaction *interaction)
{
    struct worker *worker = observer;
    if (interaction->request_id.size == 0)
        return;
    enum verdict verdict = graph_verdict(graph_settings(worker->graph), interaction->kind, interaction->has_value,
                                         interaction->value, interaction->has_label, interaction->label);
    if (verdict != VERDICT_NEUTRAL)
        feedback_labelled(worker->feedback, interaction->request_id, interaction->item_id, verdict == VERDICT_LIKE,
                          clock_wall_ms());
}

static int start_materialiser(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    struct materialiser_settings settings = {
        .kafka = setup_kafka(config),
        .topics = setup_topics(config),
        .instance_id = setup_instance(config, worker->host),
        .dead_letters = config_flag(config, "state.dead_letters"),
        .batch_events = (size_t)config_integer(config, "ingest.batch_events"),
        .batch_wait_ms = (int)config_integer(config, "ingest.batch_wait_ms"),
        .max_future_skew_ms = config_integer(config, "ingest.max_future_skew_ms"),
        .message_limit = (size_t)config_integer(config, "ingest.message_limit"),
        .on_gap = (enum gap_policy)config_choice(config, "state.on_gap"),
        .observe = worker->feedback != NULL ? take_feedback : NULL,
        .observer = worker,
    };
    return materialiser_start(&worker->materialiser, &settings, worker->graph, worker->codec, err);
}

static struct batcher_settings setup_batches(const struct config *config)
{
    return (struct batcher_settings){
        .capacity = (size_t)config_integer(config, "score.queue"),
        .max_tokens = (size_t)config_integer(config, "batch.max_tokens"),
        .max_wait_ms = (int)config_integer(config, "batch.max_wait_ms"),
        .overload = (enum order_overload)config_choice(config, "score.overload"),
        .patience_s = (double)config_integer(config, "score.patience_ms") / 1000,
    };
}

static int start_scoring(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    struct kafka_topics topics = setup_topics(config);
    bool exactly_once = config_choice(config, "delivery") == DELIVERY_EXACTLY_ONCE;
    struct requests_settings settings = {.kafka = setup_kafka(config),
                                         .topic = topics.requests,
                                         .group_id = "headrace",
                                         .instance = worker->identity,
                                         .transactional = exactly_once,
                                         .queue_capacity = (size_t)config_integer(config, "score.queue"),
                                         .unfinished_limit = UNFINISHED,
                                         .unfinished_bytes = UNFINISHED_BYTES};
    struct service_settings service = {.kafka = setup_kafka(config),
                                       .topics = topics,
                                       .message_limit = (size_t)config_integer(config, "ingest.message_limit"),
                                       .group_id = settings.group_id,
                                       .instance_id = worker->identity,
                                       .exactly_once = exactly_once,
                                       .batch_requests = (size_t)config_integer(config, "transaction.requests"),
                                       .batch_ms = (int)config_integer(config, "transaction.ms"),
                                       .batch = setup_batches(config)};
    if (identity_read(config_text(config, "state.dir"), setup_instance(config, worker->host), worker->identity, err) !=
        0)
        return -1;
    if (requests_start(&worker->requests, &settings, err) != 0 ||
        service_create(&worker->service, &service, worker->requests, worker->scorer, worker->codec, err) != 0)
        return -1;
    show_parts(worker);
    return 0;
}

static int start(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    bool ingests = config_includes(config, "roles", "ingest"), scores = config_includes(config, "roles", "score");
    struct graph_settings graph = setup_graph(config, !ingests);
    if (run_observe_start(&worker->observe, config, err) != 0)
        return -1;
    show_parts(worker);
    if (trained_open(&worker->trained, config, err) != 0)
        return -1;
    trained_give(&worker->trained, &graph);
    if (setup_codec(config, &worker->codec, err) != 0 || graph_open(&worker->graph, &graph, err) != 0)
        return -1;
    if (scores && codec_write_to(worker->codec, &score_response_type, setup_topics(config).scores, err) != 0)
        return -1;
    if (ingests && scores && feedback_create(&worker->feedback, err) != 0)
        return -1;
    if (ingests && start_materialiser(worker, err) != 0)
        return -1;
    show_parts(worker);
    if (!scores)
        return 0;
    if (setup_answering(config, &worker->answering, err) != 0)
        return -1;
    struct scorer_settings settings = setup_scorer(config, &worker->answering);
    settings.feedback = worker->feedback;
    if (scorer_create(&worker->scorer, &settings, worker->graph, worker->answering.prompt, worker->answering.engine,
                      err) != 0)
        return -1;
    show_parts(worker);
    return 0;
}

/* What the parts' threads have to say; -1 when one has ended. */
static int watch(struct worker *worker, struct error *err)
{
    if (worker->materialiser != NULL && materialiser_progress(worker->materialiser).stopped) {
        struct materialiser *stopped = worker->materialiser;
        hide_parts(worker);
        worker->rebuild = materialiser_progress(stopped).rebuild;
        worker->materialiser = NULL;
        if (materialiser_stop(stopped, err) == 0)
            error_set(err, ERROR_FATAL, "the materialiser has ended");
        return -1;
    }
    return worker->requests == NULL || requests_alive(worker->requests, err) ? 0 : -1;
}

static void report_prefixes(const struct worker *worker)
{
    if (worker->answering.engine == NULL)
        return;
    const struct score_totals *totals = scorer_totals(worker->scorer);
    uint64_t hits = totals_get(&totals->prefix_hits), misses = totals_get(&totals->prefix_misses);
    if (misses == 0)
        return;
    log_info("run",
             "prefix cache: %.0f %% of chunks reused (%llu hits, %llu of them deepened; %llu misses), %llu evicted, "
             "%llu kept in %.0f MiB",
             100 * (double)hits / (double)(hits + misses), (unsigned long long)hits,
             (unsigned long long)totals_get(&totals->prefix_deepenings), (unsigned long long)misses,
             (unsigned long long)totals_get(&totals->prefix_evictions),
             (unsigned long long)totals_get(&totals->prefix_entries),
             (double)totals_get(&totals->prefix_bytes) / (1 << 20));
}

/* How far answers are from those at the reference depth, and from what came of them. */
static void report_quality(const struct worker *worker)
{
    if (worker->scorer == NULL)
        return;
    struct buckets_counts shadow = buckets_read(&scorer_totals(worker->scorer)->shadow);
    uint64_t shadowed = shadow.up_to[shadow.count];
    if (shadowed > 0)
        log_info("run", "shadow: answers are %.4f from those at the reference depth on average, over %llu candidates",
                 shadow.sum / (double)shadowed, (unsigned long long)shadowed);
    if (worker->feedback == NULL)
        return;
    struct feedback_calibration joined = feedback_calibration(worker->feedback, clock_wall_ms());
    if (joined.count > 0)
        log_info("run",
                 "feedback of the last hour: %llu answers joined, expected calibration error %.4f, mean probability "
                 "%.4f, liked %.4f",
                 (unsigned long long)joined.count, joined.error, joined.mean_p, joined.mean_yes);
}

static void report(struct worker *worker)
{
    if (clock_since_ms(worker->reported_ns) < REPORT_MS)
        return;
    worker->reported_ns = clock_monotonic_ns();
    graph_read_lock(worker->graph);
    struct graph_counts counts = graph_counts(worker->graph);
    graph_read_unlock(worker->graph);
    struct service_totals totals = {0};
    size_t waiting = 0;
    if (worker->service != NULL) {
        totals = service_totals(worker->service);
        waiting = requests_progress(worker->requests).waiting;
    }
    log_info("run", "%llu events, %llu users, %llu items, %llu edges; %llu requests answered, %zu waiting",
             (unsigned long long)counts.events, (unsigned long long)counts.users, (unsigned long long)counts.items,
             (unsigned long long)counts.edges, (unsigned long long)totals.answered, waiting);
    report_prefixes(worker);
    report_quality(worker);
}

/* 1: state has caught up, and answers can be written; 0: not yet, or the registry cannot be asked; -1: they never can.
 */
static int is_ready(struct worker *worker, struct error *err)
{
    if (codec_ready(worker->codec, 0, err) != 0)
        return err->kind == ERROR_RETRY ? 0 : -1;
    return worker->materialiser == NULL || materialiser_progress(worker->materialiser).caught_up;
}

/* Requests are taken only once the state has caught up with its topics: an answer on half a graph would be a wrong one.
 */
static int serve_until_stopped(struct worker *worker, struct error *err)
{
    bool scores = worker->scorer != NULL;
    worker->reported_ns = clock_monotonic_ns();
    while (stop_signals == 0) {
        if (watch(worker, err) != 0)
            return -1;
        report(worker);
        int ready = is_ready(worker, err);
        if (ready < 0)
            return -1;
        if (scores && worker->service == NULL && ready > 0) {
            if (start_scoring(worker, err) != 0)
                return -1;
            log_info("run", "ready: state has caught up, taking requests");
        }
        if (worker->service == NULL)
            usleep(STEP_MS * 1000);
        else if (service_step(worker->service, STEP_MS, err) != 0)
            return -1;
    }
    log_info("run", "stopping: finishing what has been taken; a second signal stops at once");
    worker->stopping = true;
    show_parts(worker);
    return worker->service == NULL
               ? 0
               : service_drain(worker->service, config_integer(worker->config, "score.drain_ms"), err);
}

/* Returns -1 with the first thing that went wrong. */
static int stop(struct worker *worker, int result, struct error *err)
{
    struct error late;
    bool ingests = worker->materialiser != NULL;
    if (worker->service != NULL && result == 0) {
        struct service_totals totals = service_totals(worker->service);
        log_info("run", "%llu requests answered, %llu dead letters", (unsigned long long)totals.answered,
                 (unsigned long long)totals.dead_letters);
        report_prefixes(worker);
        report_quality(worker);
    }
    hide_parts(worker);
    service_destroy(worker->service);
    if (worker->requests != NULL)
        requests_stop(worker->requests);
    if (worker->materialiser != NULL && materialiser_stop(worker->materialiser, &late) != 0 && result == 0) {
        *err = late;
        result = -1;
    }
    scorer_destroy(worker->scorer);
    setup_answering_close(&worker->answering);
    if (ingests && result == 0 && graph_save(worker->graph, &late) != 0)
        log_warn("run", "the next start will take longer: %s", late.message);
    graph_close(worker->graph);
    trained_close(&worker->trained);
    codec_destroy(worker->codec);
    feedback_destroy(worker->feedback);
    run_observe_stop(worker->observe);
    return result;
}

/* After a gap, with state.on_gap rebuild, a worker that has nothing takes over from this one. */
static int run(struct worker *worker, struct error *err)
{
    for (;;) {
        int result = start(worker, err);
        if (result == 0)
            result = serve_until_stopped(worker, err);
        result = stop(worker, result, err);
        if (!worker->rebuild)
            return result;
        *worker = (struct worker){.config = worker->config};
        if (graph_drop(config_text(worker->config, "state.dir"), err) != 0)
            return -1;
    }
}

int command_run(int argc, char **argv)
{
    struct config_flags config = {0};
    const struct flag flags[] = {CONFIG_FLAGS(config)};
    const struct usage usage = {.command = "run",
                                .operands = "",
                                .summary = "The worker: materialises events and items, scores requests (option roles).",
                                .example = "headrace run --config config/headrace.yaml --set state.dir=/tmp/state",
                                .flags = flags,
                                .flag_count = sizeof flags / sizeof *flags};
    int parsed = flags_parse(&usage, argc, argv);
    if (parsed < 0)
        return parsed == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    struct worker worker = {0};
    int code = setup_config("run", &config, &worker.config);
    if (code != EXIT_FINE)
        return code;

    catch_stop_signals();
    struct error err;
    int result = run(&worker, &err);
    config_destroy(worker.config);
    return result == 0 ? EXIT_FINE : setup_failed("run", &err);
}
