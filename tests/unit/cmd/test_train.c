#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "cmd/commands.h"
#include "cmd/flags.h"
#include "cmd/printed.h"
#include "cmd/setup.h"
#include "cmd/train.h"
#include "cmd/vectors.h"
#include "graph/graph.h"
#include "model/gguf.h"

enum { MOST_ARGUMENTS = 40, USERS = 12, ITEMS = 15, DIMENSION = 16 };

static char directory[256], ratings[300], vectors[300];
static char printed[1 << 14]; /* by the last command, on standard output and standard error */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void write_ratings(const char *rows)
{
    FILE *file = fopen(ratings, "w");
    assert_non_null(file);
    fputs(rows, file);
    assert_int_equal(fclose(file), 0);
}

/* Users like items of their own parity, one a second. */
static void write_good_ratings(void)
{
    static char rows[1 << 14];
    struct random random = {5};
    size_t at = (size_t)sprintf(rows, "user_id,item_id,rating,timestamp\n");
    for (int i = 0; i < 200; i++) {
        uint64_t user = random_below(&random, USERS), item = random_below(&random, ITEMS);
        if (user % 2 == item % 2)
            at += (size_t)sprintf(rows + at, "u%llu,i%llu,%d,%d\n", (unsigned long long)user, (unsigned long long)item,
                                  item < 3 ? 2 : 5, 1000 + i);
    }
    write_ratings(rows);
}

static int start(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/headrace-train-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(ratings, sizeof ratings, "%s/ratings.csv", directory);
    snprintf(vectors, sizeof vectors, "%s/vectors.gguf", directory);
    write_good_ratings();
    return 0;
}

static int end(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int run(const char *line)
{
    static char words[2048];
    char *arguments[MOST_ARGUMENTS];
    snprintf(words, sizeof words, "train %s", line);
    int argc = printed_split(words, arguments);
    return printed_run(command_train, argc, arguments, printed, NULL, sizeof printed);
}

/* `more` flags behind those that every test here gives. */
static int train(const char *more)
{
    char line[1500];
    snprintf(line, sizeof line,
             "graph --ratings %s --out %s --dimension 16 --epochs 5 --batch 16 --set graph.edges=all %s", ratings,
             vectors, more);
    return run(line);
}

static void expect_fine(const char *more)
{
    if (train(more) != EXIT_FINE)
        fail_msg("%s: %s", more, printed);
}

static void expect_words(const char *words)
{
    if (strstr(printed, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", printed, words);
}

static void expect_failure(const char *more, int code, const char *words)
{
    remove(vectors);
    assert_int_equal(train(more), code);
    expect_words(words);
    assert_int_equal(access(vectors, F_OK), -1);
}

static struct gguf *open_vectors(void)
{
    struct gguf *gguf;
    struct error err = {0};
    if (gguf_open(&gguf, vectors, &err) != 0)
        fail_msg("%s", err.message);
    return gguf;
}

static uint64_t number(const struct gguf *gguf, const char *key)
{
    uint64_t value = 0;
    struct error err = {0};
    if (gguf_unsigned(gguf, key, 0, UINT64_MAX, &value, &err) != 0)
        fail_msg("%s", err.message);
    return value;
}

static void expect_text(const struct gguf *gguf, const char *key, const char *wanted)
{
    struct text value;
    struct error err = {0};
    assert_int_equal(gguf_text(gguf, key, &value, &err), 0);
    assert_true(text_equal(value, text_of(wanted)));
}

static void take_version(char version[17])
{
    struct gguf *gguf = open_vectors();
    struct text value;
    struct error err = {0};
    assert_int_equal(gguf_text(gguf, "headrace.vectors.version", &value, &err), 0);
    assert_int_equal(value.size, 16);
    memcpy(version, value.data, 16);
    version[16] = '\0';
    gguf_close(gguf);
}

static int ascending(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static void the_file_says_what_it_holds_and_how_it_came_about(void **state)
{
    (void)state;
    struct error err = {0};
    expect_fine("--layers 2 --seed 9 --validate 0.2");
    expect_words("best epoch");
    struct gguf *gguf = open_vectors();
    expect_text(gguf, "headrace.vectors.source", "lightgcn");
    expect_text(gguf, "headrace.vectors.normalisation", "z");
    expect_text(gguf, "headrace.vectors.edges", "all");
    assert_int_equal(number(gguf, "headrace.vectors.layers"), 2);
    assert_int_equal(number(gguf, "headrace.vectors.dimension"), 16);
    assert_int_equal(number(gguf, "headrace.vectors.seed"), 9);
    assert_int_equal(number(gguf, "headrace.vectors.recall_at"), 20);
    assert_true(number(gguf, "headrace.vectors.first_event_ms") >= 1000);
    assert_true(number(gguf, "headrace.vectors.last_event_ms") < 1200);

    size_t users, items;
    assert_int_equal(gguf_text_array(gguf, "headrace.vectors.users", &users, &err), 0);
    assert_int_equal(gguf_text_array(gguf, "headrace.vectors.items", &items, &err), 0);
    const struct tensor *rows, *degrees;
    assert_int_equal(gguf_find_tensor(gguf, "users", users, 16, &rows, &err), 0);
    assert_int_equal(gguf_find_tensor(gguf, "items", items, 16, &rows, &err), 0);
    assert_int_equal(gguf_find_tensor(gguf, "items.degree", 1, items, &degrees, &err), 0);
    float degree[ITEMS];
    double sum = 0;
    tensor_row(degrees, 0, degree);
    for (size_t i = 0; i < items; i++)
        sum += (double)degree[i];
    assert_int_equal((uint64_t)sum, number(gguf, "headrace.vectors.edge_count"));
    gguf_close(gguf);
}

static void the_median_norm_is_that_of_a_hashed_vector(void **state)
{
    (void)state;
    double norms[USERS + ITEMS];
    size_t count = 0;
    expect_fine("--layers 3");
    struct gguf *gguf = open_vectors();
    for (size_t which = 0; which < 2; which++) {
        const struct tensor *tensor = gguf_tensor_named(gguf, which == 0 ? "users" : "items");
        for (size_t row = 0; row < tensor->rows; row++) {
            float values[DIMENSION];
            double squares = 0;
            tensor_row(tensor, row, values);
            for (size_t i = 0; i < DIMENSION; i++)
                squares += (double)values[i] * (double)values[i];
            norms[count++] = sqrt(squares);
        }
    }
    qsort(norms, count, sizeof *norms, ascending);
    assert_true(fabs(norms[count / 2] - 1) < 1e-5);
    gguf_close(gguf);
}

static struct config *config_with_vectors(void)
{
    char option[400];
    struct error err = {0};
    struct config *config = config_create();
    assert_non_null(config);
    snprintf(option, sizeof option, "graph.vectors=%s", vectors);
    assert_int_equal(config_set(config, option, &err), 0);
    return config;
}

static void serving_finds_the_vectors_by_id(void **state)
{
    (void)state;
    struct error err = {0};
    struct trained trained = {0};
    float first[DIMENSION];
    expect_fine("");
    struct config *config = config_with_vectors();
    if (trained_open(&trained, config, &err) != 0)
        fail_msg("%s", err.message);
    const struct graph_vectors *found = &trained.vectors;
    struct text id = gguf_text_at(trained.gguf, "headrace.vectors.items", 2);
    tensor_row(gguf_tensor_named(trained.gguf, "items"), 2, first);
    assert_memory_equal(graph_vectors_find(found, VECTORS_ITEMS, id), first, sizeof first);
    assert_null(graph_vectors_find(found, VECTORS_USERS, id));
    trained_close(&trained);
    config_destroy(config);
}

/* A row a thousand times as long as the others would be refused by the embeddings at the median's scale. */
static void rows_of_any_length_are_taken_by_serving(void **state)
{
    (void)state;
    enum { NODES = 6 };
    const struct pair pairs[] = {{0, 0}, {1, 1}, {2, 2}, {0, 1}};
    const struct trainer_settings settings = {
        .layers = 2, .dimension = DIMENSION, .learning_rate = 0.1, .batch = 4, .negatives = 1};
    struct error err = {0};
    struct trainer *trainer;
    struct training_data data = {.pair_count = 4};
    struct training_result result = {.source = "lightgcn", .recall = -1};
    struct trained trained = {0};
    float base[NODES][DIMENSION] = {{0}};
    for (size_t node = 0; node < NODES; node++)
        base[node][node] = node == 5 ? -1000 : 1;
    static const char *const ids[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        table_add(&data.users, text_of(ids[i]));
        table_add(&data.items, text_of(ids[i]));
    }
    struct pool *pool = pool_create(1);
    assert_int_equal(trainer_create(&trainer, &settings, pool, 3, 3, pairs, 4, &err), 0);
    trainer_set_base(trainer, &base[0][0]);
    assert_int_equal(training_result_save(&result, &settings, &data, trainer, vectors, &err), 0);
    struct config *config = config_with_vectors();
    if (trained_open(&trained, config, &err) != 0)
        fail_msg("%s", err.message);
    const float *row = graph_vectors_find(&trained.vectors, VECTORS_ITEMS, text_of("c"));
    assert_true(fabsf(row[5] + 3) < 1e-5f);
    trained_close(&trained);
    config_destroy(config);
    trainer_destroy(trainer);
    pool_destroy(pool);
    training_data_free(&data);
}

static void a_factorisation_machine_has_biases_and_no_layers(void **state)
{
    (void)state;
    struct error err = {0};
    expect_fine("--model fm");
    struct gguf *gguf = open_vectors();
    expect_text(gguf, "headrace.vectors.source", "fm");
    expect_text(gguf, "headrace.vectors.normalisation", "none");
    assert_int_equal(number(gguf, "headrace.vectors.layers"), 0);
    const struct tensor *items = gguf_tensor_named(gguf, "items"), *bias;
    assert_int_equal(gguf_find_tensor(gguf, "items.bias", 1, items->rows, &bias, &err), 0);
    float values[ITEMS], sum = 0;
    tensor_row(bias, 0, values);
    for (size_t i = 0; i < items->rows; i++)
        sum += fabsf(values[i]);
    assert_true(sum > 0);
    gguf_close(gguf);
}

static void the_version_follows_the_content(void **state)
{
    (void)state;
    char first[17], other[17];
    expect_fine("--threads 1");
    take_version(first);
    expect_fine("--threads 3");
    take_version(other);
    assert_string_equal(first, other);
    expect_fine("--threads 1 --seed 2");
    take_version(other);
    assert_string_not_equal(first, other);
}

/* Edges of these rows: a-x (re-rated, now a dislike), a-z, b-x, b-y; c-y was taken back, c-z was only seen. */
static void the_newest_event_of_a_pair_is_its_edge(void **state)
{
    (void)state;
    write_ratings("user_id,item_id,kind,value,timestamp\n"
                  "a,x,rating,2,50\n"
                  "a,x,rating,5,10\n"
                  "a,z,like,,20\n"
                  "b,x,rating,5,21\n"
                  "b,y,rating,4,22\n"
                  "c,y,like,,23\n"
                  "c,y,remove,,24\n"
                  "c,z,impression,,25\n");
    expect_fine("--validate 0");
    expect_words("4 edges of 2 users and 3 items train");
    expect_fine("--validate 0 --edges likes");
    expect_words("3 edges of 2 users and 3 items train");
    expect_fine("--validate 0 --to 24"); /* c has not taken it back yet */
    expect_words("5 edges of 3 users and 3 items train");
    expect_fine("--validate 0 --to 24 --edges likes"); /* a has not re-rated yet */
    expect_words("5 edges of 3 users and 3 items train");
    write_good_ratings();
}

static void rows_that_cannot_be_read_are_shown_and_left_out(void **state)
{
    (void)state;
    write_ratings("user_id,item_id,rating,timestamp\na,x,5,10\na,y,what,11\n,y,5,12\nb,y,5,-3\nb,z,5,14\n");
    expect_fine("--validate 0");
    expect_words("ratings.csv:3:");
    expect_words("without user or item");
    expect_words("2 edges of 2 users and 2 items train");
    expect_words("3 rows could not be read");
    write_good_ratings();
}

static void what_cannot_be_done_is_said_and_nothing_written(void **state)
{
    (void)state;
    expect_failure("--validate 1", EXIT_USAGE, "--validate: 1");
    expect_failure("--edges some", EXIT_USAGE, "--edges: \"some\"");
    expect_failure("--model svd", EXIT_USAGE, "--model: \"svd\"");
    expect_failure("--model fm --layers 2", EXIT_USAGE, "--layers");
    expect_failure("--layers 0", EXIT_USAGE, "--layers");
    expect_failure("--epochs 0", EXIT_USAGE, "--epochs");
    expect_failure("--layers 99", EXIT_FAILED, "99 layers");
    expect_failure("--dimension 20", EXIT_FAILED, "dimension 20");
    expect_failure("--batch 0", EXIT_FAILED, "batch");
    expect_failure("--learning-rate 0", EXIT_FAILED, "learning rate");
    expect_failure("--learning-rate 1e38 --l2 1", EXIT_FAILED, "learning rate");
    expect_failure("--to 900", EXIT_FAILED, "no edges to train on");
    expect_failure("--validate 0.99", EXIT_FAILED, "--validate 0");
    expect_failure("--map item_id=movie", EXIT_FAILED, "movie");
    expect_failure("--ratings /no/such/file.csv", EXIT_FAILED, "/no/such/file.csv");
    expect_failure("--out /no/such/directory/v.gguf", EXIT_FAILED, "/no/such/directory");
    assert_int_equal(run("roots --out x"), EXIT_USAGE);
    expect_words("\"roots\" cannot be trained");
    assert_int_equal(run("graph"), EXIT_USAGE);
    expect_words("--out is missing");
}

static void a_failed_training_leaves_the_old_file(void **state)
{
    (void)state;
    char first[17], other[17];
    expect_fine("");
    take_version(first);
    assert_int_equal(train("--learning-rate 1e38 --l2 1"), EXIT_FAILED);
    take_version(other);
    assert_string_equal(first, other);
}

static void interrupt(int number)
{
    (void)number;
    raise(SIGINT);
}

static void an_interrupt_ends_it_cleanly(void **state)
{
    (void)state;
    char first[17], other[17];
    expect_fine("");
    take_version(first);
    signal(SIGALRM, interrupt);
    ualarm(200000, 0);
    assert_int_equal(train("--epochs 100000000 --validate 0"), EXIT_FAILED);
    signal(SIGALRM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    expect_words("interrupted in epoch");
    expect_words("nothing was written");
    take_version(other);
    assert_string_equal(first, other);
}

static void put_rating(struct graph *graph, const char *user, const char *item, double value, int64_t timestamp_ms)
{
    struct error err = {0};
    const struct interaction interaction = {.user_id = text_of(user),
                                            .item_id = text_of(item),
                                            .timestamp_ms = timestamp_ms,
                                            .kind = INTERACTION_RATING,
                                            .has_value = true,
                                            .value = value};
    if (graph_put_interaction(graph, &interaction, &err) != 0)
        fail_msg("%s", err.message);
}

static void the_store_gives_its_edges(void **state)
{
    (void)state;
    struct error err = {0};
    struct graph *graph;
    char store[300], line[1200];
    snprintf(store, sizeof store, "%s/state", directory);
    snprintf(line, sizeof line, "state.dir=%s", store);
    struct config *config = config_create();
    assert_non_null(config);
    assert_int_equal(config_set(config, line, &err), 0);
    struct graph_settings settings = setup_graph(config, false);
    if (graph_open(&graph, &settings, &err) != 0)
        fail_msg("%s", err.message);
    put_rating(graph, "a", "x", 5, 10);
    put_rating(graph, "a", "y", 1, 11);
    put_rating(graph, "b", "y", 5, 12);
    put_rating(graph, "b", "z", 5, 13);
    assert_int_equal(graph_commit(graph, &err), 0);
    graph_close(graph);
    config_destroy(config);

    snprintf(line, sizeof line, "graph --set state.dir=%s --set graph.edges=all --out %s --epochs 2 --validate 0",
             store, vectors);
    assert_int_equal(run(line), EXIT_FINE);
    expect_words("4 edges of 2 users and 3 items train");
    strcat(line, " --edges likes --to 13");
    assert_int_equal(run(line), EXIT_FINE);
    expect_words("2 edges of 2 users and 2 items train");
    struct gguf *gguf = open_vectors();
    expect_text(gguf, "headrace.vectors.edges", "likes");
    assert_int_equal(number(gguf, "headrace.vectors.first_event_ms"), 10);
    assert_int_equal(number(gguf, "headrace.vectors.last_event_ms"), 12);
    assert_true(text_equal(gguf_text_at(gguf, "headrace.vectors.users", 1), text_of("b")));
    gguf_close(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_says_what_it_holds_and_how_it_came_about),
        cmocka_unit_test(the_median_norm_is_that_of_a_hashed_vector),
        cmocka_unit_test(serving_finds_the_vectors_by_id),
        cmocka_unit_test(rows_of_any_length_are_taken_by_serving),
        cmocka_unit_test(a_factorisation_machine_has_biases_and_no_layers),
        cmocka_unit_test(the_version_follows_the_content),
        cmocka_unit_test(the_newest_event_of_a_pair_is_its_edge),
        cmocka_unit_test(rows_that_cannot_be_read_are_shown_and_left_out),
        cmocka_unit_test(what_cannot_be_done_is_said_and_nothing_written),
        cmocka_unit_test(a_failed_training_leaves_the_old_file),
        cmocka_unit_test(an_interrupt_ends_it_cleanly),
        cmocka_unit_test(the_store_gives_its_edges),
    };
    return cmocka_run_group_tests(tests, start, end);
}
