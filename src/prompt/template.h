/*
 * template.h - a template file as the renderer walks it
 *
 * Each part is a flat list of nodes in the order of the text. A block's node is followed by the nodes inside it and
 * says where they end. Names are checked at the parse, so the renderer meets none where it has no meaning.
 */
#ifndef HEADRACE_PROMPT_TEMPLATE_H
#define HEADRACE_PROMPT_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer.h"

enum part_kind { PART_SYSTEM, PART_USER, PART_CANDIDATE, PART_COUNT };

enum name {
    /* the words of [labels] */
    NAME_YES,
    NAME_NO,
    NAME_LIKED,
    NAME_DISLIKED,
    NAME_NEUTRAL,
    NAME_UNTITLED,
    WORD_COUNT,
    /* values */
    NAME_TITLE = WORD_COUNT,
    NAME_VERDICT,
    NAME_RATING,
    NAME_NAME,
    NAME_VALUE,
    NAME_RATINGS,
    NAME_LIKES,
    NAME_LIKES_PERCENT,
    NAME_SIMILAR_KNOWN,
    NAME_SIMILAR_LIKED,
    NAME_RECENT_KNOWN,
    NAME_RECENT_LIKED,
    NAME_LIKED_PERCENT,
    NAME_AFFINITY_PERCENT,
    NAME_VOTE_PERCENT,
    FIRST_LIST,
    /* lists */
    NAME_PROFILE = FIRST_LIST,
    NAME_HISTORY,
    NAME_SIMILAR,
    NAME_EVENTS,
    NAME_ATTRIBUTES,
    NAME_SIMILAR_VERDICTS,
    NAME_COUNT,
};

enum node_kind {
    NODE_TEXT,
    NODE_SPECIAL, /* a special token of the model */
    NODE_VALUE,
    NODE_EACH, /* the nodes inside, for each of the list */
    NODE_ANY,  /* once if there is any */
    NODE_NONE, /* once if there is none */
};

struct node {
    enum node_kind kind;
    enum name name;   /* VALUE and blocks */
    struct text text; /* TEXT, and SPECIAL as it is spelt */
    int32_t special;  /* token id */
    size_t end;       /* blocks: one past the last node inside */
};

struct part {
    struct node *nodes;
    size_t count;
    size_t capacity;
};

struct prompt_template {
    const struct tokenizer *tokenizer;
    struct buffer source; /* the file, which the nodes' texts point into; empty for the built-in one */
    struct part parts[PART_COUNT];
    struct text words[WORD_COUNT];
    int32_t yes, no;
    char hash[17]; /* of the text that was parsed */
};

/*
 * Fills in parts and words of a zeroed template whose tokenizer is set. `path` is what errors call the text; both must
 * hold as long as the template. On failure the parts are still to be freed.
 */
int template_parse(struct prompt_template *prompt, const char *path, struct text text, struct error *err);

#endif
