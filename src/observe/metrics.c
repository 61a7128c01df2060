#include "observe/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_SIZE = 32 };

/* The shortest decimal that reads back as the same number, in the C locale that the program never leaves. */
static void format_number(double value, char out[NUMBER_SIZE])
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, NUMBER_SIZE, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static void append_escaped(struct buffer *page, char byte, bool quotes)
{
    if (byte == '\\')
        buffer_append_string(page, "\\\\");
    else if (byte == '\n')
        buffer_append_string(page, "\\n");
    else if (byte == '"' && quotes)
        buffer_append_string(page, "\\\"");
    else
        buffer_append_byte(page, (uint8_t)byte);
}

/* Escapes of the format; U+FFFD for each byte that is no UTF-8. */
static void append_text(struct buffer *page, const char *string, bool quotes)
{
    struct text rest = text_of(string);
    while (rest.size > 0) {
        uint32_t code_point;
        size_t size = text_code_point(rest.data, rest.size, &code_point);
        if (size == 0)
            buffer_append_string(page, "\xef\xbf\xbd");
        else if (size == 1)
            append_escaped(page, *rest.data, quotes);
        else
            buffer_append(page, rest.data, size);
        size_t taken = size > 0 ? size : 1;
        rest = (struct text){rest.data + taken, rest.size - taken};
    }
}

void metrics_family(struct metrics *metrics, const char *name, enum metrics_type type, const char *help)
{
    metrics->family = name;
    metrics->help = help;
    metrics->type = type;
    metrics->begun = false;
}

static void begin_family(struct metrics *metrics)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct buffer *page = &metrics->page;
    if (metrics->begun)
        return;
    metrics->begun = true;
    buffer_printf(page, "# HELP %s ", metrics->family);
    append_text(page, metrics->help, false);
    buffer_printf(page, "\n# TYPE %s %s\n", metrics->family, types[metrics->type]);
}

static void append_labels(struct buffer *page, const struct metrics_label *labels, const char *bound)
{
    const char *separator = "{";
    for (; labels != NULL && labels->name != NULL; labels++) {
        buffer_printf(page, "%s%s=\"", separator, labels->name);
        append_text(page, labels->value, true);
        buffer_append_byte(page, '"');
        separator = ",";
    }
    if (bound != NULL) {
        buffer_printf(page, "%sle=\"%s\"", separator, bound);
        separator = ",";
    }
    if (*separator == ',')
        buffer_append_byte(page, '}');
}

static void append_series(struct metrics *metrics, const char *suffix, const struct metrics_label *labels,
                          const char *bound, double value)
{
    char number[NUMBER_SIZE];
    format_number(value, number);
    begin_family(metrics);
    buffer_append_string(&metrics->page, metrics->family);
    buffer_append_string(&metrics->page, suffix);
    append_labels(&metrics->page, labels, bound);
    buffer_printf(&metrics->page, " %s\n", number);
}

void metrics_put(struct metrics *metrics, const struct metrics_label *labels, double value)
{
    if (isfinite(value))
        append_series(metrics, "", labels, NULL, value);
}

void metrics_put_buckets(struct metrics *metrics, const struct metrics_label *labels,
                         const struct buckets_counts *counts)
{
    char bound[NUMBER_SIZE];
    for (size_t i = 0; i < counts->count; i++) {
        format_number(counts->bounds[i], bound);
        append_series(metrics, "_bucket", labels, bound, (double)counts->up_to[i]);
    }
    append_series(metrics, "_bucket", labels, "+Inf", (double)counts->up_to[counts->count]);
    append_series(metrics, "_sum", labels, NULL, counts->sum);
    append_series(metrics, "_count", labels, NULL, (double)counts->up_to[counts->count]);
}

void metrics_single(struct metrics *metrics, const char *name, enum metrics_type type, const char *help, double value)
{
    metrics_family(metrics, name, type, help);
    metrics_put(metrics, NULL, value);
}

int metrics_end(struct metrics *metrics, struct error *err)
{
    return buffer_check(&metrics->page, "writing metrics", err);
}

void metrics_free(struct metrics *metrics)
{
    buffer_free(&metrics->page);
}
