/* tiny.h - the tokenizer of tests/golden/tiny.gguf, and parts rendered with it, for the tests of this part */
#ifndef HEADRACE_TESTS_PROMPT_TINY_H
#define HEADRACE_TESTS_PROMPT_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/gguf.h"
#include "model/tokenizer.h"
#include "prompt/prompt.h"

static struct gguf *gguf;
static struct tokenizer *tokenizer;
static struct error err;

static inline int open_tiny(void **state)
{
    (void)state;
    if (gguf_open(&gguf, HEADRACE_GOLDEN "/tiny.gguf", &err) != 0 || tokenizer_create(&tokenizer, gguf, &err) != 0) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static inline int close_tiny(void **state)
{
    (void)state;
    tokenizer_destroy(tokenizer);
    gguf_close(gguf);
    return 0;
}

/* Loads a template given as text, by way of a file; NULL with the error set. */
static inline struct prompt_template *load_text(const char *text)
{
    char path[] = "/tmp/prompt.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    struct prompt_template *prompt = NULL;
    int result = prompt_load(&prompt, path, tokenizer, &err);
    unlink(path);
    assert_true((result == 0) == (prompt != NULL));
    return prompt;
}

static inline struct prompt_template *load_builtin(void)
{
    struct prompt_template *prompt = NULL;
    if (prompt_load(&prompt, NULL, tokenizer, &err) != 0)
        fail_msg("%s", err.message);
    return prompt;
}

/* What came out of a rendering; to be freed by free_rendered(). */
struct rendered {
    struct tokens tokens;
    struct buffer text;
};

static inline void free_rendered(struct rendered *rendered)
{
    tokens_free(&rendered->tokens);
    buffer_free(&rendered->text);
}

/* The bytes that the tokens stand for are the text that was said to be read. */
static inline void assert_decodes_to_text(struct rendered *rendered)
{
    struct buffer decoded = {0};
    for (size_t i = 0; i < rendered->tokens.count; i++)
        assert_int_equal(tokenizer_decode(tokenizer, rendered->tokens.ids[i], &decoded, &err), 0);
    assert_string_equal(buffer_string(&decoded), buffer_string(&rendered->text));
    buffer_free(&decoded);
}

static inline struct rendered render_user(const struct prompt_template *prompt, const struct prompt_user *user)
{
    struct rendered out = {0};
    assert_int_equal(prompt_user(prompt, user, &out.tokens, &out.text, &err), 0);
    assert_decodes_to_text(&out);
    return out;
}

static inline struct rendered render_candidate(const struct prompt_template *prompt,
                                               const struct prompt_candidate *candidate)
{
    struct rendered out = {0};
    assert_int_equal(prompt_candidate(prompt, candidate, &out.tokens, &out.text, &err), 0);
    assert_decodes_to_text(&out);
    return out;
}

static inline size_t count_token(const struct tokens *tokens, const char *spelling)
{
    int32_t id = tokenizer_special(tokenizer, text_of(spelling));
    size_t count = 0;
    assert_true(id >= 0);
    for (size_t i = 0; i < tokens->count; i++)
        count += tokens->ids[i] == id;
    return count;
}

#endif
