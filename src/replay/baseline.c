#include "replay/baseline.h"

#include <math.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/table.h"
#include "replay/regression.h"

enum { WEIGHTS = 3 };

struct counter {
    uint64_t likes;
    uint64_t events;
};

struct counters {
    struct table ids;
    struct counter *counters; /* by id */
    size_t capacity;
};

struct baseline {
    struct counters users;
    struct counters items;
};

struct baseline *baseline_create(void)
{
    return calloc(1, sizeof(struct baseline));
}

static void free_counters(struct counters *counters)
{
    table_free(&counters->ids);
    free(counters->counters);
}

void baseline_destroy(struct baseline *baseline)
{
    if (baseline == NULL)
        return;
    free_counters(&baseline->users);
    free_counters(&baseline->items);
    free(baseline);
}

static double rate(const struct counters *counters, struct text id)
{
    uint32_t number = table_find(&counters->ids, id);
    struct counter counter = number == TABLE_NONE ? (struct counter){0} : counters->counters[number];
    return ((double)counter.likes + 1) / ((double)counter.events + 2);
}

struct baseline_rates baseline_look(const struct baseline *baseline, struct text user_id, struct text item_id)
{
    return (struct baseline_rates){rate(&baseline->items, item_id), rate(&baseline->users, user_id)};
}

/* The id's counter, made if it was not there; NULL without memory. */
static struct counter *find_counter(struct counters *counters, struct text id)
{
    size_t known = counters->ids.count;
    if (array_reserve(&counters->counters, &counters->capacity, known + 1, sizeof *counters->counters) != 0)
        return NULL;
    uint32_t number = table_add(&counters->ids, id);
    if (number == TABLE_NONE)
        return NULL;
    if (number == known)
        counters->counters[number] = (struct counter){0};
    return &counters->counters[number];
}

int baseline_observe(struct baseline *baseline, struct text user_id, struct text item_id, bool like,
                     struct baseline_rates *before, struct error *err)
{
    struct counter *user = find_counter(&baseline->users, user_id);
    struct counter *item = find_counter(&baseline->items, item_id);
    if (user == NULL || item == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while counting likes");
    if (before != NULL)
        *before = baseline_look(baseline, user_id, item_id);
    user->likes += like;
    user->events++;
    item->likes += like;
    item->events++;
    return 0;
}

static double logit(double p)
{
    return log(p) - log1p(-p);
}

int baseline_fit(const struct baseline_rates *rates, const bool *likes, size_t count, struct baseline_model *model,
                 struct error *err)
{
    double *rows = calloc(count * WEIGHTS + 1, sizeof *rows);
    if (rows == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a regression on %zu rows", count);
    int result = -1;
    for (size_t i = 0; i < count; i++) {
        if (!(rates[i].item > 0 && rates[i].item < 1 && rates[i].user > 0 && rates[i].user < 1)) {
            error_set(err, ERROR_BAD_INPUT, "regression: row %zu has rates %g and %g, not inside (0, 1)", i,
                      rates[i].item, rates[i].user);
            goto out;
        }
        rows[i * WEIGHTS] = 1;
        rows[i * WEIGHTS + 1] = logit(rates[i].item);
        rows[i * WEIGHTS + 2] = logit(rates[i].user);
    }
    double weights[WEIGHTS];
    result = regression_fit(rows, likes, count, WEIGHTS, (const double[WEIGHTS]){1, 1, 1}, weights, err);
    if (result == 0)
        *model = (struct baseline_model){weights[0], weights[1], weights[2]};
out:
    free(rows);
    return result;
}

double baseline_predict(const struct baseline_model *model, const struct baseline_rates *rates)
{
    const double row[WEIGHTS] = {1, logit(rates->item), logit(rates->user)};
    return regression_predict(row, (const double[WEIGHTS]){model->bias, model->item, model->user}, WEIGHTS);
}
