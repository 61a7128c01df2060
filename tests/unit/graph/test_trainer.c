#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "graph/trainer.h"

enum { USERS = 7, ITEMS = 9, NODES = USERS + ITEMS, PAIRS = 24, SAMPLES = 11, DIMENSION = 16 };

static void expect_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.9g is not %.9g within %g", a, b, tolerance);
}

static const struct trainer_settings lightgcn = {
    .layers = 3, .dimension = DIMENSION, .learning_rate = 0.01, .l2 = 0.05, .batch = 8, .negatives = 2, .seed = 7};

/* Every user and item has a pair but the last of each. */
static void draw_pairs(struct pair pairs[PAIRS])
{
    struct random random = {3};
    size_t count = 0;
    while (count < PAIRS) {
        struct pair pair = {(uint32_t)random_below(&random, USERS - 1), (uint32_t)random_below(&random, ITEMS - 1)};
        size_t i = 0;
        while (i < count && (pairs[i].user != pair.user || pairs[i].item != pair.item))
            i++;
        if (i == count)
            pairs[count++] = pair;
    }
}

struct fixture {
    struct pool *pool;
    struct trainer *trainer;
    struct pair pairs[PAIRS];
};

static void start(struct fixture *fixture, const struct trainer_settings *settings, size_t threads)
{
    struct error err = {0};
    draw_pairs(fixture->pairs);
    fixture->pool = pool_create(threads);
    assert_non_null(fixture->pool);
    if (trainer_create(&fixture->trainer, settings, fixture->pool, USERS, ITEMS, fixture->pairs, PAIRS, &err) != 0)
        fail_msg("%s", err.message);
}

static void stop(struct fixture *fixture)
{
    trainer_destroy(fixture->trainer);
    pool_destroy(fixture->pool);
}

/* The definition, in double, with a dense matrix: what the trainer is held against. */
struct reference {
    double rows[NODES][DIMENSION], bias[ITEMS];
    double adjacency[NODES][NODES];
};

static void fill_reference(struct reference *reference, const struct fixture *fixture)
{
    double degree[NODES] = {0};
    memset(reference, 0, sizeof *reference);
    for (size_t i = 0; i < PAIRS; i++) {
        degree[fixture->pairs[i].user]++;
        degree[USERS + fixture->pairs[i].item]++;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        size_t user = fixture->pairs[i].user, item = USERS + fixture->pairs[i].item;
        reference->adjacency[user][item] = reference->adjacency[item][user] = 1 / sqrt(degree[user] * degree[item]);
    }
    for (size_t i = 0; i < (size_t)NODES * DIMENSION; i++)
        reference->rows[i / DIMENSION][i % DIMENSION] = (double)trainer_base(fixture->trainer)[i];
    for (size_t i = 0; trainer_item_bias(fixture->trainer) != NULL && i < ITEMS; i++)
        reference->bias[i] = (double)trainer_item_bias(fixture->trainer)[i];
}

static void propagate(const struct reference *reference, size_t layers, double out[NODES][DIMENSION])
{
    double from[NODES][DIMENSION], to[NODES][DIMENSION];
    memcpy(from, reference->rows, sizeof from);
    memcpy(out, from, sizeof from);
    for (size_t k = 0; k < layers; k++) {
        memset(to, 0, sizeof to);
        for (size_t a = 0; a < NODES; a++)
            for (size_t b = 0; b < NODES; b++)
                for (size_t i = 0; i < DIMENSION; i++)
                    to[a][i] += reference->adjacency[a][b] * from[b][i];
        memcpy(from, to, sizeof to);
        for (size_t i = 0; i < (size_t)NODES * DIMENSION; i++)
            out[i / DIMENSION][i % DIMENSION] += to[i / DIMENSION][i % DIMENSION];
    }
    for (size_t i = 0; i < (size_t)NODES * DIMENSION; i++)
        out[i / DIMENSION][i % DIMENSION] /= (double)(layers + 1);
}

static double dot(const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIMENSION; i++)
        sum += a[i] * b[i];
    return sum;
}

static double reference_loss(const struct reference *reference, const struct trainer_settings *settings,
                             const struct trainer_sample *samples)
{
    double final[NODES][DIMENSION], loss = 0;
    propagate(reference, settings->layers, final);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t user = samples[i].user, item = samples[i].item, negative = samples[i].negative;
        double difference = dot(final[user], final[USERS + item]) - dot(final[user], final[USERS + negative]) +
                            reference->bias[item] - reference->bias[negative];
        double squares = dot(reference->rows[user], reference->rows[user]) +
                         dot(reference->rows[USERS + item], reference->rows[USERS + item]) +
                         dot(reference->rows[USERS + negative], reference->rows[USERS + negative]) +
                         pow(reference->bias[item], 2) + pow(reference->bias[negative], 2);
        loss += log(1 + exp(-difference)) + settings->l2 / 2 * squares;
    }
    return loss / SAMPLES;
}

static void draw_samples(struct trainer_sample samples[SAMPLES])
{
    struct random random = {11};
    for (size_t i = 0; i < SAMPLES; i++)
        samples[i] =
            (struct trainer_sample){(uint32_t)random_below(&random, USERS), (uint32_t)random_below(&random, ITEMS),
                                    (uint32_t)random_below(&random, ITEMS)};
}

/* Some steps first, so that biases are not 0, and rows of a size that shows. */
static void compare_gradient(const struct trainer_settings *settings)
{
    struct fixture fixture;
    struct reference reference;
    struct trainer_sample samples[SAMPLES];
    const float *gradient, *bias_gradient;
    start(&fixture, settings, 2);
    for (size_t i = 0; i < 20; i++)
        trainer_step(fixture.trainer);
    draw_samples(samples);
    fill_reference(&reference, &fixture);
    double loss = trainer_gradient(fixture.trainer, samples, SAMPLES, &gradient, &bias_gradient);
    expect_near(loss, reference_loss(&reference, settings, samples), 1e-6);

    const double step = 1e-5;
    for (size_t i = 0; i < (size_t)NODES * DIMENSION + (settings->item_bias ? ITEMS : 0); i++) {
        bool is_bias = i >= (size_t)NODES * DIMENSION;
        double *value =
            is_bias ? &reference.bias[i - (size_t)NODES * DIMENSION] : &reference.rows[i / DIMENSION][i % DIMENSION];
        double there = is_bias ? (double)bias_gradient[i - (size_t)NODES * DIMENSION] : (double)gradient[i];
        double at = *value;
        *value = at + step;
        double above = reference_loss(&reference, settings, samples);
        *value = at - step;
        double below = reference_loss(&reference, settings, samples);
        *value = at;
        expect_near(there, (above - below) / (2 * step), 1e-6);
    }
    stop(&fixture);
}

static void the_gradient_is_that_of_finite_differences(void **state)
{
    (void)state;
    struct trainer_settings settings = lightgcn;
    for (settings.layers = 0; settings.layers <= 4; settings.layers++)
        compare_gradient(&settings);
}

static void biases_have_their_gradient_too(void **state)
{
    (void)state;
    struct trainer_settings settings = lightgcn;
    settings.layers = 0;
    settings.item_bias = true;
    compare_gradient(&settings);
}

/* Every user lacks one item only, so that the samples of a batch of all pairs are known whatever is drawn. */
static void steps_are_adams(void **state)
{
    (void)state;
    enum { FEW = 3, MORE = 4, KNOWN = FEW * (MORE - 1), VALUES = (FEW + MORE) * DIMENSION };
    struct pair pairs[KNOWN];
    struct trainer_sample samples[KNOWN];
    size_t count = 0;
    for (uint32_t user = 0; user < FEW; user++)
        for (uint32_t item = 0; item < MORE; item++)
            if (item != user) {
                samples[count] = (struct trainer_sample){user, item, user};
                pairs[count++] = (struct pair){user, item};
            }
    struct trainer_settings settings = lightgcn;
    struct error err = {0};
    struct trainer *trainer;
    struct pool *pool = pool_create(2);
    settings.batch = KNOWN;
    settings.negatives = 1;
    assert_int_equal(trainer_create(&trainer, &settings, pool, FEW, MORE, pairs, count, &err), 0);

    double values[VALUES], first[VALUES] = {0}, second[VALUES] = {0};
    for (size_t i = 0; i < VALUES; i++)
        values[i] = (double)trainer_base(trainer)[i];
    for (int t = 1; t <= 30; t++) {
        const float *gradient, *unused;
        trainer_gradient(trainer, samples, count, &gradient, &unused);
        for (size_t i = 0; i < VALUES; i++) {
            double slope = (double)gradient[i];
            first[i] = 0.9 * first[i] + 0.1 * slope;
            second[i] = 0.999 * second[i] + 0.001 * slope * slope;
            values[i] -= 0.01 * (first[i] / (1 - pow(0.9, t))) / (sqrt(second[i] / (1 - pow(0.999, t))) + 1e-8);
        }
        trainer_step(trainer);
        for (size_t i = 0; i < VALUES; i++)
            expect_near((double)trainer_base(trainer)[i], values[i], 1e-4);
    }
    trainer_destroy(trainer);
    pool_destroy(pool);
}

static void the_same_seed_gives_the_same_rows_for_any_number_of_threads(void **state)
{
    (void)state;
    float first[NODES * DIMENSION];
    for (size_t threads = 1; threads <= 4; threads++) {
        struct fixture fixture;
        start(&fixture, &lightgcn, threads);
        for (size_t i = 0; i < 30; i++)
            trainer_step(fixture.trainer);
        if (threads == 1)
            memcpy(first, trainer_base(fixture.trainer), sizeof first);
        assert_memory_equal(first, trainer_base(fixture.trainer), sizeof first);
        stop(&fixture);
    }
    struct trainer_settings other = lightgcn;
    struct fixture fixture;
    other.seed++;
    start(&fixture, &other, 1);
    assert_memory_not_equal(first, trainer_base(fixture.trainer), sizeof first);
    stop(&fixture);
}

static void the_loss_falls(void **state)
{
    (void)state;
    struct trainer_settings settings = lightgcn;
    for (size_t bias = 0; bias < 2; bias++) {
        struct fixture fixture;
        settings.l2 = 0;
        settings.layers = bias ? 0 : 2;
        settings.item_bias = bias != 0;
        start(&fixture, &settings, 2);
        size_t batches = trainer_batches(fixture.trainer);
        double losses[2] = {0};
        for (size_t epoch = 0; epoch < 200; epoch++)
            for (size_t i = 0; i < batches; i++) {
                double loss = trainer_step(fixture.trainer) / (double)batches;
                if (epoch == 0 || epoch == 199)
                    losses[epoch == 199] += loss;
            }
        expect_near(losses[0], log(2), 0.2); /* as yet it knows nothing */
        assert_true(losses[1] < losses[0] / 2);
        stop(&fixture);
    }
}

/* Two communities that share no item: training must rank the missing item of one's own first. */
static void training_finds_the_items_of_ones_own_kind(void **state)
{
    (void)state;
    enum { KINDS = 2, EACH = 6 };
    struct pair pairs[KINDS * EACH * EACH], held_out[KINDS * EACH];
    size_t count = 0, held = 0;
    for (uint32_t user = 0; user < KINDS * EACH; user++)
        for (uint32_t item = 0; item < EACH; item++) {
            struct pair pair = {user, user / EACH * EACH + item};
            if (item == user % EACH)
                held_out[held++] = pair;
            else
                pairs[count++] = pair;
        }
    struct trainer_settings settings = lightgcn;
    struct error err = {0};
    struct trainer *trainer;
    struct pool *pool = pool_create(2);
    settings.l2 = 0;
    assert_int_equal(trainer_create(&trainer, &settings, pool, KINDS * EACH, KINDS * EACH, pairs, count, &err), 0);
    expect_near(trainer_recall(trainer, held_out, 0, 1), -1, 0);
    for (size_t i = 0; i < 300; i++)
        trainer_step(trainer);
    expect_near(trainer_recall(trainer, held_out, held, 1), 1, 0);
    expect_near(trainer_recall(trainer, held_out, held, 20), 1, 0); /* more than there are */
    trainer_destroy(trainer);
    pool_destroy(pool);
}

/* Rows made by hand: the scores of user 0 are 8, 7, 6, ... of items 0, 1, 2, ... */
static void recall_counts_only_what_the_user_does_not_have(void **state)
{
    (void)state;
    struct trainer_settings settings = lightgcn;
    struct error err = {0};
    struct trainer *trainer;
    struct pool *pool = pool_create(1);
    const struct pair pairs[] = {{0, 0}, {0, 2}, {1, 3}};
    const struct pair held_out[] = {{0, 1}, {0, 4}, {1, 0}};
    float base[5 + ITEMS][DIMENSION] = {{0}};
    settings.layers = 0;
    base[0][3] = base[1][3] = 1;
    for (size_t item = 0; item < ITEMS; item++)
        base[5 + item][3] = (float)(ITEMS - 1 - item);
    assert_int_equal(trainer_create(&trainer, &settings, pool, 5, ITEMS, pairs, 3, &err), 0);
    trainer_set_base(trainer, &base[0][0]);
    /* User 0 is offered 1, 3, 4, ... and user 1 0, 1, 2, 4, ... */
    expect_near(trainer_recall(trainer, held_out, 3, 1), (0.5 + 1) / 2, 1e-12);
    expect_near(trainer_recall(trainer, held_out, 3, 2), (0.5 + 1) / 2, 1e-12);
    expect_near(trainer_recall(trainer, held_out, 3, 3), (1.0 + 1) / 2, 1e-12);
    expect_near(trainer_recall(trainer, held_out + 1, 1, 2), 0, 1e-12);
    trainer_destroy(trainer);
    pool_destroy(pool);
}

static void the_best_rows_come_back(void **state)
{
    (void)state;
    struct fixture fixture;
    float best[NODES * DIMENSION];
    start(&fixture, &lightgcn, 1);
    trainer_restore(fixture.trainer); /* nothing was kept: nothing happens */
    trainer_step(fixture.trainer);
    memcpy(best, trainer_base(fixture.trainer), sizeof best);
    trainer_keep(fixture.trainer);
    trainer_step(fixture.trainer);
    assert_memory_not_equal(best, trainer_base(fixture.trainer), sizeof best);
    trainer_restore(fixture.trainer);
    assert_memory_equal(best, trainer_base(fixture.trainer), sizeof best);
    stop(&fixture);
}

static void expect_refusal(const struct trainer_settings *settings, size_t items, const struct pair *pairs,
                           size_t count, const char *words)
{
    struct error err = {0};
    struct trainer *trainer = NULL;
    struct pool *pool = pool_create(1);
    assert_int_equal(trainer_create(&trainer, settings, pool, 2, items, pairs, count, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    pool_destroy(pool);
}

static void what_cannot_be_trained_is_refused(void **state)
{
    (void)state;
    const struct pair pairs[] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
    struct trainer_settings settings = lightgcn;
    expect_refusal(&settings, 2, pairs, 0, "no edges");
    expect_refusal(&settings, 2, pairs, 4, "every item");
    settings.dimension = 20;
    expect_refusal(&settings, 3, pairs, 4, "dimension 20");
    settings = lightgcn;
    settings.layers = TRAINER_LAYER_LIMIT + 1;
    expect_refusal(&settings, 3, pairs, 4, "layers");
    settings = lightgcn;
    settings.learning_rate = NAN;
    expect_refusal(&settings, 3, pairs, 4, "learning rate");
    settings = lightgcn;
    settings.l2 = -1;
    expect_refusal(&settings, 3, pairs, 4, "l2");
    settings = lightgcn;
    settings.batch = SIZE_MAX;
    expect_refusal(&settings, 3, pairs, 4, "batch");
    settings = lightgcn;
    settings.item_bias = true;
    expect_refusal(&settings, 3, pairs, 4, "bias");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gradient_is_that_of_finite_differences),
        cmocka_unit_test(biases_have_their_gradient_too),
        cmocka_unit_test(steps_are_adams),
        cmocka_unit_test(the_same_seed_gives_the_same_rows_for_any_number_of_threads),
        cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(training_finds_the_items_of_ones_own_kind),
        cmocka_unit_test(recall_counts_only_what_the_user_does_not_have),
        cmocka_unit_test(the_best_rows_come_back),
        cmocka_unit_test(what_cannot_be_trained_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
