#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double clock_since_ms(int64_t start_ns)
{
    return (double)(clock_monotonic_ns() - start_ns) / 1e6;
}

void clock_format(int64_t wall_ms, char out[32])
{
    int64_t seconds = wall_ms / 1000 - (wall_ms % 1000 < 0);
    int milliseconds = (int)(wall_ms - seconds * 1000);
    time_t time = (time_t)seconds;
    struct tm calendar;
    char date[24];
    if (gmtime_r(&time, &calendar) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &calendar) == 0) {
        snprintf(out, 32, "%lldms", (long long)wall_ms);
        return;
    }
    snprintf(out, 32, "%s.%03dZ", date, milliseconds);
}
