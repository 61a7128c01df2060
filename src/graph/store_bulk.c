#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "graph/store.h"

static const uint64_t file_size_most = 64 << 20;

static void name_file(const struct store_bulk *bulk, size_t file, struct buffer *path)
{
    buffer_clear(path);
    buffer_printf(path, "%s/bulk-%zu.sst", bulk->store->directory, file);
}

void store_bulk_begin(struct store_bulk *bulk, struct store *store, enum family family)
{
    *bulk = (struct store_bulk){
        .store = store,
        .family = family,
        .options = store_table_options(store, family),
        .environment = rocksdb_envoptions_create(),
    };
}

static int finish_file(struct store_bulk *bulk, struct error *err)
{
    char *message = NULL;
    rocksdb_sstfilewriter_finish(bulk->writer, &message);
    rocksdb_sstfilewriter_destroy(bulk->writer);
    bulk->writer = NULL;
    return message == NULL ? 0 : store_fail(err, "writing to", bulk->store->directory, message);
}

static int begin_file(struct store_bulk *bulk, struct error *err)
{
    struct buffer path = {0};
    char *message = NULL;
    name_file(bulk, bulk->files, &path);
    int result = buffer_check(&path, "naming a file of the store", err);
    if (result == 0) {
        bulk->writer = rocksdb_sstfilewriter_create(bulk->environment, bulk->options);
        bulk->files++;
        rocksdb_sstfilewriter_open(bulk->writer, buffer_string(&path), &message);
        if (message != NULL)
            result = store_fail(err, "writing to", bulk->store->directory, message);
    }
    buffer_free(&path);
    return result;
}

int store_bulk_put(struct store_bulk *bulk, struct text key, struct text value, struct error *err)
{
    char *message = NULL;
    if (bulk->writer == NULL && begin_file(bulk, err) != 0)
        return -1;
    rocksdb_sstfilewriter_put(bulk->writer, key.data, key.size, value.data, value.size, &message);
    if (message != NULL)
        return store_fail(err, "writing to", bulk->store->directory, message);
    uint64_t size;
    rocksdb_sstfilewriter_file_size(bulk->writer, &size);
    return size < file_size_most ? 0 : finish_file(bulk, err);
}

static int take_in(struct store_bulk *bulk, const char *const *paths, struct error *err)
{
    char *message = NULL;
    rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
    rocksdb_ingest_external_file_cf(bulk->store->database, bulk->store->families[bulk->family], paths, bulk->files,
                                    options, &message);
    rocksdb_ingestexternalfileoptions_destroy(options);
    return message == NULL ? 0 : store_fail(err, "writing to", bulk->store->directory, message);
}

static int take_in_all(struct store_bulk *bulk, struct error *err)
{
    struct buffer *paths = calloc(bulk->files, sizeof *paths);
    const char **names = calloc(bulk->files, sizeof *names);
    int result = paths == NULL || names == NULL ? error_set(err, ERROR_FATAL, "out of memory for a bulk load") : 0;
    for (size_t i = 0; i < bulk->files && result == 0; i++) {
        name_file(bulk, i, &paths[i]);
        names[i] = buffer_string(&paths[i]);
        result = buffer_check(&paths[i], "naming a file of the store", err);
    }
    if (result == 0)
        result = take_in(bulk, names, err);
    for (size_t i = 0; i < bulk->files && paths != NULL; i++)
        buffer_free(&paths[i]);
    free(paths);
    free(names);
    return result;
}

int store_bulk_end(struct store_bulk *bulk, struct error *err)
{
    if ((bulk->writer != NULL && finish_file(bulk, err) != 0) || (bulk->files > 0 && take_in_all(bulk, err) != 0))
        return -1;
    store_bulk_abandon(bulk); /* what is left of it: nothing on the disk */
    return 0;
}

void store_bulk_abandon(struct store_bulk *bulk)
{
    struct buffer path = {0};
    if (bulk->writer != NULL)
        rocksdb_sstfilewriter_destroy(bulk->writer);
    for (size_t i = 0; i < bulk->files; i++) {
        name_file(bulk, i, &path);
        unlink(buffer_string(&path));
    }
    buffer_free(&path);
    if (bulk->options != NULL)
        rocksdb_options_destroy(bulk->options);
    if (bulk->environment != NULL)
        rocksdb_envoptions_destroy(bulk->environment);
    *bulk = (struct store_bulk){0};
}
