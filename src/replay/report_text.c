#include <math.h>

#include "replay/report_tables.h"

enum { NAME_WIDTH = 34 };

static void put_figure(struct buffer *out, int width, int digits, double value)
{
    if (isfinite(value))
        buffer_printf(out, "%*.*f", width, digits, value);
    else
        buffer_printf(out, "%*s", width, "-");
}

static void put_scorer(struct buffer *out, const struct report_scorer *scorer)
{
    const struct report_quality *quality = &scorer->quality;
    bool layers = scorer->cost.full > 0 && scorer->kind != SCORER_BASELINE;

    buffer_printf(out, "  %-*s", NAME_WIDTH, scorer->name);
    put_figure(out, 8, 3, quality->auc);
    put_figure(out, 8, 3, quality->auc_interval.low);
    put_figure(out, 6, 3, quality->auc_interval.high);
    put_figure(out, 10, 3, quality->log_loss);
    put_figure(out, 10, 3, quality->calibration.error);
    put_figure(out, 10, 1, layers ? scorer->cost.mean_layer : NAN);
    put_figure(out, 10, 2, layers ? scorer->cost.token_layers / scorer->cost.full : NAN);
    buffer_append_string(out, "\n");
}

void report_put_text(const struct report *report, struct buffer *out)
{
    buffer_printf(out, "%s\n\n  %-*s%8s%14s%10s%10s%10s%10s\n", report_summary(report), NAME_WIDTH, "", "AUC",
                  "95 % interval", "log loss", "cal.error", "layer", "cost");
    for (size_t i = 0; i < report->scorer_count; i++)
        if (report->scorers[i].run == 0)
            put_scorer(out, &report->scorers[i]);
    buffer_printf(out, "  %zu rows of %zu users; layer: the exits' mean; cost: token layers, of full depth's\n",
                  report->labelled, report->users);
    for (size_t i = 0; i < report->speed_count; i++)
        buffer_printf(out, "  %-*s%8.1f candidates/s\n", NAME_WIDTH, report->speeds[i].name,
                      report->speeds[i].candidates_per_second);
}
