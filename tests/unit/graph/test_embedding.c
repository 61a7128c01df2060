#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "graph/embedding_truth.h"

enum { SEED = 11, STEPS = 2000 / HEADRACE_SLOWDOWN };

static struct embedding *embedding_of(size_t layers, size_t dimension, float epsilon, uint64_t seed)
{
    struct error err;
    return embedding_create(
        &(struct embedding_settings){.layers = layers, .dimension = dimension, .epsilon = epsilon, .seed = seed}, &err);
}

static struct embedding *create(size_t layers, float epsilon)
{
    struct embedding *embedding = embedding_of(layers, DIMENSION, epsilon, SEED);
    assert_non_null(embedding);
    add_nodes(embedding, NODES);
    return embedding;
}

/* Random adds and removes; every so often the true error must be within the bound. Returns the largest error seen. */
static double churn(size_t layers, float epsilon, size_t steps, uint64_t seed, double *largest_bound)
{
    struct embedding *embedding = create(layers, epsilon);
    struct truth *truth = truth_create();
    struct random random = {seed};
    double worst = 0;
    *largest_bound = 0;
    for (size_t step = 1; step <= steps; step++) {
        uint32_t a, b;
        random_pair(&random, &a, &b);
        if (step % 2 == 0)
            toggle(embedding, truth, b, a);
        else
            toggle(embedding, truth, a, b);
        if (step % 49 != 0 && step != steps)
            continue;
        truth_propagate(truth, embedding, layers);
        double error = truth_error(truth, embedding, layers);
        double bound = (double)embedding_bound(embedding);
        assert_true(error <= bound + ROUNDING);
        assert_true(bound <= (double)(layers - 1) / 2 * (double)epsilon + ROUNDING);
        worst = fmax(worst, error);
        *largest_bound = fmax(*largest_bound, bound);
    }
    free(truth);
    embedding_destroy(embedding);
    return worst;
}

static void with_epsilon_0_embeddings_equal_an_exact_recomputation(void **state)
{
    (void)state;
    for (size_t layers = 1; layers <= LAYERS_MAX; layers++) {
        double bound;
        assert_true(churn(layers, 0.0f, STEPS, layers, &bound) <= ROUNDING);
        assert_true(bound <= 0);
    }
}

static void the_error_stays_within_the_bound(void **state)
{
    (void)state;
    static const float epsilons[] = {0.05f, 0.2f, 0.5f, 3.0f};
    for (size_t layers = 2; layers <= LAYERS_MAX; layers++) {
        double worst = 0, bound;
        for (size_t i = 0; i < sizeof epsilons / sizeof *epsilons; i++)
            worst = fmax(worst, churn(layers, epsilons[i], STEPS, 100 + layers, &bound));
        assert_true(worst > 0.1); /* much was held back, or this shows nothing */
    }
}

static void one_layer_is_always_exact(void **state)
{
    (void)state;
    double bound;
    assert_true(churn(1, 0.5f, STEPS, 5, &bound) <= ROUNDING);
    assert_true(bound <= 0);
}

static void the_bound_is_that_of_the_largest_unpublished_difference(void **state)
{
    (void)state;
    struct error err;
    struct embedding *embedding = create(3, 1e9f); /* never publishes, so P = 0 and |z - P| = |z| can be read */
    struct random random = {3};
    for (size_t i = 0; i < 200; i++) {
        uint32_t a, b;
        random_pair(&random, &a, &b);
        (void)embedding_add_edge(embedding, a, b, &err);
    }
    double largest = 0;
    for (uint32_t v = 0; v < NODES; v++) {
        float row[DIMENSION];
        embedding_read_layer(embedding, v, 1, row);
        double square = 0;
        for (size_t i = 0; i < DIMENSION; i++)
            square += (double)row[i] * (double)row[i];
        largest = fmax(largest, sqrt(square));
    }
    assert_true(largest > 0.5);
    assert_float_equal(embedding_bound(embedding), largest * 2 / 3, 1e-6);
    embedding_recompute(embedding, NULL);
    assert_float_equal(embedding_bound(embedding), 0, 0);
    embedding_destroy(embedding);
}

static void bulk_load_equals_one_edge_at_a_time(void **state)
{
    (void)state;
    struct error err;
    struct embedding *one_by_one = create(3, 0.0f);
    struct embedding *loaded = create(3, 0.1f);
    struct truth *truth = truth_create();
    struct random random = {17};
    for (size_t i = 0; i < 2000; i++) {
        uint32_t a, b;
        random_pair(&random, &a, &b);
        toggle(one_by_one, truth, a, b);
    }
    for (uint32_t b = NODES; b-- > 0;)
        for (uint32_t a = 0; a < b; a++)
            if (truth->edge[a][b])
                assert_int_equal(embedding_load_edge(loaded, a, b, &err), 0);
    embedding_recompute(loaded, NULL);
    assert_float_equal(embedding_bound(loaded), 0, 0);
    for (uint32_t v = 0; v < NODES; v++)
        for (size_t k = 0; k <= 3; k++) {
            float x[DIMENSION], y[DIMENSION];
            embedding_read_layer(one_by_one, v, k, x);
            embedding_read_layer(loaded, v, k, y);
            for (size_t i = 0; i < DIMENSION; i++)
                assert_float_equal(x[i], y[i], ROUNDING);
        }
    /* and goes on from there */
    for (size_t i = 0; i < 500; i++) {
        uint32_t a, b;
        random_pair(&random, &a, &b);
        toggle(loaded, truth, a, b);
    }
    truth_propagate(truth, loaded, 3);
    assert_true(truth_error(truth, loaded, 3) <= (double)embedding_bound(loaded) + ROUNDING);
    free(truth);
    embedding_destroy(loaded);
    embedding_destroy(one_by_one);
}

static void a_node_without_edges_is_exactly_0(void **state)
{
    (void)state;
    struct error err;
    struct embedding *embedding = create(3, 0.1f);
    for (uint32_t b = LEFT; b < NODES; b++)
        for (uint32_t a = 0; a < LEFT; a++)
            assert_int_equal(embedding_add_edge(embedding, a, b, &err), 0);
    for (uint32_t a = 0; a < LEFT; a++)
        for (uint32_t b = LEFT; b < NODES; b++)
            assert_int_equal(embedding_remove_edge(embedding, b, a, &err), 0);
    assert_float_equal(embedding_bound(embedding), 0, 0);
    float zero[DIMENSION] = {0};
    for (uint32_t v = 0; v < NODES; v++) {
        float row[DIMENSION];
        embedding_read(embedding, v, row);
        assert_memory_equal(row, zero, sizeof row);
    }
    /* A node that comes back is as good as new: f of a single edge is known in closed form. */
    assert_int_equal(embedding_add_edge(embedding, 0, LEFT, &err), 0);
    float own[DIMENSION], other[DIMENSION], row[DIMENSION];
    embedding_read_layer(embedding, 0, 0, own);
    embedding_read_layer(embedding, LEFT, 0, other);
    embedding_read(embedding, 0, row);
    for (size_t i = 0; i < DIMENSION; i++)
        assert_float_equal(row[i], (2 * other[i] + own[i]) / 3, 1e-6);
    embedding_destroy(embedding);
}

/* Spokes of a hub have a z^2 so small that to lose it is below the threshold; still none is left unpublished. */
static void a_node_without_edges_has_nothing_unpublished(void **state)
{
    (void)state;
    struct error err;
    enum { SPOKES = 5000 };
    struct embedding *embedding = embedding_of(3, 16, 0.5f, 1);
    assert_non_null(embedding);
    add_nodes(embedding, SPOKES + 1);
    for (uint32_t v = 1; v <= SPOKES; v++)
        assert_int_equal(embedding_add_edge(embedding, 0, v, &err), 0);
    assert_true(embedding_bound(embedding) > 0.001f);
    for (uint32_t v = 1; v <= SPOKES; v++)
        assert_int_equal(embedding_remove_edge(embedding, 0, v, &err), 0);
    assert_float_equal(embedding_bound(embedding), 0, 0);
    embedding_destroy(embedding);
}

static void twins_have_equal_vectors_bit_by_bit(void **state)
{
    (void)state;
    struct error err;
    struct embedding *embedding = create(3, 0.05f);
    struct random random = {23};
    /* Users 0 and 1 have the same items, added in opposite order and at different times; the others stir. */
    assert_int_equal(embedding_add_edge(embedding, 0, LEFT, &err), 0);
    assert_int_equal(embedding_add_edge(embedding, 0, LEFT + 1, &err), 0);
    for (size_t i = 0; i < 400; i++) {
        uint32_t a, b;
        random_pair(&random, &a, &b);
        if (a > 1)
            (void)embedding_add_edge(embedding, a, b, &err);
        if (i == 200) {
            assert_int_equal(embedding_add_edge(embedding, 1, LEFT + 1, &err), 0);
            assert_int_equal(embedding_add_edge(embedding, 1, LEFT, &err), 0);
        }
    }
    float first[DIMENSION], second[DIMENSION];
    embedding_read(embedding, 0, first);
    embedding_read(embedding, 1, second);
    assert_memory_equal(first, second, sizeof first);
    embedding_destroy(embedding);
}

static void the_base_vector_depends_on_key_and_seed_alone(void **state)
{
    (void)state;
    struct error err;
    uint32_t number;
    struct embedding *one = create(2, 0.1f);
    struct embedding *other = embedding_of(3, DIMENSION, 0.0f, SEED);
    struct embedding *reseeded = embedding_of(3, DIMENSION, 0.0f, SEED + 1);
    assert_int_equal(embedding_add_node(other, text_of("n:7"), &number, &err), 0);
    assert_int_equal(embedding_add_node(reseeded, text_of("n:7"), &number, &err), 0);
    float a[DIMENSION], b[DIMENSION];
    embedding_read_layer(one, 7, 0, a);
    embedding_read_layer(other, 0, 0, b);
    assert_memory_equal(a, b, sizeof a);
    double square = 0;
    for (size_t i = 0; i < DIMENSION; i++)
        square += (double)a[i] * (double)a[i];
    assert_float_equal(square, 1, 1e-6);
    embedding_read_layer(reseeded, 0, 0, b);
    assert_memory_not_equal(a, b, sizeof a);
    embedding_read_layer(one, 8, 0, b);
    assert_memory_not_equal(a, b, sizeof a);
    embedding_destroy(reseeded);
    embedding_destroy(other);
    embedding_destroy(one);
}

/* Computed once by another program: a restart, another machine and another release have to find the same vectors. */
static void the_base_vector_is_the_same_everywhere(void **state)
{
    (void)state;
    struct embedding *embedding = create(2, 0.1f);
    float row[DIMENSION];
    embedding_read_layer(embedding, 0, 0, row);
    assert_true(row[0] == 0x7e6b7p-21f && row[1] == -0xbcdcp-21f && row[31] == -0x1666ap-21f);
    embedding_destroy(embedding);
}

static void a_wrong_edge_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct error err;
    struct embedding *embedding = create(3, 0.0f);
    assert_int_equal(embedding_add_edge(embedding, 0, LEFT, &err), 0);
    float before[DIMENSION], after[DIMENSION];
    embedding_read(embedding, 0, before);
    static const uint32_t wrong[][2] = {{0, LEFT}, {LEFT, 0}, {0, NODES}, {UINT32_MAX, 1}, {3, 3}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err = (struct error){0};
        assert_int_equal(embedding_add_edge(embedding, wrong[i][0], wrong[i][1], &err), -1);
        assert_int_equal(err.kind, ERROR_FATAL);
        if (i < 2)
            continue; /* there, in both directions */
        assert_int_equal(embedding_load_edge(embedding, wrong[i][0], wrong[i][1], &err), -1);
        assert_int_equal(embedding_remove_edge(embedding, wrong[i][0], wrong[i][1], &err), -1);
    }
    assert_int_equal(embedding_remove_edge(embedding, 1, LEFT, &err), -1);
    assert_string_equal(err.message, "embeddings: no edge (1, 25) to remove");
    embedding_read(embedding, 0, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(embedding_remove_edge(embedding, LEFT, 0, &err), 0);
    embedding_destroy(embedding);
}

/* One edge that never rests, at a node with many. */
static void rounding_does_not_pile_up(void **state)
{
    (void)state;
    struct embedding *embedding = create(3, 0.0f);
    struct truth *truth = truth_create();
    for (uint32_t b = LEFT; b < NODES; b++)
        toggle(embedding, truth, 0, b);
    toggle(embedding, truth, 1, LEFT);
    for (size_t i = 0; i < 8000; i++)
        toggle(embedding, truth, 1, LEFT + 1);
    truth_propagate(truth, embedding, 3);
    assert_true(truth_error(truth, embedding, 3) <= 2e-6);
    free(truth);
    embedding_destroy(embedding);
}

static void a_hub_that_shrinks_is_as_exact_as_a_small_node(void **state)
{
    (void)state;
    struct error err;
    enum { SPOKES = 4000 / HEADRACE_SLOWDOWN };
    struct embedding *embedding = embedding_of(2, 16, 0.0f, 1);
    assert_non_null(embedding);
    add_nodes(embedding, SPOKES + 1);
    for (uint32_t v = 1; v <= SPOKES; v++)
        assert_int_equal(embedding_add_edge(embedding, 0, v, &err), 0);
    for (uint32_t v = 1; v + 6 <= SPOKES; v++)
        assert_int_equal(embedding_remove_edge(embedding, v, 0, &err), 0);
    double mean[16] = {0};
    float row[16];
    for (uint32_t v = SPOKES - 5; v <= SPOKES; v++) {
        embedding_read_layer(embedding, v, 0, row);
        for (size_t i = 0; i < 16; i++)
            mean[i] += (double)row[i] / 6;
    }
    embedding_read_layer(embedding, 0, 1, row);
    for (size_t i = 0; i < 16; i++)
        assert_float_equal(row[i], mean[i], 2e-7);
    embedding_destroy(embedding);
}

/* The cost that makes residual push worth it: a stream as large as ml-100k, at the default epsilon. */
static void an_event_costs_some_hundred_operations(void **state)
{
    (void)state;
    struct error err;
    enum { USERS = 943, ITEMS = 1682, EVENTS = 20000 / HEADRACE_SLOWDOWN };
    struct embedding *embedding = embedding_of(3, 64, 0.1f, 1);
    assert_non_null(embedding);
    add_nodes(embedding, USERS + ITEMS);
    struct random random = {29};
    size_t edges = 0;
    for (size_t i = 0; i < EVENTS; i++) {
        double user = random_uniform(&random), item = random_uniform(&random);
        uint32_t a = (uint32_t)(user * user * USERS), b = USERS + (uint32_t)(item * item * item * ITEMS);
        edges += embedding_add_edge(embedding, a, b, &err) == 0;
    }
    double cost = (double)embedding_operations(embedding) / (double)edges;
    print_message("%zu edges, %.1f operations an edge, bound %.4f\n", edges, cost, (double)embedding_bound(embedding));
    assert_true(cost > 6 && cost < 400);
    embedding_destroy(embedding);
}

static void cosine_is_that_of_the_textbook(void **state)
{
    (void)state;
    float a[16] = {3, 4}, b[16] = {4, 3}, zero[16] = {0};
    assert_float_equal(embedding_cosine(a, b, 16), 0.96, 1e-7);
    assert_float_equal(embedding_cosine(a, a, 16), 1, 0);
    b[0] = -3, b[1] = -4;
    assert_float_equal(embedding_cosine(a, b, 16), -1, 0);
    assert_float_equal(embedding_cosine(a, zero, 16), 0, 0);
    assert_float_equal(embedding_cosine(zero, zero, 16), 0, 0);
}

/* A star with a hub, for each way to make a result of the layers. */
static void the_cosine_to_a_node_is_that_of_its_vector(void **state)
{
    (void)state;
    enum { SPOKES = 2 * 240, WAYS = 4 };
    static const struct embedding_settings ways[WAYS] = {
        {.result = EMBEDDING_MEAN},
        {.result = EMBEDDING_FINAL},
        {.result = EMBEDDING_WEIGHTED, .weights = {1, 0, 3}},
        {.result = EMBEDDING_MEAN, .normalise = true},
    };
    struct error err;
    for (size_t way = 0; way < WAYS; way++) {
        struct embedding_settings settings = ways[way];
        settings.layers = 3;
        settings.dimension = 48;
        settings.epsilon = 0.1f;
        struct embedding *embedding = embedding_create(&settings, &err);
        assert_non_null(embedding);
        add_nodes(embedding, SPOKES + 2);
        for (uint32_t spoke = 1; spoke <= SPOKES; spoke++)
            assert_int_equal(embedding_add_edge(embedding, spoke, 0, &err), 0);
        float query[48], vector[48];
        embedding_read(embedding, 1, query);
        for (uint32_t node = 0; node <= SPOKES; node++) {
            embedding_read(embedding, node, vector);
            assert_float_equal(embedding_cosine_to(embedding, node, query), embedding_cosine(query, vector, 48), 0);
        }
        assert_true(isnan(embedding_cosine_to(embedding, SPOKES + 1, query))); /* no edges */
        memset(query, 0, sizeof query);
        assert_true(isnan(embedding_cosine_to(embedding, 0, query)));
        embedding_destroy(embedding);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_epsilon_0_embeddings_equal_an_exact_recomputation),
        cmocka_unit_test(the_error_stays_within_the_bound),
        cmocka_unit_test(one_layer_is_always_exact),
        cmocka_unit_test(the_bound_is_that_of_the_largest_unpublished_difference),
        cmocka_unit_test(bulk_load_equals_one_edge_at_a_time),
        cmocka_unit_test(a_node_without_edges_is_exactly_0),
        cmocka_unit_test(a_node_without_edges_has_nothing_unpublished),
        cmocka_unit_test(twins_have_equal_vectors_bit_by_bit),
        cmocka_unit_test(the_base_vector_depends_on_key_and_seed_alone),
        cmocka_unit_test(the_base_vector_is_the_same_everywhere),
        cmocka_unit_test(a_wrong_edge_is_refused_and_changes_nothing),
        cmocka_unit_test(rounding_does_not_pile_up),
        cmocka_unit_test(a_hub_that_shrinks_is_as_exact_as_a_small_node),
        cmocka_unit_test(an_event_costs_some_hundred_operations),
        cmocka_unit_test(cosine_is_that_of_the_textbook),
        cmocka_unit_test(the_cosine_to_a_node_is_that_of_its_vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
