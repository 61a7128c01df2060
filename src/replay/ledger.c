#include "replay/ledger.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/table.h"

/* A user and an item. */
struct pair {
    bool produced;
    uint32_t waiting; /* open requests that ask for it */
};

struct request {
    int64_t events_before;
    int64_t timestamp_ms;
    uint32_t *pairs; /* by candidate; NULL once answered */
    size_t pair_count;
    bool open;
};

struct ledger {
    int64_t events;
    struct table pair_ids;
    struct pair *pairs;
    size_t pair_capacity;
    struct table request_ids;
    struct request *requests;
    size_t request_capacity;
    size_t open_requests;
    struct buffer key; /* of the pair being looked for */
};

/* For messages: an id as far as it may be shown. */
#define SHOWN(id) TEXT_ARGS(text_prefix((id), 48))

struct ledger *ledger_create(void)
{
    return calloc(1, sizeof(struct ledger));
}

void ledger_destroy(struct ledger *ledger)
{
    if (ledger == NULL)
        return;
    for (size_t i = 0; i < ledger->request_ids.count; i++)
        free(ledger->requests[i].pairs);
    table_free(&ledger->pair_ids);
    table_free(&ledger->request_ids);
    free(ledger->pairs);
    free(ledger->requests);
    buffer_free(&ledger->key);
    free(ledger);
}

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while keeping the ledger");
}

static void clear(struct ledger_finding *finding)
{
    *finding = (struct ledger_finding){.verdict = LEDGER_CLEAN};
}

/* The pair's number, made if it was not there; TABLE_NONE without memory. The length keeps "a" "bc" from "ab" "c". */
static uint32_t find_pair(struct ledger *ledger, struct text user_id, struct text item_id)
{
    buffer_clear(&ledger->key);
    buffer_append(&ledger->key, &user_id.size, sizeof user_id.size);
    buffer_append_text(&ledger->key, user_id);
    buffer_append_text(&ledger->key, item_id);
    size_t known = ledger->pair_ids.count;
    if (ledger->key.failed ||
        array_reserve(&ledger->pairs, &ledger->pair_capacity, known + 1, sizeof *ledger->pairs) != 0)
        return TABLE_NONE;
    uint32_t number = table_add(&ledger->pair_ids, buffer_text(&ledger->key));
    if (number == known)
        ledger->pairs[number] = (struct pair){0};
    return number;
}

int ledger_event(struct ledger *ledger, struct text user_id, struct text item_id, struct ledger_finding *finding,
                 struct error *err)
{
    clear(finding);
    uint32_t number = find_pair(ledger, user_id, item_id);
    if (number == TABLE_NONE)
        return out_of_memory(err);
    struct pair *pair = &ledger->pairs[number];
    if (pair->waiting > 0) {
        finding->verdict = LEDGER_ANSWER_EARLY;
        snprintf(finding->message, sizeof finding->message,
                 "rating of user " TEXT_FORMAT ", item " TEXT_FORMAT ", produced while %u open request(s) ask for it",
                 SHOWN(user_id), SHOWN(item_id), pair->waiting);
    }
    pair->produced = true;
    ledger->events++;
    return 0;
}

/* Looks up the candidates' pairs, without noting anything yet. */
static uint32_t *find_pairs(struct ledger *ledger, struct text user_id, const struct text *item_ids, size_t item_count)
{
    uint32_t *pairs = calloc(item_count + 1, sizeof *pairs);
    for (size_t i = 0; pairs != NULL && i < item_count; i++) {
        pairs[i] = find_pair(ledger, user_id, item_ids[i]);
        if (pairs[i] == TABLE_NONE) {
            free(pairs);
            return NULL;
        }
    }
    return pairs;
}

int ledger_request(struct ledger *ledger, struct text request_id, struct text user_id, int64_t timestamp_ms,
                   const struct text *item_ids, size_t item_count, struct ledger_finding *finding, struct error *err)
{
    clear(finding);
    size_t known = ledger->request_ids.count;
    if (table_find(&ledger->request_ids, request_id) != TABLE_NONE)
        return error_set(err, ERROR_BAD_INPUT, "request id " TEXT_FORMAT " was used before", SHOWN(request_id));
    if (array_reserve(&ledger->requests, &ledger->request_capacity, known + 1, sizeof *ledger->requests) != 0)
        return out_of_memory(err);
    uint32_t *pairs = find_pairs(ledger, user_id, item_ids, item_count);
    if (pairs == NULL || table_add(&ledger->request_ids, request_id) == TABLE_NONE) {
        free(pairs);
        return out_of_memory(err);
    }

    ledger->requests[known] = (struct request){ledger->events, timestamp_ms, pairs, item_count, true};
    ledger->open_requests++;
    for (size_t i = 0; i < item_count; i++) {
        struct pair *pair = &ledger->pairs[pairs[i]];
        pair->waiting++;
        if (!pair->produced || finding->verdict != LEDGER_CLEAN)
            continue;
        finding->verdict = LEDGER_ANSWER_KNOWN;
        snprintf(finding->message, sizeof finding->message,
                 "request " TEXT_FORMAT " of user " TEXT_FORMAT " asks for item " TEXT_FORMAT
                 ", whose rating was produced before",
                 SHOWN(request_id), SHOWN(user_id), SHOWN(item_ids[i]));
    }
    return 0;
}

static void judge(const struct request *request, struct text request_id, int64_t events_applied,
                  int64_t newest_event_ms, struct ledger_finding *finding)
{
    char *message = finding->message;
    size_t size = sizeof finding->message;
    if (events_applied > request->events_before) {
        finding->verdict = LEDGER_AHEAD;
        snprintf(message, size,
                 "response to " TEXT_FORMAT ": state of %" PRId64 " events where only %" PRId64
                 " were produced before the request",
                 SHOWN(request_id), events_applied, request->events_before);
    } else if (newest_event_ms > request->timestamp_ms) {
        finding->verdict = LEDGER_FUTURE;
        snprintf(message, size,
                 "response to " TEXT_FORMAT ": state has an event of %" PRId64 " ms, later than the request's %" PRId64,
                 SHOWN(request_id), newest_event_ms, request->timestamp_ms);
    } else if (events_applied < request->events_before) {
        finding->verdict = LEDGER_BEHIND;
        snprintf(message, size,
                 "response to " TEXT_FORMAT ": state of %" PRId64 " events where %" PRId64
                 " were produced before the request: not caught up",
                 SHOWN(request_id), events_applied, request->events_before);
    }
}

static void close_request(struct ledger *ledger, struct request *request)
{
    for (size_t i = 0; i < request->pair_count; i++)
        ledger->pairs[request->pairs[i]].waiting--;
    free(request->pairs);
    request->pairs = NULL;
    request->pair_count = 0;
    request->open = false;
    ledger->open_requests--;
}

void ledger_response(struct ledger *ledger, struct text request_id, int64_t events_applied, int64_t newest_event_ms,
                     struct ledger_finding *finding)
{
    clear(finding);
    uint32_t number = table_find(&ledger->request_ids, request_id);
    if (number == TABLE_NONE || !ledger->requests[number].open) {
        finding->verdict = LEDGER_UNASKED;
        snprintf(finding->message, sizeof finding->message, "response to " TEXT_FORMAT ", which is no open request",
                 SHOWN(request_id));
        return;
    }
    judge(&ledger->requests[number], request_id, events_applied, newest_event_ms, finding);
    close_request(ledger, &ledger->requests[number]);
}

int64_t ledger_events(const struct ledger *ledger)
{
    return ledger->events;
}

size_t ledger_open_requests(const struct ledger *ledger)
{
    return ledger->open_requests;
}
