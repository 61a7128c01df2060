#include "cmd/terminal.h"

#include <stdint.h>
#include <stdio.h>

void terminal_print(struct text text, size_t width)
{
    size_t shown = 0;
    for (size_t at = 0; at < text.size; shown++) {
        uint32_t code_point;
        size_t length = text_code_point(text.data + at, text.size - at, &code_point);
        if (length == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0))
            putchar('?');
        else
            fwrite(text.data + at, 1, length, stdout);
        at += length > 0 ? length : 1;
    }
    if (shown < width)
        printf("%*s", (int)(width - shown), "");
}
