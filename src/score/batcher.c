#include "score/batcher.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"

/* What was measured some batches ago counts so much less each time. */
static const double FORGETTING = 0.8;

struct batcher {
    struct batcher_settings settings;
    struct order_settings order;
    struct scorer *scorer;
    struct score_totals *totals;
    struct queue *done;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t changed;
    struct batch_job **waiting; /* those of the batch that runs as well */
    size_t waiting_count;
    bool stopping;
    bool ended; /* the thread has, on `failure` */
    struct error failure;

    /* The thread's own: `capacity` of each. */
    struct order_entry *entries;
    struct order_turn *turns;
    enum order_verdict *verdicts;
    struct order_piece *chosen;
    struct scorer_piece *pieces;
    size_t piece_count;
    size_t tokens;    /* of the batch, to be computed */
    size_t max_layer; /* of the batch */

    /* Sums that forget, over batches; the last two over those that nothing held back. */
    double seconds, token_layers;
    double free_tokens, free_token_layers;
};

static void finish(struct batcher *batcher, struct batch_job *job)
{
    if (!queue_try_push(batcher->done, job)) /* as many fit as may be put */
        log_error("score", "a request is lost: more were put than the batcher holds");
}

static size_t last_layer(const struct batcher *batcher)
{
    return batcher->order.exits[batcher->order.exit_count - 1];
}

/* What is waited for: company, until this moment. Not when those that are here fill a batch. */
static int64_t company_until(const struct batcher *batcher)
{
    int64_t oldest_ns = INT64_MAX;
    size_t tokens = 0;
    for (size_t i = 0; i < batcher->waiting_count; i++) {
        const struct batch_job *job = batcher->waiting[i];
        const struct engine_prompt *prompt = &job->asking->prompt;
        oldest_ns = job->put_ns < oldest_ns ? job->put_ns : oldest_ns;
        tokens += prompt->prefix_length + prompt->offsets[prompt->candidate_count];
        if (tokens >= batcher->settings.max_tokens)
            return INT64_MIN;
    }
    return oldest_ns + (int64_t)batcher->settings.max_wait_ms * 1000000;
}

/* Returns with the mutex as it came; false: the thread must end. `idle`: no batch has just ended. */
static bool wait_for_work(struct batcher *batcher, bool idle)
{
    while (!batcher->stopping) {
        if (batcher->waiting_count == 0) {
            idle = true;
            pthread_cond_wait(&batcher->changed, &batcher->mutex);
            continue;
        }
        int64_t until_ns = idle ? INT64_MIN : company_until(batcher);
        if (until_ns <= clock_monotonic_ns())
            return true;
        const struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        pthread_cond_timedwait(&batcher->changed, &batcher->mutex, &until);
    }
    return false;
}

static struct order_entry entry_of(const struct batcher *batcher, const struct batch_job *job)
{
    const struct asking *asking = job->asking;
    const struct engine_prompt *prompt = &asking->prompt;
    const struct text user = asking->request->user_id;
    return (struct order_entry){
        .arrived_ns = job->arrived_ns,
        .deadline_ns = job->deadline_ns,
        .user = XXH3_64bits(user.data, user.size),
        .prefix_tokens =
            prompt->prefix_length - engine_kept(scorer_engine(batcher->scorer), prompt->prefix, prompt->prefix_length),
        .offsets = prompt->offsets,
        .next = asking->computed,
        .rows = prompt->candidate_count,
        .deep = prompt->explain,
    };
}

static struct order_speed speed_of(const struct batcher *batcher)
{
    double layers = (double)last_layer(batcher);
    return (struct order_speed){
        .token_layer_s = batcher->token_layers > 0 ? batcher->seconds / batcher->token_layers : 0,
        .layers = batcher->free_tokens > 0 ? batcher->free_token_layers / batcher->free_tokens : layers,
    };
}

/* By its verdict, unless it stays. */
static bool settle(struct batcher *batcher, struct batch_job *job, enum order_verdict verdict)
{
    switch (verdict) {
    case ORDER_COMPUTE:
    case ORDER_TAKEN:
        return false;
    case ORDER_EXPIRED:
        scorer_refuse(&job->response, RESPONSE_EXPIRED, (struct text){0});
        job->asking = NULL;
        break;
    case ORDER_REFUSE:
        scorer_refuse(&job->response, RESPONSE_SHED, (struct text){0});
        job->asking = NULL;
        break;
    case ORDER_SHALLOW:
        break;
    }
    finish(batcher, job);
    return true;
}

static void make_pieces(struct batcher *batcher)
{
    for (size_t i = 0; i < batcher->piece_count; i++) {
        const struct order_piece *chosen = &batcher->chosen[i];
        struct batch_job *job = batcher->waiting[chosen->entry];
        batcher->pieces[i] = (struct scorer_piece){
            .asking = job->asking,
            .from = chosen->from,
            .to = chosen->to,
            .max_layer = batcher->max_layer < last_layer(batcher) ? batcher->max_layer : 0,
        };
        if (chosen->from == 0) {
            double wait_ms = clock_since_ms(job->put_ns);
            job->response.timings.queue_ms += wait_ms;
            buckets_add(&batcher->totals->wait, wait_ms / 1000);
        }
    }
}

/* What nobody wants any more leaves. */
static void drop_unwanted(struct batcher *batcher)
{
    size_t kept = 0;
    for (size_t i = 0; i < batcher->waiting_count; i++) {
        struct batch_job *job = batcher->waiting[i];
        job->left = batcher->settings.is_wanted != NULL && !batcher->settings.is_wanted(job);
        if (job->left)
            finish(batcher, job);
        else
            batcher->waiting[kept++] = job;
    }
    batcher->waiting_count = kept;
}

/* Decides on all that waits; what needs no engine leaves. With the mutex. */
static void choose_batch(struct batcher *batcher)
{
    drop_unwanted(batcher);
    size_t count = batcher->waiting_count, kept = 0;
    const struct order_speed speed = speed_of(batcher);
    for (size_t i = 0; i < count; i++)
        batcher->entries[i] = entry_of(batcher, batcher->waiting[i]);
    order_sort(batcher->entries, count, &speed, &batcher->order, batcher->turns);
    batcher->max_layer = order_judge(batcher->entries, batcher->turns, count, clock_monotonic_ns(), &speed,
                                     &batcher->order, batcher->verdicts);
    batcher->piece_count = order_batch(batcher->entries, batcher->turns, count, batcher->settings.max_tokens,
                                       batcher->verdicts, batcher->chosen);
    batcher->tokens = order_batch_tokens(batcher->entries, batcher->chosen, batcher->piece_count);
    make_pieces(batcher);
    for (size_t i = 0; i < count; i++)
        if (!settle(batcher, batcher->waiting[i], batcher->verdicts[i]))
            batcher->waiting[kept++] = batcher->waiting[i];
    batcher->waiting_count = kept;
    totals_set(&batcher->totals->waiting, kept);
    totals_set(&batcher->totals->layers, batcher->max_layer);
}

static void learn_speed(struct batcher *batcher, const struct scorer_effort *effort)
{
    bool deep = false;
    for (size_t i = 0; i < batcher->piece_count; i++)
        deep = deep || batcher->pieces[i].asking->prompt.explain;
    batcher->seconds = batcher->seconds * FORGETTING + effort->seconds;
    batcher->token_layers = batcher->token_layers * FORGETTING + (double)effort->token_layers;
    if (deep || batcher->max_layer < last_layer(batcher))
        return;
    batcher->free_tokens = batcher->free_tokens * FORGETTING + (double)batcher->tokens;
    batcher->free_token_layers = batcher->free_token_layers * FORGETTING + (double)effort->token_layers;
}

static void count_batch(struct batcher *batcher)
{
    size_t candidates = 0;
    for (size_t i = 0; i < batcher->piece_count; i++)
        candidates += batcher->pieces[i].to - batcher->pieces[i].from;
    buckets_add(&batcher->totals->batch_requests, (double)batcher->piece_count);
    buckets_add(&batcher->totals->batch_candidates, (double)candidates);
    buckets_add(&batcher->totals->batch_tokens, (double)batcher->tokens);
}

/* Those whose rows are all computed, and those that cannot be, leave. With the mutex. */
static void release_done(struct batcher *batcher)
{
    size_t kept = 0;
    for (size_t i = 0; i < batcher->waiting_count; i++) {
        struct batch_job *job = batcher->waiting[i];
        const struct asking *asking = job->asking;
        if (asking->computed < asking->prompt.candidate_count && asking->error.data == NULL) {
            batcher->waiting[kept++] = job;
            continue;
        }
        buckets_add(&batcher->totals->compute, asking->engine_s);
        finish(batcher, job);
    }
    batcher->waiting_count = kept;
    totals_set(&batcher->totals->waiting, kept);
}

static void *engine_thread(void *argument)
{
    struct batcher *batcher = argument;
    struct error err;
    bool idle = true;
    pthread_mutex_lock(&batcher->mutex);
    while (wait_for_work(batcher, idle)) {
        struct scorer_effort effort = {0};
        choose_batch(batcher);
        idle = batcher->piece_count == 0;
        if (idle)
            continue;
        pthread_mutex_unlock(&batcher->mutex);
        count_batch(batcher);
        int result = scorer_run(batcher->scorer, batcher->pieces, batcher->piece_count, &effort, &err);
        pthread_mutex_lock(&batcher->mutex);
        if (result != 0) {
            batcher->failure = err;
            batcher->ended = true;
            break;
        }
        learn_speed(batcher, &effort);
        release_done(batcher);
    }
    pthread_mutex_unlock(&batcher->mutex);
    return NULL;
}

static int start_thread(struct batcher *batcher, struct error *err)
{
    size_t capacity = batcher->settings.capacity;
    pthread_condattr_t attributes;
    batcher->waiting = calloc(capacity, sizeof(struct batch_job *));
    batcher->entries = calloc(capacity, sizeof *batcher->entries);
    batcher->turns = calloc(capacity, sizeof *batcher->turns);
    batcher->verdicts = calloc(capacity, sizeof *batcher->verdicts);
    batcher->chosen = calloc(capacity, sizeof *batcher->chosen);
    batcher->pieces = calloc(capacity, sizeof *batcher->pieces);
    if (batcher->waiting == NULL || batcher->entries == NULL || batcher->turns == NULL || batcher->verdicts == NULL ||
        batcher->chosen == NULL || batcher->pieces == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for %zu waiting requests", capacity);
    pthread_mutex_init(&batcher->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&batcher->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    totals_set(&batcher->totals->layers, last_layer(batcher));
    if (pthread_create(&batcher->thread, NULL, engine_thread, batcher) != 0) {
        pthread_cond_destroy(&batcher->changed);
        pthread_mutex_destroy(&batcher->mutex);
        return error_set(err, ERROR_FATAL, "the thread of the engine cannot be started");
    }
    batcher->started = true;
    return 0;
}

int batcher_create(struct batcher **result, const struct batcher_settings *settings, struct scorer *scorer,
                   struct error *err)
{
    struct batcher *batcher = calloc(1, sizeof *batcher);
    if (batcher == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the batcher");
    batcher->settings = *settings;
    batcher->scorer = scorer;
    batcher->totals = scorer_totals(scorer);
    batcher->order = (struct order_settings){.overload = settings->overload, .patience_s = settings->patience_s};
    batcher->order.exits = scorer_exits(scorer, &batcher->order.exit_count);
    batcher->done = queue_create(settings->capacity);
    if (batcher->done == NULL) {
        batcher_destroy(batcher);
        return error_set(err, ERROR_FATAL, "out of memory for the batcher");
    }
    if (scorer_engine(scorer) != NULL && start_thread(batcher, err) != 0) {
        batcher_destroy(batcher);
        return -1;
    }
    *result = batcher;
    return 0;
}

static void end_thread(struct batcher *batcher)
{
    if (!batcher->started)
        return;
    pthread_mutex_lock(&batcher->mutex);
    batcher->stopping = true;
    pthread_cond_signal(&batcher->changed);
    pthread_mutex_unlock(&batcher->mutex);
    pthread_join(batcher->thread, NULL);
    pthread_cond_destroy(&batcher->changed);
    pthread_mutex_destroy(&batcher->mutex);
    batcher->started = false;
}

void batcher_destroy(struct batcher *batcher)
{
    if (batcher == NULL)
        return;
    end_thread(batcher);
    queue_destroy(batcher->done);
    free(batcher->waiting);
    free(batcher->entries);
    free(batcher->turns);
    free(batcher->verdicts);
    free(batcher->chosen);
    free(batcher->pieces);
    free(batcher);
}

void batcher_put(struct batcher *batcher, struct batch_job *job)
{
    job->put_ns = clock_monotonic_ns();
    if (!batcher->started || job->asking == NULL || job->asking->prompt.candidate_count == 0) {
        finish(batcher, job);
        return;
    }
    pthread_mutex_lock(&batcher->mutex);
    batcher->waiting[batcher->waiting_count++] = job;
    totals_set(&batcher->totals->waiting, batcher->waiting_count);
    pthread_cond_signal(&batcher->changed);
    pthread_mutex_unlock(&batcher->mutex);
}

struct batch_job *batcher_take(struct batcher *batcher, int timeout_ms)
{
    return queue_pop(batcher->done, timeout_ms);
}

void batcher_stop(struct batcher *batcher)
{
    end_thread(batcher);
    for (size_t i = 0; i < batcher->waiting_count; i++) {
        batcher->waiting[i]->left = true;
        finish(batcher, batcher->waiting[i]);
    }
    batcher->waiting_count = 0;
}

bool batcher_alive(struct batcher *batcher, struct error *err)
{
    if (!batcher->started)
        return true;
    pthread_mutex_lock(&batcher->mutex);
    bool alive = !batcher->ended;
    if (!alive)
        *err = batcher->failure;
    pthread_mutex_unlock(&batcher->mutex);
    return alive;
}
