#include "score/scorer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/clock.h"
#include "score/exit0.h"
#include "score/explain.h"

struct scorer {
    struct scorer_settings settings;
    struct plan_settings plan;
    struct graph *graph;
    const struct prompt_template *prompt;
    struct engine *engine;
    const struct heads *heads;
    size_t reference; /* layer of the exit that answers are compared with in the shadow; 0: none are */
    struct scorer_totals totals;

    /* The system part, rendered once. */
    struct tokens system;
    struct buffer system_text;

    /* Scratch of one request. */
    struct tokens prefix;
    struct tokens tails; /* candidates with a title, one after the other */
    struct buffer user_text;
    struct buffer tail_text;
};

static const struct heads no_heads;

/* The heads' reference where there is an exit, else the last one; 0 where all answers are from there in any case. */
static size_t reference_layer(const struct scorer *scorer)
{
    const struct heads *heads = scorer->heads;
    if (scorer->engine == NULL || scorer->settings.rule.kind == EXIT_RULE_FULL || heads->count == 0 ||
        heads->reference == 0)
        return 0;
    for (size_t i = 0; i < heads->count; i++)
        if (heads->exits[i].layer == heads->reference)
            return heads->reference;
    return heads->exits[heads->count - 1].layer;
}

int scorer_create(struct scorer **result, const struct scorer_settings *settings, struct graph *graph,
                  const struct prompt_template *prompt, struct engine *engine, struct error *err)
{
    struct scorer *scorer = calloc(1, sizeof *scorer);
    if (scorer == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the scorer");
    scorer->settings = *settings;
    scorer->plan = (struct plan_settings){.similar_mode = settings->similar_mode,
                                          .similar_users = settings->similar_users,
                                          .history_max = settings->history_max,
                                          .history_min = settings->history_min};
    scorer->graph = graph;
    scorer->prompt = prompt;
    scorer->engine = engine;
    scorer->heads = settings->heads != NULL ? settings->heads : &no_heads;
    scorer->reference = reference_layer(scorer);
    if (getrandom(&scorer->plan.pseudonym_key, sizeof scorer->plan.pseudonym_key, 0) < 0) {
        error_set(err, ERROR_FATAL, "the system gives no random numbers for pseudonyms");
        goto fail;
    }
    if (engine != NULL && prompt_system(prompt, &scorer->system, &scorer->system_text, err) != 0)
        goto fail;
    *result = scorer;
    return 0;

fail:
    scorer_destroy(scorer);
    return -1;
}

void scorer_destroy(struct scorer *scorer)
{
    if (scorer == NULL)
        return;
    tokens_free(&scorer->system);
    tokens_free(&scorer->prefix);
    tokens_free(&scorer->tails);
    buffer_free(&scorer->system_text);
    buffer_free(&scorer->user_text);
    buffer_free(&scorer->tail_text);
    free(scorer);
}

struct scorer_totals scorer_totals(const struct scorer *scorer)
{
    return scorer->totals;
}

static struct text printed(struct arena *arena, const char *format, size_t a, size_t b)
{
    char *message = arena_allocate(arena, 160);
    if (message == NULL)
        return text_of("out of memory");
    snprintf(message, 160, format, a, b);
    return text_of(message);
}

/* Whether the request is answered without looking at its candidates; `response` then says how. */
static bool answered_at_the_door(const struct scorer *scorer, const struct score_request *request, struct arena *arena,
                                 struct score_response *response)
{
    if (request->has_deadline && clock_wall_ms() > request->deadline_ms) {
        response->status = RESPONSE_EXPIRED;
        return true;
    }
    if (request->candidate_count == 0)
        response->error = text_of("the request has no candidates");
    else if (request->candidate_count > scorer->settings.max_candidates)
        response->error = printed(arena, "%zu candidates, but score.max_candidates is %zu", request->candidate_count,
                                  scorer->settings.max_candidates);
    else if (request->has_history && request->history_count > scorer->settings.max_history)
        response->error = printed(arena, "%zu events of inline history, but score.max_history is %zu",
                                  request->history_count, scorer->settings.max_history);
    if (response->error.data == NULL)
        return false;
    response->status = RESPONSE_ERROR;
    return true;
}

/* What one request's prompts became: candidate c of the plan is row row_of[c] of the batch, or has none (cold item). */
struct batch {
    size_t *offsets; /* rows + 1 */
    size_t rows;
    size_t *row_of;
    struct engine_score *scores; /* by row */
    struct text *texts;          /* by row; only when explained */
    float *evidence;             /* (rows, heads), see struct engine_prompt */
};

static const size_t NO_ROW = SIZE_MAX;

/* A request on its way. */
struct asking {
    const struct score_request *request;
    struct arena *arena;
    struct plan plan;
    struct exit0 *exit0; /* by candidate */
    struct batch batch;
    bool explain; /* to who asked */
    bool shadow;  /* runs to the reference depth as well */
};

static bool has_row(const struct asking *asking, size_t candidate)
{
    return asking->batch.rows > 0 && asking->batch.row_of[candidate] != NO_ROW;
}

static bool needs_row(const struct asking *asking, size_t candidate)
{
    return asking->plan.candidates[candidate].prompt.title.data != NULL &&
           (!asking->exit0[candidate].settled || asking->explain || asking->shadow);
}

static bool any_needs_row(const struct asking *asking)
{
    for (size_t c = 0; c < asking->plan.candidate_count; c++)
        if (needs_row(asking, c))
            return true;
    return false;
}

static int render_prefix(struct scorer *scorer, const struct asking *asking, struct error *err)
{
    scorer->prefix.count = 0;
    scorer->tails.count = 0;
    buffer_clear(&scorer->user_text);
    for (size_t i = 0; i < scorer->system.count; i++)
        if (tokens_append(&scorer->prefix, scorer->system.ids[i], err) != 0)
            return -1;
    return prompt_user(scorer->prompt, &asking->plan.user, &scorer->prefix, asking->explain ? &scorer->user_text : NULL,
                       err);
}

static int render_candidate(struct scorer *scorer, struct asking *asking, size_t c, struct error *err)
{
    struct batch *batch = &asking->batch;
    buffer_clear(&scorer->tail_text);
    if (prompt_candidate(scorer->prompt, &asking->plan.candidates[c].prompt, &scorer->tails,
                         asking->explain ? &scorer->tail_text : NULL, err) != 0)
        return -1;
    if (asking->explain && explain_text(asking->arena, &scorer->system_text, &scorer->user_text, &scorer->tail_text,
                                        &batch->texts[batch->rows], err) != 0)
        return -1;
    heads_weigh_evidence(scorer->heads, asking->exit0[c].features,
                         batch->evidence + batch->rows * scorer->heads->count);
    batch->row_of[c] = batch->rows++;
    batch->offsets[batch->rows] = scorer->tails.count;
    return 0;
}

static int render(struct scorer *scorer, struct asking *asking, struct error *err)
{
    size_t count = asking->plan.candidate_count;
    struct batch *batch = &asking->batch;
    batch->offsets = arena_allocate_array(asking->arena, count + 1, sizeof *batch->offsets);
    batch->row_of = arena_allocate_array(asking->arena, count, sizeof *batch->row_of);
    batch->scores = arena_allocate_array(asking->arena, count, sizeof *batch->scores);
    batch->texts = arena_allocate_array(asking->arena, count, sizeof *batch->texts);
    batch->evidence = arena_allocate_array(asking->arena, count * scorer->heads->count, sizeof *batch->evidence);
    if (batch->offsets == NULL || batch->row_of == NULL || batch->scores == NULL || batch->texts == NULL ||
        batch->evidence == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while rendering a request");
    if (render_prefix(scorer, asking, err) != 0)
        return -1;
    for (size_t c = 0; c < count; c++) {
        batch->row_of[c] = NO_ROW;
        if (needs_row(asking, c) && render_candidate(scorer, asking, c, err) != 0)
            return -1;
    }
    return 0;
}

static int run_engine(struct scorer *scorer, struct asking *asking, struct score_response *response, struct error *err)
{
    const struct batch *batch = &asking->batch;
    int64_t start_ns = clock_monotonic_ns();
    if (render(scorer, asking, err) != 0)
        return -1;
    response->timings.plan_ms += clock_since_ms(start_ns);

    start_ns = clock_monotonic_ns();
    uint64_t before = engine_token_layers(scorer->engine);
    struct engine_prompt prompt = {.prefix = scorer->prefix.ids,
                                   .prefix_length = scorer->prefix.count,
                                   .tokens = scorer->tails.ids,
                                   .offsets = batch->offsets,
                                   .candidate_count = batch->rows,
                                   .explain = asking->explain || asking->shadow,
                                   .evidence = scorer->heads->count > 0 ? batch->evidence : NULL};
    if (engine_score(scorer->engine, &prompt, 1, batch->scores, err) != 0)
        return -1;
    response->timings.engine_ms = clock_since_ms(start_ns);
    scorer->totals.tokens += scorer->prefix.count + scorer->tails.count;
    scorer->totals.token_layers += engine_token_layers(scorer->engine) - before;
    return 0;
}

static void answer_candidate(const struct asking *asking, size_t c, struct scored_candidate *answer)
{
    answer->item_id = asking->request->candidates[c].item_id;
    answer->status = asking->plan.candidates[c].prompt.title.data == NULL ? CANDIDATE_COLD_ITEM
                     : asking->plan.cold_user                             ? CANDIDATE_COLD_USER
                                                                          : CANDIDATE_OK;
    answer->has_probability = true;
    answer->probability = asking->exit0[c].probability;
    if (has_row(asking, c) && !asking->exit0[c].settled) {
        const struct engine_score *score = &asking->batch.scores[asking->batch.row_of[c]];
        answer->probability = (double)score->probability;
        answer->exit_layer = (int32_t)score->exit_layer;
    }
}

/* Compares an answer with the one at the reference depth. */
static void look_at_shadow(struct scorer *scorer, const struct asking *asking, size_t c,
                           const struct scored_candidate *answer)
{
    if (!asking->shadow || !has_row(asking, c))
        return;
    const struct engine_score *score = &asking->batch.scores[asking->batch.row_of[c]];
    for (size_t i = 0; i < score->exit_count; i++) {
        const struct engine_exit *seen = &score->exits[i];
        if (seen->layer != scorer->reference)
            continue;
        scorer->totals.shadowed++;
        scorer->totals.shadow_sum += fabs(answer->probability - (double)seen->probabilities[seen->count - 1]);
    }
}

static int explain(const struct asking *asking, size_t c, struct scored_candidate *answer, struct error *err)
{
    bool row = has_row(asking, c);
    return explain_candidate(asking->arena, &asking->plan.candidates[c], &asking->exit0[c],
                             row ? &asking->batch.scores[asking->batch.row_of[c]] : NULL,
                             row ? asking->batch.texts[asking->batch.row_of[c]] : text_of(""), answer, err);
}

static int ask_exit0(const struct scorer *scorer, struct asking *asking, struct error *err)
{
    size_t count = asking->plan.candidate_count;
    asking->exit0 = arena_allocate_array(asking->arena, count, sizeof *asking->exit0);
    if (asking->exit0 == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the evidence of a request");
    for (size_t c = 0; c < count; c++)
        asking->exit0[c] = exit0_ask(scorer->heads, &scorer->settings.rule, &asking->plan.candidates[c].evidence);
    return 0;
}

/* By the request's id, so that one that comes again is taken again. */
static bool is_shadowed(const struct scorer *scorer, const struct score_request *request)
{
    double place = (double)(XXH3_64bits(request->request_id.data, request->request_id.size) >> 11) * 0x1p-53;
    return scorer->reference > 0 && place < scorer->settings.shadow;
}

static int answer(struct scorer *scorer, const struct score_request *request, struct arena *arena,
                  struct score_response *response, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    struct asking asking = {.request = request,
                            .arena = arena,
                            .explain = request->explain && scorer->settings.explain,
                            .shadow = is_shadowed(scorer, request)};
    if (plan_request(scorer->graph, &scorer->plan, request, arena, &asking.plan, err) != 0 ||
        ask_exit0(scorer, &asking, err) != 0)
        return -1;
    response->timings.plan_ms = clock_since_ms(start_ns);
    response->state = asking.plan.state;
    if (scorer->engine != NULL && any_needs_row(&asking) && run_engine(scorer, &asking, response, err) != 0)
        return -1;

    size_t count = asking.plan.candidate_count;
    response->candidates = arena_allocate_array(arena, count, sizeof *response->candidates);
    if (response->candidates == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while answering a request");
    response->candidate_count = count;
    for (size_t c = 0; c < count; c++) {
        struct scored_candidate *scored = &response->candidates[c];
        answer_candidate(&asking, c, scored);
        look_at_shadow(scorer, &asking, c, scored);
        if (scorer->settings.feedback != NULL)
            feedback_answered(scorer->settings.feedback, request->request_id, scored->item_id, scored->probability);
        scorer->totals.exit_layers += (uint64_t)scored->exit_layer;
        if (asking.explain && explain(&asking, c, scored, err) != 0)
            return -1;
    }
    scorer->totals.candidates += count;
    return 0;
}

int scorer_score(struct scorer *scorer, const struct score_request *request, double queue_ms, struct arena *arena,
                 struct score_response *response, struct error *err)
{
    *response = (struct score_response){.request_id = request->request_id,
                                        .user_id = request->user_id,
                                        .status = RESPONSE_OK,
                                        .model = text_of(scorer->settings.model_id),
                                        .heads = text_of(scorer->settings.heads_id),
                                        .timings = {.queue_ms = queue_ms}};
    if (request->request_id.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the request has no request_id");
    if (request->user_id.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the request has no user_id");
    scorer->totals.requests++;
    if (answered_at_the_door(scorer, request, arena, response) || answer(scorer, request, arena, response, err) == 0)
        return 0;
    if (err->kind != ERROR_BAD_INPUT)
        return -1;

    /* This request is at fault (a prompt longer than the model's context): an answer, not a dead letter. */
    char *message = arena_allocate(arena, sizeof err->message);
    response->status = RESPONSE_ERROR;
    response->error = message == NULL ? text_of("out of memory") : text_of(strcpy(message, err->message));
    response->candidates = NULL;
    response->candidate_count = 0;
    return 0;
}
