#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
    err->kind = kind;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    return -1;
}

int error_wrap(struct error *err, const char *format, ...)
{
    char context[sizeof err->message];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);

    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > sizeof context - 3)
        used = sizeof context - 3;
    memcpy(context + used, ": ", 3);
    used += 2;

    size_t kept = strlen(err->message);
    if (kept > sizeof context - 1 - used)
        kept = sizeof context - 1 - used;
    memmove(err->message + used, err->message, kept);
    memcpy(err->message, context, used);
    err->message[used + kept] = '\0';
    return -1;
}
