#include "graph/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "graph/state.h"
#include "graph/vectors.h"
#include "graph/z0.h"

enum { IMAGE_FORMAT = 1, BLOCK_SIZE = 1 << 20, IDENTITY_SIZE = 64 };

static const char image_magic[16] = "headrace image\n";

/* Settings that what is in an image depends on. */
struct image_settings {
    uint64_t layers, dimension, seed, edges;
    double push_threshold, like_threshold, like_inclusive;
    uint64_t vectors, titles; /* hashes of their versions; 0: none */
};

struct header {
    char magic[sizeof image_magic];
    uint32_t format;
    uint32_t edge_size; /* this and the magic tell the machine's layout */
    char identity[IDENTITY_SIZE];
    uint64_t sequence;
    struct image_settings settings;
    uint64_t user_count, item_count, edge_count;
    uint64_t edges_at, edges_hash, embeddings_at, size;
    uint64_t hash; /* of all before it */
};

_Static_assert(sizeof(struct header) % sizeof(uint64_t) == 0, "a header has no holes");

/* A node without its list, which follows all of these of its kind. */
struct node_record {
    int64_t newest_ms;
    uint32_t edge_count;
    uint32_t embedding;
    uint32_t embedded;
    uint32_t hidden;
};

struct image {
    struct header header;
    int file;
    char *path;
    struct embedding *embedding;
    pthread_t thread;
    int result; /* the thread's */
    struct error err;
    int64_t start_ns;
};

static void path_of(const struct graph *graph, const char *suffix, struct buffer *path)
{
    buffer_printf(path, "%s/graph.image%s", graph->settings.directory, suffix);
}

static uint64_t hash_of(const char *version)
{
    return version == NULL ? 0 : XXH3_64bits(version, strlen(version) + 1);
}

static struct image_settings settings_of(const struct graph *graph)
{
    const struct graph_settings *settings = &graph->settings;
    return (struct image_settings){
        .layers = settings->layers,
        .dimension = settings->dimension,
        .seed = settings->seed,
        .edges = settings->edges,
        .push_threshold = (double)settings->push_threshold,
        .like_threshold = settings->like_threshold,
        .like_inclusive = settings->like_inclusive,
        .vectors = settings->vectors == NULL ? 0 : hash_of(settings->vectors->version),
        .titles = z0_follows_titles(settings) ? hash_of(settings->title_version) : 0,
    };
}

/* What an image has to say of store and settings to be valid now; without places and counts. */
static int describe(const struct graph *graph, struct header *header, struct error *err)
{
    struct buffer identity = {0};
    if (store_identity(&graph->store, &identity, err) != 0) {
        buffer_free(&identity);
        return -1;
    }
    *header = (struct header){.format = IMAGE_FORMAT,
                              .edge_size = sizeof(struct edge),
                              .sequence = store_sequence(&graph->store),
                              .settings = settings_of(graph)};
    memcpy(header->magic, image_magic, sizeof image_magic);
    memcpy(header->identity, identity.data, identity.size < IDENTITY_SIZE ? identity.size : IDENTITY_SIZE);
    buffer_free(&identity);
    return 0;
}

/* Writing. */

struct writer {
    int file;
    const char *path;
    uint8_t *block;
    size_t filled;
    uint64_t written; /* bytes, those in the block not counted */
    XXH3_state_t *hash;
};

static int fail(const char *doing, const char *path, struct error *err)
{
    return error_set(err, ERROR_RETRY, "%s %s: %s", doing, path, strerror(errno));
}

static int write_bytes(struct writer *writer, const uint8_t *bytes, size_t size, struct error *err)
{
    XXH3_64bits_update(writer->hash, bytes, size);
    writer->written += size;
    while (size > 0) {
        ssize_t count = write(writer->file, bytes, size);
        if (count < 0 && errno != EINTR)
            return fail("writing", writer->path, err);
        if (count > 0) {
            bytes += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

static int flush(struct writer *writer, struct error *err)
{
    size_t filled = writer->filled;
    writer->filled = 0;
    return write_bytes(writer, writer->block, filled, err);
}

/* An embedding_write. */
static int put(void *context, const void *bytes, size_t size, struct error *err)
{
    struct writer *writer = context;
    if (writer->filled + size > BLOCK_SIZE && flush(writer, err) != 0)
        return -1;
    if (size > BLOCK_SIZE)
        return write_bytes(writer, bytes, size, err);
    memcpy(writer->block + writer->filled, bytes, size);
    writer->filled += size;
    return 0;
}

static int put_user(struct writer *writer, const struct user_node *node, struct error *err)
{
    struct node_record record = {node->newest_ms, node->edges.count, node->embedding, node->embedded, node->hidden};
    return put(writer, &record, sizeof record, err);
}

static int put_item(struct writer *writer, const struct item_node *node, struct error *err)
{
    struct node_record record = {0, node->edges.count, node->embedding, node->embedded, 0};
    return put(writer, &record, sizeof record, err);
}

static int put_list(struct writer *writer, const struct edges *edges, struct error *err)
{
    return edges->count == 0 ? 0 : put(writer, edges->at, edges->count * sizeof *edges->at, err);
}

static int put_edges(struct writer *writer, const struct nodes *nodes, struct error *err)
{
    for (size_t i = 0; i < nodes->user_ids.count; i++)
        if (put_user(writer, &nodes->users[i], err) != 0)
            return -1;
    for (size_t i = 0; i < nodes->item_ids.count; i++)
        if (put_item(writer, &nodes->items[i], err) != 0)
            return -1;
    for (size_t i = 0; i < nodes->user_ids.count; i++)
        if (put_list(writer, &nodes->users[i].edges, err) != 0)
            return -1;
    for (size_t i = 0; i < nodes->item_ids.count; i++)
        if (put_list(writer, &nodes->items[i].edges, err) != 0)
            return -1;
    return flush(writer, err);
}

/* The header comes last: a file without it is no image. */
static int write_all(struct writer *writer, const struct graph *graph, struct error *err)
{
    struct header header;
    static const struct header none;
    XXH3_64bits_reset(writer->hash);
    if (describe(graph, &header, err) != 0 || put(writer, &none, sizeof none, err) != 0 || flush(writer, err) != 0)
        return -1;
    header.user_count = graph->nodes.user_ids.count;
    header.item_count = graph->nodes.item_ids.count;
    header.edge_count = graph->nodes.edge_count;
    header.edges_at = writer->written;
    XXH3_64bits_reset(writer->hash);
    if (put_edges(writer, &graph->nodes, err) != 0)
        return -1;
    header.edges_hash = XXH3_64bits_digest(writer->hash);
    header.embeddings_at = writer->written;
    if (embedding_save(graph->nodes.embedding, put, writer, err) != 0 || flush(writer, err) != 0)
        return -1;
    header.size = writer->written;
    header.hash = XXH3_64bits(&header, offsetof(struct header, hash));
    if (pwrite(writer->file, &header, sizeof header, 0) != (ssize_t)sizeof header || fsync(writer->file) != 0)
        return fail("writing", writer->path, err);
    return 0;
}

static int write_file(const struct graph *graph, const char *path, struct error *err)
{
    struct writer writer = {.path = path, .block = malloc(BLOCK_SIZE), .hash = XXH3_createState()};
    int result = -1;
    writer.file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (writer.file < 0)
        fail("creating", path, err);
    else if (writer.block == NULL || writer.hash == NULL)
        error_set(err, ERROR_FATAL, "out of memory for the image %s", path);
    else
        result = write_all(&writer, graph, err);
    if (writer.file >= 0)
        close(writer.file);
    XXH3_freeState(writer.hash);
    free(writer.block);
    return result;
}

static int check_saving(const struct graph *graph, struct error *err)
{
    if (graph->settings.read_only)
        return error_set(err, ERROR_FATAL, "the store %s is open for reading only", graph->settings.directory);
    if (graph->store.failed || graph->staged.count > 0)
        return error_set(err, ERROR_RETRY, "a batch has not been written to the store %s yet",
                         graph->settings.directory);
    return 0;
}

int graph_save(struct graph *graph, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    struct buffer path = {0}, temporary = {0};
    path_of(graph, "", &path);
    path_of(graph, ".tmp", &temporary);
    int result = -1;
    if (check_saving(graph, err) != 0 || buffer_check(&path, "naming the image", err) != 0 ||
        buffer_check(&temporary, "naming the image", err) != 0)
        goto out;
    unlink(buffer_string(&temporary));
    if (store_flush(&graph->store, err) != 0 || write_file(graph, buffer_string(&temporary), err) != 0)
        goto out;
    if (rename(buffer_string(&temporary), buffer_string(&path)) != 0) {
        fail("renaming", buffer_string(&temporary), err);
        goto out;
    }
    graph->has_image = true;
    result = file_sync(graph->settings.directory, err);
    if (result == 0)
        log_info("graph", "saved for the next start in %.1f s: %s", clock_since_ms(start_ns) / 1000,
                 buffer_string(&path));
out:
    if (result != 0)
        unlink(buffer_string(&temporary));
    buffer_free(&path);
    buffer_free(&temporary);
    return result;
}

/* Reading. */

struct reader {
    const struct image *image;
    uint64_t at, end; /* of what is not in the block yet */
    uint8_t *block;
    size_t filled, taken;
    XXH3_state_t *hash; /* NULL: who reads looks after it */
};

static int damaged(const struct image *image, struct error *err)
{
    return error_set(err, ERROR_FATAL, "%s is damaged", image->path);
}

static int read_bytes(struct reader *reader, uint8_t *bytes, size_t size, struct error *err)
{
    if (size > reader->end - reader->at)
        return damaged(reader->image, err);
    for (size_t done = 0; done < size;) {
        ssize_t count = pread(reader->image->file, bytes + done, size - done, (off_t)(reader->at + done));
        if (count == 0)
            return damaged(reader->image, err);
        if (count < 0 && errno != EINTR)
            return fail("reading", reader->image->path, err);
        done += count > 0 ? (size_t)count : 0;
    }
    reader->at += size;
    if (reader->hash != NULL)
        XXH3_64bits_update(reader->hash, bytes, size);
    return 0;
}

/* An embedding_fill. What is large goes past the block. */
static int take(void *context, void *bytes, size_t size, struct error *err)
{
    struct reader *reader = context;
    for (uint8_t *to = bytes; size > 0;) {
        size_t count = reader->filled - reader->taken;
        if (count == 0 && size >= BLOCK_SIZE)
            return read_bytes(reader, to, size, err);
        if (count == 0) {
            uint64_t left = reader->end - reader->at;
            reader->filled = left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE;
            reader->taken = 0;
            if (reader->filled == 0)
                return damaged(reader->image, err);
            if (read_bytes(reader, reader->block, reader->filled, err) != 0)
                return -1;
            continue;
        }
        count = count < size ? count : size;
        memcpy(to, reader->block + reader->taken, count);
        reader->taken += count;
        to += count;
        size -= count;
    }
    return 0;
}

static int begin(struct reader *reader, const struct image *image, uint64_t from, uint64_t end, struct error *err)
{
    *reader = (struct reader){.image = image, .at = from, .end = end, .block = malloc(BLOCK_SIZE)};
    return reader->block == NULL ? error_set(err, ERROR_FATAL, "out of memory for the image %s", image->path) : 0;
}

/* Reading stopped just at the end, and what was read is what had been written. */
static int finish(const struct reader *reader, uint64_t hash, struct error *err)
{
    bool whole = reader->at == reader->end && reader->taken == reader->filled;
    return whole && XXH3_64bits_digest(reader->hash) == hash ? 0 : damaged(reader->image, err);
}

static int take_list(struct reader *reader, struct edges *edges, uint32_t count, struct error *err)
{
    edges->count = count;
    return count == 0 ? 0 : take(reader, edges->at, count * sizeof *edges->at, err);
}

/* Of users, or of items; their counts go to `counts`, and must be those of all edges. */
static int take_records(struct reader *reader, struct node_record *records, uint32_t *counts, size_t count,
                        struct error *err)
{
    uint64_t edges = 0;
    if (count > 0 && take(reader, records, count * sizeof *records, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        edges += counts[i] = records[i].edge_count;
    return edges == reader->image->header.edge_count ? 0 : damaged(reader->image, err);
}

static int take_edges(struct reader *reader, struct nodes *nodes, struct node_record *records, uint32_t *counts,
                      struct error *err)
{
    size_t users = nodes->user_ids.count, items = nodes->item_ids.count;
    if (take_records(reader, records, counts, users, err) != 0 ||
        take_records(reader, records + users, counts + users, items, err) != 0 ||
        nodes_reserve_edges(nodes, counts, counts + users, err) != 0)
        return -1;
    for (size_t i = 0; i < users; i++) {
        nodes->users[i].newest_ms = records[i].newest_ms;
        nodes->users[i].embedding = records[i].embedding;
        nodes->users[i].embedded = records[i].embedded;
        nodes->users[i].hidden = records[i].hidden != 0;
        if (take_list(reader, &nodes->users[i].edges, counts[i], err) != 0)
            return -1;
    }
    for (size_t i = 0; i < items; i++) {
        nodes->items[i].embedding = records[users + i].embedding;
        nodes->items[i].embedded = records[users + i].embedded;
        if (take_list(reader, &nodes->items[i].edges, counts[users + i], err) != 0)
            return -1;
    }
    nodes->edge_count = reader->image->header.edge_count;
    return finish(reader, reader->image->header.edges_hash, err);
}

static int load_edges(const struct image *image, struct nodes *nodes, struct error *err)
{
    const struct header *header = &image->header;
    if (header->user_count != nodes->user_ids.count || header->item_count != nodes->item_ids.count)
        return damaged(image, err);
    size_t count = nodes->user_ids.count + nodes->item_ids.count;
    struct node_record *records = malloc((count + 1) * sizeof *records);
    uint32_t *counts = malloc((count + 1) * sizeof *counts);
    struct reader reader;
    int result = begin(&reader, image, header->edges_at, header->embeddings_at, err);
    reader.hash = XXH3_createState();
    if (result == 0 && (records == NULL || counts == NULL || reader.hash == NULL))
        result = error_set(err, ERROR_FATAL, "out of memory for the image %s", image->path);
    if (result == 0) {
        XXH3_64bits_reset(reader.hash);
        result = take_edges(&reader, nodes, records, counts, err);
    }
    XXH3_freeState(reader.hash);
    free(reader.block);
    free(records);
    free(counts);
    return result;
}

static void *load_embeddings(void *context)
{
    struct image *image = context;
    struct reader reader;
    image->result = begin(&reader, image, image->header.embeddings_at, image->header.size, &image->err);
    if (image->result == 0)
        image->result = embedding_load(image->embedding, take, &reader, &image->err);
    free(reader.block);
    return NULL;
}

static void close_image(struct image *image)
{
    if (image->file >= 0)
        close(image->file);
    free(image->path);
    free(image);
}

static bool is_damaged(const struct image *image)
{
    const struct header *header = &image->header;
    struct stat status;
    return memcmp(header->magic, image_magic, sizeof image_magic) != 0 ||
           header->hash != XXH3_64bits(header, offsetof(struct header, hash)) || fstat(image->file, &status) != 0 ||
           (uint64_t)status.st_size != header->size || header->edges_at > header->embeddings_at ||
           header->embeddings_at > header->size;
}

/* Says why not. */
static bool is_valid(const struct image *image, const struct graph *graph)
{
    const struct header *header = &image->header;
    struct header now;
    struct error err;
    if (describe(graph, &now, &err) != 0) {
        log_warn("graph", "%s is passed over: %s", image->path, err.message);
    } else if (is_damaged(image)) {
        log_warn("graph", "%s is damaged and passed over: everything is read from the store", image->path);
    } else if (header->format != now.format || header->edge_size != now.edge_size) {
        log_info("graph", "%s is of another version of headrace and passed over", image->path);
    } else if (header->sequence != now.sequence || memcmp(header->identity, now.identity, IDENTITY_SIZE) != 0) {
        log_info("graph", "%s is not of what the store holds now and passed over", image->path);
    } else if (memcmp(&header->settings, &now.settings, sizeof now.settings) != 0) {
        log_info("graph", "%s is of other settings of the graph and passed over", image->path);
    } else {
        return true;
    }
    return false;
}

struct image *image_open(struct graph *graph)
{
    struct buffer path = {0};
    struct image *image = calloc(1, sizeof *image);
    if (image == NULL)
        return NULL;
    path_of(graph, "", &path);
    image->file = -1;
    image->path = strdup(buffer_string(&path));
    if (path.failed || image->path == NULL)
        goto none;
    image->start_ns = clock_monotonic_ns();
    image->embedding = graph->nodes.embedding;
    image->file = open(image->path, O_RDONLY | O_CLOEXEC);
    if (image->file < 0)
        goto none;
    if (pread(image->file, &image->header, sizeof image->header, 0) < 0) {
        log_warn("graph", "%s is passed over: %s", image->path, strerror(errno));
        goto none;
    }
    if (!is_valid(image, graph) || pthread_create(&image->thread, NULL, load_embeddings, image) != 0)
        goto none;
    buffer_free(&path);
    return image;
none:
    buffer_free(&path);
    close_image(image);
    return NULL;
}

int image_finish(struct image *image, struct graph *graph, struct error *err)
{
    int result = load_edges(image, &graph->nodes, err);
    pthread_join(image->thread, NULL);
    if (result == 0 && image->result != 0) {
        *err = image->err;
        result = -1;
    }
    if (result == 0)
        log_info("graph", "%llu edges and the embeddings are from %s (%.0f MiB), in %.1f s",
                 (unsigned long long)image->header.edge_count, image->path, (double)image->header.size / (1 << 20),
                 clock_since_ms(image->start_ns) / 1000);
    close_image(image);
    return result;
}

void image_abandon(struct image *image)
{
    if (image == NULL)
        return;
    pthread_join(image->thread, NULL);
    close_image(image);
}

static void delete_file(const struct graph *graph, const char *suffix)
{
    struct buffer path = {0};
    path_of(graph, suffix, &path);
    if (unlink(buffer_string(&path)) != 0 && errno != ENOENT)
        log_warn("graph", "%s cannot be deleted: %s", buffer_string(&path), strerror(errno));
    buffer_free(&path);
}

void image_delete_rest(const struct graph *graph)
{
    delete_file(graph, ".tmp");
}

void image_delete(struct graph *graph)
{
    delete_file(graph, "");
    graph->has_image = false;
}

bool image_exists(const struct graph *graph)
{
    struct buffer path = {0};
    path_of(graph, "", &path);
    bool exists = access(buffer_string(&path), F_OK) == 0;
    buffer_free(&path);
    return exists;
}
