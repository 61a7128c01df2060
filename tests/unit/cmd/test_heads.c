/* What a worker makes of heads.path, heads.set, exit.rule and exit.max_layer. */
#include <stdlib.h>
#include <unistd.h>

#include "cmd/heads_file.h"

static char path[64];
static struct error err;

static int load(struct answering *answering, const char *set)
{
    char file[80];
    snprintf(file, sizeof file, "heads.path=%s", path);
    const char *const sets[] = {file, "engine.mode=f32", "exit.layers=1,2,4,5", set};
    struct config *config = tiny_config(sets, 4);
    int result = setup_answering(config, answering, &err);
    config_destroy(config);
    return result;
}

static void assert_loads(const char *set, const char *id, size_t exits, size_t last, enum exit_rule_kind rule)
{
    struct answering answering;
    if (load(&answering, set) != 0)
        fail_msg("%s: %s", set, err.message);
    assert_string_equal(answering.heads.id, id);
    assert_int_equal(answering.heads.count, exits);
    assert_int_equal(answering.heads.exits[exits - 1].layer, last);
    assert_int_equal(answering.rule.kind, rule);
    setup_answering_close(&answering);
}

static void assert_refused(const char *set, const char *message)
{
    struct answering answering;
    assert_int_equal(load(&answering, set), -1);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, message);
}

static int choose_path(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    char directory[40];
    snprintf(directory, sizeof directory, "%.24s/heads-XXXXXX", parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/tiny.heads.gguf", directory);
    return 0;
}

static int remove_path(void **state)
{
    (void)state;
    unlink(path);
    *strrchr(path, '/') = '\0';
    return rmdir(path);
}

static void the_heads_decide_the_rule(void **state)
{
    (void)state;
    struct heads_file said = sound_heads;
    heads_file_write(&said, path);
    assert_loads("heads.set=text", "tiny:text", 3, 6, EXIT_RULE_CALIBRATED);
    assert_loads("heads.set=hybrid", "tiny:hybrid", 3, 6, EXIT_RULE_CALIBRATED);
    assert_loads("exit.rule=full", "tiny:text", 3, 6, EXIT_RULE_FULL);
    assert_loads("exit.rule=ratio", "tiny:text", 3, 6, EXIT_RULE_RATIO);
    assert_loads("engine.backend=none", "tiny:text", 3, 6, EXIT_RULE_CALIBRATED);
    said.leaves[1] = INFINITY;
    heads_file_write(&said, path);
    assert_loads("heads.set=text", "tiny:text", 3, 6, EXIT_RULE_CALIBRATED); /* exit 0 has a threshold still */
    said.exit0_leave = 0;
    heads_file_write(&said, path);
    assert_loads("heads.set=text", "tiny:text", 3, 6, EXIT_RULE_FULL);
    assert_refused("exit.rule=calibrated", "carry no thresholds");
}

static void the_exits_are_those_that_are_asked_for_and_the_last(void **state)
{
    (void)state;
    heads_file_write(&sound_heads, path);
    assert_loads("exit.layers=4", "tiny:text", 2, 6, EXIT_RULE_CALIBRATED);
    assert_loads("exit.layers=1,3", "tiny:text", 1, 6, EXIT_RULE_CALIBRATED); /* exit 0 is there */
    assert_loads("exit.max_layer=4", "tiny:text", 2, 4, EXIT_RULE_CALIBRATED);
    assert_refused("exit.max_layer=5", "none at layer 5 to end with: theirs are at layers 2, 4, 6");
    assert_loads("heads.path=", "lm-head:1,2,4,5", 5, 6, EXIT_RULE_FULL);
    assert_refused("exit.max_layer=7", "none at layer 7");
}

static void heads_of_something_else_are_refused(void **state)
{
    (void)state;
    struct heads_file said = sound_heads;
    heads_file_write(&said, path);
    assert_refused("heads.set=single", "there are: text, hybrid");
    assert_refused("heads.path=/nonexistent", "heads.path: ");
    assert_refused("heads.path=" HEADRACE_GOLDEN "/tiny.gguf", "is no file of exit heads");
    said.hash = "0123456789abcdef";
    heads_file_write(&said, path);
    assert_refused("heads.set=text", "are for the model with hash 0123456789abcdef");
    assert_loads("engine.backend=none", "tiny:text", 3, 6, EXIT_RULE_CALIBRATED); /* the evidence needs no model */
    said = sound_heads;
    said.yes = 7;
    heads_file_write(&said, path);
    assert_refused("heads.set=text", "label tokens 7 and");
    said = sound_heads;
    said.features = EVIDENCE_FEATURES - 1;
    heads_file_write(&said, path);
    assert_refused("heads.set=text", "train them anew");
    said = sound_heads;
    said.made_for = "0000000000000000"; /* is logged */
    heads_file_write(&said, path);
    assert_loads("engine.mode=int8", "tiny:text", 3, 6, EXIT_RULE_CALIBRATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heads_decide_the_rule),
        cmocka_unit_test(the_exits_are_those_that_are_asked_for_and_the_last),
        cmocka_unit_test(heads_of_something_else_are_refused),
    };
    return cmocka_run_group_tests(tests, choose_path, remove_path);
}
