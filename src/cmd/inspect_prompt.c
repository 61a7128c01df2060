/* inspect_prompt.c - the prompt of a user and a candidate as the model reads it, part by part */
#include <stdio.h>

#include "cmd/inspect.h"
#include "cmd/terminal.h"
#include "cmd/vectors.h"
#include "score/plan.h"

enum { PLAN_MEMORY = 64 << 20, PARTS = 3 };

struct part {
    const char *name;
    struct buffer text;
    struct tokens tokens;
};

struct prompt_view {
    const struct inspection *inspection;
    struct answering answering;
    struct trained trained;
    struct graph *graph;
    struct arena arena;
    struct plan plan;
    struct part parts[PARTS];
    struct buffer piece;
};

/* The very calls that score: what is shown is what the model gets. */
static int plan(struct prompt_view *view, struct error *err)
{
    const struct inspection *inspection = view->inspection;
    struct scorer_settings scorer = setup_scorer(inspection->config, &view->answering);
    struct plan_settings settings = {.similar_mode = scorer.similar_mode,
                                     .similar_users = scorer.similar_users,
                                     .history_max = scorer.history_max,
                                     .history_min = scorer.history_min};
    struct request_candidate candidate = {.item_id = text_of(inspection->item)};
    struct score_request request = {.request_id = text_of("inspect"),
                                    .user_id = text_of(inspection->user),
                                    .timestamp_ms = inspection->at_ms,
                                    .candidates = &candidate,
                                    .candidate_count = 1};
    if (graph_find_user(view->graph, request.user_id) == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "user \"%.100s\" is unknown to the store", inspection->user);
    if (graph_find_item(view->graph, candidate.item_id) == GRAPH_NONE)
        return error_set(err, ERROR_BAD_INPUT, "item \"%.100s\" is unknown to the store", inspection->item);
    if (plan_request(view->graph, &settings, &request, &view->arena, &view->plan, err) != 0)
        return -1;
    if (view->plan.candidates[0].prompt.title.data == NULL)
        return error_set(err, ERROR_BAD_INPUT,
                         "item \"%.100s\" has no title: the model is not asked, exit 0 answers (COLD_ITEM)",
                         inspection->item);
    return 0;
}

static int render(struct prompt_view *view, struct error *err)
{
    const struct prompt_template *prompt = view->answering.prompt;
    struct part *system = &view->parts[0], *user = &view->parts[1], *candidate = &view->parts[2];
    *system = (struct part){.name = "system"};
    *user = (struct part){.name = "user"};
    *candidate = (struct part){.name = "candidate"};
    if (prompt_system(prompt, &system->tokens, &system->text, err) != 0 ||
        prompt_user(prompt, &view->plan.user, &user->tokens, &user->text, err) != 0 ||
        prompt_candidate(prompt, &view->plan.candidates[0].prompt, &candidate->tokens, &candidate->text, err) != 0)
        return -1;
    return 0;
}

/* The bytes a token stands for, as they would be written in C: a token may be half a character. */
static void print_piece(struct prompt_view *view, int32_t id)
{
    struct error ignored; /* an id of the tokenizer's own is never out of range */
    buffer_clear(&view->piece);
    tokenizer_decode(view->answering.tokenizer, id, &view->piece, &ignored);
    struct text piece = buffer_text(&view->piece);
    putchar('"');
    for (size_t at = 0; at < piece.size;) {
        uint32_t code_point;
        size_t length = text_code_point(piece.data + at, piece.size - at, &code_point);
        unsigned char byte = (unsigned char)piece.data[at];
        if (byte == '\n')
            printf("\\n");
        else if (length == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0))
            printf("\\x%02x", byte);
        else if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else
            fwrite(piece.data + at, 1, length, stdout);
        at += length > 1 && code_point >= 0xa0 ? length : 1;
    }
    printf("\"\n");
}

static void print_part(struct prompt_view *view, const struct part *part)
{
    printf("%s: %zu tokens\n", part->name, part->tokens.count);
    for (struct text rest = buffer_text(&part->text); rest.size > 0;) {
        printf("  | ");
        terminal_print(text_cut(&rest, '\n'), 0);
        putchar('\n');
    }
    for (size_t i = 0; view->inspection->tokens && i < part->tokens.count; i++) {
        printf("  %5zu %7d  ", i, (int)part->tokens.ids[i]);
        print_piece(view, part->tokens.ids[i]);
    }
    putchar('\n');
}

static void print_prompt(struct prompt_view *view)
{
    const struct part *parts = view->parts;
    for (size_t i = 0; i < PARTS; i++)
        print_part(view, &parts[i]);
    size_t prefix = parts[0].tokens.count + parts[1].tokens.count;
    printf("%zu tokens: a prefix of %zu that the user's candidates share, and %zu of this one\n",
           prefix + parts[2].tokens.count, prefix, parts[2].tokens.count);
    const int32_t labels[] = {prompt_yes(view->answering.prompt), prompt_no(view->answering.prompt)};
    for (size_t i = 0; i < 2; i++) {
        printf("%s is token %d ", i == 0 ? "yes" : "no ", (int)labels[i]);
        print_piece(view, labels[i]);
    }
    if (view->plan.cold_user)
        printf("COLD_USER: fewer events than history.min\n");
}

static json_t *part_json(const struct part *part)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < part->tokens.count; i++)
        json_array_append_new(ids, json_integer(part->tokens.ids[i]));
    return json_pack("{s:s, s:o, s:o}", "part", part->name, "text", inspect_json_text(buffer_text(&part->text)),
                     "tokens", ids);
}

static int print_prompt_json(struct prompt_view *view, struct error *err)
{
    const struct inspection *inspection = view->inspection;
    return inspect_print_json(json_pack("{s:s, s:s, s:I, s:b, s:i, s:i, s:[o, o, o]}", "user_id", inspection->user,
                                        "item_id", inspection->item, "timestamp", (json_int_t)inspection->at_ms,
                                        "cold_user", view->plan.cold_user, "yes_token",
                                        (int)prompt_yes(view->answering.prompt), "no_token",
                                        (int)prompt_no(view->answering.prompt), "parts", part_json(&view->parts[0]),
                                        part_json(&view->parts[1]), part_json(&view->parts[2])),
                              err);
}

int inspect_prompt(const struct inspection *inspection, struct error *err)
{
    struct prompt_view view = {.inspection = inspection};
    struct graph_settings settings = setup_graph(inspection->config, true);
    arena_init(&view.arena, PLAN_MEMORY);
    int result = setup_prompt(inspection->config, &view.answering, err);
    if (result == 0)
        result = trained_open(&view.trained, inspection->config, err);
    trained_give(&view.trained, &settings);
    if (result == 0)
        result = graph_open(&view.graph, &settings, err);
    if (result == 0)
        result = plan(&view, err);
    if (result == 0)
        result = render(&view, err);
    if (result == 0 && inspection->json)
        result = print_prompt_json(&view, err);
    else if (result == 0)
        print_prompt(&view);

    for (size_t i = 0; i < PARTS; i++) {
        buffer_free(&view.parts[i].text);
        tokens_free(&view.parts[i].tokens);
    }
    buffer_free(&view.piece);
    arena_free(&view.arena);
    graph_close(view.graph);
    trained_close(&view.trained);
    setup_answering_close(&view.answering);
    return result;
}
