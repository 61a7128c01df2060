/* train_heads_rows.c - labelled rows with their hidden states, replayed once and kept for the next training */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "cmd/progress.h"
#include "cmd/train_heads.h"
#include "replay/loop.h"

enum { LEAST_ROWS = 20 }; /* of either part: with fewer nothing can be said of a head */

static const double calibrate_from = 0.9; /* of the range */

/*
 * The file of kept rows, as it lies in memory (this machine's byte order: it is a cache): this, then the states, the
 * features, the users, the labels.
 */
struct kept {
    char magic[8];
    uint64_t checksum; /* XXH3 of all that follows it */
    char key[40];      /* what the rows depend on */
    uint64_t count, train, layers, width, features;
};

static const char magic[8] = {'H', 'R', 'S', 'T', 'A', 'T', 'E', '1'};

struct making {
    const struct heads_source *source;
    struct heads_rows *rows;
    struct replay_settings settings;
    struct replay_model model;
    struct trajectory trajectory; /* of the part that is being replayed */
    int64_t end_ms;               /* of the part: what became known later is not known */
    char model_hash[36];
    struct progress progress;

    FILE *file;
    char path[PATH_MAX], unfinished[PATH_MAX + 8];
    struct buffer features, users, labels;
};

static size_t tail_size(size_t count)
{
    return count * (EVIDENCE_FEATURES * sizeof(float) + sizeof(uint32_t) + 1);
}

/* Times of the interactions, in order, and where the range is cut. */
static int find_range(struct making *making, struct error *err)
{
    const struct heads_source *source = making->source;
    size_t count, events = 0;
    if (replay_log_order(source->logged->log, err) != 0)
        return -1;
    if (replay_log_untimed(source->logged->log))
        return error_set(err, ERROR_BAD_INPUT, "events without times have no order to train in");
    const struct source_message *messages = replay_log_messages(source->logged->log, &count);
    for (size_t i = 0; i < count; i++)
        events += messages[i].topic == SOURCE_INTERACTIONS;
    size_t from = (size_t)((double)events * source->from), to = (size_t)((double)events * source->to);
    size_t calibrate = from + (size_t)((double)(to - from) * calibrate_from), event = 0;
    making->rows->from_ms = making->rows->calibrate_ms = making->rows->to_ms = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        if (messages[i].topic != SOURCE_INTERACTIONS)
            continue;
        int64_t at_ms = messages[i].timestamp_ms;
        if (event == from)
            making->rows->from_ms = at_ms;
        if (event == calibrate)
            making->rows->calibrate_ms = at_ms;
        if (event == to)
            making->rows->to_ms = at_ms;
        if (++event == events && to >= events)
            making->rows->to_ms = at_ms + 1;
    }
    if (making->rows->from_ms >= making->rows->calibrate_ms || making->rows->calibrate_ms >= making->rows->to_ms)
        return error_set(err, ERROR_BAD_INPUT,
                         "%zu events are too few between --from %g and --to %g of them to train and calibrate on",
                         to - from, source->from, source->to);
    return 0;
}

static void settle(struct making *making)
{
    const struct answering *answering = making->source->answering;
    making->settings = making->source->logged->settings;
    making->settings.prompt = answering->prompt;
    making->settings.sample_requests = true;
    heads_model_hash(making->model_hash, answering->gguf, &answering->model);
    making->model = (struct replay_model){
        .engine = answering->engine,
        .model = &answering->model,
        .heads = &answering->heads,
        .model_id = answering->model_id,
        .model_hash = making->model_hash,
        .template_hash = prompt_hash(answering->prompt),
        .context = making,
    };
}

/* Of the two parts: 0 trains, 1 calibrates. */
static void choose_part(struct making *making, int part)
{
    const struct heads_rows *rows = making->rows;
    making->settings.from_ms = part == 0 ? rows->from_ms : rows->calibrate_ms;
    making->settings.to_ms = making->end_ms = part == 0 ? rows->calibrate_ms : rows->to_ms;
    making->settings.sample = part == 0 ? making->source->rows_share : making->source->calibrate_share;
}

static int make_key(struct making *making, char key[40], struct error *err)
{
    char parts[2][17];
    for (int part = 0; part < 2; part++) {
        choose_part(making, part);
        if (replay_key(making->source->logged->log, &making->settings, &making->model, parts[part], err) != 0)
            return -1;
    }
    memset(key, 0, 40);
    snprintf(key, 40, "%s-%s", parts[0], parts[1]);
    return 0;
}

/* Points into the map; false: it is not such a file. */
static bool look(struct heads_rows *rows, const char *key)
{
    const struct kept *kept = (const void *)rows->map.data;
    const size_t behind = offsetof(struct kept, key);
    if (rows->map.size < sizeof *kept || memcmp(kept->magic, magic, sizeof magic) != 0 ||
        memcmp(kept->key, key, sizeof kept->key) != 0 || kept->features != EVIDENCE_FEATURES ||
        kept->checksum != XXH3_64bits(rows->map.data + behind, rows->map.size - behind))
        return false;
    size_t states = (size_t)kept->count * kept->layers * kept->width;
    if (rows->map.size != sizeof *kept + states * sizeof(float) + tail_size(kept->count))
        return false;
    rows->count = kept->count;
    rows->train = kept->train;
    rows->layers = kept->layers;
    rows->width = kept->width;
    rows->states = (const float *)(kept + 1);
    rows->features = rows->states + states;
    rows->users = (const uint32_t *)(rows->features + kept->count * EVIDENCE_FEATURES);
    rows->labels = (const uint8_t *)(rows->users + kept->count);
    return true;
}

static bool find_kept(struct making *making, const char *key)
{
    struct error ignored;
    if (making->source->cache == NULL || access(making->path, R_OK) != 0 ||
        file_map(making->path, &making->rows->map, &ignored) != 0)
        return false;
    making->rows->known = look(making->rows, key);
    if (!making->rows->known)
        file_unmap(&making->rows->map);
    return making->rows->known;
}

static int write_bytes(struct making *making, const void *bytes, size_t size, struct error *err)
{
    if (fwrite(bytes, 1, size, making->file) != size)
        return error_set(err, ERROR_RETRY, "%s: %s", making->unfinished, strerror(errno));
    return 0;
}

static int take_states(void *context, size_t row, const float *states, struct error *err)
{
    struct making *making = context;
    struct heads_rows *rows = making->rows;
    const struct trajectory_row *seen = &making->trajectory.rows[row];
    if (seen->label == TRAJECTORY_UNLABELLED || seen->known_ms >= making->end_ms)
        return 0;
    buffer_append(&making->features, &making->trajectory.features[row * EVIDENCE_FEATURES],
                  EVIDENCE_FEATURES * sizeof(float));
    buffer_append(&making->users, &seen->user, sizeof seen->user);
    buffer_append(&making->labels, &seen->label, 1);
    rows->count++;
    progress_show(&making->progress, rows->count,
                  (double)(seen->timestamp_ms - rows->from_ms) / (double)(rows->to_ms - rows->from_ms));
    return write_bytes(making, states, rows->layers * rows->width * sizeof *states, err);
}

static int replay_part(struct making *making, int part, struct error *err)
{
    struct replay_totals totals = {0};
    choose_part(making, part);
    making->model.states = take_states;
    int result = replay_collect(making->source->logged->log, &making->settings, &making->model, &making->trajectory,
                                &totals, err);
    if (result == 0)
        trajectory_free(&making->trajectory);
    return result;
}

/* Header, states, then what was gathered meanwhile; the header's numbers once more, now that they are known. */
static int write_rows(struct making *making, const char *key, struct error *err)
{
    struct heads_rows *rows = making->rows;
    struct kept kept = {.layers = rows->layers, .width = rows->width, .features = EVIDENCE_FEATURES};
    const struct buffer *const tails[] = {&making->features, &making->users, &making->labels};
    memcpy(kept.magic, magic, sizeof magic);
    memcpy(kept.key, key, sizeof kept.key);
    if (fwrite(&kept, sizeof kept, 1, making->file) != 1)
        return error_set(err, ERROR_RETRY, "%s: %s", making->unfinished, strerror(errno));
    if (replay_part(making, 0, err) != 0)
        return -1;
    rows->train = rows->count;
    if (replay_part(making, 1, err) != 0)
        return -1;
    for (size_t i = 0; i < 3; i++)
        if (buffer_check(tails[i], "gathering rows", err) != 0 ||
            write_bytes(making, tails[i]->data, tails[i]->size, err) != 0)
            return -1;
    kept.count = rows->count;
    kept.train = rows->train;
    return fseek(making->file, 0, SEEK_SET) == 0 && fwrite(&kept, sizeof kept, 1, making->file) == 1 &&
                   fflush(making->file) == 0
               ? 0
               : error_set(err, ERROR_RETRY, "%s: %s", making->unfinished, strerror(errno));
}

/* The checksum covers most of the header, too, so it is worked out when that is there. */
static int seal(struct making *making, struct error *err)
{
    const size_t behind = offsetof(struct kept, key);
    struct file_map map;
    if (file_map(making->unfinished, &map, err) != 0)
        return -1;
    uint64_t checksum = XXH3_64bits(map.data + behind, map.size - behind);
    file_unmap(&map);
    if (fseek(making->file, offsetof(struct kept, checksum), SEEK_SET) != 0 ||
        fwrite(&checksum, sizeof checksum, 1, making->file) != 1 || fflush(making->file) != 0)
        return error_set(err, ERROR_RETRY, "%s: %s", making->unfinished, strerror(errno));
    return 0;
}

/* Finds its file a name: among the kept ones, or one that nobody will look for. */
static int open_file(struct making *making, struct error *err)
{
    const char *cache = making->source->cache, *temporary = getenv("TMPDIR");
    int descriptor;
    if (cache != NULL && file_make_directories(cache, err) != 0)
        return -1;
    snprintf(making->unfinished, sizeof making->unfinished, "%s/headrace-states-XXXXXX",
             cache != NULL       ? cache
             : temporary != NULL ? temporary
                                 : "/tmp");
    descriptor = mkstemp(making->unfinished);
    making->file = descriptor < 0 ? NULL : fdopen(descriptor, "w+b");
    return making->file != NULL ? 0 : error_set(err, ERROR_RETRY, "%s: %s", making->unfinished, strerror(errno));
}

static int make_rows(struct making *making, const char *key, struct error *err)
{
    struct heads_rows *rows = making->rows;
    const struct heads *heads = &making->source->answering->heads;
    rows->layers = heads->exits[heads->count - 1].layer;
    rows->width = heads->width;
    if (open_file(making, err) != 0)
        return -1;
    progress_begin(&making->progress, "hidden states", "rows");
    int result = write_rows(making, key, err);
    if (result == 0)
        result = seal(making, err);
    progress_end(&making->progress, rows->count);
    fclose(making->file);
    if (result == 0)
        result = file_map(making->unfinished, &rows->map, err);
    if (result == 0 && !look(rows, key))
        result = error_set(err, ERROR_RETRY, "%s: what was written there is not what was read", making->unfinished);
    if (result != 0 || making->source->cache == NULL || rename(making->unfinished, making->path) != 0)
        unlink(making->unfinished);
    return result;
}

static int check_rows(const struct heads_rows *rows, struct error *err)
{
    if (rows->train < LEAST_ROWS || rows->count - rows->train < LEAST_ROWS)
        return error_set(err, ERROR_BAD_INPUT,
                         "%zu rows to train on and %zu to calibrate on: at least %d each; take a longer range or a "
                         "larger share of its rows",
                         rows->train, rows->count - rows->train, LEAST_ROWS);
    return 0;
}

int heads_rows_load(struct heads_rows *rows, const struct heads_source *source, struct error *err)
{
    struct making making = {.source = source, .rows = rows};
    char key[40];
    *rows = (struct heads_rows){0};
    int result = -1;
    if (find_range(&making, err) != 0)
        goto out;
    settle(&making);
    if (make_key(&making, key, err) != 0)
        goto out;
    if (source->cache != NULL)
        snprintf(making.path, sizeof making.path, "%s/%s.states", source->cache, key);
    result = find_kept(&making, key) ? 0 : make_rows(&making, key, err);
    if (result == 0)
        result = check_rows(rows, err);
out:
    if (result != 0)
        heads_rows_free(rows);
    buffer_free(&making.features);
    buffer_free(&making.users);
    buffer_free(&making.labels);
    return result;
}

void heads_rows_free(struct heads_rows *rows)
{
    file_unmap(&rows->map);
    *rows = (struct heads_rows){0};
}
