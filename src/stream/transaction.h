/*
 * transaction.h - messages and the offsets they answer, in one Kafka transaction: all of it or nothing
 *
 * One transactional.id, one producer at a time. A transaction that does not commit costs the producer: the next one's
 * init_transactions() aborts what is open, completes what was being committed, and its epoch shuts out whatever of the
 * old one is still on its way - librdkafka has no KIP-890, so a late request could otherwise end up in the next
 * transaction. For the same reason nothing is repeated within a transaction but by librdkafka itself.
 *
 * Threads: one.
 */
#ifndef HEADRACE_STREAM_TRANSACTION_H
#define HEADRACE_STREAM_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "stream/kafka.h"
#include "stream/parcel.h"

struct transactions;

/* Asks no broker. What `kafka` points to must outlive it. */
int transactions_create(struct transactions **transactions, const struct kafka_settings *kafka,
                        const char *transactional_id, struct error *err);

/* An open transaction is left to its successor, or to transaction.timeout.ms. NULL is fine. */
void transactions_destroy(struct transactions *transactions);

/*
 * Settles what an earlier producer of this id has left, and shuts it out. ERROR_RETRY: not yet, call again;
 * ERROR_FATAL: it will not be.
 */
int transactions_begin(struct transactions *transactions, int timeout_ms, struct error *err);

/*
 * Whether the broker honours transactions: an offset that one has committed for that partition must come back, in the
 * group `probe_group`, which must be nobody else's. ERROR_FATAL: it does not. After any failure transactions_begin()
 * comes first.
 */
int transactions_probe(struct transactions *transactions, const char *topic, int32_t partition, const char *probe_group,
                       struct error *err);

/*
 * The parcels and the offsets. On -1 they are not committed, unless *unclear: then it shows once transactions_begin()
 * has succeeded, which must come first in any case. Parcels that the broker found too large are marked `refused`.
 * ERROR_FATAL: another producer of this id has shut us out, or we may not do this.
 */
int transactions_commit(struct transactions *transactions, struct parcel *parcels,
                        const rd_kafka_topic_partition_list_t *offsets,
                        const rd_kafka_consumer_group_metadata_t *membership, bool *unclear, struct error *err);

/* message.max.bytes */
size_t transactions_size_limit(const struct transactions *transactions);

#endif
