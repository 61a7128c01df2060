/* report_json.c - the report for programs: JSON and CSV */
#include <math.h>
#include <string.h>

#include "replay/report_tables.h"

static void put_number(struct buffer *out, double value)
{
    if (isfinite(value))
        buffer_printf(out, "%.9g", value);
    else
        buffer_append_string(out, "null");
}

static void put_key(struct buffer *out, const char *key)
{
    buffer_append_json(out, text_of(key));
    buffer_append_string(out, ": ");
}

static void put_field(struct buffer *out, const char *key, double value)
{
    put_key(out, key);
    put_number(out, value);
    buffer_append_string(out, ", ");
}

static void put_text_field(struct buffer *out, const char *key, const char *value)
{
    put_key(out, key);
    buffer_append_json(out, text_of(value));
    buffer_append_string(out, ", ");
}

static void put_interval(struct buffer *out, const struct metrics_interval *interval)
{
    buffer_append_string(out, "[");
    put_number(out, interval->low);
    buffer_append_string(out, ", ");
    put_number(out, interval->high);
    buffer_append_string(out, "]");
}

/* {"value": …, "low": …, "high": …} and what follows it. */
static void put_difference(struct buffer *out, const char *key, const struct metrics_difference *difference,
                           const char *after)
{
    put_key(out, key);
    buffer_append_string(out, "{");
    put_field(out, "value", difference->value);
    put_field(out, "low", difference->interval.low);
    put_key(out, "high");
    put_number(out, difference->interval.high);
    buffer_printf(out, "}%s", after);
}

static void put_cost(struct buffer *out, const struct evaluate_cost *cost)
{
    put_field(out, "token_layers", cost->token_layers);
    put_field(out, "token_layers_full", cost->full);
    put_field(out, "token_layers_share", cost->full > 0 ? cost->token_layers / cost->full : NAN);
    put_field(out, "mean_layer", cost->mean_layer);
    put_key(out, "rows_by_exit");
    buffer_append_string(out, "{");
    const char *before = "";
    for (size_t layer = 0; layer < EVALUATE_EXITS; layer++)
        if (cost->by_layer[layer] > 0) {
            buffer_printf(out, "%s\"%zu\": %zu", before, layer, cost->by_layer[layer]);
            before = ", ";
        }
    buffer_append_string(out, "}");
}

static void put_calibration(struct buffer *out, const struct metrics_calibration *calibration)
{
    put_field(out, "ece", calibration->error);
    put_field(out, "ece_chance", calibration->chance);
    put_key(out, "reliability");
    buffer_append_string(out, "[");
    for (size_t i = 0; i < calibration->bin_count; i++) {
        const struct metrics_bin *bin = &calibration->bins[i];
        buffer_printf(out, "%s[%zu, %.9g, %.9g, %.9g, %.9g]", i > 0 ? ", " : "", bin->rows, bin->predicted,
                      bin->observed, bin->low, bin->high);
    }
    buffer_append_string(out, "], ");
}

static void put_scorer(struct buffer *out, const struct report *report, const struct report_scorer *scorer)
{
    static const char *const kinds[] = {[SCORER_BASELINE] = "baseline",
                                        [SCORER_EXIT0] = "exit0",
                                        [SCORER_BEST] = "best exit",
                                        [SCORER_FULL] = "full depth",
                                        [SCORER_SERVED] = "served"};
    const struct report_quality *quality = &scorer->quality;
    buffer_append_string(out, "  {");
    put_text_field(out, "id", scorer->id);
    put_text_field(out, "name", scorer->name);
    put_text_field(out, "kind", kinds[scorer->kind]);
    put_text_field(out, "run", report->runs[scorer->run]);
    put_text_field(out, "set", scorer->set);
    put_text_field(out, "rule", scorer->rule);
    put_field(out, "rows", (double)quality->rows);
    put_field(out, "unscored", (double)quality->unscored);
    put_field(out, "auc", quality->auc);
    put_key(out, "auc_interval");
    put_interval(out, &quality->auc_interval);
    buffer_append_string(out, ", ");
    put_field(out, "log_loss", quality->log_loss);
    put_key(out, "log_loss_interval");
    put_interval(out, &quality->log_loss_interval);
    buffer_append_string(out, ", ");
    put_field(out, "normalised_entropy", quality->normalised_entropy);
    put_field(out, "gauc", quality->gauc);
    put_calibration(out, &quality->calibration);
    put_difference(out, "auc_minus", &quality->auc_minus, ", ");
    put_difference(out, "log_loss_minus", &quality->log_loss_minus, ", ");
    put_difference(out, "increase", &scorer->increase, ", ");
    put_cost(out, &scorer->cost);
    buffer_append_string(out, "}");
}

static void put_dial(struct buffer *out, const struct report_dial *dial)
{
    char name[64];
    buffer_append_string(out, "  {");
    put_text_field(out, "set", dial->test.set);
    put_field(out, "reference", (double)dial->test.reference);
    if (dial->chosen != REPORT_NONE) {
        const struct dial_point *chosen = &dial->test.points[dial->chosen];
        dial_rule_name(&chosen->policy.rule, chosen->max_loss, name, sizeof name);
        put_text_field(out, "chosen", name);
    }
    buffer_append_string(out, "\"points\": [\n");
    for (size_t i = 0; i < dial->test.count; i++) {
        const struct dial_point *point = &dial->test.points[i];
        dial_rule_name(&point->policy.rule, point->max_loss, name, sizeof name);
        buffer_append_string(out, "   {");
        put_text_field(out, "rule", name);
        put_field(out, "auc", point->auc);
        put_field(out, "log_loss", point->log_loss);
        put_difference(out, "increase", &point->increase, ", ");
        put_cost(out, &point->cost);
        buffer_append_string(out, i + 1 < dial->test.count ? "},\n" : "}\n");
    }
    buffer_append_string(out, "  ]}");
}

static void put_slice(struct buffer *out, const struct report *report, const struct report_slice *slice)
{
    buffer_append_string(out, "  {");
    put_text_field(out, "name", slice->name);
    put_field(out, "rows", (double)slice->rows);
    put_field(out, "yes", (double)slice->yes);
    put_key(out, "scorers");
    buffer_append_string(out, "{");
    for (size_t s = 0; s < report->slice_scorer_count; s++) {
        buffer_append_string(out, s > 0 ? ", " : "");
        put_key(out, report->scorers[report->slice_scorers[s]].id);
        buffer_append_string(out, "{");
        put_field(out, "auc", slice->auc[s]);
        put_key(out, "log_loss");
        put_number(out, slice->log_loss[s]);
        buffer_append_string(out, "}");
    }
    buffer_append_string(out, "}, ");
    put_difference(out, "auc_minus", &slice->auc_minus, ", ");
    put_difference(out, "log_loss_minus", &slice->log_loss_minus, "}");
}

static void put_ablation(struct buffer *out, const struct report *report, const struct report_ablation *row)
{
    buffer_append_string(out, "  {");
    put_text_field(out, "name", row->name);
    put_key(out, "scorer");
    if (row->scorer == REPORT_NONE)
        buffer_append_string(out, "null");
    else
        buffer_append_json(out, text_of(report->scorers[row->scorer].id));
    buffer_append_string(out, ", ");
    put_difference(out, "auc_minus", &row->auc_minus, ", ");
    put_difference(out, "log_loss_minus", &row->log_loss_minus, "}");
}

/* "KEY": [ and what `put` writes of each of `count`. */
#define PUT_LIST(out, key, count, put)                                                                                 \
    do {                                                                                                               \
        buffer_printf(out, "\"%s\": [\n", key);                                                                        \
        for (size_t i = 0; i < (count); i++) {                                                                         \
            put;                                                                                                       \
            buffer_append_string(out, i + 1 < (count) ? ",\n" : "\n");                                                 \
        }                                                                                                              \
        buffer_append_string(out, "],\n");                                                                             \
    } while (0)

/* Whole columns: the test rows, then each scorer's probabilities, null where it has none. */
static void put_predictions(struct buffer *out, const struct report *report)
{
#define COLUMN(key, format, value)                                                                                     \
    do {                                                                                                               \
        buffer_append_string(out, "  \"" key "\": [");                                                                 \
        for (size_t i = 0; i < report->row_count; i++)                                                                 \
            buffer_printf(out, "%s" format, i > 0 ? "," : "", value);                                                  \
        buffer_append_string(out, "],\n");                                                                             \
    } while (0)
    buffer_append_string(out, "\"predictions\": {\n");
    COLUMN("timestamp_ms", "%lld", (long long)report->rows[i].timestamp_ms);
    COLUMN("request", "%u", report->rows[i].request);
    COLUMN("user", "%u", report->rows[i].user);
    COLUMN("item", "%u", report->rows[i].item);
    COLUMN("label", "%d", report->rows[i].label == TRAJECTORY_UNLABELLED ? -1 : report->rows[i].label);
#undef COLUMN
    buffer_append_string(out, "  \"p\": {\n");
    for (size_t s = 0; s < report->scorer_count; s++) {
        buffer_append_string(out, "    ");
        put_key(out, report->scorers[s].id);
        buffer_append_string(out, "[");
        for (size_t i = 0; i < report->row_count; i++) {
            buffer_append_string(out, i > 0 ? "," : "");
            put_number(out, report->scorers[s].answers.p[report->row_places[i]]);
        }
        buffer_append_string(out, s + 1 < report->scorer_count ? "],\n" : "]\n");
    }
    buffer_append_string(out, "  }\n}\n");
}

void report_put_json(const struct report *report, struct buffer *out)
{
    buffer_append_string(out, "{\n\"format\": \"headrace-replay/1\",\n\"times\": ");
    buffer_append_json(out, text_of(report->times));
    buffer_append_string(out, ",\n\"title\": ");
    buffer_append_json(out, text_of(report->title));
    buffer_append_string(out, ",\n\"summary\": ");
    buffer_append_json(out, text_of(report->summary));
    buffer_printf(out,
                  ",\n\"rows\": %zu,\n\"labelled\": %zu,\n\"users\": %zu,\n\"train_rows\": %zu,\n"
                  "\"calibrate_rows\": %zu,\n\"layers\": %zu,\n\"compared_with\": ",
                  report->row_count, report->labelled, report->users, report->train_rows, report->calibrate_rows,
                  report->layers);
    buffer_append_json(out, text_of(report->scorers[report->comparison].id));
    buffer_append_string(out, ",\n\"headline\": ");
    if (report->headline == REPORT_NONE)
        buffer_append_string(out, "null");
    else
        buffer_append_json(out, text_of(report->scorers[report->headline].id));
    buffer_append_string(out, ",\n");
    PUT_LIST(out, "scorers", report->scorer_count, put_scorer(out, report, &report->scorers[i]));
    PUT_LIST(out, "dials", report->dial_count, put_dial(out, &report->dials[i]));
    PUT_LIST(out, "slices", report->slice_count, put_slice(out, report, &report->slices[i]));
    size_t ablations = report->has_ablation ? REPORT_ABLATIONS : 0;
    PUT_LIST(out, "ablation", ablations, put_ablation(out, report, &report->ablations[i]));
    buffer_append_string(out, "\"candidates_per_second\": {");
    for (size_t i = 0; i < report->speed_count; i++) {
        buffer_append_string(out, i > 0 ? ", " : "");
        put_key(out, report->speeds[i].name);
        put_number(out, report->speeds[i].candidates_per_second);
    }
    buffer_append_string(out, "},\n\"settings\": {");
    for (size_t i = 0; i < report->fact_count; i++) {
        buffer_append_string(out, i > 0 ? ",\n  " : "\n  ");
        put_key(out, report->facts[i].name);
        buffer_append_json(out, text_of(report->facts[i].value));
    }
    buffer_append_string(out, "\n},\n");
    put_predictions(out, report);
    buffer_append_string(out, "}\n");
}

/* RFC 4180: in quotes, quotes doubled. */
static void put_cell(struct buffer *out, const char *text)
{
    buffer_append_byte(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            buffer_append_byte(out, '"');
        buffer_append_byte(out, (uint8_t)*text);
    }
    buffer_append_byte(out, '"');
}

static void put_figure(struct buffer *out, double value)
{
    buffer_append_byte(out, ',');
    if (isfinite(value))
        buffer_printf(out, "%.9g", value);
}

static void put_csv_difference(struct buffer *out, const struct metrics_difference *difference)
{
    put_figure(out, difference->value);
    put_figure(out, difference->interval.low);
    put_figure(out, difference->interval.high);
}

void report_put_csv(const struct report *report, struct buffer *out)
{
    buffer_append_string(out, "id,name,run,set,rule,rows,unscored,auc,auc_low,auc_high,log_loss,log_loss_low,"
                              "log_loss_high,ece,normalised_entropy,gauc,auc_minus,auc_minus_low,auc_minus_high,"
                              "log_loss_minus,log_loss_minus_low,log_loss_minus_high,increase,increase_low,"
                              "increase_high,token_layers,token_layers_full,mean_layer\r\n");
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        const struct report_quality *quality = &scorer->quality;
        const char *const texts[] = {scorer->id, scorer->name, report->runs[scorer->run], scorer->set, scorer->rule};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
            buffer_append_string(out, t > 0 ? "," : "");
            put_cell(out, texts[t]);
        }
        put_figure(out, (double)quality->rows);
        put_figure(out, (double)quality->unscored);
        put_csv_difference(out, &(struct metrics_difference){quality->auc, quality->auc_interval});
        put_csv_difference(out, &(struct metrics_difference){quality->log_loss, quality->log_loss_interval});
        put_figure(out, quality->calibration.error);
        put_figure(out, quality->normalised_entropy);
        put_figure(out, quality->gauc);
        put_csv_difference(out, &quality->auc_minus);
        put_csv_difference(out, &quality->log_loss_minus);
        put_csv_difference(out, &scorer->increase);
        put_figure(out, scorer->cost.token_layers);
        put_figure(out, scorer->cost.full);
        put_figure(out, scorer->cost.mean_layer);
        buffer_append_string(out, "\r\n");
    }
}
