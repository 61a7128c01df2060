#include "graph/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "graph/records.h"

static const char *const family_names[FAMILY_COUNT] = {
    [FAMILY_DEFAULT] = "default", [FAMILY_META] = "meta",     [FAMILY_IDS] = "ids",     [FAMILY_ITEMS] = "items",
    [FAMILY_USERS] = "users",     [FAMILY_EDGES] = "edges",   [FAMILY_PAIRS] = "pairs", [FAMILY_COUNTS] = "counts",
    [FAMILY_OFFSETS] = "offsets", [FAMILY_OUTBOX] = "outbox",
};

/* RocksDB says the class of a failure in the first words of its message only. */
static int fail(struct error *err, const char *doing, const char *directory, char *message)
{
    bool retry = strncmp(message, "IO error", 8) == 0 || strstr(message, "No space") != NULL;
    error_set(err, retry ? ERROR_RETRY : ERROR_FATAL, "%s the store %s: %.160s", doing, directory, message);
    rocksdb_free(message);
    return -1;
}

static rocksdb_options_t *make_options(int compression)
{
    /* Few shards: a table's filter must fit one, or it is read again for every look-up (64 shards of 1 MiB: 20 x). */
    rocksdb_lru_cache_options_t *cache_options = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(cache_options, 64 << 20);
    rocksdb_lru_cache_options_set_num_shard_bits(cache_options, 2);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(cache_options);
    rocksdb_lru_cache_options_destroy(cache_options);

    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_cache_destroy(cache);

    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_compression(options, compression);
    /* Most look-ups are for events and pairs that are new: without this filter staging takes twice as long. */
    rocksdb_options_set_memtable_whole_key_filtering(options, 1);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.1);
    rocksdb_options_set_write_buffer_size(options, 16 << 20);
    rocksdb_options_set_db_write_buffer_size(options, 64 << 20);
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

static char *open_database(struct store *store, bool read_only, int compression)
{
    char *message = NULL;
    rocksdb_options_t *options = make_options(compression);
    const rocksdb_options_t *family_options[FAMILY_COUNT];
    for (int i = 0; i < FAMILY_COUNT; i++)
        family_options[i] = options;
    if (read_only)
        store->database = rocksdb_open_for_read_only_column_families(
            options, store->directory, FAMILY_COUNT, family_names, family_options, store->families, 0, &message);
    else
        store->database = rocksdb_open_column_families(options, store->directory, FAMILY_COUNT, family_names,
                                                       family_options, store->families, &message);
    if (message != NULL)
        store->database = NULL;
    rocksdb_options_destroy(options);
    return message;
}

static void close_database(struct store *store)
{
    if (store->database == NULL)
        return;
    for (int i = 0; i < FAMILY_COUNT; i++)
        rocksdb_column_family_handle_destroy(store->families[i]);
    rocksdb_close(store->database);
    store->database = NULL;
}

static int open_or_explain(struct store *store, struct error *err)
{
    char *message = open_database(store, store->read_only, rocksdb_lz4_compression);
    if (message != NULL && strstr(message, "not linked") != NULL) { /* a RocksDB built without LZ4 */
        rocksdb_free(message);
        message = open_database(store, store->read_only, rocksdb_no_compression);
    }
    /* A worker beside us may drop a file between our reading its list of files and opening them. */
    for (int attempt = 0; message != NULL && store->read_only && attempt < 5; attempt++) {
        rocksdb_free(message);
        usleep(50000);
        message = open_database(store, store->read_only, rocksdb_lz4_compression);
    }
    if (message == NULL)
        return 0;
    if (strstr(message, "lock ") == NULL)
        return fail(err, "opening", store->directory, message);
    rocksdb_free(message);
    return error_set(err, ERROR_FATAL,
                     "the store %s is in use by another process: stop that worker, or use a command that only reads",
                     store->directory);
}

/* A family we do not know is a newer version's: RocksDB would refuse it too, but nobody would know what to do. */
static int check_families(const char *directory, struct error *err)
{
    int result = 0;
    size_t count = 0;
    char *message = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    char **names = rocksdb_list_column_families(options, directory, &count, &message);
    rocksdb_options_destroy(options);
    if (message != NULL)
        return fail(err, "reading", directory, message);
    for (size_t i = 0; i < count && result == 0; i++) {
        int known = 0;
        while (known < FAMILY_COUNT && strcmp(names[i], family_names[known]) != 0)
            known++;
        if (known == FAMILY_COUNT)
            result = error_set(err, ERROR_FATAL,
                               "the store %s has a column family \"%.40s\", which this version does not know: run the "
                               "version that wrote it, or begin a new directory",
                               directory, names[i]);
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

static int prepare_directory(const char *directory, bool read_only, struct error *err)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/CURRENT", directory); /* the one file that every RocksDB directory has */
    bool exists = access(buffer_string(&path), F_OK) == 0;
    buffer_free(&path);
    if (exists)
        return check_families(directory, err);
    if (read_only)
        return error_set(err, ERROR_FATAL, "there is no store in %s: start a worker on it first, or name another",
                         directory);
    return file_make_directories(directory, err);
}

int store_open(struct store *store, const char *directory, bool read_only, struct error *err)
{
    *store = (struct store){.read_only = read_only};
    if (prepare_directory(directory, read_only, err) != 0)
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
    free(store->directory);
    *store = (struct store){0};
}

void store_put(struct store *store, enum family family, struct text key, struct text value)
{
    rocksdb_column_family_handle_t *handle = store->families[family];
    rocksdb_writebatch_put_cf(store->batch, handle, key.data, key.size, value.data, value.size);
}

void store_delete(struct store *store, enum family family, struct text key)
{
    rocksdb_writebatch_delete_cf(store->batch, store->families[family], key.data, key.size);
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
    char *message = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned_cf(store->database, store->read, store->families[family], key.data, key.size, &message);
    if (message != NULL)
        return fail(err, "reading", store->directory, message);
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
    struct buffer bound = {0};
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_iterator_t *iterator = NULL;
    upper_bound(&bound, prefix);
    int result = buffer_check(&bound, "scanning the store", err);
    if (result != 0)
        goto out;

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
        result = fail(err, "reading", store->directory, message);
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
        rocksdb_free(open_database(store, true, rocksdb_lz4_compression));
        return -1;
    }
    store->failed = false;
    log_info("graph", "store %s opened again after a failed write", store->directory);
    return 0;
}

int store_write(struct store *store, struct error *err)
{
    char *message = NULL;
    rocksdb_write(store->database, store->write, store->batch, &message);
    if (message != NULL) {
        store->failed = true;
        return fail(err, "writing to", store->directory, message);
    }
    rocksdb_writebatch_clear(store->batch);
    return 0;
}
