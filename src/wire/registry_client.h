/*
 * registry_client.h - inside wire/: the calls of registry.h over libcurl
 *
 * Each blocks for timeout_ms at most. Errors name the call and where it went, never the password.
 *
 * Threads: a client belongs to one thread at a time.
 */
#ifndef HEADRACE_WIRE_REGISTRY_CLIENT_H
#define HEADRACE_WIRE_REGISTRY_CLIENT_H

#include <stdatomic.h>

#include "wire/registry.h"

struct registry_client;

/* `stop` (NULL: none) breaks a call off when it becomes true. ERROR_BAD_INPUT: settings that cannot be used. */
int registry_client_create(struct registry_client **client, const struct registry_settings *settings,
                           const atomic_bool *stop, struct error *err);
void registry_client_destroy(struct registry_client *client);

/* http://host:port/path, for the log. */
const char *registry_client_url(const struct registry_client *client);

int registry_client_schema(struct registry_client *client, uint32_t id, struct buffer *schema, struct error *err);

/* 0; 1: the subject does not have the schema, and *err says so; -1. */
int registry_client_find(struct registry_client *client, const char *subject, const char *schema, uint32_t *id,
                         struct error *err);
int registry_client_register(struct registry_client *client, const char *subject, const char *schema, uint32_t *id,
                             struct error *err);

#endif
