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

enum {
    POLL_MS = 100,          /* the longest the thread sleeps: how soon it sees stop */
    OUTBOX_POLL_MS = 10,    /* the same while letters are on their way */
    METADATA_MS = 500,      /* one question for a topic's partitions */
    WAIT_LOG_MS = 10000,    /* what we wait for is said again after this */
    GROWTH_MS = 30000,      /* how soon a new partition is seen */
    RETRY_MS = 200,         /* between two tries of a commit */
    CLOSE_MS = 2000,        /* for the last commit to reach the broker */
    LAG_MS = 1000,          /* between two commits to the broker while there is more to read, for lag tools … */
    LAG_IDLE_MS = 20,       /* … and at the ends of all partitions, so that who waits for the state sees it at once */
    LETTER_LOG_MS = 1000,   /* dead letters are logged no more often */
    LAST_LETTERS_MS = 1000, /* what stopping waits for letters on their way */
    ARENA_LIMIT = 16 << 20, /* what decoding one message may take */
    GROUP_SIZE = 256,
};

struct partition {
    int64_t next; /* offset to read; -1: the beginning */
    bool at_end;  /* has been there once */
    bool moved;   /* `next` is not in the store yet */
};

struct source {
    const char *topic; /* NULL: not configured */
    const struct message_type *type;
    bool optional; /* may be missing */
    struct partition *partitions;
    int32_t count;
};

enum { SOURCES = 3 };

struct materialiser {
    struct materialiser_settings settings;
    struct graph *graph;
    const struct codec *codec;
    rd_kafka_t *client;
    struct outbox *outbox; /* NULL: letters are only counted */
    struct source sources[SOURCES];
    struct arena arena;
    pthread_t thread;

    size_t batch; /* messages taken since the last commit */
    int64_t batch_start_ns;
    bool told; /* the broker knows the offsets of the last commit */
    int64_t last_growth_ns, last_lag_ns, last_letter_log_ns, last_trouble_ns;
    uint64_t letters_unlogged;
    rd_kafka_resp_err_t last_trouble;

    atomic_bool stopping, stopped, caught_up;
    atomic_ullong messages, dead_letters;
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

/* Partitions and assignment. */

/* The topic has `count` partitions now: those that are new begin where the store left off. 1: there were new ones. */
static int grow(struct materialiser *m, struct source *source, int32_t count, struct error *err)
{
    if (count <= source->count)
        return 0;
    struct partition *partitions = realloc(source->partitions, (size_t)count * sizeof *partitions);
    if (partitions == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while looking at topic %.100s", source->topic);
    source->partitions = partitions;
    for (int32_t i = source->count; i < count; i++)
        partitions[i] = (struct partition){.next = graph_offset(m->graph, source->topic, i)};
    source->count = count;
    return 1;
}

/* Waits for the topic, saying so now and then. */
static int find_source(struct materialiser *m, struct source *source, struct error *err)
{
    int64_t said_ns = 0;
    int32_t count = 0;
    while (!stopping(m)) {
        if (kafka_partition_count(m->client, source->topic, METADATA_MS, &count, err) == 0)
            return grow(m, source, count, err) < 0 ? -1 : 0;
        if (err->kind != ERROR_RETRY)
            return -1;
        if (source->optional && count == 0) {
            log_info("stream", "%s; going on without it", err->message);
            return 0;
        }
        if (said_ns == 0 || clock_since_ms(said_ns) >= WAIT_LOG_MS) {
            log_warn("stream", "waiting: %s", err->message);
            said_ns = clock_monotonic_ns();
        }
        sleep_on(m, RETRY_MS);
    }
    return 0;
}

static int assign(struct materialiser *m, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t s = 0; s < SOURCES; s++)
        for (int32_t i = 0; i < m->sources[s].count; i++) {
            int64_t next = m->sources[s].partitions[i].next;
            rd_kafka_topic_partition_list_add(list, m->sources[s].topic, i)->offset =
                next < 0 ? RD_KAFKA_OFFSET_BEGINNING : next;
        }
    rd_kafka_resp_err_t code = rd_kafka_assign(m->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "reading events and items: %s", rd_kafka_err2str(code));
    return 0;
}

/* A partition added to a topic while we run would otherwise be a hole in the graph. */
static int look_for_growth(struct materialiser *m, struct error *err)
{
    if (clock_since_ms(m->last_growth_ns) < GROWTH_MS)
        return 0;
    bool grown = false;
    for (size_t s = 0; s < SOURCES; s++) {
        int32_t count;
        struct error trouble; /* the next look may be luckier */
        if (m->sources[s].topic == NULL ||
            kafka_partition_count(m->client, m->sources[s].topic, METADATA_MS, &count, &trouble) != 0)
            continue;
        int rc = grow(m, &m->sources[s], count, err);
        if (rc < 0)
            return -1;
        if (rc > 0)
            log_info("stream", "topic %s has %d partitions now", m->sources[s].topic, (int)count);
        grown |= rc > 0;
    }
    m->last_growth_ns = clock_monotonic_ns();
    return grown ? assign(m, err) : 0;
}

static struct source *source_of(struct materialiser *m, const rd_kafka_message_t *message)
{
    const char *topic = message->rkt ? rd_kafka_topic_name(message->rkt) : "";
    for (size_t s = 0; s < SOURCES; s++)
        if (m->sources[s].topic != NULL && strcmp(m->sources[s].topic, topic) == 0)
            return message->partition >= 0 && message->partition < m->sources[s].count ? &m->sources[s] : NULL;
    return NULL;
}

/* Committing. */

static bool at_all_ends(const struct materialiser *m)
{
    bool any = false;
    for (size_t s = 0; s < SOURCES; s++)
        for (int32_t i = 0; i < m->sources[s].count; i++) {
            any = true;
            if (!m->sources[s].partitions[i].at_end)
                return false;
        }
    return any;
}

/* For lag tools only, so nobody waits for it and a failure is nobody's trouble. */
static void tell_broker(struct materialiser *m)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t s = 0; s < SOURCES; s++)
        for (int32_t i = 0; i < m->sources[s].count; i++)
            if (m->sources[s].partitions[i].next >= 0)
                rd_kafka_topic_partition_list_add(list, m->sources[s].topic, i)->offset =
                    m->sources[s].partitions[i].next;
    if (list->cnt > 0) {
        m->told = true;
        rd_kafka_resp_err_t code = rd_kafka_commit(m->client, list, 1);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            log_debug("stream", "offsets for lag tools: %s", rd_kafka_err2str(code));
    }
    rd_kafka_topic_partition_list_destroy(list);
    m->last_lag_ns = clock_monotonic_ns();
}

static int stage_offsets(struct materialiser *m, struct error *err)
{
    for (size_t s = 0; s < SOURCES; s++)
        for (int32_t i = 0; i < m->sources[s].count; i++) {
            struct partition *partition = &m->sources[s].partitions[i];
            if (partition->moved && graph_put_offset(m->graph, m->sources[s].topic, i, partition->next, err) != 0)
                return -1;
            partition->moved = false;
        }
    return 0;
}

/* Tries until the batch is in the store; -1 only when that will never be, or we are to stop. */
static int commit_batch(struct materialiser *m, struct error *err)
{
    bool said = false;
    if (stage_offsets(m, err) != 0)
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
    m->batch = 0;
    m->batch_start_ns = 0;
    if (m->outbox != NULL)
        outbox_committed(m->outbox);
    if (!atomic_load(&m->caught_up) && at_all_ends(m)) {
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

static int commit_when_due(struct materialiser *m, struct error *err)
{
    bool due = m->batch >= m->settings.batch_events ||
               (m->batch_start_ns != 0 && clock_since_ms(m->batch_start_ns) >= m->settings.batch_wait_ms);
    bool at_ends = at_all_ends(m), arrived = !atomic_load(&m->caught_up) && at_ends;
    if (!m->told && m->batch == 0 && clock_since_ms(m->last_lag_ns) >= (at_ends ? LAG_IDLE_MS : LAG_MS))
        tell_broker(m);
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
    if (codec_decode(m->codec, source->type, message->payload, message->len, &record, &m->arena, class, err) != 0)
        return -1;
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

/* ERROR_BAD_INPUT: a dead letter of *class; nothing was staged. */
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

static int bury(struct materialiser *m, const rd_kafka_message_t *message, enum dead_letter_class class,
                const char *reason, struct error *err)
{
    atomic_fetch_add(&m->dead_letters, 1);
    log_letter(m, message, class, reason);
    return m->outbox != NULL ? outbox_put(m->outbox, message, class, reason, err) : 0;
}

static int take_message(struct materialiser *m, const rd_kafka_message_t *message, struct error *err)
{
    struct source *source = source_of(m, message);
    if (source == NULL)
        return 0;
    struct partition *partition = &source->partitions[message->partition];
    if (message->offset < partition->next)
        return 0; /* in the store already */
    enum dead_letter_class class;
    struct error trouble;
    if (apply(m, source, message, &class, &trouble) != 0) {
        if (trouble.kind != ERROR_BAD_INPUT) {
            *err = trouble;
            return error_wrap(err, "%.60s/%d@%lld", source->topic, (int)message->partition, (long long)message->offset);
        }
        if (bury(m, message, class, trouble.message, err) != 0)
            return -1;
    }
    partition->next = message->offset + 1;
    partition->moved = true;
    m->batch++;
    begin_batch(m);
    atomic_fetch_add(&m->messages, 1);
    return 0;
}

/* Trouble. */

static int retention_gap(struct materialiser *m, const rd_kafka_message_t *message, struct error *err)
{
    struct source *source = source_of(m, message);
    if (source == NULL)
        return 0;
    int64_t next = source->partitions[message->partition].next;
    if (next < 0) /* retention was quicker than our first fetch: the beginning is elsewhere now */
        return assign(m, err);
    return error_set(
        err, ERROR_FATAL,
        "retention gap: the state stands at %.40s/%d@%lld, which the log does not hold (any more). Restore "
        "a newer copy of the state directory, or remove it to rebuild from what the log still has",
        source->topic, (int)message->partition, (long long)next);
}

static int take_trouble(struct materialiser *m, const rd_kafka_message_t *message, struct error *err)
{
    struct source *source;
    const char *reason = rd_kafka_message_errstr(message);
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        source = source_of(m, message);
        if (source != NULL)
            source->partitions[message->partition].at_end = true;
        return 0;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return retention_gap(m, message, err);
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

static int go_on(struct materialiser *m, struct error *err)
{
    if (look_for_growth(m, err) != 0 || work_on_outbox(m, err) != 0)
        return -1;
    rd_kafka_message_t *message = rd_kafka_consumer_poll(m->client, poll_time(m));
    int rc = 0;
    if (message != NULL) {
        rc = message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? take_message(m, message, err) : take_trouble(m, message, err);
        rd_kafka_message_destroy(message);
    }
    return rc == 0 ? commit_when_due(m, err) : -1;
}

/* What is taken goes into the store, and its letters out if the broker is quick. */
static int finish(struct materialiser *m, struct error *err)
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
    for (size_t s = 0; s < SOURCES; s++)
        if (m->sources[s].topic != NULL && find_source(m, &m->sources[s], err) != 0)
            return -1;
    m->last_growth_ns = clock_monotonic_ns();
    if (!stopping(m) && assign(m, err) != 0)
        return -1;
    while (!stopping(m))
        if (go_on(m, err) != 0)
            return -1;
    return finish(m, err);
}

static void *run_thread(void *argument)
{
    struct materialiser *m = argument;
    m->failed = run(m, &m->failure) != 0;
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
    struct property *properties = kafka_properties_over(NULL, 0, &m->settings.kafka, without,
                                                        sizeof without / sizeof *without, &own.property_count);
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening the event consumer");
    own.properties = properties;
    int rc = kafka_create_client(&m->client, RD_KAFKA_CONSUMER, &own, forced, sizeof forced / sizeof *forced, NULL,
                                 NULL, NULL, err);
    free(properties);
    return rc;
}

static void free_materialiser(struct materialiser *m)
{
    outbox_close(m->outbox);
    kafka_destroy_consumer(m->client);
    for (size_t s = 0; s < SOURCES; s++)
        free(m->sources[s].partitions);
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
    m->sources[0] = (struct source){settings->topics.items, &item_type, false, NULL, 0};
    m->sources[1] = (struct source){settings->topics.users, &user_type, true, NULL, 0};
    m->sources[2] = (struct source){settings->topics.interactions, &interaction_type, false, NULL, 0};
    arena_init(&m->arena, ARENA_LIMIT);
    if (open_client(m, err) != 0)
        goto failed;
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

struct materialiser_progress materialiser_progress(struct materialiser *materialiser)
{
    return (struct materialiser_progress){
        .messages = atomic_load(&materialiser->messages),
        .dead_letters = atomic_load(&materialiser->dead_letters),
        .caught_up = atomic_load(&materialiser->caught_up),
        .stopped = atomic_load(&materialiser->stopped),
    };
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
