/* collect.c - a replay's rows, and what the heads say of them, into a trajectory */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/heads.h"
#include "replay/answers.h"
#include "replay/loop.h"
#include "replay/memo.h"

enum { MOST_PROMPTS = 64, MOST_TOKENS = 4096 /* of one call of the engine, prefixes included */, SHOWN_ERRORS = 10 };

static const double CHECKPOINT_MS = 60000;

/* A request's place in the batch's tokens. */
struct waiting {
    size_t prefix, prefix_length; /* in `tokens` */
    size_t tails;
    size_t first_offset, count; /* in `offsets`, `rows` */
};

struct collecting {
    const struct replay_settings *settings;
    const struct replay_model *model;
    struct trajectory *trajectory;
    size_t row_capacity, feature_capacity, logit_capacity;
    struct answers answers;
    int64_t saved_ns;
    size_t too_long;

    /* What waits for the engine. */
    struct waiting requests[MOST_PROMPTS];
    size_t request_count, row_count, offset_count;
    struct tokens tokens;
    size_t *offsets;       /* each request's, from 0 */
    size_t *rows;          /* of the trajectory */
    struct memo_key *keys; /* by row, where there is a memo */
    size_t offsets_capacity, rows_capacity, keys_capacity;

    /* Of one call. */
    struct engine_score *scores;
    float *states, *evidence;
    double *bare; /* (reading_count) of one row */
    size_t scores_capacity, states_capacity, evidence_capacity;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while collecting a trajectory");
}

static size_t layers_of(const struct replay_model *model)
{
    return model->engine == NULL ? 0 : model->heads->exits[model->heads->count - 1].layer;
}

/* Exit 0, where there is one, has a logit in every row; all others wait for the model. */
static int add_row(struct collecting *collecting, const struct trajectory_row *row, const float *features,
                   struct error *err)
{
    struct trajectory *trajectory = collecting->trajectory;
    size_t count = trajectory->count, readings = trajectory->reading_count;
    if (array_reserve(&trajectory->rows, &collecting->row_capacity, count + 1, sizeof *trajectory->rows) != 0 ||
        array_reserve(&trajectory->features, &collecting->feature_capacity, (count + 1) * EVIDENCE_FEATURES,
                      sizeof(float)) != 0 ||
        array_reserve(&trajectory->logits, &collecting->logit_capacity, (count + 1) * readings + 1, sizeof(float)) != 0)
        return out_of_memory(err);
    trajectory->rows[count] = *row;
    memcpy(&trajectory->features[count * EVIDENCE_FEATURES], features, EVIDENCE_FEATURES * sizeof(float));
    for (size_t i = 0; i < readings; i++)
        trajectory->logits[count * readings + i] = NAN;
    if (readings > 0)
        answers_of_evidence(&collecting->answers, features, &trajectory->logits[count * readings]);
    trajectory->count++;
    trajectory->requests = (size_t)row->request + 1;
    if (row->user >= trajectory->users)
        trajectory->users = (size_t)row->user + 1;
    if (row->item >= trajectory->items)
        trajectory->items = (size_t)row->item + 1;
    return 0;
}

static int append_tokens(struct tokens *tokens, const int32_t *ids, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (tokens_append(tokens, ids[i], err) != 0)
            return -1;
    return 0;
}

static void keep_logits(struct collecting *collecting, size_t row, const double *bare)
{
    struct trajectory *trajectory = collecting->trajectory;
    answers_with_evidence(&collecting->answers, bare, &trajectory->features[row * EVIDENCE_FEATURES],
                          &trajectory->logits[row * trajectory->reading_count]);
}

/* A candidate into the last request, unless its prompt is known from before. */
static int put_candidate(struct collecting *collecting, struct waiting *waiting, const struct replay_request *request,
                         size_t candidate, struct error *err)
{
    struct replay_memo *memo = collecting->model->memo;
    const int32_t *tail = request->tokens + request->offsets[candidate];
    size_t length = request->offsets[candidate + 1] - request->offsets[candidate];
    size_t row = request->first_row + candidate;
    struct memo_key key = {{0}};
    struct memo_entry entry;
    if (memo != NULL)
        key = memo_key_of(request->prefix, request->prefix_length, tail, length);
    if (memo != NULL && memo_find(memo, &key, &entry)) {
        keep_logits(collecting, row, entry.logits);
        answers_show(&collecting->answers, &collecting->trajectory->rows[row], (double)entry.probability,
                     entry.exit_layer);
        return 0;
    }
    if (append_tokens(&collecting->tokens, tail, length, err) != 0)
        return -1;
    collecting->offsets[collecting->offset_count++] = collecting->tokens.count - waiting->tails;
    collecting->keys[collecting->row_count] = key;
    collecting->rows[collecting->row_count++] = row;
    waiting->count++;
    return 0;
}

/* The request's candidates with text, as they will be given to the engine. */
static int put_into_batch(struct collecting *collecting, const struct replay_request *request, struct error *err)
{
    struct waiting *waiting = &collecting->requests[collecting->request_count];
    size_t candidates = request->request->candidate_count;
    *waiting = (struct waiting){.prefix = collecting->tokens.count,
                                .prefix_length = request->prefix_length,
                                .tails = collecting->tokens.count + request->prefix_length,
                                .first_offset = collecting->offset_count};
    if (append_tokens(&collecting->tokens, request->prefix, request->prefix_length, err) != 0)
        return -1;
    if (array_reserve(&collecting->offsets, &collecting->offsets_capacity, collecting->offset_count + candidates + 1,
                      sizeof *collecting->offsets) != 0 ||
        array_reserve(&collecting->rows, &collecting->rows_capacity, collecting->row_count + candidates,
                      sizeof *collecting->rows) != 0 ||
        array_reserve(&collecting->keys, &collecting->keys_capacity, collecting->row_count + candidates,
                      sizeof *collecting->keys) != 0)
        return out_of_memory(err);
    collecting->offsets[collecting->offset_count++] = 0;
    for (size_t c = 0; c < candidates; c++)
        if (request->offsets[c + 1] > request->offsets[c] && /* else a cold item */
            put_candidate(collecting, waiting, request, c, err) != 0)
            return -1;
    collecting->request_count++;
    return 0;
}

static struct engine_prompt prompt_of(const struct collecting *collecting, const struct waiting *waiting)
{
    return (struct engine_prompt){.prefix = collecting->tokens.ids + waiting->prefix,
                                  .prefix_length = waiting->prefix_length,
                                  .tokens = collecting->tokens.ids + waiting->tails,
                                  .offsets = collecting->offsets + waiting->first_offset,
                                  .candidate_count = waiting->count,
                                  .explain = true};
}

/* Takes the last request out again if nothing of it has to run, or the engine will not have it. */
static void check_last(struct collecting *collecting)
{
    struct waiting *last = &collecting->requests[collecting->request_count - 1];
    struct engine_prompt prompt = prompt_of(collecting, last);
    struct error err;
    if (last->count > 0 && engine_check(collecting->model->engine, &prompt, &err) == 0)
        return;
    if (last->count > 0 && collecting->too_long++ < SHOWN_ERRORS)
        log_warn("replay", "%s", err.message);
    collecting->row_count -= last->count;
    for (size_t i = 0; i < last->count; i++)
        collecting->trajectory->rows[collecting->rows[collecting->row_count + i]].status = CANDIDATE_ERROR;
    collecting->tokens.count = last->prefix;
    collecting->offset_count = last->first_offset;
    collecting->request_count--;
}

static int reserve_call(struct collecting *collecting, struct error *err)
{
    const struct replay_model *model = collecting->model;
    size_t rows = collecting->row_count, width = model->model->width;
    if (array_reserve(&collecting->scores, &collecting->scores_capacity, rows, sizeof *collecting->scores) != 0 ||
        array_reserve(&collecting->states, &collecting->states_capacity, rows * layers_of(model) * width,
                      sizeof(float)) != 0 ||
        array_reserve(&collecting->evidence, &collecting->evidence_capacity, rows * model->heads->count,
                      sizeof(float)) != 0)
        return out_of_memory(err);
    return 0;
}

/* What the evidence adds to the engine's own heads: its answers are those of the progress lines. */
static void weigh_evidence(struct collecting *collecting)
{
    const struct heads *heads = collecting->model->heads;
    for (size_t i = 0; i < collecting->row_count; i++) {
        const float *features = &collecting->trajectory->features[collecting->rows[i] * EVIDENCE_FEATURES];
        heads_weigh_evidence(heads, features, &collecting->evidence[i * heads->count]);
    }
}

static int keep_call(struct collecting *collecting, struct error *err)
{
    struct trajectory *trajectory = collecting->trajectory;
    const struct replay_model *model = collecting->model;
    size_t stride = layers_of(model) * model->model->width;
    for (size_t i = 0; i < collecting->row_count; i++) {
        size_t row = collecting->rows[i];
        const float *states = &collecting->states[i * stride];
        answers_of_states(&collecting->answers, states, collecting->bare);
        keep_logits(collecting, row, collecting->bare);
        if (model->memo != NULL && memo_put(model->memo, &collecting->keys[i], collecting->bare,
                                            trajectory->reading_count, &collecting->scores[i], err) != 0)
            return -1;
        if (model->states != NULL && model->states(model->context, row, states, err) != 0)
            return -1;
        answers_show(&collecting->answers, &trajectory->rows[row], (double)collecting->scores[i].probability,
                     collecting->scores[i].exit_layer);
    }
    return 0;
}

/* Runs what waits. */
static int flush(struct collecting *collecting, struct error *err)
{
    struct engine_prompt prompts[MOST_PROMPTS];
    const struct replay_model *model = collecting->model;
    size_t stride = model->engine == NULL ? 0 : layers_of(model) * model->model->width, row = 0;
    if (collecting->request_count == 0)
        return 0;
    if (reserve_call(collecting, err) != 0)
        return -1;
    weigh_evidence(collecting);
    for (size_t i = 0; i < collecting->request_count; i++) {
        prompts[i] = prompt_of(collecting, &collecting->requests[i]);
        prompts[i].states = collecting->states + row * stride;
        prompts[i].evidence = collecting->evidence + row * model->heads->count;
        row += collecting->requests[i].count;
    }
    if (engine_score(model->engine, prompts, collecting->request_count, collecting->scores, err) != 0 ||
        keep_call(collecting, err) != 0)
        return -1;
    collecting->request_count = collecting->row_count = collecting->offset_count = 0;
    collecting->tokens.count = 0;
    return 0;
}

static int save_checkpoint(struct collecting *collecting, struct error *err)
{
    collecting->saved_ns = clock_monotonic_ns();
    return trajectory_save(collecting->trajectory, collecting->model->checkpoint, err);
}

static int take_request(void *context, const struct replay_request *request, struct error *err)
{
    struct collecting *collecting = context;
    const struct replay_model *model = collecting->model;
    size_t candidates = request->request->candidate_count;
    for (size_t c = 0; c < candidates; c++) {
        const float *features = &request->features[c * EVIDENCE_FEATURES];
        if (add_row(collecting, &request->rows[c], features, err) != 0)
            return -1;
        if (model->engine == NULL)
            answers_show(&collecting->answers, &request->rows[c], answers_without_model(&collecting->answers, features),
                         0);
    }
    if (model->engine == NULL || !request->rendered)
        return 0;
    size_t tokens = request->prefix_length + request->offsets[candidates];
    if ((collecting->request_count == MOST_PROMPTS || collecting->tokens.count + tokens > MOST_TOKENS) &&
        flush(collecting, err) != 0)
        return -1;
    if (put_into_batch(collecting, request, err) != 0)
        return -1;
    check_last(collecting);
    if (model->checkpoint == NULL || clock_since_ms(collecting->saved_ns) < CHECKPOINT_MS)
        return 0;
    return flush(collecting, err) != 0 ? -1 : save_checkpoint(collecting, err);
}

static void put_name(char *out, size_t size, const char *name)
{
    struct text shown = text_prefix(text_of(name == NULL ? "" : name), size - 1);
    memset(out, 0, size);
    memcpy(out, shown.data, shown.size);
}

static int begin(struct collecting *collecting, const char key[17], struct error *err)
{
    struct trajectory *trajectory = collecting->trajectory;
    const struct replay_model *model = collecting->model;
    *trajectory = (struct trajectory){.layers = layers_of(model)};
    put_name(trajectory->model, sizeof trajectory->model, model->model_id);
    put_name(trajectory->heads, sizeof trajectory->heads, model->heads_id);
    put_name(trajectory->template_hash, sizeof trajectory->template_hash, model->template_hash);
    put_name(trajectory->mode, sizeof trajectory->mode,
             model->engine != NULL ? engine_arithmetic(model->engine) : "no model");
    put_name(trajectory->key, sizeof trajectory->key, key);
    if (answers_begin(&collecting->answers, model, &trajectory->readings, &trajectory->reading_count, err) != 0)
        return -1;
    collecting->bare = calloc(trajectory->reading_count + 1, sizeof *collecting->bare);
    return collecting->bare != NULL ? 0 : out_of_memory(err);
}

/* What an earlier run has done, in place of nothing. */
static int resume(struct collecting *collecting, size_t *done, struct error *err)
{
    struct trajectory *trajectory = collecting->trajectory, earlier;
    const char *path = collecting->model->checkpoint;
    *done = 0;
    if (path == NULL || access(path, F_OK) != 0)
        return 0;
    if (trajectory_load(&earlier, path, err) != 0)
        return error_wrap(err, "--checkpoint");
    if (strcmp(earlier.key, trajectory->key) != 0 || earlier.reading_count != trajectory->reading_count) {
        trajectory_free(&earlier);
        return error_set(err, ERROR_BAD_INPUT,
                         "--checkpoint %s is of another replay: other messages, settings, model or heads", path);
    }
    trajectory_free(trajectory);
    *trajectory = earlier;
    collecting->answers.readings = earlier.readings;
    collecting->row_capacity = earlier.count;
    collecting->feature_capacity = earlier.count * EVIDENCE_FEATURES;
    collecting->logit_capacity = earlier.count * earlier.reading_count;
    *done = earlier.requests;
    return 0;
}

static int run(struct collecting *collecting, struct replay_log *log, struct replay_totals *totals, struct error *err)
{
    struct replay_settings settings = *collecting->settings;
    const struct replay_visitor visitor = {collecting, take_request};
    const char *checkpoint = collecting->model->checkpoint;
    char key[17];
    struct error ending;
    if (replay_key(log, &settings, collecting->model, key, err) != 0 || begin(collecting, key, err) != 0 ||
        resume(collecting, &settings.done_requests, err) != 0)
        return -1;
    collecting->saved_ns = clock_monotonic_ns();
    int result = replay_run(log, &settings, &visitor, totals, err);
    bool interrupted = result != 0 && settings.interrupted != NULL && *settings.interrupted;
    if (result != 0 && !(interrupted && checkpoint != NULL))
        return -1;
    if (flush(collecting, &ending) != 0 || (checkpoint != NULL && save_checkpoint(collecting, &ending) != 0)) {
        *err = ending;
        return -1;
    }
    answers_end(&collecting->answers);
    return result;
}

int replay_collect(struct replay_log *log, const struct replay_settings *settings, const struct replay_model *model,
                   struct trajectory *trajectory, struct replay_totals *totals, struct error *err)
{
    struct collecting *collecting = calloc(1, sizeof *collecting);
    *trajectory = (struct trajectory){0};
    if (collecting == NULL)
        return out_of_memory(err);
    collecting->settings = settings;
    collecting->model = model;
    collecting->trajectory = trajectory;
    int result = run(collecting, log, totals, err);
    if (result != 0)
        trajectory_free(trajectory);
    answers_free(&collecting->answers);
    tokens_free(&collecting->tokens);
    free(collecting->offsets);
    free(collecting->rows);
    free(collecting->keys);
    free(collecting->bare);
    free(collecting->scores);
    free(collecting->states);
    free(collecting->evidence);
    free(collecting);
    return result;
}
