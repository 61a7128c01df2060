#include "stream/delivery.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/exactly_once.h"
#include "stream/parcel.h"

enum {
    AGAIN_MS = 1000, /* the broker may take a message later: how much later */
    REPEAT_LOG_MS = 10000,
    FLUSH_STEP_MS = 50,
    ALONE_MS = 1000, /* to have a batch to oneself: what others, and it, may take */
};

struct delivery {
    struct delivery_settings settings;
    struct requests *requests;
    struct exactly_once *exactly_once; /* NULL: at least once, by what follows */
    struct producer *producer;
    struct parcel *again; /* to be sent once more; the caller's thread */
    int64_t again_ns;     /* not before */
    int64_t complained_ns;
    struct error failure;
    bool failed;
    pthread_mutex_t mutex; /* of the totals */
    struct delivery_totals totals;
};

/* At least once. */

static void count_done(struct delivery *delivery, const struct parcel *parcel)
{
    pthread_mutex_lock(&delivery->mutex);
    delivery->totals.pending--;
    if (parcel->dead_class == PARCEL_ANSWER) {
        delivery->totals.answered++;
    } else {
        delivery->totals.dead_letters++;
        delivery->totals.dead_classes[parcel->dead_class]++;
    }
    pthread_mutex_unlock(&delivery->mutex);
}

static void finish(struct delivery *delivery, struct parcel *parcel)
{
    count_done(delivery, parcel);
    requests_done(parcel->request);
    parcel_free(parcel);
}

static void fail(struct delivery *delivery, const struct error *error)
{
    if (!delivery->failed)
        delivery->failure = *error;
    delivery->failed = true;
}

static void send_later(struct delivery *delivery, struct parcel *parcel, int ms)
{
    parcel->next = delivery->again;
    delivery->again = parcel;
    delivery->again_ns = clock_monotonic_ns() + (int64_t)ms * 1000000;
}

static void take_refusal(struct delivery *delivery, struct parcel *parcel, const char *reason)
{
    struct error err;
    pthread_mutex_lock(&delivery->mutex);
    delivery->totals.refused += parcel->suspect && parcel->dead_class == PARCEL_ANSWER;
    pthread_mutex_unlock(&delivery->mutex);
    if (parcel_shrink(parcel, delivery->settings.dead_topic, delivery->settings.message_limit, reason, &err) != 0)
        fail(delivery, &err);
    if (parcel->lost)
        finish(delivery, parcel);
    else
        send_later(delivery, parcel, 0);
}

static void take_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                        const struct error *error)
{
    (void)partition, (void)offset;
    struct delivery *delivery = context;
    struct parcel *parcel = opaque;
    if (error == NULL) {
        finish(delivery, parcel);
    } else if (error->kind == ERROR_BAD_INPUT) {
        take_refusal(delivery, parcel, error->message);
    } else {
        if (error->kind == ERROR_FATAL)
            fail(delivery, error);
        else if (delivery->complained_ns == 0 || clock_since_ms(delivery->complained_ns) >= REPEAT_LOG_MS) {
            log_warn("stream", "answers to %s wait: %s", topic, error->message);
            delivery->complained_ns = clock_monotonic_ns();
        }
        send_later(delivery, parcel, AGAIN_MS);
    }
}

static void send_again(struct delivery *delivery)
{
    if (delivery->again == NULL || delivery->failed || clock_monotonic_ns() < delivery->again_ns)
        return;
    struct parcel *parcel = delivery->again;
    delivery->again = NULL;
    while (parcel != NULL) {
        struct parcel *next = parcel->next;
        struct error err;
        if (parcel->suspect)
            producer_flush(delivery->producer, ALONE_MS, &err);
        if (parcel_send(parcel, delivery->producer, &err) != 0) {
            if (err.kind == ERROR_BAD_INPUT)
                take_refusal(delivery, parcel, err.message);
            else
                send_later(delivery, parcel, FLUSH_STEP_MS);
            if (err.kind == ERROR_FATAL)
                fail(delivery, &err);
        } else if (parcel->suspect) {
            producer_flush(delivery->producer, ALONE_MS, &err);
        }
        parcel = next;
    }
}

static int send_first(struct delivery *delivery, struct parcel *parcel, struct error *err)
{
    pthread_mutex_lock(&delivery->mutex); /* first: the report may come at once */
    delivery->totals.pending++;
    pthread_mutex_unlock(&delivery->mutex);
    if (parcel_send(parcel, delivery->producer, err) == 0)
        return 0;
    pthread_mutex_lock(&delivery->mutex);
    delivery->totals.pending--;
    pthread_mutex_unlock(&delivery->mutex);
    parcel_free(parcel);
    return -1;
}

static int answer_of(const struct delivery *delivery, struct error *err)
{
    if (!delivery->failed)
        return 0;
    *err = delivery->failure;
    return error_wrap(err, "answers");
}

/* The interface. */

int delivery_create(struct delivery **result, const struct delivery_settings *settings, struct requests *requests,
                    struct error *err)
{
    struct delivery *delivery = calloc(1, sizeof *delivery);
    if (delivery == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while preparing the delivery of answers");
    delivery->settings = *settings;
    delivery->requests = requests;
    pthread_mutex_init(&delivery->mutex, NULL);
    int rc = settings->exactly_once
                 ? exactly_once_create(&delivery->exactly_once, settings, requests, err)
                 : producer_create(&delivery->producer, &settings->kafka, take_report, delivery, err);
    if (rc != 0) {
        delivery_destroy(delivery);
        return -1;
    }
    *result = delivery;
    return 0;
}

void delivery_destroy(struct delivery *delivery)
{
    if (delivery == NULL)
        return;
    exactly_once_destroy(delivery->exactly_once);
    producer_destroy(delivery->producer); /* reports what is left: it waits in `again` then */
    while (delivery->again != NULL) {
        struct parcel *parcel = delivery->again;
        delivery->again = parcel->next;
        requests_abandon(parcel->request);
        parcel_free(parcel);
    }
    pthread_mutex_destroy(&delivery->mutex);
    free(delivery);
}

/* Owns the parcel; the request stays the caller's on -1. */
static int deliver(struct delivery *delivery, struct parcel *parcel, struct error *err)
{
    if (delivery->exactly_once != NULL)
        return exactly_once_take(delivery->exactly_once, parcel, err);
    if (requests_ours(parcel->request))
        return send_first(delivery, parcel, err);
    pthread_mutex_lock(&delivery->mutex);
    delivery->totals.dropped++;
    pthread_mutex_unlock(&delivery->mutex);
    requests_abandon(parcel->request);
    parcel_free(parcel);
    return 0;
}

int delivery_answer(struct delivery *delivery, struct request *request, const struct producer_message *message,
                    struct error *err)
{
    struct parcel *parcel;
    if (parcel_answer(&parcel, request, message, err) != 0)
        return -1;
    return deliver(delivery, parcel, err);
}

int delivery_dead_letter(struct delivery *delivery, struct request *request, const char *topic, struct text packed,
                         struct error *err)
{
    struct parcel *parcel;
    if (parcel_letter(&parcel, request, topic, packed, err) != 0)
        return -1;
    return deliver(delivery, parcel, err);
}

int delivery_poll(struct delivery *delivery, int timeout_ms, struct error *err)
{
    if (delivery->exactly_once != NULL)
        return exactly_once_wait(delivery->exactly_once, timeout_ms, err);
    if (delivery->again != NULL && timeout_ms > FLUSH_STEP_MS)
        timeout_ms = FLUSH_STEP_MS;
    producer_poll(delivery->producer, timeout_ms);
    send_again(delivery);
    return answer_of(delivery, err);
}

int delivery_flush(struct delivery *delivery, int timeout_ms, struct error *err)
{
    if (delivery->exactly_once != NULL)
        return exactly_once_flush(delivery->exactly_once, timeout_ms, err);
    int64_t start_ns = clock_monotonic_ns();
    while (delivery_pending(delivery) > 0 && clock_since_ms(start_ns) < timeout_ms) {
        struct error unfinished;
        producer_flush(delivery->producer, FLUSH_STEP_MS, &unfinished);
        send_again(delivery);
        if (answer_of(delivery, err) != 0)
            return -1;
    }
    size_t left = delivery_pending(delivery);
    if (left == 0)
        return 0;
    return error_set(err, ERROR_RETRY, "%zu answers are not acknowledged after %d ms", left, timeout_ms);
}

size_t delivery_pending(struct delivery *delivery)
{
    return delivery_totals(delivery).pending;
}

struct delivery_totals delivery_totals(struct delivery *delivery)
{
    if (delivery->exactly_once != NULL)
        return exactly_once_totals(delivery->exactly_once);
    pthread_mutex_lock(&delivery->mutex);
    struct delivery_totals totals = delivery->totals;
    pthread_mutex_unlock(&delivery->mutex);
    totals.producer_queue = producer_pending(delivery->producer);
    return totals;
}
