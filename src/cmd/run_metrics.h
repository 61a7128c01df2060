/* run_metrics.h - inside cmd/: the families of /metrics, as run_observe.h lists them */
#ifndef HEADRACE_CMD_RUN_METRICS_H
#define HEADRACE_CMD_RUN_METRICS_H

#include "cmd/run_observe.h"
#include "observe/metrics.h"

void run_put_metrics(struct metrics *metrics, const struct run_view *view, bool ready);

#endif
