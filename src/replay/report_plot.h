/*
 * report_plot.h - inside replay/: plots as SVG
 *
 * Colours are classes of the page's style sheet (html/page.css): "s0" … "s7" are series, told apart by their markers as
 * well.
 */
#ifndef HEADRACE_REPLAY_REPORT_PLOT_H
#define HEADRACE_REPLAY_REPORT_PLOT_H

#include <stddef.h>

#include "base/buffer.h"

enum { PLOT_WIDTH = 460, PLOT_HEIGHT = 300, PLOT_PANEL_WIDTH = 350, PLOT_PANEL_HEIGHT = 270, PLOT_SERIES = 8 };

struct plot_axis {
    const char *label;
    double low, high; /* low < high */
    int digits;       /* of the numbers, behind the point */
    bool percent;     /* numbers are shares */
};

struct plot {
    struct buffer *out;
    struct plot_axis x, y;
    int width, height; /* units of its own; it scales with its place on the page */
};

/* `title` is what a reader without eyes is told. Axes, ticks and labels are drawn. */
void plot_begin(struct plot *plot, const char *title);
void plot_end(struct plot *plot);

/* A series' marker; `tip` (may be NULL) shows under the pointer. What lies outside of the axes is left out. */
void plot_marker(struct plot *plot, size_t series, double x, double y, const char *tip);

/* A ring around a point. */
void plot_ring(struct plot *plot, double x, double y);

/* From (x1, y1) to (x2, y2); `style` is a class: "s3 thin", "diagonal". */
void plot_line(struct plot *plot, const char *style, double x1, double y1, double x2, double y2);

/* A bar on the x axis of `width` in its units, with a number above. */
void plot_bar(struct plot *plot, size_t series, double x, double width, double y, const char *text, const char *tip);

/* The marker alone, for a legend. */
void plot_legend_marker(struct buffer *out, size_t series);

/* The text with what HTML and SVG would take for their own escaped. */
void plot_put_text(struct buffer *out, const char *text);

/* An axis' ends that hold [low, high] with some room. */
void plot_widen(struct plot_axis *axis, double low, double high);

#endif
