#include "replay/answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "model/heads.h"

struct answer_place {
    const struct heads *heads;
    const struct head *head; /* NULL: exit 0 */
};

struct reading_list {
    struct trajectory_reading *readings;
    struct answer_place *places;
    size_t count, reading_capacity, place_capacity;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory for the heads' answers");
}

static int add_reading(struct reading_list *list, const char *set, const struct heads *heads, const struct head *head,
                       size_t layer, struct error *err)
{
    if (array_reserve(&list->readings, &list->reading_capacity, list->count + 1, sizeof *list->readings) != 0 ||
        array_reserve(&list->places, &list->place_capacity, list->count + 1, sizeof *list->places) != 0)
        return out_of_memory(err);
    struct trajectory_reading *reading = &list->readings[list->count];
    *reading = (struct trajectory_reading){.exit = head == NULL ? 0 : (uint32_t)head->layer, .layer = (uint32_t)layer};
    snprintf(reading->set, sizeof reading->set, "%s", set);
    list->places[list->count++] = (struct answer_place){heads, head};
    return 0;
}

static int add_set(struct reading_list *list, const struct replay_heads *set, const struct replay_model *model,
                   struct error *err)
{
    for (size_t e = 0; e < set->heads->count; e++) {
        const struct head *head = &set->heads->exits[e];
        size_t first =
            head->layer >= head->first + ENGINE_MAX_WINDOW ? head->layer - ENGINE_MAX_WINDOW + 1 : head->first;
        if (head->layer > model->heads->exits[model->heads->count - 1].layer ||
            set->heads->width != model->model->width)
            return error_set(err, ERROR_BAD_INPUT,
                             "heads \"%s\": the engine gives no hidden states for the exit at %zu", set->name,
                             head->layer);
        for (size_t layer = first; layer <= head->layer; layer++)
            if (add_reading(list, set->name, set->heads, head, layer, err) != 0)
                return -1;
    }
    return 0;
}

int answers_begin(struct answers *answers, const struct replay_model *model, struct trajectory_reading **readings,
                  size_t *reading_count, struct error *err)
{
    struct reading_list list = {0};
    *answers = (struct answers){.model = model, .due = 1};
    int result = 0;
    for (size_t i = 0; i < model->set_count && answers->exit0 == NULL; i++)
        if (model->sets[i].heads->exit0 != NULL)
            answers->exit0 = model->sets[i].heads;
    if (answers->exit0 != NULL)
        result = add_reading(&list, "exit0", answers->exit0, NULL, 0, err);
    for (size_t i = 0; result == 0 && i < model->set_count && model->engine != NULL; i++)
        result = add_set(&list, &model->sets[i], model, err);
    if (result == 0 && model->engine != NULL) {
        answers->scales = calloc(model->heads->exits[model->heads->count - 1].layer, sizeof *answers->scales);
        result = answers->scales == NULL ? out_of_memory(err) : 0;
    }
    if (result != 0) {
        free(list.readings);
        free(list.places);
        return -1;
    }
    answers->readings = *readings = list.readings;
    answers->reading_count = *reading_count = list.count;
    answers->places = list.places;
    if (model->progress)
        fprintf(stderr, "average  since               rows  label  prob-   layers\nloss     last                       "
                        "     ability\n");
    return 0;
}

void answers_free(struct answers *answers)
{
    free(answers->places);
    free(answers->scales);
}

static double weigh(const float *weights, const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)weights[i] * (double)values[i];
    return sum;
}

void answers_of_evidence(const struct answers *answers, const float *features, float *logits)
{
    if (answers->exit0 != NULL)
        logits[0] = heads_exit0_logit(answers->exit0, features);
}

void answers_of_states(struct answers *answers, const float *states, double *bare)
{
    const struct heads *own = answers->model->heads;
    size_t width = own->width, layers = own->exits[own->count - 1].layer;
    for (size_t l = 0; l < layers; l++) {
        const float *state = states + l * width;
        answers->scales[l] = 1 / sqrt(weigh(state, state, width) / (double)width + (double)own->norm_epsilon);
    }
    bare[0] = 0;
    for (size_t i = answers->exit0 != NULL; i < answers->reading_count; i++) {
        const struct head *head = answers->places[i].head;
        size_t layer = answers->readings[i].layer, row = layer - head->first;
        double logit = weigh(head->rows + row * width, states + (layer - 1) * width, width);
        bare[i] = logit * answers->scales[layer - 1] + (double)head->biases[row];
    }
}

void answers_with_evidence(const struct answers *answers, const double *bare, const float *features, float *logits)
{
    for (size_t i = answers->exit0 != NULL; i < answers->reading_count; i++) {
        const struct answer_place *place = &answers->places[i];
        double logit = bare[i];
        if (place->head->evidence != NULL)
            logit += weigh(place->head->evidence, features, place->heads->evidence_count);
        logits[i] = (float)logit;
    }
}

double answers_without_model(const struct answers *answers, const float *features)
{
    return heads_probability((double)(answers->exit0 != NULL ? heads_exit0_logit(answers->exit0, features)
                                                             : features[0] /* log odds of the item's like rate */));
}

static void print_line(struct answers *answers, const struct trajectory_row *row, double p, size_t layers)
{
    uint64_t rows = answers->shown_rows;
    fprintf(stderr, "%-8.6f %-8.6f %14llu %6u  %.4f %8zu\n", answers->loss / (double)rows,
            (answers->loss - answers->loss_before) / (double)(rows - answers->rows_before), (unsigned long long)rows,
            row->label, p, layers);
    answers->loss_before = answers->loss;
    answers->rows_before = rows;
}

void answers_show(struct answers *answers, const struct trajectory_row *row, double p, size_t layers)
{
    static const double least = 1e-7; /* as metrics_log_loss() clips */
    if (row->label == TRAJECTORY_UNLABELLED)
        return;
    double right = row->label == 1 ? p : 1 - p;
    answers->loss -= log(right < least ? least : right);
    answers->shown_rows++;
    if (!answers->model->progress || answers->shown_rows < answers->due)
        return;
    print_line(answers, row, p, layers);
    answers->due *= 2;
}

void answers_end(struct answers *answers)
{
    if (answers->model->progress && answers->shown_rows > 0)
        fprintf(stderr, "%llu rows, average loss %.6f\n", (unsigned long long)answers->shown_rows,
                answers->loss / (double)answers->shown_rows);
}
