#include "prompt/data.h"

static const uint32_t replacement = 0xfffd;

static bool is_space(uint32_t c)
{
    return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Unicode's bidirectional controls and zero-width format characters, soft hyphen, tags and variation selectors 17 up.
 */
static bool is_unseen(uint32_t c)
{
    return c == 0xad || c == 0x34f || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

static bool is_double_quote(uint32_t c)
{
    return c == '"' || (c >= 0x201c && c <= 0x201f) || c == 0xff02;
}

bool data_append(struct buffer *out, struct text data, size_t limit)
{
    size_t written = 0;
    bool space = false;
    for (size_t at = 0; at < data.size;) {
        uint32_t code_point;
        size_t length = text_code_point(data.data + at, data.size - at, &code_point);
        if (length == 0) {
            length = 1;
            code_point = replacement;
        }
        at += length;
        if (is_unseen(code_point))
            continue;
        if (is_space(code_point)) {
            space = written > 0;
            continue;
        }

        char bytes[4];
        size_t size = text_encode(is_double_quote(code_point) ? '\'' : code_point, bytes);
        if (written + space + size > limit)
            break;
        if (space)
            buffer_append_byte(out, ' ');
        buffer_append(out, bytes, size);
        written += space + size;
        space = false;
    }
    return written > 0;
}
