#include "wire/registry.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "wire/registry_client.h"

enum { TOPICS_LIMIT = 16, FIRST_PAUSE_MS = 100, LONGEST_PAUSE_MS = 5000, LOG_MS = 10000, SUBJECT_SIZE = 320 };
enum { TEXTS_LIMIT = 16 << 20 }; /* bytes of schemas' texts that are kept */
static const int64_t WANTED_NS = INT64_C(30000000000), MS = 1000000;

enum progress { ASKED, KNOWN, REFUSED };

/* What somebody wants to know, and how far we are. */
struct question {
    enum progress progress;
    char *text;         /* KNOWN: the schema of an id; REFUSED: why */
    int64_t refused_ns; /* when */
    int64_t wanted_ns;  /* when somebody asked last */
    int64_t due_ns;     /* ASKED: not to be asked for before */
    unsigned failures;  /* in a row */
};

/* The question for the id of what we write. */
struct written {
    struct question question;
    const struct message_type *type;
    char *topic;
    uint32_t id; /* KNOWN */
};

struct registry {
    int64_t unknown_ms;
    enum registry_subject name;
    bool may_register;
    struct registry_client *client; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    atomic_bool stop;

    /* The rest under the lock. By id: a ring in the order of the first question, `ids` apart for the search. */
    uint32_t *ids;
    struct question *questions;
    size_t count, next; /* filled; where the next one goes */
    size_t text_bytes;
    struct written written[TOPICS_LIMIT];
    size_t written_count;

    uint64_t calls, failures;
    struct error failure; /* of the last call, while failing_ns is set */
    int64_t failing_ns;   /* since when the registry cannot be asked; 0: it can */
    int64_t logged_ns;
    bool said; /* that it cannot */
    struct random random;
};

void registry_subject_name(enum registry_subject name, const struct message_type *type, const char *topic,
                           char subject[SUBJECT_SIZE])
{
    if (name == REGISTRY_RECORD_NAME)
        snprintf(subject, SUBJECT_SIZE, "%s", type->name);
    else
        snprintf(subject, SUBJECT_SIZE, "%s-value", topic);
}

/* The questions */

static struct timespec at(int64_t monotonic_ns)
{
    return (struct timespec){.tv_sec = monotonic_ns / (1000 * MS), .tv_nsec = monotonic_ns % (1000 * MS)};
}

static struct question *find_id(struct registry *registry, uint32_t id)
{
    for (size_t i = 0; i < registry->count; i++)
        if (registry->ids[i] == id)
            return &registry->questions[i];
    return NULL;
}

static void drop_text(struct registry *registry, struct question *question)
{
    if (question->progress == KNOWN && question->text != NULL)
        registry->text_bytes -= strlen(question->text);
    free(question->text);
    question->text = NULL;
}

/* Takes the place of the oldest when all are taken. */
static struct question *add_id(struct registry *registry, uint32_t id)
{
    size_t place = registry->next;
    registry->next = (registry->next + 1) % REGISTRY_CACHE_LIMIT;
    if (registry->count < REGISTRY_CACHE_LIMIT)
        registry->count++;
    else
        drop_text(registry, &registry->questions[place]);
    registry->ids[place] = id;
    registry->questions[place] = (struct question){.progress = ASKED};
    return &registry->questions[place];
}

/* Old schemas' texts go until the rest may stay; who wants one again asks again. */
static void limit_texts(struct registry *registry, const struct question *keep)
{
    for (size_t i = 0; i < registry->count && registry->text_bytes > TEXTS_LIMIT; i++) {
        struct question *oldest =
            &registry
                 ->questions[registry->count < REGISTRY_CACHE_LIMIT ? i : (registry->next + i) % REGISTRY_CACHE_LIMIT];
        if (oldest == keep || oldest->progress != KNOWN)
            continue;
        drop_text(registry, oldest);
        *oldest = (struct question){.progress = ASKED};
    }
}

/* Who asks says so, and gets what was refused asked for once more when its time has come: true then. */
static bool want(struct registry *registry, struct question *question, int64_t now)
{
    bool once_more = question->progress == REFUSED && now - question->refused_ns >= registry->unknown_ms * MS;
    if (once_more) {
        free(question->text);
        *question = (struct question){.progress = ASKED};
    }
    question->wanted_ns = now;
    if (question->progress == ASKED)
        pthread_cond_signal(&registry->asked);
    return once_more;
}

static struct question *want_id(struct registry *registry, uint32_t id, int64_t now, bool *first)
{
    struct question *question = find_id(registry, id);
    *first = question == NULL;
    if (question == NULL)
        question = add_id(registry, id);
    *first |= want(registry, question, now);
    return question;
}

/* Whether it is worth the caller's while to wait: for a registry that answers, until `deadline`. */
static bool wait_for_answer(struct registry *registry, const struct question *question, int64_t deadline)
{
    if (question->progress != ASKED || registry->failing_ns != 0 || clock_monotonic_ns() >= deadline)
        return false;
    struct timespec until = at(deadline);
    pthread_cond_timedwait(&registry->answered, &registry->lock, &until);
    return true;
}

/* What an unanswered or refused question is to its caller. */
static int say_no(const struct registry *registry, const struct question *question, struct error *err)
{
    if (question->progress == REFUSED)
        return error_set(err, ERROR_BAD_INPUT, "%s", question->text != NULL ? question->text : "the registry refuses");
    if (registry->failing_ns == 0)
        return error_set(err, ERROR_RETRY, "the schema registry is still being asked");
    *err = registry->failure;
    return -1;
}

int registry_schema(struct registry *registry, uint32_t id, int wait_ms, struct buffer *schema, struct error *err)
{
    int64_t now = clock_monotonic_ns(), deadline = now + wait_ms * MS;
    pthread_mutex_lock(&registry->lock);
    bool first, again;
    struct question *question = want_id(registry, id, now, &first);
    while (first && wait_for_answer(registry, question, deadline))
        question = want_id(registry, id, now, &again); /* while we waited the ring may have turned */
    int result;
    if (question->progress == KNOWN) {
        buffer_append_string(schema, question->text);
        result = buffer_check(schema, "reading a schema", err);
    } else {
        result = say_no(registry, question, err);
    }
    pthread_mutex_unlock(&registry->lock);
    return result;
}

static struct written *find_written(struct registry *registry, const struct message_type *type, const char *topic)
{
    for (size_t i = 0; i < registry->written_count; i++)
        if (registry->written[i].type == type && strcmp(registry->written[i].topic, topic) == 0)
            return &registry->written[i];
    if (registry->written_count == TOPICS_LIMIT)
        return NULL;
    char *copy = strdup(topic);
    if (copy == NULL)
        return NULL;
    struct written *written = &registry->written[registry->written_count++];
    *written = (struct written){.type = type, .topic = copy};
    return written;
}

int registry_schema_id(struct registry *registry, const struct message_type *type, const char *topic, int wait_ms,
                       uint32_t *id, struct error *err)
{
    int64_t now = clock_monotonic_ns(), deadline = now + wait_ms * MS;
    pthread_mutex_lock(&registry->lock);
    struct written *written = find_written(registry, type, topic);
    int result = -1;
    if (written == NULL) {
        error_set(err, ERROR_FATAL, "out of memory, or more than %d topics to write to", TOPICS_LIMIT);
    } else {
        do
            want(registry, &written->question, now);
        while (wait_for_answer(registry, &written->question, deadline));
        if (written->question.progress == KNOWN) {
            *id = written->id;
            result = 0;
        } else {
            say_no(registry, &written->question, err);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return result;
}

struct registry_totals registry_totals(struct registry *registry)
{
    pthread_mutex_lock(&registry->lock);
    struct registry_totals totals = {.calls = registry->calls, .failures = registry->failures};
    if (registry->failing_ns != 0) {
        totals.failing_s = clock_since_ms(registry->failing_ns) / 1000;
        snprintf(totals.failure, sizeof totals.failure, "%.*s", (int)sizeof totals.failure - 1,
                 registry->failure.message);
    }
    pthread_mutex_unlock(&registry->lock);
    return totals;
}

/* The thread */

/* One call: what it asks, and what came of it. */
struct errand {
    bool writes;
    const struct message_type *type; /* of what is written */
    size_t place;                    /* among `written` */
    uint32_t id;                     /* in: of the schema that is read; out: of the one that is written */
    char subject[SUBJECT_SIZE];
    struct buffer schema; /* what was read */
    int result;
    struct error err;
};

static bool is_due_before(const struct question *question, int64_t now, bool always, int64_t *due_ns)
{
    if (question->progress != ASKED || (!always && now - question->wanted_ns > WANTED_NS) ||
        question->due_ns >= *due_ns)
        return false;
    *due_ns = question->due_ns;
    return true;
}

/* The question that is due first, and when; false: there is none. */
static bool next_errand(struct registry *registry, int64_t now, struct errand *errand, int64_t *due_ns)
{
    bool found = false;
    *due_ns = INT64_MAX;
    for (size_t i = 0; i < registry->written_count; i++) {
        const struct written *written = &registry->written[i];
        if (!is_due_before(&written->question, now, true, due_ns))
            continue;
        errand->writes = found = true;
        errand->type = written->type;
        errand->place = i;
        registry_subject_name(registry->name, written->type, written->topic, errand->subject);
    }
    for (size_t i = 0; i < registry->count; i++)
        if (is_due_before(&registry->questions[i], now, false, due_ns)) {
            found = true;
            errand->writes = false;
            errand->id = registry->ids[i];
        }
    return found;
}

static void run_errand(struct registry_client *client, bool may_register, struct errand *errand)
{
    if (!errand->writes) {
        buffer_clear(&errand->schema);
        errand->result = registry_client_schema(client, errand->id, &errand->schema, &errand->err);
        return;
    }
    const char *schema = message_schema(errand->type);
    errand->result = registry_client_find(client, errand->subject, schema, &errand->id, &errand->err);
    if (errand->result == 1 && may_register) {
        errand->result = registry_client_register(client, errand->subject, schema, &errand->id, &errand->err);
        if (errand->result == 0)
            log_info("wire", "registered %s as %s, id %" PRIu32, errand->type->name, errand->subject, errand->id);
    } else if (errand->result == 1) {
        error_wrap(&errand->err, "registry.register is off, and our schema %s is not there (see schemas/)",
                   errand->type->name);
    }
}

static void take_failure(struct registry *registry, struct question *question, const struct error *err, int64_t now)
{
    unsigned doublings = question->failures < 10 ? question->failures : 10;
    int64_t pause_ms = (int64_t)FIRST_PAUSE_MS << doublings;
    if (pause_ms > LONGEST_PAUSE_MS)
        pause_ms = LONGEST_PAUSE_MS;
    question->failures++;
    registry->failures++;
    /* Spread, so that workers that lost the registry together do not come back together. */
    question->due_ns = now + (int64_t)((0.5 + random_uniform(&registry->random) / 2) * (double)(pause_ms * MS));
    registry->failure = *err;
    if (registry->failing_ns == 0)
        registry->failing_ns = now;
    if (registry->logged_ns == 0 || now - registry->logged_ns >= LOG_MS * MS) {
        registry->logged_ns = now;
        registry->said = true;
        log_warn("wire", "schema registry: %s; no message is given up for it, it is asked again", err->message);
    }
}

/* It answers: what waited for longer pauses is asked at once. */
static void take_recovery(struct registry *registry, int64_t now)
{
    if (registry->failing_ns == 0)
        return;
    if (registry->said)
        log_info("wire", "schema registry: answers again after %.1f s", (double)(now - registry->failing_ns) / 1e9);
    registry->said = false;
    registry->failing_ns = 0;
    for (size_t i = 0; i < registry->written_count; i++)
        registry->written[i].question.due_ns = 0;
    for (size_t i = 0; i < registry->count; i++)
        registry->questions[i].due_ns = 0;
}

static void take_answer(struct registry *registry, struct question *question, struct errand *errand, int64_t now)
{
    if (errand->result != 0) {
        question->progress = REFUSED;
        question->refused_ns = now;
        question->text = strdup(errand->err.message);
    } else if (errand->writes) {
        question->progress = KNOWN;
        registry->written[errand->place].id = errand->id;
    } else if ((question->text = strndup((const char *)errand->schema.data, errand->schema.size)) != NULL) {
        question->progress = KNOWN;
        registry->text_bytes += strlen(question->text);
        limit_texts(registry, question);
    } /* else: no memory just now, it is asked for again */
}

static void finish_errand(struct registry *registry, struct errand *errand)
{
    int64_t now = clock_monotonic_ns();
    struct question *question =
        errand->writes ? &registry->written[errand->place].question : find_id(registry, errand->id);
    bool failed = errand->result != 0 && errand->err.kind != ERROR_BAD_INPUT;
    if (failed && atomic_load(&registry->stop)) /* broken off by ourselves */
        return;
    if (!failed)
        take_recovery(registry, now);
    if (question != NULL && question->progress == ASKED) {
        if (failed)
            take_failure(registry, question, &errand->err, now);
        else
            take_answer(registry, question, errand, now);
    }
    pthread_cond_broadcast(&registry->answered);
}

static void *ask(void *context)
{
    struct registry *registry = context;
    struct errand errand = {0};
    pthread_mutex_lock(&registry->lock);
    while (!atomic_load(&registry->stop)) {
        int64_t due_ns, now = clock_monotonic_ns();
        if (!next_errand(registry, now, &errand, &due_ns)) {
            pthread_cond_wait(&registry->asked, &registry->lock);
        } else if (due_ns > now) {
            struct timespec until = at(due_ns);
            pthread_cond_timedwait(&registry->asked, &registry->lock, &until);
        } else {
            pthread_mutex_unlock(&registry->lock);
            run_errand(registry->client, registry->may_register, &errand);
            pthread_mutex_lock(&registry->lock);
            registry->calls++;
            finish_errand(registry, &errand);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    buffer_free(&errand.schema);
    return NULL;
}

/* Life */

static void start_conditions(struct registry *registry)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&registry->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&registry->asked, &attributes);
    pthread_cond_init(&registry->answered, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void free_registry(struct registry *registry)
{
    registry_client_destroy(registry->client);
    for (size_t i = 0; i < registry->count; i++)
        free(registry->questions[i].text);
    for (size_t i = 0; i < registry->written_count; i++) {
        free(registry->written[i].topic);
        free(registry->written[i].question.text);
    }
    pthread_cond_destroy(&registry->answered);
    pthread_cond_destroy(&registry->asked);
    pthread_mutex_destroy(&registry->lock);
    free(registry->questions);
    free(registry->ids);
    free(registry);
}

int registry_create(struct registry **registry, const struct registry_settings *settings, struct error *err)
{
    struct registry *new = calloc(1, sizeof *new);
    if (new == NULL)
        return error_set(err, ERROR_FATAL, "out of memory while setting up the registry");
    start_conditions(new);
    new->unknown_ms = settings->unknown_ms;
    new->name = settings->name;
    new->may_register = settings->may_register;
    new->random.state = (uint64_t)clock_monotonic_ns();
    new->ids = calloc(REGISTRY_CACHE_LIMIT, sizeof *new->ids);
    new->questions = calloc(REGISTRY_CACHE_LIMIT, sizeof *new->questions);
    if (new->ids == NULL || new->questions == NULL) {
        free_registry(new);
        return error_set(err, ERROR_FATAL, "out of memory while setting up the registry");
    }
    if (registry_client_create(&new->client, settings, &new->stop, err) != 0) {
        free_registry(new);
        return -1;
    }
    if (pthread_create(&new->thread, NULL, ask, new) != 0) {
        free_registry(new);
        return error_set(err, ERROR_FATAL, "no thread for the registry could be started");
    }
    *registry = new;
    return 0;
}

void registry_destroy(struct registry *registry)
{
    if (registry == NULL)
        return;
    pthread_mutex_lock(&registry->lock);
    atomic_store(&registry->stop, true);
    pthread_cond_signal(&registry->asked);
    pthread_mutex_unlock(&registry->lock);
    pthread_join(registry->thread, NULL);
    free_registry(registry);
}

int registry_probe(const struct registry_settings *settings, struct error *err)
{
    struct registry_client *client;
    struct buffer schema = {0};
    if (registry_client_create(&client, settings, NULL, err) != 0)
        return -1;
    /* Whether there is a schema 1 or not, only a registry that we may read from says so in its own words. */
    int result = registry_client_schema(client, 1, &schema, err);
    if (result != 0 && err->kind == ERROR_BAD_INPUT)
        result = 0;
    registry_client_destroy(client);
    buffer_free(&schema);
    return result;
}

int registry_look_up(const struct registry_settings *settings, const struct message_type *type, const char *topic,
                     uint32_t *id, struct error *err)
{
    struct registry_client *client;
    char subject[SUBJECT_SIZE];
    registry_subject_name(settings->name, type, topic, subject);
    if (registry_client_create(&client, settings, NULL, err) != 0)
        return -1;
    int result = registry_client_find(client, subject, message_schema(type), id, err);
    registry_client_destroy(client);
    return result == 0 ? 0 : -1;
}
