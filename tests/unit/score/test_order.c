/* Who comes next, with whom, how deep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "score/order.h"

enum { MOST = 64, ROWS = 40, ROW_TOKENS = 10, LAYERS = 30 };

static const int64_t SECOND = 1000000000;
static const size_t exits[] = {10, 20, LAYERS};

/* A row takes 10 tokens through 30 layers: 0.3 s. */
static const struct order_speed speed = {.token_layer_s = 0.001, .layers = LAYERS};

struct scene {
    size_t offsets[ROWS + 1];
    struct order_entry entries[MOST];
    struct order_turn order[MOST];
    enum order_verdict verdicts[MOST];
    struct order_piece pieces[MOST];
    size_t count, max_layer;
    struct order_settings settings;
};

static struct scene scene_of(enum order_overload overload, double patience_s)
{
    struct scene scene = {
        .settings = {.overload = overload, .patience_s = patience_s, .exits = exits, .exit_count = 3}};
    for (size_t r = 0; r <= ROWS; r++)
        scene.offsets[r] = r * ROW_TOKENS;
    return scene;
}

/* A request of a user of its own, without a prefix to compute. */
static struct order_entry *add(struct scene *scene, int64_t arrived_ns, size_t rows)
{
    struct order_entry *entry = &scene->entries[scene->count++];
    *entry = (struct order_entry){
        .arrived_ns = arrived_ns, .deadline_ns = INT64_MAX, .user = 1000 + scene->count, .rows = rows};
    return entry;
}

static void judge(struct scene *scene, int64_t now_ns)
{
    for (size_t i = 0; i < scene->count; i++)
        scene->entries[i].offsets = scene->offsets;
    order_sort(scene->entries, scene->count, &speed, &scene->settings, scene->order);
    scene->max_layer =
        order_judge(scene->entries, scene->order, scene->count, now_ns, &speed, &scene->settings, scene->verdicts);
}

static size_t batch(struct scene *scene, size_t max_tokens)
{
    return order_batch(scene->entries, scene->order, scene->count, max_tokens, scene->verdicts, scene->pieces);
}

static void assert_order(const struct scene *scene, const size_t *expected)
{
    for (size_t i = 0; i < scene->count; i++)
        assert_int_equal(scene->order[i].entry, expected[i]);
}

static void the_earliest_deadline_goes_first_and_a_cheap_request_before_a_dear_one(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_WAIT, 0);
    add(&scene, 0, 8);                              /* costs 2.4 s */
    add(&scene, 0, 2);                              /* 0.6 s */
    add(&scene, 0, 4)->deadline_ns = 3 * SECOND;    /* 1.2 s: must begin at 1.8 s */
    add(&scene, 0, 4)->deadline_ns = 2 * SECOND;    /* at 0.8 s */
    add(&scene, 0, 2)->deadline_ns = 1000 * SECOND; /* far away: as if there were none, but behind its like */
    judge(&scene, 0);
    assert_order(&scene, (const size_t[]){3, 2, 1, 4, 0});
}

static void what_a_prefix_costs_counts_unless_it_is_kept(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_WAIT, 0);
    add(&scene, 0, 4)->prefix_tokens = 500;
    add(&scene, 0, 8); /* more rows, the prefix is there */
    judge(&scene, 0);
    assert_order(&scene, (const size_t[]){1, 0});
    assert_int_equal(order_tokens(&scene.entries[0]), 540);
    assert_true(order_cost(&scene.entries[0], &speed, LAYERS) > order_cost(&scene.entries[1], &speed, LAYERS));
    /* Less depth costs less; who explains goes all the way in any case. */
    const struct order_speed shallow = {.token_layer_s = 0.001, .layers = 12};
    double cost = order_cost(&scene.entries[1], &shallow, LAYERS);
    assert_true(cost > 0.95 && cost < 0.97);
    assert_true(order_cost(&scene.entries[1], &shallow, 10) < cost);
    scene.entries[1].deep = true;
    assert_true(order_cost(&scene.entries[1], &shallow, LAYERS) > 2.3);
}

/* Cheap requests keep coming as fast as they can be answered: the dear one has its turn all the same. */
static void nobody_starves(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_WAIT, 0);
    add(&scene, 0, 20); /* 6 s */
    int64_t now_ns = 0;
    size_t overtaken = 0;
    for (;; overtaken++) {
        assert_in_range(overtaken, 0, 100);
        add(&scene, now_ns, 1); /* 0.3 s */
        judge(&scene, now_ns);
        assert_true(batch(&scene, 15) > 0); /* one cheap one, or a part of the dear one */
        size_t first = scene.pieces[0].entry;
        if (first == 0)
            break;
        scene.entries[first] = scene.entries[--scene.count];
        now_ns += SECOND / 3;
    }
    assert_true(overtaken > 10);
}

static void a_batch_takes_what_fits_and_nothing_twice(void **state)
{
    (void)state;
    struct random random = {7};
    for (int round = 0; round < 500; round++) {
        struct scene scene = scene_of(ORDER_WAIT, 0);
        size_t most = 20 + random_below(&random, 400), tokens = 0;
        for (size_t i = 0; i < 1 + random_below(&random, 30); i++) {
            struct order_entry *entry = add(&scene, (int64_t)random_below(&random, 100) * SECOND / 10, ROWS);
            entry->rows = 1 + random_below(&random, ROWS);
            entry->next = random_below(&random, (uint32_t)entry->rows);
            entry->user = random_below(&random, 6);
            entry->prefix_tokens = random_below(&random, 3) * 64;
            if (random_below(&random, 3) == 0)
                entry->deadline_ns = (int64_t)random_below(&random, 100) * SECOND / 5;
        }
        judge(&scene, 0);
        size_t count = batch(&scene, most);
        bool seen[MOST] = {false}, ended[6] = {false};
        assert_true(count > 0);
        assert_int_equal(scene.pieces[0].entry, scene.order[0].entry); /* whose turn it is is in it */
        for (size_t i = 0; i < count; i++) {
            const struct order_piece *piece = &scene.pieces[i];
            const struct order_entry *entry = &scene.entries[piece->entry];
            assert_false(seen[piece->entry]);
            seen[piece->entry] = true;
            assert_int_equal(scene.verdicts[piece->entry], ORDER_TAKEN);
            assert_int_equal(piece->from, entry->next);
            assert_true(piece->to > piece->from && piece->to <= entry->rows);
            /* Users stay together. */
            assert_false(ended[entry->user]);
            if (i + 1 < count && scene.entries[scene.pieces[i + 1].entry].user != entry->user)
                ended[entry->user] = true;
            /* Only what is too large for any batch is cut. */
            if (piece->to < entry->rows)
                assert_true(order_tokens(entry) > most || entry->prefix_tokens > 0);
        }
        tokens = order_batch_tokens(scene.entries, scene.pieces, count);
        if (count > 1 || scene.pieces[0].to > scene.pieces[0].from + 1)
            assert_true(tokens <= most);
    }
}

static void a_user_s_requests_come_together_and_the_prefix_is_counted_once(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_WAIT, 0);
    for (int i = 0; i < 6; i++) {
        struct order_entry *entry = add(&scene, i, 1);
        entry->user = (uint64_t)i % 2;
        entry->prefix_tokens = 100;
    }
    judge(&scene, 0);
    assert_int_equal(batch(&scene, 130), 3); /* 100 + 3 * 10: the other user's prefix does not fit */
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(scene.pieces[i].entry, 2 * i);
    assert_int_equal(order_batch_tokens(scene.entries, scene.pieces, 3), 130);
}

static void a_large_request_is_cut_and_all_of_it_comes(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_WAIT, 0);
    struct order_entry *entry = add(&scene, 0, 17);
    entry->prefix_tokens = 25;
    size_t batches = 0;
    for (; entry->next < entry->rows; batches++) {
        judge(&scene, 0);
        assert_int_equal(batch(&scene, 60), 1);
        assert_int_equal(scene.pieces[0].from, entry->next);
        entry->next = scene.pieces[0].to;
        entry->prefix_tokens = 0; /* kept now */
    }
    assert_int_equal(batches, 4); /* 3 rows, then 6, 6, 2 */

    /* A single row that is too large runs by itself. */
    scene = scene_of(ORDER_WAIT, 0);
    add(&scene, 0, 2);
    judge(&scene, 0);
    assert_int_equal(batch(&scene, 4), 1);
    assert_int_equal(scene.pieces[0].to, 1);
}

static void what_is_late_is_expired_whatever_the_policy(void **state)
{
    (void)state;
    const enum order_overload policies[] = {ORDER_DEPTH, ORDER_SHED, ORDER_WAIT};
    for (size_t p = 0; p < 3; p++) {
        struct scene scene = scene_of(policies[p], 1e9);
        add(&scene, 0, 1)->deadline_ns = SECOND - 1;
        add(&scene, 0, 1)->deadline_ns = 2 * SECOND;
        add(&scene, 0, 1);
        judge(&scene, SECOND);
        assert_int_equal(scene.verdicts[0], ORDER_EXPIRED);
        assert_int_equal(scene.verdicts[1], ORDER_COMPUTE);
        assert_int_equal(scene.verdicts[2], ORDER_COMPUTE);
        assert_int_equal(batch(&scene, 1000), 2);
    }
}

static size_t count_of(const struct scene *scene, enum order_verdict verdict)
{
    size_t count = 0;
    for (size_t i = 0; i < scene->count; i++)
        count += scene->verdicts[i] == verdict;
    return count;
}

/* 40 rows a second and exit of 10 layers: the more waits, the shallower, at last exit 0. */
static void under_backlog_answers_become_shallower_and_then_exit_0_s(void **state)
{
    (void)state;
    static const size_t waiting[] = {6, 9, 18, 19, 40};
    static const size_t depths[] = {30, 20, 10, 10, 10};
    static const size_t computed[] = {6, 9, 18, 19, 19}; /* who begins within 1.8 s goes on */
    for (size_t i = 0; i < 5; i++) {
        struct scene scene = scene_of(ORDER_DEPTH, 1.8 + 1e-6);
        for (size_t n = 0; n < waiting[i]; n++)
            add(&scene, 0, 1);
        judge(&scene, 0);
        assert_int_equal(scene.max_layer, depths[i]);
        assert_int_equal(count_of(&scene, ORDER_COMPUTE), computed[i]);
        assert_int_equal(count_of(&scene, ORDER_SHALLOW), waiting[i] - computed[i]);
        assert_int_equal(count_of(&scene, ORDER_REFUSE), 0);
    }
}

static void exit_0_answers_what_would_miss_its_deadline(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_DEPTH, 100);
    add(&scene, 0, 2)->deadline_ns = SECOND / 2; /* takes 0.6 s */
    add(&scene, 0, 1)->deadline_ns = SECOND / 2; /* 0.3 s */
    judge(&scene, 0);
    assert_int_equal(scene.verdicts[0], ORDER_SHALLOW);
    assert_int_equal(scene.verdicts[1], ORDER_COMPUTE);
    assert_int_equal(scene.max_layer, LAYERS);
}

static void shedding_refuses_the_last_in_order_but_nothing_that_was_begun(void **state)
{
    (void)state;
    struct scene scene = scene_of(ORDER_SHED, 1.0);
    for (int i = 0; i < 10; i++)
        add(&scene, i, 1);
    add(&scene, 100, 20)->next = 19; /* one row is left */
    judge(&scene, 0);
    assert_int_equal(scene.max_layer, LAYERS);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(scene.verdicts[i], i < 4 ? ORDER_COMPUTE : ORDER_REFUSE); /* the fourth begins at 0.9 s */
    assert_int_equal(scene.verdicts[10], ORDER_COMPUTE);
}

static void while_nothing_is_measured_nothing_is_overload(void **state)
{
    (void)state;
    const struct order_speed unknown = {.layers = LAYERS};
    struct scene scene = scene_of(ORDER_DEPTH, 0);
    for (int i = 0; i < 50; i++)
        add(&scene, 0, 30)->deadline_ns = 5;
    for (size_t i = 0; i < scene.count; i++)
        scene.entries[i].offsets = scene.offsets;
    order_sort(scene.entries, scene.count, &unknown, &scene.settings, scene.order);
    assert_int_equal(order_judge(scene.entries, scene.order, scene.count, 0, &unknown, &scene.settings, scene.verdicts),
                     LAYERS);
    assert_int_equal(count_of(&scene, ORDER_COMPUTE), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_earliest_deadline_goes_first_and_a_cheap_request_before_a_dear_one),
        cmocka_unit_test(what_a_prefix_costs_counts_unless_it_is_kept),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(a_batch_takes_what_fits_and_nothing_twice),
        cmocka_unit_test(a_user_s_requests_come_together_and_the_prefix_is_counted_once),
        cmocka_unit_test(a_large_request_is_cut_and_all_of_it_comes),
        cmocka_unit_test(what_is_late_is_expired_whatever_the_policy),
        cmocka_unit_test(under_backlog_answers_become_shallower_and_then_exit_0_s),
        cmocka_unit_test(exit_0_answers_what_would_miss_its_deadline),
        cmocka_unit_test(shedding_refuses_the_last_in_order_but_nothing_that_was_begun),
        cmocka_unit_test(while_nothing_is_measured_nothing_is_overload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
