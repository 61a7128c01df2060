#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "stream/identity.h"

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/headrace-identity-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/instance", directory);
    unlink(path);
    return rmdir(directory);
}

static void a_restart_keeps_the_name(void **state)
{
    (void)state;
    struct error err;
    char first[IDENTITY_SIZE], second[IDENTITY_SIZE];
    assert_int_equal(identity_read(directory, "node-1", first, &err), 0);
    assert_int_equal(identity_read(directory, "node-1", second, &err), 0);
    assert_string_equal(first, second);
    assert_int_equal(strlen(first), strlen("node-1-") + 8);
    assert_memory_equal(first, "node-1-", 7);
}

static void another_directory_is_another_worker(void **state)
{
    (void)state;
    struct error err;
    char first[IDENTITY_SIZE], second[IDENTITY_SIZE], path[128];
    assert_int_equal(identity_read(directory, "node", first, &err), 0);
    snprintf(path, sizeof path, "%s/instance", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(identity_read(directory, "node", second, &err), 0);
    assert_string_not_equal(first, second);
}

static void what_kafka_does_not_take_becomes_underscores(void **state)
{
    (void)state;
    struct error err;
    char name[IDENTITY_SIZE], long_one[400];
    assert_int_equal(identity_read(directory, "a b/\xc3\xa9.c", name, &err), 0);
    assert_memory_equal(name, "a_b___.c-", 9);
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    assert_int_equal(identity_read(directory, long_one, name, &err), 0);
    assert_true(strlen(name) < IDENTITY_SIZE && strlen(name) > 100);
}

static void a_file_that_is_not_ours_is_named(void **state)
{
    (void)state;
    struct error err;
    char name[IDENTITY_SIZE], path[128];
    snprintf(path, sizeof path, "%s/instance", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("something else\n", file);
    fclose(file);
    assert_int_equal(identity_read(directory, "node", name, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(identity_read("/nowhere/at/all", "node", name, &err), -1);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restart_keeps_the_name, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(another_directory_is_another_worker, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(what_kafka_does_not_take_becomes_underscores, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_ours_is_named, make_directory, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
