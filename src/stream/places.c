#include "stream/places.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    METADATA_MS = 500,   /* one question for a topic's partitions, or for a partition's ends */
    RETRY_MS = 200,      /* between two questions */
    WAIT_LOG_MS = 10000, /* what we wait for is said again after this */
    LOOK_MS = 10000,     /* how soon a new partition is seen */
    LAG_MS = 500,
    WAKE_MS = 100, /* the longest that waking the fetcher takes, with no leader there */
};

static bool stopping(const struct places *places)
{
    return atomic_load(places->stopping);
}

/* What the message before a place is known by. */
static uint64_t mark_of(const rd_kafka_message_t *message)
{
    uint64_t key = XXH3_64bits(message->key, message->key_len);
    uint64_t seed = key ^ (uint64_t)rd_kafka_message_timestamp(message, NULL);
    uint64_t mark = XXH3_64bits_withSeed(message->payload, message->len, seed);
    return mark == 0 ? 1 : mark;
}

void places_free(struct places *places)
{
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        free(places->sources[s].partitions);
}

/* Topics and partitions. */

/* The topic has `count` partitions now: those that are new begin where the store left off. 1: there were new ones. */
static int grow(struct places *places, struct source *source, int32_t count, struct error *err)
{
    if (count <= source->count)
        return 0;
    struct partition *partitions = realloc(source->partitions, (size_t)count * sizeof *partitions);
    if (partitions == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while looking at topic %.100s", source->topic);
    source->partitions = partitions;
    for (int32_t i = source->count; i < count; i++)
        partitions[i] = (struct partition){.next = graph_offset(places->graph, source->topic, i),
                                           .mark = graph_offset_mark(places->graph, source->topic, i)};
    source->count = count;
    atomic_store(&source->shared_count, count);
    return 1;
}

static void say_now_and_then(int64_t *said_ns, const char *message)
{
    if (*said_ns != 0 && clock_since_ms(*said_ns) < WAIT_LOG_MS)
        return;
    log_warn("stream", "waiting: %s", message);
    *said_ns = clock_monotonic_ns();
}

static int find_source(struct places *places, struct source *source, struct error *err)
{
    int64_t said_ns = 0;
    int32_t count = 0;
    while (!stopping(places)) {
        if (kafka_partition_count(places->client, source->topic, METADATA_MS, &count, err) == 0)
            return grow(places, source, count, err) < 0 ? -1 : 0;
        if (err->kind != ERROR_RETRY)
            return -1;
        if (source->optional && count == 0) {
            log_info("stream", "%s; going on without it", err->message);
            return 0;
        }
        say_now_and_then(&said_ns, err->message);
        usleep(RETRY_MS * 1000);
    }
    return 0;
}

/* One earlier than our place where the message there is to be compared. */
static int64_t first_offset(const struct partition *partition)
{
    if (partition->next < 0)
        return RD_KAFKA_OFFSET_BEGINNING;
    return partition->mark != 0 && !partition->checked && partition->next > 0 ? partition->next - 1 : partition->next;
}

static int assign(struct places *places, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++)
            rd_kafka_topic_partition_list_add(list, places->sources[s].topic, i)->offset =
                first_offset(&places->sources[s].partitions[i]);
    rd_kafka_resp_err_t code = rd_kafka_assign(places->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "reading events and items: %s", rd_kafka_err2str(code));
    return 0;
}

int places_begin(struct places *places, struct error *err)
{
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        if (places->sources[s].topic != NULL && find_source(places, &places->sources[s], err) != 0)
            return -1;
    places->last_look_ns = clock_monotonic_ns();
    return stopping(places) ? 0 : assign(places, err);
}

int places_look_for_more(struct places *places, struct error *err)
{
    if (clock_since_ms(places->last_look_ns) < LOOK_MS)
        return 0;
    bool grown = false;
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++) {
        struct source *source = &places->sources[s];
        int32_t count;
        struct error trouble; /* the next look may be luckier */
        if (source->topic == NULL ||
            kafka_partition_count(places->client, source->topic, METADATA_MS, &count, &trouble) != 0)
            continue;
        int rc = grow(places, source, count, err);
        if (rc < 0)
            return -1;
        if (rc > 0)
            log_info("stream", "topic %s has %d partitions now", source->topic, (int)count);
        grown |= rc > 0;
    }
    places->last_look_ns = clock_monotonic_ns();
    return grown ? assign(places, err) : 0;
}

struct source *places_source(struct places *places, const rd_kafka_message_t *message)
{
    const char *topic = message->rkt ? rd_kafka_topic_name(message->rkt) : "";
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++) {
        struct source *source = &places->sources[s];
        if (source->topic != NULL && strcmp(source->topic, topic) == 0)
            return message->partition >= 0 && message->partition < source->count ? source : NULL;
    }
    return NULL;
}

/* Gaps. */

/* Asks until the broker answers; 1: we are to stop. */
static int ask_ends(const struct places *places, const char *topic, int32_t number, int64_t *low, int64_t *high)
{
    char line[400];
    int64_t said_ns = 0;
    while (!stopping(places)) {
        rd_kafka_resp_err_t code =
            rd_kafka_query_watermark_offsets(places->client, topic, number, low, high, METADATA_MS);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            return 0;
        snprintf(line, sizeof line, "for the ends of %.200s/%d: %s", topic, (int)number, rd_kafka_err2str(code));
        say_now_and_then(&said_ns, line);
        usleep(RETRY_MS * 1000);
    }
    return 1;
}

static int read_anew(struct places *places, const char *what, struct error *err)
{
    places->rebuild = true;
    return error_set(err, ERROR_FATAL, "%s. Everything is read again (state.on_gap is rebuild)", what);
}

static int go_on_from_oldest(struct places *places, struct partition *partition, int64_t low, const char *what,
                             struct error *err)
{
    log_warn("stream", "%s. Going on from offset %lld (state.on_gap is accept)", what, (long long)low);
    atomic_fetch_add(&places->gaps, 1);
    if (partition->next < low)
        atomic_fetch_add(&places->gap_messages, (unsigned long long)(low - partition->next));
    *partition = (struct partition){.next = low, .seen = low, .checked = true, .moved = true};
    return assign(places, err);
}

static int take_gap(struct places *places, struct partition *partition, int64_t low, const char *what,
                    struct error *err)
{
    switch (places->on_gap) {
    case GAP_ACCEPT:
        return go_on_from_oldest(places, partition, low, what, err);
    case GAP_REBUILD:
        return read_anew(places, what, err);
    case GAP_STOP:
        break;
    }
    return error_set(err, ERROR_FATAL,
                     "%s. Set state.on_gap to rebuild (the state is dropped and everything that there is read again) "
                     "or to accept (on from the oldest message), or restore a fitting copy of the state directory",
                     what);
}

/* Another topic stands under the name, or the log was cut short. `why` says what is wrong with it. */
static int take_other_topic(struct places *places, struct source *source, int32_t number, const char *why,
                            struct error *err)
{
    int64_t low, high;
    char what[400];
    if (ask_ends(places, source->topic, number, &low, &high) != 0)
        return 0;
    snprintf(what, sizeof what,
             "topic %.100s is not the one that the state was made of, or lost its newest messages: %.120s",
             source->topic, why);
    return take_gap(places, &source->partitions[number], low, what, err);
}

static int take_end_before_place(struct places *places, struct source *source, int32_t number, int64_t end,
                                 struct error *err)
{
    char why[140];
    snprintf(why, sizeof why, "partition %d ends at %lld, the state stands at %lld", (int)number, (long long)end,
             (long long)source->partitions[number].next);
    return take_other_topic(places, source, number, why, err);
}

int places_check(struct places *places, struct source *source, const rd_kafka_message_t *message, bool *next,
                 struct error *err)
{
    struct partition *partition = &source->partitions[message->partition];
    bool before = message->offset == partition->next - 1 && !partition->checked && partition->mark != 0;
    *next = message->offset >= partition->next; /* else it is in the store already */
    partition->checked = true;
    if (!before || mark_of(message) == partition->mark)
        return 0;
    char why[140];
    snprintf(why, sizeof why, "partition %d has another message at %lld", (int)message->partition,
             (long long)message->offset);
    return take_other_topic(places, source, message->partition, why, err);
}

void places_pass(struct source *source, const rd_kafka_message_t *message)
{
    struct partition *partition = &source->partitions[message->partition];
    partition->next = partition->seen = message->offset + 1;
    partition->mark = mark_of(message);
    partition->moved = true;
    int64_t record_ms = rd_kafka_message_timestamp(message, NULL);
    if (record_ms > source->newest_ms)
        source->newest_ms = record_ms;
}

int places_end(struct places *places, struct source *source, const rd_kafka_message_t *message, struct error *err)
{
    struct partition *partition = &source->partitions[message->partition];
    if (message->offset < partition->next)
        return take_end_before_place(places, source, message->partition, message->offset, err);
    partition->at_end = true;
    partition->seen = message->offset;
    return 0;
}

int places_lost(struct places *places, struct source *source, const rd_kafka_message_t *message, struct error *err)
{
    int64_t low, high;
    struct partition *partition = &source->partitions[message->partition];
    if (ask_ends(places, source->topic, message->partition, &low, &high) != 0)
        return 0;
    if (partition->next > high)
        return take_end_before_place(places, source, message->partition, high, err);
    if (partition->next < 0 || partition->next >= low) {
        /* Retention was quicker than our first fetch, or took only the message that we wanted to compare. */
        partition->checked = true;
        return assign(places, err);
    }
    char what[400];
    snprintf(what, sizeof what,
             "retention gap: the state stands at %.100s/%d@%lld, the log begins at %lld: %lld messages are gone that "
             "were never read",
             source->topic, (int)message->partition, (long long)partition->next, (long long)low,
             (long long)(low - partition->next));
    return take_gap(places, partition, low, what, err);
}

/* What others are told. */

bool places_at_all_ends(const struct places *places)
{
    bool any = false;
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++) {
            any = true;
            if (!places->sources[s].partitions[i].at_end)
                return false;
        }
    return any;
}

bool places_moved(const struct places *places)
{
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++)
            if (places->sources[s].partitions[i].moved)
                return true;
    return false;
}

int places_stage(struct places *places, struct error *err)
{
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++) {
            struct partition *partition = &places->sources[s].partitions[i];
            if (partition->moved && graph_put_marked_offset(places->graph, places->sources[s].topic, i, partition->next,
                                                            partition->mark, err) != 0)
                return -1;
            partition->moved = false;
        }
    return 0;
}

void places_tell_broker(const struct places *places)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++)
            if (places->sources[s].partitions[i].next >= 0)
                rd_kafka_topic_partition_list_add(list, places->sources[s].topic, i)->offset =
                    places->sources[s].partitions[i].next;
    rd_kafka_resp_err_t code = list->cnt > 0 ? rd_kafka_commit(places->client, list, 1) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        log_debug("stream", "offsets for lag tools: %s", rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
}

void places_wake_fetcher(const struct places *places)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++)
        for (int32_t i = 0; i < places->sources[s].count; i++)
            rd_kafka_topic_partition_list_add(list, places->sources[s].topic, i)->offset = RD_KAFKA_OFFSET_END;
    rd_kafka_offsets_for_times(places->client, list, WAKE_MS);
    rd_kafka_topic_partition_list_destroy(list);
}

/* -1: the broker has not told yet. The ends are those of the last fetch, so this asks nobody. */
static int64_t lag_of(const struct places *places, const struct source *source)
{
    int64_t lag = 0;
    for (int32_t i = 0; i < source->count; i++) {
        int64_t low, high;
        const struct partition *partition = &source->partitions[i];
        if (rd_kafka_get_watermark_offsets(places->client, source->topic, i, &low, &high) !=
                RD_KAFKA_RESP_ERR_NO_ERROR ||
            high < 0)
            return -1;
        int64_t from = partition->seen > partition->next ? partition->seen : partition->next;
        if (from < low)
            from = low;
        lag += high > from ? high - (from > 0 ? from : 0) : 0;
    }
    return lag;
}

void places_measure_lag(struct places *places)
{
    if (places->last_lag_ns != 0 && clock_since_ms(places->last_lag_ns) < LAG_MS)
        return;
    places->last_lag_ns = clock_monotonic_ns();
    for (size_t s = 0; s < MATERIALISER_TOPICS; s++) {
        struct source *source = &places->sources[s];
        if (source->topic == NULL)
            continue;
        int64_t lag = lag_of(places, source), age = clock_wall_ms() - source->newest_ms;
        atomic_store(&source->lag, lag);
        atomic_store(&source->lag_ms, lag > 0 && source->newest_ms > 0 && age > 0 ? age : 0);
    }
}
