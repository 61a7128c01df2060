/*
 * synthetic.h - a trajectory whose truth is known: what its users like follows from numbers that it holds
 *
 * logit of yes = user + item. Features: the item's and the user's part with noise in the places of their like rates,
 * the rest noise. Readings: exit 0, then "text" and "hybrid", exits at layers 4, 8 and 12 of 12, each on four layers. A
 * head's noise shrinks from layer to layer, least at layer 8; a hybrid's is smaller than a text's.
 */
#ifndef TESTS_REPLAY_SYNTHETIC_H
#define TESTS_REPLAY_SYNTHETIC_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "graph/evidence.h"
#include "replay/trajectory.h"

enum { SYNTHETIC_USERS = 80, SYNTHETIC_ITEMS = 120, SYNTHETIC_LAYERS = 12, SYNTHETIC_READINGS = 25 };

struct synthetic {
    struct trajectory trajectory;
    double *truth; /* (count) probability that the label was drawn with */
};

static inline double synthetic_noise(struct random *random) /* mean 0, deviation 1, nearly normal */
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += random_uniform(random);
    return sum - 6;
}

static inline void synthetic_readings(struct trajectory *trajectory)
{
    struct trajectory_reading *reading = trajectory->readings;
    *reading++ = (struct trajectory_reading){"exit0", 0, 0};
    for (int set = 0; set < 2; set++)
        for (uint32_t exit = 4; exit <= 12; exit += 4)
            for (uint32_t layer = exit - 3; layer <= exit; layer++) {
                *reading = (struct trajectory_reading){"", exit, layer};
                snprintf(reading++->set, sizeof reading->set, "%s", set == 0 ? "text" : "hybrid");
            }
}

/* Of a row: text_noise is how far the deepest text head is from the truth. */
static inline void synthetic_row(struct synthetic *synthetic, size_t i, double user, double item, double text_noise,
                                 struct random *random)
{
    struct trajectory *trajectory = &synthetic->trajectory;
    float *features = &trajectory->features[i * EVIDENCE_FEATURES];
    float *logits = &trajectory->logits[i * SYNTHETIC_READINGS];
    struct trajectory_row *row = &trajectory->rows[i];
    double truth = user + item, shared = synthetic_noise(random);
    synthetic->truth[i] = 1 / (1 + exp(-truth));
    row->label = random_uniform(random) < synthetic->truth[i];
    for (size_t j = 0; j < EVIDENCE_FEATURES; j++)
        features[j] = (float)synthetic_noise(random);
    features[0] = (float)(item + 0.3 * synthetic_noise(random));
    features[3] = (float)(user + 0.3 * synthetic_noise(random));
    logits[0] = features[0] + features[3];
    for (size_t r = 1; r < SYNTHETIC_READINGS; r++) {
        const struct trajectory_reading *reading = &trajectory->readings[r];
        double depth = fabs((double)reading->layer - 8) / 8 + text_noise;
        double part = strcmp(reading->set, "hybrid") == 0 ? 0.5 : 1;
        logits[r] = (float)(truth + part * depth * (shared + 0.2 * synthetic_noise(random)));
    }
}

/*
 * `requests` of one to three rows; the first half trains, a tenth calibrates, the rest is the test. Every 20th row has
 * no text, every 50th no label, days go by.
 */
static inline struct synthetic synthetic_make(size_t requests, double text_noise, uint64_t seed)
{
    struct synthetic synthetic = {.trajectory = {.layers = SYNTHETIC_LAYERS, .reading_count = SYNTHETIC_READINGS}};
    struct trajectory *trajectory = &synthetic.trajectory;
    struct random random = {seed};
    double users[SYNTHETIC_USERS], items[SYNTHETIC_ITEMS];
    for (size_t i = 0; i < SYNTHETIC_USERS; i++)
        users[i] = synthetic_noise(&random);
    for (size_t i = 0; i < SYNTHETIC_ITEMS; i++)
        items[i] = synthetic_noise(&random);
    trajectory->readings = calloc(SYNTHETIC_READINGS, sizeof *trajectory->readings);
    trajectory->rows = calloc(requests * 3, sizeof *trajectory->rows);
    trajectory->features = calloc(requests * 3 * EVIDENCE_FEATURES, sizeof *trajectory->features);
    trajectory->logits = calloc(requests * 3 * SYNTHETIC_READINGS, sizeof *trajectory->logits);
    synthetic.truth = calloc(requests * 3, sizeof *synthetic.truth);
    synthetic_readings(trajectory);
    for (uint32_t request = 0; request < requests; request++) {
        uint32_t user = (uint32_t)random_below(&random, SYNTHETIC_USERS);
        for (size_t rows = 1 + request % 3; rows > 0; rows--) {
            uint32_t item = (uint32_t)random_below(&random, SYNTHETIC_ITEMS);
            size_t i = trajectory->count++;
            trajectory->rows[i] = (struct trajectory_row){
                .timestamp_ms = 1600000000000 + request * INT64_C(7200000),
                .request = request,
                .user = user,
                .item = item,
                .prefix_tokens = 100 + user,
                .tail_tokens = 30 + item % 7,
                .user_events = user % 12,
                .item_events = item % 20,
                .part = request < requests / 2        ? TRAJECTORY_TRAIN
                        : request < requests * 6 / 10 ? TRAJECTORY_CALIBRATE
                                                      : TRAJECTORY_TEST,
            };
            synthetic_row(&synthetic, i, users[user], items[item], text_noise, &random);
            if (i % 50 == 49)
                trajectory->rows[i].label = TRAJECTORY_UNLABELLED;
            if (i % 20 == 19) {
                trajectory->rows[i].tail_tokens = 0;
                for (size_t r = 1; r < SYNTHETIC_READINGS; r++)
                    trajectory->logits[i * SYNTHETIC_READINGS + r] = NAN;
            }
        }
    }
    trajectory->users = SYNTHETIC_USERS;
    trajectory->items = SYNTHETIC_ITEMS;
    trajectory->requests = requests;
    snprintf(trajectory->model, sizeof trajectory->model, "synthetic");
    snprintf(trajectory->heads, sizeof trajectory->heads, "<heads> & \"co\"");
    snprintf(trajectory->template_hash, sizeof trajectory->template_hash, "0123456789abcdef");
    snprintf(trajectory->mode, sizeof trajectory->mode, "f32");
    return synthetic;
}

static inline void synthetic_free(struct synthetic *synthetic)
{
    free(synthetic->trajectory.readings);
    free(synthetic->trajectory.rows);
    free(synthetic->trajectory.features);
    free(synthetic->trajectory.logits);
    free(synthetic->truth);
}

#endif
