/*
 * dead_topics.h - inside cmd/: the dead-letter topics, and how far their letters have been put back
 *
 * The group `<kafka.group.id>-dead` keeps the place. Its committed offset of a partition is the first letter that may
 * still have to be put back; as letters can be put back class by class, the offset's metadata holds a place for each:
 * "framing:12,unknown_schema:3,…". An offset without them, as Kafka's own tools set it, counts for all.
 *
 * Threads: one.
 */
#ifndef HEADRACE_CMD_DEAD_TOPICS_H
#define HEADRACE_CMD_DEAD_TOPICS_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "stream/dead_letter_read.h"

enum { DEAD_TOPICS_MOST = 4, DEAD_TOPIC_NAME_SIZE = 256 };

struct dead_partition {
    size_t topic; /* which of the topics */
    int32_t partition;
    int64_t low, high;                   /* first offset that there is, and the end, as of dead_topics_open() */
    int64_t places[DEAD_LETTER_CLASSES]; /* of a class: all before are put back or passed over */
    int64_t next;                        /* to be read */
};

struct dead_topics {
    rd_kafka_t *client;
    char group[DEAD_TOPIC_NAME_SIZE];
    char names[DEAD_TOPICS_MOST][DEAD_TOPIC_NAME_SIZE], origins[DEAD_TOPICS_MOST][DEAD_TOPIC_NAME_SIZE];
    size_t count; /* of topics that there are */
    struct dead_partition *partitions;
    size_t partition_count;
};

/*
 * The dead-letter topics of the configuration's topics as far as there are any, or that of one topic, `only`, by either
 * name (ERROR_BAD_INPUT: there is none). `rebalanced` gets `opaque`; it is NULL where the group is not joined.
 */
int dead_topics_open(struct dead_topics *topics, const struct config *config, const char *only,
                     void (*rebalanced)(rd_kafka_t *, rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t *, void *),
                     void *opaque, struct error *err);
void dead_topics_close(struct dead_topics *topics);

/* Places as the group has them; where it has none, the beginning. `next` becomes the least of the chosen classes'. */
int dead_topics_find_places(struct dead_topics *topics, const bool chosen[DEAD_LETTER_CLASSES], struct error *err);

int dead_topics_keep_places(struct dead_topics *topics, struct error *err);

/* Reads on at `next` of each partition, up to `high`. */
int dead_topics_assign(struct dead_topics *topics, struct error *err);

/* NULL: not one of these. */
struct dead_partition *dead_topics_find(struct dead_topics *topics, const char *name, int32_t partition);

/*
 * Waits up to `timeout_ms` for the next message, NULL: none, and moves its partition's `next` behind it. The message is
 * the caller's to destroy; it holds until then.
 */
int dead_topics_next(struct dead_topics *topics, int timeout_ms, rd_kafka_message_t **message,
                     struct dead_partition **partition, struct error *err);

/* Whether every partition has been read to its end. */
bool dead_topics_ended(const struct dead_topics *topics);

#endif
