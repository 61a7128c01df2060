#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "engine/kernels.h"

static float *noise(struct random *random, size_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(2.0 * random_uniform(random) - 1.0);
    return values;
}

static void assert_near(const struct kernels *kernels, double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s: %.9g instead of %.9g", kernels->name, got, expected);
}

static void compare_product(const struct kernels *kernels, struct random *random, size_t rows, size_t depth, bool add)
{
    size_t columns = 1 + random_below(random, kernels->panel), in_stride = depth + 3, out_stride = columns + 2;
    float *panel = noise(random, depth * kernels->panel);
    float *in = noise(random, rows * in_stride);
    float *out = noise(random, rows * out_stride);
    float *before = malloc(rows * out_stride * sizeof *before);
    assert_non_null(before);
    memcpy(before, out, rows * out_stride * sizeof *before);

    kernels->multiply(panel, depth, in, in_stride, rows, out, out_stride, columns, add);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            double sum = add ? (double)before[r * out_stride + c] : 0.0;
            for (size_t k = 0; k < depth; k++)
                sum += (double)in[r * in_stride + k] * (double)panel[k * kernels->panel + c];
            assert_near(kernels, (double)out[r * out_stride + c], sum, 1e-6 * (double)(depth + 4));
        }
        assert_memory_equal(out + r * out_stride + columns, before + r * out_stride + columns, 2 * sizeof *out);
    }
    free(panel);
    free(in);
    free(out);
    free(before);
}

static void products_are_those_of_a_plain_loop_on_odd_shapes(void **state)
{
    (void)state;
    struct random random = {1};
    for (size_t i = 0; kernels_supported(i) != NULL; i++)
        for (size_t rows = 1; rows <= 19; rows++)
            for (size_t depth = 1; depth <= 100; depth = 2 * depth + 1) {
                compare_product(kernels_supported(i), &random, rows, depth, false);
                compare_product(kernels_supported(i), &random, rows, depth, true);
            }
}

static void compare_weighing(const struct kernels *kernels, struct random *random, size_t rows, size_t count,
                             size_t columns)
{
    float *weights = noise(random, rows * (count + 1));
    float *values = noise(random, count * columns + kernels->panel);
    float *out = calloc(rows * columns, sizeof *out);
    float *halves = calloc(rows * columns, sizeof *halves);
    assert_true(out != NULL && halves != NULL);

    kernels->weigh(weights, count + 1, rows, values, count, out, columns, columns);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            double sum = 0.0;
            for (size_t k = 0; k < count; k++)
                sum += (double)weights[r * (count + 1) + k] * (double)values[k * columns + c];
            assert_near(kernels, (double)out[r * columns + c], sum, 1e-6 * (double)(count + 4));
        }

    size_t half = count / 2;
    kernels->weigh(weights, count + 1, rows, values, half, halves, columns, columns);
    kernels->weigh(weights + half, count + 1, rows, values + half * columns, count - half, halves, columns, columns);
    assert_memory_equal(halves, out, rows * columns * sizeof *out);
    free(weights);
    free(values);
    free(out);
    free(halves);
}

static void weighing_in_stretches_is_weighing_at_once_to_the_bit(void **state)
{
    (void)state;
    struct random random = {2};
    for (size_t i = 0; kernels_supported(i) != NULL; i++)
        for (size_t rows = 1; rows <= 9; rows++)
            for (size_t count = 1; count <= 70; count = 2 * count + 1)
                for (size_t columns = 2; columns <= 80; columns = 3 * columns + 2)
                    compare_weighing(kernels_supported(i), &random, rows, count, columns);
}

static void a_row_does_not_depend_on_the_tile_that_it_falls_in(void **state)
{
    (void)state;
    enum { ROWS = 23, DEPTH = 65 };
    struct random random = {3};
    for (size_t i = 0; kernels_supported(i) != NULL; i++) {
        const struct kernels *kernels = kernels_supported(i);
        size_t panel = kernels->panel;
        float *weights = noise(&random, DEPTH * panel), *in = noise(&random, ROWS * DEPTH);
        float *together = noise(&random, ROWS * panel), *alone = noise(&random, panel);
        kernels->multiply(weights, DEPTH, in, DEPTH, ROWS, together, panel, panel, false);
        for (size_t r = 0; r < ROWS; r++) {
            kernels->multiply(weights, DEPTH, in + r * DEPTH, DEPTH, 1, alone, panel, panel, false);
            assert_memory_equal(alone, together + r * panel, panel * sizeof *alone);
        }
        free(weights);
        free(in);
        free(together);
        free(alone);
    }
}

static void softmax_is_that_of_libm_and_gives_hidden_keys_nothing(void **state)
{
    (void)state;
    struct random random = {4};
    for (size_t i = 0; kernels_supported(i) != NULL; i++)
        for (size_t count = 1; count <= 150; count = count * 3 / 2 + 1) {
            const struct kernels *kernels = kernels_supported(i);
            size_t limit = count + count % 7, room = limit + kernels->panel;
            float *scores = noise(&random, room);
            double *expected = calloc(room, sizeof *expected), sum = 0.0, greatest = -INFINITY;
            assert_non_null(expected);
            for (size_t k = 0; k < room; k++)
                scores[k] = k < count ? 40.0f * scores[k] : NAN;
            for (size_t k = 0; k < count; k++)
                greatest = fmax(greatest, (double)scores[k]);
            for (size_t k = 0; k < count; k++)
                sum += expected[k] = exp((double)scores[k] - greatest);

            double got = (double)kernels->soften(scores, count, limit);
            assert_near(kernels, got, sum, 1e-6 * sum);
            for (size_t k = 0; k < limit; k++) /* the subtraction itself costs 2^-18 of an exponent of 80 */
                assert_near(kernels, (double)scores[k], expected[k], 8e-6 * expected[k]);
            free(scores);
            free(expected);
        }
}

/* With up = 1 / g the gate is the logistic function, where it is steepest in the exponential. */
static void the_gate_is_silu_from_end_to_end(void **state)
{
    (void)state;
    for (size_t i = 0; kernels_supported(i) != NULL; i++) {
        const struct kernels *kernels = kernels_supported(i);
        size_t count = 400 * kernels->panel;
        float *gate = malloc(count * sizeof *gate), *up = malloc(count * sizeof *up);
        assert_true(gate != NULL && up != NULL);
        for (size_t k = 0; k < count; k++) {
            gate[k] = (float)(-120.0 + 240.0 * ((double)k + 0.5) / (double)count);
            up[k] = 0.5f;
        }
        kernels->gate(gate, up, count);
        for (size_t k = 0; k < count; k++) {
            double g = (double)(float)(-120.0 + 240.0 * ((double)k + 0.5) / (double)count);
            double expected = 0.5 * g / (1.0 + exp(-g));
            assert_near(kernels, (double)gate[k], expected, fmax(1e-6 * fabs(expected), 1e-36));
        }
        free(gate);
        free(up);
    }
}

static void norm_is_that_of_a_plain_loop_and_shows_broken_rows(void **state)
{
    (void)state;
    struct random random = {5};
    for (size_t i = 0; kernels_supported(i) != NULL; i++)
        for (size_t count = 1; count <= 100; count += 11) {
            const struct kernels *kernels = kernels_supported(i);
            float *in = noise(&random, count), *gain = noise(&random, count), *out = noise(&random, count);
            double squares = 0.0;
            for (size_t k = 0; k < count; k++)
                squares += (double)in[k] * (double)in[k];
            double mean = squares / (double)count;
            assert_near(kernels, (double)kernels->norm(in, gain, count, 1e-5f, out), mean, 1e-6 * mean);
            for (size_t k = 0; k < count; k++)
                assert_near(kernels, (double)out[k], (double)in[k] * (double)gain[k] / sqrt(mean + 1e-5), 2e-6);

            in[count - 1] = NAN;
            assert_true(!isfinite(kernels->norm(in, gain, count, 1e-5f, out)));
            in[count - 1] = -INFINITY;
            assert_true(!isfinite(kernels->norm(in, gain, count, 1e-5f, out)));
            free(in);
            free(gain);
            free(out);
        }
}

static void broken_numbers_stay_broken(void **state)
{
    (void)state;
    for (size_t i = 0; kernels_supported(i) != NULL; i++) {
        const struct kernels *kernels = kernels_supported(i);
        float gate[64], up[64], scores[128] = {0};
        for (size_t k = 0; k < 64; k++)
            gate[k] = up[k] = 1.0f;
        gate[3] = NAN;
        kernels->gate(gate, up, kernels->panel);
        assert_true(isnan(gate[3]));
        assert_true(!isnan(gate[2]));
        scores[1] = INFINITY;
        assert_true(!isfinite(kernels->soften(scores, 5, 5)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_a_plain_loop_on_odd_shapes),
        cmocka_unit_test(weighing_in_stretches_is_weighing_at_once_to_the_bit),
        cmocka_unit_test(a_row_does_not_depend_on_the_tile_that_it_falls_in),
        cmocka_unit_test(softmax_is_that_of_libm_and_gives_hidden_keys_nothing),
        cmocka_unit_test(the_gate_is_silu_from_end_to_end),
        cmocka_unit_test(norm_is_that_of_a_plain_loop_and_shows_broken_rows),
        cmocka_unit_test(broken_numbers_stay_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
