#include "stream/dead_letter_read.h"

#include <stdbool.h>
#include <stdio.h>

static const char connect_prefix[] = "__connect.errors.";

const char *dead_letter_class_text(int class)
{
    return class < DEAD_LETTER_OTHER ? dead_letter_class_name((enum dead_letter_class) class) : "other";
}

int dead_letter_class_find(struct text name)
{
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        if (text_equal(text_of(dead_letter_class_text(class)), name))
            return class;
    return -1;
}

static bool describes_letter(const char *name)
{
    return strncmp(name, connect_prefix, sizeof connect_prefix - 1) == 0 || strcmp(name, "headrace.error.class") == 0 ||
           strcmp(name, "headrace.truncated") == 0;
}

/* -1: no number. */
static int64_t read_number(struct text digits)
{
    char copy[24];
    long long number;
    if (digits.size == 0 || digits.size >= sizeof copy)
        return -1;
    memcpy(copy, digits.data, digits.size);
    copy[digits.size] = '\0';
    return strspn(copy, "0123456789") == digits.size && sscanf(copy, "%lld", &number) == 1 ? (int64_t)number : -1;
}

/* The last header of that name among ours; absent: there is none. */
static struct text find(const rd_kafka_headers_t *headers, size_t first, size_t count, const char *name)
{
    const char *found;
    const void *value;
    size_t size;
    for (size_t i = count; i > first; i--)
        if (rd_kafka_header_get_all(headers, i - 1, &found, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            strcmp(found, name) == 0)
            return (struct text){value, size};
    return (struct text){NULL, 0};
}

/* Ours stand behind the message's, each name once: a second of a name is of an earlier death, and the message's. */
static size_t first_own_header(const rd_kafka_headers_t *headers, size_t count)
{
    size_t first = count;
    const char *name, *later;
    const void *value;
    size_t size;
    while (first > 0) {
        if (rd_kafka_header_get_all(headers, first - 1, &name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
            !describes_letter(name))
            return first;
        for (size_t i = first; i < count; i++)
            if (rd_kafka_header_get_all(headers, i, &later, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR &&
                strcmp(later, name) == 0)
                return first;
        first--;
    }
    return first;
}

void dead_letter_read(const rd_kafka_headers_t *headers, struct dead_letter *letter)
{
    size_t count = headers != NULL ? rd_kafka_header_cnt(headers) : 0;
    size_t first = first_own_header(headers, count);
    int class = dead_letter_class_find(find(headers, first, count, "headrace.error.class"));
    *letter = (struct dead_letter){
        .topic = find(headers, first, count, "__connect.errors.topic"),
        .partition = read_number(find(headers, first, count, "__connect.errors.partition")),
        .offset = read_number(find(headers, first, count, "__connect.errors.offset")),
        .class = class >= 0 ? class : DEAD_LETTER_OTHER,
        .reason = find(headers, first, count, "__connect.errors.exception.message"),
        .cut_from = read_number(find(headers, first, count, "headrace.truncated")),
        .own_headers = count - first,
    };
}
