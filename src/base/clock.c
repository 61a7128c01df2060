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

/* A number of just so many digits, and `after` behind it unless that is NUL. */
static bool take_digits(const char **text, int digits, char after, int *number)
{
    *number = 0;
    for (int i = 0; i < digits; i++) {
        if ((*text)[i] < '0' || (*text)[i] > '9')
            return false;
        *number = *number * 10 + ((*text)[i] - '0');
    }
    *text += digits;
    if (after == '\0')
        return true;
    return *(*text)++ == after;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar, years from March to February: leap days come last. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + of_year - 719468;
}

static bool is_date(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month >= 1 && month <= 12 && day >= 1 && day <= lengths[month - 1] + (month == 2 && leap);
}

/* Of a second: a dot and 1 to 3 digits. */
static bool take_milliseconds(const char **text, int *milliseconds)
{
    int digits = 0, scale = 100;
    *milliseconds = 0;
    for (++*text; **text >= '0' && **text <= '9'; ++*text, digits++, scale /= 10)
        *milliseconds += scale * (**text - '0');
    return digits >= 1 && digits <= 3;
}

static bool take_zone(const char **text, int *minutes)
{
    int hour, minute, sign = **text == '-' ? -1 : 1;
    *minutes = 0;
    if (**text == 'Z')
        ++*text;
    else if (**text == '+' || **text == '-') {
        ++*text;
        if (!take_digits(text, 2, ':', &hour) || !take_digits(text, 2, '\0', &minute) || hour > 23 || minute > 59)
            return false;
        *minutes = sign * (hour * 60 + minute);
    }
    return true;
}

/* What stands behind the date, milliseconds from its beginning in UTC. */
static bool take_time(const char *text, int64_t *time_ms)
{
    int hour, minute, second = 0, milliseconds = 0, zone;
    if (*text++ != 'T' || !take_digits(&text, 2, ':', &hour) || !take_digits(&text, 2, '\0', &minute))
        return false;
    if (*text == ':') {
        text++;
        if (!take_digits(&text, 2, '\0', &second) || (*text == '.' && !take_milliseconds(&text, &milliseconds)))
            return false;
    }
    if (!take_zone(&text, &zone) || *text != '\0' || hour > 23 || minute > 59 || second > 60)
        return false;
    *time_ms = ((int64_t)(hour * 60 + minute - zone) * 60 + second) * 1000 + milliseconds;
    return true;
}

static bool parse_number(const char *text, int64_t *number)
{
    *number = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(*number, 10, number) || __builtin_add_overflow(*number, *text - '0', number))
            return false;
    return *text == '\0';
}

bool clock_parse(const char *text, int64_t *wall_ms)
{
    int year, month, day;
    int64_t time_ms = 0;
    if (*text != '\0' && parse_number(text, wall_ms))
        return true;
    if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
        !take_digits(&text, 2, '\0', &day) || !is_date(year, month, day))
        return false;
    if (*text != '\0' && !take_time(text, &time_ms))
        return false;
    *wall_ms = days_of(year, month, day) * 86400000 + time_ms;
    return true;
}
