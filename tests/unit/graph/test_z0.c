/* Where base vectors come from, and embeddings for users who are not there. */
#include "graph/fixture.h"

#include <math.h>

#include "graph/records.h"
#include "graph/store.h"
#include "graph/vectors.h"

enum { DIMENSION = 16 };

/* One axis a first letter; titles that begin with a digit have no vector, one that begins with '!' a wrong one. */
static bool title_vector(void *context, struct text title, float *out)
{
    (void)context;
    memset(out, 0, DIMENSION * sizeof *out);
    if (title.data[0] >= '0' && title.data[0] <= '9')
        return false;
    out[(unsigned char)title.data[0] % DIMENSION] = title.data[0] == '!' ? NAN : 1.0f;
    return true;
}

static void put_title(struct fixture *fixture, const char *id, const char *title)
{
    struct item item = {.item_id = text_of(id), .title = text_of(title)};
    struct error err;
    check(graph_put_item(fixture->graph, &item, &err), &err);
}

static void embedding_of(const struct fixture *fixture, const char *user, float out[DIMENSION])
{
    graph_user_embedding(fixture->graph, user_number(fixture, user), out);
}

static void assert_same(const float *a, const float *b)
{
    for (size_t i = 0; i < DIMENSION; i++)
        assert_true(fabsf(a[i] - b[i]) < 1e-5f);
}

static bool is_same(const float *a, const float *b)
{
    float distance = 0;
    for (size_t i = 0; i < DIMENSION; i++)
        distance += fabsf(a[i] - b[i]);
    return distance < 1e-4f;
}

/* With one layer a user's embedding is the mean of the z0 of the items. */
static void reopen_with_titles(struct fixture *fixture, bool titles)
{
    fixture->settings.layers = 1;
    fixture->settings.push_threshold = 0.0f;
    fixture->settings.base = titles ? GRAPH_BASE_TITLE : GRAPH_BASE_HASH;
    fixture->settings.title_vector = title_vector;
    fixture->settings.title_version = "letters";
    fixture_reopen(fixture);
}

static void a_title_that_comes_late_changes_or_goes_is_followed(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    float hashed[DIMENSION], now[DIMENSION], of_letter[DIMENSION];
    reopen_with_titles(fixture, true);
    rate(fixture, "ann", "x", 10, 5.0);
    commit(fixture);
    embedding_of(fixture, "ann", hashed);
    static const char *const titles[] = {"Alien", "Brazil", "Brazil II"};
    for (size_t n = 0; n < 3; n++) {
        put_title(fixture, "x", titles[n]);
        commit(fixture);
        title_vector(NULL, text_of(titles[n]), of_letter);
        for (int round = 0; round < 2; round++) {
            embedding_of(fixture, "ann", now);
            assert_same(now, of_letter);
            fixture_reopen(fixture);
        }
    }
    static const char *const without[] = {"2001", "!", NULL};
    for (size_t n = 0; n < 3; n++) {
        put_title(fixture, "x", "Alien");
        commit(fixture);
        if (without[n] != NULL)
            put_title(fixture, "x", without[n]);
        else
            check(graph_delete_item(fixture->graph, text_of("x"), &err), &err);
        commit(fixture);
        embedding_of(fixture, "ann", now);
        assert_same(now, hashed);
    }
}

struct rows {
    const char *const *ids;
};

static struct text id_at(const void *context, size_t index)
{
    return text_of(((const struct rows *)context)->ids[index]);
}

static void training_comes_before_titles_and_hashes(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    static const char *const items[] = {"y", "x"};
    float rows[2 * DIMENSION] = {0}, now[DIMENSION], before[DIMENSION];
    rows[3] = 1.0f;
    rows[DIMENSION + 5] = 0.5f;
    struct graph_vectors vectors;
    graph_vectors_init(&vectors, DIMENSION, "v1");
    check(graph_vectors_add(&vectors, VECTORS_ITEMS, 2, id_at, &(struct rows){items}, rows, &err), &err);
    assert_null(graph_vectors_find(&vectors, VECTORS_ITEMS, text_of("z")));
    assert_null(graph_vectors_find(&vectors, VECTORS_USERS, text_of("x")));
    assert_ptr_equal(graph_vectors_find(&vectors, VECTORS_ITEMS, text_of("x")), rows + DIMENSION);

    reopen_with_titles(fixture, true);
    put_title(fixture, "x", "Alien");
    rate(fixture, "ann", "x", 10, 5.0);
    rate(fixture, "bob", "z", 10, 5.0);
    commit(fixture);
    embedding_of(fixture, "bob", before);
    fixture->settings.vectors = &vectors;
    fixture_reopen(fixture);
    embedding_of(fixture, "ann", now);
    assert_same(now, rows + DIMENSION);
    embedding_of(fixture, "bob", now);
    assert_same(now, before);
    put_title(fixture, "x", "Brazil");
    commit(fixture);
    embedding_of(fixture, "ann", now);
    assert_same(now, rows + DIMENSION);
    fixture->settings.vectors = NULL;
    fixture_reopen(fixture);
    embedding_of(fixture, "ann", now);
    assert_false(is_same(now, rows + DIMENSION));
    graph_vectors_free(&vectors);
}

static void wrong_vectors_are_refused(void **state)
{
    (void)state;
    static const char *const twice[] = {"x", "x"}, *const once[] = {"x"};
    float rows[2 * DIMENSION] = {0}, large[DIMENSION] = {[2] = 4.0f}, nothing[DIMENSION] = {[7] = NAN};
    const struct {
        const char *const *ids;
        size_t count;
        const float *rows;
    } wrong[] = {{twice, 2, rows}, {once, 1, large}, {once, 1, nothing}};
    for (size_t n = 0; n < 3; n++) {
        struct graph_vectors vectors;
        struct error err;
        graph_vectors_init(&vectors, DIMENSION, "v1");
        assert_int_equal(graph_vectors_add(&vectors, VECTORS_USERS, wrong[n].count, id_at, &(struct rows){wrong[n].ids},
                                           wrong[n].rows, &err),
                         -1);
        assert_int_equal(err.kind, ERROR_BAD_INPUT);
        graph_vectors_free(&vectors);
    }
}

static int append_record(void *context, struct text key, struct text value, struct error *err)
{
    struct buffer *seen = context;
    buffer_printf(seen, "%c%u %d " TEXT_FORMAT "\n", key.data[0], bytes_get_32(key.data + 1), value.data[0],
                  (int)value.size - 1, value.data + 1);
    return buffer_check(seen, "testing", err);
}

/* Closes the graph, as the store has one owner. */
static void assert_records(struct fixture *fixture, const char *expected)
{
    static const struct text all = {"", 0};
    struct store store;
    struct error err;
    struct buffer seen = {0};
    graph_close(fixture->graph);
    check(store_open(&store, fixture->directory, false, &err), &err);
    check(store_scan(&store, FAMILY_VECTORS, all, all, append_record, &seen, &err), &err);
    assert_string_equal(buffer_string(&seen), expected);
    store_close(&store);
    buffer_free(&seen);
    fixture_open(fixture);
}

static void the_store_tells_source_and_version_of_nodes_with_edges(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    static const char *const users[] = {"ann"};
    float rows[DIMENSION] = {1.0f};
    struct graph_vectors vectors;
    graph_vectors_init(&vectors, DIMENSION, "v1");
    check(graph_vectors_add(&vectors, VECTORS_USERS, 1, id_at, &(struct rows){users}, rows, &err), &err);
    reopen_with_titles(fixture, true);
    put_title(fixture, "x", "Alien"); /* item 0, described in the batch of its first edge */
    put_title(fixture, "lone", "Brazil");
    rate(fixture, "ann", "x", 10, 5.0);
    rate(fixture, "ann", "y", 11, 5.0);
    commit(fixture);
    assert_records(fixture, "i0 1 letters\n");
    put_title(fixture, "y", "Crash"); /* item 2, described when it has edges */
    commit(fixture);
    fixture->settings.vectors = &vectors;
    assert_records(fixture, "i0 1 letters\ni2 1 letters\n");
    strcpy(vectors.version, "v2");
    fixture->settings.title_version = "words";
    assert_records(fixture, "i0 1 letters\ni2 1 letters\nu0 2 v1\n");
    put(fixture, "ann", "y", 12, INTERACTION_REMOVE, 0.0);
    commit(fixture);
    assert_records(fixture, "i0 1 words\nu0 2 v2\n");
    check(graph_erase_user(fixture->graph, text_of("ann"), &err), &err);
    commit(fixture);
    assert_records(fixture, "");
    graph_vectors_free(&vectors);
}

static void a_history_alone_gives_the_embedding_that_its_edges_would(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    fixture->settings.push_threshold = 0.0f;
    fixture_reopen(fixture);
    rate(fixture, "ann", "x", 10, 5.0);
    rate(fixture, "ann", "y", 11, 5.0);
    rate(fixture, "bob", "y", 12, 5.0);
    rate(fixture, "bob", "z", 13, 5.0);
    put_title(fixture, "unrated", "Alien");
    commit(fixture);
    uint32_t items[] = {item_number(fixture, "x"), GRAPH_NONE, item_number(fixture, "unrated"),
                        item_number(fixture, "y")};
    float of_history[DIMENSION], of_ann[DIMENSION];
    check(graph_embed_history(fixture->graph, items, 4, of_history, &err), &err);
    embedding_of(fixture, "ann", of_ann);
    assert_same(of_history, of_ann);
    check(graph_embed_history(fixture->graph, items + 1, 2, of_history, &err), &err);
    for (size_t i = 0; i < DIMENSION; i++)
        assert_true(of_history[i] == 0.0f);
}

int main(void)
{
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        PROMISE(a_title_that_comes_late_changes_or_goes_is_followed),
        PROMISE(training_comes_before_titles_and_hashes),
        cmocka_unit_test(wrong_vectors_are_refused),
        PROMISE(the_store_tells_source_and_version_of_nodes_with_edges),
        PROMISE(a_history_alone_gives_the_embedding_that_its_edges_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
