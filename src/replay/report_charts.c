/* report_charts.c - the report's plots */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "replay/report_page.h"
#include "replay/report_plot.h"

/* Series of the rules, the same in every plot. */
static const struct {
    const char *name;
    size_t series;
} rules[] = {
    [EXIT_RULE_FULL] = {"full depth", 7},   [EXIT_RULE_RATIO] = {"ratio", 1},
    [EXIT_RULE_LOG_ODDS] = {"log_odds", 2}, [EXIT_RULE_PROBABILITY] = {"probability", 0},
    [EXIT_RULE_FIXED] = {"fixed", 3},       [EXIT_RULE_CONFIDENCE] = {"confidence", 4},
    [EXIT_RULE_PATIENCE] = {"patience", 5}, [EXIT_RULE_CALIBRATED] = {"calibrated", 6},
};

static void put_caption(struct buffer *out, const char *name, const char *detail)
{
    buffer_append_string(out, "<figure><figcaption>");
    plot_put_text(out, name);
    buffer_append_string(out, " <span>");
    plot_put_text(out, detail);
    buffer_append_string(out, "</span></figcaption>\n");
}

static void put_panel(struct buffer *out, const struct report_scorer *scorer)
{
    const struct metrics_calibration *calibration = &scorer->quality.calibration;
    char text[128];
    snprintf(text, sizeof text, "error %.4f", calibration->error);
    put_caption(out, scorer->name, text);
    struct plot plot = {out,
                        {"mean probability", 0, 1, 1, false},
                        {"share of yes", 0, 1, 1, false},
                        PLOT_PANEL_WIDTH,
                        PLOT_PANEL_HEIGHT};
    snprintf(text, sizeof text, "reliability of %.80s", scorer->name);
    plot_begin(&plot, text);
    plot_line(&plot, "diagonal", 0, 0, 1, 1);
    for (size_t i = 0; i < calibration->bin_count; i++) {
        const struct metrics_bin *bin = &calibration->bins[i];
        snprintf(text, sizeof text, "%zu rows: predicted %.3f, observed %.3f (95 %% %.3f to %.3f)", bin->rows,
                 bin->predicted, bin->observed, bin->low, bin->high);
        plot_line(&plot, "s0", bin->predicted, bin->low, bin->predicted, bin->high);
        plot_marker(&plot, 0, bin->predicted, bin->observed, text);
    }
    plot_end(&plot);
    buffer_append_string(out, "</figure>\n");
}

void page_put_reliability(struct buffer *out, const struct report *report)
{
    buffer_append_string(out, "<div class=\"panels\">\n");
    for (size_t i = 0; i < report->slice_scorer_count; i++)
        put_panel(out, &report->scorers[report->slice_scorers[i]]);
    buffer_append_string(out, "</div>\n");
}

static void put_histogram(struct buffer *out, const struct report *report, const struct report_scorer *scorer)
{
    const struct evaluate_cost *cost = &scorer->cost;
    char text[128], tip[128];
    double highest = 0;
    for (size_t layer = 0; layer <= report->layers; layer++)
        highest = fmax(highest, (double)cost->by_layer[layer] / (double)cost->rows);
    snprintf(text, sizeof text, "mean layer %.1f of %zu", cost->mean_layer, report->layers);
    put_caption(out, scorer->name, text);
    double depth = (double)report->layers, step = fmax(depth / 30, 0.5);
    struct plot plot = {out,
                        {"layer of the exit (0: before any layer)", -2 * step, depth + 2 * step, 0, false},
                        {"share of rows", 0, highest * 1.12, 0, true},
                        PLOT_WIDTH,
                        220};
    plot_begin(&plot, "rows by exit");
    for (size_t layer = 0; layer <= report->layers; layer++) {
        if (cost->by_layer[layer] == 0)
            continue;
        double share = (double)cost->by_layer[layer] / (double)cost->rows;
        snprintf(text, sizeof text, share >= 0.0995 ? "%.0f %%" : "%.1f %%", share * 100);
        snprintf(tip, sizeof tip, "layer %zu: %zu rows", layer, cost->by_layer[layer]);
        plot_bar(&plot, 0, (double)layer, fmax(depth / 14, 0.6), share, text, tip);
    }
    plot_end(&plot);
    buffer_append_string(out, "</figure>\n");
}

void page_put_exits(struct buffer *out, const struct report *report)
{
    buffer_append_string(out, "<div class=\"plots\">\n");
    for (size_t i = 0; i < report->scorer_count; i++)
        if (report->scorers[i].kind == SCORER_SERVED && report->scorers[i].run == 0 && report->scorers[i].cost.rows > 0)
            put_histogram(out, report, &report->scorers[i]);
    buffer_append_string(out, "</div>\n");
}

static double cost_of(const struct dial_point *point)
{
    return point->cost.full > 0 ? point->cost.token_layers / point->cost.full : 0;
}

/* Thin lines join the thresholds of one rule and window. */
static void put_lines(struct plot *plot, const struct dial *dial, bool loss)
{
    for (size_t i = 1; i < dial->count; i++) {
        const struct dial_point *from = &dial->points[i - 1], *to = &dial->points[i];
        char style[16];
        if (from->policy.rule.kind != to->policy.rule.kind || from->policy.rule.window != to->policy.rule.window)
            continue;
        snprintf(style, sizeof style, "s%zu thin", rules[to->policy.rule.kind].series);
        plot_line(plot, style, cost_of(from), loss ? from->log_loss : from->auc, cost_of(to),
                  loss ? to->log_loss : to->auc);
    }
}

static void put_dial_plot(struct buffer *out, const struct report_dial *report_dial, bool loss)
{
    const struct dial *dial = &report_dial->test;
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < dial->count; i++) {
        double value = loss ? dial->points[i].log_loss : dial->points[i].auc;
        low = fmin(low, value);
        high = fmax(high, value);
    }
    put_caption(out, loss ? "Log loss" : "AUC", loss ? "lower is better" : "higher is better");
    struct plot plot = {out,
                        {"token layers, share of full depth", -0.03, 1.03, 0, true},
                        {loss ? "log loss" : "AUC", 0, 1, 0, false},
                        PLOT_WIDTH,
                        PLOT_HEIGHT};
    plot_widen(&plot.y, low, high);
    plot_begin(&plot, loss ? "log loss against cost" : "AUC against cost");
    put_lines(&plot, dial, loss);
    for (size_t i = 0; i < dial->count; i++) {
        const struct dial_point *point = &dial->points[i];
        char name[64], tip[160];
        dial_rule_name(&point->policy.rule, point->max_loss, name, sizeof name);
        snprintf(tip, sizeof tip, "%s: %.1f %% of the token layers, AUC %.4f, log loss %.4f", name,
                 cost_of(point) * 100, point->auc, point->log_loss);
        plot_marker(&plot, rules[point->policy.rule.kind].series, cost_of(point), loss ? point->log_loss : point->auc,
                    tip);
    }
    if (report_dial->chosen != REPORT_NONE) {
        const struct dial_point *chosen = &dial->points[report_dial->chosen];
        plot_ring(&plot, cost_of(chosen), loss ? chosen->log_loss : chosen->auc);
    }
    plot_end(&plot);
    buffer_append_string(out, "</figure>\n");
}

static bool has_kind(const struct dial *dial, size_t kind)
{
    for (size_t i = 0; i < dial->count; i++)
        if ((size_t)dial->points[i].policy.rule.kind == kind)
            return true;
    return false;
}

void page_put_dial(struct buffer *out, const struct report_dial *dial)
{
    buffer_append_string(out, "<ul class=\"legend\">\n");
    for (size_t kind = 0; kind < sizeof rules / sizeof *rules; kind++) {
        if (!has_kind(&dial->test, kind))
            continue;
        buffer_append_string(out, "<li>");
        plot_legend_marker(out, rules[kind].series);
        buffer_printf(out, "%s</li>\n", rules[kind].name);
    }
    if (dial->chosen != REPORT_NONE)
        buffer_append_string(out, "<li><svg class=\"key\" viewBox=\"-8 -8 16 16\" aria-hidden=\"true\"><circle "
                                  "class=\"ring\" r=\"6\"/></svg>chosen</li>\n");
    buffer_append_string(out, "</ul>\n<div class=\"plots\">\n");
    put_dial_plot(out, dial, true);
    put_dial_plot(out, dial, false);
    buffer_append_string(out, "</div>\n");
}
