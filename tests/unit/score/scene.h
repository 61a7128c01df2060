/* scene.h - a small graph, the tiny model with heads, and a request, for the tests of who answers. */
#ifndef HEADRACE_TESTS_SCORE_SCENE_H
#define HEADRACE_TESTS_SCORE_SCENE_H

#include "graph/fixture.h"
#include "score/scorer.h"

enum { ITEMS = 10, CANDIDATES = ITEMS + 1, USERS = 30, LAYERS = 6 };

/* The last candidate has no title. */
struct scene {
    struct fixture *fixture;
    struct gguf *gguf;
    struct model model;
    struct tokenizer *tokenizer;
    struct prompt_template *prompt;
    struct heads heads;
    float exit0[EVIDENCE_FEATURES], weights[EVIDENCE_FEATURES];
    char ids[CANDIDATES][8];
    struct request_candidate candidates[CANDIDATES];
    struct score_request request;
};

static inline void scene_fill(struct scene *scene)
{
    struct error err;
    for (size_t i = 0; i < CANDIDATES; i++) {
        char title[16];
        snprintf(scene->ids[i], sizeof scene->ids[i], "%zu", i);
        snprintf(title, sizeof title, "film %zu", i);
        const struct item item = {.item_id = text_of(scene->ids[i]), .title = text_of(title)};
        scene->candidates[i] = (struct request_candidate){.item_id = item.item_id};
        if (i < ITEMS)
            check(graph_put_item(scene->fixture->graph, &item, &err), &err);
    }
    for (int u = 0; u < USERS; u++) {
        char user[8];
        snprintf(user, sizeof user, "u%d", u);
        for (int n = 0; n < ITEMS; n += 1 + u % 3)
            rate(scene->fixture, user, scene->ids[n], 100 + n, (u * n + u) % 7 < n % 5 + 1 ? 5 : 2);
    }
    commit(scene->fixture);
}

static inline int scene_set_up(void **state)
{
    static const size_t layers[] = {2, 4};
    struct scene *scene = calloc(1, sizeof *scene);
    struct error err;
    void *fixture;
    assert_non_null(scene);
    assert_int_equal(fixture_setup(&fixture), 0);
    scene->fixture = fixture;
    check(gguf_open(&scene->gguf, HEADRACE_GOLDEN "/tiny.gguf", &err), &err);
    check(model_load(&scene->model, scene->gguf, &err), &err);
    check(tokenizer_create(&scene->tokenizer, scene->gguf, &err), &err);
    check(prompt_load(&scene->prompt, "", scene->tokenizer, &err), &err);
    check(heads_from_output(&scene->heads, &scene->model, layers, 2, prompt_yes(scene->prompt),
                            prompt_no(scene->prompt), &err),
          &err);
    scene_fill(scene);
    for (size_t i = 0; i < EVIDENCE_FEATURES; i++) {
        scene->exit0[i] = i % 2 == 0 ? 0.4f : -0.3f;
        scene->weights[i] = i % 3 == 0 ? 0.5f : -0.2f;
    }
    scene->request = (struct score_request){.request_id = text_of("r"),
                                            .user_id = text_of("u1"),
                                            .timestamp_ms = 1000,
                                            .candidates = scene->candidates,
                                            .candidate_count = CANDIDATES};
    *state = scene;
    return 0;
}

static inline int scene_tear_down(void **state)
{
    struct scene *scene = *state;
    void *fixture = scene->fixture;
    for (size_t i = 0; i < scene->heads.count; i++)
        scene->heads.exits[i].evidence = NULL;
    scene->heads.exit0 = NULL;
    heads_free(&scene->heads);
    prompt_destroy(scene->prompt);
    tokenizer_destroy(scene->tokenizer);
    model_free(&scene->model);
    gguf_close(scene->gguf);
    fixture_teardown(&fixture);
    free(scene);
    return 0;
}

#endif
