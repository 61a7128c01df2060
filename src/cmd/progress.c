#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_WIDTH = 30, DRAW_MS = 100, LINE_MS = 5000 };

void progress_begin(struct progress *progress, const char *what, const char *unit)
{
    int64_t now_ns = clock_monotonic_ns();
    *progress = (struct progress){
        .what = what, .unit = unit, .terminal = isatty(STDERR_FILENO) == 1, .start_ns = now_ns, .shown_ns = now_ns};
}

static double rate(const struct progress *progress, uint64_t done)
{
    double seconds = clock_since_ms(progress->start_ns) / 1000;
    return seconds > 0 ? (double)done / seconds : 0;
}

void progress_show(struct progress *progress, uint64_t done, double share)
{
    if (clock_since_ms(progress->shown_ns) < (progress->terminal ? DRAW_MS : LINE_MS))
        return;
    progress->shown_ns = clock_monotonic_ns();
    char bar[BAR_WIDTH + 1];
    int filled = (int)(share * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "%s  %s [%s] %3.0f %%  %llu %s, %.0f/s%s", progress->terminal ? "\r" : "", progress->what, bar,
            share * 100, (unsigned long long)done, progress->unit, rate(progress, done),
            progress->terminal ? "\x1b[K" : "\n");
    fflush(stderr);
}

void progress_end(struct progress *progress, uint64_t done)
{
    fprintf(stderr, "%s  %s: %llu %s in %.1f s, %.0f/s%s\n", progress->terminal ? "\r" : "", progress->what,
            (unsigned long long)done, progress->unit, clock_since_ms(progress->start_ns) / 1000, rate(progress, done),
            progress->terminal ? "\x1b[K" : "");
}
