/* report_page.h - inside replay/: the page's parts, drawn by report_charts.c and put together by report_html.c */
#ifndef HEADRACE_REPLAY_REPORT_PAGE_H
#define HEADRACE_REPLAY_REPORT_PAGE_H

#include "replay/report_tables.h"

/* Reliability of the scorers that slices show, a panel each. */
void page_put_reliability(struct buffer *out, const struct report *report);

/* How many rows which exit answered, a panel for each scorer that is served. */
void page_put_exits(struct buffer *out, const struct report *report);

/* Log loss and AUC against cost, a pair for each set. */
void page_put_dial(struct buffer *out, const struct report_dial *dial);

/* "0.7612"; a dash for NaN. */
void page_put_figure(struct buffer *out, double value, int digits);

/* "+0.0012", with a real minus. */
void page_put_signed(struct buffer *out, double value, int digits);

/* "12,345" */
void page_put_count(struct buffer *out, double value);

#endif
