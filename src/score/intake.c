#include "score/intake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/kafka.h"

enum {
    REQUEST_MEMORY = 256 << 20, /* bytes one request may take while it is answered */
    KEPT_MEMORY = 64 << 10,     /* of them, what is kept for the next one */
    TAKE_MS = 50,               /* the longest that the thread sleeps: how soon it sees that it must stop */
    ASIDE_MS = 100,             /* between two attempts on what was put aside */
    LOOK_MS = 50,               /* between two looks at how much waits */
    REPEAT_LOG_MS = 10000,
};

struct intake {
    struct intake_settings settings;
    struct requests *requests;
    struct scorer *scorer;
    struct batcher *batcher;
    const struct codec *codec;
    struct score_totals *totals;
    struct job *jobs; /* `capacity` */
    pthread_t thread;
    bool started;
    atomic_bool stopping, draining, ended;

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t freed;
    struct job *free; /* the last one used first: its memory is warm */
    size_t free_count;
    bool failed;
    struct error failure;

    /* The thread's own. */
    struct job *aside;
    int64_t aside_ns; /* last attempt on them */
    int64_t logged_ns;
    double prepare_s; /* what a request takes here, lately */
    int64_t looked_ns;
    bool overloaded;
};

static void push_free(struct intake *intake, struct job *job)
{
    pthread_mutex_lock(&intake->mutex);
    job->next = intake->free;
    intake->free = job;
    intake->free_count++;
    pthread_cond_signal(&intake->freed);
    pthread_mutex_unlock(&intake->mutex);
}

/* NULL after TAKE_MS. */
static struct job *pop_free(struct intake *intake)
{
    int64_t until_ns = clock_monotonic_ns() + INT64_C(1000000) * TAKE_MS;
    const struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    int waited = 0;
    pthread_mutex_lock(&intake->mutex);
    while (intake->free == NULL && waited == 0)
        waited = pthread_cond_timedwait(&intake->freed, &intake->mutex, &until);
    struct job *job = intake->free;
    if (job != NULL) {
        intake->free = job->next;
        intake->free_count--;
    }
    pthread_mutex_unlock(&intake->mutex);
    return job;
}

void intake_give_back(struct intake *intake, struct job *job)
{
    if (job->arena.used > KEPT_MEMORY)
        arena_free(&job->arena);
    else
        arena_reset(&job->arena); /* not all jobs are in use all the time: they hold no more than a block */
    push_free(intake, job);
}

static void fail(struct intake *intake, const struct error *err)
{
    pthread_mutex_lock(&intake->mutex);
    if (!intake->failed)
        intake->failure = *err;
    intake->failed = true;
    pthread_mutex_unlock(&intake->mutex);
}

static int decode(struct intake *intake, struct job *job, struct error *err)
{
    const rd_kafka_message_t *message = job->request->message;
    arena_reset(&job->arena);
    if (message->len > intake->settings.message_limit) {
        job->class = DEAD_TOO_LARGE;
        return error_set(err, ERROR_BAD_INPUT, "%zu bytes, but ingest.message_limit is %zu", message->len,
                         intake->settings.message_limit);
    }
    if (kafka_has_header(message, CODEC_SCHEMA_HEADER))
        return codec_refuse_header(&score_request_type, &job->class, err);
    return codec_decode(intake->codec, &score_request_type, message->payload, message->len, &job->asked, &job->arena,
                        &job->class, err);
}

/* Looks now and then; see above. */
static bool is_overloaded(struct intake *intake)
{
    bool spares = intake->settings.overload == ORDER_SHED ||
                  (intake->settings.overload == ORDER_DEPTH && scorer_engine(intake->scorer) != NULL);
    if (!spares)
        return false;
    if (clock_since_ms(intake->looked_ns) < LOOK_MS)
        return intake->overloaded;
    struct requests_progress progress = requests_progress(intake->requests);
    uint64_t beyond = progress.lag > progress.unfinished ? progress.lag - progress.unfinished : 0;
    double wait_s = ((double)progress.waiting + (double)beyond) * intake->prepare_s;
    intake->looked_ns = clock_monotonic_ns();
    intake->overloaded = wait_s > intake->settings.patience_s;
    return intake->overloaded;
}

static int64_t deadline_of(const struct score_request *asked)
{
    const int64_t far_ms = INT64_C(1) << 40; /* 35 years */
    if (!asked->has_deadline)
        return INT64_MAX;
    int64_t now_ms = clock_wall_ms();
    if (asked->deadline_ms > now_ms + far_ms)
        return INT64_MAX;
    int64_t left_ms = asked->deadline_ms < now_ms - far_ms ? -far_ms : asked->deadline_ms - now_ms;
    return clock_monotonic_ns() + left_ms * 1000000;
}

static int prepare(struct intake *intake, struct job *job, double queue_ms, struct error *err)
{
    struct batch_job *batch = &job->batch;
    int64_t start_ns = clock_monotonic_ns();
    if (scorer_prepare(intake->scorer, &job->asked, &job->arena, &batch->response, &batch->asking, err) != 0) {
        job->class = DEAD_SEMANTIC;
        return -1;
    }
    batch->response.timings.queue_ms = queue_ms;
    batch->deadline_ns = deadline_of(&job->asked);
    double seconds = clock_since_ms(start_ns) / 1000;
    intake->prepare_s += (seconds - intake->prepare_s) / 64;
    return 0;
}

static void put_aside(struct intake *intake, struct job *job, const struct error *err)
{
    totals_add(&intake->totals->undecided, 1);
    job->next = intake->aside;
    intake->aside = job;
    if (intake->logged_ns != 0 && clock_since_ms(intake->logged_ns) < REPEAT_LOG_MS)
        return;
    intake->logged_ns = clock_monotonic_ns();
    log_warn("score", "requests are put aside until the registry answers: %s", err->message);
}

/* Reads the job's request and sends it on its way. */
static void take_in(struct intake *intake, struct job *job)
{
    struct batch_job *batch = &job->batch;
    double queue_ms = clock_since_ms(job->request->arrived_ns);
    *batch = (struct batch_job){.arrived_ns = job->request->arrived_ns, .deadline_ns = INT64_MAX};
    job->dead = false;
    batch->left = !requests_ours(job->request);
    if (batch->left) {
        batcher_put(intake->batcher, batch);
        return;
    }
    bool refused = is_overloaded(intake);
    struct error *err = &job->reason;
    int result = decode(intake, job, err);
    if (result == 0 && refused && job->asked.request_id.size > 0 && job->asked.user_id.size > 0) {
        scorer_begin(intake->scorer, &job->asked, &batch->response);
        scorer_refuse(&batch->response, RESPONSE_SHED, (struct text){0});
    } else if (result == 0)
        result = prepare(intake, job, queue_ms, err);
    if (result != 0 && err->kind == ERROR_RETRY) {
        put_aside(intake, job, err);
        return;
    }
    if (result != 0 && err->kind != ERROR_BAD_INPUT) {
        fail(intake, err);
        batch->left = true;
    }
    job->dead = result != 0 && err->kind == ERROR_BAD_INPUT;
    buckets_add(&intake->totals->queue, queue_ms / 1000);
    batcher_put(intake->batcher, batch);
}

static void read_aside_again(struct intake *intake)
{
    struct job *jobs = intake->aside;
    if (jobs == NULL || clock_since_ms(intake->aside_ns) < ASIDE_MS)
        return;
    intake->aside = NULL;
    while (jobs != NULL) {
        struct job *job = jobs;
        jobs = job->next;
        take_in(intake, job);
    }
    intake->aside_ns = clock_monotonic_ns();
}

static void *intake_thread(void *argument)
{
    struct intake *intake = argument;
    while (!intake->stopping) {
        bool draining = intake->draining;
        read_aside_again(intake);
        struct job *job = pop_free(intake);
        if (job == NULL)
            continue;
        job->request = requests_next(intake->requests, draining && intake->aside == NULL ? 0 : TAKE_MS);
        if (job->request != NULL) {
            take_in(intake, job);
            continue;
        }
        push_free(intake, job);
        if (draining && intake->aside == NULL)
            break;
    }
    intake->ended = true;
    return NULL;
}

static void create_lock(struct intake *intake)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&intake->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&intake->freed, &attributes);
    pthread_condattr_destroy(&attributes);
}

int intake_start(struct intake **result, const struct intake_settings *settings, struct requests *requests,
                 struct scorer *scorer, struct batcher *batcher, const struct codec *codec, struct error *err)
{
    struct intake *intake = calloc(1, sizeof *intake);
    if (intake == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the intake of requests");
    intake->settings = *settings;
    intake->requests = requests;
    intake->scorer = scorer;
    intake->batcher = batcher;
    intake->codec = codec;
    intake->totals = scorer_totals(scorer);
    create_lock(intake);
    intake->jobs = calloc(settings->capacity, sizeof *intake->jobs);
    if (intake->jobs == NULL) {
        intake_destroy(intake);
        return error_set(err, ERROR_FATAL, "out of memory for %zu requests", settings->capacity);
    }
    for (size_t i = 0; i < settings->capacity; i++) {
        arena_init(&intake->jobs[i].arena, REQUEST_MEMORY);
        push_free(intake, &intake->jobs[i]);
    }
    if (pthread_create(&intake->thread, NULL, intake_thread, intake) != 0) {
        intake_destroy(intake);
        return error_set(err, ERROR_FATAL, "the thread that takes requests in cannot be started");
    }
    intake->started = true;
    *result = intake;
    return 0;
}

void intake_drain(struct intake *intake)
{
    intake->draining = true;
}

bool intake_is_drained(struct intake *intake)
{
    if (!intake->ended)
        return false;
    pthread_mutex_lock(&intake->mutex);
    bool drained = intake->free_count == intake->settings.capacity;
    pthread_mutex_unlock(&intake->mutex);
    return drained;
}

bool intake_alive(struct intake *intake, struct error *err)
{
    pthread_mutex_lock(&intake->mutex);
    bool alive = !intake->failed;
    if (!alive)
        *err = intake->failure;
    pthread_mutex_unlock(&intake->mutex);
    return alive;
}

size_t intake_stop(struct intake *intake)
{
    size_t abandoned = 0;
    if (!intake->started)
        return 0;
    intake->stopping = true;
    pthread_join(intake->thread, NULL);
    intake->started = false;
    while (intake->aside != NULL) {
        struct job *job = intake->aside;
        intake->aside = job->next;
        requests_abandon(job->request);
        push_free(intake, job);
        abandoned++;
    }
    return abandoned;
}

void intake_destroy(struct intake *intake)
{
    if (intake == NULL)
        return;
    for (size_t i = 0; intake->jobs != NULL && i < intake->settings.capacity; i++)
        arena_free(&intake->jobs[i].arena);
    free(intake->jobs);
    pthread_cond_destroy(&intake->freed);
    pthread_mutex_destroy(&intake->mutex);
    free(intake);
}
