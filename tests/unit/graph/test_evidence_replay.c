/*
 * ml-100k in order of time, and at many moments every value of the evidence against a recount from the file's rows.
 * TEST_RATINGS names RecBole's ml-100k.inter, which has ml-100k.item beside it; else both are looked for where ./dev
 * fetches them.
 */
#include "graph/fixture.h"

#include <math.h>

#include "base/random.h"
#include "graph/evidence.h"

enum { ROWS = 100000, IDS = 2000, GENRES = 32, DIMENSION = 64, MOMENT_EVERY = 500, PAIRS = 12 };

struct row {
    int user, item;
    double value;
    int64_t timestamp_ms;
    size_t line;
};

struct data {
    struct row *rows; /* in order of time, of one time as they stand in the file */
    size_t count;
    bool genre[IDS][GENRES];
    char genre_names[GENRES][32];
    int64_t active_ms[IDS]; /* of users, before the moment that is looked at; -1: never */
};

static int by_time(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->timestamp_ms != y->timestamp_ms)
        return x->timestamp_ms < y->timestamp_ms ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

static FILE *open_data(const char *ending)
{
    char path[512];
    const char *named = getenv("TEST_RATINGS"), *home = getenv("HOME");
    if (named != NULL)
        snprintf(path, sizeof path, "%.*s%s", (int)(strlen(named) - strlen("inter")), named, ending);
    else
        snprintf(path, sizeof path, "%s/.cache/headrace/ml-100k.%s", home == NULL ? "" : home, ending);
    FILE *file = fopen(path, "r");
    if (file == NULL && named != NULL)
        fail_msg("TEST_RATINGS needs %s, which cannot be read", path);
    if (file == NULL)
        fprintf(stderr, "SKIP: no %s (./dev fetch gets it)\n", path);
    return file;
}

static bool read_rows(struct data *data)
{
    char line[256];
    long seconds;
    FILE *file = open_data("inter");
    if (file == NULL)
        return false;
    data->rows = calloc(ROWS, sizeof *data->rows);
    assert_non_null(data->rows);
    assert_non_null(fgets(line, sizeof line, file)); /* the names of the columns */
    while (data->count < ROWS && fgets(line, sizeof line, file) != NULL) {
        struct row *row = &data->rows[data->count];
        assert_int_equal(sscanf(line, "%d %d %lf %ld", &row->user, &row->item, &row->value, &seconds), 4);
        assert_in_range(row->user, 1, IDS - 1);
        assert_in_range(row->item, 1, IDS - 1);
        row->timestamp_ms = 1000 * (int64_t)seconds;
        row->line = data->count++;
    }
    fclose(file);
    assert_int_equal(data->count, ROWS);
    qsort(data->rows, data->count, sizeof *data->rows, by_time);
    return true;
}

static size_t genre_number(struct data *data, const char *name)
{
    size_t i = 0;
    while (i < GENRES && data->genre_names[i][0] != '\0' && strcmp(data->genre_names[i], name) != 0)
        i++;
    assert_true(i < GENRES);
    snprintf(data->genre_names[i], sizeof data->genre_names[i], "%s", name);
    return i;
}

/* Number, title, year and genres between blanks; the genres go into the graph between bars. */
static bool read_items(struct fixture *fixture, struct data *data)
{
    char line[1024];
    FILE *file = open_data("item");
    if (file == NULL)
        return false;
    assert_non_null(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file) != NULL) {
        char *rest = line, genres[256] = "";
        char *id = strsep(&rest, "\t"), *title = strsep(&rest, "\t");
        strsep(&rest, "\t");
        for (char *name = strtok(rest, " \r\n"); name != NULL; name = strtok(NULL, " \r\n")) {
            data->genre[atoi(id)][genre_number(data, name)] = true;
            snprintf(genres + strlen(genres), sizeof genres - strlen(genres), "%s%s", genres[0] ? "|" : "", name);
        }
        struct attribute attribute = {text_of("genres"), text_of(genres)};
        struct item item = {text_of(id), text_of(title), &attribute, 1};
        struct error err;
        check(graph_put_item(fixture->graph, &item, &err), &err);
    }
    fclose(file);
    return true;
}

/* Rows that have happened and are earlier than a moment: what the evidence may know. */
struct past {
    const struct data *data;
    size_t count;
    int64_t before_ms;
};

static double smoothed(double likes, double count)
{
    return (likes + 1) / (count + 2);
}

static bool is_liked(const struct row *row)
{
    return row->value >= 4;
}

static const struct row *next_row(const struct past *past, size_t *at, int user, int item)
{
    while (*at < past->count) {
        const struct row *row = &past->data->rows[(*at)++];
        if (row->timestamp_ms < past->before_ms && (user == 0 || row->user == user) && (item == 0 || row->item == item))
            return row;
    }
    return NULL;
}

static void count_rows(const struct past *past, int user, int item, double *likes, double *count)
{
    const struct row *row;
    *likes = *count = 0;
    for (size_t at = 0; (row = next_row(past, &at, user, item)) != NULL; ++*count)
        *likes += is_liked(row);
}

static void count_recent(const struct past *past, int user, double *likes, double *count)
{
    const struct row *last[10], *row;
    size_t seen = 0;
    for (size_t at = 0; (row = next_row(past, &at, user, 0)) != NULL; seen++)
        last[seen % 10] = row;
    *count = seen < 10 ? (double)seen : 10;
    *likes = 0;
    for (size_t i = 0; i < 10 && i < seen; i++)
        *likes += is_liked(last[i]);
}

static double recount_affinity(const struct past *past, int user, int item)
{
    double sum = 0, genres = 0;
    for (size_t genre = 0; genre < GENRES; genre++) {
        double likes = 0, count = 0;
        const struct row *row;
        if (!past->data->genre[item][genre])
            continue;
        for (size_t at = 0; (row = next_row(past, &at, user, 0)) != NULL;)
            if (past->data->genre[row->item][genre]) {
                count++;
                likes += is_liked(row);
            }
        sum += smoothed(likes, count);
        genres++;
    }
    return genres == 0 ? 0.5 : sum / genres;
}

/* -2: one of them is 0. */
static double cosine_of(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < DIMENSION; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa == 0 || bb == 0 ? -2 : ab / sqrt(aa) / sqrt(bb);
}

struct voter {
    double cosine;
    int64_t active_ms;
    char id[8];
    bool like;
};

static int most_similar_first(const void *a, const void *b)
{
    const struct voter *x = a, *y = b;
    if (fabs(x->cosine - y->cosine) > 1e-13)
        return x->cosine < y->cosine ? 1 : -1;
    if (x->active_ms != y->active_ms)
        return x->active_ms < y->active_ms ? 1 : -1;
    return strcmp(x->id, y->id);
}

static size_t list_voters(const struct fixture *fixture, const struct past *past, int user, int item,
                          struct voter *voters)
{
    char id[8];
    float query[DIMENSION], vector[DIMENSION];
    size_t count = 0;
    const struct row *row;
    snprintf(id, sizeof id, "%d", user);
    graph_user_embedding(fixture->graph, user_number(fixture, id), query);
    for (size_t at = 0; (row = next_row(past, &at, 0, item)) != NULL;) {
        struct voter *voter = &voters[count];
        *voter = (struct voter){.active_ms = past->data->active_ms[row->user], .like = is_liked(row)};
        snprintf(voter->id, sizeof voter->id, "%d", row->user);
        graph_user_embedding(fixture->graph, user_number(fixture, voter->id), vector);
        voter->cosine = cosine_of(query, vector);
        count += row->user != user && voter->cosine != -2;
    }
    qsort(voters, count, sizeof *voters, most_similar_first);
    return count;
}

static double recount_vote(const struct voter *voters, size_t count, size_t wanted)
{
    double likes = 0;
    count = count < wanted ? count : wanted;
    for (size_t i = 0; i < count; i++)
        likes += voters[i].like;
    return smoothed(likes, (double)count);
}

static double recount_cosine(const struct fixture *fixture, const char *user, const char *item)
{
    float a[DIMENSION], b[DIMENSION];
    graph_user_embedding(fixture->graph, user_number(fixture, user), a);
    graph_item_embedding(fixture->graph, item_number(fixture, item), b);
    return fmax(cosine_of(a, b), -1) * (cosine_of(a, b) != -2);
}

static void check_pair(struct fixture *fixture, const struct past *past, struct arena *arena, int user, int item)
{
    static struct voter voters[IDS];
    char user_id[8], item_id[8];
    struct evidence_request *request;
    struct similar_user similar[EVIDENCE_VOTERS];
    struct evidence evidence;
    struct error err;
    double item_likes, item_count, user_likes, user_count, recent_likes, recent_count, values[EVIDENCE_COUNT];
    snprintf(user_id, sizeof user_id, "%d", user);
    snprintf(item_id, sizeof item_id, "%d", item);
    const struct evidence_user asks = {.number = user_number(fixture, user_id)};
    check(evidence_begin(&request, fixture->graph, &asks, past->before_ms, arena, &err), &err);
    evidence_gather(request, item_number(fixture, item_id), &evidence, similar);
    evidence_values(&evidence, values);

    count_rows(past, 0, item, &item_likes, &item_count);
    count_rows(past, user, 0, &user_likes, &user_count);
    count_recent(past, user, &recent_likes, &recent_count);
    size_t count = list_voters(fixture, past, user, item, voters);
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
        recount_vote(voters, count, 4),
        recount_vote(voters, count, 8),
        recount_vote(voters, count, 30),
        recount_cosine(fixture, user_id, item_id),
        recount_affinity(past, user, item),
    };
    for (int n = 0; n < EVIDENCE_COUNT; n++)
        if (fabs(values[n] - expected[n]) > 1e-9)
            fail_msg("%s of user %d and item %d after %zu rows: %g, a recount gives %g", evidence_names[n], user, item,
                     past->count, values[n], expected[n]);
}

/* Of the newest rows' users and items, as they are met; sometimes as of a moment long ago. */
static void check_moment(struct fixture *fixture, struct data *data, size_t count, struct random *random)
{
    struct past past = {data, count, data->rows[count - 1].timestamp_ms};
    struct arena arena;
    if (random_below(random, 4) == 0)
        past.before_ms = data->rows[random_below(random, count)].timestamp_ms;
    for (int user = 0; user < IDS; user++)
        data->active_ms[user] = -1;
    for (size_t i = 0; i < count; i++)
        if (data->rows[i].timestamp_ms < past.before_ms)
            data->active_ms[data->rows[i].user] = data->rows[i].timestamp_ms;
    arena_init(&arena, 0);
    for (size_t i = 0; i < PAIRS; i++) {
        size_t of_user = i < PAIRS / 2 ? count - 1 - random_below(random, count < 50 ? count : 50)
                                       : (size_t)random_below(random, count);
        check_pair(fixture, &past, &arena, data->rows[of_user].user, data->rows[random_below(random, count)].item);
        arena_reset(&arena);
    }
    arena_free(&arena);
}

static void all_evidence_in_the_course_of_ml_100k_is_what_a_recount_gives(void **state)
{
    struct fixture *fixture = *state;
    struct data *data = calloc(1, sizeof *data);
    struct random random = {17};
    assert_non_null(data);
    fixture->settings.dimension = DIMENSION;
    fixture->settings.edges = GRAPH_EDGES_LIKES;
    fixture->settings.push_budget = 8;
    fixture_reopen(fixture);
    if (!read_rows(data) || !read_items(fixture, data)) {
        free(data->rows);
        free(data);
        skip();
    }
    for (size_t i = 0; i < data->count; i++) {
        char user[8], item[8];
        snprintf(user, sizeof user, "%d", data->rows[i].user);
        snprintf(item, sizeof item, "%d", data->rows[i].item);
        rate(fixture, user, item, data->rows[i].timestamp_ms, data->rows[i].value);
        if (i % MOMENT_EVERY != MOMENT_EVERY - 1)
            continue;
        commit(fixture);
        check_moment(fixture, data, i + 1, &random);
    }
    free(data->rows);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_evidence_in_the_course_of_ml_100k_is_what_a_recount_gives, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
