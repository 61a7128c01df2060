#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/batch.h"
#include "engine/forward.h"
#include "engine/prefix.h"
#include "engine/weights.h"

enum { GROUP_ROWS = 2048 }; /* token rows that run together: bounds the memory of a prompt of any size */

struct engine {
    const struct model *model;
    const struct heads *heads;
    struct exit_rule rule;
    size_t window; /* layers whose probabilities an exit looks at, its own included */
    struct pool *pool;
    struct weights weights;
    struct forward forward;
    struct prefix prefix;
    struct batch batch;
};

/* One call's view: which exits are looked at, and where the answers go. */
struct scoring {
    const struct engine_prompt *prompt;
    struct engine_score *scores;
    const struct head *visited[ENGINE_MAX_EXITS]; /* ascending; the last one is the final head */
    size_t visited_count;
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
                  const struct exit_rule *rule, size_t threads, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the engine");
    engine->model = model;
    engine->heads = heads;
    engine->rule = *rule;

    if (check_heads(model, heads, err) != 0 || check_rule(engine, err) != 0)
        goto fail;
    engine->pool = pool_create(threads);
    if (engine->pool == NULL) {
        error_set(err, ERROR_FATAL, "cannot start the engine's %zu threads", threads);
        goto fail;
    }
    if (weights_pack(&engine->weights, model, kernels_supported(0), engine->pool, err) != 0 ||
        forward_create(&engine->forward, &engine->weights, engine->pool, err) != 0 ||
        prefix_create(&engine->prefix, model, err) != 0)
        goto fail;
    log_info("engine", "%zu layers of width %zu in float on %s, %zu threads", model->layer_count, model->width,
             engine->weights.kernels->name, pool_threads(engine->pool));
    *out = engine;
    return 0;

fail:
    engine_destroy(engine);
    return -1;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    batch_free(&engine->batch);
    prefix_free(&engine->prefix);
    forward_free(&engine->forward);
    weights_free(&engine->weights);
    pool_destroy(engine->pool);
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

static int check_prompt(const struct engine *engine, const struct engine_prompt *prompt, struct error *err)
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

/* Probability of "yes", not finite when the hidden state is not. */
static float head_probability(const struct heads *heads, const struct head *head, const float *hidden)
{
    double squares = 0.0, product = 0.0;
    for (size_t i = 0; i < heads->width; i++) {
        squares += (double)hidden[i] * (double)hidden[i];
        product += (double)hidden[i] * (double)head->difference[i];
    }
    double rms = sqrt(squares / (double)heads->width + (double)heads->norm_epsilon);
    return (float)(1.0 / (1.0 + exp(-(product / rms + (double)head->bias))));
}

static void choose_exits(const struct engine *engine, struct scoring *scoring)
{
    const struct heads *heads = engine->heads;

    for (size_t i = 0; i < heads->count; i++)
        if (scoring->prompt->explain || i + 1 == heads->count || can_fire(engine, &heads->exits[i]))
            scoring->visited[scoring->visited_count++] = &heads->exits[i];
}

/* Puts the heads to come whose window has begun on the last tokens' hidden states after layer `depth`. */
static int read_heads(const struct engine *engine, const struct scoring *scoring, size_t depth, struct error *err)
{
    for (size_t i = 0; i < scoring->visited_count; i++) {
        const struct head *head = scoring->visited[i];
        if (head->layer < depth || head->layer - depth >= engine->window)
            continue;
        for (size_t j = 0; j < engine->batch.count; j++) {
            struct engine_exit *seen = &scoring->scores[engine->batch.candidates[j].index].exits[i];
            float p = head_probability(engine->heads, head, engine->batch.hidden + j * engine->model->width);
            if (!isfinite(p))
                return error_set(err, ERROR_FATAL, "the head at layer %zu gives no finite answer after layer %zu",
                                 head->layer, depth);
            seen->layer = head->layer;
            seen->probabilities[seen->count++] = p;
        }
    }
    return 0;
}

/* For who asked for them: the last tokens' hidden states at a visited exit. */
static void keep_states(const struct engine *engine, const struct scoring *scoring, size_t exit)
{
    size_t width = engine->model->width;

    for (size_t i = 0; i < engine->batch.count; i++)
        memcpy(scoring->prompt->states + (engine->batch.candidates[i].index * scoring->visited_count + exit) * width,
               engine->batch.hidden + i * width, width * sizeof(float));
}

/* The candidates' answers at a visited exit; says which of them leave. */
static void decide(struct engine *engine, const struct scoring *scoring, size_t exit)
{
    bool final = exit + 1 == scoring->visited_count;

    for (size_t i = 0; i < engine->batch.count; i++) {
        struct candidate *candidate = &engine->batch.candidates[i];
        struct engine_score *score = &scoring->scores[candidate->index];
        struct engine_exit *seen = &score->exits[exit];

        seen->fired = exit_rule_settled(&engine->rule, seen->probabilities, seen->count);
        score->exit_count = exit + 1;
        if ((seen->fired || final) && score->exit_layer == 0) {
            score->exit_layer = seen->layer;
            score->probability = seen->probabilities[seen->count - 1];
        }
        candidate->leaves = score->exit_layer != 0 && !scoring->prompt->explain;
        if (candidate->leaves)
            memset(score->exits + score->exit_count, 0, (ENGINE_MAX_EXITS - score->exit_count) * sizeof *seen);
    }
}

/* At an exit the last tokens go ahead, and the others follow with those candidates that stay. */
static int run_exit_layer(struct engine *engine, const struct scoring *scoring, size_t layer, size_t exit,
                          struct error *err)
{
    struct batch *batch = &engine->batch;
    const struct stretch *before = &engine->prefix.layers[layer];

    struct passage last = batch_last_tokens(batch, before);
    if (forward_finish(&engine->forward, layer, &last, err) != 0 || read_heads(engine, scoring, layer + 1, err) != 0)
        return -1;
    if (scoring->prompt->states != NULL && scoring->prompt->explain)
        keep_states(engine, scoring, exit);
    decide(engine, scoring, exit);
    if (layer + 1 == engine->model->layer_count) {
        batch->count = 0;
        return 0;
    }
    batch_compact(batch, engine->model);
    if (batch->count == 0)
        return 0;
    struct passage others = batch_other_tokens(batch, before);
    return forward_finish(&engine->forward, layer, &others, err);
}

static int run_layer(struct engine *engine, const struct scoring *scoring, size_t layer, struct error *err)
{
    if (prefix_enter(&engine->prefix, &engine->forward, layer, err) != 0)
        return -1;
    struct passage all = batch_all(&engine->batch, &engine->prefix.layers[layer]);
    if (forward_enter(&engine->forward, layer, &all, err) != 0)
        return -1;

    for (size_t i = 0; i < scoring->visited_count; i++)
        if (scoring->visited[i]->layer == layer + 1)
            return run_exit_layer(engine, scoring, layer, i, err);
    if (forward_finish(&engine->forward, layer, &all, err) != 0)
        return -1;
    return read_heads(engine, scoring, layer + 1, err);
}

/* How many candidates from `first` on run together: at least one. */
static size_t group_size(const struct engine_prompt *prompt, size_t first)
{
    size_t end = first + 1;
    while (end < prompt->candidate_count && prompt->offsets[end + 1] - prompt->offsets[first] <= GROUP_ROWS)
        end++;
    return end - first;
}

static int reserve(struct engine *engine, const struct engine_prompt *prompt, struct error *err)
{
    size_t rows = prompt->prefix_length, longest = 0;

    for (size_t i = 0; i < prompt->candidate_count; i++) {
        size_t length = prompt->offsets[i + 1] - prompt->offsets[i];
        longest = length > longest ? length : longest;
    }
    for (size_t first = 0, count; first < prompt->candidate_count; first += count) {
        count = group_size(prompt, first);
        size_t group = prompt->offsets[first + count] - prompt->offsets[first];
        rows = group > rows ? group : rows;
    }
    return forward_reserve(&engine->forward, rows, prompt->prefix_length + longest, err);
}

int engine_score(struct engine *engine, const struct engine_prompt *prompt, struct engine_score *scores,
                 struct error *err)
{
    struct scoring scoring = {.prompt = prompt, .scores = scores};

    if (check_prompt(engine, prompt, err) != 0)
        return -1;
    if (prompt->candidate_count == 0)
        return 0;
    if (reserve(engine, prompt, err) != 0 ||
        prefix_start(&engine->prefix, &engine->forward, prompt->prefix, prompt->prefix_length, err) != 0)
        return -1;
    choose_exits(engine, &scoring);
    memset(scores, 0, prompt->candidate_count * sizeof *scores);

    for (size_t first = 0, count; first < prompt->candidate_count; first += count) {
        count = group_size(prompt, first);
        if (batch_start(&engine->batch, &engine->forward, prompt->tokens, prompt->offsets, first, count, err) != 0)
            return -1;
        for (size_t layer = 0; engine->batch.count > 0; layer++)
            if (run_layer(engine, &scoring, layer, err) != 0)
                return -1;
    }
    return 0;
}

int engine_hidden_states(struct engine *engine, const int32_t *tokens, size_t length, size_t layer, float *out,
                         struct error *err)
{
    const struct model *model = engine->model;

    if (length == 0 || length > model->context || layer > model->layer_count)
        return error_set(err, ERROR_BAD_INPUT, "%zu tokens through %zu layers: the model takes 1 to %zu through %zu",
                         length, layer, model->context, model->layer_count);
    if (check_tokens(engine, "sequence", tokens, length, err) != 0 ||
        forward_reserve(&engine->forward, length, length, err) != 0 ||
        prefix_start(&engine->prefix, &engine->forward, tokens, length, err) != 0 ||
        prefix_finish(&engine->prefix, &engine->forward, layer, err) != 0)
        return -1;

    memcpy(out, engine->prefix.hidden, length * model->width * sizeof *out);
    for (size_t i = 0; i < length * model->width; i++)
        if (!isfinite(out[i]))
            return error_set(err, ERROR_FATAL, "a hidden state is not finite after layer %zu", layer);
    return 0;
}

uint64_t engine_token_layers(const struct engine *engine)
{
    return engine->forward.token_layers;
}
