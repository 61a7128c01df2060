#include "stream/requests_state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    FORCED_MAX = 4,
    POLL_MS = 20,             /* the longest the poll thread sleeps: how soon it sees a rebalance, stop and answers */
    FULL_POLL_MS = 2,         /* the same while the queue is full: how soon it sees room */
    COMMITTED_MS = 5000,      /* what an assignment waits for the group's offsets, … */
    COMMITTED_TRIES = 60,     /* … how often … */
    COMMITTED_PAUSE_MS = 200, /* … and with what between */
    CLOSE_MS = 3000,          /* what stopping waits for the group to be left */
};

static void end_with(struct requests *requests, enum error_kind kind, const char *what, const char *why)
{
    pthread_mutex_lock(&requests->mutex);
    if (!requests->ended)
        error_set(&requests->failure, kind, "requests from %.60s: %s%.150s", requests->topic, what, why);
    requests->ended = true;
    pthread_mutex_unlock(&requests->mutex);
}

static bool is_stopping(struct requests *requests)
{
    pthread_mutex_lock(&requests->mutex);
    bool stopping = requests->stopping;
    pthread_mutex_unlock(&requests->mutex);
    return stopping;
}

/* Assignment. */

static int begin_partitions(struct requests *requests, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        size_t count = (size_t)list->elems[i].partition + 1;
        if (count > requests->partition_count) {
            if (array_reserve(&requests->partitions, &requests->partition_capacity, count,
                              sizeof *requests->partitions) != 0)
                return -1;
            memset(requests->partitions + requests->partition_count, 0,
                   (count - requests->partition_count) * sizeof *requests->partitions);
            requests->partition_count = count;
        }
        struct partition *partition = &requests->partitions[count - 1];
        window_free(&partition->window);
        *partition = (struct partition){.assigned = true, .assignment = ++requests->last_assignment};
        partition->committed = list->elems[i].offset > 0 ? list->elems[i].offset : 0;
    }
    requests->rebalances++;
    return 0;
}

static void end_partitions(struct requests *requests, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        size_t number = (size_t)list->elems[i].partition;
        if (number < requests->partition_count) {
            window_free(&requests->partitions[number].window);
            requests->partitions[number] = (struct partition){.assigned = false};
        }
    }
}

/*
 * Before the assignment begins, so that no message comes by way of consumer_poll(): that one must be called all the
 * time, while messages are taken only when there is room. Pausing the partitions instead costs up to a second at every
 * resume, as librdkafka 2.0.2 looks for new work of its broker threads no more often.
 */
static void collect_messages(struct requests *requests, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        rd_kafka_queue_t *queue =
            rd_kafka_queue_get_partition(requests->client, requests->topic, list->elems[i].partition);
        if (queue != NULL) {
            rd_kafka_queue_forward(queue, requests->messages);
            rd_kafka_queue_destroy(queue);
        }
    }
}

/*
 * A partition that the group has never committed begins at its oldest request: nothing that a client has sent is passed
 * over. One whose committed offset the log no longer holds is then an error (auto.offset.reset=error) and not silence.
 */
static void begin_at_the_oldest(struct requests *requests, rd_kafka_topic_partition_list_t *list)
{
    struct error err;
    for (int tries = 0; tries < COMMITTED_TRIES && !is_stopping(requests); tries++) {
        if (requests_committed(requests, list, COMMITTED_MS, &err) == 0) {
            for (int i = 0; i < list->cnt; i++)
                if (list->elems[i].offset < 0)
                    list->elems[i].offset = RD_KAFKA_OFFSET_BEGINNING;
            return;
        }
        requests_log_trouble(requests, RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT, err.message);
        usleep(COMMITTED_PAUSE_MS * 1000);
    }
    for (int i = 0; i < list->cnt; i++) /* librdkafka will ask again */
        list->elems[i].offset = RD_KAFKA_OFFSET_INVALID;
}

static void assign(struct requests *requests, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    if (requests->reset_is_error)
        begin_at_the_oldest(requests, list);
    pthread_mutex_lock(&requests->mutex);
    int rc = begin_partitions(requests, list);
    pthread_mutex_unlock(&requests->mutex);
    if (rc != 0) {
        end_with(requests, ERROR_FATAL, "out of memory", "");
        return;
    }
    collect_messages(requests, list);
    if (cooperative)
        rd_kafka_error_destroy(rd_kafka_incremental_assign(requests->client, list));
    else
        rd_kafka_assign(requests->client, list);
}

/* Quick, whatever is unfinished: a slow one would cost the member its place in the group. */
static void unassign(struct requests *requests, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    if (!requests->transactional && !rd_kafka_assignment_lost(requests->client))
        requests_commit(requests, list);
    pthread_mutex_lock(&requests->mutex);
    end_partitions(requests, list);
    pthread_mutex_unlock(&requests->mutex);
    if (cooperative)
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(requests->client, list));
    else
        rd_kafka_assign(requests->client, NULL);
}

static void rebalanced(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                       void *opaque)
{
    struct requests *requests = opaque;
    const char *protocol = rd_kafka_rebalance_protocol(client);
    bool cooperative = protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        log_info("stream", "%s: %d partitions assigned", requests->topic, list->cnt);
        assign(requests, list, cooperative);
    } else {
        log_info("stream", "%s: %d partitions revoked", requests->topic, list->cnt);
        unassign(requests, list, cooperative);
    }
}

/* Taking messages. */

/* Owns the message. One that is not taken stays outside the window, and so does all behind it. */
static void take_message(struct requests *requests, rd_kafka_message_t *message)
{
    struct request *request = calloc(1, sizeof *request);
    size_t number = (size_t)message->partition;
    bool taken = false, failed = request == NULL;
    pthread_mutex_lock(&requests->mutex);
    if (!failed && !requests->closed && number < requests->partition_count) {
        struct partition *partition = &requests->partitions[number];
        bool fresh = partition->assigned && message->offset >= partition->next;
        failed = fresh && window_enter(&partition->window, message->offset) != 0;
        if (fresh && !failed) {
            *request = (struct request){message, clock_monotonic_ns(), requests, partition->assignment};
            atomic_fetch_add(&requests->unfinished, 1);
            atomic_fetch_add(&requests->unfinished_bytes, requests_size(message));
            partition->next = message->offset + 1;
            requests->taken++;
            taken = queue_try_push(requests->queue, request);
            failed = !taken;
        }
    }
    pthread_mutex_unlock(&requests->mutex);
    if (!taken && request != NULL && request->owner != NULL) {
        requests_free(request);
    } else if (!taken) {
        free(request);
        rd_kafka_message_destroy(message);
    }
    if (failed)
        end_with(requests, ERROR_FATAL, "no memory, or no room in the queue", "");
}

static void take_trouble(struct requests *requests, const rd_kafka_message_t *message)
{
    const char *reason = rd_kafka_message_errstr(message);
    char fatal[150];
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        return;
    case RD_KAFKA_RESP_ERR__FATAL:
        if (rd_kafka_fatal_error(requests->client, fatal, sizeof fatal) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
            end_with(requests, ERROR_FATAL, "another worker has our name in the group: give each its own instance_id ",
                     "and state.dir");
        else
            end_with(requests, ERROR_FATAL, "", fatal);
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        end_with(requests, ERROR_FATAL, "the log no longer holds the committed offset: ", reason);
        return;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        end_with(requests, ERROR_FATAL, "", reason);
        return;
    default:
        requests_log_trouble(requests, message->err, reason);
    }
}

static void take(struct requests *requests, rd_kafka_message_t *message)
{
    if (message == NULL)
        return;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        take_message(requests, message);
        return;
    }
    take_trouble(requests, message);
    rd_kafka_message_destroy(message);
}

/* Requests leave the queue early and are done late: it is their number, and not the queue's, that memory depends on. */
static bool all_hands_full(struct requests *requests)
{
    return (requests->unfinished_limit != 0 && atomic_load(&requests->unfinished) >= requests->unfinished_limit) ||
           (requests->unfinished_bytes_limit != 0 &&
            atomic_load(&requests->unfinished_bytes) >= requests->unfinished_bytes_limit);
}

/* False: the thread must end. *room: the queue takes one more; only this thread pushes, so it stays so. */
static bool look_around(struct requests *requests, bool *room)
{
    pthread_mutex_lock(&requests->mutex);
    requests->full = queue_size(requests->queue) == requests->queue_capacity || all_hands_full(requests);
    *room = !requests->full && !requests->closed;
    bool run = !requests->stopping && !requests->ended;
    pthread_mutex_unlock(&requests->mutex);
    return run;
}

static void *poll_thread(void *argument)
{
    struct requests *requests = argument;
    bool room;
    while (look_around(requests, &room)) {
        requests_commit_when_due(requests);
        if (room)
            take(requests, rd_kafka_consume_queue(requests->messages, POLL_MS));
        take(requests, rd_kafka_consumer_poll(requests->client, room ? 0 : FULL_POLL_MS));
    }
    requests_commit_finally(requests);
    kafka_close_consumer(requests->client, CLOSE_MS);
    return NULL;
}

/* The interface. */

static int subscribe(struct requests *requests, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, requests->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(requests->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "requests from %.100s: %s", requests->topic, rd_kafka_err2str(code));
    return 0;
}

/* What must be so, in forced[FORCED_MAX]; returns how many. */
static size_t force(const struct requests_settings *settings, struct property *forced)
{
    size_t count = 0;
    forced[count++] = (struct property){"enable.auto.commit", "false"};
    forced[count++] = (struct property){"enable.auto.offset.store", "false"};
    if (settings->transactional) /* committed offsets, too, are asked for as this says */
        forced[count++] = (struct property){"isolation.level", "read_committed"};
    /* A user's own name for the member is as good. */
    if (settings->instance != NULL && kafka_property_value(&settings->kafka, "group.instance.id") == NULL)
        forced[count++] = (struct property){"group.instance.id", settings->instance};
    return count;
}

static int open_client(struct requests *requests, const struct requests_settings *settings, struct error *err)
{
    struct property forced[FORCED_MAX];
    size_t forced_count = force(settings, forced);
    if (settings->transactional && settings->instance == NULL &&
        kafka_property_value(&settings->kafka, "group.instance.id") == NULL)
        return error_set(err, ERROR_FATAL, "requests from %.100s: transactions need a group.instance.id",
                         settings->topic);
    const char *reset = kafka_property_value(&settings->kafka, "auto.offset.reset");
    requests->reset_is_error = reset == NULL || strcmp(reset, "error") == 0;
    const struct property defaults[] = {
        {"group.id", settings->group_id},
        {"auto.offset.reset", "error"},
        {"topic.metadata.refresh.interval.ms", "10000"}, /* how late a topic made after our start is seen */
        {"reconnect.backoff.max.ms", "1000"},            /* and how late a broker that is back */
        /* What is fetched ahead: no less than is answered in a second, as librdkafka looks at it so often; its own
         * 100,000 messages a partition and 64 MiB are far more. */
        {"queued.min.messages", "10000"},
        {"queued.max.messages.kbytes", "8192"},
    };
    struct kafka_settings own = settings->kafka;
    struct property *properties = kafka_properties_over(defaults, sizeof defaults / sizeof *defaults, &settings->kafka,
                                                        NULL, 0, &own.property_count);
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening the request consumer");
    own.properties = properties;
    int rc = kafka_create_client(&requests->client, RD_KAFKA_CONSUMER, &own, forced, forced_count, NULL, rebalanced,
                                 requests, err);
    free(properties);
    if (rc != 0)
        return -1;
    requests->messages = rd_kafka_queue_new(requests->client);
    requests->commit_results = rd_kafka_queue_new(requests->client);
    return subscribe(requests, err);
}

static void free_requests(struct requests *requests)
{
    for (struct request *request; requests->queue && (request = queue_pop(requests->queue, 0)) != NULL;)
        requests_free(request);
    queue_destroy(requests->queue);
    if (requests->messages != NULL)
        rd_kafka_queue_destroy(requests->messages);
    if (requests->commit_results != NULL)
        rd_kafka_queue_destroy(requests->commit_results);
    kafka_destroy_consumer(requests->client);
    for (size_t i = 0; i < requests->partition_count; i++)
        window_free(&requests->partitions[i].window);
    free(requests->partitions);
    free(requests->topic);
    pthread_mutex_destroy(&requests->mutex);
    free(requests);
}

int requests_start(struct requests **requests, const struct requests_settings *settings, struct error *err)
{
    struct requests *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the request consumer");
    pthread_mutex_init(&made->mutex, NULL);
    made->transactional = settings->transactional;
    made->unfinished_limit = settings->unfinished_limit;
    made->unfinished_bytes_limit = settings->unfinished_bytes;
    made->queue_capacity = settings->queue_capacity;
    made->queue = queue_create(settings->queue_capacity);
    made->topic = strdup(settings->topic);
    if (made->queue == NULL || made->topic == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while starting the request consumer");
        goto failed;
    }
    if (open_client(made, settings, err) != 0)
        goto failed;
    if (pthread_create(&made->thread, NULL, poll_thread, made) != 0) {
        error_set(err, ERROR_FATAL, "no thread for the request consumer");
        goto failed;
    }
    *requests = made;
    return 0;
failed:
    free_requests(made);
    return -1;
}

struct request *requests_next(struct requests *requests, int timeout_ms)
{
    int64_t start = clock_monotonic_ns();
    for (;;) {
        int left = timeout_ms - (int)clock_since_ms(start);
        struct request *request = queue_pop(requests->queue, left > 0 ? left : 0);
        if (request == NULL)
            return NULL;
        pthread_mutex_lock(&requests->mutex);
        bool ours = requests_partition(requests, request) != NULL;
        pthread_mutex_unlock(&requests->mutex);
        if (ours)
            return request;
        requests_free(request); /* the partition was taken away: its next owner answers */
    }
}

void requests_pause(struct requests *requests)
{
    pthread_mutex_lock(&requests->mutex);
    requests->closed = true;
    pthread_mutex_unlock(&requests->mutex);
}

bool requests_alive(struct requests *requests, struct error *err)
{
    pthread_mutex_lock(&requests->mutex);
    bool alive = !requests->ended;
    if (!alive)
        *err = requests->failure;
    pthread_mutex_unlock(&requests->mutex);
    return alive;
}

/* From what the last fetch has told: asking the broker would take its time. */
static uint64_t lag_of(struct requests *requests, const struct partition *partition, int32_t number)
{
    int64_t low, high;
    if (!partition->assigned || rd_kafka_get_watermark_offsets(requests->client, requests->topic, number, &low,
                                                               &high) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    int64_t from = partition->committed > low ? partition->committed : low;
    return high > from && low >= 0 ? (uint64_t)(high - from) : 0;
}

struct requests_progress requests_progress(struct requests *requests)
{
    pthread_mutex_lock(&requests->mutex);
    struct requests_progress progress = {
        .taken = requests->taken,
        .committed = requests->committed,
        .commits = requests->commits,
        .rebalances = requests->rebalances,
        .paused = requests->full,
        .unfinished = atomic_load(&requests->unfinished),
    };
    for (size_t i = 0; i < requests->partition_count; i++) {
        progress.assigned += requests->partitions[i].assigned;
        progress.lag += lag_of(requests, &requests->partitions[i], (int32_t)i);
    }
    pthread_mutex_unlock(&requests->mutex);
    progress.waiting = queue_size(requests->queue);
    return progress;
}

void requests_stop(struct requests *requests)
{
    if (requests == NULL)
        return;
    pthread_mutex_lock(&requests->mutex);
    requests->closed = true;
    requests->stopping = true;
    pthread_mutex_unlock(&requests->mutex);
    pthread_join(requests->thread, NULL);
    free_requests(requests);
}
