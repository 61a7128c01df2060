/* report_summary.c - what the figures say, in words */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "replay/report_tables.h"

enum { LEAST_ROWS = 50 }; /* a bootstrap of fewer says more than it knows */

static void put_signed(struct buffer *out, double value)
{
    buffer_printf(out, "%s%.4f", value < 0 ? "\xe2\x88\x92" : "+", fabs(value));
}

static void put_difference(struct buffer *out, const struct metrics_difference *difference)
{
    put_signed(out, difference->value);
    buffer_append_string(out, " (95 % interval ");
    put_signed(out, difference->interval.low);
    buffer_append_string(out, " to ");
    put_signed(out, difference->interval.high);
    buffer_append_string(out, ")");
}

/* What of a difference of AUC one may say. */
static const char *verdict(const struct metrics_difference *difference, const char *better, const char *worse,
                           const char *same)
{
    if (difference->interval.low > 0)
        return better;
    return difference->interval.high < 0 ? worse : same;
}

static void put_main(struct buffer *out, const struct report *report)
{
    const struct report_scorer *text = &report->scorers[report->headline], *bar = &report->scorers[report->comparison];
    const struct metrics_difference *auc = &text->quality.auc_minus;
    bool beyond = strcmp(text->set, "hybrid") == 0; /* it has the evidence, too */
    if (isnan(auc->value) || isnan(auc->interval.low)) {
        buffer_append_string(out, "Whether the text adds anything beyond the evidence cannot be told from these rows: "
                                  "both labels and at least two users are needed.");
        return;
    }
    buffer_append_string(
        out, beyond ? verdict(auc, "The text adds to the evidence: ", "The text takes away from the evidence: ",
                              "The text adds nothing measurable beyond the evidence: ")
                    : verdict(auc, "The text alone is worth more than the evidence: ",
                              "The text alone is worth less than the evidence: ",
                              "The text alone and the evidence cannot be told apart: "));
    buffer_printf(out, "%s has an AUC of %.4f, %s %.4f on the same rows, a difference of ", text->name,
                  text->quality.auc, bar->name, text->quality.auc - auc->value);
    put_difference(out, auc);
    buffer_append_string(out, "; log loss ");
    put_difference(out, &text->quality.log_loss_minus);
    buffer_append_string(out, ".");
}

static void put_cold_items(struct buffer *out, const struct report *report)
{
    for (size_t i = 0; i < report->slice_count; i++) {
        const struct report_slice *slice = &report->slices[i];
        const struct metrics_difference *auc = &slice->auc_minus;
        if (strncmp(slice->name, "cold items", 10) != 0)
            continue;
        buffer_printf(out, " For cold items (fewer than 5 events, %zu rows) ", slice->rows);
        if (slice->rows < LEAST_ROWS || isnan(auc->value) || isnan(auc->interval.low)) {
            buffer_append_string(out, "nothing can be said: they are too few.");
            return;
        }
        buffer_append_string(
            out, verdict(auc, "it does better: ", "it does worse: ", "there is no measurable difference: "));
        buffer_append_string(out, "AUC ");
        put_difference(out, auc);
        buffer_append_string(out, ".");
        return;
    }
    buffer_append_string(out, " No labelled test row has a cold item (fewer than 5 events).");
}

int report_summarise(struct report *report, struct error *err)
{
    struct buffer out = {0};
    if (report->headline == REPORT_NONE) {
        buffer_append_string(&out, "No language model ran: this report is about the evidence alone.");
    } else {
        put_main(&out, report);
        put_cold_items(&out, report);
    }
    report->summary = report_text(report, "%s", buffer_string(&out));
    int result = buffer_check(&out, "summing up", err);
    buffer_free(&out);
    if (result == 0 && report->summary == NULL)
        result = error_set(err, ERROR_FATAL, "out of memory for the summary");
    return result;
}
