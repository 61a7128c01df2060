#include "graph/store.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "graph/records.h"

static const char *const family_names[FAMILY_COUNT] = {
    [FAMILY_DEFAULT] = "default", [FAMILY_META] = "meta",     [FAMILY_IDS] = "ids",         [FAMILY_ITEMS] = "items",
    [FAMILY_USERS] = "users",     [FAMILY_EDGES] = "edges",   [FAMILY_PAIRS] = "pairs",     [FAMILY_COUNTS] = "counts",
    [FAMILY_OFFSETS] = "offsets", [FAMILY_OUTBOX] = "outbox", [FAMILY_VECTORS] = "vectors",
};

/* RocksDB says the class of a failure in the first words of its message only. */
int store_fail(struct error *err, const char *doing, const char *directory, char *message)
{
    bool retry = strncmp(message, "IO error", 8) == 0 || strstr(message, "No space") != NULL;
    error_set(err, retry ? ERROR_RETRY : ERROR_FATAL, "%s the store %s: %.300s", doing, directory, message);
    rocksdb_free(message);
    return -1;
}

/*
 * One cache for all families. Few shards: a table's filter must fit one, or it is read again for every look-up (64
 * shards of 1 MiB: 20 x).
 */
static rocksdb_cache_t *make_cache(size_t capacity)
{
    int shard_bits = capacity >= (size_t)64 << 20 ? 2 : capacity >= (size_t)32 << 20 ? 1 : 0;
    rocksdb_lru_cache_options_t *options = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(options, capacity);
    rocksdb_lru_cache_options_set_num_shard_bits(options, shard_bits);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(options);
    rocksdb_lru_cache_options_destroy(options);
    return cache;
}

static void set_tables(rocksdb_options_t *options, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static rocksdb_options_t *make_options(enum family family, rocksdb_cache_t *cache, size_t buffers, int compression)
{
    rocksdb_options_t *options = rocksdb_options_create();
    set_tables(options, cache);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_compression(options, compression);
    /* Most look-ups are for events and pairs that are new: without this filter staging takes twice as long. */
    rocksdb_options_set_memtable_whole_key_filtering(options, 1);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.1);
    /* A history is looked for in tables that have something of the user only: 10 to 15 % less for each of 500,000. */
    if (family == FAMILY_EDGES)
        rocksdb_options_set_prefix_extractor(options, rocksdb_slicetransform_create_fixed_prefix(EVENT_PREFIX_SIZE));
    rocksdb_options_set_write_buffer_size(options, buffers / 4);
    rocksdb_options_set_db_write_buffer_size(options, buffers);
    /* Without a limit a quiet family holds back gigabytes of log, all of it read again at the next open. */
    rocksdb_options_set_max_total_wal_size(options, 128 << 20);
    /*
     * RocksDB's own LOG stays empty (5: headers only, its highest level): on a full disk the second line that cannot be
     * written trips an assertion of Debian's library, also while closing. What matters comes back as an error.
     */
    rocksdb_options_set_info_log_level(options, 5);
    rocksdb_options_set_keep_log_file_num(options, 1);
    return options;
}

rocksdb_options_t *store_table_options(const struct store *store, enum family family)
{
    rocksdb_cache_t *none = make_cache(1 << 20);
    rocksdb_options_t *options = make_options(family, none, store->memory / 2, store->compression);
    rocksdb_cache_destroy(none);
    return options;
}

/* The families that are there, or all of them. */
static char *open_database(struct store *store, bool read_only, int compression)
{
    char *message = NULL;
    store->compression = compression;
    rocksdb_cache_t *cache = make_cache(store->memory / 2);
    const char *names[FAMILY_COUNT];
    rocksdb_options_t *options[FAMILY_COUNT];
    rocksdb_column_family_handle_t *handles[FAMILY_COUNT];
    int count = 0;
    for (int i = 0; i < FAMILY_COUNT; i++) {
        if (read_only && !store->present[i])
            continue;
        names[count] = family_names[i];
        options[count++] = make_options((enum family)i, cache, store->memory / 2, compression);
    }
    const rocksdb_options_t *const *family_options = (const rocksdb_options_t *const *)options;
    if (read_only)
        store->database = rocksdb_open_for_read_only_column_families(options[0], store->directory, count, names,
                                                                     family_options, handles, 0, &message);
    else
        store->database =
            rocksdb_open_column_families(options[0], store->directory, count, names, family_options, handles, &message);
    if (message != NULL)
        store->database = NULL;
    for (int i = 0, at = 0; i < FAMILY_COUNT; i++)
        store->families[i] = message != NULL || (read_only && !store->present[i]) ? NULL : handles[at++];
    while (count > 0)
        rocksdb_options_destroy(options[--count]);
    rocksdb_cache_destroy(cache);
    return message;
}

static void close_database(struct store *store)
{
    if (store->database == NULL)
        return;
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (store->families[i] != NULL)
            rocksdb_column_family_handle_destroy(store->families[i]);
    rocksdb_close(store->database);
    store->database = NULL;
}

/* Logs in the directory with numbers up to `limit`; `newest`: the largest of these. */
static size_t count_logs(const char *directory, uint64_t limit, uint64_t *newest)
{
    size_t count = 0;
    *newest = 0;
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (end == entry->d_name || strcmp(end, ".log") != 0 || number > limit)
            continue;
        count++;
        *newest = number > *newest ? number : *newest;
    }
    closedir(entries);
    return count;
}

/*
 * A worker beside us may drop a file between our reading the list of tables and opening the files. A table would be
 * missed by RocksDB, but a log would not: what was in it is in a table that our list does not have.
 */
static char *open_for_reading(struct store *store, int compression)
{
    char *message = NULL;
    for (int attempt = 0; attempt < 10; attempt++) {
        rocksdb_free(message);
        if (attempt > 0)
            usleep(50000);
        uint64_t newest, ignored;
        size_t logs = count_logs(store->directory, UINT64_MAX, &newest);
        message = open_database(store, true, compression);
        if (message != NULL)
            continue;
        if (count_logs(store->directory, newest, &ignored) == logs)
            return NULL;
        close_database(store);
        message = strdup("IO error: the worker beside us drops its logs faster than we can read them");
    }
    return message;
}

static char *try_to_open(struct store *store, int compression)
{
    return store->read_only ? open_for_reading(store, compression) : open_database(store, false, compression);
}

static int open_or_explain(struct store *store, struct error *err)
{
    char *message = try_to_open(store, rocksdb_lz4_compression);
    if (message != NULL && strstr(message, "not linked") != NULL) { /* a RocksDB built without LZ4 */
        rocksdb_free(message);
        message = try_to_open(store, rocksdb_no_compression);
    }
    if (message == NULL)
        return 0;
    if (strstr(message, "lock ") == NULL)
        return store_fail(err, "opening", store->directory, message);
    rocksdb_free(message);
    return error_set(err, ERROR_FATAL,
                     "the store %s is in use by another process: stop that worker, or use a command that only reads",
                     store->directory);
}

/* A family we do not know is a newer version's: RocksDB would refuse it too, but nobody would know what to do. */
static int check_families(struct store *store, const char *directory, struct error *err)
{
    int result = 0;
    size_t count = 0;
    char *message = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    char **names = rocksdb_list_column_families(options, directory, &count, &message);
    rocksdb_options_destroy(options);
    if (message != NULL)
        return store_fail(err, "reading", directory, message);
    for (size_t i = 0; i < count && result == 0; i++) {
        int known = 0;
        while (known < FAMILY_COUNT && strcmp(names[i], family_names[known]) != 0)
            known++;
        if (known == FAMILY_COUNT)
            result = error_set(err, ERROR_FATAL,
                               "the store %s has a column family \"%.40s\", which this version does not know: run the "
                               "version that wrote it, or begin a new directory",
                               directory, names[i]);
        else
            store->present[known] = true;
    }
    rocksdb_list_column_families_destroy(names, count);
    return result;
}

static int check_format(struct store *store, struct error *err)
{
    static const struct text key = {"format", 6};
    struct buffer value = {0};
    bool found;
    uint8_t format[4];
    int result = store_get(store, FAMILY_META, key, &value, &found, err);
    if (result != 0)
        goto out;
    if (!found && store->read_only) {
        result = error_set(err, ERROR_FATAL, "%s holds no graph: start a worker on it first", store->directory);
    } else if (!found) {
        bytes_put_32(format, RECORD_FORMAT);
        store_put(store, FAMILY_META, key, (struct text){(const char *)format, sizeof format});
        result = store_write(store, err);
    } else if (value.size != sizeof format) {
        result = error_set(err, ERROR_FATAL, "the store %s is damaged: no format version in it", store->directory);
    } else if (bytes_get_32(value.data) != RECORD_FORMAT) {
        result = error_set(err, ERROR_FATAL,
                           "the store %s has format %u, this version reads %d: run the version that wrote it, or begin "
                           "a new directory",
                           store->directory, bytes_get_32(value.data), RECORD_FORMAT);
    }
out:
    buffer_free(&value);
    return result;
}

static int prepare_directory(struct store *store, const char *directory, struct error *err)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/CURRENT", directory); /* the one file that every RocksDB directory has */
    bool exists = access(buffer_string(&path), F_OK) == 0;
    buffer_free(&path);
    if (exists)
        return check_families(store, directory, err);
    if (store->read_only)
        return error_set(err, ERROR_FATAL, "there is no store in %s: start a worker on it first, or name another",
                         directory);
    return file_make_directories(directory, err);
}

int store_open(struct store *store, const char *directory, bool read_only, struct error *err)
{
    return store_open_within(store, directory, read_only, 0, err);
}

int store_open_within(struct store *store, const char *directory, bool read_only, size_t memory, struct error *err)
{
    *store = (struct store){.read_only = read_only, .memory = memory == 0 ? STORE_MEMORY : memory};
    if (prepare_directory(store, directory, err) != 0)
        goto fail;
    store->directory = strdup(directory);
    store->batch = rocksdb_writebatch_create();
    store->write = rocksdb_writeoptions_create();
    store->read = rocksdb_readoptions_create();
    if (store->directory == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while opening the store %s", directory);
        goto fail;
    }
    if (open_or_explain(store, err) != 0 || check_format(store, err) != 0)
        goto fail;
    return 0;
fail:
    err->kind = ERROR_FATAL;
    store_close(store);
    return -1;
}

void store_close(struct store *store)
{
    close_database(store);
    if (store->batch != NULL)
        rocksdb_writebatch_destroy(store->batch);
    if (store->write != NULL)
        rocksdb_writeoptions_destroy(store->write);
    if (store->read != NULL)
        rocksdb_readoptions_destroy(store->read);
    store_forget_changes(store);
    free(store->directory);
    *store = (struct store){0};
}

static int refuse_closed(const struct store *store, struct error *err)
{
    return error_set(err, ERROR_RETRY, "the store %s could not be opened again yet", store->directory);
}

int store_get(struct store *store, enum family family, struct text key, struct buffer *value, bool *found,
              struct error *err)
{
    if (store->database == NULL)
        return refuse_closed(store, err);
    *found = false;
    if (store->families[family] == NULL)
        return 0;
    char *message = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned_cf(store->database, store->read, store->families[family], key.data, key.size, &message);
    if (message != NULL)
        return store_fail(err, "reading", store->directory, message);
    *found = slice != NULL;
    buffer_clear(value);
    if (slice == NULL)
        return 0;
    size_t size;
    const char *bytes = rocksdb_pinnableslice_value(slice, &size);
    buffer_append(value, bytes, size);
    rocksdb_pinnableslice_destroy(slice);
    return buffer_check(value, "reading the store", err);
}

static bool has_prefix(struct text key, struct text prefix)
{
    return key.size >= prefix.size && memcmp(key.data, prefix.data, prefix.size) == 0;
}

static int visit_all(rocksdb_iterator_t *iterator, void (*step)(rocksdb_iterator_t *iterator), struct text prefix,
                     store_visit *visit, void *context, struct error *err)
{
    for (; rocksdb_iter_valid(iterator); step(iterator)) {
        struct text key, value;
        key.data = rocksdb_iter_key(iterator, &key.size);
        value.data = rocksdb_iter_value(iterator, &value.size);
        if (!has_prefix(key, prefix))
            return SCAN_STOP;
        int result = visit(context, key, value, err);
        if (result != SCAN_GO_ON)
            return result;
    }
    return SCAN_GO_ON;
}

/* The least key above all that begin with `prefix`; empty: there is none. Lets RocksDB stop without reading past it. */
static void upper_bound(struct buffer *bound, struct text prefix)
{
    buffer_append_text(bound, prefix);
    while (bound->size > 0 && bound->data[bound->size - 1] == 0xff)
        bound->size--;
    if (bound->size > 0)
        bound->data[bound->size - 1]++;
}

/* `start` NULL: backwards, from the last. */
static int scan(struct store *store, enum family family, struct text prefix, const struct text *start,
                store_visit *visit, void *context, struct error *err)
{
    if (store->database == NULL)
        return refuse_closed(store, err);
    if (store->families[family] == NULL)
        return 0;
    struct buffer bound = {0};
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_iterator_t *iterator = NULL;
    upper_bound(&bound, prefix);
    int result = buffer_check(&bound, "scanning the store", err);
    if (result != 0)
        goto out;

    /* The filter of prefixes serves scans forward of one user. */
    rocksdb_readoptions_set_total_order_seek(options, start == NULL || prefix.size < EVENT_PREFIX_SIZE);
    if (bound.size > 0)
        rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)bound.data, bound.size);
    iterator = rocksdb_create_iterator_cf(store->database, options, store->families[family]);
    if (start != NULL)
        rocksdb_iter_seek(iterator, start->data, start->size);
    else
        rocksdb_iter_seek_to_last(iterator); /* of those below the bound */
    result = visit_all(iterator, start != NULL ? rocksdb_iter_next : rocksdb_iter_prev, prefix, visit, context, err);
    if (result == SCAN_STOP)
        result = 0;
    char *message = NULL;
    rocksdb_iter_get_error(iterator, &message);
    if (message != NULL)
        result = store_fail(err, "reading", store->directory, message);
out:
    if (iterator != NULL)
        rocksdb_iter_destroy(iterator);
    rocksdb_readoptions_destroy(options);
    buffer_free(&bound);
    return result;
}

int store_scan(struct store *store, enum family family, struct text prefix, struct text start, store_visit *visit,
               void *context, struct error *err)
{
    return scan(store, family, prefix, &start, visit, context, err);
}

int store_scan_back(struct store *store, enum family family, struct text prefix, store_visit *visit, void *context,
                    struct error *err)
{
    return scan(store, family, prefix, NULL, visit, context, err);
}

int store_reopen(struct store *store, struct error *err)
{
    close_database(store);
    if (open_or_explain(store, err) != 0) {
        err->kind = ERROR_RETRY;
        for (int i = 0; i < FAMILY_COUNT; i++)
            store->present[i] = true;
        rocksdb_free(open_database(store, true, rocksdb_lz4_compression));
        return -1;
    }
    store->failed = false;
    log_info("graph", "store %s opened again after a failed write", store->directory);
    return 0;
}

uint64_t store_sequence(const struct store *store)
{
    return store->database == NULL ? 0 : rocksdb_get_latest_sequence_number(store->database);
}

int store_identity(const struct store *store, struct buffer *identity, struct error *err)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/IDENTITY", store->directory);
    int result = file_read(buffer_string(&path), 4096, identity, err);
    buffer_free(&path);
    return result;
}

int store_flush(struct store *store, struct error *err)
{
    if (store->database == NULL)
        return refuse_closed(store, err);
    char *message = NULL;
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    for (int i = 0; i < FAMILY_COUNT && message == NULL; i++)
        rocksdb_flush_cf(store->database, options, store->families[i], &message);
    rocksdb_flushoptions_destroy(options);
    return message == NULL ? 0 : store_fail(err, "flushing", store->directory, message);
}

static uint64_t property(const struct store *store, enum family family, const char *name)
{
    uint64_t value = 0;
    if (store->database == NULL || store->families[family] == NULL ||
        rocksdb_property_int_cf(store->database, store->families[family], name, &value) != 0)
        return 0;
    return value;
}

/* RocksDB tells it in a report for people only: "Cumulative stall: 00:00:1.500 H:M:S, 0.0 percent". */
static double stalled_seconds(const struct store *store)
{
    static const char words[] = "Cumulative stall: ";
    int hours, minutes;
    double seconds, sum = 0;
    char *report = store->database != NULL ? rocksdb_property_value(store->database, "rocksdb.dbstats") : NULL;
    const char *at = report != NULL ? strstr(report, words) : NULL;
    if (at != NULL && sscanf(at + sizeof words - 1, "%d:%d:%lf", &hours, &minutes, &seconds) == 3)
        sum = hours * 3600.0 + minutes * 60.0 + seconds;
    rocksdb_free(report);
    return sum;
}

struct store_memory store_memory(const struct store *store)
{
    struct store_memory memory = {
        .cache = property(store, FAMILY_EDGES, "rocksdb.block-cache-usage"),
        .pinned = property(store, FAMILY_EDGES, "rocksdb.block-cache-pinned-usage"),
        .write_rate = property(store, FAMILY_EDGES, "rocksdb.actual-delayed-write-rate"),
        .stopped = property(store, FAMILY_EDGES, "rocksdb.is-write-stopped") != 0,
        .stalled_seconds = stalled_seconds(store),
    };
    for (int i = 0; i < FAMILY_COUNT; i++) {
        memory.buffers += property(store, (enum family)i, "rocksdb.cur-size-all-mem-tables");
        memory.readers += property(store, (enum family)i, "rocksdb.estimate-table-readers-mem");
        memory.pending += property(store, (enum family)i, "rocksdb.estimate-pending-compaction-bytes");
    }
    return memory;
}

const char *store_family_name(enum family family)
{
    return family_names[family];
}

struct store_size store_size(const struct store *store, enum family family)
{
    return (struct store_size){
        .name = family_names[family],
        .bytes = property(store, family, "rocksdb.live-sst-files-size"),
        .keys = property(store, family, "rocksdb.estimate-num-keys"),
    };
}

int store_write(struct store *store, struct error *err)
{
    if (store_hand_over(store, err) != 0)
        return -1;
    char *message = NULL;
    rocksdb_write(store->database, store->write, store->batch, &message);
    if (message != NULL) {
        store->failed = true;
        return store_fail(err, "writing to", store->directory, message);
    }
    rocksdb_writebatch_clear(store->batch);
    return 0;
}
