/* Given the argument "write", this program writes config/headrace.yaml anew instead of testing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "config/config.h"
#include "config/options.h"

static const char path[] = HEADRACE_SOURCE "/config/headrace.yaml";

/* One line an option, without the origin: what two configurations must share to be equal. */
static void describe_values(const struct config *config, struct buffer *out)
{
    struct buffer all = {0};
    config_describe(config, &all);
    const char *line = buffer_string(&all);
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        const char *origin = end;
        while (origin[-1] != ' ')
            origin--;
        buffer_append(out, line, (size_t)(origin - line));
        buffer_append_byte(out, '\n');
    }
    assert_true(all.size > 0 && !all.failed);
    buffer_free(&all);
}

static void headrace_yaml_is_what_the_table_says(void **state)
{
    (void)state;
    struct error err = {.message = ""};
    struct buffer table = {0}, file = {0};
    config_write_yaml(&table);
    assert_int_equal(file_read(path, CONFIG_FILE_LIMIT, &file, &err), 0);
    if (!text_equal(buffer_text(&table), buffer_text(&file)))
        fail_msg("config/headrace.yaml differs from src/config/options.c: run test_config_document write");
    buffer_free(&table);
    buffer_free(&file);
}

static void headrace_yaml_loads_back_to_the_defaults(void **state)
{
    (void)state;
    struct error err = {.message = ""};
    struct config *defaults = config_create(), *loaded = config_create();
    struct buffer expected = {0}, got = {0}, origins = {0};
    if (config_load_file(loaded, path, &err) != 0 || config_validate(loaded, &err) != 0)
        fail_msg("%s", err.message);
    describe_values(defaults, &expected);
    describe_values(loaded, &got);
    assert_string_equal(buffer_string(&got), buffer_string(&expected));

    /* Every option is in the file: none is left at its default. */
    config_describe(loaded, &origins);
    assert_null(strstr(buffer_string(&origins), " default\n"));
    buffer_free(&expected);
    buffer_free(&got);
    buffer_free(&origins);
    config_destroy(defaults);
    config_destroy(loaded);
}

static void the_demo_is_a_valid_configuration(void **state)
{
    (void)state;
    struct error err = {.message = ""};
    struct config *config = config_create();
    if (config_load_file(config, HEADRACE_SOURCE "/config/demo.yaml", &err) != 0 || config_validate(config, &err) != 0)
        fail_msg("%s", err.message);
    assert_true(config_flag(config, "score.explain"));
    assert_int_equal(config_integer(config, "ingest.batch_wait_ms"), 10);
    config_destroy(config);
}

static void every_option_has_an_environment_name_of_its_own(void **state)
{
    (void)state;
    char a[OPTION_NAME_SIZE], b[OPTION_NAME_SIZE];
    for (size_t i = 0; i < config_option_count; i++) {
        option_environment_name(config_options[i].name, a);
        for (size_t j = 0; j < i; j++) {
            option_environment_name(config_options[j].name, b);
            assert_string_not_equal(a, b);
        }
    }
    option_environment_name("score.max_history", a);
    assert_string_equal(a, "HEADRACE_SCORE_MAX_HISTORY");
}

static void every_option_is_in_a_section_and_explained_in_one_line(void **state)
{
    (void)state;
    struct buffer yaml = {0}, help = {0};
    config_write_yaml(&yaml);
    config_help(&help);
    for (size_t i = 0; i < config_option_count; i++) {
        assert_non_null(strstr(buffer_string(&yaml), config_options[i].line));
        assert_non_null(strstr(buffer_string(&help), config_options[i].name));
        assert_non_null(strstr(buffer_string(&help), config_options[i].line));
    }
    const char *line = buffer_string(&yaml);
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        assert_in_range(end - line, 0, 124); /* bytes: 120 columns and a few letters beyond ASCII */
    buffer_free(&yaml);
    buffer_free(&help);
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "write") == 0) {
        struct error err = {.message = ""};
        struct buffer yaml = {0};
        config_write_yaml(&yaml);
        int result = file_replace(path, yaml.data, yaml.size, &err);
        buffer_free(&yaml);
        fprintf(stderr, "%s", err.message);
        return result == 0 ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headrace_yaml_is_what_the_table_says),
        cmocka_unit_test(headrace_yaml_loads_back_to_the_defaults),
        cmocka_unit_test(the_demo_is_a_valid_configuration),
        cmocka_unit_test(every_option_has_an_environment_name_of_its_own),
        cmocka_unit_test(every_option_is_in_a_section_and_explained_in_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
