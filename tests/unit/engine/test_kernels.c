#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "engine/cpu/kernels.h"

static float *noise(struct random *random, size_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(2.0 * random_uniform(random) - 1.0);
    return values;
}

/* The tables that this processor can run; NULL past the last one. */
static const struct kernels *supported(size_t index)
{
    const struct kernels *kernels;
    struct error err;
    for (enum engine_cpu cpu = ENGINE_SCALAR; cpu <= ENGINE_AVX512; cpu++)
        if (kernels_pick(&kernels, cpu, &err) == 0 && index-- == 0)
            return kernels;
#if defined(__x86_64__)
    if (kernels_pick(&kernels, ENGINE_AVX512, &err) == 0 && index < 2)
        return index == 0 ? &kernels_avx512 : &kernels_avx512_narrow; /* pick() has one of them */
#endif
    return NULL;
}

static const struct format *format_of(const struct kernels *kernels, size_t index)
{
    return index == 0 ? kernels->floats : index == 1 ? kernels->bfloats : index == 2 ? kernels->integers : NULL;
}

static void assert_near(const struct kernels *kernels, double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s: %.9g instead of %.9g", kernels->name, got, expected);
}

struct product {
    const struct kernels *kernels;
    const struct format *format;
    size_t depth, rows, in_stride;
    float *weights; /* (panel, depth) */
    float *in;      /* (rows, depth) */
    uint8_t *panel, *operands;
};

static uint8_t *zeroed_lines(size_t bytes)
{
    uint8_t *lines = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(lines);
    memset(lines, 0, bytes);
    return lines;
}

static struct product make_product(const struct kernels *kernels, const struct format *format, struct random *random,
                                   size_t rows, size_t depth)
{
    struct product product = {kernels, format, depth, rows, format->operand_bytes(depth), NULL, NULL, NULL, NULL};
    product.weights = noise(random, kernels->panel * depth);
    product.in = noise(random, rows * depth);
    product.panel = zeroed_lines(format->panel_bytes(depth));
    product.operands = zeroed_lines(rows * product.in_stride);
    for (size_t c = 0; c < kernels->panel; c++)
        format->put_column(product.panel, depth, c, product.weights + c * depth);
    for (size_t r = 0; r < rows; r++)
        format->take(product.in + r * depth, depth, 0, depth, product.operands + r * product.in_stride);
    return product;
}

static void free_product(struct product *product)
{
    free(product->weights);
    free(product->in);
    free(product->panel);
    free(product->operands);
}

/* How far off a product of numbers from -1 to 1 may be; `size` is the sum of its terms' magnitudes. */
static double product_error(const struct product *product, double size)
{
    double steps = 1e-6 * (double)(product->depth + 4);
    if (product->format == product->kernels->floats)
        return steps;
    if (strcmp(product->format->name, "bf16-int16") == 0)
        return steps + 2e-4 * sqrt((double)product->depth); /* six deviations of roundings to 2^-13 on both sides */
    if (product->format == product->kernels->bfloats)
        return steps + 0x1p-7 * size;
    return 0.02 * sqrt((double)product->depth); /* six deviations of roundings to 1 / 127 on both sides */
}

static void compare_product(const struct product *product, bool add, struct random *random)
{
    const struct kernels *kernels = product->kernels;
    size_t out_stride = kernels->panel + 16;
    float *out = noise(random, product->rows * out_stride);
    float *before = noise(random, product->rows * out_stride);
    memcpy(before, out, product->rows * out_stride * sizeof *out);

    product->format->multiply(product->panel, product->depth, product->operands, product->in_stride, product->rows, out,
                              out_stride, add, NULL);
    for (size_t r = 0; r < product->rows; r++) {
        for (size_t c = 0; c < kernels->panel; c++) {
            double sum = add ? (double)before[r * out_stride + c] : 0.0, size = 0.0;
            for (size_t k = 0; k < product->depth; k++) {
                double term =
                    (double)product->in[r * product->depth + k] * (double)product->weights[c * product->depth + k];
                sum += term;
                size += fabs(term);
            }
            assert_near(kernels, (double)out[r * out_stride + c], sum, product_error(product, size));
        }
        assert_memory_equal(out + r * out_stride + kernels->panel, before + r * out_stride + kernels->panel,
                            16 * sizeof *out);
    }
    free(out);
    free(before);
}

static void products_are_those_of_a_plain_loop_on_odd_shapes(void **state)
{
    (void)state;
    struct random random = {1};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; format_of(supported(i), f) != NULL; f++)
            for (size_t rows = 1; rows <= 19; rows++)
                for (size_t depth = 1; depth <= 600; depth = 2 * depth + 1) {
                    struct product product =
                        make_product(supported(i), format_of(supported(i), f), &random, rows, depth);
                    compare_product(&product, false, &random);
                    compare_product(&product, true, &random);
                    free_product(&product);
                }
}

static void a_row_does_not_depend_on_the_tile_that_it_falls_in(void **state)
{
    (void)state;
    enum { ROWS = 23, DEPTH = 65 };
    struct random random = {3};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; format_of(supported(i), f) != NULL; f++) {
            const struct format *format = format_of(supported(i), f);
            struct product product = make_product(supported(i), format, &random, ROWS, DEPTH);
            size_t panel = supported(i)->panel;
            float *together = noise(&random, ROWS * panel), *alone = noise(&random, panel);
            format->multiply(product.panel, DEPTH, product.operands, product.in_stride, ROWS, together, panel, false,
                             NULL);
            for (size_t r = 0; r < ROWS; r++) {
                format->multiply(product.panel, DEPTH, product.operands + r * product.in_stride, product.in_stride, 1,
                                 alone, panel, false, NULL);
                assert_memory_equal(alone, together + r * panel, panel * sizeof *alone);
            }
            free(together);
            free(alone);
            free_product(&product);
        }
}

/* As if it had been made of the product's numbers as they are now. */
static void make_anew(struct product *product)
{
    memset(product->panel, 0, product->format->panel_bytes(product->depth));
    for (size_t c = 0; c < product->kernels->panel; c++)
        product->format->put_column(product->panel, product->depth, c, product->weights + c * product->depth);
    for (size_t r = 0; r < product->rows; r++)
        product->format->take(product->in + r * product->depth, product->depth, 0, product->depth,
                              product->operands + r * product->in_stride);
}

enum { EXTREMES = 5 };

/* All numbers of one size; those that stand out; groups of other sizes. */
static float extreme(size_t which, size_t k)
{
    const float values[EXTREMES] = {1.0f, k % 2 == 0 ? 1.0f : -1.0f, k % 64 == 0 ? 1.0f : 0.0f, k == 7 ? 1e3f : 1.0f,
                                    k < 200 ? 100.0f : 1.0f};
    return values[which];
}

/* Sums of integers hold the largest numbers that can come, operands and weights being alike. */
static void the_largest_sums_do_not_overflow(void **state)
{
    (void)state;
    enum { DEPTH = 600 };
    struct random random = {8};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; format_of(supported(i), f) != NULL; f++)
            for (size_t which = 0; which < 3 * EXTREMES; which++) {
                const float sizes[] = {1e-9f, 1.0f, 1e9f};
                struct product product = make_product(supported(i), format_of(supported(i), f), &random, 1, DEPTH);
                size_t panel = supported(i)->panel;
                float *out = noise(&random, panel);
                double expected = 0.0;
                for (size_t k = 0; k < DEPTH; k++) {
                    product.in[k] = sizes[which / EXTREMES] * extreme(which % EXTREMES, k);
                    for (size_t c = 0; c < panel; c++)
                        product.weights[c * DEPTH + k] = product.in[k];
                    expected += (double)product.in[k] * (double)product.in[k];
                }
                make_anew(&product);
                product.format->multiply(product.panel, DEPTH, product.operands, product.in_stride, 1, out, panel,
                                         false, NULL);
                for (size_t c = 0; c < panel; c++)
                    assert_near(supported(i), (double)out[c], expected, 0.02 * expected);
                free(out);
                free_product(&product);
            }
}

static void a_broken_number_breaks_the_products_with_it(void **state)
{
    (void)state;
    enum { DEPTH = 300 };
    static const float broken[] = {NAN, INFINITY, -INFINITY};
    static const size_t places[] = {0, 190, 299};
    struct random random = {7};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; format_of(supported(i), f) != NULL; f++)
            for (size_t which = 0; which < 18; which++) {
                struct product product = make_product(supported(i), format_of(supported(i), f), &random, 2, DEPTH);
                size_t panel = supported(i)->panel;
                float *out = noise(&random, 2 * panel);
                (which < 9 ? product.in : product.weights)[places[which / 3 % 3]] = broken[which % 3];
                make_anew(&product);
                product.format->multiply(product.panel, DEPTH, product.operands, product.in_stride, 2, out, panel,
                                         false, NULL);
                for (size_t c = 0; c < 2 * panel; c++) /* of row 0, or of column 0 */
                    assert_int_equal(isfinite(out[c]) != 0, which < 9 ? c >= panel : c % panel != 0);
                free(out);
                free_product(&product);
            }
}

/* A column with a single 1 turns into numbers of one size, which bytes hold exactly: what is left is the operand's
 * loss. */
static void a_second_operand_gives_back_what_the_first_one_lost(void **state)
{
    (void)state;
    enum { DEPTH = 192 };
    struct random random = {9};
    for (size_t i = 0; supported(i) != NULL; i++) {
        const struct format *format = supported(i)->integers;
        size_t panel = supported(i)->panel;
        struct product product = make_product(supported(i), format, &random, 1, DEPTH);
        uint8_t *rest = zeroed_lines(format->operand_bytes(DEPTH));
        float *once = noise(&random, panel), *twice = noise(&random, panel);
        memset(product.panel, 0, format->panel_bytes(DEPTH));
        for (size_t c = 0; c < panel; c++) {
            memset(product.weights, 0, DEPTH * sizeof *product.weights);
            product.weights[3 * c] = 1.0f;
            format->put_column(product.panel, DEPTH, c, product.weights);
        }
        format->take_rest(product.in, DEPTH, 0, DEPTH, product.operands, rest);
        format->multiply(product.panel, DEPTH, product.operands, product.in_stride, 1, once, panel, false, NULL);
        memcpy(twice, once, panel * sizeof *once);
        format->multiply(product.panel, DEPTH, rest, product.in_stride, 1, twice, panel, true, NULL);
        double lost = 0.0;
        for (size_t c = 0; c < panel; c++) {
            lost = fmax(lost, fabs((double)once[c] - (double)product.in[3 * c]));
            assert_near(supported(i), (double)twice[c], (double)product.in[3 * c], 2e-4);
        }
        assert_true(lost > 2e-3 && lost < 0.1);
        free(rest);
        free(once);
        free(twice);
        free_product(&product);
    }
}

/* What is set by rows is what is set by columns, and a sum may be done in stretches: to the bit. */
static void a_sum_in_stretches_over_rows_is_the_whole_sum_over_columns(void **state)
{
    (void)state;
    enum { ROWS = 7, DEPTH = 64, HALF = 32 };
    struct random random = {2};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; format_of(supported(i), f) != NULL; f++) {
            const struct format *format = format_of(supported(i), f);
            if (format->put_row == NULL)
                continue;
            struct product product = make_product(supported(i), format, &random, ROWS, DEPTH);
            size_t panel = supported(i)->panel;
            float *whole = noise(&random, ROWS * panel), *halves = noise(&random, ROWS * panel);
            float *row = noise(&random, panel);
            uint8_t *panels[2];
            for (size_t half = 0; half < 2; half++) {
                panels[half] = zeroed_lines(format->panel_bytes(HALF));
                for (size_t k = 0; k < HALF; k++) {
                    for (size_t c = 0; c < panel; c++)
                        row[c] = product.weights[c * DEPTH + half * HALF + k];
                    format->put_row(panels[half], HALF, k, row, panel);
                }
            }
            format->multiply(product.panel, DEPTH, product.operands, product.in_stride, ROWS, whole, panel, false,
                             NULL);
            for (size_t half = 0; half < 2; half++)
                format->multiply(panels[half], HALF, product.operands + format->operand_bytes(half * HALF),
                                 product.in_stride, ROWS, halves, panel, half > 0, NULL);
            assert_memory_equal(halves, whole, ROWS * panel * sizeof *whole);
            free(panels[0]);
            free(panels[1]);
            free(row);
            free(whole);
            free(halves);
            free_product(&product);
        }
}

enum { KEYS = 150, WIDTH = 64 };

/* Goes through the first `count` of a row's keys in pieces; the others are NaN. `out` gathers what the shares weigh. */
static void soften_in_pieces(const struct format *format, const float *keys, size_t count, size_t rows,
                             struct softmax *softmaxes, float *out)
{
    float scores[KERNELS_TILE * 64];
    struct piece piece = {
        .rows = rows, .scores = scores, .rows_so_far = softmaxes, .out = out, .out_stride = WIDTH, .width = WIDTH};
    for (size_t first = 0; first < KEYS; first += 64) {
        for (size_t r = 0; r < rows; r++) {
            size_t seen = count > r ? count - r : 1; /* rows of a tile see different numbers of keys */
            piece.counts[r] = seen <= first ? 0 : seen - first < 64 ? seen - first : 64;
            for (size_t k = 0; k < 64; k++)
                scores[r * 64 + k] = k < piece.counts[r] ? keys[first + k] : NAN;
        }
        piece.limit = 64;
        format->share(&piece);
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < 64; k++) {
                double share = (double)scores[r * 64 + k];
                assert_true(k < piece.counts[r] || share == 0.0);
                out[r * WIDTH + (first + k) % WIDTH] += (float)share;
            }
    }
}

static void compare_softmax(const struct kernels *kernels, const struct format *format, struct random *random,
                            size_t count, float spread)
{
    float *keys = noise(random, KEYS + 64), *out = calloc(KERNELS_TILE * WIDTH, sizeof *out);
    struct softmax softmaxes[KERNELS_TILE];
    size_t rows = 1 + random_below(random, KERNELS_TILE);
    assert_non_null(out);
    for (size_t k = 0; k < KEYS; k++)
        keys[k] *= spread;
    for (size_t r = 0; r < KERNELS_TILE; r++)
        softmaxes[r] = (struct softmax){.greatest = -INFINITY};
    soften_in_pieces(format, keys, count, rows, softmaxes, out);

    for (size_t r = 0; r < rows && r < count; r++) {
        double expected[WIDTH] = {0}, sum = 0.0, got = 0.0, greatest = -INFINITY;
        for (size_t k = 0; k + r < count; k++)
            greatest = fmax(greatest, (double)keys[k]);
        for (size_t k = 0; k + r < count; k++) {
            expected[k % WIDTH] += exp((double)keys[k] - greatest);
            sum += exp((double)keys[k] - greatest);
        }
        for (size_t i = 0; i < 16; i++)
            got += (double)softmaxes[r].sums[i];
        assert_near(kernels, got, sum, 2e-5 * sum);
        for (size_t k = 0; k < WIDTH; k++)
            assert_near(kernels, (double)out[r * WIDTH + k], expected[k], 2e-5 * expected[k] + 1e-36);
    }
    free(keys);
    free(out);
}

static void softmax_in_pieces_is_that_of_libm_and_gives_hidden_keys_nothing(void **state)
{
    (void)state;
    struct random random = {4};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t f = 0; f < 2; f++)
            for (size_t count = 1; count <= KEYS; count = count * 3 / 2 + 1) {
                if (format_of(supported(i), f)->share == NULL)
                    continue;
                compare_softmax(supported(i), format_of(supported(i), f), &random, count, 1.0f);
                compare_softmax(supported(i), format_of(supported(i), f), &random, count, 40.0f);
            }
}

enum { TILE = 64, TILES = 3, MOST_SIZE = 130 };

/* A sequence's keys and values, as numbers and as tiles; row r of the queries sees `seen - (rows - 1 - r)` of them. */
struct scene {
    const struct kernels *kernels;
    size_t size, seen, rows;
    float *keys, *values; /* (TILES * TILE, size) */
    float *queries;       /* (rows, size) */
    uint8_t *key_panels[TILES], *value_panels[TILES], *operands;
};

static struct scene make_scene(const struct kernels *kernels, struct random *random, size_t size, size_t seen,
                               size_t rows, float spread)
{
    const struct format *format = kernels->attention;
    struct scene scene = {.kernels = kernels, .size = size, .seen = seen, .rows = rows};
    scene.keys = noise(random, TILES * TILE * size);
    scene.values = noise(random, TILES * TILE * size);
    scene.queries = noise(random, rows * size);
    for (size_t k = 0; k < TILES * TILE; k++) /* values of very different sizes, some of them nothing */
        for (size_t c = 0; c < size; c++)
            scene.values[k * size + c] *= k % 7 == 3 ? 0.0f : exp2f(-(float)(k % 5));
    for (size_t i = 0; i < rows * size; i++)
        scene.queries[i] *= spread / sqrtf((float)size);
    scene.operands = zeroed_lines(rows * format->operand_bytes(size));
    for (size_t r = 0; r < rows; r++)
        format->take(scene.queries + r * size, size, 0, size, scene.operands + r * format->operand_bytes(size));
    for (size_t t = 0; t < TILES; t++) {
        scene.key_panels[t] = zeroed_lines(format->panel_bytes(size));
        scene.value_panels[t] = zeroed_lines((size + TILE - 1) / TILE * format->panel_bytes(TILE));
        for (size_t k = 0; k < TILE; k++) {
            format->put_column(scene.key_panels[t], size, k, scene.keys + (t * TILE + k) * size);
            format->put_row(scene.value_panels[t], TILE, k, scene.values + (t * TILE + k) * size, size);
        }
    }
    return scene;
}

static void free_scene(struct scene *scene)
{
    free(scene->keys);
    free(scene->values);
    free(scene->queries);
    free(scene->operands);
    for (size_t t = 0; t < TILES; t++) {
        free(scene->key_panels[t]);
        free(scene->value_panels[t]);
    }
}

static size_t seen_by(const struct scene *scene, size_t row)
{
    size_t hidden = scene->rows - 1 - row;
    return scene->seen > hidden ? scene->seen - hidden : 1;
}

/* Rows first .. first + rows - 1 in one go; `out` (rows, size). */
static void attend_scene(const struct scene *scene, size_t first, size_t rows, float *out)
{
    const struct format *format = scene->kernels->attention;
    size_t stride = (scene->size + TILE - 1) / TILE * TILE;
    struct softmax softmaxes[KERNELS_TILE];
    float *weighed = (float *)(void *)zeroed_lines(rows * stride * sizeof *weighed);
    struct piece piece = {
        .rows = rows, .rows_so_far = softmaxes, .out = weighed, .out_stride = stride, .width = stride};

    for (size_t r = 0; r < rows; r++)
        softmaxes[r] = (struct softmax){.greatest = -INFINITY};
    for (size_t t = 0; t < TILES && t * TILE < seen_by(scene, first + rows - 1); t++) {
        for (size_t r = 0; r < rows; r++) {
            size_t seen = seen_by(scene, first + r);
            piece.counts[r] = seen <= t * TILE ? 0 : seen - t * TILE < TILE ? seen - t * TILE : TILE;
        }
        format->attend(scene->key_panels[t], scene->value_panels[t], scene->size,
                       scene->operands + first * format->operand_bytes(scene->size), &piece);
    }
    for (size_t r = 0; r < rows; r++) {
        float sum = 0.0f;
        for (size_t i = 0; i < 16; i++)
            sum += softmaxes[r].sums[i];
        for (size_t c = 0; c < scene->size; c++)
            out[r * scene->size + c] = weighed[r * stride + c] / sum;
    }
    free(weighed);
}

static void compare_scene(const struct scene *scene, const float *out)
{
    for (size_t r = 0; r < scene->rows; r++) {
        double weights[TILES * TILE], greatest = -INFINITY, sum = 0.0;
        for (size_t k = 0; k < seen_by(scene, r); k++) {
            weights[k] = 0.0;
            for (size_t c = 0; c < scene->size; c++)
                weights[k] += (double)scene->queries[r * scene->size + c] * (double)scene->keys[k * scene->size + c];
            greatest = fmax(greatest, weights[k]);
        }
        for (size_t k = 0; k < seen_by(scene, r); k++)
            sum += weights[k] = exp(weights[k] - greatest);
        for (size_t c = 0; c < scene->size; c++) {
            double expected = 0.0;
            for (size_t k = 0; k < seen_by(scene, r); k++)
                expected += weights[k] / sum * (double)scene->values[k * scene->size + c];
            assert_near(scene->kernels, (double)out[r * scene->size + c], expected, 2e-3);
        }
    }
}

static void attention_in_one_is_that_of_a_plain_loop(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 8, 47, 64, 96, MOST_SIZE};
    struct random random = {11};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t s = 0; supported(i)->attention->attend != NULL && s < sizeof sizes / sizeof *sizes; s++)
            for (size_t seen = 1; seen <= TILES * TILE; seen = seen * 3 / 2 + 1) {
                struct scene scene = make_scene(supported(i), &random, sizes[s], seen, 1 + seen % KERNELS_TILE,
                                                seen % 2 == 0 ? 1.0f : 20.0f);
                float out[KERNELS_TILE * MOST_SIZE];
                attend_scene(&scene, 0, scene.rows, out);
                compare_scene(&scene, out);
                free_scene(&scene);
            }
}

/* Later tokens of a tile may not be there yet, or be broken: nothing of them may get in. */
static void a_row_in_attention_depends_on_the_keys_it_sees_alone(void **state)
{
    (void)state;
    enum { SIZE = 64, SEEN = 100 };
    struct random random = {12};
    for (size_t i = 0; supported(i) != NULL; i++) {
        const struct format *format = supported(i)->attention;
        if (format->attend == NULL)
            continue;
        struct scene scene = make_scene(supported(i), &random, SIZE, SEEN, KERNELS_TILE, 3.0f);
        float together[KERNELS_TILE * SIZE], alone[SIZE], broken[SIZE];
        attend_scene(&scene, 0, scene.rows, together);
        for (size_t k = 0; k < SIZE; k++)
            broken[k] = NAN;
        for (size_t r = scene.rows; r-- > 0;) {
            for (size_t k = seen_by(&scene, r); k < TILES * TILE; k++) {
                format->put_column(scene.key_panels[k / TILE], SIZE, k % TILE, broken);
                format->put_row(scene.value_panels[k / TILE], TILE, k % TILE, broken, SIZE);
            }
            attend_scene(&scene, r, 1, alone);
            assert_memory_equal(alone, together + r * SIZE, sizeof alone);
        }
        attend_scene(&scene, 0, scene.rows, together);
        assert_true(isfinite(together[0]));
        for (size_t r = 1; r < scene.rows; r++)
            assert_true(isnan(together[r * SIZE]));
        free_scene(&scene);
    }
}

/* With up = 1 / g the gate is the logistic function, where it is steepest in the exponential. */
static void the_gate_is_silu_from_end_to_end(void **state)
{
    (void)state;
    for (size_t i = 0; supported(i) != NULL; i++) {
        const struct kernels *kernels = supported(i);
        size_t count = 400 * kernels->panel;
        float *gate = malloc(count * sizeof *gate), *up = malloc(count * sizeof *up);
        assert_true(gate != NULL && up != NULL);
        for (size_t k = 0; k < count; k++) {
            gate[k] = (float)(-120.0 + 240.0 * ((double)k + 0.5) / (double)count);
            up[k] = 0.5f;
        }
        for (size_t k = 0; k < count; k += kernels->panel)
            kernels->gate(gate + k, up + k, gate + k);
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
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t count = 1; count <= 100; count += 11) {
            const struct kernels *kernels = supported(i);
            float *in = noise(&random, count), *out = noise(&random, count);
            double squares = 0.0;
            for (size_t k = 0; k < count; k++)
                squares += (double)in[k] * (double)in[k];
            double mean = squares / (double)count;
            assert_near(kernels, (double)kernels->norm(in, count, 1e-5f, out), mean, 1e-6 * mean);
            for (size_t k = 0; k < count; k++)
                assert_near(kernels, (double)out[k], (double)in[k] / sqrt(mean + 1e-5), 2e-6);

            in[count - 1] = NAN;
            assert_true(!isfinite(kernels->norm(in, count, 1e-5f, out)));
            in[count - 1] = -INFINITY;
            assert_true(!isfinite(kernels->norm(in, count, 1e-5f, out)));
            free(in);
            free(out);
        }
}

static void rotation_turns_pairs_half_a_head_apart(void **state)
{
    (void)state;
    struct random random = {6};
    for (size_t i = 0; supported(i) != NULL; i++)
        for (size_t pairs = 1; pairs <= 70; pairs = 3 * pairs + 1) {
            float *in = noise(&random, 2 * pairs), *out = noise(&random, 2 * pairs);
            float *cosines = noise(&random, pairs), *sines = noise(&random, pairs);
            supported(i)->rotate(in, cosines, sines, pairs, 0.25f, out);
            for (size_t k = 0; k < pairs; k++) {
                double x = (double)in[k], y = (double)in[k + pairs], c = (double)cosines[k], s = (double)sines[k];
                assert_near(supported(i), (double)out[k], 0.25 * (x * c - y * s), 1e-7);
                assert_near(supported(i), (double)out[k + pairs], 0.25 * (x * s + y * c), 1e-7);
            }
            free(in);
            free(out);
            free(cosines);
            free(sines);
        }
}

static void broken_numbers_stay_broken(void **state)
{
    (void)state;
    for (size_t i = 0; supported(i) != NULL; i++) {
        const struct kernels *kernels = supported(i);
        float gate[64], up[64];
        for (size_t k = 0; k < 64; k++)
            gate[k] = up[k] = 1.0f;
        gate[3] = NAN;
        kernels->gate(gate, up, gate);
        assert_true(isnan(gate[3]));
        assert_true(!isnan(gate[2]));
        for (size_t f = 0; f < 2 && format_of(kernels, f)->share != NULL; f++) {
            struct softmax softmax = {.greatest = -INFINITY};
            float keys[KEYS + 64] = {0.0f, INFINITY}, out[WIDTH] = {0};
            soften_in_pieces(format_of(kernels, f), keys, 5, 1, &softmax, out);
            double sum = 0.0;
            for (size_t k = 0; k < 16; k++)
                sum += (double)softmax.sums[k];
            assert_true(!isfinite(sum));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_a_plain_loop_on_odd_shapes),
        cmocka_unit_test(a_row_does_not_depend_on_the_tile_that_it_falls_in),
        cmocka_unit_test(the_largest_sums_do_not_overflow),
        cmocka_unit_test(a_broken_number_breaks_the_products_with_it),
        cmocka_unit_test(a_second_operand_gives_back_what_the_first_one_lost),
        cmocka_unit_test(a_sum_in_stretches_over_rows_is_the_whole_sum_over_columns),
        cmocka_unit_test(softmax_in_pieces_is_that_of_libm_and_gives_hidden_keys_nothing),
        cmocka_unit_test(attention_in_one_is_that_of_a_plain_loop),
        cmocka_unit_test(a_row_in_attention_depends_on_the_keys_it_sees_alone),
        cmocka_unit_test(the_gate_is_silu_from_end_to_end),
        cmocka_unit_test(norm_is_that_of_a_plain_loop_and_shows_broken_rows),
        cmocka_unit_test(rotation_turns_pairs_half_a_head_apart),
        cmocka_unit_test(broken_numbers_stay_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
