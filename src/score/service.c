#include "score/service.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "score/intake.h"
#include "stream/dead_letter.h"

enum {
    HELD_MS = 20,      /* between two attempts on an answer that is held */
    REPORTS_MS = 5,    /* while answers are under way: how often we look what became of them */
    STEP_ANSWERS = 64, /* handed over before we look */
    REPEAT_LOG_MS = 10000,
};

struct service {
    struct service_settings settings;
    struct requests *requests;
    struct scorer *scorer;
    struct score_totals *totals;
    const struct codec *codec;
    struct delivery *delivery;
    struct batcher *batcher;
    struct intake *intake;
    struct job *held; /* an answer that nobody takes just now */
    int64_t logged_ns;
    struct buffer bytes;
    char dead_topic[256];
};

static bool is_wanted(const struct batch_job *batch)
{
    return requests_ours(((const struct job *)batch)->request);
}

static int open_delivery(struct service *service, struct error *err)
{
    const struct service_settings *settings = &service->settings;
    struct delivery_settings delivery = {
        .kafka = settings->kafka,
        .group_id = settings->group_id,
        .instance_id = settings->instance_id,
        .requests_topic = settings->topics.requests,
        .dead_topic = service->dead_topic,
        .message_limit = settings->message_limit,
        .exactly_once = settings->exactly_once,
        .batch_requests = settings->batch_requests,
        .batch_ms = settings->batch_ms,
    };
    return delivery_create(&service->delivery, &delivery, service->requests, err);
}

int service_create(struct service **result, const struct service_settings *settings, struct requests *requests,
                   struct scorer *scorer, const struct codec *codec, struct error *err)
{
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the service");
    service->settings = *settings;
    service->settings.batch.is_wanted = is_wanted;
    service->requests = requests;
    service->scorer = scorer;
    service->totals = scorer_totals(scorer);
    service->codec = codec;
    snprintf(service->dead_topic, sizeof service->dead_topic, "%s%s", settings->topics.requests,
             settings->topics.dead_suffix);
    const struct intake_settings intake = {.capacity = settings->batch.capacity,
                                           .message_limit = settings->message_limit,
                                           .overload = settings->batch.overload,
                                           .patience_s = settings->batch.patience_s};
    if (open_delivery(service, err) != 0 ||
        batcher_create(&service->batcher, &service->settings.batch, scorer, err) != 0 ||
        intake_start(&service->intake, &intake, requests, scorer, service->batcher, codec, err) != 0) {
        service_destroy(service);
        return -1;
    }
    *result = service;
    return 0;
}

static void give_back(struct service *service, struct job *job)
{
    job->request = NULL;
    intake_give_back(service->intake, job);
}

static void abandon(struct service *service, struct job *job)
{
    requests_abandon(job->request);
    give_back(service, job);
}

/* Ends both threads. Returns how many requests were left unanswered. */
static size_t stop_threads(struct service *service)
{
    struct batch_job *batch;
    size_t left = 0;
    if (service->intake != NULL)
        left += intake_stop(service->intake);
    if (service->batcher != NULL)
        batcher_stop(service->batcher);
    if (service->intake == NULL)
        return left;
    for (; service->held != NULL; left++) {
        abandon(service, service->held);
        service->held = NULL;
    }
    for (; (batch = batcher_take(service->batcher, 0)) != NULL; left++)
        abandon(service, (struct job *)batch);
    return left;
}

void service_destroy(struct service *service)
{
    if (service == NULL)
        return;
    stop_threads(service);
    intake_destroy(service->intake);
    batcher_destroy(service->batcher);
    delivery_destroy(service->delivery);
    buffer_free(&service->bytes);
    free(service);
}

struct service_totals service_totals(const struct service *service)
{
    struct delivery_totals delivered = delivery_totals(service->delivery);
    return (struct service_totals){delivered.answered, delivered.dead_letters};
}

struct delivery *service_delivery(const struct service *service)
{
    return service->delivery;
}

static int bury(struct service *service, struct job *job, struct error *err)
{
    const rd_kafka_message_t *message = job->request->message;
    buffer_clear(&service->bytes);
    if (dead_letter_pack(message, job->class, job->reason.message, service->settings.message_limit, &service->bytes,
                         err) != 0)
        return -1;
    int32_t partition = message->partition;
    int64_t offset = message->offset;
    if (delivery_dead_letter(service->delivery, job->request, service->dead_topic, buffer_text(&service->bytes), err) !=
        0)
        return -1;
    totals_add(&service->totals->unreadable, 1);
    log_warn("score", "dead letter from %s/%d offset %lld: %s: %s", service->settings.topics.requests, (int)partition,
             (long long)offset, dead_letter_class_name(job->class), job->reason.message);
    return 0;
}

static int send_bytes(struct service *service, struct job *job, struct error *err)
{
    const struct score_response *response = &job->batch.response;
    buffer_clear(&service->bytes);
    if (codec_encode(service->codec, &score_response_type, response, &service->bytes, err) != 0) {
        if (err->kind == ERROR_BAD_INPUT) /* our own answer, or the registry takes none of ours */
            err->kind = ERROR_FATAL;
        return -1;
    }
    const struct producer_message message = {.topic = service->settings.topics.scores,
                                             .key = response->request_id.data,
                                             .key_size = response->request_id.size,
                                             .value = service->bytes.data,
                                             .value_size = service->bytes.size};
    return delivery_answer(service->delivery, job->request, &message, err);
}

static void count_answer(struct score_totals *totals, const struct score_response *response)
{
    totals_add(&totals->requests[response->status], 1);
    for (size_t i = 0; i < response->candidate_count; i++) {
        const struct scored_candidate *answer = &response->candidates[i];
        size_t layer = (size_t)answer->exit_layer;
        totals_add(&totals->candidates[answer->status], 1);
        totals_add(&totals->exits[layer < TOTALS_LAYERS ? layer : TOTALS_LAYERS - 1], 1);
    }
}

static int send_response(struct service *service, struct job *job, struct error *err)
{
    struct score_response *response = &job->batch.response;
    int64_t start_ns = clock_monotonic_ns();
    if (job->batch.asking != NULL) {
        struct asking *asking = job->batch.asking;
        if (scorer_finish(service->scorer, asking, response, err) != 0)
            return -1;
        job->batch.asking = NULL;
    }
    int result = send_bytes(service, job, err);
    if (result != 0 && err->kind == ERROR_BAD_INPUT) {
        log_warn("score", "the answer to request " TEXT_FORMAT " does not fit: %s", TEXT_ARGS(response->request_id),
                 err->message);
        scorer_refuse(response, RESPONSE_ERROR,
                      text_of("the answer is too large for its topic: ask for fewer candidates, or no explanation"));
        result = send_bytes(service, job, err);
    }
    if (result != 0)
        return -1;
    count_answer(service->totals, response);
    buckets_add(&service->totals->send, clock_since_ms(start_ns) / 1000);
    return 0;
}

static void hold(struct service *service, struct job *job, const struct error *err)
{
    service->held = job;
    if (service->logged_ns != 0 && clock_since_ms(service->logged_ns) < REPEAT_LOG_MS)
        return;
    service->logged_ns = clock_monotonic_ns();
    log_warn("score", "answers are held for now: %s", err->message);
}

/* The job is handed over, held or abandoned; on -1 as well. */
static int hand_over(struct service *service, struct job *job, struct error *err)
{
    if (job->batch.left) {
        abandon(service, job);
        return 0;
    }
    if ((job->dead ? bury(service, job, err) : send_response(service, job, err)) == 0) {
        give_back(service, job);
        return 0;
    }
    if (err->kind == ERROR_RETRY) {
        hold(service, job, err);
        return 0;
    }
    abandon(service, job);
    return -1;
}

static struct job *next_job(struct service *service, int timeout_ms)
{
    struct job *job = service->held;
    service->held = NULL;
    return job != NULL ? job : (struct job *)batcher_take(service->batcher, timeout_ms);
}

int service_step(struct service *service, int timeout_ms, struct error *err)
{
    if (!intake_alive(service->intake, err) || !batcher_alive(service->batcher, err))
        return -1;
    /* While answers are under way their reports are what to wait for, too: look at both in turn. */
    if (delivery_pending(service->delivery) > 0 && timeout_ms > REPORTS_MS)
        timeout_ms = REPORTS_MS;
    for (size_t i = 0; i < STEP_ANSWERS; i++) {
        struct job *job = next_job(service, i == 0 ? timeout_ms : 0);
        if (job == NULL)
            break;
        if (hand_over(service, job, err) != 0)
            return -1;
        if (service->held != NULL)
            break;
    }
    return delivery_poll(service->delivery, service->held != NULL ? HELD_MS : 0, err);
}

int service_drain(struct service *service, int64_t limit_ms, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    requests_pause(service->requests);
    intake_drain(service->intake);
    while (!intake_is_drained(service->intake) && clock_since_ms(start_ns) < (double)limit_ms)
        if (service_step(service, REPORTS_MS, err) != 0)
            return -1;
    size_t left = stop_threads(service);
    struct request *request;
    for (; (request = requests_next(service->requests, 0)) != NULL; left++)
        requests_abandon(request);
    if (left > 0)
        log_warn("score", "%zu requests were left unanswered after %lld ms: another worker will answer them", left,
                 (long long)limit_ms);
    double rest_ms = (double)limit_ms - clock_since_ms(start_ns);
    return delivery_flush(service->delivery, rest_ms > 1000 ? (int)rest_ms : 1000, err);
}
