/*
 * report.h - one replay, or several settings of it, as HTML, JSON and CSV
 *
 * Everything in it follows from trajectories; the one exception, speed, is measured by the caller. The HTML file needs
 * no network: styles and plots are inside. The JSON file holds, beside all figures, the test rows with each scorer's
 * probability, which is what `replay --compare` pairs. The CSV file has a line a scorer.
 *
 * Deterministic: the same input gives the same bytes, apart from one line with times in HTML and JSON.
 *
 * Threads: one at a time.
 */
#ifndef HEADRACE_REPLAY_REPORT_H
#define HEADRACE_REPLAY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "exits/exit_rule.h"
#include "replay/trajectory.h"

/* One set of heads that the trajectory has, as the worker would serve it. */
struct report_set {
    const char *name;      /* "text", "hybrid", "single" */
    struct exit_rule rule; /* that it is served with */
    bool exit0;            /* as struct evaluate_policy has it */
    const float *leave;    /* (exits + 1), exit 0's first; NULL: made on the calibrate slice with `max_loss` */
    size_t reference;      /* layer; SIZE_MAX: found on the calibrate slice */
};

/* A setting of the prompts: all trajectories hold the same requests. */
struct report_run {
    const char *name; /* "candidate", "no retriever", … */
    bool retrieves;   /* similar users have a part in the prompt: what the paper's ablation asks */
    const struct trajectory *trajectory;
};

struct report_speed {
    const char *name; /* "text, calibrated" */
    double candidates_per_second;
};

struct report_fact {
    const char *name;
    const char *value;
};

struct report_settings {
    const char *title;
    const struct report_run *runs; /* the first is the one whose tables are shown in full */
    size_t run_count;
    const struct report_set *sets; /* a set that a run's trajectory lacks is passed over there */
    size_t set_count;
    double max_loss; /* for thresholds of `calibrated` and the chosen point; 0.002 is the default's */
    double l2;       /* exit 0's penalty, as regression_fit() takes it */
    size_t rounds;   /* of the bootstrap; 1000 */
    uint64_t seed;
    const struct report_speed *speeds; /* measured; may be none */
    size_t speed_count;
    const struct report_fact *facts; /* settings and provenance, in this order */
    size_t fact_count;
    const char *times; /* one line: when, how long; the only thing that may differ between two runs */
};

struct report;

/* Everything is computed here; the settings and what they point to may go afterwards. */
int report_create(struct report **report, const struct report_settings *settings, struct error *err);
void report_destroy(struct report *report);

/* The sentence whether the text adds anything beyond the evidence; holds as long as the report. */
const char *report_summary(const struct report *report);

void report_put_html(const struct report *report, struct buffer *out);
void report_put_json(const struct report *report, struct buffer *out);
void report_put_csv(const struct report *report, struct buffer *out);

/* For a terminal: the sentence, and a table of the first run's scorers. */
void report_put_text(const struct report *report, struct buffer *out);

/*
 * The cheapest setting whose log-loss increase over the reference depth stays <= max_loss with its 95 % interval, on
 * the calibrate slice, of the first run's set; false when none does. `leave` gets (exits + 1) thresholds, exit 0's
 * first, INFINITY where nobody leaves: what `--choose` writes into the head file for the rule `calibrated`.
 */
bool report_chosen(const struct report *report, const char *set, struct exit_rule *rule, float *leave, size_t *count);

#endif
