#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/buffer.h"

static int check_layers(const struct model *model, const size_t *layers, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (layers[i] < 1 || layers[i] >= model->layer_count)
            return error_set(err, ERROR_FATAL, "exit layer %zu: the model has exits at layers 1 to %zu", layers[i],
                             model->layer_count - 1);
        if (i > 0 && layers[i] <= layers[i - 1])
            return error_set(err, ERROR_FATAL, "exit layer %zu after %zu: exits must ascend", layers[i], layers[i - 1]);
    }
    return 0;
}

static int check_labels(const struct model *model, int32_t yes, int32_t no, struct error *err)
{
    if (yes < 0 || no < 0 || (size_t)yes >= model->vocabulary || (size_t)no >= model->vocabulary)
        return error_set(err, ERROR_FATAL, "label tokens %d and %d: the model has tokens 0 to %zu", yes, no,
                         model->vocabulary - 1);
    if (yes == no)
        return error_set(err, ERROR_FATAL, "label tokens: both are %d", yes);
    return 0;
}

/* gain * (yes row - no row) into `difference`; `scratch` holds two rows. */
static int read_difference(const struct model *model, int32_t yes, int32_t no, float *difference, float *scratch,
                           struct error *err)
{
    float *no_row = scratch, *gain = scratch + model->width;
    tensor_row(model->output, (size_t)yes, difference);
    tensor_row(model->output, (size_t)no, no_row);
    tensor_row(model->output_norm, 0, gain);
    for (size_t i = 0; i < model->width; i++) {
        difference[i] = gain[i] * (difference[i] - no_row[i]);
        if (!isfinite(difference[i]))
            return error_set(err, ERROR_FATAL, "output rows of the label tokens %d and %d are not finite numbers", yes,
                             no);
    }
    return 0;
}

/* "lm-head:5,10,15"; a list too long for the field is told apart by its hash. */
static int write_id(struct heads *heads, const size_t *layers, size_t count, struct error *err)
{
    struct buffer id = {0};
    buffer_append_string(&id, "lm-head");
    for (size_t i = 0; i < count; i++)
        buffer_printf(&id, "%s%zu", i == 0 ? ":" : ",", layers[i]);
    if (id.size >= sizeof heads->id) {
        unsigned long long hash = XXH3_64bits(id.data, id.size);
        buffer_clear(&id);
        buffer_printf(&id, "lm-head:%zu-exits-%016llx", count, hash);
    }
    buffer_append_byte(&id, '\0');
    int result = buffer_check(&id, "naming the heads", err);
    if (result == 0)
        memcpy(heads->id, id.data, id.size);
    buffer_free(&id);
    return result;
}

int heads_from_output(struct heads *heads, const struct model *model, const size_t *layers, size_t count, int32_t yes,
                      int32_t no, struct error *err)
{
    *heads = (struct heads){.width = model->width, .norm_epsilon = (float)model->norm_epsilon};
    if (check_layers(model, layers, count, err) != 0 || check_labels(model, yes, no, err) != 0)
        return -1;
    int result = -1;
    size_t row_bytes = model->width * sizeof(float);
    float *difference = malloc(row_bytes), *scratch = malloc(2 * row_bytes);
    heads->exits = calloc(count + 1, sizeof *heads->exits);
    if (difference == NULL || scratch == NULL || heads->exits == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for %zu heads", count + 1);
        goto out;
    }
    if (read_difference(model, yes, no, difference, scratch, err) != 0)
        goto out;
    for (heads->count = 0; heads->count <= count; heads->count++) {
        struct head *head = &heads->exits[heads->count];
        head->layer = heads->count < count ? layers[heads->count] : model->layer_count;
        head->difference = malloc(row_bytes);
        if (head->difference == NULL) {
            error_set(err, ERROR_FATAL, "out of memory for %zu heads", count + 1);
            goto out;
        }
        memcpy(head->difference, difference, row_bytes);
    }
    result = write_id(heads, layers, count, err);
out:
    free(difference);
    free(scratch);
    if (result != 0)
        heads_free(heads);
    return result;
}

void heads_free(struct heads *heads)
{
    for (size_t i = 0; i < heads->count; i++)
        free(heads->exits[i].difference);
    free(heads->exits);
    *heads = (struct heads){0};
}
