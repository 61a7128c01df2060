#include "prompt/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/file.h"
#include "prompt/builtin.h"
#include "prompt/render.h"

enum { TEMPLATE_LIMIT = 65536 };

/* What the model's convention puts before everything. */
static int append_bos(struct rendering *rendering)
{
    const struct tokenizer *tokenizer = rendering->prompt->tokenizer;
    int32_t bos = tokenizer_bos(tokenizer);
    if (bos < 0)
        return 0;
    if (tokens_append(rendering->tokens, bos, rendering->err) != 0)
        return -1;
    return rendering->text == NULL ? 0 : tokenizer_decode(tokenizer, bos, rendering->text, rendering->err);
}

/* Whether a part's text stands at the start of the prompt, or behind a special token that ends the part before. */
static bool part_opens(const struct prompt_template *prompt, enum part_kind kind)
{
    for (int before = (int)kind - 1; before >= 0; before--) {
        const struct part *part = &prompt->parts[before];
        if (part->count > 0)
            return part->nodes[part->count - 1].kind == NODE_SPECIAL;
    }
    return true;
}

/* A part alone; on failure tokens and text are as they were. */
static int render_alone(const struct prompt_template *prompt, enum part_kind kind, const struct scope *scope,
                        struct tokens *tokens, struct buffer *text, struct error *err)
{
    struct rendering rendering = {
        .prompt = prompt, .tokens = tokens, .text = text, .opens = part_opens(prompt, kind), .err = err};
    size_t token_count = tokens->count, text_size = text != NULL ? text->size : 0;
    int result = kind == PART_SYSTEM ? append_bos(&rendering) : 0;
    if (result == 0)
        result = render_part(&rendering, kind, scope);
    if (result == 0)
        result = render_flush(&rendering);
    if (result == 0 && text != NULL)
        result = buffer_check(text, "rendering a prompt", err);
    if (result != 0) {
        tokens->count = token_count;
        if (text != NULL)
            text->size = text_size;
    }
    buffer_free(&rendering.plain);
    return result;
}

/* Users and candidates with nothing and with everything, to check a template on. */
static const struct prompt_event sample_events[] = {
    {.title = {"Ex 1", 4}, .verdict = PROMPT_LIKED, .has_value = true, .value = 4.5},
    {.title = {"Ex 2", 4}, .verdict = PROMPT_DISLIKED},
};
static const struct prompt_field sample_fields[] = {{{"age", 3}, {"33", 2}}};
static const struct prompt_similar sample_similar[] = {{sample_events, 2}};
static const int sample_verdicts[] = {PROMPT_LIKED, PROMPT_NEUTRAL};
static const struct prompt_user sample_users[2] = {{0}, {sample_fields, 1, sample_events, 2, sample_similar, 1}};
static const struct prompt_candidate sample_candidates[2] = {
    {.title = {"Ex 3", 4}}, {{"Ex 3", 4}, sample_fields, 1, 12, 7, sample_verdicts, 2, 10, 6, 40, 23, 0.62, 0.7}};

/* The tokens of the parts' text in one piece, an answer behind it. */
static int render_together(const struct prompt_template *prompt, const struct scope *scope, struct text answer,
                           struct tokens *tokens, struct error *err)
{
    struct rendering rendering = {.prompt = prompt, .tokens = tokens, .opens = true, .err = err};
    int result = append_bos(&rendering);
    for (int part = 0; part < PART_COUNT && result == 0; part++)
        result = render_part(&rendering, (enum part_kind)part, scope);
    buffer_append_text(&rendering.plain, answer);
    if (result == 0)
        result = render_flush(&rendering);
    buffer_free(&rendering.plain);
    return result;
}

static int render_apart(const struct prompt_template *prompt, const struct scope *scope, struct tokens *tokens,
                        struct error *err)
{
    for (int part = 0; part < PART_COUNT; part++)
        if (render_alone(prompt, (enum part_kind)part, scope, tokens, NULL, err) != 0)
            return -1;
    return 0;
}

static bool tokens_begin_with(const struct tokens *tokens, const struct tokens *start)
{
    return tokens->count >= start->count &&
           (start->count == 0 || memcmp(tokens->ids, start->ids, start->count * sizeof *start->ids) == 0);
}

/* The answer's one token, found by what it adds to the prompt: a word's ids differ with what stands before it. */
static int find_answer(const struct prompt_template *prompt, const struct scope *scope, const struct tokens *asked,
                       struct text answer, int32_t *id, struct error *err)
{
    struct tokens answered = {0};
    int result = render_together(prompt, scope, answer, &answered, err);
    if (result != 0)
        goto out;
    if (!tokens_begin_with(&answered, asked)) {
        result = error_set(err, ERROR_BAD_INPUT,
                           "the answer \"" TEXT_FORMAT "\" runs together with the end of [candidate]; "
                           "end it with a line end, or without a space",
                           TEXT_ARGS(text_prefix(answer, 40)));
        goto out;
    }
    if (answered.count != asked->count + 1) {
        result =
            error_set(err, ERROR_BAD_INPUT,
                      "the answer \"" TEXT_FORMAT "\" is %zu tokens after [candidate]; choose one of a single token",
                      TEXT_ARGS(text_prefix(answer, 40)), answered.count - asked->count);
        goto out;
    }
    *id = answered.ids[asked->count];
out:
    tokens_free(&answered);
    return result;
}

/* Parts apart must be the same tokens as together, or the model would read what it never saw in training. */
static int check_sample(struct prompt_template *prompt, const struct scope *scope, struct error *err)
{
    struct tokens together = {0}, apart = {0};
    int result = -1;
    if (render_together(prompt, scope, text_of(""), &together, err) != 0 ||
        render_apart(prompt, scope, &apart, err) != 0)
        goto out;
    if (apart.count != together.count || !tokens_begin_with(&apart, &together)) {
        error_set(err, ERROR_BAD_INPUT,
                  "the parts are other tokens apart than together; end [system] and [user] with a line end and "
                  "start [candidate] with a word");
        goto out;
    }
    if (find_answer(prompt, scope, &apart, prompt->words[NAME_YES], &prompt->yes, err) != 0 ||
        find_answer(prompt, scope, &apart, prompt->words[NAME_NO], &prompt->no, err) != 0)
        goto out;
    if (prompt->yes == prompt->no) {
        error_set(err, ERROR_BAD_INPUT, "the answers yes and no are the same token");
        goto out;
    }
    result = 0;
out:
    tokens_free(&together);
    tokens_free(&apart);
    return result;
}

static int check_template(struct prompt_template *prompt, const char *name, struct error *err)
{
    for (size_t i = 0; i < 4; i++) {
        struct scope scope = {.user = &sample_users[i % 2], .candidate = &sample_candidates[i / 2]};
        if (check_sample(prompt, &scope, err) != 0)
            return error_wrap(err, "%s", name);
    }
    return 0;
}

int prompt_load(struct prompt_template **prompt, const char *path, const struct tokenizer *tokenizer, struct error *err)
{
    struct prompt_template *loaded = calloc(1, sizeof *loaded);
    if (loaded == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading a prompt template");
    loaded->tokenizer = tokenizer;
    const char *name = "built-in movies.prompt";
    struct text source = builtin_template();
    if (path != NULL && *path != '\0') {
        name = path;
        if (file_read(path, TEMPLATE_LIMIT, &loaded->source, err) != 0)
            goto fail;
        source = buffer_text(&loaded->source);
    }
    if (template_parse(loaded, name, source, err) != 0 || check_template(loaded, name, err) != 0)
        goto fail;
    snprintf(loaded->hash, sizeof loaded->hash, "%016llx", (unsigned long long)XXH3_64bits(source.data, source.size));
    *prompt = loaded;
    return 0;
fail:
    prompt_destroy(loaded);
    return -1;
}

const char *prompt_hash(const struct prompt_template *prompt)
{
    return prompt->hash;
}

void prompt_destroy(struct prompt_template *prompt)
{
    if (prompt == NULL)
        return;
    for (size_t i = 0; i < PART_COUNT; i++)
        free(prompt->parts[i].nodes);
    buffer_free(&prompt->source);
    free(prompt);
}

int prompt_system(const struct prompt_template *prompt, struct tokens *tokens, struct buffer *text, struct error *err)
{
    return render_alone(prompt, PART_SYSTEM, &(struct scope){0}, tokens, text, err);
}

int prompt_user(const struct prompt_template *prompt, const struct prompt_user *user, struct tokens *tokens,
                struct buffer *text, struct error *err)
{
    return render_alone(prompt, PART_USER, &(struct scope){.user = user}, tokens, text, err);
}

int prompt_candidate(const struct prompt_template *prompt, const struct prompt_candidate *candidate,
                     struct tokens *tokens, struct buffer *text, struct error *err)
{
    return render_alone(prompt, PART_CANDIDATE, &(struct scope){.candidate = candidate}, tokens, text, err);
}

int32_t prompt_yes(const struct prompt_template *prompt)
{
    return prompt->yes;
}

int32_t prompt_no(const struct prompt_template *prompt)
{
    return prompt->no;
}
