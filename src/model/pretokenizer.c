#include "model/pretokenizer.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buffer.h"

/* Unicode's White_Space, as the original tokenizers' \s; PCRE2's own \s also takes U+180E. */
#define SPACE "\\p{Z}\\t-\\r\\x{85}"
#define WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+"
#define SIGNS " ?[^" SPACE "\\p{L}\\p{N}]+"

/*
 * A pattern matches at every place, so the pieces follow each other without gaps. GPT-2's expression is published with
 * the model (openai/gpt-2, encoder.py). "smollm" first cuts every numeral out and applies GPT-2's expression to what
 * lies between; here in one: a numeral is a piece, and to a run of white space it is like the end of the text.
 */
static const struct {
    const char *name, *pattern;
} known[] = {
    {"smollm", WORDS "|\\p{N}|" SIGNS "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+"},
    {"gpt-2", WORDS "| ?\\p{N}+|" SIGNS "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"},
};
enum { KNOWN = sizeof known / sizeof *known };

/* The patterns step back once at most; this only bounds what we did not think of. */
enum { STEPS_MOST = 1000000 };

struct pretokenizer {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct pretokenizer_match {
    pcre2_match_data *data;
};

static int compile(struct pretokenizer *pretokenizer, const char *pattern, struct error *err)
{
    int code;
    PCRE2_SIZE offset;
    pretokenizer->limits = pcre2_match_context_create(NULL);
    pretokenizer->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (pretokenizer->limits == NULL || pretokenizer->code == NULL)
        return error_set(err, ERROR_FATAL, "PCRE2 does not take the pre-tokeniser's pattern (error %d at %zu)", code,
                         (size_t)offset);
    pcre2_set_match_limit(pretokenizer->limits, STEPS_MOST);
    /* Where PCRE2 cannot compile to machine code, it interprets: slower, the same matches. */
    pcre2_jit_compile(pretokenizer->code, PCRE2_JIT_COMPLETE);
    return 0;
}

int pretokenizer_create(struct pretokenizer **pretokenizer, struct text name, struct error *err)
{
    *pretokenizer = NULL;
    size_t index = 0;
    while (index < KNOWN && !text_equal(name, text_of(known[index].name)))
        index++;
    if (index == KNOWN) {
        struct buffer names = {0};
        for (size_t i = 0; i < KNOWN; i++)
            buffer_printf(&names, "%s%s", i == 0 ? "" : ", ", known[i].name);
        error_set(err, ERROR_FATAL, "pre-tokeniser " TEXT_FORMAT " is not supported; supported: %s",
                  TEXT_ARGS(text_prefix(name, 64)), buffer_string(&names));
        buffer_free(&names);
        return -1;
    }
    struct pretokenizer *created = calloc(1, sizeof *created);
    if (created == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a pre-tokeniser");
    if (compile(created, known[index].pattern, err) != 0) {
        pretokenizer_destroy(created);
        return -1;
    }
    *pretokenizer = created;
    return 0;
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer)
{
    if (pretokenizer == NULL)
        return;
    pcre2_code_free(pretokenizer->code);
    pcre2_match_context_free(pretokenizer->limits);
    free(pretokenizer);
}

struct pretokenizer_match *pretokenizer_match_create(void)
{
    struct pretokenizer_match *match = malloc(sizeof *match);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (match == NULL || data == NULL) {
        free(match);
        pcre2_match_data_free(data);
        return NULL;
    }
    match->data = data;
    return match;
}

void pretokenizer_match_destroy(struct pretokenizer_match *match)
{
    if (match == NULL)
        return;
    pcre2_match_data_free(match->data);
    free(match);
}

int pretokenizer_next(const struct pretokenizer *pretokenizer, struct pretokenizer_match *match, struct text text,
                      size_t at, size_t *length, struct error *err)
{
    int found = pcre2_match(pretokenizer->code, (PCRE2_SPTR)text.data, text.size, at, PCRE2_NO_UTF_CHECK, match->data,
                            pretokenizer->limits);
    PCRE2_SIZE end = found > 0 ? pcre2_get_ovector_pointer(match->data)[1] : 0;
    if (end <= at)
        return error_set(err, ERROR_BAD_INPUT, "the pre-tokeniser stops at byte %zu of %zu of a text (PCRE2 error %d)",
                         at, text.size, found);
    *length = end - at;
    return 0;
}
