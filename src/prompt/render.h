/*
 * render.h - a part of a template, filled in
 *
 * Plain text is collected up to the next special token and tokenised as one piece, so that neither the seams between
 * the template's words and the data nor the spelling of the data can make a special token. A caller that renders
 * several parts without a flush between them gets the tokens of their text taken together.
 */
#ifndef HEADRACE_PROMPT_RENDER_H
#define HEADRACE_PROMPT_RENDER_H

#include "prompt/prompt.h"
#include "prompt/template.h"

struct rendering {
    const struct prompt_template *prompt;
    struct tokens *tokens;
    struct buffer *text; /* NULL: not wanted */
    struct buffer plain; /* what came since the last special token; to be freed */
    bool opens;          /* what is plain stands at the start of the sequence or right behind a special token */
    struct error *err;
};

/* What the names stand for at a point of a template; of the pointers those that the place gives a meaning to are set.
 */
struct scope {
    const struct prompt_user *user;
    const struct prompt_candidate *candidate;
    const struct prompt_similar *similar;
    const struct prompt_event *event;
    const struct prompt_field *field;
    int verdict;
};

/* Appends a part up to its last special token; the rest waits in `plain`. USER needs scope->user, CANDIDATE
 * ->candidate. */
int render_part(struct rendering *rendering, enum part_kind kind, const struct scope *scope);

/* Tokenises what waits. */
int render_flush(struct rendering *rendering);

#endif
