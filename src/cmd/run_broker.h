/*
 * run_broker.h - inside cmd/: whether the broker answers us just now
 *
 * librdkafka tells of a broker that is gone, but not of one that has come back: so it is asked, over a connection of
 * its own; an answer counts for 5 seconds.
 *
 * Threads: one.
 */
#ifndef HEADRACE_CMD_RUN_BROKER_H
#define HEADRACE_CMD_RUN_BROKER_H

#include "base/error.h"
#include "config/config.h"

struct run_broker;

/* Does not wait for the broker. */
int run_broker_create(struct run_broker **broker, const struct config *config, struct error *err);
void run_broker_destroy(struct run_broker *broker); /* NULL is fine */

/* Waits for an answer, a second at most. ERROR_RETRY: there is none. */
int run_broker_ask(struct run_broker *broker, struct error *err);

#endif
