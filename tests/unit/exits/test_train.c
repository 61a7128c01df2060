#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "exits/train.h"

enum { COUNT = 400, HELD = 200, ALL = COUNT + HELD, COLUMNS = 24, WIDTH = 32, BLOCK = 20 };

/* Rows of correlated inputs; labels drawn from a planted head of the first views' rows. */
struct scene {
    float rows[2][ALL * WIDTH];
    uint8_t labels[ALL];
    double planted[ALL]; /* logits that the labels were drawn from */
    double l2[WIDTH];
};

static double normal(struct random *random)
{
    double u = random_uniform(random), v = random_uniform(random);
    return sqrt(-2 * log(1 - u)) * cos(2 * 3.14159265358979 * v);
}

static void fill_view(float *rows, struct random *random)
{
    for (size_t i = 0; i < ALL; i++) {
        double common = normal(random);
        for (size_t j = 0; j < WIDTH; j++)
            rows[i * WIDTH + j] = j < COLUMNS ? (float)(0.7 * common + normal(random)) : 0;
    }
}

static struct scene *make_scene(uint64_t seed)
{
    struct scene *scene = test_calloc(1, sizeof *scene);
    struct random random = {seed};
    fill_view(scene->rows[0], &random);
    fill_view(scene->rows[1], &random);
    for (size_t i = 0; i < ALL; i++) {
        for (size_t j = 0; j < COLUMNS; j++)
            scene->planted[i] += (j % 3 == 0 ? 0.5 : -0.2) * (double)scene->rows[0][i * WIDTH + j];
        scene->planted[i] += 0.3;
        scene->labels[i] = random_uniform(&random) < 1 / (1 + exp(-scene->planted[i]));
    }
    for (size_t j = 0; j < WIDTH; j++)
        scene->l2[j] = j < BLOCK ? 5 : 0.5;
    return scene;
}

static struct train_problem problem_of(const struct scene *scene, const struct train_view *views, size_t view_count)
{
    return (struct train_problem){.views = views,
                                  .view_count = view_count,
                                  .labels = scene->labels,
                                  .count = COUNT,
                                  .width = WIDTH,
                                  .l2 = scene->l2};
}

struct fit {
    float weights[WIDTH], bias;
    struct train_result result;
};

static struct fit train(const struct train_problem *problem)
{
    struct fit fit = {0};
    struct error err;
    struct train_settings settings = train_defaults();
    assert_int_equal(train_head(problem, &settings, fit.weights, &fit.bias, &fit.result, &err), 0);
    return fit;
}

enum { UNKNOWNS = COLUMNS + 1 };

/* Gauss's elimination with pivots; the solution replaces b. */
static void solve(double a[UNKNOWNS][UNKNOWNS], double b[UNKNOWNS])
{
    for (size_t k = 0; k < UNKNOWNS; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < UNKNOWNS; i++)
            pivot = fabs(a[i][k]) > fabs(a[pivot][k]) ? i : pivot;
        for (size_t j = 0; j < UNKNOWNS; j++) {
            double kept = a[k][j];
            a[k][j] = a[pivot][j];
            a[pivot][j] = kept;
        }
        double kept = b[k];
        b[k] = b[pivot];
        b[pivot] = kept;
        for (size_t i = 0; i < UNKNOWNS; i++) {
            double factor = i == k ? 0 : a[i][k] / a[k][k];
            for (size_t j = k; j < UNKNOWNS; j++)
                a[i][j] -= factor * a[k][j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t k = 0; k < UNKNOWNS; k++)
        b[k] /= a[k][k];
}

static double input(const struct train_problem *problem, size_t view, size_t row, size_t column)
{
    return column == COLUMNS ? 1 : (double)problem->views[view].rows[row * WIDTH + column];
}

/* Newton's method on the same sum: weights, then the bias. */
static void solve_by_newton(const struct train_problem *problem, double head[UNKNOWNS])
{
    memset(head, 0, UNKNOWNS * sizeof *head);
    for (int turn = 0; turn < 30; turn++) {
        double curve[UNKNOWNS][UNKNOWNS] = {0}, slope[UNKNOWNS] = {0};
        for (size_t j = 0; j < COLUMNS; j++) {
            curve[j][j] = problem->l2[j];
            slope[j] = problem->l2[j] * head[j];
        }
        for (size_t v = 0; v < problem->view_count; v++)
            for (size_t i = 0; i < problem->count; i++) {
                double logit = 0;
                for (size_t j = 0; j < UNKNOWNS; j++)
                    logit += head[j] * input(problem, v, i, j);
                double p = 1 / (1 + exp(-logit)), weight = problem->views[v].weight;
                for (size_t j = 0; j < UNKNOWNS; j++) {
                    slope[j] += weight * (p - problem->labels[i]) * input(problem, v, i, j);
                    for (size_t k = 0; k < UNKNOWNS; k++)
                        curve[j][k] += weight * p * (1 - p) * input(problem, v, i, j) * input(problem, v, i, k);
                }
            }
        solve(curve, slope);
        for (size_t j = 0; j < UNKNOWNS; j++)
            head[j] -= slope[j];
    }
}

static void assert_same_logits(const struct train_problem *problem, const struct fit *fit)
{
    double head[UNKNOWNS], logits[COUNT];
    solve_by_newton(problem, head);
    for (size_t v = 0; v < problem->view_count; v++) {
        train_logits(problem->views[v].rows, COUNT, WIDTH, fit->weights, fit->bias, logits);
        for (size_t i = 0; i < COUNT; i++) {
            double logit = 0;
            for (size_t j = 0; j < UNKNOWNS; j++)
                logit += head[j] * input(problem, v, i, j);
            assert_float_equal(logits[i], logit, 1e-3);
        }
    }
}

static void training_reaches_newtons_solution(void **state)
{
    (void)state;
    struct scene *scene = make_scene(1);
    const struct train_view view = {scene->rows[0], 1};
    const double scales[] = {0.01, 1, 100}; /* of l2: from hardly any penalty to a strong one */
    for (size_t s = 0; s < 3; s++) {
        for (size_t j = 0; j < WIDTH; j++)
            scene->l2[j] = scales[s] * (j < BLOCK ? 5 : 0.5);
        const struct train_problem problem = problem_of(scene, &view, 1);
        struct fit fit = train(&problem);
        assert_true(fit.result.settled);
        assert_same_logits(&problem, &fit);
    }
    test_free(scene);
}

static void a_shared_head_weighs_its_exits_by_lambda(void **state)
{
    (void)state;
    struct scene *scene = make_scene(2);
    const struct train_view views[] = {{scene->rows[0], train_weight(1, 0.5, 1)}, {scene->rows[1], 1}};
    const struct train_problem problem = problem_of(scene, views, 2);
    struct fit fit = train(&problem);
    assert_same_logits(&problem, &fit);
    assert_float_equal(views[0].weight, 0.60653066, 1e-8);
    test_free(scene);
}

static void where_training_begins_does_not_matter(void **state)
{
    (void)state;
    struct scene *scene = make_scene(3);
    const struct train_view view = {scene->rows[0], 1};
    const struct train_problem problem = problem_of(scene, &view, 1);
    struct fit far = {.bias = -2};
    struct error err;
    struct train_settings settings = train_defaults();
    for (size_t j = 0; j < COLUMNS; j++)
        far.weights[j] = j % 2 ? 1.0f : -1.0f;
    assert_int_equal(train_head(&problem, &settings, far.weights, &far.bias, &far.result, &err), 0);
    assert_same_logits(&problem, &far);
    test_free(scene);
}

static void a_planted_head_is_found(void **state)
{
    (void)state;
    struct scene *scene = make_scene(4);
    const struct train_view view = {scene->rows[0], 1};
    const struct train_problem problem = problem_of(scene, &view, 1);
    struct fit fit = train(&problem);
    double logits[HELD], loss = 0, best = 0;
    train_logits(scene->rows[0] + COUNT * WIDTH, HELD, WIDTH, fit.weights, fit.bias, logits);
    for (size_t i = 0; i < HELD; i++) {
        loss += train_log_loss(logits[i], scene->labels[COUNT + i]) / HELD;
        best += train_log_loss(scene->planted[COUNT + i], scene->labels[COUNT + i]) / HELD;
    }
    assert_true(best < 0.55);        /* there is something to learn */
    assert_true(loss < best + 0.05); /* and it was, from 400 rows */
    test_free(scene);
}

/* Mean squared distance of the logits from those that the labels were drawn from, on rows that did not train. */
static double distance_from_planted(const struct scene *scene, const struct fit *fit)
{
    double logits[HELD], sum = 0;
    train_logits(scene->rows[0] + COUNT * WIDTH, HELD, WIDTH, fit->weights, fit->bias, logits);
    for (size_t i = 0; i < HELD; i++)
        sum += (logits[i] - scene->planted[COUNT + i]) * (logits[i] - scene->planted[COUNT + i]);
    return sum / HELD;
}

static void probabilities_teach_more_than_labels(void **state)
{
    (void)state;
    struct scene *scene = make_scene(9);
    const struct train_view view = {scene->rows[0], 1};
    struct train_problem problem = problem_of(scene, &view, 1);
    float labels[COUNT], probabilities[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        labels[i] = scene->labels[i];
        probabilities[i] = (float)(1 / (1 + exp(-scene->planted[i])));
    }
    struct fit by_labels = train(&problem);
    problem.targets = labels;
    struct fit same = train(&problem);
    assert_memory_equal(same.weights, by_labels.weights, sizeof same.weights);
    problem.targets = probabilities;
    struct fit taught = train(&problem);
    assert_true(distance_from_planted(scene, &taught) < 0.3 * distance_from_planted(scene, &by_labels));
    test_free(scene);
}

static void held_rows_end_training_before_it_learns_noise(void **state)
{
    (void)state;
    struct scene *scene = make_scene(5);
    const struct train_view view = {scene->rows[0], 1};
    struct train_problem problem = problem_of(scene, &view, 1);
    problem.count = 40; /* of 24 inputs */
    for (size_t j = 0; j < WIDTH; j++)
        scene->l2[j] = 1e-3;
    struct fit whole = train(&problem);
    problem.held = HELD;
    struct fit stopped = train(&problem);
    double loss = 0, logits[HELD];
    train_logits(scene->rows[0] + 40 * WIDTH, HELD, WIDTH, whole.weights, whole.bias, logits);
    for (size_t i = 0; i < HELD; i++)
        loss += train_log_loss(logits[i], scene->labels[40 + i]) / HELD;
    assert_true(stopped.result.epochs < whole.result.epochs);
    assert_true(stopped.result.held_loss < loss - 0.1);
    train_logits(scene->rows[0] + 40 * WIDTH, HELD, WIDTH, stopped.weights, stopped.bias, logits);
    for (size_t i = 0; i < HELD; i++)
        loss = (i == 0 ? 0 : loss) + train_log_loss(logits[i], scene->labels[40 + i]) / HELD;
    assert_float_equal(loss, stopped.result.held_loss, 1e-5); /* what is handed out is the best, not the last */
    test_free(scene);
}

static void the_same_rows_give_the_same_bits(void **state)
{
    (void)state;
    struct scene *scene = make_scene(6);
    const struct train_view view = {scene->rows[0], 1};
    const struct train_problem problem = problem_of(scene, &view, 1);
    struct fit one = train(&problem), other = train(&problem);
    assert_memory_equal(one.weights, other.weights, sizeof one.weights);
    assert_memory_equal(&one.bias, &other.bias, sizeof one.bias);
    test_free(scene);
}

static void assert_refused(const struct train_problem *problem, const struct train_settings *settings, const char *what)
{
    struct fit fit = {0};
    struct error err;
    assert_int_equal(train_head(problem, settings, fit.weights, &fit.bias, &fit.result, &err), -1);
    assert_int_equal(err.kind, ERROR_BAD_INPUT);
    assert_non_null(strstr(err.message, what));
}

static void what_cannot_be_learned_from_is_refused(void **state)
{
    (void)state;
    struct scene *scene = make_scene(7);
    const struct train_view view = {scene->rows[0], 1}, weightless = {scene->rows[0], 0};
    struct train_problem problem = problem_of(scene, &view, 1);
    struct train_settings settings = train_defaults(), wrong = settings;

    wrong.learning_rate = 0;
    assert_refused(&problem, &wrong, "learning rate");
    wrong.learning_rate = 1e300;
    assert_refused(&problem, &wrong, "too high");
    wrong = settings;
    wrong.epochs = 0;
    assert_refused(&problem, &wrong, "epoch");
    problem.views = &weightless;
    assert_refused(&problem, &settings, "weight is 0");
    problem.views = &view;
    scene->l2[3] = 0;
    assert_refused(&problem, &settings, "column 3");
    scene->l2[3] = 1;
    scene->rows[0][5 * WIDTH + 2] = NAN;
    assert_refused(&problem, &settings, "row 5 is not finite in column 2");
    scene->rows[0][5 * WIDTH + 2] = 0;
    float targets[COUNT] = {[6] = 1.5f};
    problem.targets = targets;
    assert_refused(&problem, &settings, "target of row 6 is 1.5");
    problem.targets = NULL;
    memset(scene->labels, 1, sizeof scene->labels);
    assert_refused(&problem, &settings, "both labels");
    problem.count = 0;
    assert_refused(&problem, &settings, "0 rows");
    test_free(scene);
}

static void columns_have_mean_0_and_deviation_1_after_the_norm(void **state)
{
    (void)state;
    enum { ROWS = 500, STRIDE = 7, WIDE = 5 };
    float values[ROWS * STRIDE], out[ROWS * WIDE];
    struct random random = {8};
    struct train_scale scale;
    struct error err;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < STRIDE; j++)
            values[i * STRIDE + j] = (float)((1 + random_uniform(&random)) * (double)(j * j + 1)) * (i % 2 ? 1 : 100);
    const struct train_rows rows = {
        .values = values, .count = ROWS, .columns = WIDE, .stride = STRIDE, .norm = true, .epsilon = 1e-5f};
    assert_int_equal(train_scale_create(&scale, WIDE, &err), 0);
    train_scale_measure(&scale, &rows);
    train_scale_apply(&scale, &rows, out, WIDE);
    for (size_t j = 0; j < WIDE; j++) {
        double mean = 0, squares = 0;
        for (size_t i = 0; i < ROWS; i++) {
            mean += (double)out[i * WIDE + j] / ROWS;
            squares += (double)out[i * WIDE + j] * (double)out[i * WIDE + j] / ROWS;
        }
        assert_float_equal(mean, 0, 1e-4);
        assert_float_equal(squares, 1, 1e-3);
    }
    /* a row times a number is the same row to a head */
    float twice[STRIDE], one[WIDE], other[WIDE];
    for (size_t j = 0; j < STRIDE; j++)
        twice[j] = 2 * values[STRIDE + j];
    const struct train_rows rows_one = {values + STRIDE, 1, WIDE, STRIDE, true, 0};
    const struct train_rows rows_twice = {twice, 1, WIDE, STRIDE, true, 0};
    train_scale_apply(&scale, &rows_one, one, WIDE);
    train_scale_apply(&scale, &rows_twice, other, WIDE);
    for (size_t j = 0; j < WIDE; j++)
        assert_float_equal(one[j], other[j], 1e-3);
    train_scale_free(&scale);
}

static void a_column_that_never_varied_stays_finite(void **state)
{
    (void)state;
    const float values[] = {3, 1, 3, 2, 3, 3}, later[] = {4, 2}, alike[] = {3, 3, 3};
    float out[2];
    struct train_scale scale;
    struct error err;
    assert_int_equal(train_scale_create(&scale, 2, &err), 0);
    train_scale_measure(&scale, &(struct train_rows){values, 3, 2, 2, false, 0});
    train_scale_apply(&scale, &(struct train_rows){later, 1, 2, 2, false, 0}, out, 2);
    assert_true(isfinite(out[0]) && fabsf(out[0]) < 1e4f);
    assert_float_equal(out[1], 0, 1e-6);
    train_scale_measure(&scale, &(struct train_rows){alike, 3, 1, 1, false, 0});
    assert_true(scale.scales[0] == 1);
    train_scale_free(&scale);
}

static void platt_finds_the_scale_that_logits_were_bent_by(void **state)
{
    (void)state;
    enum { ROWS = 20000 };
    double *logits = test_malloc(ROWS * sizeof *logits);
    uint8_t *labels = test_malloc(ROWS);
    struct random random = {9};
    struct platt platt;
    struct error err;
    for (size_t i = 0; i < ROWS; i++) {
        double truth = 1.5 * normal(&random);
        labels[i] = random_uniform(&random) < 1 / (1 + exp(-truth));
        logits[i] = (truth - 0.4) / 0.25;
    }
    assert_int_equal(platt_fit(&platt, logits, labels, ROWS, &err), 0);
    assert_float_equal(platt.slope, 0.25, 0.01);
    assert_float_equal(platt.intercept, 0.4, 0.06);
    test_free(logits);
    test_free(labels);
}

static void platt_claims_no_certainty_from_few_rows(void **state)
{
    (void)state;
    const double logits[] = {-2, -1, 1, 2, 3};
    const uint8_t labels[] = {0, 0, 1, 1, 1};
    struct platt platt;
    struct error err;
    assert_int_equal(platt_fit(&platt, logits, labels, 5, &err), 0);
    double p = 1 / (1 + exp(-(platt.slope * 3 + platt.intercept)));
    assert_true(p > 0.7 && p < 0.95); /* the target of yes is 4 / 5 */
}

static void logits_worse_than_chance_are_left_out_of_the_answer(void **state)
{
    (void)state;
    const double logits[] = {-2, -1, 1, 2, 3};
    const uint8_t turned[] = {1, 1, 0, 0, 1};
    struct platt platt;
    struct error err;
    assert_int_equal(platt_fit(&platt, logits, turned, 5, &err), 0);
    assert_true(platt.slope == 0);
    assert_float_equal(platt.intercept, log(4.0 / 3), 1e-12);
}

static void platt_refuses_what_it_cannot_calibrate(void **state)
{
    (void)state;
    const double logits[] = {-2, -1, 1, 2}, broken[] = {-2, NAN, 1, 2};
    const uint8_t labels[] = {0, 1, 0, 1}, one_label[] = {1, 1, 1, 1};
    struct platt platt;
    struct error err;
    assert_int_equal(platt_fit(&platt, logits, one_label, 4, &err), -1);
    assert_non_null(strstr(err.message, "both labels"));
    assert_int_equal(platt_fit(&platt, broken, labels, 4, &err), -1);
    assert_non_null(strstr(err.message, "row 1"));
}

static void a_loss_is_finite_however_wrong_the_logit(void **state)
{
    (void)state;
    assert_float_equal(train_log_loss(0, 1), 0.69314718, 1e-7);
    assert_float_equal(train_log_loss(1000, 0), 1000, 1e-9);
    assert_float_equal(train_log_loss(-1000, 1), 1000, 1e-9);
    assert_float_equal(train_log_loss(1000, 1), 0, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_reaches_newtons_solution),
        cmocka_unit_test(a_shared_head_weighs_its_exits_by_lambda),
        cmocka_unit_test(where_training_begins_does_not_matter),
        cmocka_unit_test(a_planted_head_is_found),
        cmocka_unit_test(probabilities_teach_more_than_labels),
        cmocka_unit_test(held_rows_end_training_before_it_learns_noise),
        cmocka_unit_test(the_same_rows_give_the_same_bits),
        cmocka_unit_test(what_cannot_be_learned_from_is_refused),
        cmocka_unit_test(columns_have_mean_0_and_deviation_1_after_the_norm),
        cmocka_unit_test(a_column_that_never_varied_stays_finite),
        cmocka_unit_test(platt_finds_the_scale_that_logits_were_bent_by),
        cmocka_unit_test(platt_claims_no_certainty_from_few_rows),
        cmocka_unit_test(logits_worse_than_chance_are_left_out_of_the_answer),
        cmocka_unit_test(platt_refuses_what_it_cannot_calibrate),
        cmocka_unit_test(a_loss_is_finite_however_wrong_the_logit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
