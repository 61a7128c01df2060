#include "replay/source.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/log.h"
#include "replay/source_log.h"
#include "wire/codec.h"

enum { SHOWN_ERRORS = 10 };

struct replay_log *replay_log_create(void)
{
    struct replay_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return NULL;
    arena_init(&log->arena, 0);
    log->range = (struct source_range){.from = INT64_MIN, .to = INT64_MAX};
    return log;
}

void replay_log_set_range(struct replay_log *log, const struct source_range *range)
{
    log->range = *range;
}

void replay_log_destroy(struct replay_log *log)
{
    if (log == NULL)
        return;
    arena_free(&log->arena);
    free(log->messages);
    free(log);
}

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while reading logged messages: give a shorter range");
}

int replay_log_add(struct replay_log *log, const struct source_message *message, struct error *err)
{
    if (array_reserve(&log->messages, &log->capacity, log->count + 1, sizeof *log->messages) != 0)
        return out_of_memory(err);
    log->messages[log->count++] = *message;
    return 0;
}

void replay_log_report(struct replay_log *log, size_t wrong, const char *message)
{
    log->unreadable++;
    if (wrong < SHOWN_ERRORS)
        log_warn("replay", "%s", message);
    else if (wrong == SHOWN_ERRORS)
        log_warn("replay", "further messages that cannot be read are only counted");
}

static enum source_topic topic_of(const struct message_type *type)
{
    return type == &item_type          ? SOURCE_ITEMS
           : type == &user_type        ? SOURCE_USERS
           : type == &interaction_type ? SOURCE_INTERACTIONS
                                       : SOURCE_REQUESTS;
}

int64_t source_message_time(enum source_topic topic, const void *message)
{
    return topic == SOURCE_INTERACTIONS ? ((const struct interaction *)message)->timestamp_ms
           : topic == SOURCE_REQUESTS   ? ((const struct score_request *)message)->timestamp_ms
                                        : 0;
}

static bool is_timed(const struct source_message *message)
{
    return message->topic == SOURCE_INTERACTIONS || message->topic == SOURCE_REQUESTS;
}

int replay_log_read_file(struct replay_log *log, const struct event_file_settings *settings,
                         const volatile sig_atomic_t *interrupted, struct error *err)
{
    struct event_file *file;
    struct source_message message = {.partition = log->files++, .topic = (uint8_t)topic_of(settings->type)};
    size_t wrong = 0;
    int found = 1;
    if (event_file_open(&file, settings, err) != 0)
        return -1;
    log->untimed = log->untimed || (settings->untimed && event_file_untimed(file));
    while (found != 0) {
        if (interrupted != NULL && *interrupted) {
            found = error_set(err, ERROR_RETRY, "interrupted while reading %s", settings->path);
            break;
        }
        void *record = arena_allocate(&log->arena, settings->type->size);
        found = record == NULL ? out_of_memory(err) : event_file_next(file, &log->arena, record, err);
        if (found < 0 && err->kind != ERROR_BAD_INPUT)
            break;
        if (found < 0)
            replay_log_report(log, wrong++, err->message);
        if (found <= 0)
            continue;
        message.message = record;
        message.timestamp_ms = source_message_time((enum source_topic)message.topic, record);
        bool in_range = message.timestamp_ms >= log->range.from && message.timestamp_ms < log->range.to;
        if ((in_range || !is_timed(&message)) && replay_log_add(log, &message, err) != 0) {
            found = -1;
            break;
        }
        message.offset++;
    }
    event_file_close(file);
    return found;
}

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Items and users first, in the order in which they were read; then (timestamp, topic, partition, offset). */
static int in_order(const void *a, const void *b)
{
    const struct source_message *one = a, *other = b;
    int order = compare(is_timed(one), is_timed(other));
    if (order == 0 && is_timed(one))
        order = compare(one->timestamp_ms, other->timestamp_ms);
    if (order == 0)
        order = compare(one->topic, other->topic);
    if (order == 0)
        order = compare(one->partition, other->partition);
    return order != 0 ? order : compare(one->offset, other->offset);
}

int replay_log_order(struct replay_log *log, struct error *err)
{
    size_t events = 0;
    if (log->count > 0)
        qsort(log->messages, log->count, sizeof *log->messages, in_order);
    for (size_t i = 0; i < log->count; i++)
        events += is_timed(&log->messages[i]);
    if (events == 0)
        return error_set(err, ERROR_BAD_INPUT, "there is nothing to replay: no interaction and no request was read");
    return 0;
}

const struct source_message *replay_log_messages(const struct replay_log *log, size_t *count)
{
    *count = log->count;
    return log->messages;
}

bool replay_log_untimed(const struct replay_log *log)
{
    return log->untimed;
}

uint64_t replay_log_unreadable(const struct replay_log *log)
{
    return log->unreadable;
}

/* JSON is the one form that has all of a message and no addresses. */
int replay_log_hash(const struct replay_log *log, uint64_t *hash, struct error *err)
{
    static const struct message_type *const types[SOURCE_TOPICS] = {&item_type, &user_type, &score_request_type,
                                                                    &interaction_type};
    struct buffer json = {0};
    uint64_t sum = 0;
    int result = 0;
    for (size_t i = 0; result == 0 && i < log->count; i++) {
        const struct source_message *message = &log->messages[i];
        const int64_t place[] = {message->timestamp_ms, message->topic, message->partition, message->offset,
                                 message->deleted};
        buffer_clear(&json);
        buffer_append(&json, place, sizeof place);
        result = message_to_json(types[message->topic], message->message, &json, err);
        if (result == 0)
            result = buffer_check(&json, "reading logged messages", err);
        sum = XXH3_64bits_withSeed(json.data, json.size, sum);
    }
    buffer_free(&json);
    *hash = sum;
    return result;
}
