/* demo.h - inside cmd/: the parts of `headrace demo` */
#ifndef HEADRACE_CMD_DEMO_H
#define HEADRACE_CMD_DEMO_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/table.h"
#include "config/config.h"
#include "graph/graph.h"
#include "replay/ledger.h"
#include "wire/messages.h"

/* demo_data.c: logged traffic, in memory */

enum { DEMO_CANDIDATES = 10 };

struct demo_rating {
    uint32_t user, item; /* numbers in the tables */
    bool like;
    double value;
    int64_t timestamp_ms;
};

/* A user's next ratings, all with known outcome, asked for when the first of them is due. */
struct demo_request {
    size_t ratings[DEMO_CANDIDATES]; /* indices, ascending */
    size_t count;
};

struct demo_data {
    struct table users, items;
    struct item *titles; /* one a known title, in the file's order */
    size_t title_count;
    struct demo_rating *ratings; /* in time order, ties as in the file */
    size_t rating_count;
    size_t first_asked;            /* ratings before it are only loaded */
    struct demo_request *requests; /* by their first rating */
    size_t request_count;
    struct arena arena;
};

/*
 * Reads RecBole's atomic files, cuts at `loaded_share` and plans at most `requests` requests, spread evenly over the
 * rest: the users' later ratings in groups of ten.
 */
int demo_data_load(struct demo_data *data, const char *ratings_path, const char *items_path,
                   const struct graph_settings *labels, double loaded_share, size_t requests, struct error *err);
void demo_data_free(struct demo_data *data);

struct interaction demo_interaction(const struct demo_data *data, const struct demo_rating *rating);

/* demo_traffic.c: the Kafka side */

struct traffic;

/* Waiting ends with an error when *stop becomes non-zero. */
int traffic_open(struct traffic **traffic, const struct config *config, const volatile sig_atomic_t *stop,
                 struct error *err);
void traffic_close(struct traffic *traffic);

/* Queued for the broker; waits while more than a safe number is under way or not applied by the worker yet. */
int traffic_item(struct traffic *traffic, const struct item *item, struct error *err);
int traffic_rating(struct traffic *traffic, const struct interaction *interaction, struct error *err);

/* Until the worker has committed all that was produced. ERROR_RETRY when it makes no progress for a minute. */
int traffic_settle(struct traffic *traffic, struct error *err);

/* Messages that the worker has committed, of those produced. */
uint64_t traffic_applied(struct traffic *traffic);

/* Sends the request and waits for its response, which lives in `arena`. */
int traffic_ask(struct traffic *traffic, const struct score_request *request, struct arena *arena,
                struct score_response *response, double *latency_ms, struct error *err);

/* demo_report.c: what came of it */

struct demo_report;

int demo_report_create(struct demo_report **report, size_t most_candidates, struct error *err);
void demo_report_destroy(struct demo_report *report);

/* Ratings of the loaded part teach the baselines, in order; the later ones train the regression, too. */
int demo_report_learn(struct demo_report *report, const struct demo_data *data, size_t rating, bool train,
                      struct error *err);
int demo_report_fit(struct demo_report *report, struct error *err);

/* A response beside its known outcomes. `explained` ones are kept as examples and left out of latency and speed. */
int demo_report_response(struct demo_report *report, const struct demo_data *data, const struct demo_request *asked,
                         const struct score_response *response, double latency_ms, bool explained, struct error *err);
int demo_report_finding(struct demo_report *report, const struct ledger_finding *finding);

struct demo_report_facts {
    const struct config *config;
    const struct demo_data *data;
    double load_seconds;
    uint64_t events; /* produced */
    uint64_t requests;
    double seconds; /* the whole run */
};

/* Prints to standard output and writes `path` (NULL: nothing). */
int demo_report_print(struct demo_report *report, const struct demo_report_facts *facts, const char *path,
                      struct error *err);

#endif
