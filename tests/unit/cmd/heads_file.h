/* heads_file.h - a file of heads for the tiny model */
#ifndef HEADRACE_TESTS_CMD_HEADS_FILE_H
#define HEADRACE_TESTS_CMD_HEADS_FILE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cmd/setup.h"
#include "graph/evidence.h"

enum { HEADS_FILE_EXITS = 3 };

/* What a file says beside the weights. */
struct heads_file {
    const char *hash;     /* NULL: the tiny model's */
    const char *made_for; /* hash of a template; NULL: the built-in one's */
    int32_t yes;          /* 0: the template's */
    size_t features;
    float leaves[HEADS_FILE_EXITS];
    float exit0_leave; /* 0: without exit 0 */
};

static const struct heads_file sound_heads = {
    .features = EVIDENCE_FEATURES, .leaves = {INFINITY, 0.8f, INFINITY}, .exit0_leave = 0.9f};

static inline struct config *tiny_config(const char *const *sets, size_t count)
{
    struct config *config = config_create();
    struct error err;
    assert_non_null(config);
    assert_int_equal(config_set(config, "model.path=" HEADRACE_GOLDEN "/tiny.gguf", &err), 0);
    assert_int_equal(config_set(config, "engine.weights_cache=none", &err), 0);
    for (size_t i = 0; i < count; i++)
        if (config_set(config, sets[i], &err) != 0)
            fail_msg("%s", err.message);
    return config;
}

static inline struct heads_origin heads_file_origin(const struct heads_file *said, struct answering *answering)
{
    struct heads_origin origin = {.mode = "f32", .made_by = "test", .seed = 5, .no = prompt_no(answering->prompt)};
    origin.yes = said->yes != 0 ? said->yes : prompt_yes(answering->prompt);
    heads_model_hash(origin.model_hash, answering->gguf, &answering->model);
    if (said->hash != NULL)
        snprintf(origin.model_hash, sizeof origin.model_hash, "%s", said->hash);
    snprintf(origin.template_hash, sizeof origin.template_hash, "%s",
             said->made_for != NULL ? said->made_for : prompt_hash(answering->prompt));
    return origin;
}

static inline void heads_file_put(const struct heads_file *said, struct heads *heads, const struct heads_origin *origin,
                                  const char *path)
{
    static float weights[EVIDENCE_FEATURES] = {0.5f, -0.25f};
    struct gguf_writer writer = {0};
    struct text names[EVIDENCE_FEATURES];
    struct error err;
    for (size_t i = 0; i < said->features; i++)
        names[i] = text_of(evidence_names[i]);
    heads->evidence_count = said->features;
    heads->reference = 4;
    heads_put_file(&writer, heads, origin, names, said->features);
    if (said->exit0_leave > 0) {
        heads->exit0 = weights;
        heads->exit0_leave = said->exit0_leave;
        heads_put_exit0(&writer, heads);
    }
    for (size_t i = 0; i < heads->count; i++)
        heads->exits[i].leave = said->leaves[i];
    heads_put(&writer, "text", heads);
    for (size_t i = 0; i < heads->count; i++)
        heads->exits[i].evidence = weights;
    heads_put(&writer, "hybrid", heads);
    heads_put_number(&writer, "text", 4, "auc", 0.743);
    assert_int_equal(gguf_writer_save(&writer, path, &err), 0);
    gguf_writer_free(&writer);
    for (size_t i = 0; i < heads->count; i++)
        heads->exits[i].evidence = NULL;
    heads->exit0 = NULL;
}

/* Copies of the LM head at layers 2, 4 and the last: as set "text" and, with weights for the evidence, as "hybrid". */
static inline void heads_file_write(const struct heads_file *said, const char *path)
{
    static const size_t layers[] = {2, 4};
    struct config *config = tiny_config(NULL, 0);
    struct answering answering = {0};
    struct heads heads;
    struct error err;
    assert_int_equal(setup_prompt(config, &answering, &err), 0);
    assert_int_equal(heads_from_output(&heads, &answering.model, layers, 2, prompt_yes(answering.prompt),
                                       prompt_no(answering.prompt), &err),
                     0);
    const struct heads_origin origin = heads_file_origin(said, &answering);
    heads_file_put(said, &heads, &origin, path);
    heads_free(&heads);
    setup_answering_close(&answering);
    config_destroy(config);
}

#endif
