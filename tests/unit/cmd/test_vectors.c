/* Base vectors from a file and from titles: what is read, what is refused, and what the graph makes of them. */
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cmd/setup.h"
#include "cmd/vectors.h"
#include "model/gguf_writer.h"

enum { DIMENSION = 16, USERS = 2, ITEMS = 3 };

static char directory[256], path[300];

static int start(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/headrace-vectors-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/vectors.gguf", directory);
    return 0;
}

static int remove_entry(const char *name, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(name);
}

static int end(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void check(int result, const struct error *err)
{
    if (result != 0)
        fail_msg("%s", err->message);
}

/* A file of vectors; each test changes what it is about. */
struct file {
    bool version, dimension, user_ids, users, items; /* whether it has them */
    uint64_t dimension_said;
    size_t columns, user_rows;
    const char *second_item;
    float component; /* of the last item */
};

static const struct file good = {.version = true,
                                 .dimension = true,
                                 .user_ids = true,
                                 .users = true,
                                 .items = true,
                                 .dimension_said = DIMENSION,
                                 .columns = DIMENSION,
                                 .user_rows = USERS,
                                 .second_item = "Brazil",
                                 .component = 0.5f};

static struct text text_at(const void *context, size_t index)
{
    return text_of(((const char *const *)context)[index]);
}

/* Row r is 1 + r in its column r, and 0 elsewhere. */
static void write_vectors(const struct file *file)
{
    static const char *const users[] = {"ann", "bob"};
    const char *const items[] = {"Alien", file->second_item, "Casino"};
    struct gguf_writer writer = {0};
    struct error err;
    float rows[ITEMS * 2 * DIMENSION] = {0};
    gguf_put_text(&writer, "general.architecture", text_of("headrace-vectors"));
    if (file->version)
        gguf_put_text(&writer, "headrace.vectors.version", text_of("0123456789abcdef"));
    if (file->dimension)
        gguf_put_unsigned(&writer, "headrace.vectors.dimension", file->dimension_said);
    if (file->user_ids)
        gguf_put_texts(&writer, "headrace.vectors.users", USERS, text_at, users);
    gguf_put_texts(&writer, "headrace.vectors.items", ITEMS, text_at, items);
    for (size_t row = 0; row < ITEMS; row++)
        rows[row * file->columns + row] = 1 + (float)row;
    if (file->users)
        gguf_put_tensor(&writer, "users", file->user_rows, file->columns, rows);
    rows[(ITEMS - 1) * file->columns + 7] = file->component;
    if (file->items)
        gguf_put_tensor(&writer, "items", ITEMS, file->columns, rows);
    check(gguf_writer_save(&writer, path, &err), &err);
    gguf_writer_free(&writer);
}

static struct config *config_with(const char *const *options)
{
    char option[400];
    struct error err;
    struct config *config = config_create();
    assert_non_null(config);
    snprintf(option, sizeof option, "state.dir=%s/state", directory);
    check(config_set(config, option, &err), &err);
    check(config_set(config, "graph.dimension=16", &err), &err);
    for (; *options != NULL; options++)
        check(config_set(config, *options, &err), &err);
    return config;
}

static struct config *config_with_file(const char *option)
{
    char vectors[400];
    snprintf(vectors, sizeof vectors, "graph.vectors=%s", path);
    return config_with((const char *const[]){vectors, option, NULL});
}

static void assert_refused(struct config *config, const char *first, const char *second)
{
    struct trained trained = {0};
    struct error err = {0};
    assert_int_equal(trained_open(&trained, config, &err), -1);
    trained_close(&trained);
    config_destroy(config);
    if (strstr(err.message, first) == NULL || strstr(err.message, second) == NULL)
        fail_msg("\"%s\" or \"%s\" is not in: %s", first, second, err.message);
}

static void a_good_file_is_found_by_id_and_given_to_the_graph(void **state)
{
    (void)state;
    struct trained trained = {0};
    struct error err;
    write_vectors(&good);
    struct config *config = config_with_file(NULL);
    check(trained_open(&trained, config, &err), &err);
    const float *casino = graph_vectors_find(&trained.vectors, VECTORS_ITEMS, text_of("Casino"));
    const float *bob = graph_vectors_find(&trained.vectors, VECTORS_USERS, text_of("bob"));
    assert_true(casino != NULL && casino[2] > 2.99f && casino[2] < 3.01f && casino[7] > 0.49f && casino[0] == 0);
    assert_true(bob != NULL && bob[1] > 1.99f && bob[1] < 2.01f && bob[7] == 0);
    assert_null(graph_vectors_find(&trained.vectors, VECTORS_USERS, text_of("Casino")));
    assert_string_equal(trained.vectors.version, "0123456789abcdef");

    struct graph_settings settings = setup_graph(config, true);
    trained_give(&trained, &settings);
    assert_ptr_equal(settings.vectors, &trained.vectors);
    assert_null(settings.title_vector);
    trained_close(&trained);
    config_destroy(config);
}

static void without_a_file_nothing_is_given(void **state)
{
    (void)state;
    struct trained trained = {0};
    struct error err;
    struct config *config = config_with((const char *const[]){NULL});
    struct graph_settings settings = setup_graph(config, true);
    check(trained_open(&trained, config, &err), &err);
    trained_give(&trained, &settings);
    assert_null(settings.vectors);
    assert_null(settings.title_vector);
    trained_close(&trained);
    config_destroy(config);
}

static void what_is_no_file_of_vectors_is_refused_by_name(void **state)
{
    (void)state;
    struct error err;
    assert_refused(config_with((const char *const[]){"graph.vectors=/nowhere/v.gguf", NULL}), "graph.vectors",
                   "/nowhere/v.gguf");
    check(file_replace(path, "user,item\n", 10, &err), &err);
    assert_refused(config_with_file(NULL), "graph.vectors", path);
    assert_refused(config_with((const char *const[]){"graph.vectors=" HEADRACE_GOLDEN "/tiny.gguf", NULL}), "tiny.gguf",
                   "headrace.vectors.version");
}

static void a_file_that_lacks_something_is_refused_with_what(void **state)
{
    (void)state;
    struct file file = good;
    file.version = false;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "headrace.vectors.version");
    file = good;
    file.dimension = false;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "headrace.vectors.dimension");
    file = good;
    file.user_ids = false;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "headrace.vectors.users");
    file = good;
    file.users = false;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "users");
    file = good;
    file.items = false;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "items");
}

static void a_file_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    struct file file = good;
    file.dimension_said = 2 * DIMENSION;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "users");
    file = good;
    file.dimension_said = 0;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "headrace.vectors.dimension");
    file = good;
    file.user_rows = USERS + 1;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), path, "users");
    file = good;
    file.second_item = "Alien";
    write_vectors(&file);
    assert_refused(config_with_file(NULL), "Alien", "comes twice");
    file = good;
    file.component = NAN;
    write_vectors(&file);
    assert_refused(config_with_file(NULL), "Casino", "no number");
}

/* The file is sound, but not for this graph: who opens the graph is told. */
static void vectors_of_another_dimension_are_refused_by_the_graph(void **state)
{
    (void)state;
    struct file file = good;
    struct trained trained = {0};
    struct error err = {0};
    struct graph *graph;
    file.dimension_said = file.columns = 2 * DIMENSION;
    write_vectors(&file);
    struct config *config = config_with_file(NULL);
    struct graph_settings settings = setup_graph(config, false);
    check(trained_open(&trained, config, &err), &err);
    trained_give(&trained, &settings);
    assert_int_equal(graph_open(&graph, &settings, &err), -1);
    if (strstr(err.message, "32") == NULL || strstr(err.message, "16") == NULL)
        fail_msg("no dimension in: %s", err.message);
    trained_close(&trained);
    config_destroy(config);
}

static void what_goes_by_vectors_or_titles_needs_the_file_of_them(void **state)
{
    (void)state;
    assert_refused(config_with((const char *const[]){"graph.similar=fm", NULL}), "graph.similar fm", "graph.vectors");
    assert_refused(config_with((const char *const[]){"graph.similar=text", NULL}), "graph.similar text", "model.path");
    assert_refused(config_with((const char *const[]){"graph.base=title", NULL}), "graph.base title", "model.path");
}

/* A graph as the worker opens it, whose users each like one item: with one layer they are where its z0 is. */
struct titled {
    struct config *config;
    struct trained trained;
    struct graph *graph;
};

/* `titled` stays where it is: the graph points into it. */
static void open_titled(struct titled *titled, const char *base, const char *vectors)
{
    struct error err;
    *titled = (struct titled){.config = config_with((const char *const[]){
                                  "graph.layers=1", "graph.push_threshold=0", "graph.push_budget=0", "graph.edges=all",
                                  "model.path=" HEADRACE_GOLDEN "/tiny.gguf", base, vectors, NULL})};
    struct graph_settings settings = setup_graph(titled->config, false);
    check(trained_open(&titled->trained, titled->config, &err), &err);
    trained_give(&titled->trained, &settings);
    check(graph_open(&titled->graph, &settings, &err), &err);
}

static void close_titled(struct titled *titled)
{
    graph_close(titled->graph);
    trained_close(&titled->trained);
    config_destroy(titled->config);
}

static void put(const struct titled *titled, const char *id, const char *title, bool liked)
{
    struct error err;
    const struct item item = {.item_id = text_of(id), .title = text_of(title)};
    const struct interaction like = {
        .user_id = text_of(id), .item_id = text_of(id), .timestamp_ms = 1, .kind = INTERACTION_LIKE};
    if (title != NULL)
        check(graph_put_item(titled->graph, &item, &err), &err);
    if (liked)
        check(graph_put_interaction(titled->graph, &like, &err), &err);
    check(graph_commit(titled->graph, &err), &err);
}

static double cosine(const struct titled *titled, const char *one, const char *other)
{
    float a[DIMENSION], b[DIMENSION];
    double product = 0, of_a = 0, of_b = 0;
    graph_user_embedding(titled->graph, graph_find_user(titled->graph, text_of(one)), a);
    graph_user_embedding(titled->graph, graph_find_user(titled->graph, text_of(other)), b);
    for (size_t i = 0; i < DIMENSION; i++) {
        product += (double)a[i] * (double)b[i];
        of_a += (double)a[i] * (double)a[i];
        of_b += (double)b[i] * (double)b[i];
    }
    assert_true(of_a > 0 && of_b > 0);
    return product / sqrt(of_a * of_b);
}

static const char alien[] = "the alien in the house", sequel[] = "the alien in the house 2", other[] = "99 66 33";

static void a_new_item_is_near_one_of_a_like_title(void **state)
{
    (void)state;
    static const char *const bases[] = {"graph.base=hash", "graph.base=title"};
    double near[2], far[2];
    for (size_t n = 0; n < 2; n++) {
        struct titled titled;
        open_titled(&titled, bases[n], NULL);
        if (n == 0) {
            put(&titled, "alien", alien, true);
            put(&titled, "sequel", sequel, true);
            put(&titled, "other", other, true);
        }
        near[n] = cosine(&titled, "alien", "sequel");
        far[n] = cosine(&titled, "alien", "other");
        put(&titled, "latest", sequel, true);
        assert_true((cosine(&titled, "latest", "sequel") > 1 - 1e-4) == (n == 1));
        close_titled(&titled);
    }
    assert_true(near[1] > 0.8 && far[1] < near[1] - 0.2);
    assert_true(near[0] < 0.8);
}

static void a_title_that_comes_late_moves_its_item(void **state)
{
    (void)state;
    struct titled titled;
    open_titled(&titled, "graph.base=title", NULL);
    put(&titled, "alien", alien, true);
    put(&titled, "sequel", NULL, true);
    double before = cosine(&titled, "alien", "sequel");
    put(&titled, "sequel", sequel, false);
    double after = cosine(&titled, "alien", "sequel");
    assert_true(before < 0.8 && after > 0.8);
    close_titled(&titled);
}

static void a_trained_vector_comes_before_the_title(void **state)
{
    (void)state;
    char vectors[400];
    snprintf(vectors, sizeof vectors, "graph.vectors=%s", path);
    write_vectors(&good);
    struct titled titled;
    open_titled(&titled, "graph.base=title", vectors);
    put(&titled, "Alien", alien, true);
    put(&titled, "Brazil", alien, true);
    assert_true(fabs(cosine(&titled, "Alien", "Brazil")) < 1e-6);
    put(&titled, "new", alien, true);
    put(&titled, "newer", alien, true);
    assert_true(cosine(&titled, "new", "newer") > 1 - 1e-4);
    close_titled(&titled);
}

int main(void)
{
#define PROMISE(name) cmocka_unit_test_setup_teardown(name, start, end)
    const struct CMUnitTest tests[] = {
        PROMISE(a_good_file_is_found_by_id_and_given_to_the_graph),
        PROMISE(without_a_file_nothing_is_given),
        PROMISE(what_is_no_file_of_vectors_is_refused_by_name),
        PROMISE(a_file_that_lacks_something_is_refused_with_what),
        PROMISE(a_file_that_contradicts_itself_is_refused),
        PROMISE(vectors_of_another_dimension_are_refused_by_the_graph),
        PROMISE(what_goes_by_vectors_or_titles_needs_the_file_of_them),
        PROMISE(a_new_item_is_near_one_of_a_like_title),
        PROMISE(a_title_that_comes_late_moves_its_item),
        PROMISE(a_trained_vector_comes_before_the_title),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
