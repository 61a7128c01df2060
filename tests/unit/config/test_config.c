#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"

static int create(void **state)
{
    *state = config_create();
    return *state == NULL ? -1 : 0;
}

static int destroy(void **state)
{
    config_destroy(*state);
    return 0;
}

static void load(struct config *config, const char *yaml)
{
    struct error err = {.message = ""};
    if (config_load_text(config, "test.yaml", text_of(yaml), &err) != 0)
        fail_msg("%s", err.message);
}

static void set(struct config *config, const char *assignment)
{
    struct error err = {.message = ""};
    if (config_set(config, assignment, &err) != 0)
        fail_msg("%s", err.message);
}

static void load_variable(struct config *config, const char *variable)
{
    struct error err = {.message = ""};
    char copy[256];
    strcpy(copy, variable);
    char *const environment[] = {copy, NULL};
    if (config_load_environment(config, environment, &err) != 0)
        fail_msg("%s", err.message);
}

static void refuses_variable(struct config *config, const char *variable, const char *message)
{
    struct error err = {.message = ""};
    char copy[256];
    strcpy(copy, variable);
    char *const environment[] = {copy, NULL};
    assert_int_equal(config_load_environment(config, environment, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_string_equal(err.message, message);
}

static void refuses(struct config *config, const char *assignment, const char *message)
{
    struct error err = {.message = ""};
    assert_int_equal(config_set(config, assignment, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_string_equal(err.message, message);
}

static void is_invalid(struct config *config, const char *message)
{
    struct error err = {.message = ""};
    assert_int_equal(config_validate(config, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_string_equal(err.message, message);
}

static const char *property(const struct config *config, const char *name)
{
    size_t count;
    const char *found = NULL;
    const struct property *properties = config_kafka_properties(config, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(properties[i].name, name) == 0) {
            assert_null(found);
            found = properties[i].value;
        }
    return found;
}

static void nothing_given_means_the_defaults(void **state)
{
    struct config *config = *state;
    struct error err;
    size_t count;
    assert_string_equal(config_text(config, "state.dir"), "/var/lib/headrace");
    assert_string_equal(config_text(config, "model.path"), "");
    assert_int_equal(config_integer(config, "ingest.max_future_skew_ms"), 300000);
    assert_true(config_number(config, "exit.threshold") == 0.01);
    assert_true(config_flag(config, "label.inclusive"));
    assert_int_equal(config_choice(config, "exit.rule"), 8); /* auto */
    const int64_t *layers = config_list(config, "exit.layers", &count);
    assert_int_equal(count, 6);
    assert_int_equal(layers[0], 5);
    assert_int_equal(layers[5], 30);
    assert_true(config_includes(config, "roles", "ingest"));
    assert_true(config_includes(config, "roles", "score"));
    assert_int_equal(config_validate(config, &err), 0);
}

static void the_stronger_source_wins_in_whatever_order_they_come(void **state)
{
    struct config *config = *state;
    set(config, "graph.layers=1");
    load_variable(config, "HEADRACE_GRAPH_LAYERS=2");
    load_variable(config, "HEADRACE_GRAPH_DIMENSION=32");
    load(config, "graph: {layers: 4, dimension: 48, seed: 7}");
    assert_int_equal(config_integer(config, "graph.layers"), 1);
    assert_int_equal(config_integer(config, "graph.dimension"), 32);
    assert_int_equal(config_integer(config, "graph.seed"), 7);
}

static void of_equal_sources_the_later_wins(void **state)
{
    struct config *config = *state;
    load(config, "graph: {layers: 4}");
    load(config, "graph: {layers: 2}");
    assert_int_equal(config_integer(config, "graph.layers"), 2);
    set(config, "graph.layers=1");
    set(config, "graph.layers=3");
    assert_int_equal(config_integer(config, "graph.layers"), 3);
}

static void a_bad_value_is_refused_even_where_a_stronger_one_hides_it(void **state)
{
    struct config *config = *state;
    set(config, "graph.layers=1");
    refuses_variable(config, "HEADRACE_GRAPH_LAYERS=9",
                     "HEADRACE_GRAPH_LAYERS: graph.layers wants a whole number from 1 to 4, not \"9\"");
    assert_int_equal(config_integer(config, "graph.layers"), 1);
}

static void the_command_line_says_what_it_wants(void **state)
{
    struct config *config = *state;
    refuses(config, "graph.layer=2", "--set: graph.layer is not an option; did you mean graph.layers?");
    refuses(config, "threshold=2", "--set: threshold is not an option; did you mean label.threshold?");
    refuses(config, "colour=red", "--set: colour is not an option; --help lists them");
    refuses(config, "graph=1", "--set: graph is a section: --help lists the options in it");
    refuses(config, "graph.layers", "--set graph.layers: wants NAME=VALUE, as in --set graph.layers=3");
    refuses(config, "=3", "--set : wants NAME=VALUE, as in --set graph.layers=3");
    refuses(config, "exit.rule=Ratio",
            "--set: exit.rule wants one of full, ratio, log_odds, probability, fixed, confidence, patience, "
            "calibrated, auto, not \"Ratio\"");
    refuses(config, "score.explain=yes", "--set: score.explain wants true or false, not \"yes\"");
    refuses(config,
            "state.dir=", "--set: state.dir wants text that is not empty, without control characters, not \"\"");
    refuses(config, "model.path=\xff", "--set: model.path: the value is not UTF-8 text");
}

static void the_environment_names_its_variable(void **state)
{
    struct config *config = *state;
    load_variable(config, "PATH=/bin");
    load_variable(config, "HEADRACE_INSTANCE_ID=west=1");
    assert_string_equal(config_text(config, "instance_id"), "west=1");
    refuses_variable(config, "HEADRACE_GRAPH_LAYER=2",
                     "HEADRACE_GRAPH_LAYER in the environment is no option; did you mean HEADRACE_GRAPH_LAYERS?");
    refuses_variable(config, "HEADRACE_SERVICE_HOST=10.0.0.1",
                     "HEADRACE_SERVICE_HOST in the environment is no option; unset it, or see --help for the names");
    refuses_variable(config, "HEADRACE_KAFKA_=1",
                     "HEADRACE_KAFKA_ in the environment is no option; unset it, or see --help for the names");
}

static void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void a_secret_can_come_from_a_file(void **state)
{
    struct config *config = *state;
    struct error err;
    char path[] = "/tmp/headrace-secret-XXXXXX", variable[128], message[256];
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    write_file(path, "p=ss word\r\n\n");
    snprintf(variable, sizeof variable, "HEADRACE_KAFKA_SASL_PASSWORD_FILE=%s", path);
    load_variable(config, variable);
    assert_string_equal(property(config, "sasl.password"), "p=ss word");
    assert_null(property(config, "sasl.password.file"));

    struct buffer shown = {0};
    config_describe(config, &shown);
    assert_non_null(strstr(buffer_string(&shown), "HEADRACE_KAFKA_SASL_PASSWORD_FILE"));
    assert_null(strstr(buffer_string(&shown), "p=ss word"));
    buffer_free(&shown);

    char *const both[] = {variable, "HEADRACE_KAFKA_SASL_PASSWORD=other", NULL};
    assert_int_equal(config_load_environment(config, both, &err), -1);
    assert_string_equal(err.message,
                        "HEADRACE_KAFKA_SASL_PASSWORD is in the environment with and without _FILE: use one of them");

    write_file(path, "\n");
    snprintf(message, sizeof message, "HEADRACE_KAFKA_SASL_PASSWORD_FILE: %s is empty", path);
    refuses_variable(config, variable, message);
    remove(path);
    char *const gone[] = {variable, NULL};
    assert_int_equal(config_load_environment(config, gone, &err), -1);
    assert_non_null(strstr(err.message, path));
    /* of what is no secret there is no such variable */
    refuses_variable(config, "HEADRACE_MODEL_PATH_FILE=/tmp/x",
                     "HEADRACE_MODEL_PATH_FILE in the environment is no option; unset it, or see --help for the names");
}

static void numbers_are_decimal_and_in_range(void **state)
{
    static const char *const bad_integers[] = {"",   " 1",  "1 ",  "+1", "0x10", "1.0",    "1e2",
                                               "1k", "--1", "1-1", "-",  "0",    "100001", "99999999999999999999"};
    static const char *const bad_numbers[] = {"", " 1", "nan", "inf", "0x1p3", "1e999", "1.2.3", "e", ".", "1,5", "-1"};
    struct config *config = *state;
    struct error err;
    char assignment[64];
    for (size_t i = 0; i < sizeof bad_integers / sizeof *bad_integers; i++) {
        snprintf(assignment, sizeof assignment, "ingest.batch_events=%s", bad_integers[i]);
        assert_int_equal(config_set(config, assignment, &err), -1);
    }
    for (size_t i = 0; i < sizeof bad_numbers / sizeof *bad_numbers; i++) {
        snprintf(assignment, sizeof assignment, "exit.threshold=%s", bad_numbers[i]);
        assert_int_equal(config_set(config, assignment, &err), -1);
    }
    set(config, "label.threshold=-3.5e-1");
    assert_true(config_number(config, "label.threshold") == -0.35);
    set(config, "graph.seed=9223372036854775807");
    assert_true(config_integer(config, "graph.seed") == INT64_MAX);
}

static void a_list_rises_and_repeats_nothing(void **state)
{
    struct config *config = *state;
    struct error err;
    size_t count;
    set(config, "exit.layers=3, 7,11");
    const int64_t *layers = config_list(config, "exit.layers", &count);
    assert_int_equal(count, 3);
    assert_int_equal(layers[1], 7);
    assert_int_equal(config_set(config, "exit.layers=7,3", &err), -1);
    assert_int_equal(config_set(config, "exit.layers=3,3", &err), -1);
    assert_int_equal(config_set(config, "exit.layers=3,", &err), -1);
    assert_int_equal(config_set(config, "exit.layers=", &err), -1);
    assert_int_equal(config_set(config, "exit.layers=0", &err), -1);
    assert_int_equal(config_set(config, "exit.layers=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", &err), -1);
    set(config, "exit.layers=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16");

    set(config, "roles=score");
    assert_false(config_includes(config, "roles", "ingest"));
    assert_true(config_includes(config, "roles", "score"));
    refuses(config, "roles=", "--set: roles wants one or more of ingest, score, not \"\"");
    refuses(config, "roles=score,score", "--set: roles wants one or more of ingest, score, not \"score,score\"");
}

static void a_topic_is_a_name_that_kafka_takes(void **state)
{
    struct config *config = *state;
    struct error err;
    char assignment[300] = "topics.items=";
    set(config, "topics.items=shop.items_v2-eu");
    assert_int_equal(config_set(config, "topics.items=", &err), -1);
    assert_int_equal(config_set(config, "topics.items=a b", &err), -1);
    assert_int_equal(config_set(config, "topics.items=..", &err), -1);
    memset(assignment + strlen("topics.items="), 'a', 250);
    assert_int_equal(config_set(config, assignment, &err), -1);
    assert_string_equal(config_text(config, "topics.items"), "shop.items_v2-eu");
}

static void kafka_properties_pass_through(void **state)
{
    struct config *config = *state;
    size_t count;
    config_kafka_properties(config, &count);
    assert_int_equal(count, 2);
    assert_string_equal(property(config, "bootstrap.servers"), "localhost:9092");
    assert_string_equal(property(config, "group.id"), "headrace");

    load(config,
         "kafka: {bootstrap.servers: [one:9092, two:9092], linger.ms: 5, sasl.password: \"a#b\", client.id: x}");
    load_variable(config, "HEADRACE_KAFKA_LINGER_MS=7");
    load_variable(config, "HEADRACE_KAFKA_BOOTSTRAP_SERVERS=three:9092");
    set(config, "kafka.log_level=3");
    set(config, "kafka.bootstrap.servers=four:9092");
    assert_string_equal(property(config, "bootstrap.servers"), "four:9092");
    assert_string_equal(property(config, "linger.ms"), "7");
    assert_string_equal(property(config, "sasl.password"), "a#b");
    assert_string_equal(property(config, "client.id"), "x");
    assert_string_equal(property(config, "log_level"), "3");
    assert_string_equal(config_text(config, "kafka.bootstrap.servers"), "four:9092");
    config_kafka_properties(config, &count);
    assert_int_equal(count, 6);

    refuses(config, "kafka.=3", "--set: kafka. is not a Kafka property: small letters, digits, dots, underscores");
    refuses(config, "kafka.Linger=3",
            "--set: kafka.Linger is not a Kafka property: small letters, digits, dots, underscores");
}

static void kafka_properties_are_bounded(void **state)
{
    struct config *config = *state;
    struct error err;
    char assignment[64];
    for (int i = 0; i < 512; i++) {
        snprintf(assignment, sizeof assignment, "kafka.x%d=%d", i, i);
        set(config, assignment);
    }
    assert_string_equal(property(config, "x511"), "511");
    assert_int_equal(config_set(config, "kafka.one.more=1", &err), -1);
    set(config, "kafka.x7=8");
    assert_string_equal(property(config, "x7"), "8");
}

static void options_that_contradict_each_other_are_named_with_their_origins(void **state)
{
    struct config *config = *state;
    load(config, "\nhistory:\n  max: 5\n");
    set(config, "history.min=6");
    is_invalid(config, "history.min (--set) is above history.max (test.yaml:3): no user would ever have enough");
    set(config, "history.min=5");
    set(config, "graph.dimension=40");
    is_invalid(config, "graph.dimension (--set) must be a multiple of 16");
    set(config, "graph.dimension=48");
    set(config, "exit.window=1");
    set(config, "exit.rule=ratio");
    is_invalid(config, "exit.window (--set) must be at least 2 for exit.rule ratio (--set)");
    set(config, "exit.rule=log_odds");
    is_invalid(config, "exit.window (--set) must be at least 2 for exit.rule log_odds (--set)");
    set(config, "exit.rule=confidence");
    is_invalid(config, "exit.threshold (default) must be above 0.5 and at most 1 for exit.rule confidence (--set)");
    set(config, "exit.rule=fixed");
    is_invalid(config, "exit.layer (default) must name a layer for exit.rule fixed (--set)");
    struct error err;
    set(config, "exit.layer=15");
    assert_int_equal(config_validate(config, &err), 0);
    set(config, "exit.rule=probability");
    assert_int_equal(config_validate(config, &err), 0);
}

static void topics_must_differ(void **state)
{
    struct config *config = *state;
    set(config, "topics.users=items");
    is_invalid(config, "topics.items (default) and topics.users (--set) are the same topic");
    set(config, "topics.users=items.dead");
    is_invalid(config, "topics.users (--set) is where the dead letters of topics.items go (topics.dead_suffix)");
    struct error err;
    set(config, "topics.dead_suffix=-dead");
    assert_int_equal(config_validate(config, &err), 0);
}

static void a_command_that_scores_needs_a_model_or_says_that_it_has_none(void **state)
{
    struct config *config = *state;
    struct error err;
    assert_int_equal(config_require_model(config, &err), -1);
    assert_non_null(strstr(err.message, "model.path"));
    set(config, "engine.backend=none");
    assert_int_equal(config_require_model(config, &err), 0);
    set(config, "engine.backend=cpu");
    set(config, "model.path=/models/m.gguf");
    assert_int_equal(config_require_model(config, &err), 0);
}

static void secrets_are_hidden_and_every_origin_is_told(void **state)
{
    struct config *config = *state;
    struct buffer out = {0};
    load(config, "kafka:\n  sasl.password: hunter2\n  ssl.key.pem: hunter3\n  sasl.username: robin\n");
    load_variable(config, "HEADRACE_KAFKA_SASL_OAUTHBEARER_CONFIG=secret=hunter4");
    set(config, "kafka.sasl.oauthbearer.client.secret=hunter5");
    set(config, "instance_id=a\"b");
    config_describe(config, &out);
    const char *shown = buffer_string(&out);
    assert_null(strstr(shown, "hunter"));
    assert_non_null(strstr(shown, "kafka.sasl.password        ********                   test.yaml:2\n"));
    assert_non_null(strstr(shown, "kafka.sasl.username        \"robin\"                    test.yaml:4\n"));
    assert_non_null(strstr(shown, " HEADRACE_KAFKA_SASL_OAUTHBEARER_CONFIG\n"));
    assert_non_null(strstr(shown, "graph.layers               3                          default\n"));
    assert_non_null(strstr(shown, "instance_id                \"a\\\"b\"                     --set\n"));
    buffer_free(&out);
    assert_true(config_is_secret("ssl.keystore.password"));
    assert_true(config_is_secret("basic.auth.user.info"));
    assert_false(config_is_secret("sasl.username"));
}

static void a_slip_in_giving_a_secret_does_not_show_it(void **state)
{
    struct config *config = *state;
    struct error err;
    assert_int_equal(config_set(config, "kafka.sasl.password:hunter2", &err), -1);
    assert_null(strstr(err.message, "hunter2"));
    assert_int_equal(config_set(config, "kafka.sasl.password=hunter2\xff", &err), -1);
    assert_null(strstr(err.message, "hunter2"));
    assert_int_equal(config_set(config, "sasl.password=hunter2", &err), -1);
    assert_null(strstr(err.message, "hunter2"));
}

int main(void)
{
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, create, destroy)
    const struct CMUnitTest tests[] = {
        PROMISE(nothing_given_means_the_defaults),
        PROMISE(the_stronger_source_wins_in_whatever_order_they_come),
        PROMISE(of_equal_sources_the_later_wins),
        PROMISE(a_bad_value_is_refused_even_where_a_stronger_one_hides_it),
        PROMISE(the_command_line_says_what_it_wants),
        PROMISE(the_environment_names_its_variable),
        PROMISE(a_secret_can_come_from_a_file),
        PROMISE(numbers_are_decimal_and_in_range),
        PROMISE(a_list_rises_and_repeats_nothing),
        PROMISE(a_topic_is_a_name_that_kafka_takes),
        PROMISE(kafka_properties_pass_through),
        PROMISE(kafka_properties_are_bounded),
        PROMISE(options_that_contradict_each_other_are_named_with_their_origins),
        PROMISE(topics_must_differ),
        PROMISE(a_command_that_scores_needs_a_model_or_says_that_it_has_none),
        PROMISE(secrets_are_hidden_and_every_origin_is_told),
        PROMISE(a_slip_in_giving_a_secret_does_not_show_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
