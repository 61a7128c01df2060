#include "stream/exactly_once.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/transaction.h"

enum {
    STEP_MS = 2000,        /* how soon a stop is seen while the broker is waited for */
    AGAIN_MS = 100,        /* between a failed transaction and the next */
    COMMITTED_MS = 5000,   /* asking for the group's offsets */
    REPEAT_LOG_MS = 10000, /* the same trouble is logged no more often */
    FOREVER_MS = 3600000,
};

struct parcels {
    struct parcel *first, **end; /* end: where the next one goes; NULL in an empty list */
    size_t count;
};

struct exactly_once {
    struct delivery_settings settings;
    struct requests *requests;
    struct transactions *transactions;
    char *probe_group;
    size_t size_limit; /* message.max.bytes */
    pthread_t thread;
    bool running;

    pthread_mutex_t mutex;   /* of what follows */
    pthread_cond_t wanted;   /* the thread has something to do */
    pthread_cond_t happened; /* it has done something */
    struct parcels held;     /* not in a transaction */
    size_t fresh;            /* of them, came since the last transaction was opened */
    int64_t due_ns;          /* when the next one is; 0: nothing to be due */
    bool flushing;           /* it is, as long as there is anything to commit */
    uint64_t rounds;         /* of the thread, whatever came of them */
    bool stopping, failed;
    struct error failure;
    struct delivery_totals totals;

    /* The thread's own. */
    int64_t complained_ns;
};

static void append(struct parcels *list, struct parcel *parcel)
{
    if (list->first == NULL)
        list->end = &list->first;
    parcel->next = NULL;
    *list->end = parcel;
    list->end = &parcel->next;
    list->count++;
}

static struct parcel *take_first(struct parcels *list)
{
    struct parcel *parcel = list->first;
    if (parcel == NULL)
        return NULL;
    list->first = parcel->next;
    list->count--;
    return parcel;
}

/* Mutex held. */
static void wait_until(struct exactly_once *exactly_once, pthread_cond_t *condition, int64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    pthread_cond_timedwait(condition, &exactly_once->mutex, &deadline);
}

static int64_t from_now(int ms)
{
    return clock_monotonic_ns() + (int64_t)ms * 1000000;
}

static bool is_stopping(struct exactly_once *exactly_once)
{
    pthread_mutex_lock(&exactly_once->mutex);
    bool stopping = exactly_once->stopping;
    pthread_mutex_unlock(&exactly_once->mutex);
    return stopping;
}

static void fail(struct exactly_once *exactly_once, const struct error *error)
{
    pthread_mutex_lock(&exactly_once->mutex);
    exactly_once->failure = *error;
    exactly_once->failed = true;
    pthread_cond_broadcast(&exactly_once->happened);
    pthread_mutex_unlock(&exactly_once->mutex);
}

/* After a failure: false when it is for good. */
static bool try_again(struct exactly_once *exactly_once, const struct error *error)
{
    if (error->kind == ERROR_FATAL) {
        fail(exactly_once, error);
        return false;
    }
    if (exactly_once->complained_ns == 0 || clock_since_ms(exactly_once->complained_ns) >= REPEAT_LOG_MS)
        log_warn("stream", "%s; trying again", error->message);
    else
        log_debug("stream", "%s; trying again", error->message);
    exactly_once->complained_ns = clock_monotonic_ns();
    pthread_mutex_lock(&exactly_once->mutex);
    if (!exactly_once->stopping)
        wait_until(exactly_once, &exactly_once->wanted, from_now(AGAIN_MS));
    pthread_mutex_unlock(&exactly_once->mutex);
    return true;
}

/* What becomes of parcels. */

static void count_done(struct delivery_totals *totals, const struct parcel *parcel)
{
    if (parcel->dead_class == PARCEL_ANSWER) {
        totals->answered++;
    } else {
        totals->dead_letters++;
        totals->dead_classes[parcel->dead_class]++;
    }
}

static void finish(struct exactly_once *exactly_once, struct parcels *done)
{
    pthread_mutex_lock(&exactly_once->mutex);
    for (const struct parcel *parcel = done->first; parcel != NULL; parcel = parcel->next)
        count_done(&exactly_once->totals, parcel);
    exactly_once->totals.pending -= done->count;
    pthread_mutex_unlock(&exactly_once->mutex);
    for (struct parcel *parcel; (parcel = take_first(done)) != NULL; parcel_free(parcel))
        requests_done(parcel->request);
}

static void drop(struct exactly_once *exactly_once, struct parcels *lost)
{
    pthread_mutex_lock(&exactly_once->mutex);
    exactly_once->totals.dropped += lost->count;
    exactly_once->totals.pending -= lost->count;
    pthread_mutex_unlock(&exactly_once->mutex);
    for (struct parcel *parcel; (parcel = take_first(lost)) != NULL; parcel_free(parcel))
        requests_abandon(parcel->request);
}

/* Back to those that wait, and soon due. */
static void put_back(struct exactly_once *exactly_once, struct parcels *batch)
{
    pthread_mutex_lock(&exactly_once->mutex);
    for (struct parcel *parcel; (parcel = take_first(batch)) != NULL;)
        append(&exactly_once->held, parcel);
    exactly_once->due_ns = from_now(AGAIN_MS);
    pthread_mutex_unlock(&exactly_once->mutex);
}

/* A transaction. */

/*
 * Takes out of `held` what is ready and what is lost. All at one moment, and all that is ready: an offset may be
 * committed only together with every answer before it.
 */
static int collect(struct exactly_once *exactly_once, struct parcels *ready, struct parcels *lost, struct error *err)
{
    struct parcels *held = &exactly_once->held;
    pthread_mutex_lock(&exactly_once->mutex);
    size_t count = held->count, i = 0;
    struct request **list = calloc(count + 1, sizeof(struct request *));
    enum request_standing *standing = calloc(count + 1, sizeof *standing);
    if (list != NULL && standing != NULL) {
        for (const struct parcel *parcel = held->first; parcel != NULL; parcel = parcel->next)
            list[i++] = parcel->request;
        requests_standing(exactly_once->requests, list, count, standing);
        for (i = 0; i < count; i++) {
            struct parcel *parcel = take_first(held);
            append(standing[i] == REQUEST_READY ? ready : standing[i] == REQUEST_LOST ? lost : held, parcel);
        }
        exactly_once->fresh = 0;
        exactly_once->due_ns = 0;
    }
    pthread_mutex_unlock(&exactly_once->mutex);
    int rc = list != NULL && standing != NULL ? 0 : error_set(err, ERROR_FATAL, "out of memory for a transaction");
    free(list);
    free(standing);
    return rc;
}

static rd_kafka_topic_partition_list_t *offsets_behind(const struct parcels *batch)
{
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(16);
    for (const struct parcel *parcel = batch->first; parcel != NULL; parcel = parcel->next) {
        const rd_kafka_message_t *message = parcel->request->message;
        const char *topic = rd_kafka_topic_name(message->rkt);
        rd_kafka_topic_partition_t *offset = rd_kafka_topic_partition_list_find(offsets, topic, message->partition);
        if (offset == NULL) {
            offset = rd_kafka_topic_partition_list_add(offsets, topic, message->partition);
            offset->offset = 0;
        }
        if (offset->offset <= message->offset)
            offset->offset = message->offset + 1;
    }
    return offsets;
}

/* Until the broker has settled what the last producer left open. False: stopping, or failed for good. */
static bool settle(struct exactly_once *exactly_once)
{
    struct error err;
    while (transactions_begin(exactly_once->transactions, STEP_MS, &err) != 0)
        if (!try_again(exactly_once, &err) || is_stopping(exactly_once))
            return false;
    return true;
}

/* What the group has committed of the batch's partitions, in *offsets. */
static bool ask_committed(struct exactly_once *exactly_once, rd_kafka_topic_partition_list_t *offsets)
{
    struct error err;
    while (requests_committed(exactly_once->requests, offsets, COMMITTED_MS, &err) != 0)
        if (!try_again(exactly_once, &err) || is_stopping(exactly_once))
            return false;
    return true;
}

/*
 * The broker may have committed it and have died before it could say so. Once it is settled the group's offsets tell,
 * as they were in the transaction. False: not to be learned any more, whoever owns the partitions next will.
 */
static bool divide(struct exactly_once *exactly_once, rd_kafka_topic_partition_list_t *offsets, struct parcels *batch)
{
    if (!settle(exactly_once) || !ask_committed(exactly_once, offsets))
        return false;
    struct parcels done = {0}, undone = {0};
    for (struct parcel *parcel; (parcel = take_first(batch)) != NULL;) {
        const rd_kafka_message_t *message = parcel->request->message;
        const rd_kafka_topic_partition_t *offset =
            rd_kafka_topic_partition_list_find(offsets, rd_kafka_topic_name(message->rkt), message->partition);
        bool committed = offset->offset > message->offset && requests_ours(parcel->request);
        append(committed ? &done : &undone, parcel);
    }
    log_info("stream", "an unclear transaction is settled: %zu answers were committed, %zu were not", done.count,
             undone.count);
    finish(exactly_once, &done);
    while (undone.count > 0)
        append(batch, take_first(&undone));
    return true;
}

/* Those that the broker found too large are made smaller. */
static void shrink_refused(struct exactly_once *exactly_once, struct parcels *batch)
{
    const struct delivery_settings *settings = &exactly_once->settings;
    struct error err;
    for (struct parcel *parcel = batch->first; parcel != NULL; parcel = parcel->next) {
        if (!parcel->refused)
            continue;
        pthread_mutex_lock(&exactly_once->mutex);
        exactly_once->totals.refused += parcel->suspect && parcel->dead_class == PARCEL_ANSWER;
        pthread_mutex_unlock(&exactly_once->mutex);
        if (parcel_shrink(parcel, settings->dead_topic, settings->message_limit, "larger than its topic takes", &err) !=
            0)
            fail(exactly_once, &err);
    }
}

static void recover(struct exactly_once *exactly_once, rd_kafka_topic_partition_list_t *offsets, bool unclear,
                    struct parcels *batch, const struct error *error)
{
    pthread_mutex_lock(&exactly_once->mutex);
    exactly_once->totals.unclear += unclear;
    exactly_once->totals.aborted += !unclear;
    pthread_mutex_unlock(&exactly_once->mutex);
    if (try_again(exactly_once, error) && (!unclear || divide(exactly_once, offsets, batch)))
        shrink_refused(exactly_once, batch);
    put_back(exactly_once, batch);
}

static void commit(struct exactly_once *exactly_once, struct parcels *batch,
                   const rd_kafka_consumer_group_metadata_t *membership)
{
    bool unclear;
    struct error err;
    rd_kafka_topic_partition_list_t *offsets = offsets_behind(batch);
    if (transactions_commit(exactly_once->transactions, batch->first, offsets, membership, &unclear, &err) == 0) {
        pthread_mutex_lock(&exactly_once->mutex);
        exactly_once->totals.transactions++;
        pthread_mutex_unlock(&exactly_once->mutex);
        finish(exactly_once, batch);
    } else {
        recover(exactly_once, offsets, unclear, batch, &err);
    }
    rd_kafka_topic_partition_list_destroy(offsets);
}

static void work(struct exactly_once *exactly_once)
{
    struct parcels ready = {0}, lost = {0};
    struct error err;
    if (!settle(exactly_once))
        return;
    /* Before collect(): see requests_membership(). */
    rd_kafka_consumer_group_metadata_t *membership = requests_membership(exactly_once->requests);
    if (collect(exactly_once, &ready, &lost, &err) != 0)
        fail(exactly_once, &err);
    drop(exactly_once, &lost);
    if (ready.count > 0)
        commit(exactly_once, &ready, membership);
    rd_kafka_consumer_group_metadata_destroy(membership);
}

/* The thread. */

/* Mutex held. Whether a transaction is due, and until when to sleep if not. */
static bool is_due(const struct exactly_once *exactly_once, int64_t *wake_ns)
{
    int64_t now_ns = clock_monotonic_ns();
    *wake_ns = exactly_once->due_ns != 0 ? exactly_once->due_ns : now_ns + (int64_t)FOREVER_MS * 1000000;
    if (exactly_once->flushing)
        return true;
    return exactly_once->due_ns != 0 &&
           (now_ns >= exactly_once->due_ns || exactly_once->fresh >= exactly_once->settings.batch_requests);
}

static void serve(struct exactly_once *exactly_once)
{
    int64_t wake_ns;
    pthread_mutex_lock(&exactly_once->mutex);
    while (!exactly_once->stopping && !exactly_once->failed) {
        if (!is_due(exactly_once, &wake_ns)) {
            wait_until(exactly_once, &exactly_once->wanted, wake_ns);
            continue;
        }
        pthread_mutex_unlock(&exactly_once->mutex);
        work(exactly_once);
        pthread_mutex_lock(&exactly_once->mutex);
        exactly_once->rounds++;
        exactly_once->flushing &= exactly_once->due_ns != 0; /* something came, or came back, meanwhile */
        pthread_cond_broadcast(&exactly_once->happened);
    }
    pthread_mutex_unlock(&exactly_once->mutex);
}

static bool probe(struct exactly_once *exactly_once)
{
    struct error err;
    for (;;) {
        if (!settle(exactly_once))
            return false;
        if (transactions_probe(exactly_once->transactions, exactly_once->settings.requests_topic, 0,
                               exactly_once->probe_group, &err) == 0)
            return true;
        if (!try_again(exactly_once, &err) || is_stopping(exactly_once))
            return false;
    }
}

static void *run(void *argument)
{
    struct exactly_once *exactly_once = argument;
    if (probe(exactly_once)) {
        log_info("stream", "the broker honours transactions: answers are delivered exactly once");
        serve(exactly_once);
    }
    return NULL;
}

/* The interface. */

static char *join(const char *first, const char *second, const char *third)
{
    size_t size = strlen(first) + strlen(second) + strlen(third) + 1;
    char *joined = malloc(size);
    if (joined != NULL)
        snprintf(joined, size, "%s%s%s", first, second, third);
    return joined;
}

static int start(struct exactly_once *exactly_once, struct error *err)
{
    const struct delivery_settings *settings = &exactly_once->settings;
    const char *group = kafka_property_value(&settings->kafka, "group.id");
    group = group != NULL ? group : settings->group_id;
    char *id = join(group, "-", settings->instance_id);
    exactly_once->probe_group = join(group, "-probe-", settings->instance_id);
    int rc = id != NULL && exactly_once->probe_group != NULL
                 ? transactions_create(&exactly_once->transactions, &settings->kafka, id, err)
                 : error_set(err, ERROR_FATAL, "out of memory while preparing transactions");
    free(id);
    if (rc != 0)
        return -1;
    exactly_once->size_limit = transactions_size_limit(exactly_once->transactions); /* the thread's from now on */
    if (pthread_create(&exactly_once->thread, NULL, run, exactly_once) != 0)
        return error_set(err, ERROR_FATAL, "no thread for transactions");
    exactly_once->running = true;
    return 0;
}

int exactly_once_create(struct exactly_once **result, const struct delivery_settings *settings,
                        struct requests *requests, struct error *err)
{
    struct exactly_once *exactly_once = calloc(1, sizeof *exactly_once);
    if (exactly_once == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while preparing transactions");
    exactly_once->settings = *settings;
    exactly_once->requests = requests;
    pthread_mutex_init(&exactly_once->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&exactly_once->wanted, &attributes);
    pthread_cond_init(&exactly_once->happened, &attributes);
    pthread_condattr_destroy(&attributes);
    if (start(exactly_once, err) != 0) {
        exactly_once_destroy(exactly_once);
        return -1;
    }
    *result = exactly_once;
    return 0;
}

void exactly_once_destroy(struct exactly_once *exactly_once)
{
    if (exactly_once == NULL)
        return;
    pthread_mutex_lock(&exactly_once->mutex);
    exactly_once->stopping = true;
    pthread_cond_broadcast(&exactly_once->wanted);
    pthread_mutex_unlock(&exactly_once->mutex);
    if (exactly_once->running)
        pthread_join(exactly_once->thread, NULL);
    transactions_destroy(exactly_once->transactions);
    for (struct parcel *parcel; (parcel = take_first(&exactly_once->held)) != NULL; parcel_free(parcel))
        requests_abandon(parcel->request);
    pthread_cond_destroy(&exactly_once->wanted);
    pthread_cond_destroy(&exactly_once->happened);
    pthread_mutex_destroy(&exactly_once->mutex);
    free(exactly_once->probe_group);
    free(exactly_once);
}

/* Mutex held. */
static void hold(struct exactly_once *exactly_once, struct parcel *parcel)
{
    append(&exactly_once->held, parcel);
    exactly_once->totals.pending++;
    exactly_once->fresh++;
    bool first = exactly_once->due_ns == 0;
    if (first)
        exactly_once->due_ns = from_now(exactly_once->settings.batch_ms);
    if (first || exactly_once->fresh == exactly_once->settings.batch_requests)
        pthread_cond_signal(&exactly_once->wanted);
}

int exactly_once_take(struct exactly_once *exactly_once, struct parcel *parcel, struct error *err)
{
    size_t size = parcel->bytes.size;
    size_t limit = exactly_once->size_limit;
    if (size > limit) {
        error_set(err, ERROR_BAD_INPUT, "message to %.100s: %zu bytes, but message.max.bytes is %zu", parcel->topic,
                  size, limit);
        parcel_free(parcel);
        return -1;
    }
    pthread_mutex_lock(&exactly_once->mutex);
    /* Said and kept at one moment, so that no transaction has the offset without the answer. */
    bool ours = requests_answered(parcel->request);
    if (ours)
        hold(exactly_once, parcel);
    exactly_once->totals.dropped += !ours;
    pthread_mutex_unlock(&exactly_once->mutex);
    if (!ours) {
        requests_abandon(parcel->request);
        parcel_free(parcel);
    }
    return 0;
}

/* Mutex held. */
static int answer_of(const struct exactly_once *exactly_once, struct error *err)
{
    if (!exactly_once->failed)
        return 0;
    *err = exactly_once->failure;
    return -1;
}

int exactly_once_wait(struct exactly_once *exactly_once, int timeout_ms, struct error *err)
{
    int64_t end_ns = from_now(timeout_ms);
    pthread_mutex_lock(&exactly_once->mutex);
    uint64_t rounds = exactly_once->rounds;
    while (!exactly_once->failed && exactly_once->rounds == rounds && clock_monotonic_ns() < end_ns)
        wait_until(exactly_once, &exactly_once->happened, end_ns);
    int rc = answer_of(exactly_once, err);
    pthread_mutex_unlock(&exactly_once->mutex);
    return rc;
}

int exactly_once_flush(struct exactly_once *exactly_once, int timeout_ms, struct error *err)
{
    int64_t end_ns = from_now(timeout_ms);
    pthread_mutex_lock(&exactly_once->mutex);
    exactly_once->flushing = true;
    pthread_cond_signal(&exactly_once->wanted);
    exactly_once->flushing &= exactly_once->totals.pending > 0;
    while (!exactly_once->failed && exactly_once->flushing && clock_monotonic_ns() < end_ns)
        wait_until(exactly_once, &exactly_once->happened, end_ns);
    bool unfinished = exactly_once->flushing;
    exactly_once->flushing = false;
    size_t left = exactly_once->totals.pending;
    int rc = answer_of(exactly_once, err);
    pthread_mutex_unlock(&exactly_once->mutex);
    if (rc == 0 && unfinished)
        rc = error_set(err, ERROR_RETRY, "%zu answers are not committed after %d ms", left, timeout_ms);
    return rc;
}

struct delivery_totals exactly_once_totals(struct exactly_once *exactly_once)
{
    pthread_mutex_lock(&exactly_once->mutex);
    struct delivery_totals totals = exactly_once->totals;
    pthread_mutex_unlock(&exactly_once->mutex);
    return totals;
}
