#include "graph/fixture.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/random.h"

/* The slow model: every event ever taken in, in an array searched from end to end; nothing is kept in order. */

enum { USERS = 9, ITEMS = 7, EVENTS = 4000, NONE = -1 };

struct model_event {
    int user, item, kind;
    int64_t timestamp_ms;
    double value;
    bool gone; /* its user has left */
};

struct model {
    const struct graph_settings *settings;
    struct model_event events[EVENTS];
    int count;
    uint64_t accepted, late;
    int64_t now_ms;
    int record[USERS][ITEMS]; /* event that is the pair's newest; NONE */
    int user_number[USERS], item_number[ITEMS];
    int users, items; /* numbers ever given */
};

static void model_begin(struct model *model, const struct graph_settings *settings)
{
    *model = (struct model){.settings = settings};
    memset(model->record, 0xff, sizeof model->record);
    memset(model->user_number, 0xff, sizeof model->user_number);
    memset(model->item_number, 0xff, sizeof model->item_number);
}

static bool is_edge_kind(int kind)
{
    return kind != INTERACTION_IMPRESSION && kind != INTERACTION_REMOVE;
}

static int64_t start_ms(const struct model *model)
{
    int64_t window_ms = model->settings->window_ms;
    return window_ms == 0 || model->now_ms < window_ms ? 0 : model->now_ms - window_ms;
}

/* The pair's edge, as an event; NULL: none. */
static const struct model_event *model_edge(const struct model *model, int user, int item)
{
    int record = model->record[user][item];
    return record != NONE && is_edge_kind(model->events[record].kind) ? &model->events[record] : NULL;
}

/* Events stand in the array in the order in which they came. */
static bool is_older(const struct model_event *a, const struct model_event *b)
{
    return a->timestamp_ms != b->timestamp_ms ? a->timestamp_ms < b->timestamp_ms : a < b;
}

enum end { OF_USER, OF_ITEM };

/* The node's edges, oldest first. */
static int model_edges(const struct model *model, enum end end, int node, const struct model_event *out[])
{
    int count = 0;
    for (int other = 0; other < (end == OF_USER ? ITEMS : USERS); other++) {
        const struct model_event *edge =
            end == OF_USER ? model_edge(model, node, other) : model_edge(model, other, node);
        if (edge == NULL)
            continue;
        int place = count++;
        for (; place > 0 && is_older(edge, out[place - 1]); place--)
            out[place] = out[place - 1];
        out[place] = edge;
    }
    return count;
}

static int free_number(const struct model *model)
{
    for (int number = 0;; number++) {
        bool taken = false;
        for (int user = 0; user < USERS; user++)
            taken |= model->user_number[user] == number;
        if (!taken)
            return number;
    }
}

static void model_know(struct model *model, int user, int item)
{
    if (user != NONE && model->user_number[user] == NONE) {
        model->user_number[user] = free_number(model);
        if (model->user_number[user] == model->users)
            model->users++;
    }
    if (item != NONE && model->item_number[item] == NONE)
        model->item_number[item] = model->items++;
}

static void model_erase(struct model *model, int user)
{
    for (int n = 0; n < model->count; n++)
        model->events[n].gone |= model->events[n].user == user;
    for (int item = 0; item < ITEMS; item++)
        model->record[user][item] = NONE;
    model->user_number[user] = NONE;
}

static void model_cap(struct model *model, enum end end, int node)
{
    const struct model_event *edges[USERS + ITEMS];
    size_t most = model->settings->max_edges_per_node;
    if (most > 0 && model_edges(model, end, node, edges) > (int)most)
        model->record[edges[0]->user][edges[0]->item] = NONE;
}

/* The node whose newest edge is the oldest leaves, while there are too many. */
static bool model_evict(struct model *model)
{
    const struct model_event *edges[USERS + ITEMS];
    int nodes = 0, user = NONE, item = NONE;
    int64_t least_ms = INT64_MAX;
    int number = 0;
    for (int u = 0; u < USERS; u++) {
        int count = model_edges(model, OF_USER, u, edges);
        nodes += count > 0;
        if (count > 0 && (edges[count - 1]->timestamp_ms < least_ms ||
                          (edges[count - 1]->timestamp_ms == least_ms && model->user_number[u] < number))) {
            least_ms = edges[count - 1]->timestamp_ms;
            number = model->user_number[u];
            user = u;
        }
    }
    for (int i = 0; i < ITEMS; i++) {
        int count = model_edges(model, OF_ITEM, i, edges);
        nodes += count > 0;
        if (count > 0 &&
            (edges[count - 1]->timestamp_ms < least_ms ||
             (edges[count - 1]->timestamp_ms == least_ms && item != NONE && model->item_number[i] < number))) {
            least_ms = edges[count - 1]->timestamp_ms;
            number = model->item_number[i];
            user = NONE;
            item = i;
        }
    }
    if (model->settings->max_nodes == 0 || nodes <= (int)model->settings->max_nodes)
        return false;
    if (user != NONE)
        model_erase(model, user);
    for (int u = 0; u < USERS && user == NONE; u++)
        if (model_edge(model, u, item) != NULL)
            model->record[u][item] = NONE;
    return true;
}

static void model_put(struct model *model, struct model_event event)
{
    if (event.timestamp_ms < start_ms(model)) {
        model->late++;
        return;
    }
    for (int n = 0; n < model->count; n++) {
        const struct model_event *known = &model->events[n];
        if (!known->gone && known->user == event.user && known->item == event.item && known->kind == event.kind &&
            known->timestamp_ms == event.timestamp_ms && known->value == event.value)
            return;
    }
    assert_true(model->count < EVENTS);
    model_know(model, event.user, event.item);
    model->events[model->count++] = event;
    model->accepted++;
    if (event.timestamp_ms > model->now_ms)
        model->now_ms = event.timestamp_ms;
    for (int user = 0; user < USERS; user++)
        for (int item = 0; item < ITEMS; item++) {
            int *record = &model->record[user][item];
            if (*record != NONE && model->events[*record].timestamp_ms < start_ms(model))
                *record = NONE;
        }
    int *record = &model->record[event.user][event.item];
    if (event.kind == INTERACTION_IMPRESSION ||
        (*record != NONE && event.timestamp_ms < model->events[*record].timestamp_ms))
        return;
    *record = model->count - 1;
    if (!is_edge_kind(event.kind))
        return;
    model_cap(model, OF_USER, event.user);
    model_cap(model, OF_ITEM, event.item);
    while (model_evict(model))
        ;
}

/* Comparison. */

static const char *name(char kind, int number)
{
    static char names[8][8];
    static int next;
    char *out = names[next++ % 8];
    snprintf(out, sizeof names[0], "%c%d", kind, number);
    return out;
}

static void compare_list(const struct model *model, const struct edge *edges, size_t count,
                         const struct model_event *const expected[], int expected_count, bool of_user)
{
    assert_int_equal(count, expected_count);
    for (size_t n = 0; n < count; n++) {
        const struct model_event *event = expected[n];
        assert_int_equal(edges[n].timestamp_ms, event->timestamp_ms);
        assert_int_equal(edges[n].other, of_user ? model->item_number[event->item] : model->user_number[event->user]);
        assert_int_equal(edges[n].kind, event->kind);
        if (event->kind == INTERACTION_RATING)
            assert_true(edges[n].value == (float)event->value);
    }
}

/* All that is left of the user's events, newest first. */
static void compare_history(struct fixture *fixture, const struct model *model, int user)
{
    static struct edge history[EVENTS];
    size_t count = graph_history(fixture->graph, (uint32_t)model->user_number[user], INT64_MAX, EVENTS, history),
           expected = 0;
    int before = NONE;
    for (;;) {
        int next = NONE;
        for (int n = 0; n < model->count; n++) {
            const struct model_event *event = &model->events[n];
            if (event->user == user && !event->gone && is_edge_kind(event->kind) &&
                event->timestamp_ms >= start_ms(model) && (before == NONE || is_older(event, &model->events[before])) &&
                (next == NONE || is_older(&model->events[next], event)))
                next = n;
        }
        if (next == NONE)
            break;
        assert_true(expected < count);
        assert_int_equal(history[expected].timestamp_ms, model->events[next].timestamp_ms);
        assert_int_equal(history[expected].other, model->item_number[model->events[next].item]);
        expected++;
        before = next;
    }
    assert_int_equal(count, expected);
}

static void compare(struct fixture *fixture, const struct model *model)
{
    const struct model_event *expected[USERS + ITEMS];
    struct graph_counts counts = graph_counts(fixture->graph);
    uint64_t edges_in_all = 0, known = 0;
    for (int user = 0; user < USERS; user++) {
        uint32_t number = user_number(fixture, name('u', user));
        assert_int_equal((int)number, model->user_number[user]);
        if (number == GRAPH_NONE)
            continue;
        size_t count;
        const struct edge *edges = graph_user_edges(fixture->graph, number, &count);
        compare_list(model, edges, count, expected, model_edges(model, OF_USER, user, expected), true);
        compare_history(fixture, model, user);
        edges_in_all += count;
        known++;
    }
    for (int item = 0; item < ITEMS; item++) {
        uint32_t number = item_number(fixture, name('i', item));
        assert_int_equal((int)number, model->item_number[item]);
        if (number == GRAPH_NONE)
            continue;
        size_t count;
        const struct edge *edges = graph_item_edges(fixture->graph, number, &count);
        compare_list(model, edges, count, expected, model_edges(model, OF_ITEM, item, expected), false);
    }
    assert_int_equal(counts.edges, edges_in_all);
    assert_int_equal(counts.events, model->accepted);
    assert_int_equal(counts.late_events, model->late);
    assert_int_equal(counts.newest_event_ms, model->now_ms);
    assert_int_equal(counts.users, model->users);
    assert_int_equal(counts.users - counts.erased_users, known);
    assert_int_equal(counts.items, model->items);
}

/* Embeddings before and after a restart: the latter are computed afresh from the edges. */
static void reopen_within_the_bound(struct fixture *fixture)
{
    float before[USERS][16], after[16], bound = graph_counts(fixture->graph).embedding_bound;
    uint64_t users = graph_counts(fixture->graph).users;
    for (uint32_t user = 0; user < users; user++)
        graph_user_embedding(fixture->graph, user, before[user]);
    fixture_reopen(fixture);
    for (uint32_t user = 0; user < users && user < graph_counts(fixture->graph).users; user++) {
        double distance = 0.0;
        graph_user_embedding(fixture->graph, user, after);
        for (int n = 0; n < 16; n++)
            distance += pow((double)before[user][n] - (double)after[n], 2.0);
        assert_true(sqrt(distance) <= (double)bound + 1e-4);
    }
}

/* A stream of events and erasures; the same from the same seed. */
struct stream {
    struct random random;
    int64_t time_ms;
};

/* One more for the model and, if it is open, for the graph. */
static void step(struct fixture *fixture, struct model *model, struct stream *stream)
{
    static const int kinds[] = {INTERACTION_RATING, INTERACTION_RATING, INTERACTION_RATING,    INTERACTION_RATING,
                                INTERACTION_LIKE,   INTERACTION_REMOVE, INTERACTION_IMPRESSION};
    struct random *random = &stream->random;
    struct error err;
    stream->time_ms += (int64_t)random_below(random, 3);
    int64_t late_ms = random_below(random, 4) == 0 ? (int64_t)random_below(random, 40) : 0;
    struct model_event event = {
        .user = (int)random_below(random, USERS),
        .item = (int)random_below(random, ITEMS),
        .kind = kinds[random_below(random, sizeof kinds / sizeof *kinds)],
        .timestamp_ms = stream->time_ms - late_ms,
    };
    if (random_below(random, 60) == 0) {
        if (fixture->graph != NULL)
            check(graph_erase_user(fixture->graph, text_of(name('u', event.user)), &err), &err);
        model_erase(model, event.user);
        return;
    }
    uint64_t recent = model->count < 30 ? (uint64_t)model->count : 30;
    if (recent > 0 && random_below(random, 20) == 0) /* once more */
        event = model->events[model->count - 1 - (int)random_below(random, recent)];
    else if (event.kind == INTERACTION_RATING)
        event.value = 1.0 + (double)random_below(random, 5);
    event.gone = false;
    if (fixture->graph != NULL)
        put(fixture, name('u', event.user), name('i', event.item), event.timestamp_ms, event.kind, event.value);
    model_put(model, event);
}

static void step_batch(struct fixture *fixture, struct model *model, struct stream *stream, uint64_t longest)
{
    uint64_t steps = 1 + random_below(&stream->random, longest);
    for (uint64_t n = 0; n < steps; n++)
        step(fixture, model, stream);
}

static struct model *new_model(const struct fixture *fixture)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model_begin(model, &fixture->settings);
    return model;
}

static void follow_the_model(struct fixture *fixture, uint64_t seed, uint64_t longest)
{
    struct model *model = new_model(fixture), *committed = new_model(fixture);
    struct stream stream = {{seed}, 50};
    for (int batch = 0; batch < 40; batch++) {
        step_batch(fixture, model, &stream, longest);
        if (random_below(&stream.random, 10) == 0) {
            reopen_within_the_bound(fixture);
            *model = *committed; /* what was staged is gone */
        }
        commit(fixture);
        compare(fixture, model);
        *committed = *model;
    }
    assert_true(model->accepted > 20);
    free(model);
    free(committed);
}

/* Killed again and again in the middle of a batch, and gone on with. */

enum { ROUNDS = 5, ROUND_BATCHES = 25, LONGEST_BATCH = 20 };

static const struct graph_settings killed_settings = {
    .like_threshold = 4.0,
    .like_inclusive = true,
    .layers = 2,
    .dimension = 16,
    .push_threshold = 0.1f,
    .push_budget = 16,
    .window_ms = 40,
    .max_edges_per_node = 4,
    .max_nodes = 11,
};

static void step_rounds(struct fixture *fixture, struct model *model, struct stream *stream, int rounds)
{
    for (int batch = 0; batch < rounds * ROUND_BATCHES; batch++) {
        step_batch(fixture, model, stream, LONGEST_BATCH);
        if (fixture->graph != NULL)
            commit(fixture);
    }
}

/* The round's batches, and half of one that is not committed. */
static int be_killed(const char *directory, int round)
{
    struct fixture fixture = {.settings = killed_settings};
    struct model *model = new_model(&fixture);
    struct stream stream = {{7}, 50};
    step_rounds(&fixture, model, &stream, round);
    fixture.settings.directory = directory;
    fixture_open(&fixture);
    step_rounds(&fixture, model, &stream, 1);
    step_batch(&fixture, model, &stream, LONGEST_BATCH);
    kill(getpid(), SIGKILL);
    return 1;
}

static void after_kill_9_edges_and_counts_are_those_of_the_committed_events(void **state)
{
    struct fixture *fixture = *state;
    graph_close(fixture->graph);
    fixture->graph = NULL;
    fixture->settings = killed_settings;
    struct model *model = new_model(fixture);
    struct stream stream = {{7}, 50};
    for (int round = 0; round < ROUNDS; round++) {
        char number[16];
        int status;
        snprintf(number, sizeof number, "%d", round);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) { /* a program of its own: RocksDB's threads do not survive a fork */
            execl("/proc/self/exe", "test_graph_limits", fixture->directory, number, (char *)NULL);
            _exit(1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        step_rounds(fixture, model, &stream, 1);
        fixture->settings.directory = fixture->directory;
        fixture_open(fixture);
        compare(fixture, model);
        graph_close(fixture->graph);
        fixture->graph = NULL;
    }
    free(model);
}

static void follow_with(struct fixture *fixture, int64_t window_ms, size_t max_edges, size_t max_nodes,
                        enum graph_edges edges)
{
    static const uint64_t longest[] = {1, 30};
    for (size_t n = 0; n < 2; n++) {
        fixture->settings.window_ms = window_ms;
        fixture->settings.max_edges_per_node = max_edges;
        fixture->settings.max_nodes = max_nodes;
        fixture->settings.edges = edges;
        fixture->settings.push_budget = n == 1 ? 4 : 0;
        graph_close(fixture->graph);
        nftw(fixture->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        fixture_open(fixture);
        follow_the_model(fixture, 1 + n, longest[n]);
    }
}

static void without_limits_all_stays(void **state)
{
    follow_with(*state, 0, 0, 0, GRAPH_EDGES_ALL);
}

static void likes_alone_may_be_embedded(void **state)
{
    follow_with(*state, 0, 0, 0, GRAPH_EDGES_LIKES);
}

static void what_is_older_than_the_window_leaves(void **state)
{
    follow_with(*state, 30, 0, 0, GRAPH_EDGES_ALL);
}

static void the_oldest_edge_of_a_full_node_leaves(void **state)
{
    follow_with(*state, 0, 3, 0, GRAPH_EDGES_ALL);
}

static void what_a_limit_took_is_known_when_it_comes_again(void **state)
{
    struct fixture *fixture = *state;
    fixture->settings.max_edges_per_node = 2;
    fixture_reopen(fixture);
    for (int batched = 0; batched < 2; batched++) {
        const char *user = batched ? "u" : "v", *items[] = {"a", "b", "c"};
        for (int i = 0; i < 3; i++) /* the third takes the first */
            rate(fixture, user, items[i], 100 * (i + 1), 5);
        if (batched)
            commit(fixture);
        put(fixture, user, "b", 900, INTERACTION_REMOVE, 0);
        rate(fixture, user, "a", 50, 3); /* late, and there is room */
        if (batched)
            commit(fixture);
        uint64_t events = 5 + 5 * (uint64_t)batched;
        rate(fixture, user, "a", 100, 5); /* the first once more */
        commit(fixture);
        assert_int_equal(graph_counts(fixture->graph).events, events);
    }
}

static void the_least_recently_active_node_leaves(void **state)
{
    follow_with(*state, 0, 0, 8, GRAPH_EDGES_ALL);
}

static void all_limits_at_once_end_in_the_same_edges(void **state)
{
    follow_with(*state, 30, 3, 9, GRAPH_EDGES_ALL);
    follow_with(*state, 60, 4, 6, GRAPH_EDGES_LIKES);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return be_killed(argv[1], atoi(argv[2]));
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        PROMISE(without_limits_all_stays),
        PROMISE(likes_alone_may_be_embedded),
        PROMISE(what_is_older_than_the_window_leaves),
        PROMISE(the_oldest_edge_of_a_full_node_leaves),
        PROMISE(what_a_limit_took_is_known_when_it_comes_again),
        PROMISE(the_least_recently_active_node_leaves),
        PROMISE(all_limits_at_once_end_in_the_same_edges),
        PROMISE(after_kill_9_edges_and_counts_are_those_of_the_committed_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
