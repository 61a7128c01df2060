/* quote.h - inside config/: what somebody else wrote, made fit for a line of ours */
#ifndef HEADRACE_CONFIG_QUOTE_H
#define HEADRACE_CONFIG_QUOTE_H

#include "base/buffer.h"
#include "base/text.h"

enum { QUOTE_SIZE = 200 };

/* The text for an error: control characters and broken UTF-8 become '?', beyond 64 bytes it ends in "...". */
const char *quote(struct text text, char out[QUOTE_SIZE]);

/* The same of a path: up to 192 bytes, of a longer one the end, which is what tells. */
const char *quote_path(const char *path, char out[QUOTE_SIZE]);

/* Appends the text as a YAML double-quoted scalar; `text` is UTF-8. */
void quote_yaml(struct text text, struct buffer *out);

#endif
