#include "model/pretokenizer.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buffer.h"

/* Unicode's White_Space, as the original tokenizers' \s; PCRE2's own \s also takes U+180E. */
#define BLANK "\\p{Z}\\t\\x{0b}\\x{0c}\\x{85}"
#define SPACE BLANK "\\r\\n"
#define SIGNS " ?[^" SPACE "\\p{L}\\p{N}]+"
#define SPACES "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

/* GPT-2's words, and those of Llama 3 and Qwen2: in any case, with any one sign before. */
#define WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+"
#define ANY_WORDS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"

/* What the originals write \s*[\r\n]+: white space up to its last line end. So, nothing is gone over twice. */
#define LINES "(?:[" BLANK "]*+[\\r\\n]++)++"

/*
 * A pattern matches at every place, so the pieces follow each other without gaps. The expressions are published with
 * the models: GPT-2's in openai/gpt-2, encoder.py, those of Llama 3 and Qwen2 in their tokenizer.json. "smollm" first
 * cuts every numeral out and applies GPT-2's expression to what lies between; here in one: a numeral is a piece, and to
 * a run of white space it is like the end of the text.
 */
static const struct known {
    const char *name, *pattern;
    bool takes_whole; /* "ignore_merges" in the model's tokenizer.json */
    bool adds_bos;    /* many of Llama 3's files leave that out */
} known[] = {
    {"smollm", WORDS "|\\p{N}|" SIGNS "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+", false, false},
    {"gpt-2", WORDS "| ?\\p{N}+|" SIGNS "|" SPACES, false, false},
    {"llama-bpe", ANY_WORDS "|\\p{N}{1,3}|" SIGNS "[\\r\\n]*|" LINES "|" SPACES, true, true},
    {"qwen2", ANY_WORDS "|\\p{N}|" SIGNS "[\\r\\n]*|" LINES "|" SPACES, false, false},
};
enum { KNOWN = sizeof known / sizeof *known };

/* The patterns go over a piece a few times at most; this only bounds what we did not think of. */
enum { STEPS_MOST = 100000000 };

struct pretokenizer {
    const struct known *known;
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
    created->known = &known[index];
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

bool pretokenizer_takes_whole(const struct pretokenizer *pretokenizer)
{
    return pretokenizer->known->takes_whole;
}

bool pretokenizer_adds_bos(const struct pretokenizer *pretokenizer)
{
    return pretokenizer->known->adds_bos;
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
