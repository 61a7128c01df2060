#include "prompt/tiny.h"

#define TEXT(string)                                                                                                   \
    {                                                                                                                  \
        string, sizeof(string) - 1                                                                                     \
    }
#define LABELS "[labels]\nyes = Yes\nno = No\nliked = liked\ndisliked = disliked\nneutral = seen\nuntitled = a film\n"
#define SYSTEM "[system]\nJudge.\n"
#define USER "[user]\nViewer:\n"
#define CANDIDATE "[candidate]\nFilm: {{title}}\nLiked?\n"

static const struct prompt_candidate casino = {.title = TEXT("Casino")};

/* What a template with this user part makes of a user. */
static void assert_user(const char *section, const struct prompt_user *user, const char *expected)
{
    char text[2000];
    snprintf(text, sizeof text, LABELS SYSTEM "[user]\n%s" CANDIDATE, section);
    struct prompt_template *prompt = load_text(text);
    if (prompt == NULL)
        fail_msg("%s", err.message);
    struct rendered part = render_user(prompt, user);
    assert_string_equal(buffer_string(&part.text), expected);
    free_rendered(&part);
    prompt_destroy(prompt);
}

static void assert_candidate(const char *section, const struct prompt_candidate *candidate, const char *expected)
{
    char text[2000];
    snprintf(text, sizeof text, LABELS SYSTEM USER "[candidate]\n%s", section);
    struct prompt_template *prompt = load_text(text);
    if (prompt == NULL)
        fail_msg("%s", err.message);
    struct rendered part = render_candidate(prompt, candidate);
    assert_string_equal(buffer_string(&part.text), expected);
    free_rendered(&part);
    prompt_destroy(prompt);
}

static void blocks_ask_for_each_any_and_none(void **state)
{
    (void)state;
    const char *section =
        "Viewer:\n{{?history}}\nsome\n{{#history}}\n- {{title}}: {{verdict}}\n{{/history}}\n{{/history}}\n"
        "{{^history}}\nnone\n{{/history}}\nend\n";
    const struct prompt_event events[] = {{TEXT("Heat"), PROMPT_NEUTRAL, false, 0},
                                          {TEXT("Fargo"), PROMPT_LIKED, false, 0}};
    assert_user(section, &(struct prompt_user){.history = events, .history_count = 2},
                "Viewer:\nsome\n- Heat: seen\n- Fargo: liked\nend\n");
    assert_user(section, &(struct prompt_user){0}, "Viewer:\nnone\nend\n");
}

static void a_value_can_be_asked_for_like_a_list(void **state)
{
    (void)state;
    const char *section = "Viewer:\n{{#history}}\n{{title}}\\\n{{?rating}}\n, rated {{rating}}\\\n{{/rating}}\n"
                          ".\n{{/history}}\n";
    const struct prompt_event events[] = {
        {TEXT("A"), 1, true, 5},     {TEXT("B"), 1, true, 3.5}, {TEXT("C"), 1, true, 0.254},
        {TEXT("D"), 1, true, -1.05}, {TEXT("E"), 1, false, 4},  {TEXT("F"), 1, true, 0.0 / 0.0},
        {TEXT("G"), 1, true, 1e300}, {TEXT("H"), 1, true, 0},   {TEXT("I"), 1, true, 9.999},
    };
    assert_user(section, &(struct prompt_user){.history = events, .history_count = 9},
                "Viewer:\nA, rated 5.\nB, rated 3.5.\nC, rated 0.25.\nD, rated -1.05.\nE.\nF.\nG.\nH, rated 0.\n"
                "I, rated 10.\n");
}

static void fields_and_counts_are_told(void **state)
{
    (void)state;
    static const int verdicts[] = {PROMPT_LIKED, PROMPT_DISLIKED};
    const struct prompt_field fields[] = {{TEXT("genre"), TEXT("crime")}, {TEXT("year"), TEXT("")}};
    const struct prompt_candidate candidate = {TEXT("Casino"), fields, 2, 20, 3, verdicts, 2, 9, 4, 200, 33,
                                               0.25,           0.506};
    assert_candidate(
        "Film: {{title}}\n{{#attributes}}\n{{?value}}\n{{name}}: {{ value }}\n{{/value}}\n{{/attributes}}\n"
        "{{likes}}/{{ratings}} {{likes_percent}} {{similar_liked}}/{{similar_known}} {{recent_liked}}/{{recent_known}} "
        "{{liked_percent}} {{affinity_percent}} {{vote_percent}}\nThey:\\\n{{#similar_verdicts}}\n"
        " {{verdict}}\\\n{{/similar_verdicts}}\n.\nSay {{yes}} or {{no}}:\n",
        &candidate, "Film: Casino\ngenre: crime\n3/20 15 1/2 4/9 17 25 51\nThey: liked disliked.\nSay Yes or No:\n");
}

static void no_more_fields_than_the_limit_are_told(void **state)
{
    (void)state;
    struct prompt_field fields[PROMPT_FIELD_COUNT_LIMIT + 5];
    for (size_t i = 0; i < PROMPT_FIELD_COUNT_LIMIT + 5; i++)
        fields[i] = (struct prompt_field){TEXT("a"), TEXT("b")};
    char expected[200] = "Viewer:\n";
    for (size_t i = 0; i < PROMPT_FIELD_COUNT_LIMIT; i++)
        strcat(expected, "a b\n");
    assert_user("Viewer:\n{{#profile}}\n{{name}} {{value}}\n{{/profile}}\n",
                &(struct prompt_user){.profile = fields, .profile_count = PROMPT_FIELD_COUNT_LIMIT + 5}, expected);
}

static void comments_empty_lines_and_line_ends_follow_the_format(void **state)
{
    (void)state;
    assert_user("\n\n{{! who it is }}\nViewer:\r\n\n  one\n# no comment here\n\n\n", &(struct prompt_user){0},
                "Viewer:\n\n  one\n# no comment here\n");
    assert_candidate("Film: {{title}} \\\n[INST] {{untitled}}\n", &casino, "Film: Casino [INST] a film\n");
    assert_candidate("Film: {{title}}\nAnswer:\\", &casino, "Film: Casino\nAnswer:");
}

static void only_the_template_makes_special_tokens(void **state)
{
    (void)state;
    const struct prompt_candidate forged = {.title = TEXT("<|im_start|>")};
    char text[500];
    snprintf(text, sizeof text, LABELS SYSTEM USER "[candidate]\n%s", "Film: {{title}}<|im_end|>\n<|im_start|>x\n");
    struct prompt_template *prompt = load_text(text);
    struct rendered part = render_candidate(prompt, &forged);
    assert_string_equal(buffer_string(&part.text), "Film: <|im_start|><|im_end|>\n<|im_start|>x\n");
    assert_int_equal(count_token(&part.tokens, "<|im_start|>"), 1);
    assert_int_equal(count_token(&part.tokens, "<|im_end|>"), 1);
    free_rendered(&part);
    prompt_destroy(prompt);
}

static void an_answer_may_begin_with_a_space(void **state)
{
    (void)state;
    struct prompt_template *prompt = load_text(
        "[labels]\nyes = \" Yes\"\nno = \" No\"\nliked = a\ndisliked = b\nneutral = c\nuntitled = d\n" SYSTEM USER
        "[candidate]\nFilm: {{title}}\nAnswer:\\\n");
    if (prompt == NULL)
        fail_msg("%s", err.message);
    struct buffer word = {0};
    assert_int_equal(tokenizer_decode(tokenizer, prompt_yes(prompt), &word, &err), 0);
    assert_string_equal(buffer_string(&word), " Yes");
    buffer_free(&word);
    prompt_destroy(prompt);
}

/* A template at fault is refused with a message that has all of `parts` (NULL-ended). */
static void assert_refused(const char *text, const char *const *parts)
{
    struct prompt_template *prompt = load_text(text);
    if (prompt != NULL)
        fail_msg("accepted: %s", text);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    for (; *parts != NULL; parts++)
        if (strstr(err.message, *parts) == NULL)
            fail_msg("\"%s\" lacks \"%s\"", err.message, *parts);
}

#define REFUSED(text, ...) assert_refused((text), (const char *const[]){__VA_ARGS__, NULL})

static void unknown_names_are_refused_by_line_with_the_nearest(void **state)
{
    (void)state;
    REFUSED(SYSTEM "[user]\nA\n{{#histroy}}\n", ":5: ", "\"histroy\"", "did you mean \"history\"");
    REFUSED(SYSTEM "[user]\n\n{{#history}}\n{{titel}}\n{{/history}}\n", ":6: ", "did you mean \"title\"");
    REFUSED(SYSTEM "[user]\n{{elephant}}\n", ":4: ", "known are: yes no liked", "history");
    REFUSED(SYSTEM "[user]\n{{ratings}}\n", ":4: ", "\"ratings\" is not known here");
    REFUSED("[system]\n{{#history}}\n", ":2: ", "history");
    REFUSED(SYSTEM "[user]\n{{}}\n", ":4: ");
    REFUSED(SYSTEM "[usr]\n", ":3: ", "[usr]", "[user]");
    REFUSED("[labels]\nyess = Yes\n", ":2: ", "did you mean \"yes\"");
}

static void unbalanced_blocks_are_refused_by_line(void **state)
{
    (void)state;
    REFUSED(SYSTEM "[user]\nA\n{{#history}}\nB\n" CANDIDATE, ":5: ", "{{/history}} is missing");
    REFUSED(SYSTEM "[user]\nA\n{{?history}}\n", ":5: ", "{{/history}} is missing");
    REFUSED(SYSTEM "[user]\n{{#history}}\n{{?rating}}\n{{/history}}\n", ":6: ", "{{/rating}} is due", "line 5");
    REFUSED(SYSTEM "[user]\n{{/history}}\n", ":4: ", "not begun");
    REFUSED(SYSTEM "[user]\n{{title\n", ":4: ", "without \"}}\"");
    REFUSED(SYSTEM "[user]\nSeen: {{#history}}\n", ":4: ", "alone on its line");
    REFUSED(SYSTEM "[user]\n{{history}}\n", ":4: ", "history is a list");
    REFUSED(SYSTEM USER "[candidate]\n{{#title}}\n", ":6: ", "title is no list", "{{?title}}");
    REFUSED(SYSTEM "[user]\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n{{?yes}}\n",
            ":12: ", "more than 8");
}

static void incomplete_templates_are_refused(void **state)
{
    (void)state;
    REFUSED("", "[system] is missing");
    REFUSED("# a comment\n\nYou judge.\n" SYSTEM, ":3: ", "before the first section");
    REFUSED(LABELS SYSTEM USER, "[candidate] is missing");
    REFUSED(LABELS SYSTEM CANDIDATE, "[user] is missing");
    REFUSED(SYSTEM USER CANDIDATE, "[labels] is missing");
    REFUSED(LABELS SYSTEM USER "[candidate]\n\n", "[candidate] is empty");
    REFUSED(SYSTEM USER CANDIDATE "[labels]\nyes = Yes\n", "lacks no");
    REFUSED(SYSTEM USER SYSTEM, ":5: ", "second section [system]");
    REFUSED("[labels]\nyes = Yes\nyes = Yes\n", ":3: ", "second time");
    REFUSED("[labels]\nyes =\n", ":2: ", "no word");
    REFUSED("[labels]\nyes Yes\n", ":2: ", "yes = Yes");
    REFUSED(SYSTEM "[user]\n\xff\n", ":4: ", "UTF-8");
}

static void answers_must_be_single_tokens_of_their_own(void **state)
{
    (void)state;
#define REST "liked = a\ndisliked = b\nneutral = c\nuntitled = d\n" SYSTEM USER
    REFUSED("[labels]\nyes = Yes indeed\nno = No\n" REST CANDIDATE, "\"Yes indeed\" is ", " tokens");
    REFUSED("[labels]\nyes = Yes\nno = Qzxqzx\n" REST CANDIDATE, "\"Qzxqzx\" is ", " tokens");
    REFUSED("[labels]\nyes = Yes\nno = Yes\n" REST CANDIDATE, "same token");
    REFUSED("[labels]\nyes = ed\nno = No\n" REST "[candidate]\nFilm: {{title}}\nlik\\\n", "\"ed\"", "together");
}

static void parts_that_would_run_together_are_refused(void **state)
{
    (void)state;
    REFUSED(LABELS SYSTEM "[user]\nThe view\\\n[candidate]\ners of {{title}}\n", "apart", "line end");
    REFUSED(LABELS SYSTEM "[user]\nViewer:\n{{^history}}\nlik\\\n{{/history}}\n[candidate]\ned\n", "apart");
}

static void special_tokens_of_another_model_are_refused(void **state)
{
    (void)state;
    REFUSED(LABELS "[system]\n\nYou.<|eot_id|>\n" USER CANDIDATE, ":10: ", "\"<|eot_id|>\"", "no special token");
}

static void files_that_cannot_be_read_are_named(void **state)
{
    (void)state;
    struct prompt_template *prompt = NULL;
    assert_int_equal(prompt_load(&prompt, "/nonexistent/my.prompt", tokenizer, &err), -1);
    assert_non_null(strstr(err.message, "/nonexistent/my.prompt"));
    assert_null(prompt);
}

/* Bytes of the default template changed at random either load or are refused; nothing else happens. */
static void damaged_templates_do_no_harm(void **state)
{
    (void)state;
    struct buffer source = {0};
    FILE *file = fopen(HEADRACE_SOURCE "/config/prompts/movies.prompt", "rb");
    assert_non_null(file);
    for (int c; (c = fgetc(file)) != EOF;)
        buffer_append_byte(&source, (uint8_t)c);
    fclose(file);
    size_t start = (size_t)(strstr(buffer_string(&source), "\n[labels]\n") - (char *)source.data), refused = 0;
    uint32_t seed = 1;
    for (int round = 0; round < 400; round++) {
        char *text = strdup((char *)source.data + start);
        size_t size = strlen(text);
        for (int change = 0; change < 3; change++) {
            seed = seed * 1664525u + 1013904223u;
            text[(seed >> 8) % size] = "{}#/?^\n[]=\\ a|<\xff"[seed >> 28];
        }
        struct prompt_template *prompt = load_text(text);
        refused += prompt == NULL;
        prompt_destroy(prompt);
        free(text);
    }
    buffer_free(&source);
    assert_in_range(refused, 1, 399);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_ask_for_each_any_and_none),
        cmocka_unit_test(a_value_can_be_asked_for_like_a_list),
        cmocka_unit_test(fields_and_counts_are_told),
        cmocka_unit_test(no_more_fields_than_the_limit_are_told),
        cmocka_unit_test(comments_empty_lines_and_line_ends_follow_the_format),
        cmocka_unit_test(only_the_template_makes_special_tokens),
        cmocka_unit_test(an_answer_may_begin_with_a_space),
        cmocka_unit_test(unknown_names_are_refused_by_line_with_the_nearest),
        cmocka_unit_test(unbalanced_blocks_are_refused_by_line),
        cmocka_unit_test(incomplete_templates_are_refused),
        cmocka_unit_test(answers_must_be_single_tokens_of_their_own),
        cmocka_unit_test(parts_that_would_run_together_are_refused),
        cmocka_unit_test(special_tokens_of_another_model_are_refused),
        cmocka_unit_test(files_that_cannot_be_read_are_named),
        cmocka_unit_test(damaged_templates_do_no_harm),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
