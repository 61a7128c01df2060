/*
 * registry.h - schemas by number: a client of the Confluent Schema Registry API
 *
 * Spoken as well by Apicurio (/apis/ccompat/v7), Karapace and Redpanda. Three calls of it are used: GET
 * /schemas/ids/ID for what others wrote, POST /subjects/SUBJECT to find the id of what we write, and, where it is
 * allowed, POST /subjects/SUBJECT/versions to register it.
 *
 * A thread of its own does the asking, one call at a time over one connection, so that nobody else waits for a
 * registry that is slow or gone. Answers are kept by id, REGISTRY_CACHE_LIMIT of them, the oldest leave; an id that the
 * registry does not know is remembered for unknown_ms, so that a flood of such messages is no flood of calls. A call
 * that fails is made again with growing pauses (0.1 s to 5 s) for as long as somebody asks; that the registry cannot be
 * asked, and why, is logged at most every 10 s.
 *
 * What counts as an answer. ERROR_BAD_INPUT only when the registry itself says so in its own words: error codes
 * 404xx for an unknown id or subject, 409 and 42xxx for a schema that it does not take; and a schema that we do not
 * take: schemaType other than AVRO, `references`, more than REGISTRY_ANSWER_LIMIT bytes. Everything else (no
 * connection, a bad certificate, a wrong password, 5xx, HTML, JSON of another shape, a bare 404) is ERROR_RETRY: the
 * world is at fault, and no message is given up for it.
 *
 * Safety. Certificates are verified. At most three redirects are followed, to the same scheme, host and port only:
 * credentials and schemas go nowhere else. The proxy variables of the environment count, as for every client of
 * libcurl. The password is in no log and no error.
 *
 * Threads: all functions, on one registry.
 */
#ifndef HEADRACE_WIRE_REGISTRY_H
#define HEADRACE_WIRE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "wire/messages.h"

enum { REGISTRY_CACHE_LIMIT = 4096, REGISTRY_ANSWER_LIMIT = 1 << 20 };

/* The subject that a topic's schema is filed under: "scores-value", or the record's full name "headrace.ScoreResponse".
 */
enum registry_subject { REGISTRY_TOPIC_NAME, REGISTRY_RECORD_NAME };

struct registry_settings {
    const char *url;            /* http or https, host, port, path; no user, no query */
    const char *user;           /* empty or NULL: no authentication; else HTTP basic */
    const char *password;       /* may be NULL */
    const char *ca_file;        /* PEM; empty or NULL: the system's */
    int connect_timeout_ms;     /* at least 1 */
    int timeout_ms;             /* of a call as a whole, at least 1 */
    int64_t unknown_ms;         /* how long an unknown id is not asked for again */
    enum registry_subject name; /* of what we write */
    bool may_register;          /* what we write, when the subject does not have it */
};

struct registry_totals {
    uint64_t calls, failures; /* HTTP calls that were made, and those that brought no answer of a registry */
    double failing_s;         /* for how long it cannot be asked by now; 0: it can, as far as we know */
    char failure[256];        /* then: why */
};

struct registry;

/* Settings are copied. ERROR_BAD_INPUT: the URL or the CA file are unusable. No call is made yet. */
int registry_create(struct registry **registry, const struct registry_settings *settings, struct error *err);

/* Breaks off a call under way, within a second. NULL is fine. */
void registry_destroy(struct registry *registry);

/*
 * Appends the text of schema `id`. The first to ask for it waits, at most `wait_ms`, and not while the registry cannot
 * be asked; who finds it asked for already does not wait. ERROR_RETRY: no answer yet, come back later. ERROR_BAD_INPUT:
 * there is no such schema, or none for us.
 */
int registry_schema(struct registry *registry, uint32_t id, int wait_ms, struct buffer *schema, struct error *err);

/*
 * The id of our schema of `type`, one of messages.h's five, for messages in `topic`; waits at most `wait_ms`, and not
 * while the registry cannot be asked: ERROR_RETRY as above. ERROR_BAD_INPUT: the subject does not have it and it may
 * not be registered, or the registry does not take it.
 */
int registry_schema_id(struct registry *registry, const struct message_type *type, const char *topic, int wait_ms,
                       uint32_t *id, struct error *err);

struct registry_totals registry_totals(struct registry *registry);

/*
 * For `check`: asks at once, on the caller's time, and registers nothing. registry_probe(): whether the registry
 * answers us; registry_look_up(): the id under which the topic's subject has our schema, ERROR_BAD_INPUT when it does
 * not.
 */
int registry_probe(const struct registry_settings *settings, struct error *err);
int registry_look_up(const struct registry_settings *settings, const struct message_type *type, const char *topic,
                     uint32_t *id, struct error *err);

/* The subject of what we write to a topic, for messages to people; `subject` holds 320 bytes. */
void registry_subject_name(enum registry_subject name, const struct message_type *type, const char *topic,
                           char subject[320]);

#endif
