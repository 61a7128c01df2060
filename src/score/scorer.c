#include "score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "score/explain.h"

struct scorer {
    struct scorer_settings settings;
    struct plan_settings plan;
    struct graph *graph;
    const struct prompt_template *prompt;
    struct engine *engine;
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
};

static const size_t NO_ROW = SIZE_MAX;

static int render(struct scorer *scorer, const struct plan *plan, bool explain, struct arena *arena,
                  struct batch *batch, struct error *err)
{
    size_t count = plan->candidate_count;
    batch->offsets = arena_allocate_array(arena, count + 1, sizeof *batch->offsets);
    batch->row_of = arena_allocate_array(arena, count, sizeof *batch->row_of);
    batch->scores = arena_allocate_array(arena, count, sizeof *batch->scores);
    batch->texts = arena_allocate_array(arena, count, sizeof *batch->texts);
    if (batch->offsets == NULL || batch->row_of == NULL || batch->scores == NULL || batch->texts == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while rendering a request");

    scorer->prefix.count = 0;
    scorer->tails.count = 0;
    buffer_clear(&scorer->user_text);
    for (size_t i = 0; i < scorer->system.count; i++)
        if (tokens_append(&scorer->prefix, scorer->system.ids[i], err) != 0)
            return -1;
    if (prompt_user(scorer->prompt, &plan->user, &scorer->prefix, explain ? &scorer->user_text : NULL, err) != 0)
        return -1;
    for (size_t c = 0; c < count; c++) {
        batch->row_of[c] = NO_ROW;
        if (plan->candidates[c].prompt.title.data == NULL)
            continue;
        buffer_clear(&scorer->tail_text);
        if (prompt_candidate(scorer->prompt, &plan->candidates[c].prompt, &scorer->tails,
                             explain ? &scorer->tail_text : NULL, err) != 0)
            return -1;
        if (explain && explain_text(arena, &scorer->system_text, &scorer->user_text, &scorer->tail_text,
                                    &batch->texts[batch->rows], err) != 0)
            return -1;
        batch->row_of[c] = batch->rows++;
        batch->offsets[batch->rows] = scorer->tails.count;
    }
    return 0;
}

static void answer_candidate(struct scorer *scorer, const struct plan *plan, const struct batch *batch, size_t c,
                             struct scored_candidate *answer)
{
    const struct plan_candidate *candidate = &plan->candidates[c];
    answer->status = candidate->prompt.title.data == NULL ? CANDIDATE_COLD_ITEM
                     : plan->cold_user                    ? CANDIDATE_COLD_USER
                                                          : CANDIDATE_OK;
    answer->has_probability = true;
    answer->probability = candidate->evidence.item_like_rate;
    if (batch->rows > 0 && batch->row_of[c] != NO_ROW) {
        answer->probability = (double)batch->scores[batch->row_of[c]].probability;
        answer->exit_layer = (int32_t)batch->scores[batch->row_of[c]].exit_layer;
    }
    scorer->totals.exit_layers += (uint64_t)answer->exit_layer;
}

static int run_engine(struct scorer *scorer, const struct plan *plan, bool explain, struct arena *arena,
                      struct batch *batch, struct score_response *response, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    if (render(scorer, plan, explain, arena, batch, err) != 0)
        return -1;
    response->timings.plan_ms += clock_since_ms(start_ns);
    if (batch->rows == 0)
        return 0;

    start_ns = clock_monotonic_ns();
    uint64_t before = engine_token_layers(scorer->engine);
    struct engine_prompt prompt = {.prefix = scorer->prefix.ids,
                                   .prefix_length = scorer->prefix.count,
                                   .tokens = scorer->tails.ids,
                                   .offsets = batch->offsets,
                                   .candidate_count = batch->rows,
                                   .explain = explain};
    if (engine_score(scorer->engine, &prompt, 1, batch->scores, err) != 0)
        return -1;
    response->timings.engine_ms = clock_since_ms(start_ns);
    scorer->totals.tokens += scorer->prefix.count + scorer->tails.count;
    scorer->totals.token_layers += engine_token_layers(scorer->engine) - before;
    return 0;
}

static int answer(struct scorer *scorer, const struct score_request *request, struct arena *arena,
                  struct score_response *response, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    struct plan plan;
    if (plan_request(scorer->graph, &scorer->plan, request, arena, &plan, err) != 0)
        return -1;
    response->timings.plan_ms = clock_since_ms(start_ns);
    response->state = plan.state;
    bool explain = request->explain && scorer->settings.explain;
    struct batch batch = {0};
    if (scorer->engine != NULL && run_engine(scorer, &plan, explain, arena, &batch, response, err) != 0)
        return -1;

    response->candidates = arena_allocate_array(arena, plan.candidate_count, sizeof *response->candidates);
    if (response->candidates == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while answering a request");
    response->candidate_count = plan.candidate_count;
    for (size_t c = 0; c < plan.candidate_count; c++) {
        struct scored_candidate *scored = &response->candidates[c];
        scored->item_id = request->candidates[c].item_id;
        answer_candidate(scorer, &plan, &batch, c, scored);
        bool has_row = batch.rows > 0 && batch.row_of[c] != NO_ROW;
        if (explain && explain_candidate(arena, &plan.candidates[c], has_row ? &batch.scores[batch.row_of[c]] : NULL,
                                         has_row ? batch.texts[batch.row_of[c]] : text_of(""), scored, err) != 0)
            return -1;
    }
    scorer->totals.candidates += plan.candidate_count;
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
