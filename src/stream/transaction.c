#include "stream/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
    FULL_QUEUE_MS = 100,
    PROBE_MS = 10000, /* what reading the probe's offset may take */
};

struct transactions {
    struct kafka_settings kafka;
    char *id;
    struct producer *producer; /* NULL: it is time for a new one */
    bool begun;                /* its transactions may be used */
    size_t size_limit;
    int timeout_ms; /* transaction.timeout.ms: then the broker aborts it by itself */
    int64_t start_ns;
    struct error refusal; /* of the transaction under way: an ERROR_FATAL that a message came back with */
    bool refused;
};

/* A message has arrived; or it has not, which makes the whole transaction fail. */
static void take_report(void *context, void *opaque, const char *topic, int32_t partition, int64_t offset,
                        const struct error *error)
{
    (void)topic, (void)partition, (void)offset;
    struct transactions *transactions = context;
    struct parcel *parcel = opaque;
    if (error == NULL)
        return;
    parcel->refused = error->kind == ERROR_BAD_INPUT;
    /* Of a producer's own end the calls that follow say more. */
    bool ended = rd_kafka_fatal_error(producer_client(transactions->producer), NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR;
    if (error->kind == ERROR_FATAL && !ended && !transactions->refused) {
        transactions->refused = true;
        transactions->refusal = *error;
    }
}

static void drop_producer(struct transactions *transactions)
{
    producer_destroy(transactions->producer); /* reports what it still held */
    transactions->producer = NULL;
    transactions->begun = false;
}

static int make_producer(struct transactions *transactions, struct error *err)
{
    if (producer_create_transactional(&transactions->producer, &transactions->kafka, transactions->id, take_report,
                                      transactions, err) != 0)
        return -1;
    char value[32];
    size_t size = sizeof value;
    transactions->size_limit = producer_size_limit(transactions->producer);
    rd_kafka_conf_get(rd_kafka_conf(producer_client(transactions->producer)), "transaction.timeout.ms", value, &size);
    transactions->timeout_ms = atoi(value);
    return 0;
}

int transactions_create(struct transactions **result, const struct kafka_settings *kafka, const char *transactional_id,
                        struct error *err)
{
    struct transactions *transactions = calloc(1, sizeof *transactions);
    if (transactions != NULL)
        transactions->id = strdup(transactional_id);
    if (transactions == NULL || transactions->id == NULL) {
        free(transactions);
        return error_set(err, ERROR_FATAL, "out of memory while preparing transactions");
    }
    transactions->kafka = *kafka;
    if (make_producer(transactions, err) != 0) {
        transactions_destroy(transactions);
        return -1;
    }
    *result = transactions;
    return 0;
}

void transactions_destroy(struct transactions *transactions)
{
    if (transactions == NULL)
        return;
    drop_producer(transactions);
    free(transactions->id);
    free(transactions);
}

size_t transactions_size_limit(const struct transactions *transactions)
{
    return transactions->size_limit;
}

static bool is_fenced(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

/* What no new attempt will cure. */
static bool is_forbidden(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
        return true;
    default:
        return false;
    }
}

/*
 * Frees `failed`, NULL when the producer itself has ended. A transaction that outlives its time is aborted by the
 * broker, and we are told that we are fenced: we are not. One that has not was ended by another producer of our id, and
 * taking turns with it would help nobody.
 */
static int set_failure(struct transactions *transactions, const char *doing, rd_kafka_error_t *failed,
                       struct error *err)
{
    char reason[200];
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(producer_client(transactions->producer), reason, sizeof reason);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = rd_kafka_error_code(failed); /* never NULL here */
        snprintf(reason, sizeof reason, "%s", rd_kafka_error_string(failed));
    }
    rd_kafka_error_destroy(failed);
    if (is_fenced(code) && clock_since_ms(transactions->start_ns) < transactions->timeout_ms)
        return error_set(err, ERROR_FATAL,
                         "%s: another worker runs as %.150s: give each its own instance_id and state.dir (%s)", doing,
                         transactions->id, reason);
    if (transactions->refused) {
        *err = transactions->refusal;
        return error_wrap(err, "%s", doing);
    }
    return error_set(err, is_forbidden(code) ? ERROR_FATAL : ERROR_RETRY, "%s: %s", doing, reason);
}

int transactions_begin(struct transactions *transactions, int timeout_ms, struct error *err)
{
    if (transactions->begun)
        return 0;
    if (transactions->producer == NULL && make_producer(transactions, err) != 0)
        return -1;
    transactions->refused = false;
    transactions->start_ns = clock_monotonic_ns();
    rd_kafka_error_t *failed = rd_kafka_init_transactions(producer_client(transactions->producer), timeout_ms);
    if (failed == NULL) {
        transactions->begun = true;
        return 0;
    }
    bool resumable = rd_kafka_error_is_retriable(failed);
    set_failure(transactions, "preparing transactions", failed, err);
    if (!resumable)
        drop_producer(transactions);
    return -1;
}

static int open_transaction(struct transactions *transactions, struct error *err)
{
    transactions->refused = false;
    transactions->start_ns = clock_monotonic_ns();
    rd_kafka_error_t *failed = rd_kafka_begin_transaction(producer_client(transactions->producer));
    return failed == NULL ? 0 : set_failure(transactions, "opening a transaction", failed, err);
}

static int time_left_ms(const struct transactions *transactions)
{
    double left = transactions->timeout_ms - clock_since_ms(transactions->start_ns);
    return left > 1 ? (int)left : 1;
}

/* A message that was not taken fails the transaction; whether the worker, too, depends on the producer. */
static int fail_sending(struct transactions *transactions, struct error *err)
{
    if (rd_kafka_fatal_error(producer_client(transactions->producer), NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return set_failure(transactions, "sending answers", NULL, err);
    if (err->kind == ERROR_BAD_INPUT)
        err->kind = ERROR_RETRY;
    return -1;
}

static int flush(struct transactions *transactions, struct error *err)
{
    return producer_flush(transactions->producer, time_left_ms(transactions), err);
}

/* Everything sent, and the broker has said something to each. */
static int send_parcels(struct transactions *transactions, struct parcel *parcels, struct error *err)
{
    for (struct parcel *parcel = parcels; parcel != NULL; parcel = parcel->next) {
        if (parcel->suspect && flush(transactions, err) != 0)
            return -1;
        while (!parcel->lost && parcel_send(parcel, transactions->producer, err) != 0) {
            parcel->refused = err->kind == ERROR_BAD_INPUT;
            /* An empty queue is not full: the transaction has failed already. */
            if (err->kind != ERROR_RETRY || producer_pending(transactions->producer) == 0)
                return fail_sending(transactions, err);
            producer_poll(transactions->producer, FULL_QUEUE_MS);
        }
        if (parcel->suspect && flush(transactions, err) != 0)
            return -1;
    }
    return flush(transactions, err);
}

static int end_transaction(struct transactions *transactions, const rd_kafka_topic_partition_list_t *offsets,
                           const rd_kafka_consumer_group_metadata_t *membership, bool *unclear, struct error *err)
{
    rd_kafka_t *client = producer_client(transactions->producer);
    rd_kafka_error_t *failed =
        rd_kafka_send_offsets_to_transaction(client, offsets, membership, time_left_ms(transactions));
    if (failed != NULL)
        return set_failure(transactions, "adding offsets to a transaction", failed, err);
    *unclear = true;
    failed = rd_kafka_commit_transaction(client, -1); /* for the rest of the transaction's time */
    if (failed != NULL)
        return set_failure(transactions, "committing a transaction", failed, err);
    *unclear = false;
    return 0;
}

int transactions_commit(struct transactions *transactions, struct parcel *parcels,
                        const rd_kafka_topic_partition_list_t *offsets,
                        const rd_kafka_consumer_group_metadata_t *membership, bool *unclear, struct error *err)
{
    *unclear = false;
    if (open_transaction(transactions, err) == 0 && send_parcels(transactions, parcels, err) == 0 &&
        end_transaction(transactions, offsets, membership, unclear, err) == 0)
        return 0;
    drop_producer(transactions);
    return -1;
}

/* The group's offset of the partition, as read by somebody else. */
static int read_offset(const struct transactions *transactions, const char *group,
                       rd_kafka_topic_partition_list_t *list, struct error *err)
{
    const char *const without[] = {"group.id", "group.instance.id", "isolation.level"};
    struct kafka_settings own = transactions->kafka;
    struct property *properties = kafka_properties_over(NULL, 0, &transactions->kafka, without,
                                                        sizeof without / sizeof *without, &own.property_count);
    const struct property forced[] = {{"group.id", group}, {"isolation.level", "read_committed"}};
    rd_kafka_t *reader = NULL;
    if (properties == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while probing transactions");
    own.properties = properties;
    int rc = kafka_create_client(&reader, RD_KAFKA_CONSUMER, &own, forced, sizeof forced / sizeof *forced, NULL, NULL,
                                 NULL, err);
    free(properties);
    if (rc != 0)
        return -1;
    rd_kafka_resp_err_t code = rd_kafka_committed(reader, list, PROBE_MS);
    kafka_destroy_consumer(reader);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = list->elems[0].err;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    return error_set(err, is_forbidden(code) ? ERROR_FATAL : ERROR_RETRY, "group %.100s: %s", group,
                     rd_kafka_err2str(code));
}

static int probe(struct transactions *transactions, rd_kafka_topic_partition_list_t *list, const char *group,
                 struct error *err)
{
    bool unclear;
    int64_t offset = clock_wall_ms(); /* like no other probe's */
    list->elems[0].offset = offset;
    rd_kafka_consumer_group_metadata_t *nobody = rd_kafka_consumer_group_metadata_new(group);
    int rc = transactions_commit(transactions, NULL, list, nobody, &unclear, err);
    rd_kafka_consumer_group_metadata_destroy(nobody);
    if (rc != 0)
        return error_wrap(err, "group %.100s", group);
    list->elems[0].offset = RD_KAFKA_OFFSET_INVALID;
    if (read_offset(transactions, group, list, err) != 0)
        return -1;
    if (list->elems[0].offset == offset)
        return 0;
    return error_set(err, ERROR_FATAL,
                     "the broker takes transactions but does not honour them (an offset committed in one did not come "
                     "back): delivery exactly_once needs a real broker; here it must be at_least_once");
}

int transactions_probe(struct transactions *transactions, const char *topic, int32_t partition, const char *probe_group,
                       struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    int rc = probe(transactions, list, probe_group, err);
    rd_kafka_topic_partition_list_destroy(list);
    return rc == 0 ? 0 : error_wrap(err, "probing transactions");
}
