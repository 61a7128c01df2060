#include "stream/requests.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/queue.h"
#include "stream/window.h"

enum {
    POLL_MS = 20,             /* the longest the poll thread sleeps: how soon it sees a rebalance, stop and answers */
    FULL_POLL_MS = 2,         /* the same while the queue is full: how soon it sees room */
    COMMIT_EVERY_MS = 100,    /* between two commits while there is something to commit */
    FINAL_COMMIT_MS = 700,    /* what stopping waits for the broker to take the last commit */
    COMMITTED_MS = 5000,      /* what an assignment waits for the group's offsets, … */
    COMMITTED_TRIES = 60,     /* … how often … */
    COMMITTED_PAUSE_MS = 200, /* … and with what between */
    CLOSE_MS = 3000,          /* what stopping waits for the group to be left */
    REPEAT_LOG_MS = 10000,    /* the same trouble is logged no more often */
};

struct partition {
    bool assigned;
    uint64_t assignment; /* numbers assignments; 0: never */
    int64_t next;        /* offset from which messages are new */
    struct window window;
    int64_t sent;             /* prefix in the commit on its way */
    uint64_t sent_finished;   /* window.finished at that time */
    int64_t committed;        /* prefix that the broker has confirmed */
    uint64_t committed_count; /* window.finished at that time */
};

struct requests {
    rd_kafka_t *client;
    rd_kafka_queue_t *messages;       /* of all our partitions, apart from the group's events */
    rd_kafka_queue_t *commit_results; /* results of commits */
    char *topic;
    bool transactional;
    size_t unfinished_limit, unfinished_bytes_limit; /* 0: none */
    atomic_size_t unfinished, unfinished_bytes;
    struct queue *queue;
    pthread_t thread;

    pthread_mutex_t mutex; /* of what follows */
    struct partition *partitions;
    size_t partition_count, partition_capacity;
    uint64_t last_assignment;
    bool closed;   /* requests_pause(): nothing more enters the queue */
    bool stopping; /* requests_stop() */
    bool ended;    /* the thread has, on `failure` */
    struct error failure;
    uint64_t taken, committed, commits, rebalances;
    bool full; /* messages stay with librdkafka */

    /* The poll thread's own. */
    bool commit_on_its_way;
    int64_t last_commit_ns;
    bool reset_is_error; /* auto.offset.reset */
    rd_kafka_resp_err_t last_trouble;
    int64_t last_trouble_ns;
    size_t queue_capacity;
};

static size_t size_of(const rd_kafka_message_t *message)
{
    return message->len + message->key_len;
}

static void free_request(struct request *request)
{
    atomic_fetch_sub(&request->owner->unfinished, 1);
    atomic_fetch_sub(&request->owner->unfinished_bytes, size_of(request->message));
    rd_kafka_message_destroy(request->message);
    free(request);
}

/* NULL: not a partition of ours any more. */
static struct partition *partition_of(struct requests *requests, const struct request *request)
{
    int32_t number = request->message->partition;
    if (number < 0 || (size_t)number >= requests->partition_count)
        return NULL;
    struct partition *partition = &requests->partitions[number];
    return partition->assigned && partition->assignment == request->assignment ? partition : NULL;
}

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

static void log_trouble(struct requests *requests, rd_kafka_resp_err_t code, const char *reason)
{
    if (code == requests->last_trouble && clock_since_ms(requests->last_trouble_ns) < REPEAT_LOG_MS)
        return;
    requests->last_trouble = code;
    requests->last_trouble_ns = clock_monotonic_ns();
    log_warn("stream", "%s: %s; trying again", requests->topic, reason);
}

/* Committing. */

static void commit_result(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *offsets,
                          void *opaque)
{
    (void)client;
    struct requests *requests = opaque;
    requests->commit_on_its_way = false;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        log_trouble(requests, code, rd_kafka_err2str(code));
    pthread_mutex_lock(&requests->mutex);
    requests->commits += code == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; offsets != NULL && i < offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *offset = &offsets->elems[i];
        struct partition *partition = &requests->partitions[offset->partition];
        /* After a new assignment the window has begun anew and `sent` is 0. */
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && offset->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
            partition->sent == offset->offset) {
            requests->committed += partition->sent_finished - partition->committed_count;
            partition->committed = partition->sent;
            partition->committed_count = partition->sent_finished;
        }
    }
    pthread_mutex_unlock(&requests->mutex);
}

/* Commits what is done of those in `only` (NULL: all); the result comes through `commit_results`. */
static void commit_prefixes(struct requests *requests, const rd_kafka_topic_partition_list_t *only)
{
    pthread_mutex_lock(&requests->mutex);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)requests->partition_count);
    for (size_t i = 0; i < requests->partition_count; i++) {
        struct partition *partition = &requests->partitions[i];
        if (!partition->assigned || partition->window.prefix <= partition->committed)
            continue;
        if (only != NULL && rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)only, requests->topic,
                                                               (int32_t)i) == NULL)
            continue;
        partition->sent = partition->window.prefix;
        partition->sent_finished = partition->window.finished;
        rd_kafka_topic_partition_list_add(list, requests->topic, (int32_t)i)->offset = partition->sent;
    }
    pthread_mutex_unlock(&requests->mutex);

    requests->last_commit_ns = clock_monotonic_ns();
    if (list->cnt > 0)
        requests->commit_on_its_way = rd_kafka_commit_queue(requests->client, list, requests->commit_results,
                                                            commit_result, requests) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
}

static void commit_when_due(struct requests *requests)
{
    rd_kafka_queue_poll_callback(requests->commit_results, 0);
    if (!requests->transactional && !requests->commit_on_its_way &&
        clock_since_ms(requests->last_commit_ns) >= COMMIT_EVERY_MS)
        commit_prefixes(requests, NULL);
}

static void commit_finally(struct requests *requests)
{
    if (requests->transactional)
        return;
    int64_t start = clock_monotonic_ns();
    while (requests->commit_on_its_way && clock_since_ms(start) < FINAL_COMMIT_MS)
        rd_kafka_queue_poll_callback(requests->commit_results, POLL_MS);
    commit_prefixes(requests, NULL);
    while (requests->commit_on_its_way && clock_since_ms(start) < FINAL_COMMIT_MS)
        rd_kafka_queue_poll_callback(requests->commit_results, POLL_MS);
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
        log_trouble(requests, RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT, err.message);
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
        commit_prefixes(requests, list);
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
            atomic_fetch_add(&requests->unfinished_bytes, size_of(message));
            partition->next = message->offset + 1;
            requests->taken++;
            taken = queue_try_push(requests->queue, request);
            failed = !taken;
        }
    }
    pthread_mutex_unlock(&requests->mutex);
    if (!taken && request != NULL && request->owner != NULL) {
        free_request(request);
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
        log_trouble(requests, message->err, reason);
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
        commit_when_due(requests);
        if (room)
            take(requests, rd_kafka_consume_queue(requests->messages, POLL_MS));
        take(requests, rd_kafka_consumer_poll(requests->client, room ? 0 : FULL_POLL_MS));
    }
    commit_finally(requests);
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

static int open_client(struct requests *requests, const struct requests_settings *settings, struct error *err)
{
    const char *reset = kafka_property_value(&settings->kafka, "auto.offset.reset");
    requests->reset_is_error = reset == NULL || strcmp(reset, "error") == 0;
    const struct property defaults[] = {
        {"group.id", settings->group_id},
        {"auto.offset.reset", "error"},
        {"topic.metadata.refresh.interval.ms", "10000"}, /* how late a topic made after our start is seen */
        /* What is fetched ahead: librdkafka's 100,000 messages a partition and 64 MiB are far more than we answer. */
        {"queued.min.messages", "1000"},
        {"queued.max.messages.kbytes", "8192"},
    };
    /* The last two as far as they are asked for. Committed offsets are asked for as isolation.level says. */
    struct property forced[4] = {{"enable.auto.commit", "false"}, {"enable.auto.offset.store", "false"}};
    size_t forced_count = 2;
    if (settings->transactional)
        forced[forced_count++] = (struct property){"isolation.level", "read_committed"};
    /* A user's own name for the member is as good. */
    if (settings->instance != NULL && kafka_property_value(&settings->kafka, "group.instance.id") == NULL)
        forced[forced_count++] = (struct property){"group.instance.id", settings->instance};
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
        free_request(request);
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
        bool ours = partition_of(requests, request) != NULL;
        pthread_mutex_unlock(&requests->mutex);
        if (ours)
            return request;
        free_request(request); /* the partition was taken away: its next owner answers */
    }
}

bool requests_ours(const struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    bool ours = partition_of(requests, request) != NULL;
    pthread_mutex_unlock(&requests->mutex);
    return ours;
}

void requests_done(struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    struct partition *partition = partition_of(requests, request);
    if (partition != NULL && requests->transactional) {
        if (request->message->offset >= partition->committed)
            partition->committed = request->message->offset + 1;
        requests->committed++;
    } else if (partition != NULL) {
        window_finish(&partition->window, request->message->offset);
    }
    pthread_mutex_unlock(&requests->mutex);
    free_request(request);
}

bool requests_answered(struct request *request)
{
    struct requests *requests = request->owner;
    pthread_mutex_lock(&requests->mutex);
    struct partition *partition = partition_of(requests, request);
    if (partition != NULL)
        window_finish(&partition->window, request->message->offset);
    pthread_mutex_unlock(&requests->mutex);
    return partition != NULL;
}

void requests_standing(struct requests *requests, struct request *const *list, size_t count,
                       enum request_standing *standing)
{
    pthread_mutex_lock(&requests->mutex);
    for (size_t i = 0; i < count; i++) {
        const struct partition *partition = partition_of(requests, list[i]);
        standing[i] = partition == NULL                                     ? REQUEST_LOST
                      : list[i]->message->offset < partition->window.prefix ? REQUEST_READY
                                                                            : REQUEST_WAITS;
    }
    pthread_mutex_unlock(&requests->mutex);
}

rd_kafka_consumer_group_metadata_t *requests_membership(struct requests *requests)
{
    return rd_kafka_consumer_group_metadata(requests->client);
}

int requests_committed(struct requests *requests, rd_kafka_topic_partition_list_t *list, int timeout_ms,
                       struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_committed(requests->client, list, timeout_ms);
    for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
        code = list->elems[i].err;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_RETRY, "asking for the committed offsets of %.100s: %s", requests->topic,
                         rd_kafka_err2str(code));
    return 0;
}

void requests_abandon(struct request *request)
{
    free_request(request); /* still outstanding in its window, so the prefix ends before it */
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
