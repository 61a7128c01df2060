/* Files of heads: what is written is read again; what is not sound is an error that names it. */
#include <setjmp.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "model/heads.h"

enum { WIDTH = 8, FEATURES = 3, EXITS = 2, MUTATIONS = 20000 / HEADRACE_SLOWDOWN };

static struct error err;

static const char *const names[] = {"rate", "count", "cosine"};

/* Two exits, the first with rows from layer 2 on. */
struct made {
    float rows[EXITS][3 * WIDTH], biases[EXITS][3], evidence[EXITS][FEATURES], exit0[FEATURES];
    struct head exits[EXITS];
    struct heads heads;
};

static void make(struct made *made, bool hybrid)
{
    static const size_t layers[EXITS] = {3, 6}, firsts[EXITS] = {2, 4};
    struct random random = {3};
    float *values[] = {made->rows[0],     made->rows[1],     made->biases[0], made->biases[1],
                       made->evidence[0], made->evidence[1], made->exit0};
    const size_t counts[] = {3 * WIDTH, 3 * WIDTH, 3, 3, FEATURES, FEATURES, FEATURES};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t k = 0; k < counts[i]; k++)
            values[i][k] = (float)random_below(&random, 2001) / 1000.0f - 1.0f;
    for (size_t i = 0; i < EXITS; i++)
        made->exits[i] = (struct head){.layer = layers[i],
                                       .first = firsts[i],
                                       .rows = made->rows[i],
                                       .biases = made->biases[i],
                                       .evidence = hybrid ? made->evidence[i] : NULL,
                                       .leave = i == 0 ? 0.75f : INFINITY};
    made->heads = (struct heads){.exits = made->exits,
                                 .count = EXITS,
                                 .width = WIDTH,
                                 .norm_epsilon = 1e-5f,
                                 .evidence_count = FEATURES,
                                 .exit0 = made->exit0,
                                 .exit0_bias = -0.5f,
                                 .exit0_leave = 0.9f,
                                 .reference = 3};
}

static const struct heads_origin origin = {.model_hash = "0123456789abcdef+fedcba9876543210",
                                           .template_hash = "00112233",
                                           .mode = "bf16",
                                           .yes = 10539,
                                           .no = 5230,
                                           .seed = -7,
                                           .from_ms = 874724710000,
                                           .to_ms = 893286638000,
                                           .made_by = "headrace train heads --seed 1"};

static void put_file(struct gguf_writer *writer, const struct made *made)
{
    struct text features[FEATURES];
    for (size_t i = 0; i < FEATURES; i++)
        features[i] = text_of(names[i]);
    heads_put_file(writer, &made->heads, &origin, features, FEATURES);
}

/* Text heads and hybrid ones, exit 0, a number. */
static struct buffer make_file(void)
{
    struct gguf_writer writer = {0};
    struct buffer bytes = {0};
    struct made text, hybrid;
    make(&text, false);
    make(&hybrid, true);
    put_file(&writer, &text);
    heads_put_exit0(&writer, &text.heads);
    heads_put(&writer, "text", &text.heads);
    heads_put(&writer, "hybrid", &hybrid.heads);
    heads_put_number(&writer, "text", 3, "auc", 0.743);
    heads_put_number(&writer, "text", 0, "l2", 0.001);
    if (gguf_writer_bytes(&writer, &bytes, &err) != 0)
        fail_msg("%s", err.message);
    gguf_writer_free(&writer);
    return bytes;
}

static struct gguf *open_bytes(const struct buffer *bytes)
{
    struct gguf *file;
    if (gguf_open_memory(&file, bytes->data, bytes->size, "some/where/tiny.heads.gguf", &err) != 0)
        fail_msg("%s", err.message);
    return file;
}

static void assert_floats(const float *a, const float *b, size_t count)
{
    assert_memory_equal(a, b, count * sizeof *a);
}

static void assert_loads(const struct gguf *file, const char *set, bool hybrid, const char *id)
{
    struct made made;
    struct heads heads;
    struct heads_origin read;
    make(&made, hybrid);
    if (heads_load(&heads, &read, file, set, NULL, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(heads.count, EXITS);
    assert_int_equal(heads.width, WIDTH);
    assert_true(heads.norm_epsilon == 1e-5f && heads.exit0_bias == -0.5f && heads.exit0_leave == 0.9f);
    assert_int_equal(heads.reference, 3);
    assert_int_equal(heads.evidence_count, FEATURES);
    assert_string_equal(heads.id, id);
    assert_floats(heads.exit0, made.exit0, FEATURES);
    for (size_t i = 0; i < EXITS; i++) {
        const struct head *head = &heads.exits[i], *expected = &made.exits[i];
        size_t layers = expected->layer - expected->first + 1;
        assert_int_equal(head->layer, expected->layer);
        assert_int_equal(head->first, expected->first);
        assert_true(head->leave == expected->leave);
        assert_floats(head->rows, expected->rows, layers * WIDTH);
        assert_floats(head->biases, expected->biases, layers);
        assert_int_equal(head->evidence != NULL, hybrid);
        if (hybrid)
            assert_floats(head->evidence, expected->evidence, FEATURES);
    }
    assert_memory_equal(&read, &origin, sizeof read);
    heads_free(&heads);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    struct buffer bytes = make_file();
    struct gguf *file = open_bytes(&bytes);
    char sets[4][HEADS_SET_SIZE];
    assert_int_equal(heads_sets(file, sets, 4), 2);
    assert_string_equal(sets[0], "text");
    assert_string_equal(sets[1], "hybrid");
    assert_loads(file, "text", false, "tiny:text");
    assert_loads(file, "hybrid", true, "tiny:hybrid");
    double number;
    assert_int_equal(gguf_float(file, "headrace.heads.number.text.3.auc", &number, &err), 0);
    assert_true(number == 0.743);
    assert_int_equal(gguf_float(file, "headrace.heads.number.text.l2", &number, &err), 0);
    assert_int_equal(heads_check_features(file, names, FEATURES, &err), 0);
    gguf_close(file);
    buffer_free(&bytes);
}

static void evidence_adds_its_weighed_sum(void **state)
{
    (void)state;
    const float features[FEATURES] = {0.5f, 2.0f, -1.0f};
    struct made text, hybrid;
    make(&text, false);
    make(&hybrid, true);
    const float *w = hybrid.evidence[1], *e = hybrid.exit0;
    double sum = 0.5 * (double)w[0] + 2 * (double)w[1] - (double)w[2];
    double exit0 = 0.5 * (double)e[0] + 2 * (double)e[1] - (double)e[2] - 0.5;
    assert_true(fabs((double)head_evidence_logit(&hybrid.heads, &hybrid.exits[1], features) - sum) < 1e-6);
    assert_true(head_evidence_logit(&text.heads, &text.exits[1], features) == 0.0f);
    assert_true(fabs((double)heads_exit0_logit(&hybrid.heads, features) - exit0) < 1e-6);
}

static void exits_are_kept_by_their_layers_and_the_last_one_stays(void **state)
{
    (void)state;
    struct buffer bytes = make_file();
    struct gguf *file = open_bytes(&bytes);
    struct heads heads;
    const size_t three[] = {3}, other[] = {1, 2, 5};
    const struct {
        const size_t *layers;
        size_t count, max_layer, kept, first;
    } cases[] = {
        {three, 1, 0, 2, 3}, {other, 3, 0, 1, 6}, {three, 1, 3, 1, 3}, {other, 3, 3, 1, 3}, {NULL, 0, 6, 1, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(heads_load(&heads, NULL, file, "hybrid", NULL, &err), 0);
        assert_int_equal(heads_keep(&heads, cases[i].layers, cases[i].count, cases[i].max_layer, &err), 0);
        assert_int_equal(heads.count, cases[i].kept);
        assert_int_equal(heads.exits[0].layer, cases[i].first);
        heads_free(&heads);
    }
    assert_int_equal(heads_load(&heads, NULL, file, "hybrid", NULL, &err), 0);
    assert_int_equal(heads_keep(&heads, three, 1, 5, &err), -1);
    assert_non_null(strstr(err.message, "none at layer 5"));
    assert_non_null(strstr(err.message, "3, 6"));
    heads_free(&heads);
    gguf_close(file);
    buffer_free(&bytes);
}

static void another_model_or_other_features_are_refused(void **state)
{
    (void)state;
    static const char *const swapped[] = {"rate", "cosine", "count"};
    struct buffer bytes = make_file();
    struct gguf *file = open_bytes(&bytes);
    struct heads heads;
    struct model model = {.width = WIDTH, .layer_count = 6};
    assert_int_equal(heads_load(&heads, NULL, file, "text", &model, &err), 0);
    heads_free(&heads);
    model.width = 9;
    assert_int_equal(heads_load(&heads, NULL, file, "text", &model, &err), -1);
    assert_non_null(strstr(err.message, "width 8, the model's have 9"));
    model = (struct model){.width = WIDTH, .layer_count = 5};
    assert_int_equal(heads_load(&heads, NULL, file, "text", &model, &err), -1);
    assert_non_null(strstr(err.message, "at layer 6, the model has 5"));
    assert_int_equal(heads_load(&heads, NULL, file, "single", NULL, &err), -1);
    assert_non_null(strstr(err.message, "\"single\"; there are: text, hybrid"));
    assert_int_equal(heads_check_features(file, swapped, FEATURES, &err), -1);
    assert_non_null(strstr(err.message, "\"count\" where the evidence has \"cosine\""));
    assert_int_equal(heads_check_features(file, names, 2, &err), -1);
    assert_non_null(strstr(err.message, "3 features, the evidence has 2"));
    gguf_close(file);
    buffer_free(&bytes);
}

static void assert_refused(const struct gguf_writer *writer, const char *message)
{
    struct buffer bytes = {0};
    struct heads heads;
    assert_int_equal(gguf_writer_bytes(writer, &bytes, &err), 0);
    struct gguf *file = open_bytes(&bytes);
    assert_int_equal(heads_load(&heads, NULL, file, "text", NULL, &err), -1);
    if (strstr(err.message, message) == NULL || strstr(err.message, "tiny.heads.gguf") == NULL)
        fail_msg("\"%s\" does not name the file and \"%s\"", err.message, message);
    assert_true(heads.exits == NULL && heads.exit0 == NULL);
    gguf_close(file);
    buffer_free(&bytes);
}

/* What a file's keys and tensors say; a sound one to begin with. */
struct raw {
    const char *type;
    uint64_t format, width, reference;
    double epsilon;
    int64_t exits[70], firsts[70];
    float leaves[70];
    size_t exit_count, first_count, leave_count, features;
    size_t rows;                    /* of text.6.rows */
    float row, bias, weight, exit0; /* the last value of a tensor of each kind */
    const char *without;            /* a tensor's name */
};

static const struct raw sound = {"exit-heads", 1, WIDTH, 3,    1e-5, {3, 6}, {2, 4}, {0.75f, INFINITY}, 2, 2, 2,
                                 FEATURES,     3, 0.5f,  0.5f, 0.5f, 0.5f,   ""};

static void put_values(struct gguf_writer *writer, const struct raw *raw, const char *name, size_t rows, size_t columns,
                       float last)
{
    float values[8 * WIDTH] = {0};
    assert_true(rows * columns <= 8 * WIDTH);
    values[(rows > 0 ? rows : 1) * columns - 1] = last;
    if (strcmp(name, raw->without) != 0)
        gguf_put_tensor(writer, name, rows, columns, values);
}

static struct text feature_at(const void *context, size_t index)
{
    (void)context;
    return text_of(names[index]);
}

static void put_raw(struct gguf_writer *writer, const struct raw *raw)
{
    gguf_put_text(writer, "general.type", text_of(raw->type));
    gguf_put_unsigned(writer, "headrace.heads.format", raw->format);
    gguf_put_unsigned(writer, "headrace.heads.width", raw->width);
    gguf_put_float(writer, "headrace.heads.norm_epsilon", raw->epsilon);
    if (raw->features > 0)
        gguf_put_texts(writer, "headrace.heads.features", raw->features, feature_at, NULL);
    gguf_put_integers(writer, "headrace.heads.text.exits", raw->exit_count, raw->exits);
    gguf_put_integers(writer, "headrace.heads.text.first", raw->first_count, raw->firsts);
    gguf_put_floats(writer, "headrace.heads.text.leave", raw->leave_count, raw->leaves);
    gguf_put_unsigned(writer, "headrace.heads.text.reference", raw->reference);
    gguf_put_float(writer, "headrace.heads.exit0_bias", 0.1);
    put_values(writer, raw, "text.3.rows", 2, WIDTH, 0.1f);
    put_values(writer, raw, "text.3.biases", 0, 2, raw->bias);
    put_values(writer, raw, "text.3.evidence", 0, FEATURES, raw->weight);
    put_values(writer, raw, "text.6.rows", raw->rows, WIDTH, raw->row);
    put_values(writer, raw, "text.6.biases", 0, 3, 0.1f);
    put_values(writer, raw, "exit0.weights", 0, FEATURES, raw->exit0);
}

/* One thing wrong each. */
static void heads_that_are_not_sound_are_refused(void **state)
{
    (void)state;
    struct gguf_writer writer = {0};
    struct buffer bytes = {0};
    struct heads heads;
    put_raw(&writer, &sound);
    assert_int_equal(gguf_writer_bytes(&writer, &bytes, &err), 0);
    struct gguf *file = open_bytes(&bytes);
    assert_int_equal(heads_load(&heads, NULL, file, "text", NULL, &err), 0);
    heads_free(&heads);
    gguf_close(file);
    buffer_free(&bytes);
    gguf_writer_free(&writer);

#define REFUSED(message, change)                                                                                       \
    do {                                                                                                               \
        struct raw raw = sound;                                                                                        \
        raw.change;                                                                                                    \
        put_raw(&writer, &raw);                                                                                        \
        assert_refused(&writer, message);                                                                              \
        gguf_writer_free(&writer);                                                                                     \
    } while (0)
    REFUSED("general.type is \"adapter\"", type = "adapter");
    REFUSED("made by a newer headrace", format = 2);
    REFUSED("headrace.heads.width is 0", width = 0);
    REFUSED("must be 2 x 7", width = 7);
    REFUSED("norm_epsilon is no finite number", epsilon = NAN);
    REFUSED("norm_epsilon is -1", epsilon = -1);
    REFUSED("exit 1 is at layer 3", exits[1] = 3);
    REFUSED("exit 1 is at layer 2", exits[1] = 2);
    REFUSED("exit 0 is at layer 0", exits[0] = 0);
    REFUSED("exit 0 is at layer -1", exits[0] = -1);
    REFUSED("exit 1 is at layer 9223372036854775807", exits[1] = INT64_MAX);
    REFUSED("layer 3 has rows from layer 0 on", firsts[0] = 0);
    REFUSED("layer 3 has rows from layer 4 on", firsts[0] = 4);
    REFUSED("tensor text.3.rows is 2 x 8 (rows x columns), must be 3 x 8", firsts[0] = 1);
    REFUSED("nan is no threshold", leaves[1] = NAN);
    REFUSED("-1 is no threshold", leaves[0] = -1);
    REFUSED("0 exits", exit_count = 0);
    REFUSED("70 exits", exit_count = 70);
    REFUSED("2, 1 and 2 values", first_count = 1);
    REFUSED("2, 2 and 3 values", leave_count = 3);
    REFUSED("tensor text.6.rows is 2 x 8", rows = 2);
    REFUSED("tensor text.6.rows: value 23 is no finite number", row = INFINITY);
    REFUSED("tensor text.3.biases: value 1 is no finite number", bias = NAN);
    REFUSED("tensor text.3.evidence: value 2 is no finite number", weight = -INFINITY);
    REFUSED("tensor exit0.weights: value 2 is no finite number", exit0 = NAN);
    REFUSED("tensor text.3.evidence is 1 x 3 (rows x columns), must be 1 x 2", features = 2);
    REFUSED("headrace.heads.features names none", features = 0);
    REFUSED("there is no exit at layer 4", reference = 4);
    REFUSED("tensor text.6.rows is missing", without = "text.6.rows");
    REFUSED("tensor text.3.biases is missing", without = "text.3.biases");
#undef REFUSED
}

/* Sound heads or an error: sanitizers see the rest. */
static void changed_bytes_do_no_harm(void **state)
{
    (void)state;
    struct buffer bytes = make_file();
    struct random random = {5};
    size_t loaded = 0, refused = 0;
    uint8_t *copy = malloc(bytes.size);
    assert_non_null(copy);
    for (size_t i = 0; i < MUTATIONS; i++) {
        struct gguf *file;
        struct heads heads;
        memcpy(copy, bytes.data, bytes.size);
        for (size_t k = 0; k <= random_below(&random, 3); k++)
            copy[random_below(&random, bytes.size)] = (uint8_t)random_below(&random, 256);
        if (gguf_open_memory(&file, copy, bytes.size, "hostile.gguf", &err) != 0)
            continue;
        if (heads_load(&heads, NULL, file, i % 2 == 0 ? "text" : "hybrid", NULL, &err) == 0) {
            assert_true(heads.count >= 1 && heads.exits[0].first >= 1);
            heads_free(&heads);
            loaded++;
        } else {
            assert_null(strchr(err.message, '\n'));
            refused++;
        }
        gguf_close(file);
    }
    assert_true(loaded > 0 && refused > 0);
    free(copy);
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(evidence_adds_its_weighed_sum),
        cmocka_unit_test(exits_are_kept_by_their_layers_and_the_last_one_stays),
        cmocka_unit_test(another_model_or_other_features_are_refused),
        cmocka_unit_test(heads_that_are_not_sound_are_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
