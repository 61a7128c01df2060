#include "stream/outbox.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    LOT = 2048, /* letters on their way at a time: a lot takes a broker's answer and a commit, however large … */
    LOT_BYTES = 2 << 20, /* … and these, in memory */
    TOPIC_SIZE = 250,    /* Kafka's limit on a name, and a NUL */
    RETRY_MS = 1000,     /* after a letter that was not delivered */
    LEAST_LIMIT = 2048,  /* a topic that refuses even this much takes no letter at all */
};

struct sent_letter {
    char topic[TOPIC_SIZE];
    int32_t partition;
    int64_t offset;
    size_t size; /* bytes, packed */
};

struct outbox {
    struct graph *graph;
    struct producer *producer;
    const char *dead_suffix;
    size_t limit; /* bytes of a letter; halved while the topic refuses it */
    bool alone;   /* letters go one by one: together they were too large for the topic */
    struct sent_letter lot[LOT];
    size_t lot_size, lot_bytes;
    size_t on_their_way; /* of the lot */
    bool puts_staged, deletes_staged;
    bool waiting;     /* the store may hold committed letters */
    int64_t retry_ns; /* not before */
    struct error failure;
    bool failed;
};

static void fail(struct outbox *outbox, const struct error *err)
{
    if (!outbox->failed)
        outbox->failure = *err;
    outbox->failed = true;
}

static void let_go(struct outbox *outbox, const struct sent_letter *letter)
{
    struct error err;
    if (graph_delete_outbox(outbox->graph, letter->topic, letter->partition, letter->offset, &err) != 0)
        fail(outbox, &err);
    outbox->deletes_staged = true;
}

static void try_later(struct outbox *outbox)
{
    outbox->waiting = true;
    outbox->retry_ns = clock_monotonic_ns() + (int64_t)RETRY_MS * 1000000;
}

static void be_generous(struct outbox *outbox)
{
    outbox->limit = producer_size_limit(outbox->producer);
    outbox->alone = false;
}

/* The topic takes less than the producer: letters sent together go again one by one, one by itself is cut. */
static void be_sparing(struct outbox *outbox, const struct sent_letter *letter, const struct error *error)
{
    bool by_itself = outbox->lot_size == 1;
    if (by_itself && outbox->limit <= LEAST_LIMIT) {
        log_error("stream", "dead letter of %s/%d@%lld is lost: %s", letter->topic, (int)letter->partition,
                  (long long)letter->offset, error->message);
        let_go(outbox, letter);
        return;
    }
    if (by_itself) {
        size_t half = (letter->size < outbox->limit ? letter->size : outbox->limit) / 2;
        outbox->limit = half > LEAST_LIMIT ? half : LEAST_LIMIT;
        log_info("stream", "dead letter of %s/%d@%lld: %s; cutting it to %zu bytes", letter->topic,
                 (int)letter->partition, (long long)letter->offset, error->message, outbox->limit);
    }
    outbox->alone = true;
    outbox->waiting = true;
}

static void reported(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                     const struct error *error)
{
    (void)partition, (void)offset;
    struct outbox *outbox = context;
    const struct sent_letter *letter = opaque;
    outbox->on_their_way--;
    if (error == NULL) {
        let_go(outbox, letter);
        if (outbox->on_their_way == 0 && !outbox->waiting)
            be_generous(outbox);
    } else if (error->kind == ERROR_BAD_INPUT) {
        be_sparing(outbox, letter, error);
    } else if (error->kind == ERROR_FATAL) {
        fail(outbox, error);
    } else {
        if (!outbox->waiting)
            log_warn("stream", "dead letters to %s wait: %s", topic, error->message);
        try_later(outbox);
    }
}

int outbox_open(struct outbox **outbox, const struct kafka_settings *kafka, const char *dead_suffix,
                struct graph *graph, struct error *err)
{
    struct outbox *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while opening the outbox");
    made->graph = graph;
    made->dead_suffix = dead_suffix;
    made->waiting = true;
    if (producer_create(&made->producer, kafka, reported, made, err) != 0) {
        free(made);
        return -1;
    }
    be_generous(made);
    *outbox = made;
    return 0;
}

int outbox_put(struct outbox *outbox, const rd_kafka_message_t *message, enum dead_letter_class class,
               const char *reason, struct error *err)
{
    struct buffer letter = {.size = 0};
    int rc = dead_letter_pack(message, class, reason, producer_size_limit(outbox->producer), &letter, err);
    if (rc == 0)
        rc = graph_put_outbox(outbox->graph, rd_kafka_topic_name(message->rkt), message->partition, message->offset,
                              buffer_text(&letter), err);
    buffer_free(&letter);
    if (rc == 0)
        outbox->puts_staged = true;
    return rc;
}

void outbox_committed(struct outbox *outbox)
{
    outbox->waiting |= outbox->puts_staged;
    outbox->puts_staged = false;
    outbox->deletes_staged = false;
}

static int send_letter(struct outbox *outbox, struct sent_letter *letter, struct text content, struct error *err)
{
    char dead[2 * TOPIC_SIZE];
    struct buffer shorter = {.size = 0};
    snprintf(dead, sizeof dead, "%s%s", letter->topic, outbox->dead_suffix);
    int rc = content.size > outbox->limit ? dead_letter_cut(content, outbox->limit, &shorter, err) : 0;
    if (rc == 0)
        rc = dead_letter_send(outbox->producer, dead, content.size > outbox->limit ? buffer_text(&shorter) : content,
                              letter, err);
    buffer_free(&shorter);
    return rc;
}

static bool visit(void *context, const char *topic, int32_t partition, int64_t offset, struct text content)
{
    struct outbox *outbox = context;
    struct error err;
    if (outbox->lot_size == (outbox->alone ? 1 : LOT) ||
        (outbox->lot_size > 0 && outbox->lot_bytes + content.size > LOT_BYTES)) {
        outbox->waiting = true;
        return false;
    }
    struct sent_letter *letter = &outbox->lot[outbox->lot_size];
    snprintf(letter->topic, sizeof letter->topic, "%s", topic);
    letter->partition = partition;
    letter->offset = offset;
    letter->size = content.size;
    if (send_letter(outbox, letter, content, &err) == 0) {
        outbox->lot_size++;
        outbox->lot_bytes += content.size;
        outbox->on_their_way++;
        return true;
    }
    if (err.kind == ERROR_BAD_INPUT) {
        log_error("stream", "dead letter of %s/%d@%lld is lost: %s", topic, (int)partition, (long long)offset,
                  err.message);
        let_go(outbox, letter);
        return true;
    }
    if (err.kind == ERROR_FATAL)
        fail(outbox, &err);
    try_later(outbox);
    return false;
}

int outbox_work(struct outbox *outbox, struct error *err)
{
    if (outbox->on_their_way > 0)
        producer_poll(outbox->producer, 0);
    /* Letters whose deletion is not committed would be found, and sent, again. */
    if (outbox->waiting && outbox->on_their_way == 0 && !outbox->deletes_staged &&
        clock_monotonic_ns() >= outbox->retry_ns) {
        outbox->waiting = false;
        outbox->lot_size = outbox->lot_bytes = 0;
        if (graph_each_outbox(outbox->graph, visit, outbox, err) != 0)
            return -1;
    }
    if (!outbox->failed)
        return 0;
    *err = outbox->failure;
    return error_wrap(err, "dead letters");
}

bool outbox_idle(const struct outbox *outbox)
{
    return !outbox->waiting && outbox->on_their_way == 0 && !outbox->puts_staged && !outbox->deletes_staged;
}

void outbox_close(struct outbox *outbox)
{
    if (outbox == NULL)
        return;
    producer_destroy(outbox->producer);
    free(outbox);
}
