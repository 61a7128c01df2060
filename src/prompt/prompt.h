/*
 * prompt.h - what the model reads: a template in three parts
 *
 *   system     the same for all
 *   user       profile, history oldest to newest, similar users
 *   candidate  title, evidence, question; ends where the label word is due
 *
 * The parts are rendered and tokenised apart, so a user's prefix is the same tokens for every candidate. A template's
 * own text may hold special tokens; data (titles, profiles) never become special tokens: control characters, line ends
 * and quotes in data are replaced, white space is squeezed, lengths are capped, and template delimiters are plain text
 * in data, so that a title cannot forge a line of history. See config/prompts/movies.prompt for the format.
 *
 * Threads: a template is read-only after the load.
 */
#ifndef HEADRACE_PROMPT_PROMPT_H
#define HEADRACE_PROMPT_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "model/tokenizer.h"

enum {
    PROMPT_TITLE_LIMIT = 200,      /* bytes of a title that enter a prompt */
    PROMPT_FIELD_LIMIT = 100,      /* bytes of a field's name, and of its value */
    PROMPT_FIELD_COUNT_LIMIT = 16, /* fields of a profile, attributes of an item; the rest is left out */
};

enum prompt_verdict { PROMPT_DISLIKED = -1, PROMPT_NEUTRAL = 0, PROMPT_LIKED = 1 };

struct prompt_event {
    struct text title;
    int verdict; /* enum prompt_verdict */
    bool has_value;
    double value; /* as rated */
};

struct prompt_field {
    struct text name;
    struct text value;
};

struct prompt_similar { /* GLOBAL retrieval: a user like this one */
    const struct prompt_event *events;
    size_t event_count; /* oldest first */
};

struct prompt_user {
    const struct prompt_field *profile;
    size_t profile_count;
    const struct prompt_event *history; /* oldest first */
    size_t history_count;
    const struct prompt_similar *similar;
    size_t similar_count;
};

struct prompt_candidate {
    struct text title;
    const struct prompt_field *attributes;
    size_t attribute_count;
    uint64_t ratings, likes;     /* of the item, all users, before the request */
    const int *similar_verdicts; /* CANDIDATE retrieval: verdicts of the most similar users who know the item */
    size_t similar_verdict_count;
    uint64_t recent, recent_likes;     /* the user's last 10 events before the request, and likes among them */
    uint64_t user_ratings, user_likes; /* all of them; here and not in the user part, as they change with each event */
    double affinity;                   /* share that the user likes of items like this one; 0: not known */
    double vote;                       /* share of likes among the most similar users who know it; 0: nobody does */
};

struct prompt_template;

/*
 * Reads a template file, or the built-in one for movies (path NULL or ""), and checks it against the tokenizer, which
 * must outlive it: the label words must each be one token after the candidate part, and the parts the same tokens apart
 * as together. Errors name the file and, where there is one, the line.
 */
int prompt_load(struct prompt_template **prompt, const char *path, const struct tokenizer *tokenizer,
                struct error *err);

/* NULL is fine. */
void prompt_destroy(struct prompt_template *prompt);

/* Token ids of the answers. */
int32_t prompt_yes(const struct prompt_template *prompt);
int32_t prompt_no(const struct prompt_template *prompt);

/* XXH3 of the template's text as 16 hex digits: tells what heads were trained on. */
const char *prompt_hash(const struct prompt_template *prompt);

/*
 * Each appends one part's tokens to `tokens` and, where `text` is not NULL, its text as the model reads it to `text`;
 * on failure both are as they were. The model's BOS token, if it has one, comes before the system part. A title that is
 * absent or shows nothing becomes the template's word for that.
 */
int prompt_system(const struct prompt_template *prompt, struct tokens *tokens, struct buffer *text, struct error *err);
int prompt_user(const struct prompt_template *prompt, const struct prompt_user *user, struct tokens *tokens,
                struct buffer *text, struct error *err);
int prompt_candidate(const struct prompt_template *prompt, const struct prompt_candidate *candidate,
                     struct tokens *tokens, struct buffer *text, struct error *err);

#endif
