#include "graph/snapshot_manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "graph/records.h"

enum { MANIFEST_LIMIT = 64 << 20, BLOCK_SIZE = 1 << 18 };

void snapshot_manifest_free(struct snapshot_manifest *manifest)
{
    json_decref(manifest->offsets);
    json_decref(manifest->files);
    *manifest = (struct snapshot_manifest){0};
}

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory for the manifest of a snapshot");
}

static json_t *checksum_json(uint64_t checksum)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, checksum);
    return json_string(text);
}

int snapshot_manifest_add_offset(struct snapshot_manifest *manifest, struct text key, struct text value,
                                 struct error *err)
{
    if (manifest->offsets == NULL)
        manifest->offsets = json_array();
    const char *partition = key.data + key.size - 4; /* behind the topic and its NUL */
    json_t *offset = json_pack("{s:s, s:I, s:I}", "topic", key.data, "partition", (json_int_t)bytes_get_32(partition),
                               "next_offset", (json_int_t)bytes_get_64(value.data));
    return json_array_append_new(manifest->offsets, offset) == 0 ? 0 : out_of_memory(err);
}

/* Files. */

static int fail(const char *doing, const char *path, struct error *err)
{
    return error_set(err, ERROR_FATAL, "%s %s: %s", doing, path, strerror(errno));
}

static int sum_file(const char *path, uint64_t *bytes, uint64_t *checksum, struct error *err)
{
    XXH3_state_t *hash = XXH3_createState();
    uint8_t *block = malloc(BLOCK_SIZE);
    int file = open(path, O_RDONLY | O_CLOEXEC), result = -1;
    ssize_t count = 0;
    *bytes = 0;
    if (hash == NULL || block == NULL) {
        out_of_memory(err);
        goto out;
    }
    if (file < 0) {
        fail("opening", path, err);
        goto out;
    }
    XXH3_64bits_reset(hash);
    while ((count = read(file, block, BLOCK_SIZE)) > 0) {
        XXH3_64bits_update(hash, block, (size_t)count);
        *bytes += (uint64_t)count;
    }
    *checksum = XXH3_64bits_digest(hash);
    result = count < 0 ? fail("reading", path, err) : 0;
out:
    if (file >= 0)
        close(file);
    XXH3_freeState(hash);
    free(block);
    return result;
}

/* What RocksDB makes even when a store is opened for reading only is no part of a snapshot. */
static bool is_of_store(const char *name)
{
    return name[0] != '.' && strncmp(name, "LOG", 3) != 0 && strcmp(name, "LOCK") != 0;
}

static int list_file(struct snapshot_manifest *manifest, const char *directory, const char *name, struct error *err)
{
    struct buffer path = {0};
    uint64_t bytes = 0, checksum = 0;
    buffer_printf(&path, "%s/%s", directory, name);
    int result = buffer_check(&path, "listing the files of a snapshot", err);
    if (result == 0)
        result = sum_file(buffer_string(&path), &bytes, &checksum, err);
    buffer_free(&path);
    if (result != 0)
        return -1;
    manifest->summary.file_bytes += bytes;
    json_t *file = json_pack("{s:I, s:o}", "bytes", (json_int_t)bytes, "checksum", checksum_json(checksum));
    return json_object_set_new(manifest->files, name, file) == 0 ? 0 : out_of_memory(err);
}

int snapshot_manifest_list_files(struct snapshot_manifest *manifest, const char *directory, struct error *err)
{
    manifest->files = json_object();
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return fail("reading the directory", directory, err);
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(entries)) != NULL;)
        if (is_of_store(entry->d_name))
            result = list_file(manifest, directory, entry->d_name, err);
    closedir(entries);
    return result;
}

/* Writing. */

static json_t *families_json(const struct snapshot_summary *summary)
{
    json_t *families = json_object();
    for (int i = FAMILY_META; i < FAMILY_COUNT; i++) {
        const struct snapshot_family *family = &summary->families[i];
        json_object_set_new(families, store_family_name((enum family)i),
                            json_pack("{s:I, s:I, s:o}", "records", (json_int_t)family->records, "bytes",
                                      (json_int_t)family->bytes, "checksum", checksum_json(family->checksum)));
    }
    return families;
}

int snapshot_manifest_write(const struct snapshot_manifest *manifest, const char *directory, struct error *err)
{
    const struct snapshot_summary *summary = &manifest->summary;
    struct buffer path = {0};
    json_t *document = json_pack(
        "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:O}", "what", "a snapshot of headrace", "format",
        SNAPSHOT_FORMAT, "record_format", RECORD_FORMAT, "created_ms", (json_int_t)summary->created_ms, "events",
        (json_int_t)summary->events, "newest_event_ms", (json_int_t)summary->newest_event_ms, "users",
        (json_int_t)summary->users, "items", (json_int_t)summary->items, "edges", (json_int_t)summary->edges, "offsets",
        manifest->offsets == NULL ? json_array() : json_incref(manifest->offsets), "families", families_json(summary),
        "files", manifest->files);
    char *text = document == NULL ? NULL : json_dumps(document, JSON_INDENT(2));
    buffer_printf(&path, "%s/manifest.json", directory);
    int result = text == NULL ? out_of_memory(err) : buffer_check(&path, "writing a manifest", err);
    if (result == 0)
        result = file_replace(buffer_string(&path), text, strlen(text), err);
    free(text);
    json_decref(document);
    buffer_free(&path);
    return result;
}

/* Reading. */

static bool take_number(const json_t *object, const char *name, uint64_t *number)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_time(const json_t *object, const char *name, int64_t *time_ms)
{
    uint64_t number;
    if (!take_number(object, name, &number))
        return false;
    *time_ms = (int64_t)number;
    return true;
}

static bool take_checksum(const json_t *object, uint64_t *checksum)
{
    const char *text = json_string_value(json_object_get(object, "checksum"));
    char *end;
    if (text == NULL || strlen(text) != 16)
        return false;
    *checksum = strtoull(text, &end, 16);
    return *end == '\0';
}

static bool take_family(const json_t *families, enum family family, struct snapshot_family *out)
{
    const json_t *object = json_object_get(families, store_family_name(family));
    return take_number(object, "records", &out->records) && take_number(object, "bytes", &out->bytes) &&
           take_checksum(object, &out->checksum);
}

static bool take_summary(const json_t *document, struct snapshot_summary *summary)
{
    const json_t *families = json_object_get(document, "families");
    for (int i = FAMILY_META; i < FAMILY_COUNT; i++)
        if (!take_family(families, (enum family)i, &summary->families[i]))
            return false;
    return take_time(document, "created_ms", &summary->created_ms) &&
           take_time(document, "newest_event_ms", &summary->newest_event_ms) &&
           take_number(document, "events", &summary->events) && take_number(document, "users", &summary->users) &&
           take_number(document, "items", &summary->items) && take_number(document, "edges", &summary->edges);
}

static int take_document(struct snapshot_manifest *manifest, const json_t *document, const char *path,
                         struct error *err)
{
    uint64_t format, record_format;
    if (!take_number(document, "format", &format) || !take_number(document, "record_format", &record_format))
        return error_set(err, ERROR_FATAL, "%s is not the manifest of a snapshot", path);
    if (format > SNAPSHOT_FORMAT || record_format > RECORD_FORMAT)
        return error_set(
            err, ERROR_FATAL,
            "%s is of format %llu with records of format %llu, this version reads up to %d and %d: use the "
            "version that wrote it",
            path, (unsigned long long)format, (unsigned long long)record_format, SNAPSHOT_FORMAT, RECORD_FORMAT);
    manifest->offsets = json_incref(json_object_get(document, "offsets"));
    manifest->files = json_incref(json_object_get(document, "files"));
    if (!json_is_array(manifest->offsets) || !json_is_object(manifest->files) ||
        !take_summary(document, &manifest->summary))
        return error_set(err, ERROR_FATAL, "%s is damaged: something is missing in it", path);
    return 0;
}

int snapshot_manifest_read(struct snapshot_manifest *manifest, const char *directory, struct error *err)
{
    struct buffer path = {0}, text = {0};
    json_error_t where;
    json_t *document = NULL;
    *manifest = (struct snapshot_manifest){0};
    buffer_printf(&path, "%s/manifest.json", directory);
    int result = file_read(buffer_string(&path), MANIFEST_LIMIT, &text, err);
    if (result != 0) {
        error_wrap(err, "%s is no snapshot", directory);
        goto out;
    }
    document = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &where);
    if (document == NULL)
        result =
            error_set(err, ERROR_FATAL, "%s is damaged: %s in line %d", buffer_string(&path), where.text, where.line);
    else
        result = take_document(manifest, document, buffer_string(&path), err);
out:
    json_decref(document);
    buffer_free(&path);
    buffer_free(&text);
    return result;
}

/* Comparing. */

int snapshot_manifest_compare_files(const struct snapshot_manifest *said, const struct snapshot_manifest *found,
                                    const char *directory, struct error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach(said->files, name, file)
    {
        const json_t *there = json_object_get(found->files, name);
        if (there == NULL)
            return error_set(err, ERROR_FATAL, "the snapshot %s is damaged: its file store/%s is missing", directory,
                             name);
        if (!json_equal(there, file))
            return error_set(err, ERROR_FATAL, "the snapshot %s is damaged: its file store/%s is not as it was written",
                             directory, name);
    }
    json_object_foreach(found->files, name, file)
    {
        if (json_object_get(said->files, name) == NULL)
            return error_set(err, ERROR_FATAL, "the snapshot %s has a file that is not its own: store/%s", directory,
                             name);
    }
    return 0;
}

int snapshot_manifest_compare(const struct snapshot_manifest *said, const struct snapshot_manifest *found,
                              const char *directory, struct error *err)
{
    const struct snapshot_summary *a = &said->summary, *b = &found->summary;
    for (int i = FAMILY_META; i < FAMILY_COUNT; i++) {
        const struct snapshot_family *x = &a->families[i], *y = &b->families[i];
        if (x->records != y->records || x->bytes != y->bytes || x->checksum != y->checksum)
            return error_set(err, ERROR_FATAL,
                             "the snapshot %s is damaged: %llu %s of %llu bytes, the manifest says %llu of %llu and "
                             "another checksum",
                             directory, (unsigned long long)y->records, store_family_name((enum family)i),
                             (unsigned long long)y->bytes, (unsigned long long)x->records,
                             (unsigned long long)x->bytes);
    }
    bool same_offsets =
        found->offsets == NULL ? json_array_size(said->offsets) == 0 : json_equal(said->offsets, found->offsets) == 1;
    if (!same_offsets || a->events != b->events || a->newest_event_ms != b->newest_event_ms || a->users != b->users ||
        a->items != b->items || a->edges != b->edges)
        return error_set(err, ERROR_FATAL, "the snapshot %s is damaged: its manifest and its store disagree",
                         directory);
    return 0;
}
