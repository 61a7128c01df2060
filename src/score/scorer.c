#include "score/scorer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "score/explain.h"

struct scorer {
    struct scorer_settings settings;
    struct plan_settings plan;
    struct graph *graph;
    const struct prompt_template *prompt;
    struct engine *engine;
    const struct heads *heads;
    size_t reference; /* layer of the exit that answers are compared with in the shadow; 0: none are */
    struct score_totals own_totals;
    struct score_totals *totals;
    size_t exits[HEADS_MAX_EXITS]; /* their layers */

    /* The system part, rendered once. */
    struct tokens system;
    struct buffer system_text;

    /* Scratch of scorer_prepare(). */
    struct tokens prefix;
    struct tokens tails; /* candidates with a title, one after the other */
    struct buffer user_text;
    struct buffer tail_text;

    /* Scratch of scorer_run(). */
    struct engine_prompt *prompts;
    struct engine_score *scores;
    size_t prompt_capacity, score_capacity;
};

static const struct heads no_heads;
static const size_t NO_ROW = SIZE_MAX;

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
    for (size_t i = 0; i < scorer->heads->count; i++)
        scorer->exits[i] = scorer->heads->exits[i].layer;
    totals_init(&scorer->own_totals);
    scorer->totals = settings->totals != NULL ? settings->totals : &scorer->own_totals;
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
    free(scorer->prompts);
    free(scorer->scores);
    free(scorer);
}

struct score_totals *scorer_totals(struct scorer *scorer)
{
    return scorer->totals;
}

const struct engine *scorer_engine(const struct scorer *scorer)
{
    return scorer->engine;
}

const size_t *scorer_exits(const struct scorer *scorer, size_t *count)
{
    *count = scorer->engine == NULL ? 0 : scorer->heads->count;
    return scorer->exits;
}

void scorer_begin(const struct scorer *scorer, const struct score_request *request, struct score_response *response)
{
    *response = (struct score_response){.request_id = request->request_id,
                                        .user_id = request->user_id,
                                        .status = RESPONSE_OK,
                                        .model = text_of(scorer->settings.model_id),
                                        .heads = text_of(scorer->settings.heads_id)};
}

void scorer_refuse(struct score_response *response, enum response_status status, struct text error)
{
    response->status = (int32_t)status;
    response->error = error;
    response->candidates = NULL;
    response->candidate_count = 0;
}

/* Preparing. */

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

static bool needs_row(const struct asking *asking, size_t candidate)
{
    return asking->plan.candidates[candidate].prompt.title.data != NULL &&
           (!asking->exit0[candidate].settled || asking->explain || asking->shadow);
}

static size_t count_rows(const struct asking *asking)
{
    size_t rows = 0;
    for (size_t c = 0; c < asking->plan.candidate_count; c++)
        rows += needs_row(asking, c);
    return rows;
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

static int copy_tokens(struct arena *arena, const struct tokens *tokens, const int32_t **copy, struct error *err)
{
    int32_t *ids = arena_allocate_array(arena, tokens->count, sizeof *ids);
    if (ids == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the %zu tokens of a request", tokens->count);
    if (tokens->count > 0)
        memcpy(ids, tokens->ids, tokens->count * sizeof *ids);
    *copy = ids;
    return 0;
}

/* What render_candidate() fills, by row. */
struct rows {
    size_t count;
    size_t *offsets;
    float *evidence;
};

static int render_candidate(struct scorer *scorer, struct asking *asking, size_t c, struct rows *rows,
                            struct error *err)
{
    buffer_clear(&scorer->tail_text);
    if (prompt_candidate(scorer->prompt, &asking->plan.candidates[c].prompt, &scorer->tails,
                         asking->explain ? &scorer->tail_text : NULL, err) != 0)
        return -1;
    if (asking->explain && explain_text(asking->arena, &scorer->system_text, &scorer->user_text, &scorer->tail_text,
                                        &asking->texts[rows->count], err) != 0)
        return -1;
    heads_weigh_evidence(scorer->heads, asking->exit0[c].features, rows->evidence + rows->count * scorer->heads->count);
    asking->row_of[c] = rows->count++;
    rows->offsets[rows->count] = scorer->tails.count;
    return 0;
}

static int render_rows(struct scorer *scorer, struct asking *asking, size_t count, struct rows *rows, struct error *err)
{
    struct arena *arena = asking->arena;
    rows->offsets = arena_allocate_array(arena, count + 1, sizeof *rows->offsets);
    rows->evidence = arena_allocate_array(arena, count * scorer->heads->count, sizeof *rows->evidence);
    asking->scores = arena_allocate_array(arena, count, sizeof *asking->scores);
    asking->texts = arena_allocate_array(arena, count, sizeof *asking->texts);
    if (rows->offsets == NULL || rows->evidence == NULL || asking->scores == NULL || asking->texts == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while rendering a request");
    if (render_prefix(scorer, asking, err) != 0)
        return -1;
    for (size_t c = 0; c < asking->plan.candidate_count; c++)
        if (needs_row(asking, c) && render_candidate(scorer, asking, c, rows, err) != 0)
            return -1;
    return 0;
}

/* ERROR_BAD_INPUT: a prompt is longer than the model's context. */
static int render(struct scorer *scorer, struct asking *asking, struct error *err)
{
    struct engine_prompt *prompt = &asking->prompt;
    struct rows rows = {0};
    size_t count = count_rows(asking);
    asking->row_of = arena_allocate_array(asking->arena, asking->plan.candidate_count, sizeof *asking->row_of);
    if (asking->row_of == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while rendering a request");
    for (size_t c = 0; c < asking->plan.candidate_count; c++)
        asking->row_of[c] = NO_ROW;
    if (scorer->engine == NULL || count == 0)
        return 0;
    if (render_rows(scorer, asking, count, &rows, err) != 0 ||
        copy_tokens(asking->arena, &scorer->prefix, &prompt->prefix, err) != 0 ||
        copy_tokens(asking->arena, &scorer->tails, &prompt->tokens, err) != 0)
        return -1;
    prompt->prefix_length = scorer->prefix.count;
    prompt->offsets = rows.offsets;
    prompt->candidate_count = rows.count;
    prompt->explain = asking->explain || asking->shadow;
    prompt->evidence = scorer->heads->count > 0 ? rows.evidence : NULL;
    return engine_check(scorer->engine, prompt, err);
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

static int prepare(struct scorer *scorer, struct asking *asking, struct score_response *response, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    struct plan_settings plan = scorer->plan;
    plan.evidence_only = scorer->engine == NULL && !asking->explain;
    if (plan_request(scorer->graph, &plan, asking->request, asking->arena, &asking->plan, err) != 0 ||
        ask_exit0(scorer, asking, err) != 0)
        return -1;
    double plan_ms = clock_since_ms(start_ns);
    response->state = asking->plan.state;
    if (render(scorer, asking, err) != 0)
        return -1;
    response->timings.plan_ms = clock_since_ms(start_ns);
    buckets_add(&scorer->totals->plan, plan_ms / 1000);
    if (asking->prompt.candidate_count > 0)
        buckets_add(&scorer->totals->render, (response->timings.plan_ms - plan_ms) / 1000);
    return 0;
}

static struct text message_of(const struct error *err, struct arena *arena)
{
    char *message = arena_allocate(arena, sizeof err->message);
    return message == NULL ? text_of("out of memory") : text_of(strcpy(message, err->message));
}

int scorer_prepare(struct scorer *scorer, const struct score_request *request, struct arena *arena,
                   struct score_response *response, struct asking **result, struct error *err)
{
    *result = NULL;
    scorer_begin(scorer, request, response);
    if (request->request_id.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the request has no request_id");
    if (request->user_id.size == 0)
        return error_set(err, ERROR_BAD_INPUT, "the request has no user_id");
    if (answered_at_the_door(scorer, request, arena, response))
        return 0;
    struct asking *asking = arena_allocate(arena, sizeof *asking);
    if (asking == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for a request");
    *asking = (struct asking){.request = request,
                              .arena = arena,
                              .explain = request->explain && scorer->settings.explain,
                              .shadow = is_shadowed(scorer, request)};
    if (prepare(scorer, asking, response, err) != 0) {
        if (err->kind != ERROR_BAD_INPUT)
            return -1;
        scorer_refuse(response, RESPONSE_ERROR, message_of(err, arena));
        return 0;
    }
    *result = asking;
    return 0;
}

/* Running. */

/* The piece as a prompt of its own. */
static struct engine_prompt prompt_of(const struct scorer *scorer, const struct scorer_piece *piece)
{
    struct engine_prompt prompt = piece->asking->prompt;
    prompt.offsets += piece->from;
    prompt.candidate_count = piece->to - piece->from;
    prompt.max_layer = piece->max_layer;
    /* Nobody answers from beyond the reference then, so the shadow need not go there either. */
    if (piece->asking->shadow && !piece->asking->explain && prompt.max_layer == 0 &&
        scorer->settings.rule.kind == EXIT_RULE_CALIBRATED)
        prompt.max_layer = scorer->reference;
    if (prompt.evidence != NULL)
        prompt.evidence += piece->from * scorer->heads->count;
    return prompt;
}

static void count_piece(struct scorer *scorer, const struct scorer_piece *piece)
{
    const struct engine_prompt *prompt = &piece->asking->prompt;
    uint64_t tokens = prompt->offsets[piece->to] - prompt->offsets[piece->from];
    tokens += piece->from == 0 ? prompt->prefix_length : 0;
    totals_add(&scorer->totals->tokens, tokens);
    totals_add(&scorer->totals->all_token_layers, tokens * scorer->exits[scorer->heads->count - 1]);
}

static void count_prefixes(struct scorer *scorer)
{
    struct score_totals *totals = scorer->totals;
    const struct engine_prefix_counters counters = engine_prefix_counters(scorer->engine);
    totals_set(&totals->prefix_hits, counters.hits);
    totals_set(&totals->prefix_misses, counters.misses);
    totals_set(&totals->prefix_deepenings, counters.deepenings);
    totals_set(&totals->prefix_evictions, counters.evictions);
    totals_set(&totals->prefix_bytes, counters.bytes);
    totals_set(&totals->prefix_entries, counters.entries);
}

static int run_pieces(struct scorer *scorer, const struct scorer_piece *pieces, size_t count, struct error *err)
{
    size_t rows = 0;
    for (size_t i = 0; i < count; i++)
        rows += pieces[i].to - pieces[i].from;
    if (array_reserve(&scorer->prompts, &scorer->prompt_capacity, count, sizeof *scorer->prompts) != 0 ||
        array_reserve(&scorer->scores, &scorer->score_capacity, rows, sizeof *scorer->scores) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for a batch of %zu candidates", rows);
    for (size_t i = 0; i < count; i++)
        scorer->prompts[i] = prompt_of(scorer, &pieces[i]);
    if (engine_score(scorer->engine, scorer->prompts, count, scorer->scores, err) != 0)
        return -1;
    const struct engine_score *scores = scorer->scores;
    for (size_t i = 0; i < count; i++) {
        size_t piece_rows = pieces[i].to - pieces[i].from;
        memcpy(pieces[i].asking->scores + pieces[i].from, scores, piece_rows * sizeof *scores);
        pieces[i].asking->computed = pieces[i].to;
        scores += piece_rows;
        count_piece(scorer, &pieces[i]);
    }
    return 0;
}

/* After a call of several has failed: whose fault it is. */
static int run_alone(struct scorer *scorer, const struct scorer_piece *pieces, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct asking *asking = pieces[i].asking;
        if (count > 1)
            totals_add(&scorer->totals->alone, 1);
        if ((count > 1 && run_pieces(scorer, &pieces[i], 1, err) == 0))
            continue;
        if (err->kind != ERROR_BAD_INPUT)
            return -1;
        asking->error = message_of(err, asking->arena);
        log_error("score", "request " TEXT_FORMAT " of user " TEXT_FORMAT ": %s",
                  TEXT_ARGS(asking->request->request_id), TEXT_ARGS(asking->request->user_id), err->message);
    }
    return 0;
}

int scorer_run(struct scorer *scorer, const struct scorer_piece *pieces, size_t count, struct scorer_effort *effort,
               struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    uint64_t before = engine_token_layers(scorer->engine);
    if (run_pieces(scorer, pieces, count, err) != 0 &&
        (err->kind != ERROR_BAD_INPUT || run_alone(scorer, pieces, count, err) != 0))
        return -1;
    effort->seconds = clock_since_ms(start_ns) / 1000;
    effort->token_layers = engine_token_layers(scorer->engine) - before;
    for (size_t i = 0; i < count; i++)
        pieces[i].asking->engine_s += effort->seconds;
    totals_add(&scorer->totals->token_layers, effort->token_layers);
    count_prefixes(scorer);
    return 0;
}

/* Finishing. */

/* NULL: the engine has not seen it. */
static const struct engine_score *score_of(const struct asking *asking, size_t candidate)
{
    size_t row = asking->row_of[candidate];
    return row != NO_ROW && row < asking->computed ? &asking->scores[row] : NULL;
}

/* Whether it left above the rule's head: before the last exit, without the rule's consent. */
static bool is_held_back(const struct scorer *scorer, const struct engine_score *score)
{
    if (score->exit_layer == scorer->exits[scorer->heads->count - 1])
        return false;
    for (size_t i = 0; i < score->exit_count; i++)
        if (score->exits[i].layer == score->exit_layer)
            return !score->exits[i].fired;
    return false;
}

static void answer_candidate(const struct scorer *scorer, const struct asking *asking, size_t c,
                             struct scored_candidate *answer)
{
    const struct engine_score *score = score_of(asking, c);
    bool shallow = false;
    answer->item_id = asking->request->candidates[c].item_id;
    answer->has_probability = true;
    answer->probability = asking->exit0[c].probability;
    if (score != NULL && !asking->exit0[c].settled) {
        answer->probability = (double)score->probability;
        answer->exit_layer = (int32_t)score->exit_layer;
        shallow = is_held_back(scorer, score);
    } else if (asking->row_of[c] != NO_ROW && !asking->exit0[c].settled) {
        shallow = true;
    }
    answer->status = asking->plan.candidates[c].prompt.title.data == NULL ? CANDIDATE_COLD_ITEM
                     : shallow                                            ? CANDIDATE_SHALLOW
                     : asking->plan.cold_user                             ? CANDIDATE_COLD_USER
                                                                          : CANDIDATE_OK;
}

/* Compares an answer with the one at the reference depth. */
static void look_at_shadow(struct scorer *scorer, const struct asking *asking, size_t c,
                           const struct scored_candidate *answer)
{
    const struct engine_score *score = score_of(asking, c);
    if (!asking->shadow || score == NULL)
        return;
    for (size_t i = 0; i < score->exit_count; i++) {
        const struct engine_exit *seen = &score->exits[i];
        if (seen->layer == scorer->reference)
            buckets_add(&scorer->totals->shadow,
                        fabs(answer->probability - (double)seen->probabilities[seen->count - 1]));
    }
}

static int explain(const struct asking *asking, size_t c, struct scored_candidate *answer, struct error *err)
{
    const struct engine_score *score = score_of(asking, c);
    size_t row = asking->row_of[c];
    return explain_candidate(asking->arena, &asking->plan.candidates[c], &asking->exit0[c], score,
                             row != NO_ROW ? asking->texts[row] : text_of(""), answer, err);
}

int scorer_finish(struct scorer *scorer, struct asking *asking, struct score_response *response, struct error *err)
{
    size_t count = asking->plan.candidate_count;
    response->timings.engine_ms = asking->engine_s * 1000;
    if (asking->error.data != NULL) {
        scorer_refuse(response, RESPONSE_ERROR, asking->error);
        return 0;
    }
    response->candidates = arena_allocate_array(asking->arena, count, sizeof *response->candidates);
    if (response->candidates == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while answering a request");
    response->candidate_count = count;
    for (size_t c = 0; c < count; c++) {
        struct scored_candidate *scored = &response->candidates[c];
        answer_candidate(scorer, asking, c, scored);
        look_at_shadow(scorer, asking, c, scored);
        if (scorer->settings.feedback != NULL)
            feedback_answered(scorer->settings.feedback, asking->request->request_id, scored->item_id,
                              scored->probability);
        if (asking->explain && explain(asking, c, scored, err) != 0)
            return -1;
    }
    return 0;
}

int scorer_score(struct scorer *scorer, const struct score_request *request, double queue_ms, struct arena *arena,
                 struct score_response *response, struct error *err)
{
    struct scorer_effort effort;
    struct asking *asking;
    if (scorer_prepare(scorer, request, arena, response, &asking, err) != 0)
        return -1;
    response->timings.queue_ms = queue_ms;
    if (asking == NULL)
        return 0;
    const struct scorer_piece piece = {.asking = asking, .to = asking->prompt.candidate_count};
    if (piece.to > 0 && scorer_run(scorer, &piece, 1, &effort, err) != 0)
        return -1;
    return scorer_finish(scorer, asking, response, err);
}
