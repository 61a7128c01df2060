/* fixture.h - graphs in temporary directories, and events in a line, for the tests of the graph */
#ifndef HEADRACE_TESTS_GRAPH_FIXTURE_H
#define HEADRACE_TESTS_GRAPH_FIXTURE_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "graph/graph.h"

struct fixture {
    char directory[256];
    struct graph_settings settings;
    struct graph *graph;
};

static inline void check(int result, const struct error *err)
{
    if (result != 0)
        fail_msg("%s", err->message);
}

static inline void fixture_open(struct fixture *fixture)
{
    struct error err;
    check(graph_open(&fixture->graph, &fixture->settings, &err), &err);
}

static inline void fixture_reopen(struct fixture *fixture)
{
    graph_close(fixture->graph);
    fixture->graph = NULL;
    fixture_open(fixture);
}

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    const char *parent = getenv("TMPDIR");
    snprintf(fixture->directory, sizeof fixture->directory, "%s/graph-XXXXXX", parent ? parent : "/tmp");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->settings = (struct graph_settings){
        .directory = fixture->directory,
        .like_threshold = 4.0,
        .like_inclusive = true,
        .layers = 3,
        .dimension = 16,
        .push_threshold = 0.1f,
        .seed = 1,
    };
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    graph_close(fixture->graph);
    nftw(fixture->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static inline struct interaction interaction_of(const char *user, const char *item, int64_t timestamp_ms, int32_t kind,
                                                double value)
{
    return (struct interaction){
        .user_id = text_of(user),
        .item_id = text_of(item),
        .timestamp_ms = timestamp_ms,
        .kind = kind,
        .has_value = kind == INTERACTION_RATING,
        .value = value,
    };
}

static inline void put(struct fixture *fixture, const char *user, const char *item, int64_t timestamp_ms, int32_t kind,
                       double value)
{
    struct error err;
    struct interaction interaction = interaction_of(user, item, timestamp_ms, kind, value);
    check(graph_put_interaction(fixture->graph, &interaction, &err), &err);
}

static inline void rate(struct fixture *fixture, const char *user, const char *item, int64_t timestamp_ms, double value)
{
    put(fixture, user, item, timestamp_ms, INTERACTION_RATING, value);
}

static inline void commit(struct fixture *fixture)
{
    struct error err;
    check(graph_commit(fixture->graph, &err), &err);
}

static inline uint32_t user_number(const struct fixture *fixture, const char *user)
{
    return graph_find_user(fixture->graph, text_of(user));
}

static inline uint32_t item_number(const struct fixture *fixture, const char *item)
{
    return graph_find_item(fixture->graph, text_of(item));
}

#endif
