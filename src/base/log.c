#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static enum log_level least_level = LOG_INFO;
static enum log_format line_format = LOG_HUMAN;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_configure(enum log_level least, enum log_format format)
{
    least_level = least;
    line_format = format;
}

/* Copies `message` with control characters (and in JSON quotes and backslashes) escaped; returns the bytes written. */
static size_t escape(char *out, size_t room, const char *message)
{
    size_t used = 0;
    for (const char *c = message; *c != '\0' && used + 7 < room; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f)
            used += (size_t)snprintf(out + used, room - used, "\\u%04x", byte);
        else if (line_format == LOG_JSON && (byte == '"' || byte == '\\'))
            used += (size_t)snprintf(out + used, room - used, "\\%c", byte);
        else
            out[used++] = (char)byte;
    }
    out[used] = '\0';
    return used;
}

void log_write(enum log_level level, const char *part, const char *format, ...)
{
    if (level < least_level)
        return;
    char message[1024], escaped[2048], time[32], line[2400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    escape(escaped, sizeof escaped, message);
    clock_format(clock_wall_ms(), time);

    int length;
    if (line_format == LOG_JSON)
        length = snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"part\":\"%s\",\"message\":\"%s\"}\n",
                          time, level_names[level], part, escaped);
    else
        length = snprintf(line, sizeof line, "%.12s %-5s %s: %s\n", time + 11, level_names[level], part, escaped);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody left to tell */
}
