#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "graph/embedding_truth.h"

static const struct embedding_settings USUAL = {
    .layers = 3, .dimension = DIMENSION, .epsilon = 0.02f, .budget = 3, .seed = 5};

struct reader {
    const uint8_t *at;
    size_t left;
};

static int keep(void *context, const void *bytes, size_t size, struct error *err)
{
    struct buffer *image = context;
    buffer_append(image, bytes, size);
    return buffer_check(image, "saving", err);
}

static int fill(void *context, void *bytes, size_t size, struct error *err)
{
    struct reader *reader = context;
    if (size > reader->left)
        return error_set(err, ERROR_FATAL, "the image ends early");
    memcpy(bytes, reader->at, size);
    reader->at += size;
    reader->left -= size;
    return 0;
}

static struct embedding *create(const struct embedding_settings *settings)
{
    struct error err;
    struct embedding *embedding = embedding_create(settings, &err);
    assert_non_null(embedding);
    return embedding;
}

static struct buffer image_of(const struct embedding *embedding)
{
    struct error err;
    struct buffer image = {0};
    assert_int_equal(embedding_save(embedding, keep, &image, &err), 0);
    return image;
}

static int load(struct embedding *embedding, const struct buffer *image, size_t size, struct error *err)
{
    struct reader reader = {image->data, size};
    int result = embedding_load(embedding, fill, &reader, err);
    if (result == 0)
        assert_int_equal(reader.left, 0);
    return result;
}

static void assert_same_state(const struct embedding *a, const struct embedding *b)
{
    struct buffer x = image_of(a), y = image_of(b);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    buffer_free(&x);
    buffer_free(&y);
}

/* Edges, base vectors, nodes that leave and come back; the same for the same `random` and state. */
static void stir(struct embedding *embedding, struct random *random, bool edge[NODES][NODES], size_t steps)
{
    struct error err;
    for (size_t step = 0; step < steps; step++) {
        uint32_t a, b, number;
        random_pair(random, &a, &b);
        if (step % 11 == 10) {
            float z0[DIMENSION];
            for (size_t i = 0; i < DIMENSION; i++)
                z0[i] = (float)random_uniform(random) - 0.5f;
            assert_int_equal(embedding_set_base(embedding, a, z0, &err), 0);
        }
        if (step % 50 == 49 && embedding_remove_node(embedding, b, &err) == 0) {
            assert_int_equal(embedding_add_node(embedding, text_of("another"), &number, &err), 0);
            assert_int_equal(number, b);
        }
        assert_int_equal((edge[a][b] ? embedding_remove_edge : embedding_add_edge)(embedding, a, b, &err), 0);
        edge[a][b] = !edge[a][b];
    }
}

static void what_is_loaded_goes_on_bit_for_bit(void **state)
{
    (void)state;
    struct error err;
    bool raised = false, waited = false;
    for (size_t steps = 0; steps < 600; steps += 37) {
        bool edge[NODES][NODES] = {{false}}, copy[NODES][NODES];
        struct embedding *one = create(&USUAL), *other = create(&USUAL);
        struct random random = {steps}, again;
        add_nodes(one, NODES);
        stir(one, &random, edge, steps);
        raised |= embedding_epsilon(one) > USUAL.epsilon;
        waited |= embedding_backlog(one) > 0;
        struct buffer image = image_of(one);
        assert_int_equal(load(other, &image, image.size, &err), 0);
        buffer_free(&image);
        assert_same_state(one, other);
        assert_float_equal(embedding_bound(one), embedding_bound(other), 0);

        again = random;
        memcpy(copy, edge, sizeof copy);
        stir(one, &random, edge, 300);
        stir(other, &again, copy, 300);
        assert_same_state(one, other);
        embedding_drain(one, SIZE_MAX);
        embedding_drain(other, SIZE_MAX);
        assert_same_state(one, other);
        embedding_destroy(one);
        embedding_destroy(other);
    }
    assert_true(raised && waited); /* or this shows little */
}

static void the_same_calls_give_the_same_state(void **state)
{
    (void)state;
    struct embedding *both[2];
    for (size_t i = 0; i < 2; i++) {
        bool edge[NODES][NODES] = {{false}};
        struct random random = {77};
        both[i] = create(&USUAL);
        add_nodes(both[i], NODES);
        stir(both[i], &random, edge, 1000);
    }
    assert_same_state(both[0], both[1]);
    embedding_destroy(both[0]);
    embedding_destroy(both[1]);
}

enum { MANY = 3000, HUB_EDGES = 700 };

static struct embedding *load_many(struct pool *pool)
{
    struct error err;
    struct embedding *embedding = create(&USUAL);
    add_nodes(embedding, MANY);
    for (uint32_t v = 1; v <= HUB_EDGES; v++)
        assert_int_equal(embedding_load_edge(embedding, 0, v, &err), 0);
    for (uint32_t v = 1; v < MANY - 7; v++)
        assert_int_equal(embedding_load_edge(embedding, v, v + 1 + v % 7, &err), 0);
    embedding_recompute(embedding, pool);
    return embedding;
}

static void recomputation_on_many_threads_is_that_on_one(void **state)
{
    (void)state;
    struct pool *pool = pool_create(3);
    assert_non_null(pool);
    struct embedding *one = load_many(NULL), *other = load_many(pool);
    assert_same_state(one, other);
    pool_destroy(pool);
    embedding_destroy(one);
    embedding_destroy(other);
}

/* A hub, and more links than a block of the image holds. */
static void large_lists_are_kept(void **state)
{
    (void)state;
    struct error err;
    enum { SPOKES = 9000 };
    struct embedding *one = create(&USUAL), *other = create(&USUAL);
    add_nodes(one, SPOKES + 1);
    for (uint32_t v = 1; v <= SPOKES; v++)
        assert_int_equal(embedding_add_edge(one, 0, v, &err), 0);
    struct buffer image = image_of(one);
    assert_int_equal(load(other, &image, image.size, &err), 0);
    buffer_free(&image);
    for (uint32_t v = 1; v <= SPOKES; v++) {
        assert_int_equal(embedding_remove_edge(one, v, 0, &err), 0);
        assert_int_equal(embedding_remove_edge(other, v, 0, &err), 0);
    }
    assert_same_state(one, other);
    embedding_destroy(one);
    embedding_destroy(other);
}

static void a_damaged_image_is_refused(void **state)
{
    (void)state;
    struct embedding *embedding = create(&USUAL);
    bool edge[NODES][NODES] = {{false}};
    struct random random = {5};
    add_nodes(embedding, NODES);
    stir(embedding, &random, edge, 300);
    struct buffer image = image_of(embedding);
    for (size_t i = 0; i < 600; i++) {
        struct error err = {0};
        struct embedding *other = create(&USUAL);
        /* the first bytes, which hold the counts, one by one; then anywhere */
        size_t at = i < 400 ? i : (size_t)random_below(&random, image.size);
        uint8_t bit = (uint8_t)(1u << random_below(&random, 8));
        image.data[at] ^= bit;
        assert_int_equal(load(other, &image, image.size, &err), -1);
        assert_int_equal(err.kind, ERROR_FATAL);
        image.data[at] ^= bit;
        embedding_destroy(other);

        other = create(&USUAL);
        assert_int_equal(load(other, &image, (size_t)random_below(&random, image.size), &err), -1);
        embedding_destroy(other);
    }
    buffer_free(&image);
    embedding_destroy(embedding);
}

static void an_image_of_other_settings_is_refused(void **state)
{
    (void)state;
    struct embedding *embedding = create(&USUAL);
    add_nodes(embedding, 3);
    struct buffer image = image_of(embedding);
    struct embedding_settings others[4] = {USUAL, USUAL, USUAL, USUAL};
    others[0].layers = 2;
    others[1].dimension = 16;
    others[2].epsilon = 0.1f;
    others[3].seed = 6;
    for (size_t i = 0; i < 4; i++) {
        struct error err = {0};
        struct embedding *other = create(&others[i]);
        assert_int_equal(load(other, &image, image.size, &err), -1);
        assert_non_null(strstr(err.message, "other settings"));
        embedding_destroy(other);
    }
    struct error err = {0};
    assert_int_equal(load(embedding, &image, image.size, &err), -1); /* has nodes */
    buffer_free(&image);
    embedding_destroy(embedding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_loaded_goes_on_bit_for_bit),
        cmocka_unit_test(the_same_calls_give_the_same_state),
        cmocka_unit_test(recomputation_on_many_threads_is_that_on_one),
        cmocka_unit_test(large_lists_are_kept),
        cmocka_unit_test(a_damaged_image_is_refused),
        cmocka_unit_test(an_image_of_other_settings_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
