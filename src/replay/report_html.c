/* report_html.c - the report for people: one page without network */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "replay/report_page.h"
#include "replay/report_plot.h"

/* The file itself becomes part of the program. */
__asm__(".pushsection .rodata\n"
        "report_style:\n"
        ".incbin \"" HEADRACE_SOURCE "/src/replay/html/page.css\"\n"
        ".byte 0\n"
        ".popsection\n");

extern const char report_style[] __attribute__((visibility("hidden")));

void page_put_figure(struct buffer *out, double value, int digits)
{
    if (isfinite(value))
        buffer_printf(out, "%.*f", digits, value);
    else
        buffer_append_string(out, "\xe2\x80\x93");
}

void page_put_signed(struct buffer *out, double value, int digits)
{
    if (isfinite(value))
        buffer_append_string(out, value < 0 ? "\xe2\x88\x92" : "+");
    page_put_figure(out, fabs(value), digits);
}

void page_put_count(struct buffer *out, double value)
{
    char digits[32];
    int size = snprintf(digits, sizeof digits, "%.0f", value);
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            buffer_append_byte(out, ',');
        buffer_append_byte(out, (uint8_t)digits[i]);
    }
}

static void put_tag(struct buffer *out, const char *tag, const char *text)
{
    buffer_printf(out, "<%s>", tag);
    plot_put_text(out, text);
    buffer_printf(out, "</%s>", tag);
}

static void put_heads(struct buffer *out, const char *const heads[], size_t count)
{
    buffer_append_string(out, "<div class=\"scroll\"><table>\n<thead><tr>");
    for (size_t i = 0; i < count; i++)
        put_tag(out, "th", heads[i]);
    buffer_append_string(out, "</tr></thead>\n<tbody>\n");
}

static void end_table(struct buffer *out)
{
    buffer_append_string(out, "</tbody></table></div>\n");
}

static void put_figure_cell(struct buffer *out, double value, int digits)
{
    buffer_append_string(out, "<td>");
    page_put_figure(out, value, digits);
    buffer_append_string(out, "</td>");
}

static void put_count_cell(struct buffer *out, size_t count)
{
    buffer_append_string(out, "<td>");
    page_put_count(out, (double)count);
    buffer_append_string(out, "</td>");
}

/* A figure and its interval, small below it. */
static void put_interval_cell(struct buffer *out, double value, const struct metrics_interval *interval)
{
    buffer_append_string(out, "<td>");
    page_put_figure(out, value, 4);
    if (isfinite(interval->low)) {
        buffer_append_string(out, "<small>");
        page_put_figure(out, interval->low, 3);
        buffer_append_string(out, " to ");
        page_put_figure(out, interval->high, 3);
        buffer_append_string(out, "</small>");
    }
    buffer_append_string(out, "</td>");
}

static void put_difference_cell(struct buffer *out, const struct metrics_difference *difference)
{
    buffer_append_string(out, "<td>");
    page_put_signed(out, difference->value, 4);
    if (isfinite(difference->interval.low)) {
        buffer_append_string(out, "<small>");
        page_put_signed(out, difference->interval.low, 4);
        buffer_append_string(out, " to ");
        page_put_signed(out, difference->interval.high, 4);
        buffer_append_string(out, "</small>");
    }
    buffer_append_string(out, "</td>");
}

static double share_of(const struct evaluate_cost *cost)
{
    return cost->full > 0 ? cost->token_layers / cost->full : NAN;
}

static void put_percent_cell(struct buffer *out, double share)
{
    buffer_append_string(out, "<td>");
    page_put_figure(out, share * 100, 1);
    buffer_append_string(out, isfinite(share) ? " %</td>" : "</td>");
}

static void put_tile(struct buffer *out, double value, int digits, const char *unit, const char *what)
{
    buffer_append_string(out, "<div class=\"tile\"><b>");
    page_put_figure(out, value, digits);
    buffer_printf(out, "%s</b>", isfinite(value) ? unit : "");
    put_tag(out, "span", what);
    buffer_append_string(out, "</div>\n");
}

static void put_tiles(struct buffer *out, const struct report *report)
{
    char what[160];
    buffer_append_string(out, "<div class=\"tiles\">\n");
    const struct report_scorer *bar = &report->scorers[report->comparison];
    snprintf(what, sizeof what, "AUC of %.60s, the bar", bar->name);
    put_tile(out, bar->quality.auc, 4, "", what);
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        if (scorer->kind != SCORER_SERVED || scorer->run != 0)
            continue;
        snprintf(what, sizeof what, "AUC of %.60s", scorer->name);
        put_tile(out, scorer->quality.auc, 4, "", what);
        snprintf(what, sizeof what, "its calibration error (by chance alone %.3f)", scorer->quality.calibration.chance);
        put_tile(out, scorer->quality.calibration.error, 4, "", what);
        put_tile(out, (1 - share_of(&scorer->cost)) * 100, 1, " %", "of full depth\xe2\x80\x99s token layers saved");
    }
    buffer_append_string(out, "</div>\n");
}

static void put_scorer_row(struct buffer *out, const struct report *report, const struct report_scorer *scorer)
{
    const struct report_quality *quality = &scorer->quality;
    bool bar = scorer == &report->scorers[report->comparison];
    buffer_append_string(out, scorer->kind == SCORER_SERVED ? "<tr class=\"own\">" : "<tr>");
    buffer_append_string(out, "<td>");
    plot_put_text(out, scorer->name);
    if (bar)
        buffer_append_string(out, "<small>the others are compared with it</small>");
    else if (quality->rows == 0)
        buffer_append_string(out, "<small>no train rows to learn from</small>");
    buffer_append_string(out, "</td>");
    put_interval_cell(out, quality->auc, &quality->auc_interval);
    put_interval_cell(out, quality->log_loss, &quality->log_loss_interval);
    put_figure_cell(out, quality->calibration.error, 4);
    put_figure_cell(out, quality->normalised_entropy, 3);
    put_figure_cell(out, quality->gauc, 4);
    put_difference_cell(out, &quality->auc_minus);
    put_difference_cell(out, &quality->log_loss_minus);
    put_count_cell(out, quality->rows);
    put_count_cell(out, quality->unscored);
    buffer_append_string(out, "</tr>\n");
}

static void put_scorers(struct buffer *out, const struct report *report)
{
    static const char *const heads[] = {"",     "AUC",          "log loss",          "cal. error", "norm. entropy",
                                        "GAUC", "AUC \xce\x94", "log loss \xce\x94", "rows",       "no score"};
    buffer_append_string(out, "<h2>Models and baselines</h2>\n<p class=\"quiet\">On ");
    page_put_count(out, (double)report->labelled);
    buffer_append_string(out, " labelled test rows of ");
    page_put_count(out, (double)report->users);
    buffer_append_string(out, " users; baselines learned on ");
    page_put_count(out, (double)report->train_rows);
    buffer_append_string(out, " rows, exits calibrated on ");
    page_put_count(out, (double)report->calibrate_rows);
    buffer_append_string(out, ". Small print: 95 % intervals, bootstrap over users. \xce\x94: less ");
    plot_put_text(out, report->scorers[report->comparison].name);
    buffer_append_string(out, ", paired on the rows that both have scores for. Rows without a score are counted, never "
                              "guessed. Normalised entropy is log loss over that of the share of yes; GAUC is AUC "
                              "within users.</p>\n");
    put_heads(out, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < report->scorer_count; i++)
        if (report->scorers[i].run == 0)
            put_scorer_row(out, report, &report->scorers[i]);
    end_table(out);
}

static void put_calibration(struct buffer *out, const struct report *report)
{
    buffer_printf(out,
                  "<h2>Calibration</h2>\n<p class=\"quiet\">Rows in up to %d bins of equal mass: what was predicted "
                  "against what happened, bars are 95 %% intervals. On the dashed line a probability is what it "
                  "says.</p>\n",
                  METRICS_BINS);
    page_put_reliability(out, report);
}

static double speed_of(const struct report *report, const char *name)
{
    for (size_t i = 0; i < report->speed_count; i++)
        if (strcmp(report->speeds[i].name, name) == 0)
            return report->speeds[i].candidates_per_second;
    return NAN;
}

static void put_speeds(struct buffer *out, const struct report *report)
{
    if (report->speed_count == 0)
        return;
    buffer_append_string(out, "<h3>Speed, measured</h3>\n");
    put_heads(out, (const char *const[]){"", "candidates/s"}, 2);
    for (size_t i = 0; i < report->speed_count; i++) {
        buffer_append_string(out, "<tr>");
        put_tag(out, "td", report->speeds[i].name);
        put_figure_cell(out, speed_of(report, report->speeds[i].name), 1);
        buffer_append_string(out, "</tr>\n");
    }
    end_table(out);
}

static void put_exits(struct buffer *out, const struct report *report)
{
    static const char *const heads[] = {"",      "token layers", "at full depth",
                                        "saved", "mean layer",   "log loss over best exit"};
    if (report->headline == REPORT_NONE) {
        put_speeds(out, report);
        return;
    }
    buffer_append_string(out, "<h2>Exits</h2>\n<p class=\"quiet\">A token layer is one token through one layer. A "
                              "request\xe2\x80\x99s prefix runs as deep as its deepest candidate, each candidate as "
                              "deep as its own exit.</p>\n");
    page_put_exits(out, report);
    put_heads(out, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        if (scorer->run != 0 || scorer->kind < SCORER_BEST)
            continue;
        buffer_append_string(out, scorer->kind == SCORER_SERVED ? "<tr class=\"own\">" : "<tr>");
        put_tag(out, "td", scorer->name);
        put_count_cell(out, (size_t)scorer->cost.token_layers);
        put_count_cell(out, (size_t)scorer->cost.full);
        put_percent_cell(out, 1 - share_of(&scorer->cost));
        put_figure_cell(out, scorer->cost.mean_layer, 1);
        put_difference_cell(out, &scorer->increase);
        buffer_append_string(out, "</tr>\n");
    }
    end_table(out);
    put_speeds(out, report);
}

static void put_rule_table(struct buffer *out, const struct report_dial *dial)
{
    static const char *const heads[] = {"", "AUC", "log loss", "over reference", "mean layer", "token layers"};
    char name[64];
    buffer_printf(out, "<details><summary>All %zu settings as a table</summary>\n", dial->test.count);
    put_heads(out, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < dial->test.count; i++) {
        const struct dial_point *point = &dial->test.points[i];
        dial_rule_name(&point->policy.rule, point->max_loss, name, sizeof name);
        buffer_append_string(out, (int)i == dial->chosen ? "<tr class=\"own\"><td>" : "<tr><td>");
        plot_put_text(out, name);
        buffer_append_string(out, (int)i == dial->chosen ? "<small>chosen</small></td>" : "</td>");
        put_figure_cell(out, point->auc, 4);
        put_figure_cell(out, point->log_loss, 4);
        put_difference_cell(out, &point->increase);
        put_figure_cell(out, point->cost.mean_layer, 1);
        put_percent_cell(out, share_of(&point->cost));
        buffer_append_string(out, "</tr>\n");
    }
    end_table(out);
    buffer_append_string(out, "</details>\n");
}

static void put_chosen(struct buffer *out, const struct report *report, const struct report_dial *dial)
{
    char name[64];
    if (dial->test.reference > 0)
        buffer_printf(out, "<p class=\"quiet\">Reference depth: layer %zu, the best single exit. ",
                      dial->test.reference);
    else
        buffer_append_string(out, "<p class=\"quiet\">Reference depth: exit 0, before any layer. ");
    if (dial->chosen == REPORT_NONE) {
        buffer_printf(out, "No setting keeps its log loss within %g of it on the calibrate slice.</p>\n",
                      report->max_loss);
        return;
    }
    const struct dial_point *chosen = &dial->test.points[dial->chosen];
    dial_rule_name(&chosen->policy.rule, chosen->max_loss, name, sizeof name);
    buffer_append_string(out, "Chosen: <b>");
    plot_put_text(out, name);
    buffer_printf(out,
                  "</b>, the cheapest that a head file can carry whose log loss stays within %g of the reference on "
                  "the calibrate slice, with the whole 95 %% interval. On these test rows it costs ",
                  report->max_loss);
    page_put_figure(out, share_of(&chosen->cost) * 100, 1);
    buffer_append_string(out, " % of the token layers and changes log loss by ");
    page_put_signed(out, chosen->increase.value, 4);
    buffer_append_string(out, " (");
    page_put_signed(out, chosen->increase.interval.low, 4);
    buffer_append_string(out, " to ");
    page_put_signed(out, chosen->increase.interval.high, 4);
    buffer_append_string(out, ").</p>\n");
}

static void put_dials(struct buffer *out, const struct report *report)
{
    if (report->dial_count == 0)
        return;
    buffer_append_string(out, "<h2>Exit dial</h2>\n<p class=\"quiet\">What each rule costs and what it is worth on the "
                              "test rows. Thin lines join the thresholds of one rule and window.</p>\n");
    for (size_t i = 0; i < report->dial_count; i++) {
        const struct report_dial *dial = &report->dials[i];
        buffer_append_string(out, "<h3>Heads: ");
        plot_put_text(out, dial->test.set);
        buffer_append_string(out, "</h3>\n");
        put_chosen(out, report, dial);
        page_put_dial(out, dial);
        put_rule_table(out, dial);
    }
}

static void put_ablation(struct buffer *out, const struct report *report)
{
    static const char *const heads[] = {"", "AUC", "log loss", "AUC less full", "log loss less full", "token layers"};
    if (!report->has_ablation)
        return;
    buffer_append_string(out, "<h2>Ablation</h2>\n<p class=\"quiet\">The paper\xe2\x80\x99s rows: text heads with and "
                              "without similar users in the prompt, and with and without early exit.</p>\n");
    put_heads(out, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < REPORT_ABLATIONS; i++) {
        const struct report_ablation *row = &report->ablations[i];
        const struct report_scorer *scorer = row->scorer == REPORT_NONE ? NULL : &report->scorers[row->scorer];
        buffer_append_string(out, "<tr><td>");
        plot_put_text(out, row->name);
        buffer_append_string(out, "<small>");
        plot_put_text(out, scorer == NULL ? "not run" : scorer->name);
        buffer_append_string(out, "</small></td>");
        put_figure_cell(out, scorer == NULL ? NAN : scorer->quality.auc, 4);
        put_figure_cell(out, scorer == NULL ? NAN : scorer->quality.log_loss, 4);
        put_difference_cell(out, &row->auc_minus);
        put_difference_cell(out, &row->log_loss_minus);
        put_percent_cell(out, scorer == NULL ? NAN : share_of(&scorer->cost));
        buffer_append_string(out, "</tr>\n");
    }
    end_table(out);
}

static void put_runs(struct buffer *out, const struct report *report)
{
    static const char *const heads[] = {"",           "AUC",        "log loss",    "log loss \xce\x94",
                                        "cal. error", "mean layer", "token layers"};
    if (report->run_count < 2)
        return;
    buffer_append_string(out, "<h2>Settings crossed</h2>\n<p class=\"quiet\">The same requests under other settings of "
                              "the prompt.</p>\n");
    put_heads(out, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < report->scorer_count; i++) {
        const struct report_scorer *scorer = &report->scorers[i];
        if (scorer->kind < SCORER_BEST)
            continue;
        buffer_append_string(out, "<tr><td>");
        plot_put_text(out, scorer->name);
        if (scorer->run == 0) {
            buffer_append_string(out, "<small>");
            plot_put_text(out, report->runs[0]);
            buffer_append_string(out, "</small>");
        }
        buffer_append_string(out, "</td>");
        put_figure_cell(out, scorer->quality.auc, 4);
        put_figure_cell(out, scorer->quality.log_loss, 4);
        put_difference_cell(out, &scorer->quality.log_loss_minus);
        put_figure_cell(out, scorer->quality.calibration.error, 4);
        put_figure_cell(out, scorer->cost.mean_layer, 1);
        put_percent_cell(out, share_of(&scorer->cost));
        buffer_append_string(out, "</tr>\n");
    }
    end_table(out);
}

static void put_slice(struct buffer *out, const struct report *report, const struct report_slice *slice)
{
    buffer_append_string(out, "<tr>");
    put_tag(out, "td", slice->name);
    put_count_cell(out, slice->rows);
    put_percent_cell(out, (double)slice->yes / (double)slice->rows);
    for (size_t s = 0; s < report->slice_scorer_count; s++) {
        buffer_append_string(out, "<td>");
        page_put_figure(out, slice->auc[s], 4);
        buffer_append_string(out, "<small>");
        page_put_figure(out, slice->log_loss[s], 4);
        buffer_append_string(out, "</small></td>");
    }
    if (report->headline != REPORT_NONE)
        put_difference_cell(out, &slice->auc_minus);
    buffer_append_string(out, "</tr>\n");
}

static void put_slices(struct buffer *out, const struct report *report)
{
    const char *heads[REPORT_SLICE_SCORERS + 4] = {"", "rows", "yes"};
    size_t count = 3;
    for (size_t s = 0; s < report->slice_scorer_count; s++)
        heads[count++] = report->scorers[report->slice_scorers[s]].name;
    buffer_append_string(out, "<h2>Slices</h2>\n<p class=\"quiet\">AUC, below it log loss");
    if (report->headline != REPORT_NONE) {
        heads[count++] = "AUC \xce\x94";
        buffer_append_string(out, ". \xce\x94: ");
        plot_put_text(out, report->scorers[report->headline].name);
        buffer_append_string(out, " less ");
        plot_put_text(out, report->scorers[report->comparison].name);
    }
    buffer_append_string(out, ".</p>\n");
    put_heads(out, heads, count);
    for (size_t i = 0; i < report->slice_count; i++)
        put_slice(out, report, &report->slices[i]);
    end_table(out);
}

static void put_facts(struct buffer *out, const struct report *report)
{
    if (report->fact_count == 0)
        return;
    buffer_append_string(out, "<h2>Settings and provenance</h2>\n<dl>\n");
    for (size_t i = 0; i < report->fact_count; i++) {
        put_tag(out, "dt", report->facts[i].name);
        put_tag(out, "dd", report->facts[i].value);
        buffer_append_byte(out, '\n');
    }
    buffer_append_string(out, "</dl>\n");
}

void report_put_html(const struct report *report, struct buffer *out)
{
    buffer_append_string(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
                              "name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put_tag(out, "title", report->title);
    buffer_append_string(out, "\n<style>\n");
    buffer_append_string(out, report_style);
    buffer_append_string(out, "</style>\n</head>\n<body>\n<main>\n");
    put_tag(out, "h1", report->title);
    buffer_append_string(out, "\n<p class=\"quiet\">");
    plot_put_text(out, report->times);
    buffer_append_string(out, "</p>\n<div class=\"summary\">");
    put_tag(out, "p", report->summary);
    buffer_append_string(out, "</div>\n");
    put_tiles(out, report);
    put_scorers(out, report);
    put_calibration(out, report);
    put_exits(out, report);
    put_dials(out, report);
    put_ablation(out, report);
    put_runs(out, report);
    put_slices(out, report);
    put_facts(out, report);
    buffer_append_string(out, "</main>\n</body>\n</html>\n");
}
