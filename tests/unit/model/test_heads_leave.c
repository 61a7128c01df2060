/* New thresholds go into a file of heads, and nothing else of it changes. */
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
#include "model/heads.h"

enum { WIDTH = 4, EXITS = 3, FEATURES = 2 };

static struct error err;
static char path[256];

static void put_set(struct gguf_writer *writer, const char *set, struct heads *heads)
{
    static float rows[WIDTH] = {1, 2, 3, 4}, biases[1] = {5};
    static struct head exits[EXITS];
    static float exit0[FEATURES] = {6, 7};
    for (size_t i = 0; i < EXITS; i++)
        exits[i] = (struct head){
            .layer = 2 * i + 2, .first = 2 * i + 2, .rows = rows, .biases = biases, .leave = i < 2 ? 0.9f : INFINITY};
    *heads = (struct heads){.exits = exits,
                            .count = EXITS,
                            .width = WIDTH,
                            .norm_epsilon = 1e-5f,
                            .evidence_count = FEATURES,
                            .exit0 = exit0,
                            .exit0_leave = 0.95f,
                            .reference = 4};
    heads_put(writer, set, heads);
}

static int set_up(void **state)
{
    (void)state;
    struct gguf_writer writer = {0};
    struct buffer bytes = {0};
    struct heads heads = {.width = WIDTH, .norm_epsilon = 1e-5f};
    const struct heads_origin origin = {.made_by = "a test"};
    const struct text names[FEATURES] = {text_of("a"), text_of("b")};
    const char *parent = getenv("TMPDIR");
    heads_put_file(&writer, &heads, &origin, names, FEATURES);
    put_set(&writer, "text", &heads);
    put_set(&writer, "other", &heads);
    heads_put_exit0(&writer, &heads);
    snprintf(path, sizeof path, "%s/heads-XXXXXX", parent ? parent : "/tmp");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    if (gguf_writer_bytes(&writer, &bytes, &err) != 0 || file_replace(path, bytes.data, bytes.size, &err) != 0)
        fail_msg("%s", err.message);
    gguf_writer_free(&writer);
    buffer_free(&bytes);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

static void assert_leave(const char *set, float exit0, float first, float second)
{
    struct gguf *file;
    struct heads heads;
    if (gguf_open(&file, path, &err) != 0 || heads_load(&heads, NULL, file, set, NULL, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(heads.exit0_leave == exit0 && heads.exits[0].leave == first && heads.exits[1].leave == second);
    assert_true(isinf(heads.exits[2].leave));
    assert_true(heads.reference == 4 && heads.exits[2].biases[0] == 5 && heads.exits[0].rows[3] == 4);
    heads_free(&heads);
    gguf_close(file);
}

static void thresholds_of_one_set_are_written(void **state)
{
    (void)state;
    const size_t layers[] = {2, 4, 6};
    const float leave[] = {0.81f, 0.82f, INFINITY, INFINITY};
    if (heads_write_leave(path, "text", layers, leave, 3, &err) != 0)
        fail_msg("%s", err.message);
    assert_leave("text", 0.81f, 0.82f, INFINITY);
    assert_leave("other", 0.95f, 0.9f, 0.9f);
}

static void exits_that_are_not_named_let_nobody_leave(void **state)
{
    (void)state;
    const size_t layers[] = {4, 6};
    const float leave[] = {INFINITY, 0.7f, INFINITY};
    if (heads_write_leave(path, "text", layers, leave, 2, &err) != 0)
        fail_msg("%s", err.message);
    assert_leave("text", INFINITY, INFINITY, 0.7f);
}

static void what_the_file_does_not_have_leaves_it_as_it_was(void **state)
{
    (void)state;
    const size_t layers[] = {2, 5};
    const float leave[] = {0.6f, 0.6f, 0.6f};
    assert_int_equal(heads_write_leave(path, "text", layers, leave, 2, &err), -1);
    assert_int_equal(heads_write_leave(path, "hybrid", layers, leave, 1, &err), -1);
    assert_int_equal(heads_write_leave("/nowhere/at/all", "text", layers, leave, 1, &err), -1);
    assert_leave("text", 0.95f, 0.9f, 0.9f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(thresholds_of_one_set_are_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(exits_that_are_not_named_let_nobody_leave, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_file_does_not_have_leaves_it_as_it_was, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
