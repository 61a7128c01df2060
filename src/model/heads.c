#include "model/heads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* A head at `layer` with the same row for every layer up to it. */
static int copy_row(struct head *head, size_t layer, const float *row, size_t width, struct error *err)
{
    *head = (struct head){.layer = layer, .first = 1, .leave = INFINITY};
    head->rows = malloc(layer * width * sizeof *head->rows);
    head->biases = calloc(layer, sizeof *head->biases);
    if (head->rows == NULL || head->biases == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the head at layer %zu", layer);
    for (size_t i = 0; i < layer; i++)
        memcpy(head->rows + i * width, row, width * sizeof *row);
    return 0;
}

int heads_from_output(struct heads *heads, const struct model *model, const size_t *layers, size_t count, int32_t yes,
                      int32_t no, struct error *err)
{
    *heads = (struct heads){.width = model->width,
                            .norm_epsilon = (float)model->norm_epsilon,
                            .exit0_leave = INFINITY,
                            .reference = SIZE_MAX};
    if (check_layers(model, layers, count, err) != 0 || check_labels(model, yes, no, err) != 0)
        return -1;
    int result = -1;
    float *difference = malloc(model->width * sizeof *difference),
          *scratch = malloc(2 * model->width * sizeof *scratch);
    heads->exits = calloc(count + 1, sizeof *heads->exits);
    if (difference == NULL || scratch == NULL || heads->exits == NULL) {
        error_set(err, ERROR_FATAL, "out of memory for %zu heads", count + 1);
        goto out;
    }
    if (read_difference(model, yes, no, difference, scratch, err) != 0)
        goto out;
    while (heads->count <= count) {
        size_t layer = heads->count < count ? layers[heads->count] : model->layer_count;
        if (copy_row(&heads->exits[heads->count++], layer, difference, model->width, err) != 0)
            goto out;
    }
    result = write_id(heads, layers, count, err);
out:
    free(difference);
    free(scratch);
    if (result != 0)
        heads_free(heads);
    return result;
}

static void free_head(struct head *head)
{
    free(head->rows);
    free(head->biases);
    free(head->evidence);
}

void heads_free(struct heads *heads)
{
    for (size_t i = 0; i < heads->count; i++)
        free_head(&heads->exits[i]);
    free(heads->exits);
    free(heads->exit0);
    *heads = (struct heads){0};
}

static bool is_among(size_t layer, const size_t *layers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (layers[i] == layer)
            return true;
    return false;
}

/* "5, 10, 30" */
static void list_layers(const struct heads *heads, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < heads->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%zu", i == 0 ? "" : ", ", heads->exits[i].layer);
}

int heads_keep(struct heads *heads, const size_t *layers, size_t count, size_t max_layer, struct error *err)
{
    size_t last = heads->count, kept = 0;
    char found[256] = "";

    for (size_t i = 0; i < heads->count; i++)
        if (max_layer == 0 ? i + 1 == heads->count : heads->exits[i].layer == max_layer)
            last = i;
    if (last == heads->count) {
        list_layers(heads, found, sizeof found);
        return error_set(err, ERROR_FATAL, "heads %s have none at layer %zu to end with: theirs are at layers %s",
                         heads->id, max_layer, found);
    }
    for (size_t i = 0; i < heads->count; i++)
        if (i == last || (i < last && is_among(heads->exits[i].layer, layers, count)))
            heads->exits[kept++] = heads->exits[i];
        else
            free_head(&heads->exits[i]);
    heads->count = kept;
    return 0;
}

static float sum_products(const float *a, const float *b, size_t count)
{
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

float heads_exit0_logit(const struct heads *heads, const float *features)
{
    return sum_products(heads->exit0, features, heads->evidence_count) + heads->exit0_bias;
}

float head_evidence_logit(const struct heads *heads, const struct head *head, const float *features)
{
    return head->evidence == NULL ? 0.0f : sum_products(head->evidence, features, heads->evidence_count);
}

void heads_weigh_evidence(const struct heads *heads, const float *features, float *logits)
{
    for (size_t i = 0; i < heads->count; i++)
        logits[i] = head_evidence_logit(heads, &heads->exits[i], features);
}

double heads_probability(double logit)
{
    return 1.0 / (1.0 + exp(-logit));
}
