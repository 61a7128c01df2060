/* score.c - answers without Kafka: candidates on the command line, or requests as JSON lines on standard input */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/commands.h"
#include "cmd/setup.h"
#include "cmd/terminal.h"
#include "cmd/vectors.h"
#include "wire/codec.h"

struct asked {
    const char *user;
    const char *items; /* joined by commas */
    int64_t at_ms;     /* since 1970 */
    bool explain;
    bool json;
};

struct session {
    const struct config *config;
    struct trained trained;
    struct graph *graph;
    struct answering answering;
    struct scorer *scorer;
    struct arena arena;
    struct buffer line;
};

static int open_session(struct session *session, bool explain, struct error *err)
{
    struct graph_settings settings = setup_graph(session->config, true);
    if (trained_open(&session->trained, session->config, err) != 0)
        return -1;
    trained_give(&session->trained, &settings);
    if (graph_open(&session->graph, &settings, err) != 0 ||
        setup_answering(session->config, &session->answering, err) != 0)
        return -1;
    struct scorer_settings scorer = setup_scorer(session->config, &session->answering);
    scorer.explain = scorer.explain || explain; /* the store's owner asks, not a stranger */
    return scorer_create(&session->scorer, &scorer, session->graph, session->answering.prompt,
                         session->answering.engine, err);
}

static void close_session(struct session *session)
{
    scorer_destroy(session->scorer);
    setup_answering_close(&session->answering);
    graph_close(session->graph);
    trained_close(&session->trained);
    arena_free(&session->arena);
    buffer_free(&session->line);
}

static struct text title_of(const struct session *session, struct text item_id)
{
    struct text title = {0};
    const struct attribute *attributes;
    size_t count;
    uint32_t item = graph_find_item(session->graph, item_id);
    if (item != GRAPH_NONE)
        graph_item(session->graph, item, &title, &attributes, &count);
    return title.data != NULL ? title : text_of("(no title)");
}

static void print_explanation(const struct explanation *explanation)
{
    printf("\n    prompt:\n");
    for (struct text rest = explanation->prompt; rest.size > 0;) {
        printf("      | ");
        terminal_print(text_cut(&rest, '\n'), 0);
        putchar('\n');
    }
    for (size_t i = 0; i < explanation->similar_user_count; i++) {
        printf("    similar: ");
        terminal_print(explanation->similar_users[i].user, 0);
        printf(" cosine %.4f " TEXT_FORMAT "\n", explanation->similar_users[i].cosine,
               TEXT_ARGS(explanation->similar_users[i].verdict));
    }
    for (size_t i = 0; i < explanation->evidence_count; i++)
        printf("    evidence: %-18.*s%g\n", (int)explanation->evidence[i].name.size, explanation->evidence[i].name.data,
               explanation->evidence[i].value);
    for (size_t i = 0; i < explanation->exit_count; i++) {
        const struct explained_exit *visited = &explanation->exits[i];
        printf("    exit at layer %2d:", (int)visited->layer);
        for (size_t j = 0; j < visited->probability_count; j++)
            printf(" %.4f", visited->probabilities[j]);
        printf("%s\n", visited->fired ? "  settled" : "");
    }
    printf("\n");
}

static void print_table(const struct session *session, const struct score_response *response)
{
    if (response->status != RESPONSE_OK) {
        printf("%s: " TEXT_FORMAT "\n", response_status_name(response->status), TEXT_ARGS(response->error));
        return;
    }
    char newest[32];
    clock_format(response->state.newest_event_ms, newest);
    printf("user ");
    terminal_print(response->user_id, 0);
    printf(", model ");
    terminal_print(response->model, 0);
    printf(", heads " TEXT_FORMAT ", %lld events up to %s, %.0f ms\n\n", TEXT_ARGS(response->heads),
           (long long)response->state.events_applied, newest, response->timings.plan_ms + response->timings.engine_ms);
    printf("%-12s %-11s %-5s %-10s %s\n", "item", "probability", "exit", "status", "title");
    for (size_t i = 0; i < response->candidate_count; i++) {
        const struct scored_candidate *scored = &response->candidates[i];
        terminal_print(scored->item_id, 12);
        printf(" %-11.4f %-5d %-10s ", scored->probability, (int)scored->exit_layer,
               candidate_status_name(scored->status));
        terminal_print(title_of(session, scored->item_id), 0);
        putchar('\n');
        if (scored->has_explanation)
            print_explanation(scored->explanation);
    }
}

static int answer(struct session *session, const struct score_request *request, bool json, struct error *err)
{
    struct score_response response;
    if (scorer_score(session->scorer, request, 0, &session->arena, &response, err) != 0)
        return -1;
    if (!json) {
        print_table(session, &response);
        return 0;
    }
    buffer_clear(&session->line);
    if (message_to_json(&score_response_type, &response, &session->line, err) != 0)
        return -1;
    printf(TEXT_FORMAT "\n", TEXT_ARGS(buffer_text(&session->line)));
    fflush(stdout);
    return 0;
}

static int answer_flags(struct session *session, const struct asked *asked, struct error *err)
{
    struct score_request request = {.request_id = text_of("command-line"),
                                    .user_id = text_of(asked->user),
                                    .timestamp_ms = asked->at_ms,
                                    .explain = asked->explain};
    size_t most = strlen(asked->items) + 1;
    request.candidates = arena_allocate_array(&session->arena, most, sizeof *request.candidates);
    if (request.candidates == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    for (const char *at = asked->items; *at != '\0';) {
        size_t length = strcspn(at, ",");
        if (length > 0)
            request.candidates[request.candidate_count++].item_id = (struct text){at, length};
        at += length + (at[length] == ',');
    }
    return answer(session, &request, asked->json, err);
}

/* A line that cannot be read is named on standard error and the next one is read; the exit code tells. */
static int answer_lines(struct session *session, struct error *err)
{
    char *line = NULL;
    size_t room = 0, number = 0, wrong = 0;
    ssize_t length;
    int result = 0;
    while (result == 0 && (length = getline(&line, &room, stdin)) >= 0) {
        number++;
        if (strspn(line, " \t\r\n") == (size_t)length)
            continue;
        arena_reset(&session->arena);
        struct score_request request;
        if (message_from_json(&score_request_type, (struct text){line, (size_t)length}, &request, &session->arena,
                              err) != 0 ||
            answer(session, &request, true, err) != 0) {
            if (err->kind != ERROR_BAD_INPUT) {
                result = error_wrap(err, "line %zu", number);
                break;
            }
            fprintf(stderr, "headrace score: line %zu: %s\n", number, err->message);
            wrong++;
        }
    }
    free(line);
    if (result == 0 && wrong > 0)
        result = error_set(err, ERROR_BAD_INPUT, "%zu of %zu lines could not be answered", wrong, number);
    return result;
}

int command_score(int argc, char **argv)
{
    struct config_flags config_flags = {0};
    struct asked asked = {.at_ms = clock_wall_ms()};
    const struct flag flags[] = {
        {"user", "ID", FLAG_TEXT, &asked.user, "the user"},
        {"items", "ID,ID,...", FLAG_TEXT, &asked.items,
         "the candidates; without --user and --items: JSON lines on stdin"},
        {"at", "MS", FLAG_NUMBER, &asked.at_ms, "only what happened before counts, ms since 1970 (default: now)"},
        {"explain", NULL, FLAG_SWITCH, &asked.explain, "prompt, similar users, evidence, every exit"},
        {"json", NULL, FLAG_SWITCH, &asked.json, "the response as a JSON line instead of a table"},
        CONFIG_FLAGS(config_flags),
    };
    const struct usage usage = {.command = "score",
                                .operands = "",
                                .summary = "Scores candidates of a user on a store and a model, without Kafka.",
                                .example =
                                    "headrace score --config build/demo/headrace.yaml --user 196 --items 242,302 "
                                    "--explain",
                                .flags = flags,
                                .flag_count = sizeof flags / sizeof *flags};
    int parsed = flags_parse(&usage, argc, argv);
    if (parsed < 0)
        return parsed == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if ((asked.user == NULL) != (asked.items == NULL)) {
        flag_list_free(&config_flags.sets);
        return flags_wrong(&usage, "--user and --items go together");
    }

    struct config *config;
    int code = setup_config("score", &config_flags, &config);
    if (code != EXIT_FINE)
        return code;
    struct session session = {.config = config};
    struct error err;
    int result = open_session(&session, asked.explain, &err);
    if (result == 0)
        result = asked.user != NULL ? answer_flags(&session, &asked, &err) : answer_lines(&session, &err);
    close_session(&session);
    config_destroy(config);
    return result == 0 ? EXIT_FINE : setup_failed("score", &err);
}
