/*
 * broker.h - the embedded broker: librdkafka's mock cluster
 *
 * For demos and tests on one machine. It listens on loopback at a port of its own choosing, keeps topics in memory and
 * silently drops what exceeds 5 MiB or 100,000 message sets a partition (librdkafka 2.0.2, rdkafka_mock.c), knows no
 * transactions, and finds no offset by time. Clients should use session.timeout.ms 6000 and fetch.wait.max.ms 10, and
 * auto.offset.reset=error, so that a gap is an error and not silence.
 */
#ifndef HEADRACE_STREAM_BROKER_H
#define HEADRACE_STREAM_BROKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct broker;

int broker_start(struct broker **broker, struct error *err);
int broker_create_topic(struct broker *broker, const char *topic, int32_t partitions, struct error *err);

/* "127.0.0.1:39001" */
const char *broker_address(const struct broker *broker);
void broker_stop(struct broker *broker);

#endif
