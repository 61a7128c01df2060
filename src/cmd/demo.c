/* demo.c - drives logged traffic through a worker, over Kafka alone, and measures its answers */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/demo.h"
#include "cmd/interrupt.h"
#include "cmd/progress.h"
#include "cmd/setup.h"

enum { EXAMPLES = 3, LEAST_REQUESTS = 30, LEAST_CANDIDATES = 250, RESPONSE_MEMORY = 64 << 20 };
static const double loaded_share = 0.8;
static const double warm_up_share = 0.4; /* of all ratings: too early to train the regression on */

struct asked {
    const char *ratings, *items, *summary;
    int64_t requests;
    int64_t seconds;
    bool plant_leak;
};

struct drive {
    const struct asked *asked;
    const struct demo_data *data;
    struct traffic *traffic;
    struct demo_report *report;
    struct ledger *ledger;
    struct arena arena;
    size_t learnt;   /* ratings that the baselines know */
    uint64_t events; /* ratings produced */
    uint64_t requests;
    uint64_t candidates;
    double load_seconds;
    int64_t run_id;
};

static int check_interrupt(struct error *err)
{
    return interrupted ? error_set(err, ERROR_FATAL, "interrupted") : 0;
}

static int produce_rating(struct drive *drive, size_t index, struct error *err)
{
    struct interaction event = demo_interaction(drive->data, &drive->data->ratings[index]);
    struct ledger_finding finding;
    if (ledger_event(drive->ledger, event.user_id, event.item_id, &finding, err) != 0)
        return -1;
    demo_report_finding(drive->report, &finding);
    drive->events++;
    return traffic_rating(drive->traffic, &event, err);
}

static int load(struct drive *drive, struct error *err)
{
    const struct demo_data *data = drive->data;
    size_t total = data->title_count + data->first_asked;
    struct progress progress;
    int64_t start_ns = clock_monotonic_ns();
    progress_begin(&progress, "loading into the graph", "messages applied");
    for (size_t i = 0; i < total; i++) {
        int result = i < data->title_count ? traffic_item(drive->traffic, &data->titles[i], err)
                                           : produce_rating(drive, i - data->title_count, err);
        if (result != 0 || check_interrupt(err) != 0)
            return -1;
        uint64_t applied = traffic_applied(drive->traffic);
        progress_show(&progress, applied, (double)applied / (double)total);
    }
    if (traffic_settle(drive->traffic, err) != 0)
        return -1;
    progress_end(&progress, traffic_applied(drive->traffic));
    drive->load_seconds = clock_since_ms(start_ns) / 1000;
    return 0;
}

/* The baselines learn what is earlier than `before_ms`, as the worker's history does. */
static int learn_until(struct drive *drive, size_t produced, int64_t before_ms, struct error *err)
{
    const struct demo_data *data = drive->data;
    for (; drive->learnt < produced && data->ratings[drive->learnt].timestamp_ms < before_ms; drive->learnt++) {
        bool train =
            drive->learnt >= (size_t)((double)data->rating_count * warm_up_share) && drive->learnt < data->first_asked;
        if (demo_report_learn(drive->report, data, drive->learnt, train, err) != 0)
            return -1;
    }
    return 0;
}

/* A rating that is asked for, slipped past the ledger into the worker before the request: the check must notice. */
static int plant_leak(struct drive *drive, const struct demo_request *asked, struct error *err)
{
    const struct demo_rating *last = &drive->data->ratings[asked->ratings[asked->count - 1]];
    struct interaction event = demo_interaction(drive->data, last);
    fprintf(stderr, "planting a leak: user " TEXT_FORMAT "'s rating of item " TEXT_FORMAT " is produced early\n",
            TEXT_ARGS(event.user_id), TEXT_ARGS(event.item_id));
    if (traffic_rating(drive->traffic, &event, err) != 0)
        return -1;
    return traffic_settle(drive->traffic, err);
}

static int ask(struct drive *drive, const struct demo_request *asked, bool explain, struct error *err)
{
    const struct demo_data *data = drive->data;
    const struct demo_rating *first = &data->ratings[asked->ratings[0]];
    struct request_candidate candidates[DEMO_CANDIDATES] = {0};
    struct text item_ids[DEMO_CANDIDATES];
    char id[64];
    for (size_t i = 0; i < asked->count; i++)
        item_ids[i] = candidates[i].item_id = table_key(&data->items, data->ratings[asked->ratings[i]].item);
    snprintf(id, sizeof id, "demo-%" PRId64 "-%" PRIu64, drive->run_id, drive->requests);
    struct score_request request = {.request_id = text_of(id),
                                    .user_id = table_key(&data->users, first->user),
                                    .timestamp_ms = first->timestamp_ms,
                                    .candidates = candidates,
                                    .candidate_count = asked->count,
                                    .explain = explain};
    if (learn_until(drive, asked->ratings[0], first->timestamp_ms, err) != 0 ||
        traffic_settle(drive->traffic, err) != 0)
        return -1;
    if (drive->asked->plant_leak && drive->requests == 0 && plant_leak(drive, asked, err) != 0)
        return -1;

    struct ledger_finding finding;
    struct score_response response;
    double latency_ms;
    if (ledger_request(drive->ledger, request.request_id, request.user_id, request.timestamp_ms, item_ids, asked->count,
                       &finding, err) != 0)
        return -1;
    demo_report_finding(drive->report, &finding);
    drive->requests++;
    drive->candidates += asked->count;
    arena_reset(&drive->arena);
    if (traffic_ask(drive->traffic, &request, &drive->arena, &response, &latency_ms, err) != 0)
        return -1;
    ledger_response(drive->ledger, request.request_id, response.state.events_applied, response.state.newest_event_ms,
                    &finding);
    demo_report_finding(drive->report, &finding);
    return demo_report_response(drive->report, data, asked, &response, latency_ms, explain, err);
}

/* The rest in time order: a request before the first rating that it asks for, then the rating itself. */
static int replay(struct drive *drive, struct error *err)
{
    const struct demo_data *data = drive->data;
    size_t next = 0, every = data->request_count / EXAMPLES;
    int64_t start_ns = clock_monotonic_ns();
    struct progress progress;
    if (learn_until(drive, data->first_asked, INT64_MAX, err) != 0 || demo_report_fit(drive->report, err) != 0)
        return -1;
    progress_begin(&progress, "replaying with requests", "requests answered");
    for (size_t i = data->first_asked; i < data->rating_count; i++) {
        bool late = drive->asked->seconds > 0 && clock_since_ms(start_ns) / 1000 > (double)drive->asked->seconds &&
                    drive->requests >= LEAST_REQUESTS && drive->candidates >= LEAST_CANDIDATES;
        if (!late && next < data->request_count && data->requests[next].ratings[0] == i) {
            bool explain = every > 1 && next % every == every / 2 && next / every < EXAMPLES;
            if (ask(drive, &data->requests[next++], explain, err) != 0)
                return -1;
            progress_show(&progress, next,
                          (double)(i - data->first_asked) / (double)(data->rating_count - data->first_asked));
        }
        if (produce_rating(drive, i, err) != 0 || check_interrupt(err) != 0)
            return -1;
    }
    if (traffic_settle(drive->traffic, err) != 0)
        return -1;
    progress_end(&progress, drive->requests);
    if (next < data->request_count)
        fprintf(stderr, "  %zu of %zu requests were made in %" PRId64 " s (--seconds)\n", next, data->request_count,
                drive->asked->seconds);
    return 0;
}

static int run_demo(const struct asked *asked, const struct config *config, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    struct graph_settings labels = setup_graph(config, true);
    struct demo_data data;
    if (demo_data_load(&data, asked->ratings, asked->items, &labels, loaded_share, (size_t)asked->requests, err) != 0)
        return -1;
    struct drive drive = {.asked = asked, .data = &data, .ledger = ledger_create(), .run_id = clock_wall_ms()};
    arena_init(&drive.arena, RESPONSE_MEMORY);
    int result = drive.ledger == NULL ? error_set(err, ERROR_FATAL, "out of memory") : 0;
    if (result == 0)
        result = demo_report_create(&drive.report, data.request_count * DEMO_CANDIDATES, err);
    if (result == 0)
        result = traffic_open(&drive.traffic, config, &interrupted, err);
    if (result == 0)
        result = load(&drive, err);
    if (result == 0)
        result = replay(&drive, err);
    if (result == 0) {
        struct demo_report_facts facts = {.config = config,
                                          .data = &data,
                                          .load_seconds = drive.load_seconds,
                                          .events = drive.events,
                                          .requests = drive.requests,
                                          .seconds = clock_since_ms(start_ns) / 1000};
        result = demo_report_print(drive.report, &facts, asked->summary, err);
    }
    traffic_close(drive.traffic);
    demo_report_destroy(drive.report);
    ledger_destroy(drive.ledger);
    arena_free(&drive.arena);
    demo_data_free(&data);
    return result;
}

int command_demo(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct asked asked = {.requests = 100, .seconds = 150};
    const struct flag flags[] = {
        {"ratings", "FILE", FLAG_TEXT, &asked.ratings, "RecBole's ml-100k.inter"},
        {"items", "FILE", FLAG_TEXT, &asked.items, "RecBole's ml-100k.item"},
        {"requests", "N", FLAG_NUMBER, &asked.requests, "how many to make, evenly in time (default 100)"},
        {"seconds", "N", FLAG_NUMBER, &asked.seconds, "no more requests after so long, past 30 (default 150; 0: all)"},
        {"summary", "FILE", FLAG_TEXT, &asked.summary, "write the figures there as JSON"},
        {"plant-leak", NULL, FLAG_SWITCH, &asked.plant_leak, "let one answer in early: the check must fail the run"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {
        .command = "demo",
        .operands = "",
        .summary =
            "Drives logged ratings through a worker, over Kafka alone: loads the first 80 %, replays the rest in time\n"
            "order with requests for ratings still to come, and measures the answers against what then came.",
        .example = "headrace demo --config config/demo.yaml --ratings ml-100k.inter --items ml-100k.item --requests 50",
        .flags = flags,
        .flag_count = sizeof flags / sizeof *flags};
    int parsed = flags_parse(&usage, argc, argv);
    if (parsed < 0)
        return parsed == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if (asked.ratings == NULL || asked.items == NULL)
        return flags_wrong(&usage, "--ratings and --items are needed");
    if (asked.requests < 1)
        return flags_wrong(&usage, "--requests must be at least 1");
    struct config *config;
    int code = setup_config("demo", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;
    interrupt_watch();
    struct error err;
    int result = run_demo(&asked, config, &err);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("demo", &err);
}
