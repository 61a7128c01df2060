/* tiny.h - the tiny model of tests/golden with exit heads, and prompts of random tokens for it. */
#ifndef HEADRACE_TESTS_ENGINE_TINY_H
#define HEADRACE_TESTS_ENGINE_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "engine/cpu/kernels.h"
#include "engine/engine.h"

struct tiny {
    struct gguf *gguf;
    struct model model;
    struct heads heads;
};

/* Exits at every layer below the last. */
static inline void tiny_load(struct tiny *tiny)
{
    static const size_t layers[] = {1, 2, 3, 4, 5};
    struct error err;
    if (gguf_open(&tiny->gguf, HEADRACE_GOLDEN "/tiny.gguf", &err) != 0 ||
        model_load(&tiny->model, tiny->gguf, &err) != 0 ||
        heads_from_output(&tiny->heads, &tiny->model, layers, 5, 265, 264, &err) != 0)
        fail_msg("%s", err.message);
}

static inline void tiny_free(struct tiny *tiny)
{
    heads_free(&tiny->heads);
    model_free(&tiny->model);
    gguf_close(tiny->gguf);
}

/* The instruction set that TEST_CPU names (./dev test --full sets it); AUTO: none. */
static inline enum engine_cpu cpu_asked_for(void)
{
    static const char *const names[] = {"auto", "scalar", "avx2", "avx512"};
    const char *asked = getenv("TEST_CPU");
    for (enum engine_cpu cpu = ENGINE_CPU_AUTO; asked != NULL && cpu <= ENGINE_AVX512; cpu++)
        if (strcmp(asked, names[cpu]) == 0)
            return cpu;
    if (asked != NULL)
        fail_msg("TEST_CPU is auto, scalar, avx2 or avx512, not %s", asked);
    return ENGINE_CPU_AUTO;
}

static inline struct engine *tiny_engine_on(const struct tiny *tiny, struct exit_rule rule, size_t threads,
                                            enum engine_mode mode, enum engine_cpu cpu)
{
    const struct engine_settings settings = {.rule = rule, .threads = threads, .mode = mode, .cpu = cpu};
    struct engine *engine = NULL;
    struct error err;
    if (engine_create(&engine, &tiny->model, &tiny->heads, &settings, &err) != 0)
        fail_msg("%s", err.message);
    return engine;
}

static inline struct engine *tiny_engine(const struct tiny *tiny, struct exit_rule rule, size_t threads)
{
    return tiny_engine_on(tiny, rule, threads, ENGINE_F32, cpu_asked_for());
}

/* The instruction sets that this processor has, plain C first, or the one asked for alone. Returns how many. */
static inline size_t processors(enum engine_cpu found[3])
{
    enum engine_cpu asked = cpu_asked_for();
    size_t count = 0;
    for (enum engine_cpu cpu = ENGINE_SCALAR; cpu <= ENGINE_AVX512; cpu++) {
        const struct kernels *kernels;
        struct error err;
        if (asked != ENGINE_CPU_AUTO && cpu != asked)
            continue;
        if (kernels_pick(&kernels, cpu, &err) == 0)
            found[count++] = cpu;
        else if (cpu == asked)
            fail_msg("%s", err.message);
    }
    return count;
}

struct candidates {
    size_t count;
    int32_t *tokens;
    size_t *offsets;
};

static inline void random_tokens(struct random *random, const struct model *model, int32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tokens[i] = (int32_t)random_below(random, model->vocabulary);
}

/* Lengths from `least` to `most`. */
static inline struct candidates candidates_make(struct random *random, const struct model *model, size_t count,
                                                size_t least, size_t most)
{
    struct candidates made = {count, malloc(count * most * sizeof *made.tokens),
                              malloc((count + 1) * sizeof *made.offsets)};
    assert_true(made.tokens != NULL && made.offsets != NULL);
    made.offsets[0] = 0;
    for (size_t i = 0; i < count; i++)
        made.offsets[i + 1] = made.offsets[i] + least + random_below(random, most - least + 1);
    random_tokens(random, model, made.tokens, made.offsets[count]);
    return made;
}

static inline void candidates_free(struct candidates *candidates)
{
    free(candidates->tokens);
    free(candidates->offsets);
}

#endif
