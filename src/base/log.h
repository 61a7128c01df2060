/*
 * log.h - what the operator reads: one line an event on standard error
 *
 * Human form:  12:00:00.123 warn  stream: partition 3 of interactions paused, queue full
 * JSON form:   {"time":"2026-01-31T12:00:00.123Z","level":"warn","part":"stream","message":"..."}
 *
 * `part` is the directory under src/ that speaks. Control characters in a message are shown as escapes, so that data in
 * it cannot forge a line. A line is written by one write(2).
 *
 * Threads: all functions; log_configure() before the second thread starts.
 */
#ifndef HEADRACE_BASE_LOG_H
#define HEADRACE_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_HUMAN, LOG_JSON };

/* Until called: LOG_INFO, LOG_HUMAN. */
void log_configure(enum log_level least, enum log_format format);

void log_write(enum log_level level, const char *part, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(part, ...) log_write(LOG_DEBUG, part, __VA_ARGS__)
#define log_info(part, ...) log_write(LOG_INFO, part, __VA_ARGS__)
#define log_warn(part, ...) log_write(LOG_WARN, part, __VA_ARGS__)
#define log_error(part, ...) log_write(LOG_ERROR, part, __VA_ARGS__)

#endif
