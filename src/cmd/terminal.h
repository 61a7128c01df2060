/* terminal.h - inside cmd/: text from outside on the terminal */
#ifndef HEADRACE_CMD_TERMINAL_H
#define HEADRACE_CMD_TERMINAL_H

#include <stddef.h>

#include "base/text.h"

/*
 * Prints text from outside so that it cannot act on the terminal: control characters become '?'. Blanks follow up to
 * `width` characters.
 */
void terminal_print(struct text text, size_t width);

#endif
