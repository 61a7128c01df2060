#include "graph/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "graph/snapshot_check.h"
#include "graph/snapshot_manifest.h"

enum { TELL_EVERY = 4096, OPEN_DIRECTORIES = 16 };

static const char mark_name[] = "being-made";

/* From a store, all of it, record by record; `to` NULL: only looked at. */
struct copy {
    const struct snapshot_settings *settings;
    struct store from;
    struct store *to;
    struct snapshot_check check;
    struct snapshot_manifest *found;
    const struct snapshot_manifest *said; /* by the manifest; NULL: there is none yet */
    enum family family;
    struct store_bulk bulk;
    XXH3_state_t *hash;
    uint64_t expected;
};

static void tell(const struct copy *copy, bool done)
{
    const struct snapshot_settings *settings = copy->settings;
    if (settings->progress != NULL)
        settings->progress(settings->context, store_family_name(copy->family),
                           copy->found->summary.families[copy->family].records, copy->expected, done);
}

/* Sizes are hashed too: where a key ends matters. */
static void sum_record(struct copy *copy, struct text key, struct text value)
{
    struct snapshot_family *family = &copy->found->summary.families[copy->family];
    uint64_t sizes[] = {key.size, value.size};
    XXH3_64bits_update(copy->hash, sizes, sizeof sizes);
    XXH3_64bits_update(copy->hash, key.data, key.size);
    XXH3_64bits_update(copy->hash, value.data, value.size);
    family->records++;
    family->bytes += key.size + value.size;
}

static int copy_record(void *context, struct text key, struct text value, struct error *err)
{
    struct copy *copy = context;
    if (snapshot_check_record(&copy->check, copy->family, key, value, err) != 0)
        return -1;
    sum_record(copy, key, value);
    if (copy->family == FAMILY_OFFSETS && snapshot_manifest_add_offset(copy->found, key, value, err) != 0)
        return -1;
    if (copy->found->summary.families[copy->family].records % TELL_EVERY == 0)
        tell(copy, false);
    /* What a store says of itself is in the new one from the start. */
    if (copy->to == NULL || copy->family == FAMILY_META)
        return SCAN_GO_ON;
    return store_bulk_put(&copy->bulk, key, value, err);
}

static int copy_family(struct copy *copy, struct error *err)
{
    static const struct text all = {"", 0};
    XXH3_64bits_reset(copy->hash);
    copy->expected = copy->said != NULL ? copy->said->summary.families[copy->family].records
                                        : store_size(&copy->from, copy->family).keys;
    if (copy->to != NULL)
        store_bulk_begin(&copy->bulk, copy->to, copy->family);
    if (store_scan(&copy->from, copy->family, all, all, copy_record, copy, err) != 0 ||
        (copy->to != NULL && store_bulk_end(&copy->bulk, err) != 0)) {
        store_bulk_abandon(&copy->bulk);
        return error_wrap(err, "%s of the store %s", store_family_name(copy->family), copy->from.directory);
    }
    copy->found->summary.families[copy->family].checksum = XXH3_64bits_digest(copy->hash);
    tell(copy, true);
    return 0;
}

static int copy_families(struct copy *copy, struct error *err)
{
    for (int i = FAMILY_META; i < FAMILY_COUNT; i++) {
        copy->family = (enum family)i;
        if (copy_family(copy, err) != 0)
            return -1;
    }
    if (snapshot_check_end(&copy->check, err) != 0)
        return error_wrap(err, "the store %s", copy->from.directory);
    struct snapshot_summary *summary = &copy->found->summary;
    summary->events = copy->check.events;
    summary->newest_event_ms = copy->check.newest_event_ms;
    summary->users = copy->check.live_users;
    summary->items = copy->check.item_count;
    summary->edges = copy->check.edges;
    return 0;
}

/* With `to` NULL each pair is looked for in the history, too. */
static int copy_store(const struct snapshot_settings *settings, const char *from, const char *to,
                      const struct snapshot_manifest *said, struct snapshot_manifest *found, struct error *err)
{
    struct store target = {0};
    struct copy copy = {.settings = settings, .found = found, .said = said, .hash = XXH3_createState()};
    int result = -1;
    if (copy.hash == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for a snapshot");
        goto out;
    }
    if (store_open_within(&copy.from, from, true, settings->memory, err) != 0 ||
        (to != NULL && store_open_within(&target, to, false, settings->memory, err) != 0))
        goto out;
    copy.to = to == NULL ? NULL : &target;
    copy.check.store = to == NULL ? &copy.from : NULL;
    result = copy_families(&copy, err);
    if (result == 0 && to != NULL)
        result = store_flush(&target, err);
out:
    store_close(&target);
    store_close(&copy.from);
    snapshot_check_free(&copy.check);
    XXH3_freeState(copy.hash);
    return result;
}

/* Directories. */

static int fail(const char *doing, const char *path, struct error *err)
{
    enum error_kind kind = errno == ENOSPC || errno == EIO ? ERROR_RETRY : ERROR_FATAL;
    return error_set(err, kind, "%s %s: %s", doing, path, strerror(errno));
}

static int join(char out[PATH_MAX], const char *directory, const char *name, struct error *err)
{
    if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
        return error_set(err, ERROR_FATAL, "the path %.100s is too long", directory);
    return 0;
}

static int delete_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    remove(path);
    return 0;
}

static void delete_tree(const char *directory)
{
    nftw(directory, delete_entry, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

static int sync_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    struct error ignored;
    (void)status, (void)walk;
    return type == FTW_F || type == FTW_DP ? file_sync(path, &ignored) : 0;
}

static int sync_tree(const char *directory, struct error *err)
{
    if (nftw(directory, sync_entry, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS) != 0)
        return fail("syncing", directory, err);
    return 0;
}

/* The first entry that is not the file system's own; empty: none. */
static int first_entry(const char *directory, char name[NAME_MAX + 1], struct error *err)
{
    name[0] = '\0';
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return errno == ENOENT ? 0 : fail("reading the directory", directory, err);
    for (struct dirent *entry; name[0] == '\0' && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "lost+found") != 0)
            snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
    closedir(entries);
    return 0;
}

static int sync_parent(const char *path, struct error *err)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return file_sync(".", err);
    slash[slash == parent] = '\0';
    return file_sync(parent, err);
}

/* Creating. */

static int fill(const struct snapshot_settings *settings, const char *directory, struct snapshot_manifest *manifest,
                struct error *err)
{
    char store[PATH_MAX];
    manifest->summary.created_ms = clock_wall_ms();
    if (join(store, directory, "store", err) != 0 ||
        copy_store(settings, settings->state, store, NULL, manifest, err) != 0 || sync_tree(directory, err) != 0 ||
        snapshot_manifest_list_files(manifest, store, err) != 0 ||
        snapshot_manifest_write(manifest, directory, err) != 0)
        return -1;
    return file_sync(directory, err);
}

static int is_being_made(const char *temporary, struct error *err)
{
    return error_set(err, ERROR_FATAL, "%s is there: another snapshot is just being made in it", temporary);
}

/*
 * A file in the directory, locked while a snapshot is made there. The kernel ends the lock with the process: a mark
 * that is not locked says that what is there is ours, and that a kill cut it short. -1: it cannot be had.
 */
static int lock_mark(const char *mark, int flags)
{
    struct stat status;
    int file = open(mark, O_RDWR | O_CLOEXEC | flags, 0600);
    if (file < 0)
        return -1;
    int result = flock(file, LOCK_EX | LOCK_NB) == 0 ? fstat(file, &status) : -1;
    /* One without a name is that of a directory which somebody else has just deleted. */
    if (result == 0 && status.st_nlink > 0)
        return file;
    int why = result == 0 ? EWOULDBLOCK : errno;
    close(file);
    errno = why;
    return -1;
}

/* The mark last, so that a kill in between leaves what the next can delete. */
static void delete_unfinished(const char *temporary)
{
    char path[PATH_MAX];
    struct error ignored;
    DIR *entries = opendir(temporary);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, mark_name) != 0 &&
            join(path, temporary, name, &ignored) == 0)
            delete_tree(path);
    }
    if (entries != NULL)
        closedir(entries);
    delete_tree(temporary);
}

/* What a kill left behind; what may be anybody's stays. */
static int delete_rest(const char *temporary, const char *mark, struct error *err)
{
    if (rmdir(temporary) == 0 || errno == ENOENT)
        return 0;
    int file = lock_mark(mark, 0);
    if (file < 0 && errno == EWOULDBLOCK)
        return is_being_made(temporary, err);
    if (file < 0 && errno != ENOENT && errno != ENOTDIR)
        return fail("locking", mark, err);
    if (file < 0)
        return error_set(err, ERROR_FATAL,
                         "%s is there and has no %s, which snapshots have while they are made: move it away", temporary,
                         mark_name);
    log_warn("graph", "%s is of a snapshot that was cut short, and deleted", temporary);
    delete_unfinished(temporary);
    close(file);
    return 0;
}

/* Returns the locked mark in the new directory. */
static int make_directory(const char *directory, const char *temporary, struct error *err)
{
    struct stat status;
    char mark[PATH_MAX];
    if (stat(directory, &status) == 0)
        return error_set(err, ERROR_FATAL, "%s is there already: name a new directory for the snapshot", directory);
    if (join(mark, temporary, mark_name, err) != 0)
        return -1;
    int made = mkdir(temporary, 0700);
    if (made != 0 && errno == EEXIST) {
        if (delete_rest(temporary, mark, err) != 0)
            return -1;
        made = mkdir(temporary, 0700);
    }
    if (made != 0)
        return fail("creating directory", temporary, err);
    int file = lock_mark(mark, O_CREAT | O_EXCL);
    if (file < 0 && (errno == ENOENT || errno == EWOULDBLOCK))
        return is_being_made(temporary, err);
    return file < 0 ? fail("creating", mark, err) : file;
}

/* The mark goes last: a kill before leaves a whole snapshot with it, or one that the next can delete. */
static int give_name(const char *temporary, const char *directory, struct error *err)
{
    char mark[PATH_MAX];
    if (join(mark, directory, mark_name, err) != 0)
        return -1;
    if (rename(temporary, directory) != 0)
        return fail("renaming", temporary, err);
    if (unlink(mark) != 0)
        return fail("deleting", mark, err);
    return file_sync(directory, err) != 0 ? -1 : sync_parent(directory, err);
}

int snapshot_create(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err)
{
    char directory[PATH_MAX], temporary[PATH_MAX];
    struct snapshot_manifest manifest = {0};
    size_t length = strlen(settings->directory);
    while (length > 1 && settings->directory[length - 1] == '/')
        length--;
    if (length == 0 || length + sizeof ".tmp" > sizeof temporary)
        return error_set(err, ERROR_FATAL, "the path \"%.80s\" is empty or too long", settings->directory);
    snprintf(directory, sizeof directory, "%.*s", (int)length, settings->directory);
    snprintf(temporary, sizeof temporary, "%.*s.tmp", (int)length, settings->directory);
    int mark = make_directory(directory, temporary, err);
    if (mark < 0)
        return -1;

    int result = fill(settings, temporary, &manifest, err);
    if (result == 0)
        result = give_name(temporary, directory, err);
    if (result != 0)
        delete_unfinished(temporary);
    close(mark);
    *summary = manifest.summary;
    snapshot_manifest_free(&manifest);
    return result;
}

/* Verifying and restoring. */

/* The manifest, and that the files are those which it tells of. */
static int read_snapshot(const char *directory, char store[PATH_MAX], struct snapshot_manifest *said, struct error *err)
{
    struct snapshot_manifest found = {0};
    if (snapshot_manifest_read(said, directory, err) != 0 || join(store, directory, "store", err) != 0)
        return -1;
    int result = snapshot_manifest_list_files(&found, store, err);
    if (result == 0)
        result = snapshot_manifest_compare_files(said, &found, directory, err);
    said->summary.file_bytes = found.summary.file_bytes;
    snapshot_manifest_free(&found);
    return result;
}

/* All of the snapshot, to a new store or nowhere. */
static int read_all(const struct snapshot_settings *settings, const char *to, struct snapshot_summary *summary,
                    struct error *err)
{
    char store[PATH_MAX];
    struct snapshot_manifest said = {0}, found = {0};
    int result = read_snapshot(settings->directory, store, &said, err);
    if (result == 0)
        result = copy_store(settings, store, to, &said, &found, err);
    if (result == 0)
        result = snapshot_manifest_compare(&said, &found, settings->directory, err);
    *summary = said.summary;
    snapshot_manifest_free(&said);
    snapshot_manifest_free(&found);
    return result;
}

int snapshot_verify(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err)
{
    return read_all(settings, NULL, summary, err);
}

static int check_empty(const char *state, struct error *err)
{
    char name[NAME_MAX + 1];
    if (first_entry(state, name, err) != 0)
        return -1;
    if (strcmp(name, "") == 0)
        return 0;
    return error_set(err, ERROR_FATAL,
                     "the state directory %s is not empty (%.60s is in it): a snapshot is restored into an empty one. "
                     "If a worker uses it, stop it; then move the directory away",
                     state, name);
}

static int move_file(const char *from, const char *to, const char *name, struct error *err)
{
    char source[PATH_MAX], target[PATH_MAX];
    if (join(source, from, name, err) != 0 || join(target, to, name, err) != 0)
        return -1;
    return rename(source, target) == 0 ? 0 : fail("moving", source, err);
}

/* CURRENT comes last: without it there is no store. */
static int move_store(const char *from, const char *to, struct error *err)
{
    DIR *entries = opendir(from);
    if (entries == NULL)
        return fail("reading the directory", from, err);
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(entries)) != NULL;) {
        const char *name = entry->d_name;
        if (name[0] != '.' && strcmp(name, "CURRENT") != 0 && strcmp(name, "LOCK") != 0 && strncmp(name, "LOG", 3) != 0)
            result = move_file(from, to, name, err);
    }
    closedir(entries);
    if (result == 0)
        result = file_sync(to, err);
    if (result == 0)
        result = move_file(from, to, "CURRENT", err);
    return result == 0 ? file_sync(to, err) : -1;
}

static int delete_restored(const char *state, struct error *err)
{
    char path[PATH_MAX], name[NAME_MAX + 1];
    while (first_entry(state, name, err) == 0 && name[0] != '\0') {
        if (join(path, state, name, err) != 0)
            return -1;
        delete_tree(path);
        if (access(path, F_OK) == 0)
            return -1;
    }
    return 0;
}

/* Within the directory, which may be a file system of its own. */
int snapshot_restore(const struct snapshot_settings *settings, struct snapshot_summary *summary, struct error *err)
{
    char temporary[PATH_MAX];
    struct error ignored;
    if (check_empty(settings->state, err) != 0 || file_make_directories(settings->state, err) != 0 ||
        join(temporary, settings->state, "restoring", err) != 0)
        return -1;
    int result = read_all(settings, temporary, summary, err);
    if (result == 0)
        result = sync_tree(temporary, err);
    if (result == 0)
        result = move_store(temporary, settings->state, err);
    if (result == 0)
        delete_tree(temporary);
    else
        delete_restored(settings->state, &ignored); /* it was empty */
    return result;
}
