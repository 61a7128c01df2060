#include "graph/same_graph.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/file.h"
#include "graph/records.h"
#include "graph/snapshot.h"

enum { EVENTS = 500 };

struct snapped {
    struct fixture *fixture; /* what is copied */
    char directory[300];     /* of the snapshot */
    char state[300];         /* what it is restored into */
};

static void use_limits(struct fixture *fixture)
{
    fixture->settings.window_ms = 700000;
    fixture->settings.max_edges_per_node = 20;
    fixture_reopen(fixture);
}

static int setup(void **state)
{
    struct snapped *snapped = calloc(1, sizeof *snapped);
    assert_non_null(snapped);
    fixture_setup((void **)&snapped->fixture);
    use_limits(snapped->fixture);
    snprintf(snapped->directory, sizeof snapped->directory, "%s-snapshot", snapped->fixture->directory);
    snprintf(snapped->state, sizeof snapped->state, "%s-restored", snapped->fixture->directory);
    *state = snapped;
    return 0;
}

static void delete_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int teardown(void **state)
{
    struct snapped *snapped = *state;
    fixture_teardown((void **)&snapped->fixture);
    delete_tree(snapped->directory);
    delete_tree(snapped->state);
    free(snapped);
    return 0;
}

static struct snapshot_settings settings_of(const struct snapped *snapped, const char *state)
{
    return (struct snapshot_settings){.state = state, .directory = snapped->directory};
}

static struct snapshot_summary create(const struct snapped *snapped)
{
    struct error err;
    struct snapshot_summary summary;
    struct snapshot_settings settings = settings_of(snapped, snapped->fixture->directory);
    check(snapshot_create(&settings, &summary, &err), &err);
    return summary;
}

static void verify(const struct snapped *snapped)
{
    struct error err;
    struct snapshot_summary summary;
    struct snapshot_settings settings = settings_of(snapped, NULL);
    check(snapshot_verify(&settings, &summary, &err), &err);
}

/* The restored state, opened with the same settings; to be closed by the caller. */
static struct fixture restore(const struct snapped *snapped)
{
    struct error err;
    struct snapshot_summary summary;
    struct snapshot_settings settings = settings_of(snapped, snapped->state);
    check(snapshot_restore(&settings, &summary, &err), &err);
    struct fixture restored = {.settings = snapped->fixture->settings};
    restored.settings.directory = snapped->state;
    fixture_open(&restored);
    return restored;
}

static void assert_fails(int (*act)(const struct snapshot_settings *settings, struct snapshot_summary *summary,
                                    struct error *err),
                         struct snapshot_settings settings, const char *word)
{
    struct error err = {0};
    struct snapshot_summary summary;
    assert_int_equal(act(&settings, &summary, &err), -1);
    if (strstr(err.message, word) == NULL)
        fail_msg("\"%s\" is not in: %s", word, err.message);
}

static void assert_not_fine(const struct snapped *snapped, const char *word)
{
    assert_fails(snapshot_verify, settings_of(snapped, NULL), word);
    assert_fails(snapshot_restore, settings_of(snapped, snapped->state), word);
    assert_true(rmdir(snapped->state) == 0 || errno == ENOENT); /* nothing is in it */
}

static void assert_same_histories(struct graph *a, struct graph *b)
{
    enum { MOST = 200 };
    struct edge of_a[MOST], of_b[MOST];
    for (uint32_t user = 0; user < graph_counts(a).users; user++) {
        size_t count = graph_history(a, user, INT64_MAX, MOST, of_a);
        assert_same_edges(of_a, count, of_b, graph_history(b, user, INT64_MAX, MOST, of_b));
    }
}

static bool count_letter(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    (void)topic, (void)partition, (void)offset;
    *(size_t *)context += letter.size;
    return true;
}

static void put_around(struct fixture *fixture)
{
    struct error err;
    struct attribute attribute = {text_of("age"), text_of("30")};
    struct user user = {.user_id = text_of("user 1"), .profile = &attribute, .profile_count = 1};
    check(graph_put_user(fixture->graph, &user, &err), &err);
    check(graph_put_offset(fixture->graph, "interactions", 0, 77, &err), &err);
    check(graph_put_offset(fixture->graph, "items", 300, 1, &err), &err);
    check(graph_put_outbox(fixture->graph, "items", 0, 3, text_of("letter"), &err), &err);
    commit(fixture);
}

static void what_is_restored_is_the_state_and_goes_on_as_it_would(void **state)
{
    struct snapped *snapped = *state;
    struct fixture *fixture = snapped->fixture;
    put_events(fixture, 0, EVENTS);
    put_around(fixture);
    struct snapshot_summary summary = create(snapped);
    struct graph_counts counts = graph_counts(fixture->graph);
    assert_int_equal(summary.events, counts.events);
    assert_int_equal(summary.users, counts.users - counts.erased_users);
    assert_int_equal(summary.items, counts.items);
    assert_int_equal(summary.edges, counts.edges);
    assert_int_equal(summary.newest_event_ms, counts.newest_event_ms);
    verify(snapped);

    struct fixture restored = restore(snapped);
    size_t letters = 0;
    struct error err;
    for (int round = 0; round < 2; round++) {
        assert_same_nodes(restored.graph, fixture->graph);
        assert_same_histories(restored.graph, fixture->graph);
        assert_int_equal(graph_offset(restored.graph, "interactions", 0), 77);
        assert_int_equal(graph_offset(restored.graph, "items", 300), 1);
        check(graph_each_outbox(restored.graph, count_letter, &letters, &err), &err);
        put_events(fixture, EVENTS, EVENTS + 3 * BATCH);
        put_events(&restored, EVENTS, EVENTS + 3 * BATCH);
    }
    assert_int_equal(letters, 2 * strlen("letter"));
    fixture_reopen(&restored);
    assert_same_nodes(restored.graph, fixture->graph);
    graph_close(restored.graph);
}

static void an_empty_state_has_a_snapshot_too(void **state)
{
    struct snapped *snapped = *state;
    create(snapped);
    verify(snapped);
    struct fixture restored = restore(snapped);
    put_events(&restored, 0, EVENTS);
    put_events(snapped->fixture, 0, EVENTS);
    assert_same_nodes(restored.graph, snapped->fixture->graph);
    graph_close(restored.graph);
}

struct stream {
    struct fixture *fixture;
    atomic_int next;
    atomic_int batches; /* that may be written */
    atomic_bool stop;
};

static void *keep_writing(void *context)
{
    struct stream *stream = context;
    struct error err;
    while (!atomic_load(&stream->stop)) {
        usleep(5000);
        if (atomic_load(&stream->batches) <= 0)
            continue;
        atomic_fetch_sub(&stream->batches, 1);
        int from = atomic_load(&stream->next);
        for (int i = from; i < from + BATCH; i++) {
            struct random random = {(uint64_t)i};
            put_something(stream->fixture, &random, i);
        }
        check(graph_put_offset(stream->fixture->graph, "interactions", 0, from + BATCH, &err), &err);
        commit(stream->fixture);
        atomic_store(&stream->next, from + BATCH);
    }
    return NULL;
}

static void beside_a_writer_it_is_the_state_between_two_batches(void **state)
{
    enum { ROUNDS = 3, BATCHES = 60 };
    struct snapped *snapped = *state;
    struct stream stream = {.fixture = snapped->fixture};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, &stream), 0);
    for (int round = 0; round < ROUNDS; round++) {
        int least = atomic_load(&stream.next);
        atomic_store(&stream.batches, BATCHES);
        create(snapped);
        atomic_store(&stream.batches, 0);
        int most = atomic_load(&stream.next) + BATCH;
        verify(snapped);
        struct fixture restored = restore(snapped);
        int64_t offset = graph_offset(restored.graph, "interactions", 0);
        offset = offset < 0 ? 0 : offset;
        assert_in_range(offset, least, most);

        struct fixture *anew;
        fixture_setup((void **)&anew);
        use_limits(anew);
        put_events(anew, 0, (int)offset);
        assert_same_nodes(restored.graph, anew->graph);
        assert_same_histories(restored.graph, anew->graph);
        fixture_teardown((void **)&anew);
        graph_close(restored.graph);
        delete_tree(snapped->state);
        delete_tree(snapped->directory);
    }
    atomic_store(&stream.stop, true);
    pthread_join(thread, NULL);
    assert_int_not_equal(atomic_load(&stream.next), 0);
}

/* Damage. */

static void change_file(const char *path, off_t at)
{
    int file = open(path, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(file, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static void any_byte_of_any_file_that_changes_is_found_and_the_file_named(void **state)
{
    struct snapped *snapped = *state;
    put_events(snapped->fixture, 0, EVENTS);
    create(snapped);
    char store[400], path[700];
    snprintf(store, sizeof store, "%s/store", snapped->directory);
    DIR *entries = opendir(store);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", store, entry->d_name);
        if (strncmp(entry->d_name, "LO", 2) == 0 || stat(path, &status) != 0 || !S_ISREG(status.st_mode) ||
            status.st_size == 0)
            continue;
        off_t at = status.st_size * (files % 7) / 7;
        change_file(path, at);
        assert_fails(snapshot_verify, settings_of(snapped, NULL), entry->d_name);
        change_file(path, at);
        files++;
    }
    closedir(entries);
    assert_in_range(files, 5, 100);
    verify(snapped);

    snprintf(path, sizeof path, "%s/CURRENT", store);
    assert_int_equal(unlink(path), 0);
    assert_not_fine(snapped, "CURRENT is missing");
}

static void a_file_that_is_not_its_own_is_found(void **state)
{
    struct snapped *snapped = *state;
    struct error err;
    char path[400];
    create(snapped);
    snprintf(path, sizeof path, "%s/store/000999.sst", snapped->directory);
    check(file_replace(path, "x", 1, &err), &err);
    assert_not_fine(snapped, "000999.sst");
}

/* In the manifest; both of the same length. */
static void replace(const struct snapped *snapped, const char *old, const char *new)
{
    struct buffer text = {0};
    struct error err;
    char path[400];
    snprintf(path, sizeof path, "%s/manifest.json", snapped->directory);
    check(file_read(path, 1 << 20, &text, &err), &err);
    char *place = strstr(buffer_string(&text), old);
    assert_non_null(place);
    assert_int_equal(strlen(old), strlen(new));
    memcpy((char *)text.data + (place - (char *)text.data), new, strlen(new));
    check(file_replace(path, text.data, text.size, &err), &err);
    buffer_free(&text);
}

static void a_manifest_that_says_something_else_is_found(void **state)
{
    struct snapped *snapped = *state;
    struct error err;
    put_events(snapped->fixture, 0, EVENTS);
    put_around(snapped->fixture);
    create(snapped);
    static const char *const changes[][3] = {
        {"\"next_offset\": 77", "\"next_offset\": 78", "disagree"},
        {"\"users\": ", "\"users\": 1", "disagree"},
        {"\"pairs\": {\n      \"records\": ", "\"pairs\": {\n      \"records\": 1", "pairs"},
        {"\"format\": 1", "\"format\": 2", "use the version that wrote it"},
        {"\"record_format\": 1", "\"record_format\": 9", "use the version that wrote it"},
        {"\"families\"", "\"familiez\"", "something is missing"},
        {"{", "[", "damaged"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char old[64], new[64];
        size_t length = strlen(changes[i][1]);
        snprintf(new, sizeof new, "%s", changes[i][1]);
        snprintf(old, sizeof old, "%s", changes[i][0]);
        if (strlen(old) < length) { /* a digit is put before the number: one of its own goes */
            struct buffer text = {0};
            char path[400];
            snprintf(path, sizeof path, "%s/manifest.json", snapped->directory);
            check(file_read(path, 1 << 20, &text, &err), &err);
            const char *place = strstr(buffer_string(&text), old);
            snprintf(old, sizeof old, "%.*s", (int)length, place);
            buffer_free(&text);
            if (strcmp(old, new) == 0)
                new[length - 1] = '2';
        }
        replace(snapped, old, new);
        assert_not_fine(snapped, changes[i][2]);
        replace(snapped, new, old);
    }
    verify(snapped);
}

/* Records that RocksDB has no fault to find with. */
static void spoil(const struct snapped *snapped, enum family family, struct text key, struct text value)
{
    struct store store;
    struct error err;
    graph_close(snapped->fixture->graph);
    snapped->fixture->graph = NULL;
    check(store_open(&store, snapped->fixture->directory, false, &err), &err);
    if (value.data == NULL)
        store_delete(&store, family, key);
    else
        store_put(&store, family, key, value);
    check(store_write(&store, &err), &err);
    store_close(&store);
}

static void records_that_do_not_fit_each_other_are_no_snapshot(void **state)
{
    static const struct {
        enum family family;
        struct text key, value;
        const char *word;
    } bad[] = {
        {FAMILY_IDS, {"u\0\0\0\0", 5}, {0}, "a gap in the numbers"},
        {FAMILY_IDS, {"u\0\0\0\0", 5}, {"", 0}, "without its user"},
        {FAMILY_ITEMS, {"\0\0\0\1", 4}, {"xyz", 3}, "description"},
        {FAMILY_USERS, {"\0\0\1\0", 4}, {"\0\0\0\0", 4}, "a profile without its user"},
        {FAMILY_PAIRS, {"\0\0\0\0\0\0\0\0", 8}, {"short", 5}, "a pair of"},
        {FAMILY_EDGES, {"h\0\0\0\0", 5}, {"short", 5}, "an event of"},
        {FAMILY_COUNTS, {"events", 6}, {0}, "no counts"},
        {FAMILY_COUNTS, {"events", 6}, {"\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0", 24}, "disagree"},
        {FAMILY_OFFSETS, {"interactions", 12}, {"\0\0\0\0\0\0\0\1", 8}, "offset"},
        {FAMILY_VECTORS, {"u\0\0\1\0", 5}, {"x", 1}, "without its node"},
        {FAMILY_META, {"format", 6}, {"\0\0\0\7", 4}, "format 7"},
    };
    struct snapped *snapped = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rate(snapped->fixture, "u", "i", 1000, 5);
        rate(snapped->fixture, "v", "j", 2000, 5);
        commit(snapped->fixture);
        spoil(snapped, bad[i].family, bad[i].key, bad[i].value);
        assert_fails(snapshot_create, settings_of(snapped, snapped->fixture->directory), bad[i].word);
        delete_tree(snapped->fixture->directory);
        fixture_open(snapped->fixture);
    }
}

static void an_edge_without_its_event_is_found_by_verifying(void **state)
{
    struct snapped *snapped = *state;
    rate(snapped->fixture, "u", "i", 1000, 5);
    rate(snapped->fixture, "u", "j", 2000, 5);
    commit(snapped->fixture);
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
    struct event event = {.timestamp_ms = 1000, .kind = INTERACTION_RATING, .label = EVENT_LABEL_NONE, .value = 5};
    event_encode(&event, key, value);
    spoil(snapped, FAMILY_EDGES, (struct text){(const char *)key, sizeof key}, (struct text){0});
    create(snapped);
    assert_fails(snapshot_verify, settings_of(snapped, NULL), "an edge whose event is not in the history");
}

/* Places. */

static void nothing_is_overwritten(void **state)
{
    struct snapped *snapped = *state;
    struct error err;
    char path[400];
    put_events(snapped->fixture, 0, BATCH);
    create(snapped);
    assert_fails(snapshot_create, settings_of(snapped, snapped->fixture->directory), "is there already");
    verify(snapped);

    assert_fails(snapshot_restore, settings_of(snapped, snapped->fixture->directory), "is not empty");
    fixture_reopen(snapped->fixture);
    assert_int_not_equal(graph_counts(snapped->fixture->graph).edges, 0);
    check(file_make_directories(snapped->state, &err), &err);
    snprintf(path, sizeof path, "%s/mine", snapped->state);
    check(file_replace(path, "x", 1, &err), &err);
    assert_fails(snapshot_restore, settings_of(snapped, snapped->state), "mine");
    assert_int_equal(access(path, F_OK), 0);

    delete_tree(snapped->directory);
    snprintf(path, sizeof path, "%s.tmp/store", snapped->directory);
    check(file_make_directories(path, &err), &err);
    snprintf(path, sizeof path, "%s.tmp/store/CURRENT", snapped->directory);
    check(file_replace(path, "x", 1, &err), &err);
    assert_fails(snapshot_create, settings_of(snapped, snapped->fixture->directory), "move it away");
    assert_int_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s.tmp", snapped->directory);
    delete_tree(path);
}

/* What a kill would leave, and whether another snapshot can be made at the same time. */
struct cut_short {
    const struct snapped *snapped;
    const char *family; /* where it is cut */
    char copy[400];
    bool seen;
};

/* Files of the store come and go meanwhile, as they would beside a kill. */
static void copy_tree(const char *from, const char *to)
{
    char line[1000], mark[500];
    snprintf(line, sizeof line, "cp -r '%s' '%s' 2>/dev/null", from, to);
    assert_int_not_equal(system(line), -1);
    snprintf(mark, sizeof mark, "%s/being-made", to);
    assert_int_equal(access(mark, F_OK), 0);
}

static void look_while_it_is_made(void *context, const char *family, uint64_t records, uint64_t expected, bool done)
{
    struct cut_short *cut = context;
    (void)records, (void)expected;
    if (!done || cut->seen || strcmp(family, cut->family) != 0)
        return;
    cut->seen = true;
    char temporary[400];
    snprintf(temporary, sizeof temporary, "%s.tmp", cut->snapped->directory);
    copy_tree(temporary, cut->copy);
    assert_fails(snapshot_create, settings_of(cut->snapped, cut->snapped->fixture->directory), "just being made");
}

static void what_a_kill_leaves_the_next_one_deletes(void **state)
{
    static const char *const families[] = {"meta", "edges", "vectors"};
    struct snapped *snapped = *state;
    char temporary[400], mark[400];
    put_events(snapped->fixture, 0, EVENTS);
    snprintf(temporary, sizeof temporary, "%s.tmp", snapped->directory);
    snprintf(mark, sizeof mark, "%s/being-made", snapped->directory);
    for (size_t n = 0; n < sizeof families / sizeof *families; n++) {
        struct error err;
        struct snapshot_summary summary;
        struct cut_short cut = {.snapped = snapped, .family = families[n]};
        snprintf(cut.copy, sizeof cut.copy, "%s-cut", snapped->directory);
        struct snapshot_settings settings = settings_of(snapped, snapped->fixture->directory);
        settings.progress = look_while_it_is_made;
        settings.context = &cut;
        check(snapshot_create(&settings, &summary, &err), &err);
        assert_true(cut.seen);
        verify(snapped); /* the other one has done no harm */
        assert_int_equal(access(mark, F_OK), -1);

        delete_tree(snapped->directory);
        assert_int_equal(rename(cut.copy, temporary), 0);
        create(snapped);
        verify(snapped);
        assert_int_equal(access(temporary, F_OK), -1);
        delete_tree(snapped->directory);
    }
    assert_int_equal(mkdir(temporary, 0700), 0); /* killed before there was anything in it */
    create(snapped);
    verify(snapped);
}

static void what_is_no_snapshot_or_no_store_is_said(void **state)
{
    struct snapped *snapped = *state;
    assert_fails(snapshot_verify, settings_of(snapped, NULL), "is no snapshot");
    assert_fails(snapshot_restore, settings_of(snapped, snapped->state), "is no snapshot");
    assert_fails(snapshot_create, settings_of(snapped, "/nowhere"), "there is no store in");
    assert_int_equal(access(snapped->directory, F_OK), -1);
}

static void a_full_disk_leaves_nothing_behind(void **state)
{
    struct snapped *snapped = *state;
    put_events(snapped->fixture, 0, EVENTS);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){.rlim_cur = 6000, .rlim_max = before.rlim_max};
    for (int round = 0; round < 2; round++) {
        struct error err;
        struct snapshot_summary summary;
        struct snapshot_settings settings =
            settings_of(snapped, round == 0 ? snapped->fixture->directory : snapped->state);
        setrlimit(RLIMIT_FSIZE, &limit);
        int result = (round == 0 ? snapshot_create : snapshot_restore)(&settings, &summary, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(result, -1);
        assert_int_equal(err.kind, ERROR_RETRY);
        assert_non_null(strstr(err.message, round == 0 ? snapped->directory : snapped->state));
        char path[400];
        snprintf(path, sizeof path, "%s.tmp", snapped->directory);
        assert_int_equal(access(path, F_OK), -1);
        if (round == 0)
            create(snapped);
        else
            assert_int_equal(rmdir(snapped->state), 0); /* it is empty */
    }
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PROMISE(what_is_restored_is_the_state_and_goes_on_as_it_would),
        PROMISE(an_empty_state_has_a_snapshot_too),
        PROMISE(beside_a_writer_it_is_the_state_between_two_batches),
        PROMISE(any_byte_of_any_file_that_changes_is_found_and_the_file_named),
        PROMISE(a_file_that_is_not_its_own_is_found),
        PROMISE(a_manifest_that_says_something_else_is_found),
        PROMISE(records_that_do_not_fit_each_other_are_no_snapshot),
        PROMISE(an_edge_without_its_event_is_found_by_verifying),
        PROMISE(nothing_is_overwritten),
        PROMISE(what_a_kill_leaves_the_next_one_deletes),
        PROMISE(what_is_no_snapshot_or_no_store_is_said),
        PROMISE(a_full_disk_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
