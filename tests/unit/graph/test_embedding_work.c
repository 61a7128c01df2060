#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "graph/embedding_state.h"
#include "graph/embedding_truth.h"

/* A random life of embeddings, with the truth beside it. */
struct life {
    struct embedding_settings settings;
    struct embedding *embedding;
    struct truth *truth;
    struct random random;
    size_t nodes_made;
    float epsilon_most;
    uint64_t backlog_most;
    double error_most;
};

static void add_slot(struct life *life, uint32_t slot)
{
    struct error err;
    char key[32];
    snprintf(key, sizeof key, "n:%zu", life->nodes_made++);
    assert_int_equal(embedding_add_node(life->embedding, text_of(key), &life->truth->number[slot], &err), 0);
    assert_true(life->truth->number[slot] < NODES); /* numbers given back are used again */
}

static struct life begin_life(struct embedding_settings settings, uint64_t seed)
{
    struct error err;
    struct life life = {.settings = settings, .truth = truth_create(), .random = {seed}};
    life.embedding = embedding_create(&settings, &err);
    assert_non_null(life.embedding);
    for (uint32_t slot = 0; slot < NODES; slot++)
        add_slot(&life, slot);
    return life;
}

static void end_life(struct life *life)
{
    embedding_destroy(life->embedding);
    free(life->truth);
}

/* At every moment: no f, and no z of any layer, is farther from the truth than is said. */
static void check_bounds(struct life *life)
{
    size_t layers = life->settings.layers;
    truth_propagate(life->truth, life->embedding, layers);
    for (size_t k = 1; k <= layers; k++)
        assert_true(truth_layer_error(life->truth, life->embedding, k) <=
                    (double)embedding_layer_bound(life->embedding, k) + ROUNDING);
    float weights[LAYERS_MAX], total = 0;
    for (size_t k = 0; k < layers; k++) {
        weights[k] = life->settings.result == EMBEDDING_MEAN    ? 1.0f
                     : life->settings.result == EMBEDDING_FINAL ? (float)(k + 1 == layers)
                                                                : life->settings.weights[k];
        total += weights[k];
    }
    for (size_t k = 0; k < layers; k++)
        weights[k] /= total;
    double bound = (double)embedding_bound(life->embedding), exact[DIMENSION];
    for (uint32_t v = 0; v < NODES; v++) {
        if (life->truth->number[v] == NO_NODE)
            continue;
        float row[DIMENSION];
        embedding_read(life->embedding, life->truth->number[v], row);
        truth_result(life->truth, v, layers, weights, life->settings.normalise, exact);
        double error = distance(row, exact), product = 0, row_square = 0, square = 0;
        life->error_most = fmax(life->error_most, error);
        /* Rounding turns a short z^k by more. */
        assert_true(error <= bound + (life->settings.normalise ? 100 : 1) * ROUNDING);
        for (size_t i = 0; i < DIMENSION; i++) {
            product += (double)row[i] * exact[i];
            row_square += (double)row[i] * (double)row[i];
            square += exact[i] * exact[i];
        }
        if (!(square > 0 && row_square > 0))
            continue;
        double angle = acos(fmin(1, fmax(-1, product / sqrt(square * row_square))));
        assert_true(angle <= (double)embedding_angle(life->embedding, life->truth->number[v]) + 0.002);
    }
}

/*
 * Not every node is looked at when something is added to it. Still what is said to be unpublished is no less than what
 * is, and who holds back more than epsilon waits.
 */
static void check_held_back(const struct life *life)
{
    const struct embedding *embedding = life->embedding;
    for (uint32_t node = 0; node < embedding->node_count; node++) {
        for (size_t k = 1; k < life->settings.layers && !embedding->nodes[node].free; k++) {
            struct change change = row_measure(sum_of(embedding, node, k), share_of(embedding, node),
                                               published(embedding, node, k), DIMENSION);
            float moved = sqrtf(change.moved) - (float)ROUNDING / UNIT;
            float length = fmaxf(sqrtf(change.norm), 0.05f / UNIT);
            assert_true(moved <= largest_at(&embedding->unpublished[k], node));
            assert_true(moved <= embedding_epsilon(embedding) * length ||
                        (embedding->nodes[node].waiting & 1u << k) != 0);
        }
    }
}

static uint64_t operations_of(struct life *life, uint64_t *last)
{
    uint64_t now = embedding_operations(life->embedding), spent = now - *last;
    *last = now;
    return spent;
}

static void check_spent(struct life *life, uint64_t *last, size_t own)
{
    uint64_t spent = operations_of(life, last);
    if (life->settings.budget > 0)
        assert_true(spent <= life->settings.budget + own);
    else
        assert_true(embedding_backlog(life->embedding) == 0);
    if (embedding_epsilon(life->embedding) > life->epsilon_most)
        life->epsilon_most = embedding_epsilon(life->embedding);
    if (embedding_backlog(life->embedding) > life->backlog_most)
        life->backlog_most = embedding_backlog(life->embedding);
}

static void change_edge(struct life *life, uint32_t a, uint32_t b)
{
    if (life->truth->number[a] == NO_NODE || life->truth->number[b] == NO_NODE)
        return;
    uint64_t last = embedding_operations(life->embedding);
    toggle(life->embedding, life->truth, a, b);
    check_spent(life, &last, 2 * life->settings.layers);
}

static void change_base(struct life *life, uint32_t slot)
{
    if (life->truth->number[slot] == NO_NODE)
        return;
    struct error err;
    float z0[DIMENSION], read[DIMENSION];
    float length = (float)random_uniform(&life->random) * 0.5f;
    for (size_t i = 0; i < DIMENSION; i++)
        z0[i] = ((float)random_uniform(&life->random) - 0.5f) * length;
    uint64_t last = embedding_operations(life->embedding);
    assert_int_equal(embedding_set_base(life->embedding, life->truth->number[slot], z0, &err), 0);
    check_spent(life, &last, 0);
    embedding_read_layer(life->embedding, life->truth->number[slot], 0, read);
    for (size_t i = 0; i < DIMENSION; i++)
        assert_float_equal(z0[i], read[i], 0x1p-22f);
}

static void remove_slot(struct life *life, uint32_t slot)
{
    struct error err;
    if (life->truth->number[slot] == NO_NODE) {
        add_slot(life, slot);
        return;
    }
    if (life->truth->degree[slot] > 0) {
        assert_int_equal(embedding_remove_node(life->embedding, life->truth->number[slot], &err), -1);
        assert_int_equal(err.kind, ERROR_FATAL);
    }
    for (uint32_t other = 0; other < NODES; other++)
        if (life->truth->edge[slot][other])
            change_edge(life, slot, other);
    assert_int_equal(embedding_remove_node(life->embedding, life->truth->number[slot], &err), 0);
    assert_int_equal(embedding_remove_node(life->embedding, life->truth->number[slot], &err), -1);
    life->truth->number[slot] = NO_NODE;
}

static void drain_some(struct life *life)
{
    uint64_t last = embedding_operations(life->embedding);
    size_t most = (size_t)random_below(&life->random, 600);
    embedding_drain(life->embedding, most);
    assert_true(operations_of(life, &last) <= most);
}

static void live(struct life *life, size_t steps)
{
    for (size_t step = 0; step < steps; step++) {
        uint32_t a, b;
        random_pair(&life->random, &a, &b);
        uint64_t kind = random_below(&life->random, 100);
        if (kind < 70) {
            change_edge(life, step % 2 == 0 ? a : b, step % 2 == 0 ? b : a);
        } else if (kind < 80) { /* replaced */
            change_edge(life, a, b);
            change_edge(life, a, b);
        } else if (kind < 94) {
            change_base(life, kind % 2 == 0 ? a : b);
        } else if (kind < 98) {
            remove_slot(life, kind % 2 == 0 ? a : b);
        } else {
            drain_some(life);
        }
        check_bounds(life);
        check_held_back(life);
    }
}

/* All of the state that can be read. */
static void read_all(const struct life *life, float *out)
{
    memset(out, 0, NODES * (life->settings.layers + 1) * DIMENSION * sizeof *out);
    for (uint32_t v = 0; v < NODES; v++)
        for (size_t k = 0; k <= life->settings.layers && life->truth->number[v] != NO_NODE; k++, out += DIMENSION)
            embedding_read_layer(life->embedding, life->truth->number[v], k, out);
}

static void check_exact_when_drained(struct life *life)
{
    embedding_drain(life->embedding, SIZE_MAX);
    assert_true(embedding_backlog(life->embedding) == 0);
    assert_float_equal(embedding_epsilon(life->embedding), life->settings.epsilon, 0);
    check_bounds(life);

    embedding_set_epsilon(life->embedding, 0.0f);
    embedding_drain(life->embedding, SIZE_MAX);
    for (size_t k = 0; k <= life->settings.layers; k++)
        assert_float_equal(embedding_layer_bound(life->embedding, k), 0, 0);
    truth_propagate(life->truth, life->embedding, life->settings.layers);
    for (size_t k = 1; k <= life->settings.layers; k++)
        assert_true(truth_layer_error(life->truth, life->embedding, k) <= ROUNDING);

    static float drained[NODES * (LAYERS_MAX + 1) * DIMENSION], recomputed[NODES * (LAYERS_MAX + 1) * DIMENSION];
    read_all(life, drained);
    embedding_recompute(life->embedding, NULL);
    read_all(life, recomputed);
    assert_memory_equal(drained, recomputed, NODES * (life->settings.layers + 1) * DIMENSION * sizeof(float));
}

/* Returns the life's extremes; the rest is gone. */
static struct life whole_life(struct embedding_settings settings, uint64_t seed)
{
    struct life life = begin_life(settings, seed);
    live(&life, 900);
    check_exact_when_drained(&life);
    live(&life, 100); /* and goes on from there */
    end_life(&life);
    return life;
}

static const struct embedding_settings USUAL = {
    .layers = 3, .dimension = DIMENSION, .epsilon = 0.1f, .budget = 256, .seed = 5};

static void any_life_is_within_the_bound_and_within_the_budget(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    struct life life = whole_life(settings, 1);
    assert_true(life.error_most > 0.01); /* something was held back, or this shows nothing */
    settings.budget = 16;
    life = whole_life(settings, 2);
    assert_true(life.backlog_most > 16);
    settings.layers = 4;
    settings.epsilon = 0.3f;
    (void)whole_life(settings, 3);
    settings.layers = 1;
    (void)whole_life(settings, 4);
}

static void a_budget_of_1_raises_epsilon_and_keeps_the_bound(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    settings.budget = 1;
    settings.epsilon = 0.02f;
    struct life life = whole_life(settings, 11);
    assert_true(life.epsilon_most > 0.03f && life.epsilon_most < 0.161f);
    assert_true(life.backlog_most > 256);
}

static void with_epsilon_0_and_no_limit_nothing_ever_waits(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    settings.budget = 0;
    settings.epsilon = 0.0f;
    struct life life = whole_life(settings, 21);
    assert_true(life.error_most <= ROUNDING && life.backlog_most == 0);
}

static void the_bounds_hold_for_every_kind_of_result(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    settings.budget = 32;
    settings.result = EMBEDDING_FINAL;
    (void)whole_life(settings, 31);
    settings.result = EMBEDDING_WEIGHTED;
    memcpy(settings.weights, (float[]){2, 0, 0.5f}, 3 * sizeof(float));
    (void)whole_life(settings, 32);
    settings.normalise = true;
    (void)whole_life(settings, 33);
    settings.result = EMBEDDING_MEAN;
    settings.epsilon = 0.02f;
    (void)whole_life(settings, 34);
}

/* At rest the bound is that of the theorem. */
static void at_rest_the_bound_is_half_of_layers_less_one_times_epsilon(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    struct life life = begin_life(settings, 41);
    for (size_t i = 0; i < 300; i++) {
        uint32_t a, b;
        random_pair(&life.random, &a, &b);
        change_edge(&life, a, b);
    }
    embedding_drain(life.embedding, SIZE_MAX);
    print_message("bound %.4f\n", (double)embedding_bound(life.embedding));
    assert_true(embedding_bound(life.embedding) > 0.01f);
    assert_true(embedding_bound(life.embedding) <= 0.1f + 1e-5f);
    end_life(&life);
}

static void epsilon_falls_back_only_when_nobody_holds_back_more(void **state)
{
    (void)state;
    struct embedding_settings settings = USUAL;
    settings.budget = 4;
    struct life life = begin_life(settings, 51);
    while (embedding_epsilon(life.embedding) < 0.39f) {
        uint32_t a, b;
        random_pair(&life.random, &a, &b);
        change_edge(&life, a, b);
        change_base(&life, a);
    }
    float before = embedding_epsilon(life.embedding);
    size_t steps = 0, falls = 0;
    while (embedding_backlog(life.embedding) > 0 || embedding_epsilon(life.embedding) > settings.epsilon) {
        embedding_drain(life.embedding, 1);
        float now = embedding_epsilon(life.embedding);
        if (now < before || now > before) {
            /* nothing waits at a fall, so this is what is held back: |z| is at most 1 */
            assert_float_equal(now, before / 2, 0);
            assert_true(embedding_layer_bound(life.embedding, 2) <= now + 1e-5f);
            falls++;
        }
        before = now;
        assert_true(++steps < 1000000);
    }
    assert_true(falls >= 2);
    end_life(&life);
}

/* Hubs keep their sums in two parts; large vectors of one direction make the most of them. */
static void hubs_are_exact_while_they_grow_and_shrink(void **state)
{
    (void)state;
    enum { HUBS = 3, SPOKES = 700, ALL = HUBS + SPOKES };
    struct error err;
    struct embedding_settings settings = {.layers = 3, .dimension = 16, .epsilon = 0, .budget = 0, .seed = 3};
    struct embedding *grown = embedding_create(&settings, &err);
    struct embedding *loaded = embedding_create(&settings, &err);
    assert_non_null(grown);
    assert_non_null(loaded);
    add_nodes(grown, ALL);
    add_nodes(loaded, ALL);
    for (uint32_t v = 0; v < ALL; v++) {
        float z0[16];
        for (size_t i = 0; i < 16; i++)
            z0[i] = i % 2 == 0 ? 3.99f : -3.9999f;
        assert_int_equal(embedding_set_base(grown, v, z0, &err), 0);
        assert_int_equal(embedding_load_base(loaded, v, z0, &err), 0);
    }
    static bool edge[HUBS][SPOKES];
    struct random random = {61};
    for (size_t round = 0; round < 6; round++)
        for (size_t i = 0; i < 900; i++) {
            uint32_t hub = (uint32_t)random_below(&random, HUBS), spoke = (uint32_t)random_below(&random, SPOKES);
            if (edge[hub][spoke] == (round % 2 == 1)) {
                edge[hub][spoke] = !edge[hub][spoke];
                assert_int_equal(
                    (edge[hub][spoke] ? embedding_add_edge : embedding_remove_edge)(grown, hub, HUBS + spoke, &err), 0);
            }
        }
    for (uint32_t hub = 0; hub < HUBS; hub++)
        for (uint32_t spoke = SPOKES; spoke-- > 0;)
            if (edge[hub][spoke])
                assert_int_equal(embedding_load_edge(loaded, HUBS + spoke, hub, &err), 0);
    embedding_recompute(loaded, NULL);
    for (uint32_t v = 0; v < ALL; v++)
        for (size_t k = 0; k <= 3; k++) {
            float x[16], y[16];
            embedding_read_layer(grown, v, k, x);
            embedding_read_layer(loaded, v, k, y);
            assert_memory_equal(x, y, sizeof x);
            for (size_t i = 0; i < 16; i++) /* all are equal, so every mean is */
                assert_true(x[0] == 0 || fabsf(x[i] - (i % 2 == 0 ? 3.99f : -3.9999f)) < 2e-6f);
        }
    embedding_destroy(loaded);
    embedding_destroy(grown);
}

static void a_base_vector_that_is_no_number_or_too_large_is_refused(void **state)
{
    (void)state;
    struct error err;
    struct life life = begin_life(USUAL, 71);
    change_edge(&life, 0, LEFT);
    float before[DIMENSION], after[DIMENSION], z0[DIMENSION] = {0};
    static const float bad[] = {NAN, INFINITY, -INFINITY, 4.0f, -4.0f};
    for (uint32_t node = 0; node < 2; node++) /* with an edge, and without */
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            z0[7] = bad[i];
            embedding_read_layer(life.embedding, node, 0, before);
            assert_int_equal(embedding_set_base(life.embedding, node, z0, &err), -1);
            assert_int_equal(err.kind, ERROR_BAD_INPUT);
            assert_int_equal(embedding_load_base(life.embedding, node, z0, &err), -1);
            embedding_read_layer(life.embedding, node, 0, after);
            assert_memory_equal(before, after, sizeof before);
        }
    z0[7] = 0;
    assert_int_equal(embedding_set_base(life.embedding, NODES, z0, &err), -1);
    assert_int_equal(err.kind, ERROR_FATAL);
    end_life(&life);
}

static void settings_out_of_range_are_refused(void **state)
{
    (void)state;
    struct embedding_settings wrong[7];
    for (size_t i = 0; i < 7; i++)
        wrong[i] = USUAL;
    wrong[0].layers = 0;
    wrong[1].layers = EMBEDDING_LAYERS_LIMIT + 1;
    wrong[2].dimension = 40;
    wrong[3].epsilon = NAN;
    wrong[4].result = EMBEDDING_WEIGHTED; /* all 0 */
    wrong[5].result = EMBEDDING_WEIGHTED;
    wrong[5].weights[1] = -1;
    wrong[6].dimension = EMBEDDING_DIMENSION_LIMIT + 16;
    for (size_t i = 0; i < 7; i++) {
        struct error err = {0};
        assert_null(embedding_create(&wrong[i], &err));
        assert_int_equal(err.kind, ERROR_FATAL);
    }
}

/* The same neighbours, the same f: a history given inline is worth as much as one in the graph. */
static void the_mean_of_neighbours_is_the_f_of_a_node_that_has_them(void **state)
{
    (void)state;
    for (int normalise = 0; normalise < 2; normalise++) {
        struct embedding_settings settings = USUAL;
        settings.epsilon = 0;
        settings.normalise = normalise != 0;
        struct life life = begin_life(settings, 81);
        live(&life, 300);
        embedding_drain(life.embedding, SIZE_MAX);
        for (uint32_t v = 0; v < NODES; v++) {
            if (life.truth->number[v] == NO_NODE)
                continue;
            uint32_t neighbours[NODES];
            size_t count = 0;
            for (uint32_t w = 0; w < NODES; w++)
                if (life.truth->edge[v][w])
                    neighbours[count++] = life.truth->number[w];
            float stored[DIMENSION], computed[DIMENSION];
            embedding_read_mean_of(life.embedding, neighbours, count, computed);
            embedding_read(life.embedding, life.truth->number[v], stored);
            for (size_t i = 0; i < DIMENSION; i++)
                assert_float_equal(stored[i], computed[i], ROUNDING);
        }
        end_life(&life);
    }
}

static void a_node_costs_60_bytes_beside_its_rows(void **state)
{
    (void)state;
    enum { COUNT = 40000, ROWS = 6 * 64 * 4 };
    struct error err;
    struct embedding *embedding = embedding_create(
        &(struct embedding_settings){.layers = 3, .dimension = 64, .epsilon = 0.1f, .budget = 256}, &err);
    assert_non_null(embedding);
    add_nodes(embedding, COUNT);
    double each = (double)embedding_bytes(embedding) / COUNT - ROWS;
    print_message("%.1f bytes a node beside its rows\n", each);
    assert_true(each < 61 * 1.25); /* arrays that have just grown are a quarter more, which is not touched */
    uint32_t number;
    size_t before = embedding_bytes(embedding);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(embedding_remove_node(embedding, i, &err), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(embedding_add_node(embedding, text_of("again"), &number, &err), 0);
    assert_int_equal(embedding_bytes(embedding), before);
    embedding_destroy(embedding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_life_is_within_the_bound_and_within_the_budget),
        cmocka_unit_test(a_budget_of_1_raises_epsilon_and_keeps_the_bound),
        cmocka_unit_test(with_epsilon_0_and_no_limit_nothing_ever_waits),
        cmocka_unit_test(the_bounds_hold_for_every_kind_of_result),
        cmocka_unit_test(at_rest_the_bound_is_half_of_layers_less_one_times_epsilon),
        cmocka_unit_test(epsilon_falls_back_only_when_nobody_holds_back_more),
        cmocka_unit_test(hubs_are_exact_while_they_grow_and_shrink),
        cmocka_unit_test(a_base_vector_that_is_no_number_or_too_large_is_refused),
        cmocka_unit_test(settings_out_of_range_are_refused),
        cmocka_unit_test(the_mean_of_neighbours_is_the_f_of_a_node_that_has_them),
        cmocka_unit_test(a_node_costs_60_bytes_beside_its_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
