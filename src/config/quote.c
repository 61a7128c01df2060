#include "config/quote.h"

enum { TEXT_LIMIT = 64, PATH_LIMIT = 192 };

static bool is_control(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) || code_point == 0x2028 ||
           code_point == 0x2029;
}

/* At most `limit` bytes, "..." and a NUL. */
static void copy_shown(struct text text, size_t limit, char *out)
{
    struct text shown = text_prefix(text, limit);
    size_t used = 0;
    for (size_t at = 0; at < shown.size;) {
        uint32_t code_point;
        size_t length = text_code_point(shown.data + at, shown.size - at, &code_point);
        if (length == 0 || is_control(code_point)) {
            out[used++] = '?';
            at += length == 0 ? 1 : length;
        } else {
            memcpy(out + used, shown.data + at, length);
            used += length;
            at += length;
        }
    }
    memcpy(out + used, shown.size < text.size ? "..." : "", shown.size < text.size ? 4 : 1);
}

const char *quote(struct text text, char out[QUOTE_SIZE])
{
    copy_shown(text, TEXT_LIMIT, out);
    return out;
}

const char *quote_path(const char *path, char out[QUOTE_SIZE])
{
    size_t length = strlen(path);
    if (length <= PATH_LIMIT) {
        copy_shown(text_of(path), PATH_LIMIT, out);
        return out;
    }
    const char *end = path + length - PATH_LIMIT;
    while (((uint8_t)*end & 0xc0) == 0x80)
        end++;
    memcpy(out, "...", 3);
    copy_shown(text_of(end), PATH_LIMIT, out + 3);
    return out;
}

void quote_yaml(struct text text, struct buffer *out)
{
    buffer_append_byte(out, '"');
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point = 0;
        size_t length = text_code_point(text.data + at, text.size - at, &code_point);
        if (code_point == '"' || code_point == '\\')
            buffer_printf(out, "\\%c", (char)code_point);
        else if (code_point == '\n')
            buffer_append_string(out, "\\n");
        else if (is_control(code_point))
            buffer_printf(out, "\\u%04x", (unsigned)code_point);
        else
            buffer_append(out, text.data + at, length);
        at += length == 0 ? 1 : length;
    }
    buffer_append_byte(out, '"');
}
