#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "graph/embedding.h"
#include "graph/graph.h"
#include "graph/similar.h"
#include "graph/vectors.h"

enum { DIMENSION = 32, LATE = 1000000 };

struct fixture {
    char directory[256];
    struct graph *graph;
};

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int open_graph_with(void **state, bool table)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    const char *parent = getenv("TMPDIR");
    snprintf(fixture->directory, sizeof fixture->directory, "%s/headrace-similar-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(fixture->directory));
    struct graph_settings settings = {
        .directory = fixture->directory,
        .like_threshold = 4,
        .like_inclusive = true,
        .layers = 3,
        .dimension = DIMENSION,
        .push_threshold = 0.1f,
        .push_budget = table ? 20 : 0, /* something waits nearly always */
        .similar_table = table,
        .seed = 1,
    };
    struct error err;
    if (graph_open(&fixture->graph, &settings, &err) != 0)
        fail_msg("%s", err.message);
    *state = fixture;
    return 0;
}

static int open_graph(void **state)
{
    return open_graph_with(state, false);
}

static int open_graph_with_table(void **state)
{
    return open_graph_with(state, true);
}

static int close_graph(void **state)
{
    struct fixture *fixture = *state;
    graph_close(fixture->graph);
    nftw(fixture->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static void rate(struct graph *graph, const char *user, const char *item, double value, int64_t timestamp_ms)
{
    struct interaction interaction = {
        .user_id = text_of(user),
        .item_id = text_of(item),
        .timestamp_ms = timestamp_ms,
        .kind = INTERACTION_RATING,
        .has_value = true,
        .value = value,
    };
    struct error err;
    if (graph_put_interaction(graph, &interaction, &err) != 0)
        fail_msg("%s", err.message);
}

static void commit(struct graph *graph)
{
    struct error err;
    if (graph_commit(graph, &err) != 0)
        fail_msg("%s", err.message);
}

static uint32_t user_number(const struct graph *graph, const char *id)
{
    uint32_t user = graph_find_user(graph, text_of(id));
    assert_int_not_equal(user, GRAPH_NONE);
    return user;
}

/* The answer's ids, joined by spaces. */
static const char *names(const struct graph *graph, const struct similar_user *users, size_t count, char out[256])
{
    size_t size = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(out + size, 256 - size, "%s" TEXT_FORMAT, i ? " " : "",
                                 TEXT_ARGS(graph_user_id(graph, users[i].user)));
    return out;
}

static size_t by_candidate(const struct graph *graph, const float *query, uint32_t self, uint32_t item,
                           int64_t before_ms, size_t k, struct similar_user *out)
{
    struct similar_search search;
    similar_begin(&search, graph, query, self, before_ms);
    size_t count = similar_by_candidate(&search, item, k, out);
    struct similar_user again[128];
    assert_int_equal(similar_by_candidate(&search, item, k, again), count); /* now that it has met them all */
    for (size_t i = 0; i < count; i++)
        assert_int_equal(again[i].user, out[i].user);
    return count;
}

/* Users who rated `shared` and nothing else: their vectors are equal, whenever they came. */
static void put_twins(struct graph *graph)
{
    rate(graph, "early", "shared", 5, 100);
    commit(graph);
    rate(graph, "stranger", "shared", 1, 200);
    rate(graph, "stranger", "else", 5, 900);
    commit(graph);
    rate(graph, "b10", "shared", 4, 300);
    rate(graph, "b1", "shared", 2, 300);
    commit(graph);
    rate(graph, "a", "shared", 5, 250);
    rate(graph, "late", "shared", 3, 500);
    rate(graph, "self", "shared", 5, 50);
    commit(graph);
}

static void ties_go_to_the_most_recently_active_then_by_id(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    put_twins(graph);
    graph_read_lock(graph);
    float query[DIMENSION];
    uint32_t self = user_number(graph, "self");
    graph_user_embedding(graph, self, query);
    struct similar_user out[8];
    char text[256];
    uint32_t shared = graph_find_item(graph, text_of("shared"));
    size_t count = by_candidate(graph, query, self, shared, LATE, 8, out);
    assert_string_equal(names(graph, out, count, text), "late b1 b10 a early stranger");
    assert_true(out[0].cosine == 1.0 && out[4].cosine == 1.0);
    assert_true(out[5].cosine < 1.0);
    assert_int_equal(out[0].verdict, VERDICT_DISLIKE);
    assert_int_equal(out[2].verdict, VERDICT_LIKE);

    count = by_candidate(graph, query, self, shared, LATE, 3, out);
    assert_string_equal(names(graph, out, count, text), "late b1 b10");

    count = similar_global(graph, query, self, 8, out);
    assert_string_equal(names(graph, out, count, text), "late b1 b10 a early stranger");
    for (size_t i = 0; i < count; i++)
        assert_int_equal(out[i].verdict, 0);
    graph_read_unlock(graph);
}

/*
 * However many items they share, and in whatever order these came, twins tie. Of each pair the twin that came into the
 * stream first was active last.
 */
static void twins_tie_whatever_the_order_of_their_edges(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    enum { PAIRS = 12, SHARED = 9 };
    struct random random = {41};
    char user[32], item[32];
    for (int64_t stage = 1; stage >= 0; stage--)
        for (int pair = 0; pair < PAIRS; pair++) {
            for (int i = 0; i < SHARED; i++) {
                snprintf(user, sizeof user, "%s%d", stage == 1 ? "first" : "afterwards", pair);
                snprintf(item, sizeof item, "i%d", (pair * 5 + (stage == 1 ? i : SHARED - 1 - i)) % 30);
                rate(graph, user, item, 5, 1000 + stage);
            }
            for (int i = 0; i < 10; i++) {
                snprintf(user, sizeof user, "other%d", (int)random_below(&random, 40));
                snprintf(item, sizeof item, "i%d", (int)random_below(&random, 30));
                rate(graph, user, item, 5, 10);
            }
            commit(graph);
        }
    graph_read_lock(graph);
    float query[DIMENSION], twin[DIMENSION];
    graph_user_embedding(graph, user_number(graph, "other7"), query);
    struct similar_user out[128];
    size_t count = similar_global(graph, query, GRAPH_NONE, 128, out), place[2][PAIRS] = {0};
    for (size_t i = 0; i < count; i++) {
        struct text id = graph_user_id(graph, out[i].user);
        if (id.data[0] != 'o')
            place[id.data[0] == 'a'][atoi(id.data + (id.data[0] == 'a' ? strlen("afterwards") : strlen("first")))] = i;
    }
    size_t different_bits = 0;
    for (int pair = 0; pair < PAIRS; pair++) {
        assert_true(place[0][pair] < place[1][pair]);
        graph_user_embedding(graph, out[place[0][pair]].user, query);
        graph_user_embedding(graph, out[place[1][pair]].user, twin);
        different_bits += memcmp(query, twin, sizeof twin) != 0;
    }
    assert_int_equal(different_bits, 0);
    graph_read_unlock(graph);
}

static void only_edges_earlier_than_the_request_count(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    put_twins(graph);
    graph_read_lock(graph);
    float query[DIMENSION];
    uint32_t self = user_number(graph, "self");
    graph_user_embedding(graph, self, query);
    struct similar_user out[8];
    char text[256];
    uint32_t shared = graph_find_item(graph, text_of("shared"));
    size_t count = by_candidate(graph, query, self, shared, 300, 8, out);
    assert_string_equal(names(graph, out, count, text), "a early stranger");
    count = by_candidate(graph, query, self, shared, 301, 8, out);
    assert_string_equal(names(graph, out, count, text), "b1 b10 a early stranger");
    assert_int_equal(by_candidate(graph, query, self, shared, 50, 8, out), 0);
    graph_read_unlock(graph);
}

static void self_is_left_out_only_when_named(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    put_twins(graph);
    graph_read_lock(graph);
    float query[DIMENSION];
    graph_user_embedding(graph, user_number(graph, "self"), query);
    struct similar_user out[8];
    char text[256];
    uint32_t shared = graph_find_item(graph, text_of("shared"));
    size_t count = by_candidate(graph, query, GRAPH_NONE, shared, LATE, 8, out);
    assert_string_equal(names(graph, out, count, text), "late b1 b10 a early self stranger");
    graph_read_unlock(graph);
}

static void nobody_is_similar_to_nothing(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    float query[DIMENSION] = {1};
    struct similar_user out[4];
    graph_read_lock(graph);
    assert_int_equal(similar_global(graph, query, GRAPH_NONE, 4, out), 0);
    graph_read_unlock(graph);
    put_twins(graph);
    struct attribute profile = {text_of("age"), text_of("30")};
    struct user profiled = {text_of("profile only"), &profile, 1};
    struct item titled = {text_of("title only"), text_of("A Title"), NULL, 0};
    struct error err;
    assert_int_equal(graph_put_user(graph, &profiled, &err), 0);
    assert_int_equal(graph_put_item(graph, &titled, &err), 0);
    commit(graph);

    graph_read_lock(graph);
    uint32_t shared = graph_find_item(graph, text_of("shared"));
    uint32_t unrated = graph_find_item(graph, text_of("title only"));
    assert_int_not_equal(unrated, GRAPH_NONE);
    assert_int_equal(by_candidate(graph, query, GRAPH_NONE, unrated, LATE, 4, out), 0);
    assert_int_equal(by_candidate(graph, query, GRAPH_NONE, GRAPH_NONE, LATE, 4, out), 0);
    assert_int_equal(by_candidate(graph, query, GRAPH_NONE, shared, LATE, 0, out), 0);
    struct similar_user all[16];
    uint32_t lone = user_number(graph, "profile only");
    size_t count = similar_global(graph, query, GRAPH_NONE, 16, all);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < count; i++)
        assert_int_not_equal(all[i].user, lone);
    graph_user_embedding(graph, lone, query);
    assert_int_equal(similar_global(graph, query, lone, 4, out), 0);
    assert_int_equal(by_candidate(graph, query, lone, shared, LATE, 4, out), 0);
    graph_read_unlock(graph);
}

static double cosine_of(const float *a, const float *b)
{
    double product = 0, a_norm = 0, b_norm = 0;
    for (size_t i = 0; i < DIMENSION; i++) {
        product += (double)a[i] * (double)b[i];
        a_norm = hypot(a_norm, (double)a[i]);
        b_norm = hypot(b_norm, (double)b[i]);
    }
    return product / a_norm / b_norm;
}

enum { USERS = 60, ITEMS = 40, EVENTS = 900, TIMES = 200 };

/* rated[u][i]: the time of the newest rating, -1: none; kept beside the graph, by names alone. */
struct ratings {
    int64_t at[USERS][ITEMS];
    double value[USERS][ITEMS];
};

static void put_random_ratings(struct graph *graph, struct ratings *ratings)
{
    struct random random = {31};
    memset(ratings->at, -1, sizeof ratings->at);
    for (size_t i = 0; i < EVENTS; i++) {
        double x = random_uniform(&random);
        size_t user = (size_t)random_below(&random, USERS), item = (size_t)(x * x * ITEMS);
        int64_t at = (int64_t)random_below(&random, TIMES);
        double value = 1 + (double)random_below(&random, 5);
        char user_id[16], item_id[16];
        snprintf(user_id, sizeof user_id, "u%zu", user);
        snprintf(item_id, sizeof item_id, "i%zu", item);
        rate(graph, user_id, item_id, value, at);
        if (at >= ratings->at[user][item]) {
            ratings->at[user][item] = at;
            ratings->value[user][item] = value;
        }
        if (i % 50 == 49)
            commit(graph);
    }
}

static int64_t last_active(const struct ratings *ratings, size_t user, int64_t before_ms)
{
    int64_t newest = -1;
    for (size_t item = 0; item < ITEMS; item++)
        if (ratings->at[user][item] < before_ms && ratings->at[user][item] > newest)
            newest = ratings->at[user][item];
    return newest;
}

static size_t index_of(const struct graph *graph, uint32_t user)
{
    return (size_t)strtoul(graph_user_id(graph, user).data + 1, NULL, 10);
}

/* Whether `out` is the top of the eligible users by a cosine computed here, rounding allowed for. */
static void check_answer(const struct graph *graph, const struct ratings *ratings, const float *query,
                         const bool *eligible, int64_t before_ms, size_t k, const struct similar_user *out,
                         size_t count)
{
    bool returned[USERS] = {false};
    size_t wanted = 0;
    double last = 2;
    for (size_t i = 0; i < count; i++) {
        size_t user = index_of(graph, out[i].user);
        float vector[DIMENSION];
        graph_user_embedding(graph, out[i].user, vector);
        assert_true(eligible[user] && !returned[user]);
        returned[user] = true;
        assert_true(fabs(out[i].cosine - cosine_of(query, vector)) < 1e-12);
        assert_true(out[i].cosine <= last);
        last = out[i].cosine;
        if (i > 0 && out[i].cosine == out[i - 1].cosine)
            assert_true(last_active(ratings, index_of(graph, out[i - 1].user), before_ms) >=
                        last_active(ratings, user, before_ms));
    }
    for (size_t user = 0; user < USERS; user++) {
        char id[16];
        snprintf(id, sizeof id, "u%zu", user);
        wanted += eligible[user];
        if (!eligible[user] || returned[user])
            continue;
        float vector[DIMENSION];
        graph_user_embedding(graph, user_number(graph, id), vector);
        assert_true(count == k && cosine_of(query, vector) <= last + 1e-12);
    }
    assert_int_equal(count, wanted < k ? wanted : k);
}

static void answers_equal_a_search_by_hand(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    struct ratings *ratings = malloc(sizeof *ratings);
    assert_non_null(ratings);
    put_random_ratings(graph, ratings);
    struct random random = {37};
    graph_read_lock(graph);
    for (size_t round = 0; round < 400; round++) {
        size_t self = (size_t)random_below(&random, USERS), item = (size_t)random_below(&random, ITEMS);
        int64_t before_ms = (int64_t)random_below(&random, TIMES + 50);
        size_t k = 1 + (size_t)random_below(&random, 12);
        char self_id[16], item_id[16];
        snprintf(self_id, sizeof self_id, "u%zu", self);
        snprintf(item_id, sizeof item_id, "i%zu", item);
        float query[DIMENSION];
        graph_user_embedding(graph, user_number(graph, self_id), query);
        bool raters[USERS], others[USERS];
        for (size_t user = 0; user < USERS; user++) {
            others[user] = user != self && last_active(ratings, user, INT64_MAX) >= 0;
            raters[user] = user != self && ratings->at[user][item] >= 0 && ratings->at[user][item] < before_ms;
        }
        struct similar_user out[12];
        uint32_t number = graph_find_item(graph, text_of(item_id));
        size_t count = by_candidate(graph, query, user_number(graph, self_id), number, before_ms, k, out);
        check_answer(graph, ratings, query, raters, before_ms, k, out, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(out[i].verdict,
                             ratings->value[index_of(graph, out[i].user)][item] >= 4 ? VERDICT_LIKE : VERDICT_DISLIKE);
        count = similar_global(graph, query, user_number(graph, self_id), k, out);
        check_answer(graph, ratings, query, others, INT64_MAX, k, out, count);
    }
    graph_read_unlock(graph);
    free(ratings);
}

/* Who is similar by the embeddings as they are, one look at each. */
static size_t search_by_hand(const struct graph *graph, const float *query, uint32_t self, size_t k,
                             struct similar_user *out)
{
    size_t count = 0;
    for (uint32_t user = 0; user < graph_counts(graph).users; user++) {
        float vector[DIMENSION];
        size_t at = count, edges;
        graph_user_embedding(graph, user, vector);
        const struct edge *edge = graph_user_edges(graph, user, &edges);
        if (user == self || edges == 0)
            continue;
        double cosine = embedding_cosine(query, vector, DIMENSION);
        for (; at > 0 && cosine >= out[at - 1].cosine; at--) {
            size_t others;
            const struct edge *other = graph_user_edges(graph, out[at - 1].user, &others);
            int64_t newest = edge[edges - 1].timestamp_ms, newest_other = other[others - 1].timestamp_ms;
            if (cosine == out[at - 1].cosine &&
                (newest < newest_other ||
                 (newest == newest_other &&
                  strcmp(graph_user_id(graph, user).data, graph_user_id(graph, out[at - 1].user).data) > 0)))
                break;
        }
        if (at == k)
            continue;
        count += count < k;
        memmove(out + at + 1, out + at, (count - at - 1) * sizeof *out);
        out[at] = (struct similar_user){.user = user, .cosine = cosine};
    }
    return count;
}

static void change_at_random(struct graph *graph, struct random *random)
{
    struct error err;
    char user[16], item[16];
    snprintf(user, sizeof user, "u%02d", (int)random_below(random, USERS));
    snprintf(item, sizeof item, "i%d", (int)random_below(random, 6));
    struct interaction removal = {.user_id = text_of(user),
                                  .item_id = text_of(item),
                                  .timestamp_ms = (int64_t)random_below(random, 20),
                                  .kind = INTERACTION_REMOVE};
    switch (random_below(random, 8)) {
    case 0:
        assert_int_equal(graph_erase_user(graph, text_of(user), &err), 0);
        break;
    case 1:
    case 2:
        assert_int_equal(graph_put_interaction(graph, &removal, &err), 0);
        break;
    default:
        rate(graph, user, item, 5, (int64_t)random_below(random, 20));
    }
}

/* Six items make many twins; users leave, come back and take each other's numbers. */
static void the_table_answers_as_the_embeddings_do_after_every_batch(void **state)
{
    struct graph *graph = ((struct fixture *)*state)->graph;
    struct random random = {43};
    size_t ties = 0;
    for (size_t round = 0; round < 400; round++) {
        for (size_t i = random_below(&random, 12); i > 0; i--)
            change_at_random(graph, &random);
        commit(graph);
        uint64_t users = graph_counts(graph).users;
        if (users == 0)
            continue;
        uint32_t self = (uint32_t)random_below(&random, users);
        size_t k = 1 + (size_t)random_below(&random, 12);
        struct similar_user expected[12], out[12];
        float query[DIMENSION];
        graph_read_lock(graph);
        graph_user_embedding(graph, self, query);
        size_t degree, wanted = 0;
        (void)graph_user_edges(graph, self, &degree);
        if (degree > 0)
            wanted = search_by_hand(graph, query, self, k, expected);
        assert_int_equal(similar_global(graph, query, self, k, out), wanted);
        for (size_t i = 0; i < wanted; i++) {
            assert_true(out[i].cosine == expected[i].cosine);
            assert_int_equal(out[i].user, expected[i].user);
            ties += i > 0 && out[i].cosine == out[i - 1].cosine;
        }
        graph_read_unlock(graph);
    }
    assert_true(ties > 200);
}

static void the_table_is_there_after_a_restart(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {47};
    for (size_t i = 0; i < 500; i++)
        change_at_random(fixture->graph, &random);
    commit(fixture->graph);
    struct graph_settings settings = *graph_settings(fixture->graph);
    settings.directory = fixture->directory;
    graph_close(fixture->graph);
    struct error err;
    if (graph_open(&fixture->graph, &settings, &err) != 0)
        fail_msg("%s", err.message);
    for (uint32_t self = 0; self < graph_counts(fixture->graph).users; self++) {
        struct similar_user expected[5], out[5];
        float query[DIMENSION];
        graph_user_embedding(fixture->graph, self, query);
        size_t count = similar_global(fixture->graph, query, self, 5, out), degree;
        (void)graph_user_edges(fixture->graph, self, &degree);
        assert_int_equal(count, degree == 0 ? 0 : search_by_hand(fixture->graph, query, self, 5, expected));
        for (size_t i = 0; i < count; i++)
            assert_int_equal(out[i].user, expected[i].user);
    }
}

static struct text name_at(const void *context, size_t index)
{
    return text_of(((const char *const *)context)[index]);
}

/* Whatever the edges, the order is that of the vectors; who has none is nobody's neighbour. */
static void trained_vectors_decide_by_themselves(void **state)
{
    struct fixture *fixture = *state;
    struct graph_settings settings = *graph_settings(fixture->graph);
    static const char *const ids[] = {"ann", "near", "far", "opposite", "twin", "nothing", "stranger"};
    float rows[7][DIMENSION] = {{1, 1}, {2, 1.5f}, {0, 1}, {-1, -1}, {4, 3}, {0}, {1, 1}};
    struct graph_vectors vectors;
    struct error err;
    struct similar_user out[8];
    char text[256];
    graph_vectors_init(&vectors, DIMENSION, "by hand");
    rows[4][0] = 3.5f; /* below the limit, and the direction of near */
    rows[4][1] = 2.625f;
    assert_int_equal(graph_vectors_add(&vectors, VECTORS_USERS, 7, name_at, ids, rows[0], &err), 0);
    settings.directory = fixture->directory;
    settings.vectors = &vectors;
    graph_close(fixture->graph);
    assert_int_equal(graph_open(&fixture->graph, &settings, &err), 0);
    struct graph *graph = fixture->graph;
    for (size_t i = 0; i < 6; i++) /* the stranger has a vector and is not in the graph */
        rate(graph, ids[i], "x", 5, (int64_t)i);
    rate(graph, "vectorless", "x", 5, 9);
    commit(graph);

    size_t count = similar_by_vectors(graph, user_number(graph, "ann"), 8, out);
    assert_string_equal(names(graph, out, count, text), "twin near far opposite");
    assert_true(out[0].cosine == out[1].cosine && out[3].cosine == -1.0);
    count = similar_by_vectors(graph, user_number(graph, "ann"), 1, out);
    assert_string_equal(names(graph, out, count, text), "twin");
    assert_int_equal(similar_by_vectors(graph, user_number(graph, "vectorless"), 8, out), 0);
    assert_int_equal(similar_by_vectors(graph, user_number(graph, "nothing"), 8, out), 0);
    assert_int_equal(similar_by_vectors(graph, GRAPH_NONE, 8, out), 0);
    graph_close(graph);
    fixture->graph = NULL;
    graph_vectors_free(&vectors);
}

/* An axis a first letter; "?" has no vector. */
static bool vector_of_title(void *context, struct text title, float *out)
{
    (void)context;
    memset(out, 0, DIMENSION * sizeof *out);
    out[(unsigned char)title.data[0] % DIMENSION] = 1;
    return title.data[0] != '?';
}

static void titles_decide_by_what_has_been_met(void **state)
{
    struct fixture *fixture = *state;
    struct graph_settings settings = *graph_settings(fixture->graph);
    static const struct {
        const char *user, *item;
        int64_t at;
    } edges[] = {{"ann", "Alien", 1}, {"ann", "Brazil", 2}, {"both", "Aguirre", 3}, {"both", "Batman", 4},
                 {"one", "Alien", 3}, {"late", "Babe", 3},  {"late", "Antz", 9},    {"other", "Casino", 3},
                 {"none", "?", 3},    {"ann", "Casino", 9}, {"half", "Aguirre", 5}};
    struct error err;
    struct similar_user out[8];
    char text[256];
    size_t count;
    settings.directory = fixture->directory;
    settings.title_vector = vector_of_title;
    graph_close(fixture->graph);
    assert_int_equal(graph_open(&fixture->graph, &settings, &err), 0);
    struct graph *graph = fixture->graph;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        const struct item item = {.item_id = text_of(edges[i].item), .title = text_of(edges[i].item)};
        assert_int_equal(graph_put_item(graph, &item, &err), 0);
        rate(graph, edges[i].user, edges[i].item, 1, edges[i].at);
    }
    commit(graph);

    uint32_t ann = user_number(graph, "ann");
    assert_int_equal(similar_by_titles(graph, ann, 9, 8, out, &count, &err), 0);
    assert_string_equal(names(graph, out, count, text), "both half late one other");
    assert_true(fabs(out[0].cosine - 1) < 1e-12 && fabs(out[1].cosine - sqrt(0.5)) < 1e-7 && out[4].cosine == 0);
    assert_int_equal(similar_by_titles(graph, ann, 10, 2, out, &count, &err), 0);
    assert_string_equal(names(graph, out, count, text), "late both");
    assert_int_equal(similar_by_titles(graph, ann, 1, 8, out, &count, &err), 0);
    assert_int_equal(count, 0);
    assert_int_equal(similar_by_titles(graph, GRAPH_NONE, 9, 8, out, &count, &err), 0);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ties_go_to_the_most_recently_active_then_by_id, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(twins_tie_whatever_the_order_of_their_edges, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(only_edges_earlier_than_the_request_count, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(self_is_left_out_only_when_named, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(nobody_is_similar_to_nothing, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(answers_equal_a_search_by_hand, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(ties_go_to_the_most_recently_active_then_by_id, open_graph_with_table,
                                        close_graph),
        cmocka_unit_test_setup_teardown(nobody_is_similar_to_nothing, open_graph_with_table, close_graph),
        cmocka_unit_test_setup_teardown(answers_equal_a_search_by_hand, open_graph_with_table, close_graph),
        cmocka_unit_test_setup_teardown(the_table_answers_as_the_embeddings_do_after_every_batch, open_graph_with_table,
                                        close_graph),
        cmocka_unit_test_setup_teardown(the_table_is_there_after_a_restart, open_graph_with_table, close_graph),
        cmocka_unit_test_setup_teardown(trained_vectors_decide_by_themselves, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(titles_decide_by_what_has_been_met, open_graph, close_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
