/* progress.h - how far a long job is: a bar on a terminal, a line every few seconds elsewhere, on standard error */
#ifndef HEADRACE_CMD_PROGRESS_H
#define HEADRACE_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* being done: "loading" */
    const char *unit; /* "events" */
    bool terminal;
    int64_t start_ns;
    int64_t shown_ns;
};

void progress_begin(struct progress *progress, const char *what, const char *unit);

/* `share` is 0 to 1, 0 when unknown. Cheap to call often: it draws ten times a second at most. */
void progress_show(struct progress *progress, uint64_t done, double share);

/* The last line, with the rate over all. */
void progress_end(struct progress *progress, uint64_t done);

#endif
