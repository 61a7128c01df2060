#include "stream/materialiser.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/outbox.h"
#include "stream/places.h"

enum {
    POLL_MS = 100,          /* the longest the thread sleeps: how soon it sees stop */
    OUTBOX_POLL_MS = 10,    /* the same while letters are on their way */
    WAIT_LOG_MS = 10000,    /* what we wait for is said again after this */
    RETRY_MS = 200,         /* between two tries of a commit */
    CLOSE_MS = 2000,        /* for the last commit to reach the broker */
    LAG_MS = 1000,          /* between two commits to the broker while there is more to read, for lag tools … */
    LAG_IDLE_MS = 20,       /* … and at the ends of all partitions, so that who waits for the state sees it at once */
    LETTER_LOG_MS = 1000,   /* dead letters are logged no more often */
    LAST_LETTERS_MS = 1000, /* what stopping waits for letters on their way */
    FETCHED_LOW = 2500,     /* messages fetched and not taken: fewer, and more are asked for */
    FETCHED_LOOK = 256,     /* messages between two looks at that */
    ARENA_LIMIT = 16 << 20, /* what decoding one message may take */
    GROUP_SIZE = 256,
};

struct materialiser {
    struct materialiser_settings settings;
    struct graph *graph;
    const struct codec *codec;
    rd_kafka_t *client;
    rd_kafka_queue_t *fetched; /* what is read of all partitions */
    struct outbox *outbox;     /* NULL: letters are only counted */
    struct places places;
    struct arena arena;
    pthread_t thread;

    size_t batch; /* messages taken since the last commit */
    int64_t batch_start_ns;
    bool told; /* the broker knows the offsets of the last commit */
    int64_t last_told_ns, last_letter_log_ns, last_trouble_ns, last_wait_log_ns;
    uint64_t letters_unlogged;
    rd_kafka_resp_err_t last_trouble;
    unsigned since_look;      /* messages, at `fetched` */
    bool was_full;            /* `fetched`, at the last look */
    rd_kafka_message_t *held; /* its schema could not be asked for; NULL: none */

    atomic_bool stopping, stopped, caught_up, waiting, rebuild;
    atomic_ullong messages, batches;
    bool failed; /* the thread has ended on `failure`; read after it */
    struct error failure;
};

static bool stopping(struct materialiser *m)
{
    return atomic_load(&m->stopping);
}

/* Sleeps in small steps; false: stop. */
static bool sleep_on(struct materialiser *m, int ms)
{
    for (; ms > 0 && !stopping(m); ms -= 20)
        usleep(20000);
    return !stopping(m);
}

/* Committing. */

/* Tries until the batch is in the store; -1 only when that will never be, or we are to stop. */
static int commit_batch(struct materialiser *m, struct error *err)
{
    bool said = false;
    if (places_stage(&m->places, err) != 0)
        return -1;
    while (graph_commit(m->graph, err) != 0) {
        if (err->kind != ERROR_RETRY)
            return -1;
        if (!said)
            log_warn("stream", "%s; trying again until it works", err->message);
        said = true;
        if (!sleep_on(m, RETRY_MS))
            return -1;
    }
    if (said)
        log_info("stream", "the batch of %zu messages is stored now", m->batch);
    atomic_fetch_add(&m->batches, 1);
    m->batch = 0;
    m->batch_start_ns = 0;
    if (m->outbox != NULL)
        outbox_committed(m->outbox);
    if (!atomic_load(&m->caught_up) && places_at_all_ends(&m->places)) {
        atomic_store(&m->caught_up, true);
        log_info("stream", "caught up: %llu messages", (unsigned long long)atomic_load(&m->messages));
    }
    m->told = false;
    return 0;
}

/* Something is staged: the batch's time runs. */
static void begin_batch(struct materialiser *m)
{
    if (m->batch_start_ns == 0)
        m->batch_start_ns = clock_monotonic_ns();
}

static void tell_broker(struct materialiser *m)
{
    places_tell_broker(&m->places);
    m->told = true;
    m->last_told_ns = clock_monotonic_ns();
}

static int commit_when_due(struct materialiser *m, struct error *err)
{
    if (places_moved(&m->places))
        begin_batch(m);
    bool due = m->batch >= m->settings.batch_events ||
               (m->batch_start_ns != 0 && clock_since_ms(m->batch_start_ns) >= m->settings.batch_wait_ms);
    bool at_ends = places_at_all_ends(&m->places), arrived = !atomic_load(&m->caught_up) && at_ends;
    if (!m->told && m->batch == 0 && clock_since_ms(m->last_told_ns) >= (at_ends ? LAG_IDLE_MS : LAG_MS))
        tell_broker(m);
    places_measure_lag(&m->places);
    return due || arrived ? commit_batch(m, err) : 0;
}

/* Applying. */

static int check_skew(const struct materialiser *m, const rd_kafka_message_t *message, int64_t timestamp_ms,
                      struct error *err)
{
    rd_kafka_timestamp_type_t type;
    int64_t record_ms = rd_kafka_message_timestamp(message, &type);
    if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE)
        record_ms = clock_wall_ms();
    if (m->settings.max_future_skew_ms == 0 || timestamp_ms <= record_ms ||
        timestamp_ms - record_ms <= m->settings.max_future_skew_ms)
        return 0;
    return error_set(err, ERROR_BAD_INPUT, "the timestamp %lld is %lld ms later than the record's own",
                     (long long)timestamp_ms, (long long)(timestamp_ms - record_ms));
}

static int apply_tombstone(struct materialiser *m, const struct source *source, const rd_kafka_message_t *message,
                           struct error *err)
{
    struct text key = {message->key, message->key_len};
    return source->type == &item_type ? graph_delete_item(m->graph, key, err) : graph_erase_user(m->graph, key, err);
}

static int apply_record(struct materialiser *m, const struct source *source, const rd_kafka_message_t *message,
                        enum dead_letter_class *class, struct error *err)
{
    union {
        struct interaction interaction;
        struct item item;
        struct user user;
    } record;
    arena_reset(&m->arena);
    if (kafka_has_header(message, CODEC_SCHEMA_HEADER))
        return codec_refuse_header(source->type, class, err);
    if (codec_decode(m->codec, source->type, message->payload, message->len, &record, &m->arena, class, err) != 0)
        return err->kind == ERROR_RETRY ? 1 : -1;
    *class = DEAD_SEMANTIC;
    if (source->type == &item_type)
        return graph_put_item(m->graph, &record.item, err);
    if (source->type == &user_type)
        return graph_put_user(m->graph, &record.user, err);
    if (check_skew(m, message, record.interaction.timestamp_ms, err) != 0)
        return -1;
    if (graph_put_interaction(m->graph, &record.interaction, err) != 0)
        return -1;
    if (m->settings.observe != NULL)
        m->settings.observe(m->settings.observer, &record.interaction);
    return 0;
}

/* ERROR_BAD_INPUT: a dead letter of *class; nothing was staged. 1: the registry cannot be asked for its schema now. */
static int apply(struct materialiser *m, const struct source *source, const rd_kafka_message_t *message,
                 enum dead_letter_class *class, struct error *err)
{
    if (m->settings.message_limit > 0 && message->len > m->settings.message_limit) {
        *class = DEAD_TOO_LARGE;
        return error_set(err, ERROR_BAD_INPUT, "the message has %zu bytes, the limit is %zu", message->len,
                         m->settings.message_limit);
    }
    if (message->payload == NULL && source->type != &interaction_type) {
        *class = DEAD_SEMANTIC;
        return apply_tombstone(m, source, message, err);
    }
    return apply_record(m, source, message, class, err);
}

static void log_letter(struct materialiser *m, const rd_kafka_message_t *message, enum dead_letter_class class,
                       const char *reason)
{
    if (m->last_letter_log_ns != 0 && clock_since_ms(m->last_letter_log_ns) < LETTER_LOG_MS) {
        m->letters_unlogged++;
        return;
    }
    m->last_letter_log_ns = clock_monotonic_ns();
    char more[48] = "";
    if (m->letters_unlogged > 0)
        snprintf(more, sizeof more, " (and %llu before it)", (unsigned long long)m->letters_unlogged);
    m->letters_unlogged = 0;
    log_warn("stream", "dead letter %s/%d@%lld: %s: %s%s", rd_kafka_topic_name(message->rkt), (int)message->partition,
             (long long)message->offset, dead_letter_class_name(class), reason, more);
}

static int bury(struct materialiser *m, struct source *source, const rd_kafka_message_t *message,
                enum dead_letter_class class, const char *reason, struct error *err)
{
    atomic_fetch_add(&source->dead[class], 1);
    log_letter(m, message, class, reason);
    return m->outbox != NULL ? outbox_put(m->outbox, message, class, reason, err) : 0;
}

/* Nothing is read until the registry answers: what comes behind this message must not overtake it. */
static void wait_for_registry(struct materialiser *m, const char *reason)
{
    atomic_store(&m->waiting, true);
    if (m->last_wait_log_ns == 0 || clock_since_ms(m->last_wait_log_ns) >= WAIT_LOG_MS) {
        log_warn("stream", "events and items wait: %s", reason);
        m->last_wait_log_ns = clock_monotonic_ns();
    }
}

/* 1: the message is to be taken again later. */
static int take_next(struct materialiser *m, struct source *source, const rd_kafka_message_t *message,
                     struct error *err)
{
    enum dead_letter_class class;
    struct error trouble;
    int rc = apply(m, source, message, &class, &trouble);
    if (rc == 0) {
        atomic_fetch_add(&source->applied, 1);
    } else if (rc > 0) {
        wait_for_registry(m, trouble.message);
        return 1;
    } else if (trouble.kind != ERROR_BAD_INPUT) {
        *err = trouble;
        return error_wrap(err, "%.60s/%d@%lld", source->topic, (int)message->partition, (long long)message->offset);
    } else if (bury(m, source, message, class, trouble.message, err) != 0) {
        return -1;
    }
    places_pass(source, message);
    m->batch++;
    begin_batch(m);
    atomic_fetch_add(&m->messages, 1);
    return 0;
}

static int take_message(struct materialiser *m, const rd_kafka_message_t *message, struct error *err)
{
    bool next;
    struct source *source = places_source(&m->places, message);
    if (source == NULL)
        return 0;
    if (places_check(&m->places, source, message, &next, err) != 0)
        return -1;
    return next ? take_next(m, source, message, err) : 0;
}

/* Trouble. */

static int take_trouble(struct materialiser *m, const rd_kafka_message_t *message, struct error *err)
{
    struct source *source = places_source(&m->places, message);
    const char *reason = rd_kafka_message_errstr(message);
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        return source != NULL ? places_end(&m->places, source, message, err) : 0;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return source != NULL ? places_lost(&m->places, source, message, err) : 0;
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return error_set(err, ERROR_FATAL, "reading events and items: %s", reason);
    default:
        if (message->err != m->last_trouble || clock_since_ms(m->last_trouble_ns) >= WAIT_LOG_MS)
            log_warn("stream", "reading events and items: %s; trying again", reason);
        m->last_trouble = message->err;
        m->last_trouble_ns = clock_monotonic_ns();
        return 0;
    }
}

/* The thread. */

static int work_on_outbox(struct materialiser *m, struct error *err)
{
    if (m->outbox == NULL || outbox_idle(m->outbox))
        return 0;
    if (outbox_work(m->outbox, err) != 0)
        return -1;
    if (graph_staged(m->graph) > 0)
        begin_batch(m);
    return 0;
}

static int poll_time(const struct materialiser *m)
{
    int longest = m->outbox != NULL && !outbox_idle(m->outbox) ? OUTBOX_POLL_MS : POLL_MS;
    if (m->batch_start_ns == 0)
        return longest;
    int left = m->settings.batch_wait_ms - (int)clock_since_ms(m->batch_start_ns);
    return left < 0 ? 0 : left < longest ? left : longest;
}

static int take(struct materialiser *m, rd_kafka_message_t *message, struct error *err)
{
    int rc = message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? take_message(m, message, err) : take_trouble(m, message, err);
    m->held = rc > 0 ? message : NULL;
    if (rc <= 0)
        rd_kafka_message_destroy(message);
    return rc < 0 ? -1 : 0;
}

static int take_held(struct materialiser *m, struct error *err)
{
    int wait_ms = poll_time(m);
    sleep_on(m, wait_ms < RETRY_MS ? wait_ms : RETRY_MS);
    if (take(m, m->held, err) != 0)
        return -1;
    if (m->held == NULL) {
        log_info("stream", "events and items go on");
        atomic_store(&m->waiting, false);
        m->last_wait_log_ns = 0;
    }
    return 0;
}

/* The fetcher is woken when there is little left of what had been enough for it. */
static void keep_fetching(struct materialiser *m)
{
    if (++m->since_look < FETCHED_LOOK)
        return;
    m->since_look = 0;
    bool full = rd_kafka_queue_length(m->fetched) >= FETCHED_LOW;
    if (m->was_full && !full)
        places_wake_fetcher(&m->places);
    m->was_full = full;
}

static int go_on(struct materialiser *m, struct error *err)
{
    if (places_look_for_more(&m->places, err) != 0 || work_on_outbox(m, err) != 0)
        return -1;
    if (m->held != NULL)
        return take_held(m, err) == 0 ? commit_when_due(m, err) : -1;
    rd_kafka_message_t *message = rd_kafka_consumer_poll(m->client, poll_time(m));
    if (message != NULL && take(m, message, err) != 0)
        return -1;
    keep_fetching(m);
    return commit_when_due(m, err);
}

/* What is taken goes into the store, and its letters out if the broker is quick. */
static int store_rest(struct materialiser *m, struct error *err)
{
    int64_t start = clock_monotonic_ns();
    if (commit_batch(m, err) != 0)
        return -1;
    while (m->outbox != NULL && !outbox_idle(m->outbox) && clock_since_ms(start) < LAST_LETTERS_MS) {
        if (outbox_work(m->outbox, err) != 0)
            return -1;
        if (graph_staged(m->graph) > 0 && commit_batch(m, err) != 0)
            return -1;
        usleep(OUTBOX_POLL_MS * 1000);
    }
    tell_broker(m);
    return 0;
}

static int run(struct materialiser *m, struct error *err)
{
    if (places_begin(&m->places, err) != 0)
        return -1;
    while (!stopping(m))
        if (go_on(m, err) != 0)
            return stopping(m) && err->kind == ERROR_RETRY ? 0 : -1; /* finish() tries once more */
    return 0;
}

/* Asked to stop, on a full disk too, is no failure: what is not stored Kafka has still. */
static int finish(struct materialiser *m, struct error *err)
{
    if (store_rest(m, err) == 0)
        return 0;
    if (err->kind != ERROR_RETRY)
        return -1;
    log_warn("stream", "the last %zu messages are not stored, the next start reads them again: %s", m->batch,
             err->message);
    return 0;
}

static void *run_thread(void *argument)
{
    struct materialiser *m = argument;
    struct error late;
    m->failed = run(m, &m->failure) != 0;
    if (m->places.rebuild)
        finish(m, &late); /* letters that a new start would not send again */
    atomic_store(&m->rebuild, m->places.rebuild);
    if (!m->failed)
        m->failed = finish(m, &m->failure) != 0;
    if (m->failed)
        log_error("stream", "state: %s", m->failure.message);
    kafka_close_consumer(m->client, CLOSE_MS);
    atomic_store(&m->stopped, true);
    return NULL;
}

/* The interface. */

static int open_client(struct materialiser *m, struct error *err)
{
    /* Those are meant for the request consumer. */
    static const char *const without[] = {"group.id", "group.instance.id", "auto.offset.reset", "enable.partition.eof"};
    /* What may wait in memory: a message takes 300 bytes and more, however small it is, and librdkafka's own limits are
     * 100,000 of them, and a fetch of 1 MiB a partition on top. */
    static const struct property defaults[] = {{"queued.min.messages", "5000"}, /* more than FETCHED_LOW */
                                               {"queued.max.messages.kbytes", "4096"},
                                               {"fetch.message.max.bytes", "262144"}};
    char group[GROUP_SIZE];
    const char *user_group = kafka_property_value(&m->settings.kafka, "group.id");
    snprintf(group, sizeof group, "%s-state-%s", user_group ? user_group : "headrace", m->settings.instance_id);
    const struct property forced[] = {
        {"group.id", group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"}, /* a gap must be an error and not silence */
        {"enable.partition.eof", "true"},
    };
    struct kafka_settings own = m->settings.kafka;
    struct property *properties =
        kafka_properties_over(defaults, sizeof defaults / sizeof *defaults, &m->settings.kafka, without,
                              sizeof without / sizeof *without, &own.property_count);
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening the event consumer");
    own.properties = properties;
    int rc = kafka_create_client(&m->client, RD_KAFKA_CONSUMER, &own, forced, sizeof forced / sizeof *forced, NULL,
                                 NULL, NULL, err);
    free(properties);
    m->fetched = rc == 0 ? rd_kafka_queue_get_consumer(m->client) : NULL;
    return rc;
}

static void free_materialiser(struct materialiser *m)
{
    outbox_close(m->outbox);
    if (m->held != NULL)
        rd_kafka_message_destroy(m->held);
    if (m->fetched != NULL)
        rd_kafka_queue_destroy(m->fetched);
    kafka_destroy_consumer(m->client);
    places_free(&m->places);
    arena_free(&m->arena);
    free(m);
}

int materialiser_start(struct materialiser **materialiser, const struct materialiser_settings *settings,
                       struct graph *graph, const struct codec *codec, struct error *err)
{
    struct materialiser *m = calloc(1, sizeof *m);
    if (m == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while starting the materialiser");
    m->settings = *settings;
    m->graph = graph;
    m->codec = codec;
    m->places = (struct places){.graph = graph, .on_gap = settings->on_gap, .stopping = &m->stopping};
    m->places.sources[0] = (struct source){.topic = settings->topics.items, .type = &item_type, .lag = -1};
    m->places.sources[1] =
        (struct source){.topic = settings->topics.users, .type = &user_type, .optional = true, .lag = -1};
    m->places.sources[2] =
        (struct source){.topic = settings->topics.interactions, .type = &interaction_type, .lag = -1};
    arena_init(&m->arena, ARENA_LIMIT);
    if (open_client(m, err) != 0)
        goto failed;
    m->places.client = m->client;
    if (settings->dead_letters &&
        outbox_open(&m->outbox, &settings->kafka, settings->topics.dead_suffix, graph, err) != 0)
        goto failed;
    if (pthread_create(&m->thread, NULL, run_thread, m) != 0) {
        error_set(err, ERROR_FATAL, "no thread for the materialiser");
        goto failed;
    }
    *materialiser = m;
    return 0;
failed:
    free_materialiser(m);
    return -1;
}

static struct materialiser_topic topic_progress(const struct source *source)
{
    struct materialiser_topic topic = {
        .name = source->topic,
        .partitions = atomic_load(&source->shared_count),
        .applied = atomic_load(&source->applied),
        .lag = atomic_load(&source->lag),
        .lag_ms = atomic_load(&source->lag_ms),
    };
    for (size_t i = 0; i < MATERIALISER_DEAD; i++)
        topic.dead[i] = atomic_load(&source->dead[i]);
    return topic;
}

struct materialiser_progress materialiser_progress(struct materialiser *materialiser)
{
    struct materialiser_progress progress = {
        .messages = atomic_load(&materialiser->messages),
        .batches = atomic_load(&materialiser->batches),
        .gaps = atomic_load(&materialiser->places.gaps),
        .gap_messages = atomic_load(&materialiser->places.gap_messages),
        .waiting = atomic_load(&materialiser->waiting),
        .caught_up = atomic_load(&materialiser->caught_up),
        .stopped = atomic_load(&materialiser->stopped),
        .rebuild = atomic_load(&materialiser->rebuild),
    };
    for (size_t i = 0; i < MATERIALISER_TOPICS; i++) {
        progress.topics[i] = topic_progress(&materialiser->places.sources[i]);
        for (size_t class = 0; class < MATERIALISER_DEAD; class ++)
            progress.dead_letters += progress.topics[i].dead[class];
    }
    return progress;
}

int materialiser_stop(struct materialiser *materialiser, struct error *err)
{
    if (materialiser == NULL)
        return 0;
    atomic_store(&materialiser->stopping, true);
    pthread_join(materialiser->thread, NULL);
    bool failed = materialiser->failed;
    if (failed)
        *err = materialiser->failure;
    free_materialiser(materialiser);
    return failed ? -1 : 0;
}
