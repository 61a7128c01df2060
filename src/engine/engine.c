#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "engine/backend.h"
#include "engine/exits.h"
#include "engine/prefix.h"

enum { GROUP_ROWS = 2048 }; /* candidates' token rows that run together: bounds the memory of a call of any size */

/* A candidate of a call, and where its answer goes. */
struct place {
    size_t prompt;    /* of the call's */
    size_t candidate; /* of the prompt's */
    struct engine_score *score;
};

struct engine {
    struct model model; /* as far as the last head: no layer above it is packed or run */
    const struct heads *heads;
    struct exits exits;
    const struct backend *backend;
    struct device *device;
    struct prefix_cache cache;
    struct prefix *prefixes; /* by prompt; in use while the prompt has candidates in the group or has more to come */
    size_t prefix_count, prefix_capacity;

    struct candidate *candidates; /* of a group, for the backend */
    struct place *places;         /* of the same candidates: those still here, in order */
    bool *stays;
    float *logits; /* (candidates still here, readings) */
    float *states; /* (candidates still here, layers of the run, width) */
    size_t candidate_capacity, place_capacity, stay_capacity, logit_capacity, state_capacity;
    size_t count; /* still here */
};

/* An exit at which the batch stops. */
struct visit {
    size_t exit; /* of the heads' */
    const struct head *head;
    bool asked; /* by all prompts: the rule wants it, or it is the last head. Others are for those that explain, and
                   those that go no deeper */
    size_t asked_before;
};

/* One call's view: what is left to do, and which exits are looked at. */
struct scoring {
    const struct engine_prompt *prompts;
    size_t prompt_count;
    struct place next; /* where the next group begins; prompt_count: nowhere */
    bool keeps_states;
    struct visit visited[ENGINE_MAX_EXITS]; /* ascending; the last one is the last head */
    size_t visited_count;
    struct reading readings[ENGINE_MAX_EXITS * ENGINE_MAX_WINDOW]; /* of one run, by layer and then by exit */
    size_t exits[ENGINE_MAX_EXITS * ENGINE_MAX_WINDOW];            /* the visited exit that each is for */
    size_t reading_count;
};

/*
 * With the layers up to the last head. Packed weights of part of a model are kept beside the whole model's, not in its
 * place.
 */
static int open_device(struct engine *engine, const struct engine_settings *settings, struct error *err)
{
    struct engine_settings own = *settings;
    size_t layers = engine->model.layer_count;
    char hash[64];

    engine->model.layer_count = engine->heads->exits[engine->heads->count - 1].layer;
    if (settings->model_hash != NULL && engine->model.layer_count < layers) {
        snprintf(hash, sizeof hash, "%.40s-%zu", settings->model_hash, engine->model.layer_count);
        own.model_hash = hash;
    }
    return engine->backend->open(&engine->device, &engine->model, engine->heads, &own, err);
}

int engine_create(struct engine **out, const struct model *model, const struct heads *heads,
                  const struct engine_settings *settings, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the engine");
    engine->model = *model;
    engine->heads = heads;
    engine->backend = &backend_cpu;

    if (exits_check(&engine->exits, heads, &settings->rule, model, err) != 0 ||
        open_device(engine, settings, err) != 0) {
        engine_destroy(engine);
        return -1;
    }
    engine->cache = (struct prefix_cache){
        .device = engine->device, .layer_count = engine->model.layer_count, .budget = settings->prefix_cache_bytes};
    if (engine->model.layer_count < model->layer_count)
        log_info("engine", "the model ends at layer %zu of %zu, with the last head", engine->model.layer_count,
                 model->layer_count);
    log_info("engine", "%zu layers of width %zu in %s, %zu threads", engine->model.layer_count, model->width,
             engine->device->arithmetic, settings->threads);
    *out = engine;
    return 0;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    for (size_t i = 0; i < engine->prefix_count; i++)
        prefix_free(&engine->prefixes[i]);
    free(engine->prefixes);
    prefix_cache_free(&engine->cache);
    engine->backend->close(engine->device);
    free(engine->candidates);
    free(engine->places);
    free(engine->stays);
    free(engine->logits);
    free(engine->states);
    free(engine);
}

static int check_tokens(const struct engine *engine, const char *whose, const int32_t *tokens, size_t length,
                        struct error *err)
{
    for (size_t i = 0; i < length; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= engine->model.vocabulary)
            return error_set(err, ERROR_BAD_INPUT,
                             "token %zu of the %s has id %d, which is outside the model's vocabulary of %zu", i, whose,
                             tokens[i], engine->model.vocabulary);
    return 0;
}

int engine_check(const struct engine *engine, const struct engine_prompt *prompt, struct error *err)
{
    size_t context = engine->model.context;

    if (prompt->prefix_length == 0)
        return error_set(err, ERROR_BAD_INPUT, "the prompt's prefix is empty: it needs at least one token");
    if (check_tokens(engine, "prefix", prompt->prefix, prompt->prefix_length, err) != 0)
        return -1;
    for (size_t i = 0; i < prompt->candidate_count; i++) {
        if (prompt->offsets[i + 1] <= prompt->offsets[i])
            return error_set(err, ERROR_BAD_INPUT, "candidate %zu has no token: it needs at least one", i);
        size_t length = prompt->offsets[i + 1] - prompt->offsets[i];
        if (prompt->prefix_length > context || length > context - prompt->prefix_length)
            return error_set(err, ERROR_BAD_INPUT,
                             "candidate %zu has %zu tokens behind a prefix of %zu: the model's context holds %zu", i,
                             length, prompt->prefix_length, context);
        if (check_tokens(engine, "candidate", prompt->tokens + prompt->offsets[i], length, err) != 0)
            return error_wrap(err, "candidate %zu", i);
    }
    return 0;
}

/* Where a prompt's candidates leave at last. */
static size_t last_exit(const struct heads *heads, const struct engine_prompt *prompt)
{
    size_t last = heads->count - 1;
    while (prompt->max_layer != 0 && last > 0 && heads->exits[last].layer > prompt->max_layer)
        last--;
    return last;
}

static void choose_exits(const struct engine *engine, struct scoring *scoring)
{
    const struct heads *heads = engine->heads;
    bool explains = false, is_last[ENGINE_MAX_EXITS] = {false};
    size_t asked_count = 0;

    for (size_t i = 0; i < scoring->prompt_count; i++) {
        is_last[last_exit(heads, &scoring->prompts[i])] = true;
        explains = explains || scoring->prompts[i].explain;
        scoring->keeps_states =
            scoring->keeps_states || (scoring->prompts[i].explain && scoring->prompts[i].states != NULL);
    }
    for (size_t i = 0; i < heads->count; i++) {
        bool asked = i + 1 == heads->count || exits_asks(&engine->exits, i);
        if (asked || explains || is_last[i])
            scoring->visited[scoring->visited_count++] = (struct visit){i, &heads->exits[i], asked, asked_count};
        asked_count += asked;
    }
}

/* Whether the candidate goes no deeper than that visited exit; it may have been to leave before. */
static bool ends_by(const struct scoring *scoring, const struct place *place, size_t exit)
{
    size_t max_layer = scoring->prompts[place->prompt].max_layer;
    return exit + 1 == scoring->visited_count || (max_layer != 0 && scoring->visited[exit + 1].head->layer > max_layer);
}

/* Where a candidate's answer at a visited exit goes; NULL: its prompt does not ask there. */
static struct engine_exit *exit_of(const struct scoring *scoring, const struct place *place, size_t exit)
{
    const struct visit *visit = &scoring->visited[exit];
    if (exit > 0 && ends_by(scoring, place, exit - 1))
        return NULL;
    if (scoring->prompts[place->prompt].explain)
        return &place->score->exits[exit];
    return visit->asked || ends_by(scoring, place, exit) ? &place->score->exits[visit->asked_before] : NULL;
}

/* The heads to come whose window reaches into layers done + 1 .. layers. */
static void choose_readings(const struct engine *engine, struct scoring *scoring, size_t done, size_t layers)
{
    scoring->reading_count = 0;
    for (size_t layer = done + 1; layer <= layers; layer++)
        for (size_t i = 0; i < scoring->visited_count; i++) {
            const struct head *head = scoring->visited[i].head;
            if (layer < head->first || layer > head->layer || head->layer - layer >= engine->exits.window)
                continue;
            scoring->exits[scoring->reading_count] = i;
            scoring->readings[scoring->reading_count++] = (struct reading){layer, head};
        }
}

/* Not finite where the logit is not. */
static float probability_of(float logit, float evidence)
{
    return (float)heads_probability((double)logit + (double)evidence);
}

/* What the evidence adds at an exit of the heads'. */
static float evidence_of(const struct engine *engine, const struct scoring *scoring, const struct place *place,
                         size_t exit)
{
    const float *evidence = scoring->prompts[place->prompt].evidence;
    return evidence == NULL ? 0.0f : evidence[place->candidate * engine->heads->count + exit];
}

/* Hands what the backend read to the candidates' scores. */
static int take_readings(const struct engine *engine, const struct scoring *scoring, struct error *err)
{
    for (size_t i = 0; i < engine->count; i++)
        for (size_t r = 0; r < scoring->reading_count; r++) {
            const struct place *place = &engine->places[i];
            const struct visit *visit = &scoring->visited[scoring->exits[r]];
            struct engine_exit *seen = exit_of(scoring, place, scoring->exits[r]);
            float logit = engine->logits[i * scoring->reading_count + r];
            float evidence = evidence_of(engine, scoring, place, visit->exit);
            if (seen == NULL)
                continue;
            if (!isfinite(logit) || !isfinite(evidence))
                return error_set(err, ERROR_BAD_INPUT, "the head at layer %zu gives no finite answer after layer %zu",
                                 visit->head->layer, scoring->readings[r].layer);
            seen->layer = visit->head->layer;
            seen->probabilities[seen->count++] = probability_of(logit, evidence);
        }
    return 0;
}

/* Whether the candidate may leave at the last of its exits so far. */
static bool is_settled(const struct engine *engine, const struct engine_score *score, const struct head *head)
{
    float answers[ENGINE_MAX_EXITS];
    for (size_t i = 0; i < score->exit_count; i++)
        answers[i] = score->exits[i].probabilities[score->exits[i].count - 1];
    const struct engine_exit *seen = &score->exits[score->exit_count - 1];
    const struct exit_view view = {.layer = seen->layer,
                                   .p = seen->probabilities,
                                   .count = seen->count,
                                   .answers = answers,
                                   .exits = score->exit_count,
                                   .leave = head->leave};
    return exit_rule_settled(&engine->exits.rule, &view);
}

/* The candidates' answers at a visited exit; says which of them stay. */
static void decide(struct engine *engine, const struct scoring *scoring, size_t exit)
{
    for (size_t i = 0; i < engine->count; i++) {
        bool final = ends_by(scoring, &engine->places[i], exit);
        struct engine_exit *seen = exit_of(scoring, &engine->places[i], exit);
        struct engine_score *score = engine->places[i].score;

        engine->stays[i] = true;
        if (seen == NULL)
            continue;
        score->exit_count = (size_t)(seen - score->exits) + 1;
        seen->fired = is_settled(engine, score, scoring->visited[exit].head);
        if ((seen->fired || final) && score->exit_layer == 0) {
            score->exit_layer = seen->layer;
            score->probability = seen->probabilities[seen->count - 1];
        }
        engine->stays[i] = !final && (score->exit_layer == 0 || scoring->prompts[engine->places[i].prompt].explain);
        if (!engine->stays[i])
            memset(score->exits + score->exit_count, 0, (ENGINE_MAX_EXITS - score->exit_count) * sizeof *seen);
    }
}

static void compact(struct engine *engine)
{
    size_t kept = 0;
    engine->backend->batch_keep(engine->device, engine->stays);
    for (size_t i = 0; i < engine->count; i++)
        if (engine->stays[i])
            engine->places[kept++] = engine->places[i];
    engine->count = kept;
}

/* For who asked for them: the last tokens' hidden states after layers done + 1 .. layers. */
static void copy_states(const struct engine *engine, const struct scoring *scoring, size_t done, size_t layers)
{
    size_t width = engine->model.width, floats = (layers - done) * width;
    for (size_t i = 0; i < engine->count; i++) {
        const struct place *place = &engine->places[i];
        const struct engine_prompt *prompt = &scoring->prompts[place->prompt];
        if (prompt->explain && prompt->states != NULL)
            memcpy(prompt->states + (place->candidate * engine->model.layer_count + done) * width,
                   engine->states + i * floats, floats * sizeof(float));
    }
}

/* Each prefix only as deep as its own deepest candidate. */
static int run_prefixes(struct engine *engine, size_t layers, struct error *err)
{
    for (size_t i = 0; i < engine->count; i++)
        if ((i == 0 || engine->places[i].prompt != engine->places[i - 1].prompt) &&
            prefix_run(&engine->prefixes[engine->places[i].prompt], layers, err) != 0)
            return -1;
    return 0;
}

/* From the exit before to this one. */
static int run_to_exit(struct engine *engine, struct scoring *scoring, size_t exit, struct error *err)
{
    size_t layers = scoring->visited[exit].head->layer, done = exit == 0 ? 0 : scoring->visited[exit - 1].head->layer;

    choose_readings(engine, scoring, done, layers);
    if (array_reserve(&engine->logits, &engine->logit_capacity, engine->count * scoring->reading_count,
                      sizeof *engine->logits) != 0 ||
        (scoring->keeps_states &&
         array_reserve(&engine->states, &engine->state_capacity, engine->count * (layers - done) * engine->model.width,
                       sizeof *engine->states) != 0))
        return error_set(err, ERROR_FATAL, "out of memory for the answers of %zu candidates", engine->count);
    if (run_prefixes(engine, layers, err) != 0 ||
        engine->backend->batch_run(engine->device, layers, scoring->readings, scoring->reading_count, engine->logits,
                                   scoring->keeps_states ? engine->states : NULL, err) != 0 ||
        take_readings(engine, scoring, err) != 0)
        return -1;
    if (scoring->keeps_states)
        copy_states(engine, scoring, done, layers);
    decide(engine, scoring, exit);
    compact(engine);
    return 0;
}

static int add_candidate(struct engine *engine, const struct scoring *scoring, struct error *err)
{
    size_t count = engine->count + 1;
    if (array_reserve(&engine->candidates, &engine->candidate_capacity, count, sizeof *engine->candidates) != 0 ||
        array_reserve(&engine->places, &engine->place_capacity, count, sizeof *engine->places) != 0 ||
        array_reserve(&engine->stays, &engine->stay_capacity, count, sizeof *engine->stays) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu candidates", count);

    const struct engine_prompt *prompt = &scoring->prompts[scoring->next.prompt];
    const struct prefix *prefix = &engine->prefixes[scoring->next.prompt];
    const size_t *offsets = prompt->offsets + scoring->next.candidate;
    *scoring->next.score = (struct engine_score){0};
    engine->places[engine->count] = scoring->next;
    engine->candidates[engine->count] = (struct candidate){
        .tokens = prompt->tokens + offsets[0],
        .length = offsets[1] - offsets[0],
        .prefix = prefix->chunks,
        .chunk_count = prefix->count,
    };
    engine->count = count;
    return 0;
}

/* To a prompt that has a candidate left. */
static void pass_over_done(struct scoring *scoring)
{
    struct place *next = &scoring->next;
    while (next->prompt < scoring->prompt_count && next->candidate == scoring->prompts[next->prompt].candidate_count) {
        next->prompt++;
        next->candidate = 0;
    }
}

/*
 * The next candidates that run together: at least one; no more than GROUP_ROWS rows, nor of more prompts than prefixes
 * fit the cache. A prompt's prefix is taken when its first candidate comes.
 */
static int start_group(struct engine *engine, struct scoring *scoring, struct error *err)
{
    struct place *next = &scoring->next;
    size_t rows = 0, chunks = 0, room = prefix_cache_room(&engine->cache);

    for (engine->count = 0; next->prompt < scoring->prompt_count; pass_over_done(scoring)) {
        const struct engine_prompt *prompt = &scoring->prompts[next->prompt];
        struct prefix *prefix = &engine->prefixes[next->prompt];
        bool first = engine->count == 0 || engine->places[engine->count - 1].prompt != next->prompt;

        rows += prompt->offsets[next->candidate + 1] - prompt->offsets[next->candidate];
        chunks += first ? (prompt->prefix_length + CHUNK_TOKENS - 1) / CHUNK_TOKENS : 0;
        if (engine->count > 0 && (rows > GROUP_ROWS || chunks > room))
            break;
        if (prefix->count == 0 && prefix_start(prefix, &engine->cache, prompt->prefix, prompt->prefix_length, err) != 0)
            return -1;
        if (add_candidate(engine, scoring, err) != 0)
            return -1;
        next->candidate++;
        next->score++;
    }
    return engine->backend->batch_start(engine->device, engine->candidates, engine->count, err);
}

static int score_groups(struct engine *engine, struct scoring *scoring, struct error *err)
{
    for (size_t ended = 0; scoring->next.prompt < scoring->prompt_count;) {
        if (start_group(engine, scoring, err) != 0)
            return -1;
        for (size_t exit = 0; engine->count > 0; exit++)
            if (run_to_exit(engine, scoring, exit, err) != 0)
                return -1;
        while (ended < scoring->next.prompt)
            prefix_end(&engine->prefixes[ended++]);
    }
    return 0;
}

static int check_prompts(const struct engine *engine, const struct engine_prompt *prompts, size_t count,
                         struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (engine_check(engine, &prompts[i], err) != 0)
            return count == 1 ? -1 : error_wrap(err, "prompt %zu", i);
    return 0;
}

int engine_score(struct engine *engine, const struct engine_prompt *prompts, size_t count, struct engine_score *scores,
                 struct error *err)
{
    struct scoring scoring = {.prompts = prompts, .prompt_count = count, .next = {.score = scores}};

    if (check_prompts(engine, prompts, count, err) != 0)
        return -1;
    if (array_reserve(&engine->prefixes, &engine->prefix_capacity, count, sizeof *engine->prefixes) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu prompts", count);
    while (engine->prefix_count < count)
        engine->prefixes[engine->prefix_count++] = (struct prefix){0};
    choose_exits(engine, &scoring);
    pass_over_done(&scoring);
    int result = score_groups(engine, &scoring, err);
    for (size_t i = 0; i < count; i++)
        prefix_end(&engine->prefixes[i]);
    return result;
}

static void copy_residual(const struct prefix *prefix, size_t width, float *out)
{
    for (size_t i = 0; i < prefix->count; i++) {
        const struct chunk *chunk = prefix->chunks[i];
        memcpy(out + chunk->position * width, chunk->residual, chunk->count * width * sizeof *out);
    }
}

int engine_hidden_states(struct engine *engine, const int32_t *tokens, size_t length, size_t layer, float *out,
                         struct error *err)
{
    const struct model *model = &engine->model;
    /* Not the engine's cache: what is in there may be deeper, and its residual stream with it. */
    struct prefix_cache none = {.device = engine->device, .layer_count = model->layer_count};
    struct prefix prefix = {0};

    if (length == 0 || length > model->context || layer > model->layer_count)
        return error_set(err, ERROR_BAD_INPUT, "%zu tokens through %zu layers: the model takes 1 to %zu through %zu",
                         length, layer, model->context, model->layer_count);
    if (check_tokens(engine, "sequence", tokens, length, err) != 0)
        return -1;
    int result = prefix_start(&prefix, &none, tokens, length, err);
    if (result == 0)
        result = prefix_run(&prefix, layer + 1, err);
    if (result == 0)
        copy_residual(&prefix, model->width, out);
    prefix_free(&prefix);
    prefix_cache_free(&none);
    if (result != 0)
        return -1;
    for (size_t i = 0; i < length * model->width; i++)
        if (!isfinite(out[i]))
            return error_set(err, ERROR_FATAL, "a hidden state is not finite after layer %zu", layer);
    return 0;
}

struct engine_prefix_counters engine_prefix_counters(const struct engine *engine)
{
    return engine->cache.counters;
}

size_t engine_kept(const struct engine *engine, const int32_t *prefix, size_t length)
{
    return prefix_cache_kept(&engine->cache, prefix, length);
}

uint64_t engine_token_layers(const struct engine *engine)
{
    return engine->device->token_layers;
}

const char *engine_arithmetic(const struct engine *engine)
{
    return engine->device->arithmetic;
}
