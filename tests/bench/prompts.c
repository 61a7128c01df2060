/*
 * Real prompts as a worker would make them: replays logged ratings in time order through the graph, and where a user's
 * next ratings are due writes their prompts, made of what was known by then, with what the user came to think.
 *
 *   bench_prompts --ratings FILE --items FILE --out FILE --set model.path=FILE --set state.dir=DIRECTORY [flags]
 *
 * The store's directory must not exist yet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "cmd/demo.h"
#include "cmd/flags.h"
#include "cmd/setup.h"
#include "prompt_file.h"
#include "score/plan.h"

enum { MOST_STAGED = 10000 }; /* interactions in one commit */

struct bench {
    struct config *config;
    struct answering answering; /* without engine */
    struct demo_data data;
    struct graph *graph;
    size_t replayed; /* ratings in the graph */
    struct arena arena;
    struct tokens prefix, tails;
    size_t prompts, candidates;
    FILE *out;
};

/* A user's next ratings. */
struct group {
    size_t *ratings; /* indices, ascending */
    size_t count;
};

static int replay_until(struct bench *bench, size_t end, struct error *err)
{
    for (; bench->replayed < end; bench->replayed++) {
        struct interaction event = demo_interaction(&bench->data, &bench->data.ratings[bench->replayed]);
        if (graph_put_interaction(bench->graph, &event, err) != 0 ||
            (graph_staged(bench->graph) >= MOST_STAGED && graph_commit(bench->graph, err) != 0))
            return -1;
    }
    return graph_commit(bench->graph, err);
}

static int render(struct bench *bench, const struct plan *plan, const struct group *group, struct error *err)
{
    const struct prompt_template *template = bench->answering.prompt;
    struct bench_prompt prompt = {.user = bench->data.ratings[group->ratings[0]].user,
                                  .offsets = arena_allocate_array(&bench->arena, group->count + 1, sizeof(size_t)),
                                  .liked = arena_allocate_array(&bench->arena, group->count, sizeof(bool))};
    if (prompt.offsets == NULL || prompt.liked == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while rendering prompts");
    bench->prefix.count = bench->tails.count = 0;
    if (prompt_system(template, &bench->prefix, NULL, err) != 0 ||
        prompt_user(template, &plan->user, &bench->prefix, NULL, err) != 0)
        return -1;
    for (size_t c = 0; c < group->count; c++) {
        if (plan->candidates[c].prompt.title.data == NULL)
            continue; /* a worker answers these without the model */
        if (prompt_candidate(template, &plan->candidates[c].prompt, &bench->tails, NULL, err) != 0)
            return -1;
        prompt.liked[prompt.candidate_count++] = bench->data.ratings[group->ratings[c]].like;
        prompt.offsets[prompt.candidate_count] = bench->tails.count;
    }
    prompt.prefix = bench->prefix.ids;
    prompt.prefix_length = bench->prefix.count;
    prompt.tokens = bench->tails.ids;
    if (prompt.candidate_count > 0)
        prompt_file_write(bench->out, &prompt);
    bench->prompts += prompt.candidate_count > 0;
    bench->candidates += prompt.candidate_count;
    return 0;
}

static int write_group(struct bench *bench, const struct group *group, struct error *err)
{
    const struct demo_data *data = &bench->data;
    const struct demo_rating *first = &data->ratings[group->ratings[0]];
    struct scorer_settings scorer = setup_scorer(bench->config, &bench->answering);
    struct plan_settings settings = {.similar_mode = scorer.similar_mode,
                                     .similar_users = scorer.similar_users,
                                     .history_max = scorer.history_max,
                                     .history_min = scorer.history_min};
    struct score_request request = {.request_id = text_of("bench"),
                                    .user_id = table_key(&data->users, first->user),
                                    .timestamp_ms = first->timestamp_ms,
                                    .candidate_count = group->count};
    arena_reset(&bench->arena);
    request.candidates = arena_allocate_array(&bench->arena, group->count, sizeof *request.candidates);
    if (request.candidates == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while planning prompts");
    for (size_t c = 0; c < group->count; c++)
        request.candidates[c].item_id = table_key(&data->items, data->ratings[group->ratings[c]].item);

    struct plan plan;
    if (replay_until(bench, group->ratings[0], err) != 0 ||
        plan_request(bench->graph, &settings, &request, &bench->arena, &plan, err) != 0)
        return -1;
    return render(bench, &plan, group, err);
}

/* All the full groups behind `from`, by their first rating. */
static int group_ratings(const struct demo_data *data, size_t from, size_t size, struct group **groups, size_t *count,
                         struct error *err)
{
    struct group *open = calloc(data->users.count, sizeof *open);
    size_t capacity = 0;
    *groups = NULL;
    *count = 0;
    for (size_t i = from; open != NULL && i < data->rating_count; i++) {
        struct group *group = &open[data->ratings[i].user];
        if (group->ratings == NULL)
            group->ratings = calloc(size, sizeof *group->ratings);
        if (group->ratings == NULL || array_reserve(groups, &capacity, *count + 1, sizeof **groups) != 0)
            goto no_memory;
        group->ratings[group->count++] = i;
        if (group->count < size)
            continue;
        (*groups)[(*count)++] = *group;
        *group = (struct group){0};
    }
    if (open == NULL)
        goto no_memory;
    for (size_t u = 0; u < data->users.count; u++)
        free(open[u].ratings);
    free(open);
    return 0;

no_memory:
    free(open);
    return error_set(err, ERROR_FATAL, "out of memory while grouping ratings");
}

static int earlier_first(const void *a, const void *b)
{
    size_t x = ((const struct group *)a)->ratings[0], y = ((const struct group *)b)->ratings[0];
    return x < y ? -1 : x > y;
}

static int write_prompts(struct bench *bench, size_t from, size_t wanted, size_t size, struct error *err)
{
    struct group *groups;
    size_t count;
    if (group_ratings(&bench->data, from, size, &groups, &count, err) != 0)
        return -1;
    qsort(groups, count, sizeof *groups, earlier_first);
    size_t taken = wanted < count ? wanted : count;
    int result = count > 0 ? 0 : error_set(err, ERROR_BAD_INPUT, "no user has %zu ratings that late", size);
    for (size_t i = 0; result == 0 && i < taken; i++)
        result = write_group(bench, &groups[(2 * i + 1) * count / (2 * taken)], err);
    for (size_t i = 0; i < count; i++)
        free(groups[i].ratings);
    free(groups);
    return result;
}

static int bench_open(struct bench *bench, const char *ratings, const char *items, const char *out, struct error *err)
{
    struct graph_settings settings = setup_graph(bench->config, false);
    if (setup_prompt(bench->config, &bench->answering, err) != 0 ||
        demo_data_load(&bench->data, ratings, items, &settings, 0.5, 0, err) != 0 ||
        graph_open(&bench->graph, &settings, err) != 0)
        return -1;
    for (size_t i = 0; i < bench->data.title_count; i++)
        if (graph_put_item(bench->graph, &bench->data.titles[i], err) != 0)
            return -1;
    bench->out = fopen(out, "w");
    if (bench->out == NULL)
        return error_set(err, ERROR_FATAL, "%s: %s", out, strerror(errno));
    return 0;
}

static int bench_close(struct bench *bench, const char *out, struct error *err)
{
    int result = 0;
    if (bench->out != NULL && fclose(bench->out) != 0)
        result = error_set(err, ERROR_RETRY, "%s: %s", out, strerror(errno));
    tokens_free(&bench->prefix);
    tokens_free(&bench->tails);
    arena_free(&bench->arena);
    graph_close(bench->graph);
    demo_data_free(&bench->data);
    setup_answering_close(&bench->answering);
    config_destroy(bench->config);
    return result;
}

int main(int argc, char **argv)
{
    struct config_flags configs = {0};
    const char *ratings = NULL, *items = NULL, *out = NULL;
    int64_t prompts = 200, candidates = 20, after = 50;
    const struct flag flags[] = {CONFIG_FLAGS(configs),
                                 {"ratings", "FILE", FLAG_TEXT, &ratings, "RecBole's .inter file"},
                                 {"items", "FILE", FLAG_TEXT, &items, "RecBole's .item file"},
                                 {"out", "FILE", FLAG_TEXT, &out, "where the prompts go"},
                                 {"prompts", "N", FLAG_NUMBER, &prompts, "how many, spread over the time (200)"},
                                 {"candidates", "N", FLAG_NUMBER, &candidates, "of each prompt (20)"},
                                 {"after", "PERCENT", FLAG_NUMBER, &after, "of the ratings: no prompt before (50)"}};
    const struct usage usage = {.command = "bench_prompts",
                                .operands = "",
                                .summary = "Writes real prompts' token ids for the benchmarks.",
                                .example = "./dev bench accuracy",
                                .flags = flags,
                                .flag_count = sizeof flags / sizeof *flags};
    int operand = flags_parse(&usage, argc, argv);
    if (operand < 0)
        return operand == FLAGS_DONE ? EXIT_FINE : EXIT_USAGE;
    if (ratings == NULL || items == NULL || out == NULL || prompts == 0 || candidates == 0 || after >= 100)
        return flags_wrong(&usage, "--ratings, --items and --out name files; numbers above 0, --after below 100");

    struct bench bench = {0};
    struct error err;
    arena_init(&bench.arena, 0);
    if (setup_config(usage.command, &configs, &bench.config) != EXIT_FINE)
        return EXIT_FAILED;
    int result = bench_open(&bench, ratings, items, out, &err);
    if (result == 0)
        result = write_prompts(&bench, bench.data.rating_count * (size_t)after / 100, (size_t)prompts,
                               (size_t)candidates, &err);
    struct error closing;
    if (bench_close(&bench, out, &closing) != 0 && result == 0) {
        err = closing;
        result = -1;
    }
    if (result != 0) {
        fprintf(stderr, "bench_prompts: %s\n", err.message);
        return EXIT_FAILED;
    }
    printf("%zu prompts with %zu candidates in %s\n", bench.prompts, bench.candidates, out);
    return EXIT_FINE;
}
