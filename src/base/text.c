#include "base/text.h"

enum { DISTANCE_LIMIT = 64 };

size_t text_code_point(const char *data, size_t size, uint32_t *code_point)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (size == 0)
        return 0;
    const uint8_t *bytes = (const uint8_t *)data;
    if (bytes[0] < 0x80) {
        *code_point = bytes[0];
        return 1;
    }

    size_t length = bytes[0] >= 0xf0 ? 4 : bytes[0] >= 0xe0 ? 3 : 2;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4 || length > size)
        return 0;
    uint32_t value = bytes[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (bytes[i] & 0x3f);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *code_point = value;
    return length;
}

size_t text_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    out[0] = (char)(lead[length] | code_point);
    return length;
}

bool text_is_utf8(struct text text)
{
    uint32_t code_point;
    for (size_t at = 0; at < text.size;) {
        size_t length = text_code_point(text.data + at, text.size - at, &code_point);
        if (length == 0 || code_point == 0)
            return false;
        at += length;
    }
    return true;
}

struct text text_prefix(struct text text, size_t limit)
{
    if (text.size <= limit)
        return text;
    while (limit > 0 && ((uint8_t)text.data[limit] & 0xc0) == 0x80)
        limit--;
    return (struct text){text.data, limit};
}

struct text text_cut(struct text *rest, char end)
{
    const char *found = rest->size == 0 ? NULL : memchr(rest->data, end, rest->size);
    struct text cut = {rest->data, found == NULL ? rest->size : (size_t)(found - rest->data)};
    size_t taken = cut.size + (found != NULL);
    if (taken > 0)
        *rest = (struct text){rest->data + taken, rest->size - taken};
    return cut;
}

size_t text_distance(struct text a, struct text b)
{
    size_t row[DISTANCE_LIMIT + 1];
    if (a.size > DISTANCE_LIMIT || b.size > DISTANCE_LIMIT)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t best = diagonal + (a.data[i - 1] != b.data[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b.size];
}
