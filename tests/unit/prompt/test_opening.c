/* SentencePiece's convention of a blank before plain text, with a vocabulary that tells where the blank is. */
#include "model/gguf_bytes.h"
#include "prompt/tiny.h"

#define BLANK "\xe2\x96\x81"
#define LABELS "[labels]\nyes = Yes\nno = No\nliked = liked\ndisliked = disliked\nneutral = seen\nuntitled = a film\n"

static const char *const pieces[] = {"<inst>",  BLANK "Hi", "Hi",  BLANK "User", "User",
                                     BLANK "Q", "Q",        "Yes", "No",         NULL};
enum { BOS = 1, BYTES_FROM = 2, PIECES_FROM = BYTES_FROM + 256 };

/* Every start of a piece is a token, so that merges reach the piece; the piece itself has the highest score. */
static void put_starts(struct gguf_bytes *bytes, size_t *count, struct buffer *types)
{
    for (size_t i = 1; pieces[i] != NULL; i++)
        for (size_t size = 1; size < strlen(pieces[i]); size++) {
            char start[16];
            snprintf(start, sizeof start, "%.*s", (int)size, pieces[i]);
            bool is_new = text_is_utf8(text_of(start)) && size > 1;
            for (size_t other = 1; other < i && is_new; other++)
                is_new = strncmp(pieces[other], start, size) != 0;
            if (!is_new)
                continue;
            put_string(&bytes->keys, start);
            put_u32(types, 1);
            (*count)++;
        }
}

static int open_made(void **state)
{
    struct gguf_bytes bytes = {0}, tokens = {0};
    struct buffer types = {0};
    size_t count = PIECES_FROM, size;
    (void)state;
    put_string(&tokens.keys, "<unk>");
    put_string(&tokens.keys, "<s>");
    put_u32(&types, 2);
    put_u32(&types, 3);
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[8];
        snprintf(spelling, sizeof spelling, "<0x%02X>", byte);
        put_string(&tokens.keys, spelling);
        put_u32(&types, 6);
    }
    for (size_t i = 0; pieces[i] != NULL; i++, count++) {
        put_string(&tokens.keys, pieces[i]);
        put_u32(&types, i == 0 ? 3 : 1);
    }
    put_starts(&tokens, &count, &types);
    put_key_text(&bytes, "tokenizer.ggml.model", "llama");
    put_key_array(&bytes, "tokenizer.ggml.tokens", 8, count);
    buffer_append_text(&bytes.keys, buffer_text(&tokens.keys));
    put_key_array(&bytes, "tokenizer.ggml.token_type", 5, count);
    buffer_append_text(&bytes.keys, buffer_text(&types));
    put_key_array(&bytes, "tokenizer.ggml.scores", 6, count);
    for (size_t i = 0; i < count; i++) {
        float score = -(float)i;
        buffer_append(&bytes.keys, &score, sizeof score);
    }
    put_key_u32(&bytes, "tokenizer.ggml.bos_token_id", BOS);
    uint8_t *file = finish_bytes(&bytes, &size);
    buffer_free(&tokens.keys);
    buffer_free(&types);
    if (gguf_open_memory(&gguf, file, size, "made.gguf", &err) != 0 || tokenizer_create(&tokenizer, gguf, &err) != 0)
        fail_msg("%s", err.message);
    gguf_close(gguf);
    gguf = NULL;
    free(file);
    return 0;
}

static struct rendered render(const struct prompt_template *prompt)
{
    struct rendered all = {0};
    const struct prompt_candidate candidate = {.title = {"Q", 1}};
    assert_int_equal(prompt_system(prompt, &all.tokens, &all.text, &err), 0);
    assert_int_equal(prompt_user(prompt, &(struct prompt_user){0}, &all.tokens, &all.text, &err), 0);
    assert_int_equal(prompt_candidate(prompt, &candidate, &all.tokens, &all.text, &err), 0);
    return all;
}

/* Ids in words, as in the text of a template. */
static void assert_pieces(const struct rendered *rendered, const char *expected)
{
    struct buffer found = {0};
    for (size_t i = 0; i < rendered->tokens.count; i++) {
        int32_t id = rendered->tokens.ids[i];
        if (id >= PIECES_FROM)
            buffer_printf(&found, "%s|", pieces[id - PIECES_FROM]);
        else if (id == BOS)
            buffer_append_string(&found, "<s>|");
        else
            buffer_printf(&found, "%02x|", (unsigned)(id - BYTES_FROM));
    }
    assert_string_equal(buffer_string(&found), expected);
    buffer_free(&found);
}

static void a_blank_opens_the_prompt_and_no_part_behind_plain_text(void **state)
{
    (void)state;
    struct prompt_template *prompt = load_text(LABELS "[system]\nHi\n[user]\nUser\n[candidate]\n{{title}}\n");
    if (prompt == NULL)
        fail_msg("%s", err.message);
    struct rendered all = render(prompt);
    assert_pieces(&all, "<s>|" BLANK "Hi|0a|User|0a|Q|0a|");
    assert_string_equal(buffer_string(&all.text), "<s>Hi\nUser\nQ\n");
    assert_int_equal(prompt_yes(prompt), PIECES_FROM + 7);
    free_rendered(&all);
    prompt_destroy(prompt);
}

static void a_blank_follows_special_tokens_within_and_between_parts(void **state)
{
    (void)state;
    struct prompt_template *prompt =
        load_text(LABELS "[system]\n<inst>Hi\n<inst>\\\n[user]\nUser\n[candidate]\n{{title}}\n<inst>Hi\n");
    if (prompt == NULL)
        fail_msg("%s", err.message);
    struct rendered all = render(prompt);
    assert_pieces(&all, "<s>|<inst>|" BLANK "Hi|0a|<inst>|" BLANK "User|0a|Q|0a|<inst>|" BLANK "Hi|0a|");
    free_rendered(&all);
    prompt_destroy(prompt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_blank_opens_the_prompt_and_no_part_behind_plain_text),
        cmocka_unit_test(a_blank_follows_special_tokens_within_and_between_parts),
    };
    return cmocka_run_group_tests(tests, open_made, close_tiny);
}
