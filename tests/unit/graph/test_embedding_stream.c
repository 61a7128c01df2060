#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/embedding.h"

/*
 * ml-100k in order of time: TEST_RATINGS names RecBole's ml-100k.inter, else it is looked for where ./dev fetches it.
 */

enum { ROWS = 100000, IDS = 2000, DIMENSION = 64, LAYERS = 3, BUDGET = 256, NEAREST = 4 };
enum { CHECK_EVERY = 1000, QUERIES = 16 };

struct rating {
    uint32_t user, item;
    long timestamp;
    size_t line;
};

static int compare_ratings(const void *a, const void *b)
{
    const struct rating *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* (ROWS), owned by the caller; NULL: the file is not there. */
static struct rating *read_ratings(void)
{
    char path[512];
    const char *named = getenv("TEST_RATINGS"), *home = getenv("HOME");
    if (named != NULL)
        snprintf(path, sizeof path, "%s", named);
    else
        snprintf(path, sizeof path, "%s/.cache/headrace/ml-100k.inter", home == NULL ? "" : home);
    FILE *file = fopen(path, "r");
    if (file == NULL && named != NULL)
        fail_msg("TEST_RATINGS names %s, which cannot be read", path);
    if (file == NULL) {
        fprintf(stderr, "SKIP: no %s (./dev fetch gets it)\n", path);
        return NULL;
    }
    struct rating *ratings = calloc(ROWS, sizeof *ratings);
    assert_non_null(ratings);
    char line[256];
    size_t count = 0;
    double value;
    assert_non_null(fgets(line, sizeof line, file)); /* the names of the columns */
    while (count < ROWS && fgets(line, sizeof line, file) != NULL) {
        struct rating *rating = &ratings[count];
        assert_int_equal(sscanf(line, "%u %u %lf %ld", &rating->user, &rating->item, &value, &rating->timestamp), 4);
        assert_true(rating->user < IDS && rating->item < IDS);
        rating->line = count++;
    }
    fclose(file);
    assert_int_equal(count, ROWS);
    qsort(ratings, ROWS, sizeof *ratings, compare_ratings);
    return ratings;
}

static struct embedding *create(float epsilon, size_t budget)
{
    struct error err;
    struct embedding *embedding = embedding_create(
        &(struct embedding_settings){
            .layers = LAYERS, .dimension = DIMENSION, .epsilon = epsilon, .budget = budget, .seed = 1},
        &err);
    assert_non_null(embedding);
    return embedding;
}

struct replay {
    struct embedding *pushed, *exact; /* nodes have the same numbers in both */
    uint32_t users[IDS], items[IDS];
    uint32_t known[IDS]; /* numbers of the users there are */
    size_t known_count;
    size_t hits, asked;
};

static uint32_t node_of(struct replay *replay, uint32_t *numbers, const char *kind, uint32_t id)
{
    if (numbers[id] != UINT32_MAX)
        return numbers[id];
    struct error err;
    char key[32];
    uint32_t same;
    snprintf(key, sizeof key, "%s%u", kind, id);
    assert_int_equal(embedding_add_node(replay->pushed, text_of(key), &numbers[id], &err), 0);
    assert_int_equal(embedding_add_node(replay->exact, text_of(key), &same, &err), 0);
    assert_int_equal(numbers[id], same);
    if (numbers == replay->users)
        replay->known[replay->known_count++] = same;
    return same;
}

static void nearest(const struct embedding *embedding, const struct replay *replay, uint32_t user, uint32_t *out)
{
    float query[DIMENSION], other[DIMENSION];
    double best[NEAREST] = {-2, -2, -2, -2};
    embedding_read(embedding, user, query);
    for (size_t i = 0; i < replay->known_count; i++) {
        if (replay->known[i] == user)
            continue;
        embedding_read(embedding, replay->known[i], other);
        double cosine = (double)embedding_cosine(query, other, DIMENSION);
        size_t place = NEAREST;
        while (place > 0 && cosine > best[place - 1])
            place--;
        for (size_t j = NEAREST; j-- > place + 1;) {
            best[j] = best[j - 1];
            out[j] = out[j - 1];
        }
        if (place < NEAREST) {
            best[place] = cosine;
            out[place] = replay->known[i];
        }
    }
}

/* The users of the events to come, those who are there already, ask for their nearest four. */
static void ask(struct replay *replay, const struct rating *next)
{
    embedding_recompute(replay->exact, NULL);
    for (size_t i = 0; i < QUERIES; i++) {
        uint32_t user = replay->users[next[i].user], found[NEAREST], wanted[NEAREST];
        if (user == UINT32_MAX || replay->known_count <= NEAREST)
            continue;
        nearest(replay->pushed, replay, user, found);
        nearest(replay->exact, replay, user, wanted);
        for (size_t a = 0; a < NEAREST; a++)
            for (size_t b = 0; b < NEAREST; b++)
                replay->hits += found[a] == wanted[b];
        replay->asked += NEAREST;
    }
}

static void ml_100k_costs_at_most_220_operations_at_recall_098(void **state)
{
    (void)state;
    struct rating *ratings = read_ratings();
    if (ratings == NULL)
        skip();
    struct error err;
    struct replay replay = {.pushed = create(0.1f, BUDGET), .exact = create(0.0f, 0)};
    memset(replay.users, 0xff, sizeof replay.users);
    memset(replay.items, 0xff, sizeof replay.items);
    uint64_t largest = 0;
    for (size_t i = 0; i < ROWS; i++) {
        uint32_t user = node_of(&replay, replay.users, "u:", ratings[i].user);
        uint32_t item = node_of(&replay, replay.items, "i:", ratings[i].item);
        uint64_t before = embedding_operations(replay.pushed);
        assert_int_equal(embedding_add_edge(replay.pushed, user, item, &err), 0);
        assert_int_equal(embedding_load_edge(replay.exact, user, item, &err), 0);
        uint64_t spent = embedding_operations(replay.pushed) - before;
        largest = spent > largest ? spent : largest;
        if ((i + 1) % CHECK_EVERY == 0 && i + 1 + QUERIES <= ROWS)
            ask(&replay, ratings + i + 1);
    }
    double mean = (double)embedding_operations(replay.pushed) / ROWS;
    double recall = (double)replay.hits / (double)replay.asked;
    print_message("%.1f operations an event, at most %llu; recall@4 of active users %.4f of %zu\n", mean,
                  (unsigned long long)largest, recall, replay.asked / NEAREST);
    assert_true(mean <= 220);
    assert_true(largest <= BUDGET + 2 * LAYERS);
    assert_true(recall >= 0.98);
    assert_float_equal(embedding_epsilon(replay.pushed), 0.1f, 0);
    embedding_destroy(replay.pushed);
    embedding_destroy(replay.exact);
    free(ratings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ml_100k_costs_at_most_220_operations_at_recall_098),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
