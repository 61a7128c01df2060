#include "replay/report_plot.h"

#include <math.h>

static const double left = 70, right = 12, top = 12, bottom = 44;

void plot_put_text(struct buffer *out, const char *text)
{
    for (; *text != '\0'; text++)
        switch (*text) {
        case '&':
            buffer_append_string(out, "&amp;");
            break;
        case '<':
            buffer_append_string(out, "&lt;");
            break;
        case '>':
            buffer_append_string(out, "&gt;");
            break;
        case '"':
            buffer_append_string(out, "&quot;");
            break;
        case '\'':
            buffer_append_string(out, "&#39;");
            break;
        default:
            buffer_append_byte(out, (uint8_t)*text);
        }
}

void plot_widen(struct plot_axis *axis, double low, double high)
{
    double room = high > low ? (high - low) * 0.08 : fmax(fabs(high) * 0.05, 1e-3);
    axis->low = low - room;
    axis->high = high + room;
    axis->digits = high - low < 0.02 ? 4 : high - low < 0.2 ? 3 : 2;
}

static double place_x(const struct plot *plot, double x)
{
    return left + (x - plot->x.low) / (plot->x.high - plot->x.low) * (plot->width - left - right);
}

static double place_y(const struct plot *plot, double y)
{
    return plot->height - bottom - (y - plot->y.low) / (plot->y.high - plot->y.low) * (plot->height - top - bottom);
}

static bool inside(const struct plot *plot, double x, double y)
{
    return x >= plot->x.low && x <= plot->x.high && y >= plot->y.low && y <= plot->y.high;
}

/* 1, 2 or 5 times a power of ten, so that there are about five. */
static double tick_step(const struct plot_axis *axis)
{
    double rough = (axis->high - axis->low) / 5, power = pow(10, floor(log10(rough)));
    double share = rough / power;
    return (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10) * power;
}

static void put_tick(struct buffer *out, const struct plot_axis *axis, double value)
{
    value = fabs(value) < 1e-12 ? 0 : value; /* no -0 */
    if (axis->percent)
        buffer_printf(out, "%.0f %%", value * 100);
    else
        buffer_printf(out, "%.*f", axis->digits, value);
}

static void put_x_ticks(struct plot *plot)
{
    double step = tick_step(&plot->x), base = plot->height - bottom;
    for (double at = ceil(plot->x.low / step - 1e-9) * step; at <= plot->x.high + step * 1e-9; at += step) {
        double x = place_x(plot, at);
        buffer_printf(plot->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x, base + 16);
        put_tick(plot->out, &plot->x, at);
        buffer_append_string(plot->out, "</text>");
    }
}

static void put_y_ticks(struct plot *plot)
{
    double step = tick_step(&plot->y);
    for (double at = ceil(plot->y.low / step - 1e-9) * step; at <= plot->y.high + step * 1e-9; at += step) {
        double y = place_y(plot, at);
        buffer_printf(plot->out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", left, y,
                      plot->width - right, y);
        buffer_printf(plot->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 6, y + 4);
        put_tick(plot->out, &plot->y, at);
        buffer_append_string(plot->out, "</text>");
    }
}

void plot_begin(struct plot *plot, const char *title)
{
    struct buffer *out = plot->out;
    double middle = left + (plot->width - left - right) / 2, base = plot->height - bottom;
    buffer_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", plot->width, plot->height);
    plot_put_text(out, title);
    buffer_append_string(out, "\">");
    put_y_ticks(plot);
    if (plot->x.label != NULL) {
        put_x_ticks(plot);
        buffer_printf(out, "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", middle,
                      plot->height - 6);
        plot_put_text(out, plot->x.label);
        buffer_append_string(out, "</text>");
    }
    buffer_printf(out, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", left, base,
                  plot->width - right, base);
    buffer_printf(out, "<text class=\"label\" transform=\"translate(11 %.1f) rotate(-90)\" text-anchor=\"middle\">",
                  top + (base - top) / 2);
    plot_put_text(out, plot->y.label);
    buffer_append_string(out, "</text>\n");
}

void plot_end(struct plot *plot)
{
    buffer_append_string(plot->out, "</svg>\n");
}

static void put_shape(struct buffer *out, size_t series, double x, double y)
{
    static const char *const paths[PLOT_SERIES] = {
        "",                                                            /* a circle */
        "M-4-4h8v8h-8z",                                               /* a square */
        "M0-5L5 4H-5z",                                                /* a triangle */
        "M0-5.5L5.5 0 0 5.5-5.5 0z",                                   /* a diamond */
        "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",           /* a plus */
        "M0 5L5-4H-5z",                                                /* a triangle on its head */
        "M0-6L1.7-2 6-1.9 2.7.8 3.7 5 0 2.6-3.7 5-2.7.8-6-1.9-1.7-2z", /* a star */
        "M-5-2h10v4h-10z",                                             /* a bar */
    };
    size_t shape = series % PLOT_SERIES;
    if (shape == 0)
        buffer_printf(out, "<circle class=\"s0\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.2\"", x, y);
    else
        buffer_printf(out, "<path class=\"s%zu\" d=\"%s\" transform=\"translate(%.1f %.1f)\"", shape, paths[shape], x,
                      y);
}

/* Ends the element that `name` began, with its tip inside. */
static void close_shape(struct buffer *out, const char *name, const char *tip)
{
    if (tip == NULL) {
        buffer_append_string(out, "/>");
        return;
    }
    buffer_append_string(out, "><title>");
    plot_put_text(out, tip);
    buffer_printf(out, "</title></%s>\n", name);
}

void plot_marker(struct plot *plot, size_t series, double x, double y, const char *tip)
{
    if (!inside(plot, x, y))
        return;
    put_shape(plot->out, series, place_x(plot, x), place_y(plot, y));
    close_shape(plot->out, series % PLOT_SERIES == 0 ? "circle" : "path", tip);
}

void plot_ring(struct plot *plot, double x, double y)
{
    if (inside(plot, x, y))
        buffer_printf(plot->out, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"9\"/>\n", place_x(plot, x),
                      place_y(plot, y));
}

void plot_line(struct plot *plot, const char *style, double x1, double y1, double x2, double y2)
{
    if (inside(plot, x1, y1) && inside(plot, x2, y2))
        buffer_printf(plot->out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", style,
                      place_x(plot, x1), place_y(plot, y1), place_x(plot, x2), place_y(plot, y2));
}

void plot_bar(struct plot *plot, size_t series, double x, double width, double y, const char *text, const char *tip)
{
    double from = place_x(plot, x - width / 2), to = place_x(plot, x + width / 2), roof = place_y(plot, y);
    buffer_printf(plot->out, "<rect class=\"s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"",
                  series % PLOT_SERIES, from, roof, to - from, fmax(plot->height - bottom - roof, 0));
    close_shape(plot->out, "rect", tip);
    buffer_printf(plot->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (from + to) / 2,
                  roof - 5);
    plot_put_text(plot->out, text);
    buffer_append_string(plot->out, "</text>\n");
}

void plot_legend_marker(struct buffer *out, size_t series)
{
    buffer_append_string(out, "<svg class=\"key\" viewBox=\"-8 -8 16 16\" aria-hidden=\"true\">");
    put_shape(out, series, 0, 0);
    buffer_append_string(out, "/></svg>");
}
