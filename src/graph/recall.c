/* recall.c - how well the rows rank what they have not been shown */
#include <math.h>
#include <stdlib.h>

#include "graph/trainer_state.h"

struct scored {
    float score;
    uint32_t item;
};

struct ranking {
    const struct trainer *trainer;
    const struct pair *held_out;
    const size_t *firsts; /* (users of held_out + 1) where each one's pairs begin */
    size_t k;
    struct scored *best; /* (workers, k) */
    double *recalls;     /* (users of held_out) */
};

static float score_item(const struct trainer *trainer, uint32_t user, uint32_t item)
{
    size_t n = trainer->settings.dimension;
    const float *bias = trainer->bias[BIAS_VALUE];
    return trainer_dot(trainer->final + user * n, trainer->final + (trainer->graph.users + item) * n, n) +
           (bias != NULL ? bias[item] : 0);
}

/* Keeps best[0..count) in order, best first; of equal ones the first to come is ahead. Returns the new count. */
static size_t insert_scored(struct scored *best, size_t count, size_t k, struct scored scored)
{
    if (count == k && !(scored.score > best[k - 1].score))
        return count;
    size_t at = count < k ? count++ : k - 1;
    for (; at > 0 && scored.score > best[at - 1].score; at--)
        best[at] = best[at - 1];
    best[at] = scored;
    return count;
}

static void rank_user(void *job, size_t task, size_t worker)
{
    const struct ranking *ranking = job;
    const struct propagation *graph = &ranking->trainer->graph;
    const struct pair *held_out = ranking->held_out + ranking->firsts[task];
    size_t held = ranking->firsts[task + 1] - ranking->firsts[task], count = 0, hits = 0;
    uint32_t user = held_out[0].user;
    const uint32_t *own = graph->neighbours + graph->starts[user], *end = graph->neighbours + graph->starts[user + 1];
    struct scored *best = ranking->best + worker * ranking->k;
    for (uint32_t item = 0; item < graph->items; item++) {
        if (own < end && *own == graph->users + item)
            own++;
        else
            count =
                insert_scored(best, count, ranking->k, (struct scored){score_item(ranking->trainer, user, item), item});
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < held; j++)
            hits += best[i].item == held_out[j].item;
    ranking->recalls[task] = (double)hits / (double)held;
}

/* Where each user's pairs begin; returns how many users there are. */
static size_t list_users(const struct pair *held_out, size_t count, size_t *firsts)
{
    size_t users = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || held_out[i].user != held_out[i - 1].user)
            firsts[users++] = i;
    firsts[users] = count;
    return users;
}

double trainer_recall(struct trainer *trainer, const struct pair *held_out, size_t count, size_t k)
{
    double mean = -1;
    size_t *firsts = malloc((count + 1) * sizeof *firsts);
    double *recalls = calloc(count + 1, sizeof *recalls);
    struct scored *best = calloc(pool_threads(trainer->pool) * k, sizeof *best);
    if (count == 0 || firsts == NULL || recalls == NULL || best == NULL)
        goto out;
    size_t users = list_users(held_out, count, firsts);
    struct ranking ranking = {trainer, held_out, firsts, k, best, recalls};
    trainer_propagate(trainer);
    pool_run(trainer->pool, users, rank_user, &ranking);
    mean = 0;
    for (size_t i = 0; i < users; i++)
        mean += recalls[i] / (double)users;
out:
    free(firsts);
    free(recalls);
    free(best);
    return mean;
}
