#include "cmd/produce_dead.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "cmd/dead_topics.h"
#include "cmd/interrupt.h"
#include "cmd/setup.h"
#include "stream/producer.h"

enum {
    BATCH = 500, /* letters between two places kept */
    POLL_MS = 100,
    JOIN_MS = 90000, /* a member that was killed keeps its partitions for session.timeout.ms */
    FLUSH_MS = 60000,
    SHOWN_PASSED = 10,
};

/* A letter on its way. */
struct sent {
    struct job *job;
    struct dead_partition *partition;
    int64_t offset;
    int class;
};

struct job {
    const struct produce_dead *asked;
    struct dead_topics topics;
    bool chosen[DEAD_LETTER_CLASSES];
    struct producer *producer;
    struct producer_header *headers;
    size_t header_capacity;
    struct sent batch[BATCH];
    size_t batch_size;
    bool joined;          /* all partitions are ours */
    bool working;         /* and letters are on their way */
    bool taken_over;      /* another run has joined the group */
    struct error failure; /* of the first message that was not taken and may be, later */
    bool failed;
    uint64_t sent, passed;
    uint64_t put_back[DEAD_TOPICS_MOST][DEAD_LETTER_CLASSES];
};

static void pass_over(struct job *job, const struct dead_partition *partition, int64_t offset, const char *reason)
{
    if (job->passed++ < SHOWN_PASSED)
        fprintf(stderr, "headrace produce: %s partition %d offset %lld is passed over: %s\n",
                job->topics.names[partition->topic], (int)partition->partition, (long long)offset, reason);
    else if (job->passed == SHOWN_PASSED + 1)
        fprintf(stderr, "headrace produce: further letters passed over are only counted\n");
}

static void take_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                        const struct error *error)
{
    (void)topic, (void)partition, (void)offset;
    struct job *job = context;
    struct sent *sent = opaque;
    if (error == NULL) {
        job->put_back[sent->partition->topic][sent->class]++;
    } else if (error->kind == ERROR_BAD_INPUT) {
        pass_over(job, sent->partition, sent->offset, error->message);
    } else if (!job->failed) {
        job->failed = true;
        job->failure = *error;
    }
}

/* What was read is put back or passed over: the chosen classes' places move up to there. */
static void move_places(struct job *job)
{
    for (size_t i = 0; i < job->topics.partition_count; i++) {
        struct dead_partition *partition = &job->topics.partitions[i];
        for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
            if (job->chosen[class] && partition->next > partition->places[class])
                partition->places[class] = partition->next;
    }
}

/* The batch is acknowledged, and then the place is kept. */
static int settle(struct job *job, struct error *err)
{
    if (job->asked->dry_run)
        return 0;
    size_t sent = job->batch_size;
    int result = producer_flush(job->producer, FLUSH_MS, err);
    if (result == 0 && job->failed) {
        *err = job->failure;
        result = -1;
    }
    if (result == 0) {
        job->batch_size = 0;
        move_places(job);
        result = dead_topics_keep_places(&job->topics, err);
    }
    return result == 0 ? 0 : error_wrap(err, "the last %zu letters may come again", sent);
}

/*
 * Partitions that are all ours are assigned with their places, outside of this call. When another run joins the group,
 * this one ends, and its place is kept before it lets go: the other goes on from there.
 */
static void take_rebalance(rd_kafka_t *client, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
                           void *opaque)
{
    struct job *job = opaque;
    struct error err;
    bool given = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    job->joined = given && (size_t)list->cnt == job->topics.partition_count;
    if (job->joined)
        return;
    if (job->working && settle(job, &err) != 0)
        fprintf(stderr, "headrace produce: %s\n", err.message);
    job->taken_over |= job->working;
    /* What is given is acknowledged, with no partition: without an answer the group would not go on. */
    rd_kafka_topic_partition_list_t *none = given ? rd_kafka_topic_partition_list_new(0) : NULL;
    rd_kafka_assign(client, none);
    if (none != NULL)
        rd_kafka_topic_partition_list_destroy(none);
}

/* Makes us the only one at it. */
static int join(struct job *job, struct error *err)
{
    rd_kafka_topic_partition_list_t *names = rd_kafka_topic_partition_list_new((int)job->topics.count);
    for (size_t i = 0; i < job->topics.count; i++)
        rd_kafka_topic_partition_list_add(names, job->topics.names[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(job->topics.client, names);
    rd_kafka_topic_partition_list_destroy(names);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, ERROR_FATAL, "joining group %s: %s", job->topics.group, rd_kafka_err2str(code));
    int64_t start_ns = clock_monotonic_ns();
    while (!job->joined) {
        rd_kafka_message_t *message;
        struct dead_partition *partition;
        if (interrupted)
            return error_set(err, ERROR_RETRY, "interrupted");
        if (clock_since_ms(start_ns) > JOIN_MS)
            return error_set(err, ERROR_RETRY, "group %s is not ours alone after %d s: who else is in it?",
                             job->topics.group, JOIN_MS / 1000);
        if (dead_topics_next(&job->topics, POLL_MS, &message, &partition, err) != 0)
            return -1;
    }
    job->working = true;
    return 0;
}

/* NULL: no memory. */
static const struct producer_header *copy_headers(struct job *job, const rd_kafka_headers_t *headers, size_t count)
{
    if (array_reserve(&job->headers, &job->header_capacity, count + 1, sizeof *job->headers) != 0)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct producer_header *header = &job->headers[i];
        rd_kafka_header_get_all(headers, i, &header->name, &header->value, &header->size);
    }
    return job->headers;
}

static int send_letter(struct job *job, const rd_kafka_message_t *message, struct dead_partition *partition,
                       const rd_kafka_headers_t *headers, const struct dead_letter *letter, struct error *err)
{
    struct sent *sent = &job->batch[job->batch_size];
    size_t count = headers != NULL ? rd_kafka_header_cnt(headers) - letter->own_headers : 0;
    *sent = (struct sent){job, partition, message->offset, letter->class};
    struct producer_message out = {.topic = job->topics.origins[partition->topic],
                                   .key = message->key,
                                   .key_size = message->key_len,
                                   .value = message->payload,
                                   .value_size = message->len,
                                   .headers = copy_headers(job, headers, count),
                                   .header_count = count,
                                   .opaque = sent};
    if (out.headers == NULL)
        return error_set(err, ERROR_FATAL, "out of memory for the headers of a letter");
    while (producer_send(job->producer, &out, err) != 0) {
        if (err->kind == ERROR_BAD_INPUT) {
            pass_over(job, partition, message->offset, err->message);
            return 0;
        }
        if (err->kind != ERROR_RETRY || interrupted)
            return -1;
        producer_poll(job->producer, POLL_MS);
    }
    job->batch_size++;
    job->sent++;
    return 0;
}

static int take(struct job *job, const rd_kafka_message_t *message, struct dead_partition *partition, struct error *err)
{
    rd_kafka_headers_t *headers = NULL;
    struct dead_letter letter;
    rd_kafka_message_headers(message, &headers);
    dead_letter_read(headers, &letter);
    if (!job->chosen[letter.class] || message->offset < partition->places[letter.class])
        return 0;
    char reason[160];
    if (letter.cut_from >= 0) {
        snprintf(reason, sizeof reason, "it was cut from %lld bytes, so that not all of the message is there",
                 (long long)letter.cut_from);
        pass_over(job, partition, message->offset, reason);
        return 0;
    }
    if (letter.topic.data != NULL && !text_equal(letter.topic, text_of(job->topics.origins[partition->topic]))) {
        pass_over(job, partition, message->offset, "it says that it came from another topic");
        return 0;
    }
    if (job->asked->dry_run) {
        job->put_back[partition->topic][letter.class]++;
        job->sent++;
        return 0;
    }
    return send_letter(job, message, partition, headers, &letter, err);
}

static void hold_back(struct job *job, int64_t start_ns)
{
    int64_t rate = job->asked->rate;
    producer_poll(job->producer, 0);
    while (!interrupted && rate > 0 && (double)job->sent > clock_since_ms(start_ns) / 1000 * (double)rate)
        producer_poll(job->producer, 1);
}

static int take_next(struct job *job, int64_t start_ns, struct error *err)
{
    rd_kafka_message_t *message;
    struct dead_partition *partition;
    if (dead_topics_next(&job->topics, POLL_MS, &message, &partition, err) != 0)
        return -1;
    if (job->taken_over)
        return error_set(err, ERROR_RETRY, "another run has joined group %s and goes on from here", job->topics.group);
    if (message == NULL)
        return 0;
    int result = take(job, message, partition, err);
    rd_kafka_message_destroy(message);
    if (result != 0)
        return -1;
    if (job->producer != NULL)
        hold_back(job, start_ns);
    return job->batch_size == BATCH || job->failed ? settle(job, err) : 0;
}

static int put_letters_back(struct job *job, struct error *err)
{
    struct error late;
    int64_t start_ns = clock_monotonic_ns();
    if (dead_topics_find_places(&job->topics, job->chosen, err) != 0 || dead_topics_assign(&job->topics, err) != 0)
        return -1;
    int result = 0;
    while (result == 0 && !interrupted && !dead_topics_ended(&job->topics) &&
           (job->asked->limit == 0 || (int64_t)job->sent < job->asked->limit))
        result = take_next(job, start_ns, err);
    job->working = false;
    if (job->taken_over || job->failed || settle(job, result == 0 ? err : &late) == 0)
        return result;
    return -1;
}

static void report(const struct job *job, bool kept)
{
    const char *done = job->asked->dry_run ? "would be put back" : "put back";
    for (size_t i = 0; i < job->topics.count; i++) {
        uint64_t sum = 0;
        for (int class = 0; class < DEAD_LETTER_CLASSES; class ++)
            sum += job->put_back[i][class];
        printf("%s: %llu letters %s into %s", job->topics.names[i], (unsigned long long)sum, done,
               job->topics.origins[i]);
        const char *separator = " (";
        for (int class = 0; class < DEAD_LETTER_CLASSES; class ++) {
            if (job->put_back[i][class] == 0)
                continue;
            printf("%s%s %llu", separator, dead_letter_class_text(class), (unsigned long long)job->put_back[i][class]);
            separator = ", ";
        }
        printf("%s\n", sum > 0 ? ")" : "");
    }
    if (job->topics.count == 0)
        printf("there are no dead-letter topics\n");
    else if (kept && !job->asked->dry_run)
        printf("group %s keeps the place: the next run goes on behind these letters\n", job->topics.group);
    fflush(stdout);
}

static int run_job(struct job *job, const struct config *config, struct error *err)
{
    struct kafka_settings kafka = setup_kafka(config);
    bool joins = !job->asked->dry_run;
    if (dead_topics_open(&job->topics, config, job->asked->topic, joins ? take_rebalance : NULL, job, err) != 0)
        return -1;
    if (job->topics.count > 0 && joins &&
        (producer_create(&job->producer, &kafka, take_report, job, err) != 0 || join(job, err) != 0))
        return -1;
    int result = job->topics.count > 0 ? put_letters_back(job, err) : 0;
    report(job, result == 0);
    if (result != 0)
        return -1;
    if (job->passed > 0)
        return error_set(err, ERROR_BAD_INPUT, "%llu letters were passed over", (unsigned long long)job->passed);
    return interrupted ? error_set(err, ERROR_RETRY, "interrupted") : 0;
}

int produce_dead(const struct produce_dead *asked, const struct config *config, struct error *err)
{
    int class = asked->class != NULL ? dead_letter_class_find(text_of(asked->class)) : -1;
    if (asked->class != NULL && class < 0)
        return error_set(err, ERROR_BAD_INPUT,
                         "--class: \"%s\" is none of framing, unknown_schema, decode, semantic, too_large, other",
                         asked->class);
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return error_set(err, ERROR_FATAL, "out of memory");
    job->asked = asked;
    for (int i = 0; i < DEAD_LETTER_CLASSES; i++)
        job->chosen[i] = class < 0 || class == i;
    int result = run_job(job, config, err);
    if (job->producer != NULL)
        producer_destroy(job->producer);
    if (job->topics.client != NULL && !asked->dry_run)
        kafka_close_consumer(job->topics.client, FLUSH_MS / 10);
    dead_topics_close(&job->topics);
    free(job->headers);
    free(job);
    return result;
}
