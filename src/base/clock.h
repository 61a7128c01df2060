/* clock.h - what time it is: wall time in milliseconds since 1970 (UTC), and time that only runs forward. */
#ifndef HEADRACE_BASE_CLOCK_H
#define HEADRACE_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_monotonic_ns(void);

/* A length of time from clock_monotonic_ns() until now, in milliseconds. */
double clock_since_ms(int64_t start_ns);

/* Writes `wall_ms` as 2026-01-31T12:00:00.000Z; `out` holds 32 bytes. */
void clock_format(int64_t wall_ms, char out[32]);

#endif
