/*
 * report_tables.h - inside replay/: the figures of a report, before anybody writes them down
 *
 * report.c and report_measure.c fill them in, report_html.c, report_json.c and report_csv.c read them. Figures that are
 * not known are NaN, in JSON null, in the others a dash.
 */
#ifndef HEADRACE_REPLAY_REPORT_TABLES_H
#define HEADRACE_REPLAY_REPORT_TABLES_H

#include "base/arena.h"
#include "replay/dial.h"
#include "replay/report.h"

enum scorer_kind {
    SCORER_BASELINE,
    SCORER_EXIT0,
    SCORER_BEST,   /* a set's best single exit by log loss on the calibrate slice */
    SCORER_FULL,   /* a set at full depth */
    SCORER_SERVED, /* a set under the rule that it is served with */
};

struct report_quality {
    size_t rows;     /* with score and label */
    size_t unscored; /* test rows without a score */
    double auc, log_loss, normalised_entropy, gauc;
    struct metrics_interval auc_interval, log_loss_interval;
    struct metrics_calibration calibration;
    struct metrics_difference auc_minus, log_loss_minus; /* of the scorer that all are compared with */
};

struct report_scorer {
    const char *id;   /* "features", "text.served", "RUN/text.best" */
    const char *name; /* "text, best exit (layer 15)" */
    enum scorer_kind kind;
    size_t run;
    const char *set;  /* "" for baselines */
    const char *rule; /* "" for baselines and exit 0 */
    struct evaluate_answers answers;
    struct report_quality quality;
    struct evaluate_cost cost;
    struct metrics_difference increase; /* of log loss over the set's best exit */
};

enum { REPORT_SLICE_SCORERS = 12, REPORT_NONE = -1 };

struct report_slice {
    const char *name;
    size_t rows, yes;                                                 /* labelled test rows */
    double auc[REPORT_SLICE_SCORERS], log_loss[REPORT_SLICE_SCORERS]; /* of report->slice_scorers */
    struct metrics_difference auc_minus, log_loss_minus;              /* of the headline's to the comparison's */
};

struct report_ablation {
    const char *name;
    int scorer;                                          /* REPORT_NONE: was not run */
    struct metrics_difference auc_minus, log_loss_minus; /* of "full" */
};

enum { REPORT_ABLATIONS = 5, REPORT_SETS = 8 };

struct report_dial {
    struct dial test;
    int chosen; /* of its points, on the calibrate slice; REPORT_NONE */
    size_t exits;
};

struct report {
    struct arena arena; /* texts */
    const char *title, *times, *summary, *chosen_by;
    struct report_fact *facts;
    size_t fact_count;
    struct report_speed *speeds;
    size_t speed_count;
    const char **runs;
    size_t run_count;
    size_t layers; /* of the model */
    double max_loss;
    struct trajectory_row *rows; /* the first run's test rows */
    size_t *row_places;          /* of these in answers */
    size_t row_count, labelled, users, train_rows, calibrate_rows;
    struct report_scorer *scorers;
    size_t scorer_count, scorer_capacity;
    int comparison; /* scorer that all are compared with */
    int headline;   /* scorer that shows what the text adds; REPORT_NONE: nothing ran */
    int slice_scorers[REPORT_SLICE_SCORERS];
    size_t slice_scorer_count;
    struct report_slice *slices;
    size_t slice_count, slice_capacity;
    struct report_ablation ablations[REPORT_ABLATIONS];
    bool has_ablation;
    struct report_dial dials[REPORT_SETS];
    size_t dial_count;
};

/* "%…" into the report's memory; NULL without any. */
const char *report_text(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The scorer with that id; REPORT_NONE. */
int report_find(const struct report *report, const char *id);

/* Fills in the scorer's quality and cost, from its answers. */
int report_measure(const struct report *report, const struct report_settings *settings, struct report_scorer *scorer,
                   struct error *err);

/* Quality of `scorer` against report->comparison, and `increase` over its set's best exit. */
int report_measure_differences(const struct report *report, const struct report_settings *settings,
                               struct report_scorer *scorer, struct error *err);

int report_measure_slices(struct report *report, const struct report_settings *settings, struct error *err);
int report_measure_ablations(struct report *report, const struct report_settings *settings, struct error *err);

/* Sets report->summary. */
int report_summarise(struct report *report, struct error *err);

#endif
