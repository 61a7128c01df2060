/* Two graphs take the same events; one of them stops and starts in between. */
#include "graph/same_graph.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "graph/image.h"

enum { EVENTS = 900 };

struct pair {
    struct fixture *stopped, *undisturbed;
};

static const char *path_of(const struct fixture *fixture, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", fixture->directory, name);
    return path;
}

static bool has_image(const struct fixture *fixture)
{
    return access(path_of(fixture, "graph.image"), F_OK) == 0;
}

static int setup(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    struct fixture **fixtures[] = {&pair->stopped, &pair->undisturbed};
    for (size_t i = 0; i < 2; i++) {
        fixture_setup((void **)fixtures[i]);
        struct fixture *fixture = *fixtures[i];
        fixture->settings.push_budget = 4; /* something waits nearly always */
        fixture->settings.window_ms = 700000;
        fixture->settings.max_edges_per_node = 20;
        fixture_reopen(fixture);
    }
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    fixture_teardown((void **)&pair->stopped);
    fixture_teardown((void **)&pair->undisturbed);
    free(pair);
    return 0;
}

static void close_it(struct fixture *fixture)
{
    graph_close(fixture->graph);
    fixture->graph = NULL;
}

static void save_and_close(struct fixture *fixture)
{
    struct error err;
    check(graph_save(fixture->graph, &err), &err);
    close_it(fixture);
}

static void assert_same_embeddings(const struct graph *a, const struct graph *b)
{
    struct graph_counts counts = graph_counts(a), others = graph_counts(b);
    float x[GRAPH_DIMENSION_LIMIT], y[GRAPH_DIMENSION_LIMIT];
    size_t size = graph_settings(a)->dimension * sizeof *x;
    assert_int_equal(counts.embedding_operations, others.embedding_operations);
    assert_int_equal(counts.embedding_backlog, others.embedding_backlog);
    assert_float_equal(counts.embedding_epsilon, others.embedding_epsilon, 0);
    assert_float_equal(counts.embedding_bound, others.embedding_bound, 0);
    for (uint32_t user = 0; user < counts.users; user++) {
        graph_user_embedding(a, user, x);
        graph_user_embedding(b, user, y);
        assert_memory_equal(x, y, size);
    }
    for (uint32_t item = 0; item < counts.items; item++) {
        graph_item_embedding(a, item, x);
        graph_item_embedding(b, item, y);
        assert_memory_equal(x, y, size);
    }
}

static void assert_same(const struct pair *pair)
{
    assert_same_nodes(pair->stopped->graph, pair->undisturbed->graph);
    assert_same_embeddings(pair->stopped->graph, pair->undisturbed->graph);
}

static void put_everywhere(const struct pair *pair, int first, int last)
{
    put_events(pair->stopped, first, last);
    put_events(pair->undisturbed, first, last);
}

static void after_a_clean_stop_all_goes_on_bit_for_bit(void **state)
{
    struct pair *pair = *state;
    for (int round = 0; round < 3; round++) {
        put_everywhere(pair, round * EVENTS / 3, (round + 1) * EVENTS / 3);
        assert_int_not_equal(graph_counts(pair->stopped->graph).embedding_backlog, 0); /* or it proves less */
        save_and_close(pair->stopped);
        fixture_open(pair->stopped);
        assert_same(pair);
    }
    put_everywhere(pair, EVENTS, EVENTS + 2 * BATCH);
    assert_same(pair);
    assert_false(has_image(pair->stopped)); /* the first batch has deleted it */
}

static void an_empty_graph_is_saved_too(void **state)
{
    struct pair *pair = *state;
    save_and_close(pair->stopped);
    fixture_open(pair->stopped);
    put_everywhere(pair, 0, BATCH);
    assert_same(pair);
}

static void only_its_owner_may_read_the_image(void **state)
{
    struct pair *pair = *state;
    struct stat status;
    put_events(pair->stopped, 0, BATCH);
    save_and_close(pair->stopped);
    assert_int_equal(stat(path_of(pair->stopped, "graph.image"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_start_without_events_leaves_the_image_for_the_next(void **state)
{
    struct pair *pair = *state;
    put_everywhere(pair, 0, EVENTS);
    save_and_close(pair->stopped);
    for (int round = 0; round < 3; round++) {
        pair->stopped->settings.read_only = round == 1;
        fixture_open(pair->stopped);
        assert_same(pair);
        close_it(pair->stopped);
        assert_true(has_image(pair->stopped));
    }
    pair->stopped->settings.read_only = false;
}

static void an_image_from_before_is_never_used(void **state)
{
    struct pair *pair = *state;
    char kept[512], path[512];
    snprintf(kept, sizeof kept, "%s", path_of(pair->stopped, "kept"));
    snprintf(path, sizeof path, "%s", path_of(pair->stopped, "graph.image"));
    put_everywhere(pair, 0, EVENTS);
    save_and_close(pair->stopped);
    assert_int_equal(link(path, kept), 0);
    fixture_open(pair->stopped);
    put_everywhere(pair, EVENTS, EVENTS + 1);
    close_it(pair->stopped); /* as after kill -9: nothing saved */
    assert_int_equal(rename(kept, path), 0);

    fixture_open(pair->stopped);
    assert_same_nodes(pair->stopped->graph, pair->undisturbed->graph);
    assert_int_equal(graph_counts(pair->stopped->graph).embedding_backlog, 0); /* recomputed */
    put_everywhere(pair, EVENTS + 1, EVENTS + 2);
    assert_false(has_image(pair->stopped));
}

static void the_image_of_another_store_is_never_used(void **state)
{
    struct pair *pair = *state;
    char theirs[512];
    put_everywhere(pair, 0, EVENTS); /* the same number of changes */
    save_and_close(pair->stopped);
    save_and_close(pair->undisturbed);
    snprintf(theirs, sizeof theirs, "%s", path_of(pair->undisturbed, "graph.image"));
    assert_int_equal(rename(theirs, path_of(pair->stopped, "graph.image")), 0);
    fixture_open(pair->stopped);
    fixture_open(pair->undisturbed);
    assert_int_equal(graph_counts(pair->stopped->graph).embedding_backlog, 0);
    assert_same_nodes(pair->stopped->graph, pair->undisturbed->graph);
}

static bool vector_of_title(void *context, struct text title, float *out)
{
    (void)context;
    memset(out, 0, 16 * sizeof *out);
    out[title.size % 16] = 1.0f;
    return true;
}

static void with_other_settings_all_is_read_anew(void **state)
{
    struct pair *pair = *state;
    put_events(pair->stopped, 0, EVENTS);
    struct graph_settings before = pair->stopped->settings;
    struct graph_settings others[] = {before, before, before, before, before, before, before};
    others[0].seed++;
    others[1].layers--;
    others[2].push_threshold /= 2;
    others[3].edges = GRAPH_EDGES_LIKES;
    others[4].like_threshold = 5;
    others[5].like_inclusive = false;
    others[6].base = GRAPH_BASE_TITLE;
    others[6].title_vector = vector_of_title;
    others[6].title_version = "sizes";
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        pair->stopped->settings = before;
        fixture_reopen(pair->stopped);
        put_events(pair->stopped, EVENTS + (int)i, EVENTS + (int)i + 1);
        save_and_close(pair->stopped);
        pair->stopped->settings = others[i];
        fixture_open(pair->stopped);
        assert_int_equal(graph_counts(pair->stopped->graph).embedding_backlog, 0);

        struct fixture anew = *pair->stopped;
        close_it(pair->stopped);
        unlink(path_of(pair->stopped, "graph.image"));
        fixture_open(&anew);
        struct graph_counts counts = graph_counts(anew.graph);
        graph_close(anew.graph);
        fixture_open(pair->stopped);
        assert_int_equal(graph_counts(pair->stopped->graph).embedding_operations, counts.embedding_operations);
    }
}

static void change_byte(const char *path, off_t at)
{
    int file = open(path, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 0x55;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static void a_damaged_image_is_passed_over(void **state)
{
    enum { PLACES = 30 };
    struct pair *pair = *state;
    struct stat status;
    put_everywhere(pair, 0, EVENTS);
    for (int place = 0; place < PLACES; place++) {
        save_and_close(pair->stopped);
        const char *path = path_of(pair->stopped, "graph.image");
        assert_int_equal(stat(path, &status), 0);
        off_t at = place < 10 ? place * 22 : status.st_size * (place - 10) / (PLACES - 10);
        if (place == PLACES - 1)
            assert_int_equal(truncate(path, 0), 0);
        else if (place % 3 == 2)
            assert_int_equal(truncate(path, at), 0);
        else
            change_byte(path, at);
        fixture_open(pair->stopped);
        assert_same_nodes(pair->stopped->graph, pair->undisturbed->graph);
        assert_int_equal(graph_counts(pair->stopped->graph).embedding_backlog, 0);
        put_everywhere(pair, EVENTS + place, EVENTS + place + 1);
    }
    assert_same_nodes(pair->stopped->graph, pair->undisturbed->graph);
}

static void a_full_disk_leaves_no_image_and_harms_nothing(void **state)
{
    struct pair *pair = *state;
    struct error err;
    put_everywhere(pair, 0, EVENTS);
    check(graph_save(pair->stopped->graph, &err), &err); /* its tables are written */
    close_it(pair->stopped);
    fixture_open(pair->stopped);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit = {.rlim_cur = 20000, .rlim_max = RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &before);
    limit.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    int result = graph_save(pair->stopped->graph, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(result, -1);
    assert_int_equal(err.kind, ERROR_RETRY);
    assert_non_null(strstr(err.message, "graph.image.tmp"));
    assert_int_equal(access(path_of(pair->stopped, "graph.image.tmp"), F_OK), -1);
    put_everywhere(pair, EVENTS, EVENTS + BATCH);
    assert_same(pair);
}

static void what_is_staged_is_not_saved(void **state)
{
    struct pair *pair = *state;
    struct error err;
    rate(pair->stopped, "u", "i", 1000, 5);
    assert_int_equal(graph_save(pair->stopped->graph, &err), -1);
    commit(pair->stopped);
    check(graph_save(pair->stopped->graph, &err), &err);
    pair->stopped->settings.read_only = true;
    fixture_reopen(pair->stopped);
    assert_int_equal(graph_save(pair->stopped->graph, &err), -1);
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROMISE(after_a_clean_stop_all_goes_on_bit_for_bit),
        PROMISE(an_empty_graph_is_saved_too),
        PROMISE(only_its_owner_may_read_the_image),
        PROMISE(a_start_without_events_leaves_the_image_for_the_next),
        PROMISE(an_image_from_before_is_never_used),
        PROMISE(the_image_of_another_store_is_never_used),
        PROMISE(with_other_settings_all_is_read_anew),
        PROMISE(a_damaged_image_is_passed_over),
        PROMISE(a_full_disk_leaves_no_image_and_harms_nothing),
        PROMISE(what_is_staged_is_not_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
