/*
 * outbox.h - dead letters on their way from the graph's store to the broker
 *
 * A letter is put into the batch that carries the offset behind its message, so that none is lost and none is written
 * for a message that is read again. Committed letters are sent in lots, in the order of their keys; one that the broker
 * has acknowledged is deleted with a later batch. Only a crash between the two can send it twice. Letters that a dead
 * process has left are found and sent, too.
 *
 * Threads: the graph's writer.
 */
#ifndef HEADRACE_STREAM_OUTBOX_H
#define HEADRACE_STREAM_OUTBOX_H

#include <stdbool.h>

#include "base/error.h"
#include "graph/graph.h"
#include "stream/dead_letter.h"
#include "stream/kafka.h"

struct outbox;

/* Letters of `topic` go to topic + dead_suffix, which must outlive the outbox. */
int outbox_open(struct outbox **outbox, const struct kafka_settings *kafka, const char *dead_suffix,
                struct graph *graph, struct error *err);

/* Stages the letter for a message in the graph's batch. */
int outbox_put(struct outbox *outbox, const rd_kafka_message_t *message, enum dead_letter_class class,
               const char *reason, struct error *err);

/* graph_commit() has succeeded. */
void outbox_committed(struct outbox *outbox);

/*
 * Takes up acknowledgements, staging what they let go of, and sends the next lot. Not to be called while a commit is to
 * be tried again. A broker that is away is waited for; ERROR_FATAL: letters can never be delivered.
 */
int outbox_work(struct outbox *outbox, struct error *err);

/* Nothing is waiting, on its way, or staged. */
bool outbox_idle(const struct outbox *outbox);

/* What is not delivered stays in the store. NULL is fine. */
void outbox_close(struct outbox *outbox);

#endif
