/* clock.h - what time it is: wall time in milliseconds since 1970 (UTC), and time that only runs forward. */
#ifndef HEADRACE_BASE_CLOCK_H
#define HEADRACE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_monotonic_ns(void);

/* A length of time from clock_monotonic_ns() until now, in milliseconds. */
double clock_since_ms(int64_t start_ns);

/* Writes `wall_ms` as 2026-01-31T12:00:00.000Z; `out` holds 32 bytes. */
void clock_format(int64_t wall_ms, char out[32]);

/*
 * Reads what clock_format() writes, or less of it: 2026-01-31, 2026-01-31T12:00, with seconds, with up to 3 digits of
 * them; UTC, also said as Z, or another time as +01:00 behind. Or milliseconds since 1970, digits alone. false:
 * neither.
 */
bool clock_parse(const char *text, int64_t *wall_ms);

#endif
