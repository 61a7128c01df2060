/*
 * process.h - what the operating system says of this process, under the names that Prometheus' own clients use
 *
 * process_cpu_seconds_total, process_start_time_seconds, process_resident_memory_bytes, process_virtual_memory_bytes,
 * process_open_fds, process_max_fds, process_threads. What cannot be found out is left out.
 */
#ifndef HEADRACE_OBSERVE_PROCESS_H
#define HEADRACE_OBSERVE_PROCESS_H

#include "observe/metrics.h"

void process_put_metrics(struct metrics *metrics);

#endif
