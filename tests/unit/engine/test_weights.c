/* Packed weights on disk: mapped when they are whole and ours, packed anew whatever else is there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "engine/cpu/weights.h"
#include "tiny.h"

static const char hash[] = "0123456789abcdef";

enum { DESCRIPTION_BYTES = 512 }; /* of a file; sums follow */

struct scene {
    struct tiny tiny;
    char directory[256];
    char path[512]; /* of the file for the tiny model, BF16, plain C */
    const struct kernels *scalar;
};

static int set_up(void **state)
{
    static struct scene scene;
    struct error err;
    const char *parent = getenv("TMPDIR");

    tiny_load(&scene.tiny);
    assert_int_equal(kernels_pick(&scene.scalar, ENGINE_SCALAR, &err), 0);
    snprintf(scene.directory, sizeof scene.directory, "%s/headrace-XXXXXX", parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(scene.directory));
    snprintf(scene.path, sizeof scene.path, "%s/%s.bf16.scalar.weights", scene.directory, hash);
    *state = &scene;
    return 0;
}

/* Removes what is in the directory; returns how many names there were. */
static size_t empty_directory(const char *path)
{
    size_t count = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        assert_true(unlinkat(dirfd(directory), entry->d_name, 0) == 0 ||
                    unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR) == 0);
        count++;
    }
    closedir(directory);
    return count;
}

static int empty(void **state)
{
    empty_directory(((struct scene *)*state)->directory);
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    tiny_free(&scene->tiny);
    return rmdir(scene->directory);
}

/* One thread, so that it can be called in a forked process under every sanitizer. */
static struct weights open_for(const struct model *model, const struct kernels *kernels, enum engine_mode mode,
                               const char *directory, const char *model_hash)
{
    const struct weights_cache cache = {directory, model_hash};
    struct pool *pool = pool_create(1);
    struct weights weights;
    struct error err;
    assert_non_null(pool);
    if (weights_open(&weights, model, kernels, mode, &cache, pool, &err) != 0)
        fail_msg("%s", err.message);
    pool_destroy(pool);
    return weights;
}

static struct weights open_here(const struct scene *scene)
{
    return open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, scene->directory, hash);
}

static bool is_mapped(const struct weights *weights)
{
    assert_true((weights->map.data != NULL) != (weights->memory != NULL));
    return weights->map.data != NULL;
}

static const uint8_t *panels_of(const struct weights *weights)
{
    return weights->layers[0].key_value.panels;
}

/* Opens, closes, and says whether the file was taken; the panels are right either way. */
static bool takes_file(const struct scene *scene)
{
    struct weights right = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, NULL, NULL);
    struct weights weights = open_here(scene);
    bool mapped = is_mapped(&weights);
    assert_int_equal(weights.bytes, right.bytes);
    assert_memory_equal(panels_of(&weights), panels_of(&right), right.bytes);
    weights_free(&weights);
    weights_free(&right);
    return mapped;
}

/* The same with what it wrote to the log, which is put into `lines`. */
static bool takes_file_saying(const struct scene *scene, char lines[4096])
{
    FILE *log = tmpfile();
    int standard_error = dup(STDERR_FILENO);
    assert_true(log != NULL && standard_error >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    bool mapped = takes_file(scene);
    assert_true(dup2(standard_error, STDERR_FILENO) >= 0);
    close(standard_error);
    rewind(log);
    lines[fread(lines, 1, 4095, log)] = '\0';
    fclose(log);
    return mapped;
}

static size_t occurrences(const char *text, const char *word)
{
    size_t count = 0;
    while ((text = strstr(text, word)) != NULL) {
        text += strlen(word);
        count++;
    }
    return count;
}

/* What is at the path is not taken, for that reason, which is told once; and then it is right. */
static void is_repaired(const struct scene *scene, const char *reason)
{
    char lines[4096];
    struct stat status;
    assert_false(takes_file_saying(scene, lines));
    if (strstr(lines, reason) == NULL || occurrences(lines, " warn ") != 1)
        fail_msg("not one warning with \"%s\": %s", reason, lines);
    assert_int_equal(lstat(scene->path, &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0600);
    assert_true(takes_file_saying(scene, lines));
    assert_int_equal(occurrences(lines, " warn "), 0);
}

static struct buffer read_whole(const char *path)
{
    struct buffer bytes = {0};
    struct error err;
    if (file_read(path, 1 << 26, &bytes, &err) != 0)
        fail_msg("%s", err.message);
    return bytes;
}

static void write_whole(const char *path, const uint8_t *bytes, size_t size)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, size), size);
    close(descriptor);
}

static float *hidden_states(const struct scene *scene, enum engine_mode mode, enum engine_cpu cpu,
                            const char *directory)
{
    enum { TOKENS = 70 };
    const struct model *model = &scene->tiny.model;
    const struct engine_settings settings = {.rule = {.kind = EXIT_RULE_FULL},
                                             .threads = 2,
                                             .mode = mode,
                                             .cpu = cpu,
                                             .weights_cache = directory,
                                             .model_hash = hash};
    struct random random = {7};
    struct engine *engine;
    struct error err;
    int32_t tokens[TOKENS];
    float *states = calloc(TOKENS * model->width, sizeof *states);

    assert_non_null(states);
    random_tokens(&random, model, tokens, TOKENS);
    if (engine_create(&engine, model, &scene->tiny.heads, &settings, &err) != 0 ||
        engine_hidden_states(engine, tokens, TOKENS, model->layer_count - 1, states, &err) != 0)
        fail_msg("%s", err.message);
    engine_destroy(engine);
    return states;
}

static void a_second_start_computes_the_same_from_the_file(void **state)
{
    const struct scene *scene = *state;
    enum engine_cpu cpus[3];
    size_t cpu_count = processors(cpus), width = scene->tiny.model.width;

    for (size_t c = 0; c < cpu_count; c++)
        for (enum engine_mode mode = ENGINE_F32; mode <= ENGINE_INT8; mode++) {
            float *without = hidden_states(scene, mode, cpus[c], NULL);
            float *first = hidden_states(scene, mode, cpus[c], scene->directory);
            float *second = hidden_states(scene, mode, cpus[c], scene->directory);
            assert_memory_equal(first, without, 70 * width * sizeof(float));
            assert_memory_equal(second, without, 70 * width * sizeof(float));
            free(without);
            free(first);
            free(second);
        }
    assert_int_equal(empty_directory(scene->directory), 3 * cpu_count); /* a file each, and nothing beside */
}

static void what_is_kept_is_whole_private_and_mapped_the_next_time(void **state)
{
    const struct scene *scene = *state;
    struct stat before, after;

    assert_false(takes_file(scene));
    assert_int_equal(stat(scene->path, &before), 0);
    assert_int_equal(before.st_mode, S_IFREG | 0600);
    assert_true(takes_file(scene));
    assert_int_equal(stat(scene->path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}

static void a_directory_that_is_missing_is_made(void **state)
{
    struct scene *scene = *state;
    char below[300], path[400];
    snprintf(below, sizeof below, "%s/a", scene->directory);
    struct weights weights = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, below, hash);
    weights_free(&weights);
    weights = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, below, hash);
    assert_true(is_mapped(&weights));
    weights_free(&weights);
    snprintf(path, sizeof path, "%s/%s.bf16.scalar.weights", below, hash);
    assert_int_equal(unlink(path), 0);
}

static void a_changed_byte_anywhere_is_found(void **state)
{
    const struct scene *scene = *state;
    size_t layers = scene->tiny.model.layer_count, sums = DESCRIPTION_BYTES + (layers + 1) * sizeof(uint64_t);

    assert_false(takes_file(scene));
    struct buffer bytes = read_whole(scene->path);
    const struct {
        size_t at;
        const char *reason;
    } places[] = {
        {0, "is not what its name says"},
        {DESCRIPTION_BYTES - 1, "is not what its name says"},
        {DESCRIPTION_BYTES, "a checksum is wrong"},
        {sums - 1, "a checksum is wrong"},
        {sums, "a checksum is wrong"},
        {4095, "a checksum is wrong"},
        {4096, "a checksum is wrong"},
        {bytes.size / 2, "a checksum is wrong"},
        {bytes.size - 1, "a checksum is wrong"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        bytes.data[places[i].at] ^= 0x10;
        write_whole(scene->path, bytes.data, bytes.size);
        bytes.data[places[i].at] ^= 0x10;
        is_repaired(scene, places[i].reason);
    }
    struct random random = {3};
    char lines[4096];
    for (size_t i = 0; i < 20; i++) {
        size_t at = random_below(&random, bytes.size);
        bytes.data[at] ^= (uint8_t)(1u << i % 8);
        write_whole(scene->path, bytes.data, bytes.size);
        bytes.data[at] ^= (uint8_t)(1u << i % 8);
        assert_false(takes_file_saying(scene, lines));
    }
    buffer_free(&bytes);
}

static void a_file_of_another_size_is_found(void **state)
{
    const struct scene *scene = *state;
    assert_false(takes_file(scene));
    struct buffer bytes = read_whole(scene->path);
    const size_t sizes[] = {0, 1, 511, 4096, bytes.size - 1, bytes.size - 4096};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        write_whole(scene->path, bytes.data, sizes[i]);
        is_repaired(scene, " bytes, not ");
    }
    buffer_append_byte(&bytes, 0);
    write_whole(scene->path, bytes.data, bytes.size);
    is_repaired(scene, " bytes, not ");
    buffer_free(&bytes);
}

static void a_file_of_another_layout_is_packed_anew(void **state)
{
    const struct scene *scene = *state;
    assert_false(takes_file(scene));
    struct buffer bytes = read_whole(scene->path);
    char *layout = strstr((char *)bytes.data, "layout ");
    assert_non_null(layout);
    layout[strlen("layout ")]++;
    write_whole(scene->path, bytes.data, bytes.size);
    is_repaired(scene, "or of another version");
    buffer_free(&bytes);
}

static void what_others_can_write_or_is_no_file_is_not_taken(void **state)
{
    const struct scene *scene = *state;
    char elsewhere[600];

    assert_false(takes_file(scene));
    assert_int_equal(chmod(scene->path, 0620), 0);
    is_repaired(scene, "can be written by other users");
    assert_int_equal(chmod(scene->path, 0602), 0);
    is_repaired(scene, "can be written by other users");

    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", scene->directory);
    assert_int_equal(rename(scene->path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, scene->path), 0);
    is_repaired(scene, "opening");
    assert_int_equal(unlink(scene->path), 0);
    assert_int_equal(mkfifo(scene->path, 0600), 0);
    is_repaired(scene, "is not a regular file");
    if (geteuid() == 0) {
        assert_int_equal(chown(scene->path, 12345, (gid_t)-1), 0);
        is_repaired(scene, "belongs to another user");
    }
}

static void model_mode_and_instruction_set_have_their_own_files(void **state)
{
    struct scene *scene = *state;
    const struct model *model = &scene->tiny.model;
    struct model adapted = *model;
    enum engine_cpu cpus[3];
    const struct kernels *best;
    struct error err;
    size_t count = processors(cpus);

    strcpy(adapted.adapters, "fedcba9876543210");
    assert_int_equal(kernels_pick(&best, cpus[count - 1], &err), 0);
    for (size_t round = 0; round < 2; round++) {
        struct weights opened[] = {
            open_here(scene),
            open_for(model, scene->scalar, ENGINE_INT8, scene->directory, hash),
            open_for(model, scene->scalar, ENGINE_BF16, scene->directory, "0123456789abcde0"),
            open_for(&adapted, scene->scalar, ENGINE_BF16, scene->directory, hash),
            open_for(model, best, ENGINE_BF16, scene->directory, hash),
        };
        for (size_t i = 0; i < sizeof opened / sizeof *opened; i++) {
            if (i < 4 || best != scene->scalar)
                assert_int_equal(is_mapped(&opened[i]), round == 1);
            weights_free(&opened[i]);
        }
    }
}

static void a_file_under_another_name_is_not_taken(void **state)
{
    struct scene *scene = *state;
    struct model adapted = scene->tiny.model;
    strcpy(adapted.adapters, "fedcba9876543210");
    const char *others[] = {"0123456789abcdef-fedcba9876543210.bf16.scalar", "0123456789abcde0.bf16.scalar",
                            "0123456789abcdef.f32.scalar"};

    struct weights weights = open_for(&adapted, scene->scalar, ENGINE_BF16, scene->directory, hash);
    weights_free(&weights);
    weights = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, scene->directory, "0123456789abcde0");
    weights_free(&weights);
    weights = open_for(&scene->tiny.model, scene->scalar, ENGINE_F32, scene->directory, hash);
    weights_free(&weights);
    for (size_t i = 0; i < 3; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s.weights", scene->directory, others[i]);
        assert_int_equal(rename(path, scene->path), 0);
        is_repaired(scene, i < 2 ? "is not what its name says" : " bytes, not ");
    }
}

/* As after a change of the packing for which nobody raised the layout's number. */
static void other_numbers_in_a_whole_file_are_found(void **state)
{
    struct scene *scene = *state;
    struct model other = scene->tiny.model;
    struct model_layer layers[16];
    assert_true(other.layer_count <= 16);

    for (size_t matrix = 0; matrix < 5; matrix++) {
        memcpy(layers, scene->tiny.model.layers, other.layer_count * sizeof *layers);
        other.layers = layers;
        for (size_t i = 0; i < other.layer_count; i++) {
            const struct model_layer *next = &scene->tiny.model.layers[(i + 1) % other.layer_count];
            layers[i].key = matrix == 0 ? next->key : layers[i].key;
            layers[i].query = matrix == 1 ? next->query : layers[i].query;
            layers[i].attention_output = matrix == 2 ? next->attention_output : layers[i].attention_output;
            layers[i].mlp_norm = matrix == 3 ? next->mlp_norm : layers[i].mlp_norm;
            layers[i].down = matrix == 4 ? next->down : layers[i].down;
        }
        unlink(scene->path);
        struct weights weights = open_for(&other, scene->scalar, ENGINE_BF16, scene->directory, hash);
        weights_free(&weights);
        is_repaired(scene, "holds other numbers than this version packs");
    }
}

/* It works without, and says so once. */
static void goes_without(const struct scene *scene)
{
    char lines[4096];
    struct stat status;
    assert_false(takes_file_saying(scene, lines));
    if (strstr(lines, "packed weights are not kept") == NULL || occurrences(lines, " warn ") != 1)
        fail_msg("not one warning that nothing is kept: %s", lines);
    assert_int_not_equal(stat(scene->path, &status), 0);
}

static void a_directory_that_cannot_be_written_is_done_without(void **state)
{
    struct scene *scene = *state;
    struct scene other = *scene;

    snprintf(other.directory, sizeof other.directory, "%.200s/file", scene->directory);
    snprintf(other.path, sizeof other.path, "%s/%s.bf16.scalar.weights", other.directory, hash);
    write_whole(other.directory, (const uint8_t *)"x", 1);
    goes_without(&other);

    if (geteuid() != 0) {
        assert_int_equal(chmod(scene->directory, 0500), 0);
        goes_without(scene);
        assert_int_equal(chmod(scene->directory, 0700), 0);
    }
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s.tmp", scene->path);
    assert_int_equal(mkdir(temporary, 0700), 0);
    goes_without(scene);
}

static void a_full_disk_leaves_nothing_behind(void **state)
{
    const struct scene *scene = *state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){50000, before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    goes_without(scene);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(empty_directory(scene->directory), 0);
}

static void a_file_deleted_while_in_use_stays_readable(void **state)
{
    const struct scene *scene = *state;
    assert_false(takes_file(scene));
    struct weights weights = open_here(scene),
                   right = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, NULL, NULL);
    assert_true(is_mapped(&weights));
    assert_int_equal(unlink(scene->path), 0);
    assert_memory_equal(panels_of(&weights), panels_of(&right), right.bytes);
    weights_free(&weights);
    weights_free(&right);
}

static void *open_in_a_thread(void *argument)
{
    const struct scene *scene = argument;
    const struct weights_cache cache = {scene->directory, hash};
    struct pool *pool = pool_create(2);
    struct weights *weights = malloc(sizeof *weights);
    struct error err;
    if (pool == NULL || weights == NULL ||
        weights_open(weights, &scene->tiny.model, scene->scalar, ENGINE_BF16, &cache, pool, &err) != 0) {
        free(weights);
        weights = NULL;
    }
    pool_destroy(pool);
    return weights;
}

static void those_who_pack_at_once_all_have_a_whole_file(void **state)
{
    enum { ROUNDS = 5, THREADS = 4 };
    struct scene *scene = *state;
    struct weights right = open_for(&scene->tiny.model, scene->scalar, ENGINE_BF16, NULL, NULL);

    for (size_t round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, open_in_a_thread, scene), 0);
        for (size_t i = 0; i < THREADS; i++) {
            void *result;
            pthread_join(threads[i], &result);
            struct weights *weights = result;
            assert_non_null(weights);
            assert_memory_equal(panels_of(weights), panels_of(&right), right.bytes);
            weights_free(weights);
            free(weights);
        }
        assert_true(takes_file(scene));
        assert_int_equal(empty_directory(scene->directory), 1);
    }
    weights_free(&right);
}

static void while_another_writes_nothing_is_written(void **state)
{
    const struct scene *scene = *state;
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s.tmp", scene->path);
    int descriptor = open(temporary, O_RDWR | O_CREAT, 0600);
    struct stat status;

    assert_true(descriptor >= 0 && write(descriptor, "half", 4) == 4);
    assert_int_equal(flock(descriptor, LOCK_EX), 0);
    assert_false(takes_file(scene));
    assert_int_not_equal(stat(scene->path, &status), 0);
    assert_int_equal(fstat(descriptor, &status), 0);
    assert_int_equal(status.st_size, 4);
    assert_int_equal(ftruncate(descriptor, 1 << 24), 0); /* more than there is to write */
    close(descriptor);                                   /* it died: what it has left is taken over */
    assert_false(takes_file(scene));
    assert_int_not_equal(stat(temporary, &status), 0);
    assert_true(takes_file(scene));
}

/* Packs and keeps over and over, until it is killed. */
static void write_until_killed(const struct scene *scene)
{
    for (;;) {
        unlink(scene->path);
        struct weights weights = open_here(scene);
        weights_free(&weights);
    }
}

static void a_killed_process_leaves_no_half_file(void **state)
{
    const struct scene *scene = *state;
    struct random random = {11};
    char lines[4096], temporary[600];
    snprintf(temporary, sizeof temporary, "%s.tmp", scene->path);

    for (size_t i = 0; i < 12; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDERR_FILENO);
            write_until_killed(scene);
        }
        while (access(temporary, F_OK) != 0 && waitpid(child, NULL, WNOHANG) == 0)
            usleep(50);
        usleep((useconds_t)random_below(&random, 3000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        takes_file_saying(scene, lines); /* there or not, never wrong */
        assert_int_equal(occurrences(lines, " warn "), 0);
        assert_true(takes_file(scene));
        assert_int_equal(empty_directory(scene->directory), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_second_start_computes_the_same_from_the_file, empty),
        cmocka_unit_test_teardown(what_is_kept_is_whole_private_and_mapped_the_next_time, empty),
        cmocka_unit_test_teardown(a_directory_that_is_missing_is_made, empty),
        cmocka_unit_test_teardown(a_changed_byte_anywhere_is_found, empty),
        cmocka_unit_test_teardown(a_file_of_another_size_is_found, empty),
        cmocka_unit_test_teardown(a_file_of_another_layout_is_packed_anew, empty),
        cmocka_unit_test_teardown(what_others_can_write_or_is_no_file_is_not_taken, empty),
        cmocka_unit_test_teardown(model_mode_and_instruction_set_have_their_own_files, empty),
        cmocka_unit_test_teardown(a_file_under_another_name_is_not_taken, empty),
        cmocka_unit_test_teardown(other_numbers_in_a_whole_file_are_found, empty),
        cmocka_unit_test_teardown(a_directory_that_cannot_be_written_is_done_without, empty),
        cmocka_unit_test_teardown(a_full_disk_leaves_nothing_behind, empty),
        cmocka_unit_test_teardown(a_file_deleted_while_in_use_stays_readable, empty),
        cmocka_unit_test_teardown(those_who_pack_at_once_all_have_a_whole_file, empty),
        cmocka_unit_test_teardown(while_another_writes_nothing_is_written, empty),
        cmocka_unit_test_teardown(a_killed_process_leaves_no_half_file, empty),
    };
    return cmocka_run_group_tests_name("weights", tests, set_up, tear_down);
}
