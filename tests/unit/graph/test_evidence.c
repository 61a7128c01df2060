#include "graph/fixture.h"

#include <math.h>

#include "base/random.h"
#include "graph/embedding.h"
#include "graph/evidence.h"

enum { USERS = 12, ITEMS = 15, GENRES = 5, TIMES = 60 };

/* What the random graph was made of, kept apart from it: the newest rating of every pair. */
struct ratings {
    int64_t timestamp_ms[USERS][ITEMS]; /* -1: none */
    double value[USERS][ITEMS];
    bool genre[ITEMS][GENRES];
    size_t order[USERS][ITEMS]; /* in which the ratings came */
    size_t count;
};

static void name_of(char *name, char kind, int number)
{
    snprintf(name, 8, "%c%d", kind, number);
}

static void rate_at_random(struct fixture *fixture, struct ratings *ratings, struct random *random)
{
    char user[8], item[8];
    for (int u = 0; u < USERS; u++)
        for (int i = 0; i < ITEMS; i++)
            ratings->timestamp_ms[u][i] = -1;
    for (int n = 0; n < 300; n++) {
        int u = (int)random_below(random, USERS - 1), i = (int)random_below(random, ITEMS); /* the last one is idle */
        int64_t timestamp_ms = (int64_t)random_below(random, TIMES);
        double value = 1.0 + (double)random_below(random, 5);
        name_of(user, 'u', u);
        name_of(item, 'i', i);
        rate(fixture, user, item, timestamp_ms, value);
        if (timestamp_ms == ratings->timestamp_ms[u][i] && value == ratings->value[u][i])
            continue; /* a repeat */
        if (timestamp_ms >= ratings->timestamp_ms[u][i]) {
            ratings->timestamp_ms[u][i] = timestamp_ms;
            ratings->value[u][i] = value;
            ratings->order[u][i] = ++ratings->count;
        }
    }
}

static void describe_at_random(struct fixture *fixture, struct ratings *ratings, struct random *random)
{
    for (int i = 0; i < ITEMS; i++) {
        char id[8], genres[64] = "";
        for (int g = 0; g < GENRES; g++) {
            ratings->genre[i][g] = i % 4 != 0 && random_below(random, 2) == 0;
            if (ratings->genre[i][g])
                snprintf(genres + strlen(genres), 16, "%sgenre%d", genres[0] ? "|" : "", g);
        }
        name_of(id, 'i', i);
        struct attribute attribute = {text_of("genres"), text_of(genres)};
        struct item item = {text_of(id), text_of("a title"), &attribute, 1};
        struct error err;
        check(graph_put_item(fixture->graph, &item, &err), &err);
    }
}

static size_t gather_for(struct fixture *fixture, const struct evidence_user *user, uint32_t item, int64_t before_ms,
                         struct evidence *out, struct similar_user voters[EVIDENCE_VOTERS])
{
    struct arena arena;
    struct evidence_request *request;
    struct error err;
    arena_init(&arena, 0);
    check(evidence_begin(&request, fixture->graph, user, before_ms, &arena, &err), &err);
    size_t count = evidence_gather(request, item, out, voters);
    arena_free(&arena);
    return count;
}

static void gather(struct fixture *fixture, uint32_t user, uint32_t item, int64_t before_ms, struct evidence *out)
{
    struct similar_user voters[EVIDENCE_VOTERS];
    gather_for(fixture, &(struct evidence_user){.number = user}, item, before_ms, out, voters);
}

static double smoothed(int likes, int count)
{
    return (likes + 1.0) / (count + 2.0);
}

static bool is_before(const struct ratings *ratings, int user, int item, int64_t before_ms)
{
    return ratings->timestamp_ms[user][item] >= 0 && ratings->timestamp_ms[user][item] < before_ms;
}

static void count_recent(const struct ratings *ratings, int user, int64_t before_ms, int *likes, int *count)
{
    *likes = *count = 0;
    for (int i = 0; i < ITEMS; i++) {
        if (!is_before(ratings, user, i, before_ms))
            continue;
        int newer = 0;
        for (int j = 0; j < ITEMS; j++)
            newer += is_before(ratings, user, j, before_ms) &&
                     (ratings->timestamp_ms[user][j] > ratings->timestamp_ms[user][i] ||
                      (ratings->timestamp_ms[user][j] == ratings->timestamp_ms[user][i] &&
                       ratings->order[user][j] > ratings->order[user][i]));
        *count += newer < 10;
        *likes += newer < 10 && ratings->value[user][i] >= 4.0;
    }
}

static double naive_affinity(const struct ratings *ratings, int user, int item, int64_t before_ms)
{
    double sum = 0.0;
    int values = 0;
    for (int g = 0; g < GENRES; g++) {
        int likes = 0, count = 0;
        if (!ratings->genre[item][g])
            continue;
        for (int i = 0; i < ITEMS; i++) {
            count += ratings->genre[i][g] && is_before(ratings, user, i, before_ms);
            likes += ratings->genre[i][g] && is_before(ratings, user, i, before_ms) && ratings->value[user][i] >= 4.0;
        }
        sum += smoothed(likes, count);
        values++;
    }
    return values == 0 ? 0.5 : sum / values;
}

static double naive_cosine(const struct fixture *fixture, uint32_t user, uint32_t item)
{
    float a[16], b[16];
    double ab = 0.0, aa = 0.0, bb = 0.0;
    graph_user_embedding(fixture->graph, user, a);
    graph_item_embedding(fixture->graph, item, b);
    for (int n = 0; n < 16; n++) {
        ab += (double)a[n] * (double)b[n];
        aa += (double)a[n] * (double)a[n];
        bb += (double)b[n] * (double)b[n];
    }
    return aa == 0.0 || bb == 0.0 ? 0.0 : ab / sqrt(aa * bb);
}

struct rater {
    double cosine;
    int64_t active_ms;
    char id[8];
    bool like;
};

static int most_similar_first(const void *a, const void *b)
{
    const struct rater *x = a, *y = b;
    if (fabs(x->cosine - y->cosine) > 1e-12)
        return x->cosine < y->cosine ? 1 : -1;
    if (x->active_ms != y->active_ms)
        return x->active_ms < y->active_ms ? 1 : -1;
    return strcmp(x->id, y->id);
}

static double cosine_of_users(const struct fixture *fixture, uint32_t user, uint32_t other)
{
    float a[16], b[16];
    double ab = 0.0, aa = 0.0, bb = 0.0;
    graph_user_embedding(fixture->graph, user, a);
    graph_user_embedding(fixture->graph, other, b);
    for (int n = 0; n < 16; n++) {
        ab += (double)a[n] * (double)b[n];
        aa += (double)a[n] * (double)a[n];
        bb += (double)b[n] * (double)b[n];
    }
    return ab / sqrt(aa * bb);
}

static double naive_vote(const struct fixture *fixture, const struct ratings *ratings, int user, int item,
                         int64_t before_ms, int voters)
{
    struct rater raters[USERS];
    int count = 0, likes = 0;
    char name[8];
    name_of(name, 'u', user);
    uint32_t self = user_number(fixture, name);
    for (int u = 0; u < USERS && self != GRAPH_NONE; u++) {
        if (u == user || !is_before(ratings, u, item, before_ms))
            continue;
        struct rater *rater = &raters[count++];
        *rater = (struct rater){.like = ratings->value[u][item] >= 4.0};
        name_of(rater->id, 'u', u);
        rater->cosine = cosine_of_users(fixture, self, user_number(fixture, rater->id));
        for (int i = 0; i < ITEMS; i++)
            if (is_before(ratings, u, i, before_ms) && ratings->timestamp_ms[u][i] > rater->active_ms)
                rater->active_ms = ratings->timestamp_ms[u][i];
    }
    qsort(raters, (size_t)count, sizeof *raters, most_similar_first);
    count = count < voters ? count : voters;
    for (int n = 0; n < count; n++)
        likes += raters[n].like;
    return smoothed(likes, count);
}

#define ASSERT_NEAR(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void compare(struct fixture *fixture, const struct ratings *ratings, int user, int item, int64_t before_ms)
{
    char user_id[8], item_id[8];
    name_of(user_id, 'u', user);
    name_of(item_id, 'i', item);
    uint32_t u = user_number(fixture, user_id), i = item_number(fixture, item_id);
    struct evidence evidence;
    gather(fixture, u, i, before_ms, &evidence);

    int user_likes = 0, user_count = 0, item_likes = 0, item_count = 0, recent_likes, recent_count;
    for (int n = 0; n < ITEMS; n++) {
        user_count += is_before(ratings, user, n, before_ms);
        user_likes += is_before(ratings, user, n, before_ms) && ratings->value[user][n] >= 4.0;
    }
    for (int n = 0; n < USERS; n++) {
        item_count += is_before(ratings, n, item, before_ms);
        item_likes += is_before(ratings, n, item, before_ms) && ratings->value[n][item] >= 4.0;
    }
    count_recent(ratings, user, before_ms, &recent_likes, &recent_count);
    const double expected[EVIDENCE_COUNT] = {
        smoothed(item_likes, item_count),
        item_count,
        item_likes,
        smoothed(user_likes, user_count),
        user_count,
        user_likes,
        smoothed(recent_likes, recent_count),
        recent_count,
        recent_likes,
        naive_vote(fixture, ratings, user, item, before_ms, 4),
        naive_vote(fixture, ratings, user, item, before_ms, 8),
        naive_vote(fixture, ratings, user, item, before_ms, 30),
        u == GRAPH_NONE ? 0.0 : naive_cosine(fixture, u, i),
        naive_affinity(ratings, user, item, before_ms),
    };
    int64_t newest_ms = INT64_MIN;
    for (int n = 0; n < ITEMS; n++)
        if (is_before(ratings, user, n, before_ms) && ratings->timestamp_ms[user][n] > newest_ms)
            newest_ms = ratings->timestamp_ms[user][n];
    for (int n = 0; n < USERS; n++)
        if (is_before(ratings, n, item, before_ms) && ratings->timestamp_ms[n][item] > newest_ms)
            newest_ms = ratings->timestamp_ms[n][item];
    assert_int_equal(evidence.newest_ms, newest_ms);

    double values[EVIDENCE_COUNT];
    evidence_values(&evidence, values);
    for (int n = 0; n < EVIDENCE_COUNT; n++)
        if (fabs(values[n] - expected[n]) > 1e-9)
            fail_msg("%s of u%d, i%d before %lld: %g, expected %g", evidence_names[n], user, item, (long long)before_ms,
                     values[n], expected[n]);
}

static void evidence_is_what_a_recount_gives(void **state)
{
    struct fixture *fixture = *state;
    struct ratings *ratings = calloc(1, sizeof *ratings);
    assert_non_null(ratings);
    struct random random = {7};
    describe_at_random(fixture, ratings, &random);
    rate_at_random(fixture, ratings, &random);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        for (int user = 0; user < USERS; user++)
            for (int item = 0; item < ITEMS; item++)
                compare(fixture, ratings, user, item, (int64_t)random_below(&random, TIMES + 2));
        fixture_reopen(fixture);
    }
    free(ratings);
}

static void an_event_of_the_very_same_time_does_not_count(void **state)
{
    struct fixture *fixture = *state;
    struct evidence evidence;
    rate(fixture, "ann", "alien", 10, 5.0);
    commit(fixture);
    uint32_t ann = user_number(fixture, "ann"), alien = item_number(fixture, "alien");
    gather(fixture, ann, alien, 10, &evidence);
    assert_true(evidence.item_count == 0.0 && evidence.user_count == 0.0 && evidence.recent_count == 0.0);
    gather(fixture, ann, alien, 11, &evidence);
    assert_true(evidence.item_count == 1.0 && evidence.user_count == 1.0 && evidence.recent_count == 1.0);
}

static void a_neutral_edge_counts_as_not_liked(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    struct attribute genre = {text_of("genres"), text_of("SciFi")};
    struct item item = {text_of("alien"), text_of("Alien"), &genre, 1};
    struct interaction neutral = interaction_of("ann", "alien", 10, INTERACTION_RATING, 0.0);
    neutral.has_value = false;
    check(graph_put_item(fixture->graph, &item, &err), &err);
    check(graph_put_interaction(fixture->graph, &neutral, &err), &err);
    commit(fixture);
    struct evidence evidence;
    gather(fixture, user_number(fixture, "ann"), item_number(fixture, "alien"), 11, &evidence);
    assert_true(evidence.user_count == 1.0 && evidence.user_likes == 0.0 && evidence.item_likes == 0.0);
    ASSERT_NEAR(evidence.affinity, smoothed(0, 1), 1e-12);
}

static double vote_of(const struct similar_user *voters, int count, int wanted)
{
    int likes = 0;
    count = count < wanted ? count : wanted;
    for (int n = 0; n < count; n++)
        likes += voters[n].verdict == VERDICT_LIKE;
    return smoothed(likes, count);
}

/* Forty users know the candidate, each with a taste of its own. */
static void votes_are_of_the_most_similar_only(void **state)
{
    struct fixture *fixture = *state;
    struct random random = {9};
    char user[8], item[8];
    for (int u = 0; u < 40; u++) {
        name_of(user, 'u', u);
        rate(fixture, user, "candidate", 10 + u / 4, 1.0 + (double)random_below(&random, 5));
        for (int n = 0; n < 4; n++) {
            name_of(item, 'i', (int)random_below(&random, 9));
            rate(fixture, user, item, 5, 4.0);
        }
    }
    rate(fixture, "ann", "i3", 5, 4.0);
    commit(fixture);
    uint32_t ann = user_number(fixture, "ann"), candidate = item_number(fixture, "candidate");
    float query[16];
    graph_user_embedding(fixture->graph, ann, query);
    for (int64_t before_ms = 10; before_ms <= 20; before_ms++) {
        struct similar_search search;
        struct similar_user expected[EVIDENCE_VOTERS], voters[EVIDENCE_VOTERS];
        struct evidence evidence;
        similar_begin(&search, fixture->graph, query, ann, before_ms);
        size_t count = similar_by_candidate(&search, candidate, EVIDENCE_VOTERS, expected);
        assert_int_equal(count, (before_ms - 10) * 4 < 30 ? (before_ms - 10) * 4 : 30);
        assert_int_equal(
            gather_for(fixture, &(struct evidence_user){.number = ann}, candidate, before_ms, &evidence, voters),
            count);
        for (size_t n = 0; n < count; n++)
            assert_int_equal(voters[n].user, expected[n].user);
        ASSERT_NEAR(evidence.vote_4, vote_of(expected, (int)count, 4), 1e-12);
        ASSERT_NEAR(evidence.vote_8, vote_of(expected, (int)count, 8), 1e-12);
        ASSERT_NEAR(evidence.vote_30, vote_of(expected, (int)count, 30), 1e-12);
    }
}

/* One whom the graph does not know, with edges and an embedding from elsewhere, is as good as one whom it knows. */
static void a_user_can_be_brought_along(void **state)
{
    struct fixture *fixture = *state;
    struct ratings *ratings = calloc(1, sizeof *ratings);
    assert_non_null(ratings);
    struct random random = {11};
    describe_at_random(fixture, ratings, &random);
    rate_at_random(fixture, ratings, &random);
    commit(fixture);
    for (int u = 0; u < USERS - 1; u++) {
        char name[8];
        float embedding[16];
        size_t count;
        name_of(name, 'u', u);
        uint32_t user = user_number(fixture, name);
        graph_user_embedding(fixture->graph, user, embedding);
        const struct edge *edges = graph_user_edges(fixture->graph, user, &count);
        const struct evidence_user brought = {user, embedding, edges, count};
        for (uint32_t item = 0; item < ITEMS; item++) {
            struct similar_user voters[EVIDENCE_VOTERS];
            struct evidence own, other;
            gather(fixture, user, item, TIMES / 2, &own);
            gather_for(fixture, &brought, item, TIMES / 2, &other, voters);
            assert_memory_equal(&own, &other, sizeof own);
        }
    }
    const struct edge unknown[] = {{.timestamp_ms = 1, .other = GRAPH_NONE, .verdict = VERDICT_LIKE},
                                   {.timestamp_ms = 2, .other = GRAPH_NONE, .verdict = VERDICT_DISLIKE},
                                   {.timestamp_ms = 3, .other = GRAPH_NONE, .verdict = VERDICT_LIKE}};
    const struct evidence_user guest = {GRAPH_NONE, NULL, unknown, 3};
    struct similar_user voters[EVIDENCE_VOTERS];
    struct evidence evidence;
    assert_int_equal(gather_for(fixture, &guest, 0, 3, &evidence, voters), 0);
    assert_true(evidence.user_count == 2.0 && evidence.user_likes == 1.0 && evidence.recent_count == 2.0);
    assert_true(evidence.cosine == 0.0 && evidence.vote_30 == 0.5);
    free(ratings);
}

static void the_unknown_get_a_half_and_no_counts(void **state)
{
    struct fixture *fixture = *state;
    struct evidence evidence;
    double values[EVIDENCE_COUNT];
    gather(fixture, GRAPH_NONE, GRAPH_NONE, INT64_MAX, &evidence);
    evidence_values(&evidence, values);
    for (int n = 0; n < EVIDENCE_COUNT; n++) {
        bool rate_like = strstr(evidence_names[n], "rate") || strstr(evidence_names[n], "vote") ||
                         strcmp(evidence_names[n], "affinity") == 0;
        assert_true(values[n] == (rate_like ? 0.5 : 0.0));
    }
}

static void more_values_than_any_item_should_have_still_count(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    char many[2000] = "";
    for (int n = 0; n < 200; n++)
        snprintf(many + strlen(many), 8, "v%d|", n);
    struct attribute attributes[] = {{text_of("tags"), text_of(many)}, {text_of("other"), text_of("v7")}};
    struct item candidate = {text_of("candidate"), text_of("t"), attributes, 2};
    struct attribute few = {text_of("tags"), text_of("v3|v150|v199|v3|unshared")};
    struct item liked = {text_of("liked"), text_of("t"), &few, 1};
    check(graph_put_item(fixture->graph, &candidate, &err), &err);
    check(graph_put_item(fixture->graph, &liked, &err), &err);
    rate(fixture, "ann", "liked", 1, 5.0);
    commit(fixture);
    struct evidence evidence;
    gather(fixture, user_number(fixture, "ann"), item_number(fixture, "candidate"), 2, &evidence);
    ASSERT_NEAR(evidence.affinity, (3 * smoothed(1, 1) + 198 * 0.5) / 201, 1e-12);
}

static void names_are_in_the_order_of_the_struct(void **state)
{
    (void)state;
    struct evidence evidence = {.item_like_rate = 1,
                                .item_count = 2,
                                .item_likes = 3,
                                .user_like_rate = 4,
                                .user_count = 5,
                                .user_likes = 6,
                                .recent_like_rate = 7,
                                .recent_count = 8,
                                .recent_likes = 9,
                                .vote_4 = 10,
                                .vote_8 = 11,
                                .vote_30 = 12,
                                .cosine = 13,
                                .affinity = 14};
    static const char *const order[EVIDENCE_COUNT] = {
        "item_like_rate", "item_count",       "item_likes",   "user_like_rate", "user_count",
        "user_likes",     "recent_like_rate", "recent_count", "recent_likes",   "vote_4",
        "vote_8",         "vote_30",          "cosine",       "affinity"};
    double values[EVIDENCE_COUNT];
    evidence_values(&evidence, values);
    for (int n = 0; n < EVIDENCE_COUNT; n++) {
        assert_string_equal(evidence_names[n], order[n]);
        assert_true(values[n] == n + 1);
    }
}

static void features_are_log_odds_of_rates_and_logs_of_counts(void **state)
{
    (void)state;
    const struct evidence evidence = {.item_like_rate = 0.75,
                                      .item_count = 6,
                                      .item_likes = 5,
                                      .user_like_rate = 0.5,
                                      .user_count = 0,
                                      .user_likes = 0,
                                      .recent_like_rate = 0.25,
                                      .recent_count = 10,
                                      .recent_likes = 2,
                                      .vote_4 = 0.8,
                                      .vote_8 = 0.6,
                                      .vote_30 = 0.1,
                                      .cosine = -0.3,
                                      .affinity = 0.9,
                                      .newest_ms = 7};
    const double expected[EVIDENCE_FEATURES] = {log(3),  log(7), log(6), 0,        0,       0,    -log(3),
                                                log(11), log(3), log(4), log(1.5), -log(9), -0.3, log(9)};
    float features[EVIDENCE_FEATURES];
    evidence_features(&evidence, features);
    for (int n = 0; n < EVIDENCE_FEATURES; n++)
        ASSERT_NEAR((double)features[n], expected[n], 1e-6);
}

int main(void)
{
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        PROMISE(evidence_is_what_a_recount_gives),
        PROMISE(an_event_of_the_very_same_time_does_not_count),
        PROMISE(a_neutral_edge_counts_as_not_liked),
        PROMISE(votes_are_of_the_most_similar_only),
        PROMISE(a_user_can_be_brought_along),
        PROMISE(the_unknown_get_a_half_and_no_counts),
        PROMISE(more_values_than_any_item_should_have_still_count),
        cmocka_unit_test(names_are_in_the_order_of_the_struct),
        cmocka_unit_test(features_are_log_odds_of_rates_and_logs_of_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
