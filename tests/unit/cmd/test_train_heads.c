/* `headrace train heads`: from logged ratings to a file of heads that a worker loads, on the tiny model. */
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
#include "base/random.h"
#include "cmd/commands.h"
#include "cmd/printed.h"
#include "cmd/train_heads.h"

enum { MOST_ARGUMENTS = 60, USERS = 25, ITEMS = 30, EVENTS = 500, EXITS = 3 };

static char directory[256], out[300];
static char printed[1 << 14]; /* by the last command, on standard output and standard error */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static FILE *create(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    return file;
}

/* The later an item in the list, the more it is liked: what the evidence can know, and after it the prompt. */
static int start(void **state)
{
    (void)state;
    struct random random = {7};
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/headrace-heads-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(out, sizeof out, "%s/tiny.heads.gguf", directory);
    FILE *items = create("items.csv"), *ratings = create("ratings.csv");
    fprintf(items, "item_id,name\n");
    for (int i = 0; i < ITEMS; i++)
        fprintf(items, "i%d,Film %d\n", i, i);
    fprintf(ratings, "user_id,item_id,rating,timestamp\n");
    for (int i = 0; i < EVENTS; i++) {
        int item = (int)random_below(&random, ITEMS);
        bool like = random_uniform(&random) < 0.1 + 0.8 * item / ITEMS;
        fprintf(ratings, "u%d,i%d,%d,%d\n", (int)random_below(&random, USERS), item, like ? 5 : 2, 1000 * i);
    }
    fclose(items);
    fclose(ratings);
    return 0;
}

static int end(void **state)
{
    (void)state;
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int run(char *line)
{
    char *arguments[MOST_ARGUMENTS];
    int argc = printed_split(line, arguments);
    return printed_run(command_train, argc, arguments, printed, NULL, sizeof printed);
}

static int train_into(const char *file, const char *more)
{
    char line[2000];
    snprintf(line, sizeof line,
             "train heads --events %s/ratings.csv --items %s/items.csv --item-map title={name} --rows-share 1 "
             "--calibrate-share 1 --from 0.3 --to 0.9 --sets text,hybrid,single --out %s --set model.path=%s "
             "--set engine.weights_cache=%s/cache --set exit.layers=2,4 --set engine.mode=f32 --set log.level=error "
             "--set history.min=0 --l2 300,3000 --l2-evidence 10,100 --epochs 60 %s",
             directory, directory, file, HEADRACE_GOLDEN "/tiny.gguf", directory, more);
    return run(line);
}

static void expect_words(const char *words)
{
    if (strstr(printed, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", printed, words);
}

static void expect_trained(const char *more)
{
    if (train_into(out, more) != EXIT_FINE)
        fail_msg("%s: %s", more, printed);
}

static void expect_refused(const char *more, int code, const char *words)
{
    remove(out);
    assert_int_equal(train_into(out, more), code);
    expect_words(words);
    assert_int_equal(access(out, F_OK), -1);
}

static void read_file(const char *path, struct buffer *bytes)
{
    struct error err;
    if (file_read(path, 1 << 24, bytes, &err) != 0)
        fail_msg("%s", err.message);
}

static void find_kept(char path[400])
{
    char pattern[350];
    snprintf(pattern, sizeof pattern, "ls %s/cache/*.states", directory);
    FILE *list = popen(pattern, "r");
    assert_non_null(list);
    assert_non_null(fgets(path, 400, list));
    path[strcspn(path, "\n")] = '\0';
    char other[400];
    assert_null(fgets(other, sizeof other, list)); /* one file, whatever was trained from it */
    pclose(list);
}

static struct gguf *open_heads(void)
{
    struct gguf *gguf;
    struct error err;
    if (gguf_open(&gguf, out, &err) != 0)
        fail_msg("%s", err.message);
    return gguf;
}

static double number(const struct gguf *gguf, const char *name)
{
    char key[100];
    double value = NAN;
    struct error err;
    snprintf(key, sizeof key, "headrace.heads.number.%s", name);
    if (gguf_float(gguf, key, &value, &err) != 0)
        fail_msg("%s", err.message);
    return value;
}

/* Rows as the command sees them, from what it kept. */
static void load_rows(struct heads_rows *rows, struct answering *answering, struct logged *logged,
                      struct config **config)
{
    static char events[300], items[300], cache[300];
    static char *title = "title={name}";
    static const char *maps[1];
    static struct logged_flags flags = LOGGED_DEFAULTS;
    const char *const sets[] = {"model.path=" HEADRACE_GOLDEN "/tiny.gguf",
                                "exit.layers=2,4",
                                "engine.mode=f32",
                                "exit.rule=full",
                                "log.level=error",
                                "history.min=0"};
    struct error err;
    snprintf(events, sizeof events, "%s/ratings.csv", directory);
    snprintf(items, sizeof items, "%s/items.csv", directory);
    snprintf(cache, sizeof cache, "%s/cache", directory);
    maps[0] = title;
    flags.events = events;
    flags.items = items;
    flags.item_maps = (struct flag_list){maps, 1};
    flags.event_kind = INTERACTION_RATING;
    flags.range = (struct source_range){.from = INT64_MIN, .to = INT64_MAX};
    flags.shares[0] = 8, flags.shares[1] = flags.shares[2] = 1;
    *config = config_create();
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        assert_int_equal(config_set(*config, sets[i], &err), 0);
    struct heads_source source = {.answering = answering,
                                  .logged = logged,
                                  .from = 0.3,
                                  .to = 0.9,
                                  .rows_share = 1,
                                  .calibrate_share = 1,
                                  .cache = cache};
    if (setup_answering(*config, answering, &err) != 0 || logged_open(logged, &flags, *config, NULL, &err) != 0 ||
        heads_rows_load(rows, &source, &err) != 0)
        fail_msg("%s", err.message);
}

/* By the formula of heads.h, from a raw hidden state. */
static double logit_of(const struct heads *heads, const struct head *head, const float *state, const float *features)
{
    size_t at = head->layer - head->first;
    double squares = 0, sum = 0;
    for (size_t j = 0; j < heads->width; j++)
        squares += (double)state[j] * (double)state[j];
    double rms = sqrt(squares / (double)heads->width + (double)heads->norm_epsilon);
    for (size_t j = 0; j < heads->width; j++)
        sum += (double)head->rows[at * heads->width + j] * (double)state[j] / rms;
    return sum + (double)head->biases[at] + (double)head_evidence_logit(heads, head, features);
}

/* Means, scales, Platt: if any were folded in wrongly, the file's heads would lose otherwise than training says. */
static void assert_loses_as_it_says(const struct gguf *file, const struct heads_rows *rows, const char *set)
{
    struct heads heads;
    struct error err;
    if (heads_load(&heads, NULL, file, set, NULL, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(heads.count, EXITS);
    for (size_t e = 0; e < EXITS; e++) {
        const struct head *head = &heads.exits[e];
        char name[50];
        double loss = 0;
        for (size_t i = rows->train; i < rows->count; i++) {
            const float *state = rows->states + (i * rows->layers + head->layer - 1) * rows->width;
            double logit = logit_of(&heads, head, state, rows->features + i * EVIDENCE_FEATURES);
            loss += train_log_loss(logit, rows->labels[i]) / (double)(rows->count - rows->train);
        }
        snprintf(name, sizeof name, "%s.%zu.log_loss", set, head->layer);
        assert_float_equal(loss, number(file, name), 1e-4);
    }
    heads_free(&heads);
}

static void the_file_holds_heads_that_answer_as_training_measured(void **state)
{
    (void)state;
    struct heads_rows rows;
    struct answering answering;
    struct logged logged = {0};
    struct config *config;
    expect_trained("");
    struct gguf *file = open_heads();
    load_rows(&rows, &answering, &logged, &config);
    assert_true(rows.known);
    assert_true(rows.train > 200 && rows.count - rows.train > 20);
    assert_loses_as_it_says(file, &rows, "text");
    assert_loses_as_it_says(file, &rows, "hybrid");
    assert_loses_as_it_says(file, &rows, "single");
    heads_rows_free(&rows);
    logged_close(&logged);
    setup_answering_close(&answering);
    config_destroy(config);
    gguf_close(file);
}

static void exit_0_learns_what_the_evidence_knows(void **state)
{
    (void)state;
    expect_trained("--sets text");
    struct gguf *file = open_heads();
    assert_true(number(file, "exit0.auc") > 0.65);
    assert_true(number(file, "exit0.log_loss") < 0.68);
    gguf_close(file);
}

static void a_worker_loads_it(void **state)
{
    (void)state;
    char path[350];
    const char *const names[] = {"heads.set=text", "heads.set=hybrid", "heads.set=single"};
    struct error err;
    expect_trained("");
    snprintf(path, sizeof path, "heads.path=%s", out);
    for (size_t i = 0; i < 3; i++) {
        const char *const sets[] = {"model.path=" HEADRACE_GOLDEN "/tiny.gguf",
                                    "exit.layers=2,4",
                                    "engine.mode=f32",
                                    "engine.weights_cache=none",
                                    path,
                                    names[i]};
        struct answering answering;
        struct config *config = config_create();
        for (size_t s = 0; s < sizeof sets / sizeof *sets; s++)
            assert_int_equal(config_set(config, sets[s], &err), 0);
        if (setup_answering(config, &answering, &err) != 0)
            fail_msg("%s", err.message);
        assert_int_equal(answering.heads.count, EXITS);
        assert_string_equal(answering.origin.mode, "f32");
        assert_non_null(strstr(answering.origin.made_by, "headrace train heads"));
        assert_null(strstr(answering.origin.made_by, directory)); /* of no use elsewhere */
        setup_answering_close(&answering);
        config_destroy(config);
    }
}

static void a_second_training_takes_the_kept_states_and_gives_the_same_file(void **state)
{
    (void)state;
    struct buffer first = {0}, second = {0};
    expect_trained("--sets text");
    read_file(out, &first);
    expect_trained("--sets text");
    expect_words("as an earlier training kept them");
    read_file(out, &second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    buffer_free(&first);
    buffer_free(&second);
}

static void damaged_states_are_made_anew(void **state)
{
    (void)state;
    char path[400];
    struct buffer first = {0}, second = {0};
    expect_trained("--sets text");
    read_file(out, &first);
    find_kept(path);
    FILE *kept = fopen(path, "r+b");
    assert_non_null(kept);
    fseek(kept, 5000, SEEK_SET);
    fputc('x', kept);
    fclose(kept);
    expect_trained("--sets text");
    assert_null(strstr(printed, "as an earlier training kept them"));
    read_file(out, &second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    buffer_free(&first);
    buffer_free(&second);
}

static void without_a_cache_nothing_is_left_behind(void **state)
{
    (void)state;
    char path[400];
    expect_trained(
        "--sets text --set engine.weights_cache=none --set engine.mode=bf16"); /* else the kept ones would do */
    assert_null(strstr(printed, "kept"));
    find_kept(path);
}

static void wrong_usage_and_too_few_rows_are_refused(void **state)
{
    (void)state;
    expect_refused("--from 0.9 --to 0.3", EXIT_USAGE, "--from 0.9 --to 0.3");
    expect_refused("--rows-share 2", EXIT_USAGE, "--rows-share");
    expect_refused("--sets text,deep", EXIT_USAGE, "text,deep");
    expect_refused("--l2 0,1", EXIT_USAGE, "--l2");
    expect_refused("--distill 0,1.5", EXIT_USAGE, "--distill");
    expect_refused("--init zero", EXIT_USAGE, "--init");
    expect_refused("--beta -1", EXIT_USAGE, "--beta");
    expect_refused("--from 0.5 --to 0.52", EXIT_FAILED, "at least 20 each");
    expect_refused("--from 0.5 --to 0.501", EXIT_FAILED, "too few");
    expect_refused("--set engine.backend=none", EXIT_FAILED, "engine.backend");
    expect_refused("--out /nowhere/x.gguf", EXIT_FAILED, "/nowhere/x.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_holds_heads_that_answer_as_training_measured),
        cmocka_unit_test(exit_0_learns_what_the_evidence_knows),
        cmocka_unit_test(a_worker_loads_it),
        cmocka_unit_test(a_second_training_takes_the_kept_states_and_gives_the_same_file),
        cmocka_unit_test(damaged_states_are_made_anew),
        cmocka_unit_test(without_a_cache_nothing_is_left_behind),
        cmocka_unit_test(wrong_usage_and_too_few_rows_are_refused),
    };
    return cmocka_run_group_tests(tests, start, end);
}
