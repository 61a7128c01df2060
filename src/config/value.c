#include "config/value.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "config/quote.h"

enum { DIGITS_LIMIT = 32, TOPIC_LIMIT = 249 /* Kafka's own */ };

int value_find_choice(const struct config_option *option, struct text word)
{
    for (int i = 0; option->choices[i] != NULL; i++)
        if (text_equal(text_of(option->choices[i]), word))
            return i;
    return -1;
}

static bool is_printable(struct text text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((uint8_t)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return true;
}

static bool is_topic(struct text text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (text.size == 0 || text.size > TOPIC_LIMIT || strspn(text.data, allowed) != text.size)
        return false;
    return strcmp(text.data, ".") != 0 && strcmp(text.data, "..") != 0;
}

static struct text trim(struct text text)
{
    while (text.size > 0 && text.data[0] == ' ')
        text = (struct text){text.data + 1, text.size - 1};
    while (text.size > 0 && text.data[text.size - 1] == ' ')
        text.size--;
    return text;
}

/* strtoll and strtod take more than we want (white space, hexadecimal, "inf"), so the letters are checked first. */
static bool copy_digits(struct text text, const char *allowed, char out[DIGITS_LIMIT + 1])
{
    if (text.size == 0 || text.size > DIGITS_LIMIT)
        return false;
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
    return strspn(out, allowed) == text.size;
}

static bool parse_integer(const struct config_option *option, struct text text, int64_t *value)
{
    char digits[DIGITS_LIMIT + 1], *end;
    if (!copy_digits(text, "-0123456789", digits))
        return false;
    errno = 0;
    long long parsed = strtoll(digits, &end, 10);
    *value = parsed;
    return errno == 0 && *end == '\0' && parsed >= option->least && parsed <= option->most;
}

static bool parse_number(const struct config_option *option, struct text text, double *value)
{
    char digits[DIGITS_LIMIT + 1], *end;
    if (!copy_digits(text, "+-.0123456789eE", digits))
        return false;
    *value = strtod(digits, &end);
    return *end == '\0' && isfinite(*value) && *value >= option->lowest && *value <= option->highest;
}

static bool parse_flag(struct text text, bool *value)
{
    *value = text_equal(text, text_of("true"));
    return *value || text_equal(text, text_of("false"));
}

static bool parse_choice(const struct config_option *option, struct text text, size_t *value)
{
    int choice = value_find_choice(option, text);
    *value = (size_t)choice;
    return choice >= 0;
}

static bool append_item(const struct config_option *option, struct text item, struct config_value *value)
{
    int64_t parsed;
    if (option->kind == OPTION_INTEGERS) {
        if (!parse_integer(option, item, &parsed))
            return false;
        if (!option->any_order && value->list_count > 0 && value->list[value->list_count - 1] >= parsed)
            return false;
    } else {
        parsed = value_find_choice(option, item);
        for (size_t i = 0; i < value->list_count; i++)
            if (value->list[i] == parsed)
                return false;
    }
    if (parsed < 0 || value->list_count == VALUE_LIST_LIMIT)
        return false;
    value->list[value->list_count++] = parsed;
    return true;
}

static bool parse_list(const struct config_option *option, struct text text, struct config_value *value)
{
    for (;;) {
        const char *comma = memchr(text.data, ',', text.size);
        size_t size = comma != NULL ? (size_t)(comma - text.data) : text.size;
        if (!append_item(option, trim((struct text){text.data, size}), value))
            return false;
        if (comma == NULL)
            return true;
        text = (struct text){comma + 1, text.size - size - 1};
    }
}

int value_parse(const struct config_option *option, const char *text, struct config_value *value, struct error *err)
{
    *value = (struct config_value){.text = text};
    struct text all = text_of(text);
    bool good = false;
    switch (option->kind) {
    case OPTION_TEXT:
        good = is_printable(all);
        break;
    case OPTION_REQUIRED:
        good = all.size > 0 && is_printable(all);
        break;
    case OPTION_TOPIC:
        good = is_topic(all);
        break;
    case OPTION_FLAG:
        good = parse_flag(all, &value->flag);
        break;
    case OPTION_INTEGER:
        good = parse_integer(option, all, &value->integer);
        break;
    case OPTION_NUMBER:
        good = parse_number(option, all, &value->number);
        break;
    case OPTION_CHOICE:
        good = parse_choice(option, all, &value->choice);
        break;
    case OPTION_INTEGERS:
    case OPTION_CHOICES:
        good = parse_list(option, all, value);
        break;
    }
    if (good)
        return 0;

    char phrase[OPTION_PHRASE_SIZE], quoted[QUOTE_SIZE];
    option_phrase(option, phrase);
    return error_set(err, ERROR_BAD_INPUT, "%s wants %s, not \"%s\"", option->name, phrase, quote(all, quoted));
}
