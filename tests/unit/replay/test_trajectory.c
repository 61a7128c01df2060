#include "replay/temporary.h"

#include <math.h>
#include <xxhash.h>

#include "graph/evidence.h"
#include "replay/trajectory.h"

enum { ROWS = 5, READINGS = 3 };

static struct trajectory_row rows[ROWS] = {
    {1000, 0, 0, 0, 1, 1, 0, 100, 20, 7, 9, 1000},
    {1000, 0, 0, 1, 0, 4, 0, 100, 21, 7, 0, 1000},
    {2000, 1, 1, 0, TRAJECTORY_UNLABELLED, 3, 1, 0, 0, 0, 10, INT64_MIN},
    {3000, 2, 0, 2, 0, 1, 2, 120, 30, 8, 3, 4000},
    {3000, 2, 0, 1, 1, 0, 2, 120, 31, 8, 1, 3000},
};
static struct trajectory_reading readings[READINGS] = {{"exit0", 0, 0}, {"text", 5, 4}, {"text", 5, 5}};

static struct trajectory make(void)
{
    static float features[ROWS * EVIDENCE_FEATURES], logits[ROWS * READINGS];
    for (int i = 0; i < ROWS * EVIDENCE_FEATURES; i++)
        features[i] = (float)i / 7;
    for (int i = 0; i < ROWS * READINGS; i++)
        logits[i] = i % 4 == 3 ? NAN : (float)(i - 5) / 3;
    return (struct trajectory){.rows = rows,
                               .count = ROWS,
                               .features = features,
                               .readings = readings,
                               .reading_count = READINGS,
                               .logits = logits,
                               .layers = 6,
                               .users = 2,
                               .items = 3,
                               .requests = 3,
                               .model = "a model",
                               .heads = "heads",
                               .template_hash = "0123456789abcdef",
                               .mode = "f32 on scalar",
                               .key = "fedcba9876543210"};
}

static size_t read_back(const char *path, uint8_t *bytes, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, room, file);
    assert_true(size > 0 && size < room);
    fclose(file);
    return size;
}

static void save(const struct trajectory *trajectory, char path[256])
{
    struct error err;
    temporary_write(path, ".trajectory", "", 0);
    if (trajectory_save(trajectory, path, &err) != 0)
        fail_msg("%s", err.message);
}

static void what_is_saved_comes_back(void **state)
{
    (void)state;
    struct trajectory saved = make(), loaded;
    struct error err;
    char path[256];
    save(&saved, path);
    if (trajectory_load(&loaded, path, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(loaded.count, ROWS);
    for (int i = 0; i < ROWS; i++) {
        const struct trajectory_row *a = &saved.rows[i], *b = &loaded.rows[i];
        assert_true(a->timestamp_ms == b->timestamp_ms && a->request == b->request && a->user == b->user &&
                    a->item == b->item && a->label == b->label && a->status == b->status && a->part == b->part &&
                    a->prefix_tokens == b->prefix_tokens && a->tail_tokens == b->tail_tokens &&
                    a->user_events == b->user_events && a->item_events == b->item_events && a->known_ms == b->known_ms);
    }
    assert_memory_equal(loaded.features, saved.features, ROWS * EVIDENCE_FEATURES * sizeof(float));
    assert_memory_equal(loaded.logits, saved.logits, ROWS * READINGS * sizeof(float));
    assert_memory_equal(loaded.readings, saved.readings, sizeof readings);
    assert_true(loaded.layers == 6 && loaded.users == 2 && loaded.items == 3 && loaded.requests == 3);
    assert_string_equal(loaded.model, "a model");
    assert_string_equal(loaded.heads, "heads");
    assert_string_equal(loaded.template_hash, "0123456789abcdef");
    assert_string_equal(loaded.mode, "f32 on scalar");
    assert_string_equal(loaded.key, "fedcba9876543210");
    assert_int_equal(trajectory_find(&loaded, "text", 5, 4), 1);
    assert_true(trajectory_find(&loaded, "text", 5, 3) == SIZE_MAX);
    trajectory_free(&loaded);
    unlink(path);
}

static void assert_refused(const char *path, const uint8_t *bytes, size_t size)
{
    struct trajectory loaded;
    struct error err;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    assert_int_equal(trajectory_load(&loaded, path, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_non_null(strstr(err.message, path));
    assert_null(loaded.rows);
}

/* As somebody would forge it: the checksum is right. */
static void seal(uint8_t *bytes, size_t size)
{
    uint64_t checksum = XXH3_64bits(bytes + 16, size - 16);
    memcpy(bytes + 8, &checksum, sizeof checksum);
}

static void a_damaged_file_is_refused(void **state)
{
    (void)state;
    struct trajectory saved = make();
    char path[256];
    uint8_t bytes[4096], changed[4096];
    save(&saved, path);
    size_t size = read_back(path, bytes, sizeof bytes);
    for (size_t cut = 0; cut < size; cut += 13)
        assert_refused(path, bytes, cut);
    for (size_t at = 0; at < size; at += 7) {
        memcpy(changed, bytes, size);
        changed[at] ^= 0x40;
        assert_refused(path, changed, size);
    }
    unlink(path);
}

static void sizes_that_the_file_does_not_have_are_refused(void **state)
{
    (void)state;
    struct trajectory saved = make();
    char path[256];
    uint8_t bytes[4096], changed[4096];
    save(&saved, path);
    size_t size = read_back(path, bytes, sizeof bytes);
    const size_t texts = 64 + 64 + 17 + 32 + 17;
    for (size_t field = 0; field < 7; field++) { /* count, reading_count, layers, users, items, requests, features */
        const uint64_t hostile[] = {0, (1u << 16) + 1, 1u << 31, UINT64_C(1) << 60, UINT64_MAX - 7, UINT64_MAX};
        for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
            memcpy(changed, bytes, size);
            memcpy(changed + 16 + texts + 8 * field, &hostile[i], sizeof hostile[i]);
            seal(changed, size);
            assert_refused(path, changed, size);
        }
    }
    unlink(path);
}

static void rows_that_mean_nothing_are_refused(void **state)
{
    (void)state;
    char path[256];
    struct error err;
    const struct trajectory_row good = rows[2];
    const struct trajectory_row bad[] = {
        {2000, 3, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0}, /* no such request */
        {2000, 1, 2, 0, 0, 1, 1, 0, 0, 0, 0, 0}, /* user */
        {2000, 1, 1, 3, 0, 1, 1, 0, 0, 0, 0, 0}, /* item */
        {2000, 1, 1, 0, 2, 1, 1, 0, 0, 0, 0, 0}, /* label */
        {2000, 1, 1, 0, 0, 5, 1, 0, 0, 0, 0, 0}, /* status */
        {2000, 1, 1, 0, 0, 1, 3, 0, 0, 0, 0, 0}, /* part */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct trajectory saved = make(), loaded;
        rows[2] = bad[i];
        save(&saved, path);
        rows[2] = good;
        assert_int_equal(trajectory_load(&loaded, path, &err), -1);
        assert_int_equal(err.kind, ERROR_BAD_INPUT);
        unlink(path);
    }
    struct trajectory saved = make(), loaded;
    saved.logits[4] = INFINITY;
    save(&saved, path);
    assert_int_equal(trajectory_load(&loaded, path, &err), -1);
    unlink(path);
    saved = make();
    saved.features[4] = NAN;
    save(&saved, path);
    assert_int_equal(trajectory_load(&loaded, path, &err), -1);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_comes_back),
        cmocka_unit_test(a_damaged_file_is_refused),
        cmocka_unit_test(sizes_that_the_file_does_not_have_are_refused),
        cmocka_unit_test(rows_that_mean_nothing_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
