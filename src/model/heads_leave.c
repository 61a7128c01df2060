/* heads_leave.c - new thresholds into a file of heads, byte for byte where the old ones stand */
#include <math.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "model/gguf_file.h"
#include "model/heads.h"
#include "model/heads_file.h"

/* Where the numbers of a key, of that type, stand in the file; 0: there is no such key. */
static size_t place_of(const struct gguf *file, const char *key, enum value_type type)
{
    uint32_t at = table_find(&file->keys, text_of(key));
    if (at == TABLE_NONE || file->values[at].type != type)
        return 0;
    return (size_t)(file->values[at].data - file->bytes);
}

/* A single number is written as a double, and may have come as a float. */
static void fill_exit0(struct buffer *bytes, const struct gguf *file, const char *key, float leave)
{
    double wide = (double)leave;
    size_t at = place_of(file, key, VALUE_FLOAT32);
    if (at != 0)
        memcpy(bytes->data + at, &leave, sizeof leave);
    at = place_of(file, key, VALUE_FLOAT64);
    if (at != 0)
        memcpy(bytes->data + at, &wide, sizeof wide);
}

static int fill(struct buffer *bytes, const struct gguf *file, const char *set, const size_t *layers,
                const float *leave, size_t count, struct error *err)
{
    char exits_key[HEADS_NAME_SIZE], key[HEADS_NAME_SIZE];
    size_t exits, found = 0;
    if (gguf_int_array(file, heads_set_key(exits_key, set, "exits"), &exits, err) != 0)
        return -1;
    size_t at = place_of(file, heads_set_key(key, set, "leave"), VALUE_FLOAT32);
    if (at == 0 || at + exits * sizeof *leave > bytes->size)
        return gguf_fail(file, err, "%s has no thresholds for %zu exits", key, exits);
    for (size_t e = 0; e < exits; e++) {
        float value = INFINITY;
        for (size_t i = 0; i < count; i++)
            if ((int64_t)layers[i] == gguf_int_at(file, exits_key, e)) {
                value = leave[i + 1];
                found++;
            }
        memcpy(bytes->data + at + e * sizeof value, &value, sizeof value);
    }
    if (found != count)
        return gguf_fail(file, err, "%s: of %zu exits only %zu are in the file", set, count, found);
    fill_exit0(bytes, file, heads_set_key(key, set, "exit0_leave"), leave[0]);
    return 0;
}

int heads_write_leave(const char *path, const char *set, const size_t *layers, const float *leave, size_t count,
                      struct error *err)
{
    struct buffer bytes = {0};
    struct heads heads;
    struct gguf *file;
    if (gguf_open(&file, path, err) != 0)
        return -1;
    buffer_append(&bytes, file->bytes, file->size);
    int result = heads_load(&heads, NULL, file, set, NULL, err); /* it is sound, as it is */
    if (result == 0) {
        heads_free(&heads);
        result = buffer_check(&bytes, "writing thresholds", err);
    }
    if (result == 0)
        result = fill(&bytes, file, set, layers, leave, count, err);
    gguf_close(file);
    if (result == 0)
        result = file_replace(path, bytes.data, bytes.size, err);
    buffer_free(&bytes);
    return result;
}
