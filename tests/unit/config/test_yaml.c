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
#include "config/config.h"

static int load(struct text yaml, struct error *err)
{
    struct config *config = config_create();
    assert_non_null(config);
    int result = config_load_text(config, "f.yaml", yaml, err);
    config_destroy(config);
    return result;
}

static void refuses_text(struct text yaml, const char *message)
{
    struct error err = {.message = ""};
    assert_int_equal(load(yaml, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_string_equal(err.message, message);
}

static void refuses(const char *yaml, const char *message)
{
    refuses_text(text_of(yaml), message);
}

static void takes(const char *yaml)
{
    struct error err = {.message = ""};
    if (load(text_of(yaml), &err) != 0)
        fail_msg("%s", err.message);
}

static void a_file_may_say_nothing(void **state)
{
    (void)state;
    takes("");
    takes("# only a comment\n");
    takes("---\n");
    takes("{}");
    takes("graph:\n  # layers: 3\nlog:\n");
    takes("\xef\xbb\xbfgraph:\r\n  layers: 2\r\n");
}

static void an_option_may_be_written_in_a_section_or_by_its_full_name(void **state)
{
    (void)state;
    struct error err;
    size_t count;
    struct config *config = config_create();
    static const char yaml[] = "graph.layers: 2\n"
                               "exit:\n  layers:\n    - 4\n    - 8\n"
                               "roles: [score]\n"
                               "state: {dir: /tmp/ä b}\n"
                               "model: {path: 'x: y', id: \"\"}\n";
    assert_int_equal(config_load_text(config, "f.yaml", text_of(yaml), &err), 0);
    assert_int_equal(config_integer(config, "graph.layers"), 2);
    assert_int_equal(config_list(config, "exit.layers", &count)[1], 8);
    assert_int_equal(count, 2);
    assert_false(config_includes(config, "roles", "ingest"));
    assert_string_equal(config_text(config, "state.dir"), "/tmp/ä b");
    assert_string_equal(config_text(config, "model.path"), "x: y");
    config_destroy(config);
}

static void unknown_names_get_line_column_and_the_nearest_name(void **state)
{
    (void)state;
    refuses("graph:\n  layer: 3\n", "f.yaml:2:3: graph.layer is not an option; did you mean graph.layers?");
    refuses("grapf:\n  layers: 3\n", "f.yaml:1:1: grapf is not an option; did you mean graph?");
    refuses("log:\n  levels: [1]\n", "f.yaml:2:3: log.levels is not an option; did you mean log.level?");
    refuses("bootstrap.servers: x\n", "f.yaml:1:1: bootstrap.servers is not an option; did you mean "
                                      "kafka.bootstrap.servers?");
    refuses("\n\n  colour: red\n", "f.yaml:3:3: colour is not an option; --help lists them");
    refuses("\"\": 1\n", "f.yaml:1:1: \"\" is not the name of an option");
    refuses("\"a\\nb\\0\": 1\n", "f.yaml:1:1: \"a?b?\" is not the name of an option");
    refuses("\"a\\nb\": 1\n", "f.yaml:1:1: a?b is not an option; --help lists them");
}

static void bad_values_get_line_and_column_of_the_value(void **state)
{
    (void)state;
    refuses("graph:\n  layers: 9\n", "f.yaml:2:11: graph.layers wants a whole number from 1 to 4, not \"9\"");
    refuses("exit:\n  layers: [3, x]\n",
            "f.yaml:2:11: exit.layers wants up to 16 rising whole numbers from 1 to 1024, not \"3,x\"");
    refuses("model:\n  path: \"a\\0b\"\n", "f.yaml:2:9: model.path: the value is not UTF-8 text");
    refuses("model:\n  path: \"a\\tb\"\n", "f.yaml:2:9: model.path wants text without control characters, not \"a?b\"");
    refuses("model:\n  path:\n", "f.yaml:2:3: model.path has no value; \"\" is the empty text");
    refuses("kafka:\n  linger.ms: ~\n", "f.yaml:2:3: kafka.linger.ms has no value; \"\" is the empty text");
}

static void nesting_where_a_value_is_due_is_refused(void **state)
{
    (void)state;
    refuses("graph: {layers: {x: 1}}", "f.yaml:1:17: graph.layers wants one value, not a mapping");
    refuses("graph: {layers: [1]}", "f.yaml:1:17: graph.layers wants one value, not a list");
    refuses("graph: 3", "f.yaml:1:8: graph wants options by name, not a value");
    refuses("graph: [3]", "f.yaml:1:8: graph wants options by name, not a list");
    refuses("kafka: {sasl: {password: x}}", "f.yaml:1:15: kafka.sasl wants one value, not a mapping");
    refuses("exit: {layers: [[1]]}", "f.yaml:1:17: a plain value is due here, in a list of values");
    refuses("exit: {layers: [1, ~]}", "f.yaml:1:20: a plain value is due here, in a list of values");
    refuses("{[1]: 2}", "f.yaml:1:2: the name of an option is due here");
    refuses("[1, 2]", "f.yaml:1:1: options by name are due here, as in \"graph:\"");
    refuses("hello", "f.yaml:1:1: options by name are due here, as in \"graph:\"");
}

static void what_is_given_twice_is_refused(void **state)
{
    (void)state;
    refuses("graph:\n  layers: 3\n  layers: 3\n", "f.yaml:3:3: graph.layers is given twice");
    refuses("graph:\n  layers: 3\ngraph:\n  seed: 3\n", "f.yaml:3:1: graph is given twice");
    refuses("graph:\n  layers: 3\ngraph.layers: 3\n", "f.yaml:3:1: graph.layers is given twice");
    refuses("kafka: {linger.ms: 1, linger.ms: 2}", "f.yaml:1:23: kafka.linger.ms is given twice");
}

static void yaml_beyond_sections_and_values_is_refused(void **state)
{
    (void)state;
    static const char anchors[] = "anchors (&) and aliases (*) are not taken: write the value out, or in quotes";
    static const char tags[] = "tags (!) are not taken: write the value out, or in quotes";
    char message[256];
    snprintf(message, sizeof message, "f.yaml:1:9: %s", anchors);
    refuses("roles:  &a score", message);
    refuses("graph:  &a {layers: 1}", message);
    refuses("roles:  *b", message);
    snprintf(message, sizeof message, "f.yaml:1:9: %s", tags);
    refuses("roles:  !!str score", message);
    refuses("graph:  !x {layers: 1}", message);
    refuses("graph:\n\tlayers: 1\n", "f.yaml:2:1: a tab at the start of a line: YAML indents by spaces");
    refuses("graph:\n  layers: 1\n\tseed: 1\n", "f.yaml:3:1: a tab at the start of a line: YAML indents by spaces");
    refuses("log:\n---\nlog:\n", "f.yaml:2:1: a second document: one is all that is read");
    refuses("graph: {layers: 1\n",
            "f.yaml:2:1: not YAML: did not find expected ',' or '}' while parsing a flow mapping from line 1");
    refuses("roles: \"score\n",
            "f.yaml:2:1: not YAML: found unexpected end of stream while scanning a quoted scalar from line 1");
}

static void bytes_that_are_no_text_are_refused_where_they_stand(void **state)
{
    (void)state;
    refuses("# ä\nmodel: {id: \"ä\xff\"}", "f.yaml:2:15: not UTF-8 text: byte 0xff");
    refuses("log:\n  \x01", "f.yaml:2:3: not YAML: control characters are not allowed");
    static const char utf16[] = {'\xff', '\xfe', 'a', 0};
    refuses_text((struct text){utf16, sizeof utf16}, "f.yaml:1:1: not UTF-8 text: byte 0xff");
    static const char nul[] = "log:\n\0\n";
    refuses_text((struct text){nul, sizeof nul - 1}, "f.yaml:2:1: not YAML: control characters are not allowed");
}

static void a_large_file_is_refused_and_a_deep_one_ends_soon(void **state)
{
    (void)state;
    struct error err;
    char *data = malloc(CONFIG_FILE_LIMIT + 1);
    assert_non_null(data);
    memset(data, '#', CONFIG_FILE_LIMIT + 1);
    assert_int_equal(load((struct text){data, CONFIG_FILE_LIMIT}, &err), 0);
    refuses_text((struct text){data, CONFIG_FILE_LIMIT + 1}, "f.yaml is larger than 1048576 bytes");
    memset(data, '[', CONFIG_FILE_LIMIT);
    assert_int_equal(load((struct text){data, CONFIG_FILE_LIMIT}, &err), -1);
    memset(data, '{', CONFIG_FILE_LIMIT);
    assert_int_equal(load((struct text){data, CONFIG_FILE_LIMIT}, &err), -1);
    for (size_t i = 0; i < CONFIG_FILE_LIMIT; i++)
        data[i] = "? "[i % 2];
    assert_int_equal(load((struct text){data, CONFIG_FILE_LIMIT}, &err), -1);
    free(data);
}

static void a_file_is_named_by_its_path_and_a_long_path_by_its_end(void **state)
{
    (void)state;
    struct error err;
    struct config *config = config_create();
    assert_int_equal(config_load_file(config, "/nonexistent/headrace.yaml", &err), -1);
    assert_non_null(strstr(err.message, "/nonexistent/headrace.yaml"));

    char path[] = "/tmp/headrace-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char yaml[] = "graph:\n  layers: 2\n";
    assert_int_equal(write(fd, yaml, sizeof yaml - 1), sizeof yaml - 1);
    close(fd);
    int result = config_load_file(config, path, &err);
    unlink(path);
    assert_int_equal(result, 0);
    assert_int_equal(config_integer(config, "graph.layers"), 2);

    char long_path[301];
    memset(long_path, 'p', sizeof long_path - 1);
    memcpy(long_path + 290, "/last.yaml", sizeof "/last.yaml");
    assert_int_equal(config_load_text(config, long_path, text_of("colour: 1"), &err), -1);
    assert_non_null(strstr(err.message, "/last.yaml:1:1: colour is not an option"));
    config_destroy(config);
}

/* The shipped file with bytes changed, dropped and doubled: any answer but a crash, and an error is one line. */
static void damaged_files_give_an_error_or_a_configuration(void **state)
{
    (void)state;
    static const char interesting[] = "\n\t :-[]{}#&*!|>'\"%@`,?~\0\xff\xc3\xef";
    struct random random = {20260101};
    struct error err = {.message = ""};
    struct buffer original = {0}, damaged = {0};
    assert_int_equal(file_read(HEADRACE_SOURCE "/config/headrace.yaml", CONFIG_FILE_LIMIT, &original, &err), 0);
    size_t refused = 0;
    enum { ROUNDS = 1500 };
    for (int round = 0; round < ROUNDS; round++) {
        size_t from = random_below(&random, original.size), to = from + random_below(&random, original.size - from);
        buffer_clear(&damaged);
        buffer_append(&damaged, original.data + from, to - from);
        for (uint64_t changes = random_below(&random, 4); changes > 0 && damaged.size > 0; changes--)
            damaged.data[random_below(&random, damaged.size)] =
                (uint8_t)interesting[random_below(&random, sizeof interesting)];
        if (load(buffer_text(&damaged), &err) != 0) {
            refused++;
            assert_int_equal(err.kind, ERROR_BAD_INPUT);
            assert_int_equal(strncmp(err.message, "f.yaml:", 7), 0);
            assert_null(strchr(err.message, '\n'));
        }
    }
    assert_in_range(refused, ROUNDS / 4, ROUNDS - 1);
    buffer_free(&original);
    buffer_free(&damaged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_may_say_nothing),
        cmocka_unit_test(an_option_may_be_written_in_a_section_or_by_its_full_name),
        cmocka_unit_test(unknown_names_get_line_column_and_the_nearest_name),
        cmocka_unit_test(bad_values_get_line_and_column_of_the_value),
        cmocka_unit_test(nesting_where_a_value_is_due_is_refused),
        cmocka_unit_test(what_is_given_twice_is_refused),
        cmocka_unit_test(yaml_beyond_sections_and_values_is_refused),
        cmocka_unit_test(bytes_that_are_no_text_are_refused_where_they_stand),
        cmocka_unit_test(a_large_file_is_refused_and_a_deep_one_ends_soon),
        cmocka_unit_test(a_file_is_named_by_its_path_and_a_long_path_by_its_end),
        cmocka_unit_test(damaged_files_give_an_error_or_a_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
