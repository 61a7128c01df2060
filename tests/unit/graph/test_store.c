#include "graph/fixture.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/random.h"
#include "graph/records.h"
#include "graph/state.h"

static void put_offset(struct fixture *fixture, const char *topic, int32_t partition, int64_t next_offset)
{
    struct error err;
    check(graph_put_offset(fixture->graph, topic, partition, next_offset, &err), &err);
}

static void offsets_are_those_of_the_committed_batch(void **state)
{
    struct fixture *fixture = *state;
    put_offset(fixture, "interactions", 0, 5);
    put_offset(fixture, "interactions", 0, 7);
    put_offset(fixture, "interactions", 300, 1);
    put_offset(fixture, "items", 0, 9);
    assert_int_equal(graph_offset(fixture->graph, "interactions", 0), -1);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(graph_offset(fixture->graph, "interactions", 0), 7);
        assert_int_equal(graph_offset(fixture->graph, "interactions", 300), 1);
        assert_int_equal(graph_offset(fixture->graph, "items", 0), 9);
        assert_int_equal(graph_offset(fixture->graph, "items", 1), -1);
        fixture_reopen(fixture);
    }
}

static void an_offset_is_kept_with_the_mark_of_the_message_before_it(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    put_offset(fixture, "items", 0, 9);
    check(graph_put_marked_offset(fixture->graph, "items", 1, 5, 0x123456789abcdef0u, &err), &err);
    commit(fixture);
    /* as it was before there were marks */
    const struct text old = {"users\0\0\0\0\0", 10};
    store_put(&fixture->graph->store, FAMILY_OFFSETS, old, (struct text){"\0\0\0\0\0\0\0\7", 8});
    check(store_write(&fixture->graph->store, &err), &err);
    fixture_reopen(fixture);
    assert_int_equal(graph_offset_mark(fixture->graph, "items", 0), 0);
    assert_int_equal(graph_offset_mark(fixture->graph, "items", 1), 0x123456789abcdef0u);
    assert_int_equal(graph_offset(fixture->graph, "items", 1), 5);
    assert_int_equal(graph_offset_mark(fixture->graph, "users", 0), 0);
    assert_int_equal(graph_offset(fixture->graph, "users", 0), 7);
}

static bool count_letters(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    (void)topic, (void)partition, (void)offset, (void)letter;
    ++*(int *)context;
    return true;
}

static void a_dropped_state_begins_with_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    int letters = 0;
    for (int i = 0; i < 500; i++) {
        char user[16], item[16];
        snprintf(user, sizeof user, "u%d", i % 100);
        snprintf(item, sizeof item, "i%d", i);
        rate(fixture, user, item, 1000 + i, 5);
    }
    put_offset(fixture, "items", 0, 9);
    check(graph_put_outbox(fixture->graph, "items", 0, 8, text_of("letter"), &err), &err);
    commit(fixture);
    check(graph_save(fixture->graph, &err), &err);

    assert_int_equal(graph_drop(fixture->directory, &err), -1); /* it is open */
    graph_close(fixture->graph);
    check(graph_drop(fixture->directory, &err), &err);
    for (int round = 0; round < 2; round++) {
        fixture_open(fixture);
        struct graph_counts counts = graph_counts(fixture->graph);
        assert_int_equal(counts.events + counts.users + counts.items + counts.edges, 0);
        assert_int_equal(graph_offset(fixture->graph, "items", 0), -1);
        check(graph_each_outbox(fixture->graph, count_letters, &letters, &err), &err);
        assert_int_equal(letters, 0);
        graph_close(fixture->graph);
    }
    fixture_open(fixture);
    rate(fixture, "u1", "i1", 1000, 5); /* what was there is new now */
    commit(fixture);
    assert_int_equal(graph_counts(fixture->graph).events, 1);
    fixture_reopen(fixture);
    assert_int_equal(graph_counts(fixture->graph).edges, 1);
}

/* Keys that only differ behind their first bytes, and some that are shorter. */
static struct text some_key(size_t number, char *out, size_t size)
{
    int length = snprintf(out, size,
                          number % 3 == 0   ? "k%zu"
                          : number % 3 == 1 ? "same begin %zu"
                                            : "%zu/and more",
                          number);
    return (struct text){out, (size_t)length};
}

static void of_many_changes_of_a_key_in_a_batch_the_last_one_counts(void **state)
{
    enum { KEYS = 60, CHANGES = 3000 };
    struct fixture *fixture = *state;
    struct store *store = &fixture->graph->store;
    struct error err;
    struct random random = {7};
    int last[KEYS] = {0}; /* 0: not there */
    char key[32], value[16];
    for (int change = 1; change <= CHANGES; change++) {
        size_t number = (size_t)random_below(&random, KEYS);
        bool put = random_below(&random, 3) > 0;
        snprintf(value, sizeof value, "%d", change);
        if (put)
            store_put(store, FAMILY_USERS, some_key(number, key, sizeof key), text_of(value));
        else
            store_delete(store, FAMILY_USERS, some_key(number, key, sizeof key));
        last[number] = put ? change : 0;
        if (change % 1000 == 0)
            check(store_write(store, &err), &err);
    }
    struct buffer read = {0};
    for (size_t number = 0; number < KEYS; number++) {
        bool found;
        check(store_get(store, FAMILY_USERS, some_key(number, key, sizeof key), &read, &found, &err), &err);
        assert_int_equal(found, last[number] > 0);
        snprintf(value, sizeof value, "%d", last[number]);
        if (found)
            assert_string_equal(buffer_string(&read), value);
    }
    buffer_free(&read);
}

static bool append_letter(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    char line[128];
    snprintf(line, sizeof line, "%s/%d/%lld=" TEXT_FORMAT ";", topic, (int)partition, (long long)offset,
             TEXT_ARGS(letter));
    strcat(context, line);
    return strlen(context) < 40;
}

static void dead_letters_wait_in_the_outbox_in_key_order(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    char seen[256] = "";
    check(graph_put_outbox(fixture->graph, "items", 0, 300, text_of("c"), &err), &err);
    check(graph_put_outbox(fixture->graph, "items", 0, 3, text_of("b"), &err), &err);
    check(graph_put_outbox(fixture->graph, "item", 7, 4, text_of("a"), &err), &err);
    check(graph_each_outbox(fixture->graph, append_letter, seen, &err), &err);
    assert_string_equal(seen, ""); /* not committed */
    commit(fixture);
    fixture_reopen(fixture);
    check(graph_each_outbox(fixture->graph, append_letter, seen, &err), &err);
    assert_string_equal(seen, "item/7/4=a;items/0/3=b;items/0/300=c;");

    check(graph_delete_outbox(fixture->graph, "items", 0, 3, &err), &err);
    assert_int_equal(graph_staged(fixture->graph), 1);
    commit(fixture);
    seen[0] = '\0';
    check(graph_each_outbox(fixture->graph, append_letter, seen, &err), &err);
    assert_string_equal(seen, "item/7/4=a;items/0/300=c;");
}

static bool stop_at_once(void *context, const char *topic, int32_t partition, int64_t offset, struct text letter)
{
    (void)topic;
    (void)partition;
    (void)offset;
    (void)letter;
    ++*(int *)context;
    return false;
}

static void a_visit_of_the_outbox_can_stop(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    int visits = 0;
    check(graph_put_outbox(fixture->graph, "items", 0, 1, text_of(""), &err), &err);
    check(graph_put_outbox(fixture->graph, "items", 0, 2, text_of(""), &err), &err);
    commit(fixture);
    check(graph_each_outbox(fixture->graph, stop_at_once, &visits, &err), &err);
    assert_int_equal(visits, 1);
}

static void a_store_in_use_is_refused_with_what_to_do(void **state)
{
    struct fixture *fixture = *state;
    struct graph *other = NULL;
    struct error err;
    assert_int_equal(graph_open(&other, &fixture->settings, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, fixture->directory));
    assert_non_null(strstr(err.message, "stop that worker"));
    rate(fixture, "ann", "alien", 10, 5.0); /* the first one is unharmed */
    commit(fixture);
}

static void a_reader_beside_the_writer_sees_the_state_of_its_open(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "ann", "alien", 10, 5.0);
    commit(fixture);
    struct graph_settings settings = fixture->settings;
    settings.read_only = true;
    struct graph *reader;
    struct error err;
    check(graph_open(&reader, &settings, &err), &err);
    rate(fixture, "ann", "brazil", 20, 2.0);
    commit(fixture);
    uint32_t ann = graph_find_user(reader, text_of("ann"));
    struct edge history[4];
    assert_int_equal(graph_history(reader, ann, 100, 4, history), 1);
    assert_int_equal(graph_counts(reader).events, 1);
    assert_int_equal(graph_find_item(reader, text_of("brazil")), GRAPH_NONE);

    struct interaction interaction = interaction_of("bob", "alien", 1, INTERACTION_LIKE, 0.0);
    assert_int_equal(graph_put_interaction(reader, &interaction, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_int_equal(graph_put_offset(reader, "items", 0, 1, &err), -1);
    graph_close(reader);
    check(graph_open(&reader, &settings, &err), &err);
    assert_int_equal(graph_counts(reader).events, 2);
    graph_close(reader);
}

static void reading_a_store_that_is_not_there_says_so_and_creates_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct graph_settings settings = fixture->settings;
    char directory[300];
    snprintf(directory, sizeof directory, "%s/missing", fixture->directory);
    settings.directory = directory;
    settings.read_only = true;
    struct graph *graph = NULL;
    struct error err;
    assert_int_equal(graph_open(&graph, &settings, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, directory));
    assert_int_equal(access(directory, F_OK), -1);

    settings.read_only = false;
    check(graph_open(&graph, &settings, &err), &err);
    graph_close(graph);
}

/* Writes one key of `meta` behind the graph's back. */
static void write_format(struct fixture *fixture, uint32_t format)
{
    struct store store;
    struct error err;
    uint8_t value[4];
    bytes_put_32(value, format);
    check(store_open(&store, fixture->directory, false, &err), &err);
    store_put(&store, FAMILY_META, text_of("format"), (struct text){(const char *)value, sizeof value});
    check(store_write(&store, &err), &err);
    store_close(&store);
}

static void a_newer_format_is_refused_with_what_to_do(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    graph_close(fixture->graph);
    fixture->graph = NULL;
    write_format(fixture, RECORD_FORMAT + 1);
    assert_int_equal(graph_open(&fixture->graph, &fixture->settings, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "format 2"));
    assert_non_null(strstr(err.message, "run the version that wrote it"));
    fixture->settings.read_only = true;
    assert_int_equal(graph_open(&fixture->graph, &fixture->settings, &err), -1);
}

/* The store as RocksDB sees it, with all families; `database` is closed by close_raw(). */
struct raw {
    rocksdb_t *database;
    rocksdb_options_t *options;
    char **names;
    rocksdb_column_family_handle_t *families[FAMILY_COUNT];
    size_t count;
};

static struct raw open_raw(const char *directory)
{
    char *message = NULL;
    struct raw raw = {.options = rocksdb_options_create()};
    rocksdb_options_set_prefix_extractor(raw.options, rocksdb_slicetransform_create_fixed_prefix(EVENT_PREFIX_SIZE));
    raw.names = rocksdb_list_column_families(raw.options, directory, &raw.count, &message);
    assert_null(message);
    assert_int_equal(raw.count, FAMILY_COUNT);
    const rocksdb_options_t *all[FAMILY_COUNT];
    for (size_t i = 0; i < raw.count; i++)
        all[i] = raw.options;
    raw.database = rocksdb_open_column_families(raw.options, directory, FAMILY_COUNT, (const char *const *)raw.names,
                                                all, raw.families, &message);
    assert_null(message);
    return raw;
}

static void close_raw(struct raw *raw)
{
    for (size_t i = 0; i < raw->count; i++)
        rocksdb_column_family_handle_destroy(raw->families[i]);
    rocksdb_list_column_families_destroy(raw->names, raw->count);
    rocksdb_close(raw->database);
    rocksdb_options_destroy(raw->options);
}

static void an_unknown_column_family_is_refused_with_what_to_do(void **state)
{
    struct fixture *fixture = *state;
    graph_close(fixture->graph);
    fixture->graph = NULL;
    char *message = NULL;
    struct raw raw = open_raw(fixture->directory);
    rocksdb_column_family_handle_t *added = rocksdb_create_column_family(raw.database, raw.options, "shards", &message);
    assert_null(message);
    rocksdb_column_family_handle_destroy(added);
    close_raw(&raw);

    struct error err;
    assert_int_equal(graph_open(&fixture->graph, &fixture->settings, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    assert_non_null(strstr(err.message, "shards"));
}

static void a_store_of_before_a_family_is_read_and_gets_it_when_written(void **state)
{
    struct fixture *fixture = *state;
    rate(fixture, "u", "i", 1000, 5);
    commit(fixture);
    graph_close(fixture->graph);
    fixture->graph = NULL;
    struct raw raw = open_raw(fixture->directory);
    for (size_t i = 0; i < raw.count; i++) {
        char *message = NULL;
        if (strcmp(raw.names[i], "vectors") == 0)
            rocksdb_drop_column_family(raw.database, raw.families[i], &message);
        assert_null(message);
    }
    close_raw(&raw);

    for (int round = 0; round < 2; round++) {
        fixture->settings.read_only = round == 0;
        fixture_reopen(fixture);
        assert_int_equal(graph_counts(fixture->graph).edges, 1);
    }
    raw = (struct raw){0};
    graph_close(fixture->graph);
    fixture->graph = NULL;
    raw = open_raw(fixture->directory); /* finds them all */
    close_raw(&raw);
}

static int count_key(void *context, struct text key, struct text value, struct error *err)
{
    (void)key, (void)value, (void)err;
    ++*(size_t *)context;
    return SCAN_GO_ON;
}

static void memory_stays_within_its_limit(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 8 << 20, KEYS = 400000, ALLOWANCE = 1 << 20 };
    char path[300];
    snprintf(path, sizeof path, "%s/within", fixture->directory);
    struct store store;
    struct error err;
    check(store_open_within(&store, path, false, LIMIT, &err), &err);
    char value[100] = "";
    uint64_t most = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        uint8_t key[8];
        pair_key(key, i * 2654435761u, i);
        memcpy(value, key, sizeof key); /* nothing that compresses to nothing */
        store_put(&store, FAMILY_PAIRS, (struct text){(const char *)key, sizeof key},
                  (struct text){value, sizeof value});
        if (i % 1000 != 999)
            continue;
        check(store_write(&store, &err), &err);
        uint64_t buffers = store_memory(&store).buffers;
        most = buffers > most ? buffers : most;
    }
    check(store_flush(&store, &err), &err);
    size_t keys = 0;
    check(store_scan(&store, FAMILY_PAIRS, text_of(""), text_of(""), count_key, &keys, &err), &err);
    assert_int_equal(keys, KEYS);
    struct store_memory memory = store_memory(&store);
    assert_true(store_size(&store, FAMILY_PAIRS).bytes > LIMIT); /* or this would prove nothing */
    assert_true(memory.cache > 0 && memory.cache <= LIMIT / 2 + ALLOWANCE);
    /* One buffer fills while the others are being written. */
    assert_in_range(most, 1, LIMIT + ALLOWANCE);
    store_close(&store);
}

static void settings_out_of_range_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct graph *graph = NULL;
    struct error err;
    struct graph_settings layers = fixture->settings, dimension = fixture->settings;
    layers.layers = 5;
    dimension.dimension = 24;
    assert_int_equal(graph_open(&graph, &layers, &err), -1);
    assert_non_null(strstr(err.message, "5 layers"));
    assert_int_equal(graph_open(&graph, &dimension, &err), -1);
    assert_non_null(strstr(err.message, "24"));
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A file size limit stands for the full disk: writing to the log fails the same way. */
static void a_full_disk_keeps_the_batch_and_a_later_commit_writes_it(void **state)
{
    struct fixture *fixture = *state;
    struct error err;
    rate(fixture, "ann", "alien", 10, 5.0);
    put_offset(fixture, "interactions", 0, 1);
    commit(fixture);
    rate(fixture, "bob", "brazil", 20, 2.0);
    put_offset(fixture, "interactions", 0, 2);

    signal(SIGXFSZ, SIG_IGN);
    limit_files(16);
    for (int attempt = 0; attempt < 3; attempt++) {
        assert_int_equal(graph_commit(fixture->graph, &err), -1);
        assert_int_equal(err.kind, ERROR_RETRY);
        assert_int_equal(graph_staged(fixture->graph), 2);
        assert_int_equal(graph_counts(fixture->graph).events, 1);
        assert_int_equal(graph_offset(fixture->graph, "interactions", 0), 1);
        struct interaction more = interaction_of("cid", "crash", 1, INTERACTION_LIKE, 0.0);
        assert_int_equal(graph_put_interaction(fixture->graph, &more, &err), -1);
        assert_int_equal(err.kind, ERROR_RETRY);
        struct edge history[2]; /* reading goes on */
        assert_int_equal(graph_history(fixture->graph, user_number(fixture, "ann"), 100, 2, history), 1);
    }
    limit_files(RLIM_INFINITY);
    commit(fixture);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(graph_counts(fixture->graph).events, 2);
        assert_int_equal(graph_counts(fixture->graph).edges, 2);
        assert_int_equal(graph_offset(fixture->graph, "interactions", 0), 2);
        fixture_reopen(fixture);
    }
}

/* Commits batches until it is killed; each has as many events as its offset says. A byte on `ready` after 500. */
static int write_until_killed(const char *directory, int ready)
{
    struct fixture fixture = {.settings = {.directory = directory, .layers = 1, .dimension = 16}};
    fixture_open(&fixture);
    for (int64_t n = 0;; n++) {
        char item[32];
        snprintf(item, sizeof item, "item %lld", (long long)n / 3);
        rate(&fixture, n % 2 ? "ann" : "bob", item, n, 5.0);
        put_offset(&fixture, "interactions", 0, n + 1);
        if (n % 5 == 4)
            commit(&fixture);
        if (n == 500 && write(ready, "", 1) != 1)
            return 1;
    }
}

static void after_kill_9_events_and_offset_are_of_one_batch(void **state)
{
#if defined(HEADRACE_EMULATED)
    print_message("SKIP: a program under qemu-user cannot start itself\n");
    skip();
#endif
    struct fixture *fixture = *state;
    graph_close(fixture->graph);
    fixture->graph = NULL;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    char descriptor[16];
    snprintf(descriptor, sizeof descriptor, "%d", ready[1]);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* a program of its own: RocksDB's threads do not survive a fork */
        execl("/proc/self/exe", "test_graph_store", fixture->directory, descriptor, (char *)NULL);
        _exit(1);
    }
    close(ready[1]);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ready[0]);
    fixture_open(fixture);
    int64_t offset = graph_offset(fixture->graph, "interactions", 0);
    assert_true(offset >= 500 && offset % 5 == 0);
    assert_int_equal(graph_counts(fixture->graph).events, offset);
    assert_int_equal(graph_counts(fixture->graph).newest_event_ms, offset - 1);
}

struct watch {
    struct graph *graph;
    volatile bool stop;
    size_t torn;
};

/* Batches of two events of one user: a reader must never see an odd number, nor history that differs from the edges. */
static void *watch_batches(void *context)
{
    struct watch *watch = context;
    struct edge history[512];
    while (!__atomic_load_n(&watch->stop, __ATOMIC_ACQUIRE)) {
        graph_read_lock(watch->graph);
        uint32_t user = graph_find_user(watch->graph, text_of("ann"));
        size_t count = 0;
        if (user != GRAPH_NONE)
            graph_user_edges(watch->graph, user, &count);
        size_t stored = graph_history(watch->graph, user, INT64_MAX, 512, history);
        watch->torn += count % 2 != 0 || stored != count || graph_counts(watch->graph).events != count;
        graph_read_unlock(watch->graph);
    }
    return NULL;
}

static void readers_see_all_of_a_batch_or_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct watch watch = {.graph = fixture->graph};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, watch_batches, &watch), 0);
    for (int n = 0; n < 200; n++) {
        char item[32];
        snprintf(item, sizeof item, "item %d", n);
        rate(fixture, "ann", item, n, 5.0);
        if (n % 2 == 1)
            commit(fixture);
    }
    __atomic_store_n(&watch.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(watch.torn, 0);
    assert_int_equal(graph_counts(fixture->graph).edges, 200);
}

int main(int count, char **arguments)
{
    if (count == 3)
        return write_until_killed(arguments[1], atoi(arguments[2]));
#define PROMISE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        PROMISE(offsets_are_those_of_the_committed_batch),
        PROMISE(an_offset_is_kept_with_the_mark_of_the_message_before_it),
        PROMISE(a_dropped_state_begins_with_nothing),
        PROMISE(of_many_changes_of_a_key_in_a_batch_the_last_one_counts),
        PROMISE(dead_letters_wait_in_the_outbox_in_key_order),
        PROMISE(a_visit_of_the_outbox_can_stop),
        PROMISE(a_store_in_use_is_refused_with_what_to_do),
        PROMISE(a_reader_beside_the_writer_sees_the_state_of_its_open),
        PROMISE(reading_a_store_that_is_not_there_says_so_and_creates_nothing),
        PROMISE(a_newer_format_is_refused_with_what_to_do),
        PROMISE(an_unknown_column_family_is_refused_with_what_to_do),
        PROMISE(a_store_of_before_a_family_is_read_and_gets_it_when_written),
        PROMISE(memory_stays_within_its_limit),
        PROMISE(settings_out_of_range_are_refused),
        PROMISE(a_full_disk_keeps_the_batch_and_a_later_commit_writes_it),
        PROMISE(after_kill_9_events_and_offset_are_of_one_batch),
        PROMISE(readers_see_all_of_a_batch_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
