#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_file.h"
#include "model/heads.h"
#include "model/heads_file.h"

enum { MOST_LAYERS = 1024, MOST_WIDTH = 1 << 16 };

static const char *const set_characters = "abcdefghijklmnopqrstuvwxyz0123456789_-";

void heads_model_hash(char hash[36], struct gguf *gguf, const struct model *model)
{
    snprintf(hash, 36, "%s%s%s", gguf_hash(gguf), model->adapters[0] != '\0' ? "+" : "", model->adapters);
}

/* Whether `key` is headrace.heads.SET.exits. */
static bool names_set(struct text key, char set[HEADS_SET_SIZE])
{
    size_t before = strlen(HEADS_KEY), behind = strlen(".exits");
    if (key.size <= before + behind || key.size - before - behind >= HEADS_SET_SIZE ||
        memcmp(key.data, HEADS_KEY, before) != 0 || memcmp(key.data + key.size - behind, ".exits", behind) != 0)
        return false;
    size_t size = key.size - before - behind;
    memcpy(set, key.data + before, size);
    set[size] = '\0';
    return strlen(set) == size && strspn(set, set_characters) == size;
}

size_t heads_sets(const struct gguf *file, char sets[][HEADS_SET_SIZE], size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < gguf_key_count(file) && count < most; i++) {
        struct text key;
        char shown[96];
        gguf_key(file, i, &key, shown);
        count += names_set(key, sets[count]);
    }
    return count;
}

static int fail_unknown_set(const struct gguf *file, const char *set, struct error *err)
{
    enum { MOST_SETS = 8 };
    char sets[MOST_SETS][HEADS_SET_SIZE], list[MOST_SETS * (HEADS_SET_SIZE + 2)] = "";
    size_t count = heads_sets(file, sets, MOST_SETS), used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : ", ", sets[i]);
    return gguf_fail(file, err, "has no set of heads \"%.32s\"; there are: %s", set, count == 0 ? "none" : list);
}

static int check_type(const struct gguf *file, struct error *err)
{
    struct text type;
    uint64_t format;
    if (!gguf_has(file, "general.type"))
        return gguf_fail(file, err, "is no file of exit heads: general.type is missing");
    if (gguf_text(file, "general.type", &type, err) != 0)
        return -1;
    if (!text_equal(type, text_of(HEADS_TYPE)))
        return gguf_fail(file, err,
                         "is no file of exit heads: general.type is \"" TEXT_FORMAT "\", not \"" HEADS_TYPE "\"",
                         TEXT_ARGS(text_prefix(type, 32)));
    if (gguf_unsigned(file, HEADS_KEY "format", 1, UINT32_MAX, &format, err) != 0)
        return -1;
    if (format > HEADS_FORMAT)
        return gguf_fail(file, err,
                         "key " HEADS_KEY "format is %" PRIu64 ": made by a newer headrace, this one reads %d", format,
                         HEADS_FORMAT);
    return 0;
}

/* A float key, finite and in the range of float. */
static int read_number(const struct gguf *file, const char *key, float *out, struct error *err)
{
    double value;
    if (gguf_float(file, key, &value, err) != 0)
        return -1;
    *out = (float)value;
    return isfinite(*out) ? 0 : gguf_fail(file, err, "key %s is no finite number", key);
}

/* A threshold: a number from 0 up or infinity. */
static int check_leave(const struct gguf *file, const char *key, double value, struct error *err)
{
    return value >= 0 ? 0 : gguf_fail(file, err, "key %s: %g is no threshold (0 or more, or infinity)", key, value);
}

static int read_shape(struct heads *heads, const struct gguf *file, struct error *err)
{
    uint64_t width;
    if (gguf_unsigned(file, HEADS_KEY "width", 1, MOST_WIDTH, &width, err) != 0 ||
        read_number(file, HEADS_KEY "norm_epsilon", &heads->norm_epsilon, err) != 0)
        return -1;
    if (!(heads->norm_epsilon >= 0.0f && heads->norm_epsilon < 1.0f))
        return gguf_fail(file, err, "key " HEADS_KEY "norm_epsilon is %g", (double)heads->norm_epsilon);
    heads->width = (size_t)width;
    if (!gguf_has(file, HEADS_KEY "features"))
        return 0;
    if (gguf_text_array(file, HEADS_KEY "features", &heads->evidence_count, err) != 0)
        return -1;
    if (heads->evidence_count > HEADS_MAX_FEATURES)
        return gguf_fail(file, err, "key " HEADS_KEY "features: %zu names, supported: at most %d",
                         heads->evidence_count, HEADS_MAX_FEATURES);
    return 0;
}

/* A tensor of that shape as floats, all of them finite. */
static int read_tensor(const struct gguf *file, const char *name, size_t rows, size_t columns, float **out,
                       struct error *err)
{
    const struct tensor *tensor;
    if (gguf_find_tensor(file, name, rows, columns, &tensor, err) != 0)
        return -1;
    *out = calloc(rows * columns, sizeof **out);
    if (*out == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the tensor %s", name);
    for (size_t i = 0; i < rows; i++)
        tensor_row(tensor, i, *out + i * columns);
    for (size_t i = 0; i < rows * columns; i++)
        if (!isfinite((*out)[i]))
            return gguf_fail(file, err, "tensor %s: value %zu is no finite number", name, i);
    return 0;
}

/* Weights of the features. */
static int read_evidence(const struct heads *heads, const struct gguf *file, const char *name, float **out,
                         struct error *err)
{
    if (heads->evidence_count == 0)
        return gguf_fail(file, err, "tensor %s weighs features, but key " HEADS_KEY "features names none", name);
    return read_tensor(file, name, 1, heads->evidence_count, out, err);
}

/* Layer, first and leave of each exit. */
static int read_exits(struct heads *heads, const struct gguf *file, const char *set, struct error *err)
{
    char exits[HEADS_NAME_SIZE], firsts[HEADS_NAME_SIZE], leaves[HEADS_NAME_SIZE];
    size_t first_count, leave_count, count;
    heads_set_key(exits, set, "exits");
    heads_set_key(firsts, set, "first");
    heads_set_key(leaves, set, "leave");
    if (gguf_int_array(file, exits, &count, err) != 0 || gguf_int_array(file, firsts, &first_count, err) != 0 ||
        gguf_float_array(file, leaves, &leave_count, err) != 0)
        return -1;
    if (count < 1 || count > HEADS_MAX_EXITS)
        return gguf_fail(file, err, "key %s: %zu exits, supported: 1 to %d", exits, count, HEADS_MAX_EXITS);
    if (first_count != count || leave_count != count)
        return gguf_fail(file, err, "keys %s, first, leave: %zu, %zu and %zu values, must be as many", exits, count,
                         first_count, leave_count);
    heads->exits = calloc(count, sizeof *heads->exits);
    if (heads->exits == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu heads", count);
    for (heads->count = 0; heads->count < count; heads->count++) {
        size_t i = heads->count;
        int64_t layer = gguf_int_at(file, exits, i), first = gguf_int_at(file, firsts, i);
        double leave = gguf_float_at(file, leaves, i);
        if (layer < 1 || layer > MOST_LAYERS || (i > 0 && (size_t)layer <= heads->exits[i - 1].layer))
            return gguf_fail(file, err, "key %s: exit %zu is at layer %" PRId64 "; they must ascend, from 1 to %d",
                             exits, i, layer, MOST_LAYERS);
        if (first < 1 || first > layer)
            return gguf_fail(file, err, "key %s: the exit at layer %" PRId64 " has rows from layer %" PRId64 " on",
                             firsts, layer, first);
        if (check_leave(file, leaves, leave, err) != 0)
            return -1;
        heads->exits[i] = (struct head){.layer = (size_t)layer, .first = (size_t)first, .leave = (float)leave};
    }
    return 0;
}

static int read_head(const struct heads *heads, struct head *head, const struct gguf *file, const char *set,
                     struct error *err)
{
    char name[HEADS_NAME_SIZE];
    size_t layers = head->layer - head->first + 1;
    if (read_tensor(file, heads_tensor_name(name, set, head->layer, "rows"), layers, heads->width, &head->rows, err) !=
            0 ||
        read_tensor(file, heads_tensor_name(name, set, head->layer, "biases"), 1, layers, &head->biases, err) != 0)
        return -1;
    heads_tensor_name(name, set, head->layer, "evidence");
    return gguf_tensor_named(file, name) == NULL ? 0 : read_evidence(heads, file, name, &head->evidence, err);
}

static int read_exit0(struct heads *heads, const struct gguf *file, const char *set, struct error *err)
{
    char key[HEADS_NAME_SIZE];
    double leave;
    if (gguf_tensor_named(file, "exit0.weights") == NULL)
        return 0;
    if (read_evidence(heads, file, "exit0.weights", &heads->exit0, err) != 0 ||
        read_number(file, HEADS_KEY "exit0_bias", &heads->exit0_bias, err) != 0)
        return -1;
    if (!gguf_has(file, heads_set_key(key, set, "exit0_leave")))
        return 0;
    if (gguf_float(file, key, &leave, err) != 0 || check_leave(file, key, leave, err) != 0)
        return -1;
    heads->exit0_leave = (float)leave;
    return 0;
}

static int read_reference(struct heads *heads, const struct gguf *file, const char *set, struct error *err)
{
    char key[HEADS_NAME_SIZE];
    uint64_t reference;
    if (!gguf_has(file, heads_set_key(key, set, "reference")))
        return 0;
    if (gguf_unsigned(file, key, 0, MOST_LAYERS, &reference, err) != 0)
        return -1;
    heads->reference = (size_t)reference;
    if (reference == 0 && heads->exit0 == NULL)
        return gguf_fail(file, err, "key %s is 0, exit 0, which the file does not have", key);
    for (size_t i = 0; reference > 0 && heads->exits[i].layer != reference; i++)
        if (i + 1 == heads->count)
            return gguf_fail(file, err, "key %s: there is no exit at layer %" PRIu64, key, reference);
    return 0;
}

static int check_model(const struct heads *heads, const struct gguf *file, const struct model *model, struct error *err)
{
    size_t last = heads->exits[heads->count - 1].layer;
    if (heads->width != model->width)
        return gguf_fail(file, err, "the heads are for hidden states of width %zu, the model's have %zu", heads->width,
                         model->width);
    if (last > model->layer_count)
        return gguf_fail(file, err, "the last head is at layer %zu, the model has %zu", last, model->layer_count);
    return 0;
}

/* "ml-100k:text" of ".../ml-100k.heads.gguf". */
static void write_id(struct heads *heads, const struct gguf *file, const char *set)
{
    static const char *const suffixes[] = {".gguf", ".heads"};
    const char *slash = strrchr(gguf_path(file), '/');
    struct text name = text_of(slash == NULL ? gguf_path(file) : slash + 1);
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(suffixes[i]);
        if (name.size > size && memcmp(name.data + name.size - size, suffixes[i], size) == 0)
            name.size -= size;
    }
    name = text_prefix(name, sizeof heads->id - HEADS_SET_SIZE - 1);
    snprintf(heads->id, sizeof heads->id, TEXT_FORMAT ":%s", TEXT_ARGS(name), set);
}

static bool is_printable(struct text text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((uint8_t)text.data[i] < ' ' || text.data[i] == 0x7f)
            return false;
    return text_is_utf8(text);
}

/* A text key that may be missing. It comes to stand in logs. */
static int read_text(const struct gguf *file, const char *key, char *out, size_t size, struct error *err)
{
    struct text value;
    *out = '\0';
    if (!gguf_has(file, key))
        return 0;
    if (gguf_text(file, key, &value, err) != 0)
        return -1;
    if (value.size >= size || !is_printable(value))
        return gguf_fail(file, err, "key %s: no UTF-8 text of one line and less than %zu bytes", key, size);
    if (value.size > 0)
        memcpy(out, value.data, value.size);
    out[value.size] = '\0';
    return 0;
}

static int read_integer(const struct gguf *file, const char *key, int64_t least, int64_t most, int64_t *out,
                        struct error *err)
{
    *out = 0;
    return gguf_has(file, key) ? gguf_integer(file, key, least, most, out, err) : 0;
}

static int read_origin(struct heads_origin *origin, const struct gguf *file, struct error *err)
{
    int64_t yes, no;
    *origin = (struct heads_origin){0};
    if (read_text(file, HEADS_KEY "origin.model", origin->model_hash, sizeof origin->model_hash, err) != 0 ||
        read_text(file, HEADS_KEY "origin.template", origin->template_hash, sizeof origin->template_hash, err) != 0 ||
        read_text(file, HEADS_KEY "origin.mode", origin->mode, sizeof origin->mode, err) != 0 ||
        read_text(file, HEADS_KEY "origin.made_by", origin->made_by, sizeof origin->made_by, err) != 0 ||
        read_integer(file, HEADS_KEY "origin.yes", 0, INT32_MAX, &yes, err) != 0 ||
        read_integer(file, HEADS_KEY "origin.no", 0, INT32_MAX, &no, err) != 0 ||
        read_integer(file, HEADS_KEY "origin.seed", INT64_MIN, INT64_MAX, &origin->seed, err) != 0 ||
        read_integer(file, HEADS_KEY "origin.from_ms", INT64_MIN, INT64_MAX, &origin->from_ms, err) != 0 ||
        read_integer(file, HEADS_KEY "origin.to_ms", INT64_MIN, INT64_MAX, &origin->to_ms, err) != 0)
        return -1;
    origin->yes = (int32_t)yes;
    origin->no = (int32_t)no;
    return 0;
}

static int load(struct heads *heads, struct heads_origin *origin, const struct gguf *file, const char *set,
                const struct model *model, struct error *err)
{
    struct heads_origin ignored;
    char key[HEADS_NAME_SIZE];
    if (check_type(file, err) != 0)
        return -1;
    if (strlen(set) >= HEADS_SET_SIZE || !gguf_has(file, heads_set_key(key, set, "exits")))
        return fail_unknown_set(file, set, err);
    if (read_shape(heads, file, err) != 0 || read_exits(heads, file, set, err) != 0)
        return -1;
    /* Before a tensor is read: a file for another model says so and not that a shape is wrong. */
    if (model != NULL && check_model(heads, file, model, err) != 0)
        return -1;
    for (size_t i = 0; i < heads->count; i++)
        if (read_head(heads, &heads->exits[i], file, set, err) != 0)
            return -1;
    if (read_exit0(heads, file, set, err) != 0 || read_reference(heads, file, set, err) != 0 ||
        read_origin(origin != NULL ? origin : &ignored, file, err) != 0)
        return -1;
    write_id(heads, file, set);
    return 0;
}

int heads_load(struct heads *heads, struct heads_origin *origin, const struct gguf *file, const char *set,
               const struct model *model, struct error *err)
{
    *heads = (struct heads){.exit0_leave = INFINITY, .reference = SIZE_MAX};
    if (load(heads, origin, file, set, model, err) == 0)
        return 0;
    heads_free(heads);
    return -1;
}

int heads_check_features(const struct gguf *file, const char *const *names, size_t count, struct error *err)
{
    static const char key[] = HEADS_KEY "features";
    size_t found;
    if (!gguf_has(file, key))
        return 0;
    if (gguf_text_array(file, key, &found, err) != 0)
        return -1;
    for (size_t i = 0; i < count && i < found; i++)
        if (!text_equal(gguf_text_at(file, key, i), text_of(names[i])))
            return gguf_fail(file, err,
                             "the heads weigh \"" TEXT_FORMAT "\" where the evidence has \"%s\": they are of another "
                             "version, train them anew",
                             TEXT_ARGS(text_prefix(gguf_text_at(file, key, i), 40)), names[i]);
    return found == count ? 0
                          : gguf_fail(file, err,
                                      "the heads weigh %zu features, the evidence has %zu: they are of another "
                                      "version, train them anew",
                                      found, count);
}
