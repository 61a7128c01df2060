#include "cmd/dead_topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "cmd/setup.h"
#include "stream/kafka.h"

enum { ANSWER_MS = 10000, ASK_AGAIN_MS = 30000, PAUSE_MS = 100 };

static int create_client(struct dead_topics *topics, const struct config *config,
                         void (*rebalanced)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *,
                                            void *),
                         void *opaque, struct error *err)
{
    static const char *const without[] = {"auto.offset.reset", "group.id", "group.instance.id"};
    const struct property defaults[] = {{"fetch.wait.max.ms", "10"}};
    const struct property forced[] = {{"group.id", topics->group},
                                      {"enable.auto.commit", "false"},
                                      {"enable.partition.eof", "true"},
                                      {"auto.offset.reset", "earliest"}};
    struct kafka_settings kafka = setup_kafka(config);
    struct property *properties = kafka_properties_over(defaults, 1, &kafka, without, 3, &kafka.property_count);
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    kafka.properties = properties;
    int result = kafka_create_client(&topics->client, RD_KAFKA_CONSUMER, &kafka, forced, sizeof forced / sizeof *forced,
                                     NULL, rebalanced, opaque, err);
    free(properties);
    return result;
}

static bool ends_in(const char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    return length > suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

static void name_topic(struct dead_topics *topics, const char *origin, const char *suffix)
{
    size_t length = strlen(origin) - (ends_in(origin, suffix) ? strlen(suffix) : 0);
    snprintf(topics->origins[topics->count], DEAD_TOPIC_NAME_SIZE, "%.*s", (int)length, origin);
    snprintf(topics->names[topics->count], DEAD_TOPIC_NAME_SIZE, "%.*s%s", (int)length, origin, suffix);
    topics->count++;
}

static void name_topics(struct dead_topics *topics, const struct config *config, const char *only)
{
    struct kafka_topics names = setup_topics(config);
    const char *const all[DEAD_TOPICS_MOST] = {names.interactions, names.items, names.users, names.requests};
    if (only != NULL)
        name_topic(topics, only, names.dead_suffix);
    for (size_t i = 0; only == NULL && i < DEAD_TOPICS_MOST; i++)
        name_topic(topics, all[i], names.dead_suffix);
}

static const rd_kafka_metadata_topic_t *find_metadata(const rd_kafka_metadata_t *metadata, const char *name)
{
    for (int i = 0; i < metadata->topic_cnt; i++)
        if (strcmp(metadata->topics[i].topic, name) == 0 && metadata->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
            return &metadata->topics[i];
    return NULL;
}

/*
 * A group's first question makes a broker create what groups are kept in, and a topic that is new has no leader yet: it
 * answers that it does not know. True after a pause; false: the answer stands.
 */
static bool pause_to_ask_again(rd_kafka_resp_err_t code, int64_t start_ns)
{
    static const rd_kafka_resp_err_t codes[] = {
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR__WAIT_COORD,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    };
    bool found = false;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        found |= codes[i] == code;
    if (!found || clock_since_ms(start_ns) > ASK_AGAIN_MS)
        return false;
    usleep(PAUSE_MS * 1000);
    return true;
}

static int add_partition(struct dead_topics *topics, size_t topic, int32_t number, struct error *err)
{
    struct dead_partition *partition = &topics->partitions[topics->partition_count];
    *partition = (struct dead_partition){.topic = topic, .partition = number};
    int64_t start_ns = clock_monotonic_ns();
    rd_kafka_resp_err_t code;
    do
        code = rd_kafka_query_watermark_offsets(topics->client, topics->names[topic], number, &partition->low,
                                                &partition->high, ANSWER_MS);
    while (pause_to_ask_again(code, start_ns));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_RETRY, "asking for the offsets of %s: %s", topics->names[topic],
                         rd_kafka_err2str(code));
    partition->next = partition->low;
    topics->partition_count++;
    return 0;
}

/* Those of the named topics that there are, and their partitions. */
static int add_partitions(struct dead_topics *topics, const rd_kafka_metadata_t *metadata, struct error *err)
{
    size_t named = topics->count, capacity = 0;
    topics->count = 0;
    for (size_t i = 0; i < named; i++) {
        const rd_kafka_metadata_topic_t *found = find_metadata(metadata, topics->names[i]);
        if (found == NULL)
            continue;
        memmove(topics->names[topics->count], topics->names[i], DEAD_TOPIC_NAME_SIZE);
        memmove(topics->origins[topics->count], topics->origins[i], DEAD_TOPIC_NAME_SIZE);
        if (array_reserve(&topics->partitions, &capacity, topics->partition_count + (size_t)found->partition_cnt,
                          sizeof *topics->partitions) != 0)
            return error_set(err, ERROR_FATAL, "out of memory");
        for (int32_t p = 0; p < found->partition_cnt; p++)
            if (add_partition(topics, topics->count, p, err) != 0)
                return -1;
        topics->count++;
    }
    return 0;
}

int dead_topics_open(struct dead_topics *topics, const struct config *config, const char *only,
                     void (*rebalanced)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *),
                     void *opaque, struct error *err)
{
    *topics = (struct dead_topics){.count = 0};
    snprintf(topics->group, sizeof topics->group, "%s-dead", config_text(config, "kafka.group.id"));
    name_topics(topics, config, only);
    if (create_client(topics, config, rebalanced, opaque, err) != 0)
        return -1;
    /* All topics, as asking for one by its name may create it. */
    const rd_kafka_metadata_t *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(topics->client, 1, NULL, &metadata, ANSWER_MS);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_RETRY, "asking the broker for its topics: %s", rd_kafka_err2str(code));
    int result = add_partitions(topics, metadata, err);
    rd_kafka_metadata_destroy(metadata);
    if (result == 0 && only != NULL && topics->count == 0)
        return error_set(err, ERROR_BAD_INPUT, "there is no topic %s", topics->names[0]);
    return result;
}

void dead_topics_close(struct dead_topics *topics)
{
    kafka_destroy_consumer(topics->client);
    free(topics->partitions);
    *topics = (struct dead_topics){.count = 0};
}

struct dead_partition *dead_topics_find(struct dead_topics *topics, const char *name, int32_t partition)
{
    for (size_t i = 0; i < topics->partition_count; i++)
        if (topics->partitions[i].partition == partition &&
            strcmp(topics->names[topics->partitions[i].topic], name) == 0)
            return &topics->partitions[i];
    return NULL;
}

static rd_kafka_topic_partition_list_t *list_partitions(const struct dead_topics *topics)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topics->partition_count);
    for (size_t i = 0; i < topics->partition_count; i++)
        rd_kafka_topic_partition_list_add(list, topics->names[topics->partitions[i].topic],
                                          topics->partitions[i].partition);
    return list;
}

/* Places that the metadata names; those that it does not are left as they are. */
static void read_places(struct text metadata, struct dead_partition *partition)
{
    while (metadata.size > 0) {
        struct text place = text_cut(&metadata, ','), name = text_cut(&place, ':');
        int class = dead_letter_class_find(name);
        int64_t offset = 0;
        size_t digits = 0;
        while (digits < place.size && digits < 18 && place.data[digits] >= '0' && place.data[digits] <= '9')
            offset = offset * 10 + (place.data[digits++] - '0');
        if (class >= 0 && digits > 0 && digits == place.size)
            partition->places[class] = offset;
    }
}

static void set_places(struct dead_partition *partition, const rd_kafka_topic_partition_t *committed,
                       const bool chosen[DEAD_LETTER_CLASSES])
{
    int64_t least = partition->high;
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
        partition->places[class] = committed->offset >= 0 ? committed->offset : 0;
    if (committed->offset >= 0 && committed->metadata != NULL)
        read_places((struct text){committed->metadata, committed->metadata_size}, partition);
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++) {
        if (partition->places[class] > partition->high) /* the topic has been created again */
            partition->places[class] = 0;
        if (chosen[class] && partition->places[class] < least)
            least = partition->places[class];
    }
    partition->next = least > partition->low ? least : partition->low;
}

static rd_kafka_resp_err_t ask_places(rd_kafka_t *client, rd_kafka_topic_partition_list_t *list)
{
    int64_t start_ns = clock_monotonic_ns();
    rd_kafka_resp_err_t code;
    do {
        code = rd_kafka_committed(client, list, ANSWER_MS);
        for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
            code = list->elems[i].err;
    } while (pause_to_ask_again(code, start_ns));
    return code;
}

int dead_topics_find_places(struct dead_topics *topics, const bool chosen[DEAD_LETTER_CLASSES], struct error *err)
{
    if (topics->partition_count == 0)
        return 0;
    rd_kafka_topic_partition_list_t *list = list_partitions(topics);
    rd_kafka_resp_err_t code = ask_places(topics->client, list);
    for (int i = 0; code == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
        set_places(&topics->partitions[i], &list->elems[i], chosen);
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0
                                              : error_set(err, ERROR_RETRY, "asking for the offsets of group %s: %s",
                                                          topics->group, rd_kafka_err2str(code));
}

static int write_places(const struct dead_partition *partition, rd_kafka_topic_partition_t *out, struct error *err)
{
    struct buffer metadata = {0};
    out->offset = partition->places[0];
    for (int class = 0; class < DEAD_LETTER_CLASSES; class ++) {
        int64_t place = partition->places[class];
        buffer_printf(&metadata, "%s%s:%lld", class > 0 ? "," : "", dead_letter_class_text(class), (long long)place);
        out->offset = place < out->offset ? place : out->offset;
    }
    if (buffer_check(&metadata, "keeping the place", err) != 0)
        return -1;
    out->metadata = metadata.data; /* librdkafka frees it with the list, by free() */
    out->metadata_size = metadata.size;
    return 0;
}

int dead_topics_keep_places(struct dead_topics *topics, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = list_partitions(topics);
    int result = 0;
    for (size_t i = 0; result == 0 && i < topics->partition_count; i++)
        result = write_places(&topics->partitions[i], &list->elems[i], err);
    rd_kafka_resp_err_t code = result == 0 ? rd_kafka_commit(topics->client, list, 0) : RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? result
                                              : error_set(err, ERROR_RETRY, "keeping the place in group %s: %s",
                                                          topics->group, rd_kafka_err2str(code));
}

int dead_topics_assign(struct dead_topics *topics, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topics->partition_count);
    for (size_t i = 0; i < topics->partition_count; i++) {
        const struct dead_partition *partition = &topics->partitions[i];
        if (partition->next < partition->high)
            rd_kafka_topic_partition_list_add(list, topics->names[partition->topic], partition->partition)->offset =
                partition->next;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(topics->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? 0
               : error_set(err, ERROR_FATAL, "assigning dead-letter topics: %s", rd_kafka_err2str(code));
}

int dead_topics_next(struct dead_topics *topics, int timeout_ms, rd_kafka_message_t **message,
                     struct dead_partition **partition, struct error *err)
{
    rd_kafka_message_t *polled = rd_kafka_consumer_poll(topics->client, timeout_ms);
    *message = NULL;
    if (polled == NULL)
        return 0;
    if (polled->err != RD_KAFKA_RESP_ERR_NO_ERROR && polled->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        error_set(err, ERROR_RETRY, "reading dead letters: %s", rd_kafka_message_errstr(polled));
        rd_kafka_message_destroy(polled);
        return -1;
    }
    struct dead_partition *found = dead_topics_find(topics, rd_kafka_topic_name(polled->rkt), polled->partition);
    bool wanted = found != NULL && polled->err == RD_KAFKA_RESP_ERR_NO_ERROR && polled->offset < found->high;
    if (wanted) {
        found->next = polled->offset + 1;
        *message = polled;
        *partition = found;
        return 0;
    }
    if (found != NULL && polled->offset >= found->high) /* the end, also where compaction has taken the last letters */
        found->next = found->high;
    rd_kafka_message_destroy(polled);
    return 0;
}

bool dead_topics_ended(const struct dead_topics *topics)
{
    for (size_t i = 0; i < topics->partition_count; i++)
        if (topics->partitions[i].next < topics->partitions[i].high)
            return false;
    return true;
}
