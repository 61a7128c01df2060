/*
 * Which edges, and which mean of layers, make similar users worth asking: the area under the ROC curve of what the most
 * similar users of a candidate made of it, as a guess of what the user will.
 *
 *   bench_votes --directory DIR --ratings FILE.inter [--seeds N]
 *
 * The first half of the ratings in order of time is the graph, the second half is guessed, for users with 5 edges or
 * more and items with any. Mean and standard deviation over the seeds of the hashed base vectors, default 5. The
 * directory must exist; what the bench makes there goes again.
 */
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "graph/evidence.h"
#include "replay/event_file.h"

enum { LEAST_EDGES = 5, SEEDS_LIMIT = 50, GUESSES = 4 };

static const char *const guess_names[GUESSES] = {"vote of 4", "vote of 8", "vote of 30", "item's rate"};

struct rating {
    uint32_t user, item;
    int64_t timestamp_ms;
    double value;
};

struct ratings {
    struct rating *at;
    size_t count, capacity;
};

struct guess {
    double value;
    bool like;
};

static int compare_ratings(const void *a, const void *b)
{
    const struct rating *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? -1 : 1;
    return x->user != y->user ? (x->user < y->user ? -1 : 1) : (x->item > y->item) - (x->item < y->item);
}

static uint32_t number_of(struct text id)
{
    uint32_t number = 0;
    for (size_t i = 0; i < id.size && id.data[i] >= '0' && id.data[i] <= '9'; i++)
        number = number * 10 + (uint32_t)(id.data[i] - '0');
    return number;
}

static int read_ratings(struct ratings *ratings, const char *path, struct error *err)
{
    struct event_file_settings settings = {.path = path, .type = &interaction_type, .kind = INTERACTION_RATING};
    struct event_file *file;
    struct arena arena;
    struct interaction event;
    int more;
    if (event_file_open(&file, &settings, err) != 0)
        return -1;
    arena_init(&arena, 0);
    while ((more = event_file_next(file, &arena, &event, err)) == 1) {
        if (array_reserve(&ratings->at, &ratings->capacity, ratings->count + 1, sizeof *ratings->at) != 0) {
            more = error_set(err, ERROR_FATAL, "out of memory");
            break;
        }
        ratings->at[ratings->count++] =
            (struct rating){number_of(event.user_id), number_of(event.item_id), event.timestamp_ms, event.value};
        arena_reset(&arena);
    }
    arena_free(&arena);
    event_file_close(file);
    qsort(ratings->at, ratings->count, sizeof *ratings->at, compare_ratings);
    return more;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static int put(struct graph *graph, const struct rating *rating, struct error *err)
{
    char user[16], item[16];
    snprintf(user, sizeof user, "%u", rating->user);
    snprintf(item, sizeof item, "%u", rating->item);
    struct interaction interaction = {.user_id = text_of(user),
                                      .item_id = text_of(item),
                                      .timestamp_ms = rating->timestamp_ms,
                                      .kind = INTERACTION_RATING,
                                      .has_value = true,
                                      .value = rating->value};
    return graph_put_interaction(graph, &interaction, err);
}

/* 0 when the rating is not one to guess. */
static int guess_one(const struct graph *graph, const struct rating *rating, int64_t now_ms, struct arena *arena,
                     struct evidence *evidence, struct error *err)
{
    char user_id[16], item_id[16];
    snprintf(user_id, sizeof user_id, "%u", rating->user);
    snprintf(item_id, sizeof item_id, "%u", rating->item);
    struct evidence_user user = {.number = graph_find_user(graph, text_of(user_id))};
    uint32_t item = graph_find_item(graph, text_of(item_id));
    struct evidence_request *request;
    struct similar_user voters[EVIDENCE_VOTERS];
    size_t edges = 0;
    if (user.number != GRAPH_NONE)
        (void)graph_user_edges(graph, user.number, &edges);
    if (edges < LEAST_EDGES || item == GRAPH_NONE)
        return 0;
    if (evidence_begin(&request, graph, &user, now_ms, arena, err) != 0)
        return -1;
    evidence_gather(request, item, evidence, voters);
    arena_reset(arena);
    return 1;
}

static int compare_guesses(const void *a, const void *b)
{
    double x = ((const struct guess *)a)->value, y = ((const struct guess *)b)->value;
    return (x > y) - (x < y);
}

/* Share of (liked, not liked) pairs in the right order, ties a half (Mann and Whitney). Sorts the guesses. */
static double area(struct guess *guesses, size_t count)
{
    double rank_sum = 0, likes = 0;
    qsort(guesses, count, sizeof *guesses, compare_guesses);
    for (size_t i = 0, end; i < count; i = end) {
        double liked = 0;
        for (end = i; end < count && guesses[end].value == guesses[i].value; end++)
            liked += guesses[end].like;
        rank_sum += liked * ((double)(i + end) + 1) / 2;
        likes += liked;
    }
    return (rank_sum - likes * (likes + 1) / 2) / (likes * ((double)count - likes));
}

static int guess_all(struct graph *graph, const struct ratings *ratings, double areas[GUESSES], size_t *count,
                     struct error *err)
{
    struct guess *guesses[GUESSES];
    struct arena arena;
    int more = 0;
    size_t half = ratings->count / 2;
    arena_init(&arena, 0);
    for (size_t n = 0; n < GUESSES; n++)
        if ((guesses[n] = calloc(ratings->count, sizeof *guesses[n])) == NULL)
            abort();
    *count = 0;
    for (size_t i = half; i < ratings->count && more >= 0; i++) {
        const struct rating *rating = &ratings->at[i];
        struct evidence evidence;
        more = guess_one(graph, rating, ratings->at[ratings->count - 1].timestamp_ms, &arena, &evidence, err);
        if (more != 1)
            continue;
        const double values[GUESSES] = {evidence.vote_4, evidence.vote_8, evidence.vote_30, evidence.item_like_rate};
        for (size_t n = 0; n < GUESSES; n++)
            guesses[n][*count] = (struct guess){values[n], rating->value >= 4};
        ++*count;
    }
    for (size_t n = 0; n < GUESSES; n++) {
        areas[n] = area(guesses[n], *count);
        free(guesses[n]);
    }
    arena_free(&arena);
    return more < 0 ? -1 : 0;
}

static int try_once(const char *directory, const struct ratings *ratings, struct graph_settings settings,
                    double areas[GUESSES], size_t *count, struct error *err)
{
    char store[4096];
    struct graph *graph = NULL;
    int result;
    snprintf(store, sizeof store, "%s/votes", directory);
    settings.directory = store;
    result = graph_open(&graph, &settings, err);
    for (size_t i = 0; i < ratings->count / 2 && result == 0; i++) {
        result = put(graph, &ratings->at[i], err);
        if (result == 0 && i % 1000 == 999)
            result = graph_commit(graph, err);
    }
    if (result == 0)
        result = graph_commit(graph, err);
    if (result == 0)
        result = guess_all(graph, ratings, areas, count, err);
    graph_close(graph);
    nftw(store, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return result;
}

static int compare_settings(const char *directory, const struct ratings *ratings, size_t seeds, struct error *err)
{
    for (int which = 0; which < 4; which++) {
        double mean[GUESSES] = {0}, square[GUESSES] = {0};
        size_t count = 0;
        for (size_t seed = 1; seed <= seeds; seed++) {
            const struct graph_settings settings = {.like_threshold = 4,
                                                    .like_inclusive = true,
                                                    .layers = 3,
                                                    .dimension = 64,
                                                    .push_threshold = 0.1f,
                                                    .push_budget = 256,
                                                    .seed = seed,
                                                    .edges = which % 2 == 0 ? GRAPH_EDGES_ALL : GRAPH_EDGES_LIKES,
                                                    .normalise = which >= 2};
            double areas[GUESSES];
            if (try_once(directory, ratings, settings, areas, &count, err) != 0)
                return -1;
            for (size_t n = 0; n < GUESSES; n++) {
                mean[n] += areas[n] / (double)seeds;
                square[n] += areas[n] * areas[n] / (double)seeds;
            }
        }
        printf("%-5s edges, %-15s", which % 2 == 0 ? "all" : "likes", which >= 2 ? "layers of one" : "layers as are");
        for (size_t n = 0; n < GUESSES; n++)
            printf("  %s %.3f +- %.3f", guess_names[n], mean[n], sqrt(fmax(square[n] - mean[n] * mean[n], 0)));
        printf("  (%zu ratings guessed)\n", count);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *directory = NULL, *path = NULL;
    size_t seeds = 5;
    struct ratings ratings = {0};
    struct error err;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--directory") == 0)
            directory = argv[i + 1];
        else if (strcmp(argv[i], "--ratings") == 0)
            path = argv[i + 1];
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoul(argv[i + 1], NULL, 10);
    }
    if (directory == NULL || path == NULL || seeds < 1 || seeds > SEEDS_LIMIT) {
        fprintf(stderr, "usage: bench_votes --directory DIR --ratings FILE.inter [--seeds 1 to %d]\n", SEEDS_LIMIT);
        return 2;
    }
    int result = read_ratings(&ratings, path, &err);
    if (result == 0)
        result = compare_settings(directory, &ratings, seeds, &err);
    if (result != 0)
        fprintf(stderr, "bench_votes: %s\n", err.message);
    free(ratings.at);
    return result != 0;
}
