/* replay_answerer.c - every set of heads with one model, and the trajectories that they make */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/replay.h"

static bool is_computed(const struct config *config)
{
    return config_choice(config, "engine.backend") == 0;
}

static int find_sets(const struct config *config, char names[][HEADS_SET_SIZE], size_t *count, double *l2,
                     struct error *err)
{
    const char *path = config_text(config, "heads.path");
    struct gguf *file;
    *count = 0;
    if (*path == '\0')
        return 0;
    if (gguf_open(&file, path, err) != 0)
        return error_wrap(err, "heads.path");
    *count = heads_sets(file, names, REPLAY_SETS);
    if (gguf_has(file, "headrace.heads.number.exit0.l2") &&
        gguf_float(file, "headrace.heads.number.exit0.l2", l2, err) != 0) {
        gguf_close(file);
        return error_wrap(err, "heads.path");
    }
    gguf_close(file);
    return 0;
}

static size_t last_layer(const struct heads *heads)
{
    return heads->count == 0 ? 0 : heads->exits[heads->count - 1].layer;
}

static int add_view(struct replay_answerer *answerer, const char *name, struct error *err)
{
    struct answering *view = &answerer->views[answerer->count];
    *view = answerer->base;
    if (setup_heads(answerer->config, view, err) != 0)
        return -1;
    struct replay_heads *set = &answerer->sets[answerer->count];
    snprintf(set->name, sizeof set->name, "%s", name);
    set->heads = &view->heads;
    if (view->heads.count == 0 && view->heads.exit0 == NULL)
        return 0;
    if (last_layer(&view->heads) > last_layer(&answerer->views[answerer->own].heads))
        answerer->own = answerer->count;
    answerer->count++;
    return 0;
}

/* heads.set names one of them; each is loaded as if it were named. */
static int add_views(struct replay_answerer *answerer, struct error *err)
{
    static const char *const choices[] = {"text", "hybrid", "single"};
    char names[REPLAY_SETS][HEADS_SET_SIZE], assignment[64];
    size_t count, served = config_choice(answerer->config, "heads.set");
    int result = 0;
    if (find_sets(answerer->config, names, &count, &answerer->l2, err) != 0)
        return -1;
    if (count == 0)
        return is_computed(answerer->config) ? add_view(answerer, "text", err) : 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        snprintf(assignment, sizeof assignment, "heads.set=%s", names[i]);
        result = config_set(answerer->config, assignment, err);
        if (result == 0)
            result = add_view(answerer, names[i], err);
    }
    snprintf(assignment, sizeof assignment, "heads.set=%s", choices[served]);
    struct error ignored;
    if (config_set(answerer->config, assignment, &ignored) != 0 && result == 0)
        result = error_set(err, ERROR_FATAL, "%s", ignored.message);
    return result;
}

int replay_answerer_open(struct replay_answerer *answerer, struct config *config, struct error *err)
{
    answerer->config = config;
    answerer->heads_ms = INT64_MIN;
    answerer->l2 = 1;
    if (config_require_model(config, err) != 0 ||
        (is_computed(config) && setup_prompt(config, &answerer->base, err) != 0) || add_views(answerer, err) != 0)
        return -1;
    if (answerer->base.gguf != NULL)
        heads_model_hash(answerer->model_hash, answerer->base.gguf, &answerer->base.model);
    if (answerer->count > 0 && *config_text(config, "heads.path") != '\0')
        answerer->heads_ms = answerer->views[0].origin.to_ms;
    snprintf(answerer->arithmetic, sizeof answerer->arithmetic, "mode %zu on %zu", config_choice(config, "engine.mode"),
             config_choice(config, "engine.cpu"));
    return 0;
}

void replay_answerer_close(struct replay_answerer *answerer)
{
    replay_memo_destroy(answerer->memo);
    engine_destroy(answerer->engine);
    for (size_t i = 0; i < answerer->count; i++)
        heads_free(&answerer->views[i].heads);
    setup_answering_close(&answerer->base);
}

int replay_answerer_start(struct replay_answerer *answerer, struct error *err)
{
    if (answerer->engine != NULL || answerer->base.gguf == NULL)
        return 0;
    struct answering *own = &answerer->views[answerer->own];
    if (setup_engine(answerer->config, own, err) != 0)
        return -1;
    answerer->engine = own->engine;
    log_info("cmd", "model %s, heads %s, %s", answerer->base.model_id, own->heads.id, engine_arithmetic(own->engine));
    return 0;
}

/* Exit 0 is the first of a chain of models only where the later ones know what it knows. */
static bool weighs_evidence(const struct heads *heads)
{
    return heads->count > 0 && heads->exits[0].evidence != NULL;
}

void replay_report_sets(const struct replay_answerer *answerer, struct replay_thresholds *thresholds,
                        struct report_set *sets)
{
    for (size_t i = 0; i < answerer->count; i++) {
        const struct answering *view = &answerer->views[i];
        const struct heads *heads = &view->heads;
        float *leave = thresholds->values[i];
        leave[0] = heads->exit0 != NULL ? heads->exit0_leave : INFINITY;
        for (size_t e = 0; e < heads->count; e++)
            leave[e + 1] = heads->exits[e].leave;
        bool calibrated = view->rule.kind == EXIT_RULE_CALIBRATED;
        sets[i] = (struct report_set){.name = answerer->sets[i].name,
                                      .rule = view->rule,
                                      .exit0 = heads->exit0 != NULL && weighs_evidence(heads),
                                      .leave = calibrated ? leave : NULL,
                                      .reference = heads->reference};
    }
}

static struct replay_model model_of(const struct replay_making *making)
{
    const struct replay_answerer *answerer = making->answerer;
    bool computes = answerer->base.gguf != NULL;
    const struct answering *own = &answerer->views[answerer->own];
    return (struct replay_model){
        .engine = answerer->engine,
        .model = computes ? &answerer->base.model : NULL,
        .heads = computes ? &own->heads : NULL,
        .sets = answerer->sets,
        .set_count = answerer->count,
        .model_id = computes ? answerer->base.model_id : "none",
        .model_hash = answerer->model_hash,
        .heads_id = answerer->count > 0 ? own->heads.id : "none",
        .template_hash = computes ? prompt_hash(answerer->base.prompt) : NULL,
        .arithmetic = answerer->arithmetic,
        .memo = answerer->memo,
        .checkpoint = making->checkpoint,
        .progress = true,
    };
}

/* Where it is kept; "": nowhere. */
static int find_place(struct replay_making *making, const struct replay_model *model, char path[PATH_MAX],
                      struct error *err)
{
    char cache[PATH_MAX], directory[PATH_MAX + 16], key[17];
    const char *place = setup_cache(making->answerer->config, cache);
    path[0] = '\0';
    if (place == NULL || making->logged->settings.graph.directory != NULL)
        return 0;
    if (replay_key(making->logged->log, &making->logged->settings, model, key, err) != 0)
        return -1;
    snprintf(directory, sizeof directory, "%s/trajectories", place);
    if (file_make_directories(directory, err) != 0)
        return -1;
    if (snprintf(path, PATH_MAX, "%s/%s.trajectory", directory, key) >= PATH_MAX)
        return error_set(err, ERROR_FATAL, "%s: too long a path", directory);
    return 0;
}

/* A damaged one is made anew. */
static bool find_known(const char *path, struct trajectory *trajectory)
{
    struct error err;
    if (*path == '\0' || access(path, R_OK) != 0)
        return false;
    if (trajectory_load(trajectory, path, &err) != 0) {
        log_warn("cmd", "%s", err.message);
        return false;
    }
    log_info("cmd", "known from an earlier replay: %s", path);
    return true;
}

static void report_totals(const struct replay_totals *totals, const struct replay_log *log)
{
    log_info("cmd", "%llu events learned, %llu requests with %llu rows; %llu messages refused, %llu unreadable",
             (unsigned long long)totals->events, (unsigned long long)totals->requests, (unsigned long long)totals->rows,
             (unsigned long long)totals->refused, (unsigned long long)replay_log_unreadable(log));
}

int replay_make(struct replay_making *making, struct trajectory *trajectory, struct error *err)
{
    char path[PATH_MAX];
    struct replay_totals totals;
    struct replay_settings *settings = &making->logged->settings;
    settings->prompt = making->answerer->base.prompt;
    settings->heads_ms = making->answerer->heads_ms;
    struct replay_model model = model_of(making);
    if (find_place(making, &model, path, err) != 0)
        return -1;
    if (!making->fresh && settings->speed <= 0 && find_known(path, trajectory))
        return 0;
    if (replay_answerer_start(making->answerer, err) != 0)
        return -1;
    model = model_of(making);
    if (replay_collect(making->logged->log, settings, &model, trajectory, &totals, err) != 0)
        return -1;
    report_totals(&totals, making->logged->log);
    if (*path != '\0' && trajectory_save(trajectory, path, err) != 0) {
        trajectory_free(trajectory);
        return -1;
    }
    return 0;
}
