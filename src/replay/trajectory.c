#include "replay/trajectory.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "base/file.h"
#include "graph/evidence.h"

enum { MAGIC_SIZE = 8, CHECKSUM_SIZE = 8, ROW_SIZE = 48, READING_SIZE = 24 };
enum { MOST_ROWS = 1 << 30, MOST_READINGS = 1 << 16, MOST_LAYERS = 1 << 16, LAST_STATUS = 4 /* of candidate_status */ };

static const char magic[MAGIC_SIZE] = {'H', 'R', 'T', 'R', 'A', 'J', 0, 1};

static void put_32(struct buffer *out, uint32_t value)
{
    value = htole32(value);
    buffer_append(out, &value, sizeof value);
}

static void put_64(struct buffer *out, uint64_t value)
{
    value = htole64(value);
    buffer_append(out, &value, sizeof value);
}

static void put_row(struct buffer *out, const struct trajectory_row *row)
{
    put_64(out, (uint64_t)row->timestamp_ms);
    put_64(out, (uint64_t)row->known_ms);
    put_32(out, row->request);
    put_32(out, row->user);
    put_32(out, row->item);
    put_32(out, row->prefix_tokens);
    put_32(out, row->tail_tokens);
    put_32(out, row->user_events);
    put_32(out, row->item_events);
    buffer_append_byte(out, row->label);
    buffer_append_byte(out, row->status);
    buffer_append_byte(out, row->part);
    buffer_append_byte(out, 0);
}

static void put_all(struct buffer *out, const struct trajectory *trajectory)
{
    buffer_append(out, trajectory->model, sizeof trajectory->model);
    buffer_append(out, trajectory->heads, sizeof trajectory->heads);
    buffer_append(out, trajectory->template_hash, sizeof trajectory->template_hash);
    buffer_append(out, trajectory->mode, sizeof trajectory->mode);
    buffer_append(out, trajectory->key, sizeof trajectory->key);
    const size_t sizes[] = {trajectory->count, trajectory->reading_count, trajectory->layers, trajectory->users,
                            trajectory->items, trajectory->requests,      EVIDENCE_FEATURES};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        put_64(out, sizes[i]);
    for (size_t i = 0; i < trajectory->reading_count; i++) {
        const struct trajectory_reading *reading = &trajectory->readings[i];
        buffer_append(out, reading->set, sizeof reading->set);
        put_32(out, reading->exit);
        put_32(out, reading->layer);
    }
    for (size_t i = 0; i < trajectory->count; i++)
        put_row(out, &trajectory->rows[i]);
    /* Floats lie on a little-endian machine, which is what the engine needs anyway, as they do in the file. */
    buffer_append(out, trajectory->features, trajectory->count * EVIDENCE_FEATURES * sizeof(float));
    buffer_append(out, trajectory->logits, trajectory->count * trajectory->reading_count * sizeof(float));
}

int trajectory_save(const struct trajectory *trajectory, const char *path, struct error *err)
{
    struct buffer out = {0};
    buffer_append(&out, magic, sizeof magic);
    put_64(&out, 0);
    put_all(&out, trajectory);
    int result = buffer_check(&out, "saving a trajectory", err);
    if (result == 0) {
        const size_t head = MAGIC_SIZE + CHECKSUM_SIZE;
        uint64_t checksum = htole64(XXH3_64bits(out.data + head, out.size - head));
        memcpy(out.data + MAGIC_SIZE, &checksum, sizeof checksum);
        result = file_replace(path, out.data, out.size, err);
    }
    buffer_free(&out);
    return result;
}

/* What is still to be read. Taking more than there is gives zeros and is seen at the end. */
struct rest {
    const uint8_t *data;
    size_t size;
    bool short_of;
};

static void take(struct rest *rest, void *out, size_t size)
{
    if (size > rest->size) {
        rest->short_of = true;
        memset(out, 0, size);
        return;
    }
    if (size > 0)
        memcpy(out, rest->data, size);
    rest->data += size;
    rest->size -= size;
}

static uint32_t take_32(struct rest *rest)
{
    uint32_t value;
    take(rest, &value, sizeof value);
    return le32toh(value);
}

static uint64_t take_64(struct rest *rest)
{
    uint64_t value;
    take(rest, &value, sizeof value);
    return le64toh(value);
}

static bool take_text(struct rest *rest, char *out, size_t size)
{
    take(rest, out, size);
    return memchr(out, '\0', size) != NULL;
}

static bool take_row(struct rest *rest, struct trajectory_row *row, const struct trajectory *trajectory)
{
    uint8_t bytes[4];
    row->timestamp_ms = (int64_t)take_64(rest);
    row->known_ms = (int64_t)take_64(rest);
    row->request = take_32(rest);
    row->user = take_32(rest);
    row->item = take_32(rest);
    row->prefix_tokens = take_32(rest);
    row->tail_tokens = take_32(rest);
    row->user_events = take_32(rest);
    row->item_events = take_32(rest);
    take(rest, bytes, sizeof bytes);
    row->label = bytes[0];
    row->status = bytes[1];
    row->part = bytes[2];
    return row->request < trajectory->requests && row->user < trajectory->users && row->item < trajectory->items &&
           (row->label <= 1 || row->label == TRAJECTORY_UNLABELLED) && row->status <= LAST_STATUS &&
           row->part < TRAJECTORY_PARTS && bytes[3] == 0;
}

static bool take_rows(struct rest *rest, struct trajectory *trajectory)
{
    for (size_t i = 0; i < trajectory->count; i++)
        if (!take_row(rest, &trajectory->rows[i], trajectory) ||
            (i > 0 && trajectory->rows[i].request < trajectory->rows[i - 1].request))
            return false;
    return true;
}

static bool take_readings(struct rest *rest, struct trajectory *trajectory)
{
    for (size_t i = 0; i < trajectory->reading_count; i++) {
        struct trajectory_reading *reading = &trajectory->readings[i];
        bool whole = take_text(rest, reading->set, sizeof reading->set);
        reading->exit = take_32(rest);
        reading->layer = take_32(rest);
        if (!whole || reading->set[0] == '\0' || reading->exit > trajectory->layers || reading->layer > reading->exit)
            return false;
    }
    return true;
}

static bool take_floats(struct rest *rest, float *out, size_t count, bool may_lack)
{
    take(rest, out, count * sizeof *out);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]) && !(may_lack && isnan(out[i])))
            return false;
    return true;
}

/* Sizes are believed only when the file is just as long as they say. */
static bool take_sizes(struct rest *rest, struct trajectory *trajectory)
{
    uint64_t sizes[7];
    for (size_t i = 0; i < 7; i++)
        sizes[i] = take_64(rest);
    if (sizes[0] > MOST_ROWS || sizes[1] > MOST_READINGS || sizes[2] > MOST_LAYERS || sizes[3] > sizes[0] ||
        sizes[4] > sizes[0] || sizes[5] > sizes[0] || sizes[6] != EVIDENCE_FEATURES)
        return false;
    trajectory->count = (size_t)sizes[0];
    trajectory->reading_count = (size_t)sizes[1];
    trajectory->layers = (size_t)sizes[2];
    trajectory->users = (size_t)sizes[3];
    trajectory->items = (size_t)sizes[4];
    trajectory->requests = (size_t)sizes[5];
    uint64_t row = ROW_SIZE + sizeof(float) * (EVIDENCE_FEATURES + sizes[1]); /* at most some 2^19 */
    return rest->size == sizes[1] * READING_SIZE + sizes[0] * row;
}

static int read_all(struct trajectory *trajectory, struct rest *rest, const char *path, struct error *err)
{
    if (!take_text(rest, trajectory->model, sizeof trajectory->model) ||
        !take_text(rest, trajectory->heads, sizeof trajectory->heads) ||
        !take_text(rest, trajectory->template_hash, sizeof trajectory->template_hash) ||
        !take_text(rest, trajectory->mode, sizeof trajectory->mode) ||
        !take_text(rest, trajectory->key, sizeof trajectory->key) || !take_sizes(rest, trajectory))
        return error_set(err, ERROR_BAD_INPUT,
                         "%s: its sizes are not those of a trajectory of this version: remove it, it is made anew",
                         path);
    trajectory->rows = calloc(trajectory->count + 1, sizeof *trajectory->rows);
    trajectory->features = calloc(trajectory->count * EVIDENCE_FEATURES + 1, sizeof *trajectory->features);
    trajectory->readings = calloc(trajectory->reading_count + 1, sizeof *trajectory->readings);
    trajectory->logits = calloc(trajectory->count * trajectory->reading_count + 1, sizeof *trajectory->logits);
    if (trajectory->rows == NULL || trajectory->features == NULL || trajectory->readings == NULL ||
        trajectory->logits == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while reading %s", path);
    if (!take_readings(rest, trajectory) || !take_rows(rest, trajectory) ||
        !take_floats(rest, trajectory->features, trajectory->count * EVIDENCE_FEATURES, false) ||
        !take_floats(rest, trajectory->logits, trajectory->count * trajectory->reading_count, true) || rest->short_of)
        return error_set(err, ERROR_BAD_INPUT, "%s: its rows mean nothing: remove it, it is made anew", path);
    return 0;
}

int trajectory_load(struct trajectory *trajectory, const char *path, struct error *err)
{
    const size_t head = MAGIC_SIZE + CHECKSUM_SIZE;
    struct file_map map;
    *trajectory = (struct trajectory){0};
    if (file_map(path, &map, err) != 0) {
        err->kind = ERROR_BAD_INPUT;
        return -1;
    }
    int result;
    uint64_t checksum = 0;
    if (map.size >= head)
        memcpy(&checksum, map.data + MAGIC_SIZE, sizeof checksum);
    if (map.size < head || memcmp(map.data, magic, sizeof magic) != 0)
        result = error_set(err, ERROR_BAD_INPUT, "%s is no trajectory of this version", path);
    else if (le64toh(checksum) != XXH3_64bits(map.data + head, map.size - head))
        result = error_set(err, ERROR_BAD_INPUT, "%s is damaged or cut off: remove it, it is made anew", path);
    else {
        struct rest rest = {map.data + head, map.size - head, false};
        result = read_all(trajectory, &rest, path, err);
    }
    file_unmap(&map);
    if (result != 0)
        trajectory_free(trajectory);
    return result;
}

void trajectory_free(struct trajectory *trajectory)
{
    free(trajectory->rows);
    free(trajectory->features);
    free(trajectory->readings);
    free(trajectory->logits);
    *trajectory = (struct trajectory){0};
}

size_t trajectory_find(const struct trajectory *trajectory, const char *set, size_t exit, size_t layer)
{
    for (size_t i = 0; i < trajectory->reading_count; i++) {
        const struct trajectory_reading *reading = &trajectory->readings[i];
        if (strcmp(reading->set, set) == 0 && reading->exit == exit && reading->layer == layer)
            return i;
    }
    return SIZE_MAX;
}
