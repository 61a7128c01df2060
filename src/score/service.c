#include "score/service.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/dead_letter.h"
#include "stream/delivery.h"

enum {
    REQUEST_MEMORY = 256 << 20, /* bytes one request may take while it is answered */
    FULL_QUEUE_WAIT_MS = 100,
};

struct service {
    struct service_settings settings;
    struct requests *requests;
    struct scorer *scorer;
    const struct codec *codec;
    struct delivery *delivery;
    struct arena arena;
    struct buffer bytes;
    char dead_topic[256];
};

int service_create(struct service **result, const struct service_settings *settings, struct requests *requests,
                   struct scorer *scorer, const struct codec *codec, struct error *err)
{
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the service");
    service->settings = *settings;
    service->requests = requests;
    service->scorer = scorer;
    service->codec = codec;
    arena_init(&service->arena, REQUEST_MEMORY);
    snprintf(service->dead_topic, sizeof service->dead_topic, "%s%s", settings->topics.requests,
             settings->topics.dead_suffix);
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
    if (delivery_create(&service->delivery, &delivery, requests, err) != 0) {
        service_destroy(service);
        return -1;
    }
    *result = service;
    return 0;
}

void service_destroy(struct service *service)
{
    if (service == NULL)
        return;
    delivery_destroy(service->delivery);
    arena_free(&service->arena);
    buffer_free(&service->bytes);
    free(service);
}

struct service_totals service_totals(const struct service *service)
{
    struct delivery_totals delivered = delivery_totals(service->delivery);
    return (struct service_totals){delivered.answered, delivered.dead_letters};
}

/* After a message that was not taken: waits for room in the local queue. False: that was not the reason. */
static bool wait_for_room(struct service *service, struct error *err)
{
    return err->kind == ERROR_RETRY && delivery_poll(service->delivery, FULL_QUEUE_WAIT_MS, err) == 0;
}

static int send_answer(struct service *service, struct request *request, const struct producer_message *message,
                       struct error *err)
{
    while (delivery_answer(service->delivery, request, message, err) != 0)
        if (!wait_for_room(service, err))
            return -1;
    return 0;
}

static int bury(struct service *service, struct request *request, enum dead_letter_class class, const char *reason,
                struct error *err)
{
    log_warn("score", "dead letter from %s/%d offset %lld: %s: %s", service->settings.topics.requests,
             (int)request->message->partition, (long long)request->message->offset, dead_letter_class_name(class),
             reason);
    buffer_clear(&service->bytes);
    if (dead_letter_pack(request->message, class, reason, service->settings.message_limit, &service->bytes, err) != 0)
        return -1;
    while (delivery_dead_letter(service->delivery, request, service->dead_topic, buffer_text(&service->bytes), err) !=
           0)
        if (!wait_for_room(service, err))
            return -1;
    return 0;
}

static int send_response(struct service *service, struct request *request, struct score_response *response,
                         struct error *err)
{
    for (int attempt = 0;; attempt++) {
        buffer_clear(&service->bytes);
        if (codec_encode(service->codec, &score_response_type, response, &service->bytes, err) != 0)
            return -1;
        struct producer_message message = {.topic = service->settings.topics.scores,
                                           .key = response->request_id.data,
                                           .key_size = response->request_id.size,
                                           .value = service->bytes.data,
                                           .value_size = service->bytes.size};
        if (send_answer(service, request, &message, err) == 0)
            return 0;
        if (err->kind != ERROR_BAD_INPUT || attempt > 0)
            return -1;
        log_warn("score", "the answer to request " TEXT_FORMAT " does not fit: %s", TEXT_ARGS(response->request_id),
                 err->message);
        response->status = RESPONSE_ERROR;
        response->error = text_of("the answer is too large for its topic: ask for fewer candidates, or no explanation");
        response->candidates = NULL;
        response->candidate_count = 0;
    }
}

static int serve(struct service *service, struct request *request, struct error *err)
{
    const rd_kafka_message_t *message = request->message;
    struct score_request asked;
    struct score_response response;
    enum dead_letter_class class;
    arena_reset(&service->arena);
    if (message->len > service->settings.message_limit) {
        char reason[96];
        snprintf(reason, sizeof reason, "%zu bytes, but ingest.message_limit is %zu", message->len,
                 service->settings.message_limit);
        return bury(service, request, DEAD_TOO_LARGE, reason, err);
    }
    if (codec_decode(service->codec, &score_request_type, message->payload, message->len, &asked, &service->arena,
                     &class, err) != 0)
        return err->kind == ERROR_BAD_INPUT ? bury(service, request, class, err->message, err) : -1;
    if (scorer_score(service->scorer, &asked, clock_since_ms(request->arrived_ns), &service->arena, &response, err) !=
        0)
        return err->kind == ERROR_BAD_INPUT ? bury(service, request, DEAD_SEMANTIC, err->message, err) : -1;
    return send_response(service, request, &response, err);
}

int service_step(struct service *service, int timeout_ms, struct error *err)
{
    if (delivery_poll(service->delivery, 0, err) != 0)
        return -1;
    /* While answers are under way their reports are what to wait for, too: look at both in turn. */
    if (delivery_pending(service->delivery) > 0 && timeout_ms > 5)
        timeout_ms = 5;
    struct request *request = requests_next(service->requests, timeout_ms);
    if (request == NULL)
        return 0;
    if (serve(service, request, err) != 0) {
        requests_abandon(request);
        return -1;
    }
    return 0;
}

int service_drain(struct service *service, int64_t limit_ms, struct error *err)
{
    int64_t start_ns = clock_monotonic_ns();
    requests_pause(service->requests);
    while (requests_progress(service->requests).waiting > 0 && clock_since_ms(start_ns) < (double)limit_ms)
        if (service_step(service, 0, err) != 0)
            return -1;
    struct request *request;
    size_t left = 0;
    while ((request = requests_next(service->requests, 0)) != NULL) {
        requests_abandon(request);
        left++;
    }
    if (left > 0)
        log_warn("score", "%zu requests were left unanswered after %lld ms: another worker will answer them", left,
                 (long long)limit_ms);
    double rest_ms = (double)limit_ms - clock_since_ms(start_ns);
    return delivery_flush(service->delivery, rest_ms > 1000 ? (int)rest_ms : 1000, err);
}
