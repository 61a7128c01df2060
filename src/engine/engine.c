#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "engine/backend.h"
#include "engine/prefix.h"

enum { GROUP_ROWS = 2048 }; /* candidates' token rows that run together: bounds the memory of a call of any size */

/* A candidate of a call, and where its answer goes. */
struct place {
    size_t prompt;    /* of the call's */
    size_t candidate; /* of the prompt's */
    struct engine_score *score;
};

struct engine {
    const struct model *model;
    const struct heads *heads;
    struct exit_rule rule;
    size_t window; /* layers whose probabilities an exit looks at, its own included */
    const struct backend *backend;
    struct device *device;
    struct prefix_cache cache;
    struct prefix *prefixes; /* by prompt; in use while the prompt has candidates in the group or has more to come */
    size_t prefix_count, prefix_capacity;

    struct candidate *candidates; /* of a group, for the backend */
    struct place *places;         /* of the same candidates: those still here, in order */
    bool *stays;
    float *probabilities; /* (candidates still here, readings) */
    float *states;        /* (candidates still here, width) */
    size_t candidate_capacity, place_capacity, stay_capacity, probability_capacity, state_capacity;
    size_t count; /* still here */
};

/* An exit at which the batch stops. */
struct visit {
    const struct head *head;
    bool asked; /* by all prompts: the rule can fire, or it is the final head. Others are for those that explain */
    size_t asked_before;
};

/* One call's view: what is left to do, and which exits are looked at. */
struct scoring {
    const struct engine_prompt *prompts;
    size_t prompt_count;
    struct place next; /* where the next group begins; prompt_count: nowhere */
    bool keeps_states;
    struct visit visited[ENGINE_MAX_EXITS]; /* ascending; the last one is the final head */
    size_t visited_count;
    struct reading readings[ENGINE_MAX_EXITS * ENGINE_MAX_WINDOW]; /* of one run, by layer and then by exit */
    size_t exits[ENGINE_MAX_EXITS * ENGINE_MAX_WINDOW];            /* the visited exit that each is for */
    size_t reading_count;
};

static bool can_fire(const struct engine *engine, const struct head *head)
{
    size_t layers = exit_rule_layers(&engine->rule);
    return layers > 0 && head->layer >= layers && head->layer < engine->model->layer_count;
}

static int check_heads(const struct model *model, const struct heads *heads, struct error *err)
{
    if (heads->count < 1 || heads->count > ENGINE_MAX_EXITS)
        return error_set(err, ERROR_FATAL, "heads %s: %zu exits; supported: 1 to %d", heads->id, heads->count,
                         ENGINE_MAX_EXITS);
    if (heads->width != model->width)
        return error_set(err, ERROR_FATAL, "heads %s are for a model of width %zu, this one has %zu", heads->id,
                         heads->width, model->width);
    for (size_t i = 0; i < heads->count; i++)
        if (heads->exits[i].layer < 1 || (i > 0 && heads->exits[i].layer <= heads->exits[i - 1].layer))
            return error_set(err, ERROR_FATAL, "heads %s: exit %zu sits on layer %zu; layers must ascend from 1",
                             heads->id, i, heads->exits[i].layer);
    if (heads->exits[heads->count - 1].layer != model->layer_count)
        return error_set(err, ERROR_FATAL, "heads %s: the final head sits on layer %zu of a model of %zu layers",
                         heads->id, heads->exits[heads->count - 1].layer, model->layer_count);
    return 0;
}

static int check_rule(struct engine *engine, struct error *err)
{
    const struct exit_rule *rule = &engine->rule;
    size_t layers = exit_rule_layers(rule), able = 0;

    engine->window = layers == 0 ? 1 : layers;
    if (rule->kind == EXIT_RULE_FULL)
        return 0;
    if (layers == 0 || layers > ENGINE_MAX_WINDOW)
        return error_set(err, ERROR_FATAL,
                         "the exit rule's window of %zu looks at %zu layers; supported: at most %d, and a window of at "
                         "least 2 (rule on probabilities: 1)",
                         rule->window, layers, ENGINE_MAX_WINDOW);
    if (!(rule->threshold > 0.0f))
        return error_set(err, ERROR_FATAL, "the exit rule's threshold is %g; it must be above 0",
                         (double)rule->threshold);

    for (size_t i = 0; i + 1 < engine->heads->count; i++)
        able += can_fire(engine, &engine->heads->exits[i]);
    if (able == 0)
        return error_set(err, ERROR_FATAL,
                         "the exit rule looks at %zu layers and can fire at no exit: heads %s need one at a layer from "
                         "%zu to %zu, or set the rule to full depth",
                         layers, engine->heads->id, layers, engine->model->layer_count - 1);
    for (size_t i = 0; i + 1 < engine->heads->count; i++)
        if (!can_fire(engine, &engine->heads->exits[i]))
            log_warn("engine", "the exit at layer %zu is passed over: the rule looks at %zu layers",
                     engine->heads->exits[i].layer, layers);
    return 0;
}

int engine_create(struct engine **out, const struct model *model, const struct heads *heads,
                  const struct engine_settings *settings, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the engine");
    engine->model = model;
    engine->heads = heads;
    engine->rule = settings->rule;
    engine->backend = &backend_cpu;

    if (check_heads(model, heads, err) != 0 || check_rule(engine, err) != 0 ||
        engine->backend->open(&engine->device, model, heads, settings, err) != 0) {
        engine_destroy(engine);
        return -1;
    }
    engine->cache = (struct prefix_cache){
        .device = engine->device, .layer_count = model->layer_count, .budget = settings->prefix_cache_bytes};
    log_info("engine", "%zu layers of width %zu in %s, %zu threads", model->layer_count, model->width,
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
    free(engine->probabilities);
    free(engine->states);
    free(engine);
}

static int check_tokens(const struct engine *engine, const char *whose, const int32_t *tokens, size_t length,
                        struct error *err)
{
    for (size_t i = 0; i < length; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= engine->model->vocabulary)
            return error_set(err, ERROR_BAD_INPUT,
                             "token %zu of the %s has id %d, which is outside the model's vocabulary of %zu", i, whose,
                             tokens[i], engine->model->vocabulary);
    return 0;
}

int engine_check(const struct engine *engine, const struct engine_prompt *prompt, struct error *err)
{
    size_t context = engine->model->context;

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

static void choose_exits(const struct engine *engine, struct scoring *scoring)
{
    const struct heads *heads = engine->heads;
    bool explains = false;
    size_t asked_count = 0;

    for (size_t i = 0; i < scoring->prompt_count; i++) {
        explains = explains || scoring->prompts[i].explain;
        scoring->keeps_states =
            scoring->keeps_states || (scoring->prompts[i].explain && scoring->prompts[i].states != NULL);
    }
    for (size_t i = 0; i < heads->count; i++) {
        bool asked = i + 1 == heads->count || can_fire(engine, &heads->exits[i]);
        if (asked || explains)
            scoring->visited[scoring->visited_count++] = (struct visit){&heads->exits[i], asked, asked_count};
        asked_count += asked;
    }
}

/* Where a candidate's answer at a visited exit goes; NULL: its prompt does not ask there. */
static struct engine_exit *exit_of(const struct scoring *scoring, const struct place *place, size_t exit)
{
    const struct visit *visit = &scoring->visited[exit];
    if (scoring->prompts[place->prompt].explain)
        return &place->score->exits[exit];
    return visit->asked ? &place->score->exits[visit->asked_before] : NULL;
}

/* The heads to come whose window reaches into layers done + 1 .. layers. */
static void choose_readings(const struct engine *engine, struct scoring *scoring, size_t done, size_t layers)
{
    scoring->reading_count = 0;
    for (size_t layer = done + 1; layer <= layers; layer++)
        for (size_t i = 0; i < scoring->visited_count; i++) {
            const struct head *head = scoring->visited[i].head;
            if (head->layer < layer || head->layer - layer >= engine->window)
                continue;
            scoring->exits[scoring->reading_count] = i;
            scoring->readings[scoring->reading_count++] = (struct reading){layer, head};
        }
}

/* Hands what the backend read to the candidates' scores. */
static int take_readings(const struct engine *engine, const struct scoring *scoring, struct error *err)
{
    for (size_t i = 0; i < engine->count; i++)
        for (size_t r = 0; r < scoring->reading_count; r++) {
            struct engine_exit *seen = exit_of(scoring, &engine->places[i], scoring->exits[r]);
            const struct reading *reading = &scoring->readings[r];
            float p = engine->probabilities[i * scoring->reading_count + r];
            if (seen == NULL)
                continue;
            if (!isfinite(p))
                return error_set(err, ERROR_FATAL, "the head at layer %zu gives no finite answer after layer %zu",
                                 reading->head->layer, reading->layer);
            seen->layer = reading->head->layer;
            seen->probabilities[seen->count++] = p;
        }
    return 0;
}

/* The candidates' answers at a visited exit; says which of them stay. */
static void decide(struct engine *engine, const struct scoring *scoring, size_t exit)
{
    bool final = exit + 1 == scoring->visited_count;

    for (size_t i = 0; i < engine->count; i++) {
        struct engine_exit *seen = exit_of(scoring, &engine->places[i], exit);
        struct engine_score *score = engine->places[i].score;

        engine->stays[i] = true;
        if (seen == NULL)
            continue;
        seen->fired = exit_rule_settled(&engine->rule, seen->probabilities, seen->count);
        score->exit_count = (size_t)(seen - score->exits) + 1;
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

/* For who asked for them: the last tokens' hidden states at a visited exit. */
static void copy_states(const struct engine *engine, const struct scoring *scoring, size_t exit)
{
    size_t width = engine->model->width;
    for (size_t i = 0; i < engine->count; i++) {
        const struct place *place = &engine->places[i];
        const struct engine_prompt *prompt = &scoring->prompts[place->prompt];
        if (prompt->explain && prompt->states != NULL)
            memcpy(prompt->states + (place->candidate * engine->heads->count + exit) * width,
                   engine->states + i * width, width * sizeof(float));
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
    if (array_reserve(&engine->probabilities, &engine->probability_capacity, engine->count * scoring->reading_count,
                      sizeof *engine->probabilities) != 0 ||
        (scoring->keeps_states && array_reserve(&engine->states, &engine->state_capacity,
                                                engine->count * engine->model->width, sizeof *engine->states) != 0))
        return error_set(err, ERROR_FATAL, "out of memory for the answers of %zu candidates", engine->count);
    if (run_prefixes(engine, layers, err) != 0 ||
        engine->backend->batch_run(engine->device, layers, scoring->readings, scoring->reading_count,
                                   engine->probabilities, scoring->keeps_states ? engine->states : NULL, err) != 0 ||
        take_readings(engine, scoring, err) != 0)
        return -1;
    if (scoring->keeps_states)
        copy_states(engine, scoring, exit);
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
    const struct model *model = engine->model;
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

uint64_t engine_token_layers(const struct engine *engine)
{
    return engine->device->token_layers;
}

const char *engine_arithmetic(const struct engine *engine)
{
    return engine->device->arithmetic;
}
