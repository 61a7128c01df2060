#include "score/feedback.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

/*
 * Answers lie in sets of WAYS by their hash; a new one takes the place of the oldest of its set. Two pairs of one hash
 * are taken for one: at 64 bits that does not happen in the life of an answer.
 */
enum { SETS = 1 << 16, WAYS = 4, MINUTES = 60, MINUTE_MS = 60000, FINE_BINS = 64, BINS = 10 };

struct remembered {
    uint64_t hash; /* 0: none */
    float probability;
    uint32_t number; /* of the answer, in order: wraps around */
};

struct bin {
    uint32_t count, yes;
    double sum; /* of probabilities */
};

/* What was joined in one minute. */
struct minute {
    int64_t number; /* of minutes since the clock's start */
    struct bin bins[FINE_BINS];
};

struct feedback {
    pthread_mutex_t lock;
    uint32_t answers;
    struct remembered sets[SETS][WAYS];
    struct minute minutes[MINUTES];
};

int feedback_create(struct feedback **result, struct error *err)
{
    struct feedback *feedback = calloc(1, sizeof *feedback);
    if (feedback == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for feedback");
    if (pthread_mutex_init(&feedback->lock, NULL) != 0) {
        free(feedback);
        return error_set(err, ERROR_FATAL, "no lock for feedback");
    }
    for (size_t i = 0; i < MINUTES; i++)
        feedback->minutes[i].number = INT64_MIN;
    *result = feedback;
    return 0;
}

void feedback_destroy(struct feedback *feedback)
{
    if (feedback == NULL)
        return;
    pthread_mutex_destroy(&feedback->lock);
    free(feedback);
}

static uint64_t hash_of(struct text request_id, struct text item_id)
{
    XXH64_hash_t request = XXH3_64bits(request_id.data, request_id.size);
    XXH64_hash_t hash = XXH3_64bits_withSeed(item_id.data, item_id.size, request);
    return hash != 0 ? hash : 1;
}

/* The place of that answer, or the one to put it in. */
static struct remembered *place_of(struct feedback *feedback, uint64_t hash)
{
    struct remembered *set = feedback->sets[hash % SETS], *oldest = set;
    for (size_t i = 0; i < WAYS; i++)
        if (set[i].hash == hash)
            return &set[i];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].hash == 0)
            return &set[i];
        if (feedback->answers - set[i].number > feedback->answers - oldest->number)
            oldest = &set[i];
    }
    return oldest;
}

void feedback_answered(struct feedback *feedback, struct text request_id, struct text item_id, double probability)
{
    uint64_t hash = hash_of(request_id, item_id);
    pthread_mutex_lock(&feedback->lock);
    *place_of(feedback, hash) = (struct remembered){hash, (float)probability, feedback->answers++};
    pthread_mutex_unlock(&feedback->lock);
}

static void count_joined(struct feedback *feedback, float probability, bool label, int64_t now_ms)
{
    int64_t number = now_ms / MINUTE_MS;
    struct minute *minute = &feedback->minutes[(uint64_t)number % MINUTES];
    size_t place = (size_t)(fminf(fmaxf(probability, 0.0f), 1.0f) * FINE_BINS);
    if (minute->number != number)
        *minute = (struct minute){.number = number};
    struct bin *bin = &minute->bins[place < FINE_BINS ? place : FINE_BINS - 1];
    bin->count++;
    bin->yes += label;
    bin->sum += (double)probability;
}

bool feedback_labelled(struct feedback *feedback, struct text request_id, struct text item_id, bool label,
                       int64_t now_ms)
{
    uint64_t hash = hash_of(request_id, item_id);
    pthread_mutex_lock(&feedback->lock);
    struct remembered *place = place_of(feedback, hash);
    bool found = place->hash == hash;
    if (found) {
        count_joined(feedback, place->probability, label, now_ms);
        place->hash = 0;
    }
    pthread_mutex_unlock(&feedback->lock);
    return found;
}

static void add_bin(struct bin *to, const struct bin *from)
{
    to->count += from->count;
    to->yes += from->yes;
    to->sum += from->sum;
}

/* The hour's bins; returns how many it has joined. */
static uint64_t sum_hour(struct feedback *feedback, int64_t now_ms, struct bin bins[FINE_BINS])
{
    int64_t newest = now_ms / MINUTE_MS;
    uint64_t count = 0;
    pthread_mutex_lock(&feedback->lock);
    for (size_t m = 0; m < MINUTES; m++) {
        const struct minute *minute = &feedback->minutes[m];
        if (minute->number == INT64_MIN || minute->number <= newest - MINUTES)
            continue;
        for (size_t i = 0; i < FINE_BINS; i++) {
            add_bin(&bins[i], &minute->bins[i]);
            count += minute->bins[i].count;
        }
    }
    pthread_mutex_unlock(&feedback->lock);
    return count;
}

struct feedback_calibration feedback_calibration(struct feedback *feedback, int64_t now_ms)
{
    struct bin bins[FINE_BINS] = {0}, all = {0}, bin = {0};
    struct feedback_calibration calibration = {.count = sum_hour(feedback, now_ms, bins)};
    double off = 0;

    if (calibration.count == 0)
        return calibration;
    for (size_t i = 0; i < FINE_BINS; i++) {
        add_bin(&all, &bins[i]);
        add_bin(&bin, &bins[i]);
        if (i + 1 < FINE_BINS && bin.count * (uint64_t)BINS < calibration.count)
            continue;
        off += fabs(bin.sum - (double)bin.yes);
        bin = (struct bin){0};
    }
    calibration.error = off / (double)calibration.count;
    calibration.mean_p = all.sum / (double)calibration.count;
    calibration.mean_yes = (double)all.yes / (double)calibration.count;
    return calibration;
}
