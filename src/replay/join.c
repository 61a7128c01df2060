#include "replay/join.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buffer.h"
#include "graph/records.h"

/* What makes requests where the log has none. */
enum maker { MADE_OF_REQUESTS, MADE_OF_IMPRESSIONS, MADE_OF_EDGES };

struct joining {
    struct joined *joined;
    const struct join_settings *settings;
    const struct source_message *messages;
    size_t message_count;
    enum maker maker;
    bool has_impressions;
    size_t request_capacity, row_capacity, id_capacity;
    struct table users, items, request_ids;
    struct table pairs; /* (user or request id, item) */
    size_t *pair_rows;  /* of each pair: its latest row + 1 */
    size_t pair_capacity;
    bool *shown; /* by row: an impression of it is in the log */
    size_t shown_capacity;
};

static int out_of_memory(struct error *err)
{
    return error_set(err, ERROR_FATAL, "out of memory while joining requests and events: give a shorter range");
}

/* Where the latest row of a user's, or a request id's, item is remembered; NULL without memory. */
static size_t *latest_row(struct joining *joining, char kind, uint32_t owner, uint32_t item)
{
    uint8_t key[9];
    key[0] = (uint8_t)kind;
    bytes_put_32(key + 1, owner);
    bytes_put_32(key + 5, item);
    size_t known = joining->pairs.count;
    uint32_t pair = table_add(&joining->pairs, (struct text){(const char *)key, sizeof key});
    if (pair == TABLE_NONE ||
        array_reserve(&joining->pair_rows, &joining->pair_capacity, joining->pairs.count, sizeof(size_t)) != 0)
        return NULL;
    if (pair == known)
        joining->pair_rows[pair] = 0;
    return &joining->pair_rows[pair];
}

static int open_request(struct joining *joining, int64_t timestamp_ms, struct text user_id,
                        const struct score_request *logged, struct error *err)
{
    struct joined *joined = joining->joined;
    if (array_reserve(&joined->requests, &joining->request_capacity, joined->request_count + 1,
                      sizeof *joined->requests) != 0)
        return out_of_memory(err);
    joined->requests[joined->request_count++] = (struct joined_request){
        .timestamp_ms = timestamp_ms, .logged = logged, .user_id = user_id, .first_row = joined->row_count};
    return 0;
}

static int reserve_row(struct joining *joining, struct error *err)
{
    struct joined *joined = joining->joined;
    size_t wanted = joined->row_count + 1;
    if (array_reserve(&joined->rows, &joining->row_capacity, wanted, sizeof *joined->rows) != 0 ||
        array_reserve(&joined->item_ids, &joining->id_capacity, wanted, sizeof *joined->item_ids) != 0 ||
        array_reserve(&joining->shown, &joining->shown_capacity, wanted, sizeof *joining->shown) != 0)
        return out_of_memory(err);
    return 0;
}

/* A candidate of the last request. */
static int add_row(struct joining *joining, struct text item_id, struct text request_id, struct error *err)
{
    struct joined *joined = joining->joined;
    struct joined_request *request = &joined->requests[joined->request_count - 1];
    uint32_t user = table_add(&joining->users, request->user_id), item = table_add(&joining->items, item_id);
    if (user == TABLE_NONE || item == TABLE_NONE || reserve_row(joining, err) != 0)
        return out_of_memory(err);
    size_t *latest = latest_row(joining, 'u', user, item);
    if (latest == NULL)
        return out_of_memory(err);
    *latest = joined->row_count + 1;
    if (request_id.size > 0) {
        uint32_t id = table_add(&joining->request_ids, request_id);
        latest = id == TABLE_NONE ? NULL : latest_row(joining, 'r', id, item);
        if (latest == NULL)
            return out_of_memory(err);
        *latest = joined->row_count + 1;
    }
    joining->shown[joined->row_count] = false;
    joined->item_ids[joined->row_count] = item_id;
    joined->rows[joined->row_count++] = (struct trajectory_row){.timestamp_ms = request->timestamp_ms,
                                                                .request = (uint32_t)(joined->request_count - 1),
                                                                .user = user,
                                                                .item = item,
                                                                .label = TRAJECTORY_UNLABELLED,
                                                                .known_ms = INT64_MIN};
    request->row_count++;
    return 0;
}

/* The row that an event answers; SIZE_MAX: none. */
static size_t find_row(struct joining *joining, const struct interaction *event)
{
    uint32_t user = table_find(&joining->users, event->user_id), item = table_find(&joining->items, event->item_id);
    uint32_t id = event->request_id.size > 0 ? table_find(&joining->request_ids, event->request_id) : TABLE_NONE;
    if (user == TABLE_NONE || item == TABLE_NONE)
        return SIZE_MAX;
    size_t *latest = id != TABLE_NONE ? latest_row(joining, 'r', id, item) : latest_row(joining, 'u', user, item);
    return latest == NULL || *latest == 0 ? SIZE_MAX : *latest - 1;
}

/* 0, 1, or TRAJECTORY_UNLABELLED where the event says nothing. */
static uint8_t label_of(const struct graph_settings *graph, const struct interaction *event)
{
    if (event->has_label)
        return event->label;
    if (!event_is_edge((uint8_t)event->kind))
        return TRAJECTORY_UNLABELLED;
    switch (graph_verdict(graph, event->kind, event->has_value, event->value, false, false)) {
    case VERDICT_LIKE:
        return 1;
    case VERDICT_DISLIKE:
        return 0;
    case VERDICT_NEUTRAL:
        break;
    }
    return TRAJECTORY_UNLABELLED;
}

static void answer_row(struct trajectory_row *row, uint8_t label, int64_t known_ms)
{
    if (row->label != TRAJECTORY_UNLABELLED || label == TRAJECTORY_UNLABELLED)
        return;
    row->label = label;
    row->known_ms = known_ms;
}

static void take_event(struct joining *joining, const struct interaction *event)
{
    size_t at = find_row(joining, event);
    if (at == SIZE_MAX)
        return;
    struct trajectory_row *row = &joining->joined->rows[at];
    if (event->timestamp_ms - row->timestamp_ms > joining->settings->label_window_ms)
        return;
    joining->shown[at] = joining->shown[at] || event->kind == INTERACTION_IMPRESSION;
    answer_row(row, label_of(joining->settings->graph, event), event->timestamp_ms);
}

static bool makes_request(const struct joining *joining, const struct interaction *event)
{
    return joining->maker == MADE_OF_IMPRESSIONS ? event->kind == INTERACTION_IMPRESSION
                                                 : event_is_edge((uint8_t)event->kind);
}

static bool has_candidate(const struct joining *joining, struct text item_id)
{
    const struct joined *joined = joining->joined;
    for (size_t i = joined->requests[joined->request_count - 1].first_row; i < joined->row_count; i++)
        if (text_equal(joined->item_ids[i], item_id))
            return true;
    return false;
}

/* NULL: no interaction, or one that the graph will refuse. */
static const struct interaction *event_at(const struct joining *joining, size_t index)
{
    const struct source_message *message = &joining->messages[index];
    if (message->topic != SOURCE_INTERACTIONS)
        return NULL;
    const struct interaction *event = message->message;
    return event->user_id.size > 0 && event->item_id.size > 0 && event->timestamp_ms >= 0 ? event : NULL;
}

/* The events of one time that make requests, by user and request id, as they came. */
struct made {
    const struct interaction *event;
    size_t order;
};

static int compare_text(struct text a, struct text b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_user(const void *a, const void *b)
{
    const struct made *one = a, *other = b;
    int order = compare_text(one->event->user_id, other->event->user_id);
    if (order == 0)
        order = compare_text(one->event->request_id, other->event->request_id);
    return order != 0 ? order : (one->order > other->order) - (one->order < other->order);
}

static bool same_request(const struct interaction *one, const struct interaction *other)
{
    return text_equal(one->user_id, other->user_id) && text_equal(one->request_id, other->request_id);
}

/* Requests of the events messages[first .. end), which are of one time. */
static int make_requests(struct joining *joining, size_t first, size_t end, struct error *err)
{
    struct made *made = calloc(end - first + 1, sizeof *made);
    size_t count = 0;
    int result = made == NULL ? out_of_memory(err) : 0;
    for (size_t i = first; result == 0 && i < end; i++) {
        const struct interaction *event = event_at(joining, i);
        if (event != NULL && makes_request(joining, event))
            made[count++] = (struct made){event, i};
    }
    if (count > 1)
        qsort(made, count, sizeof *made, by_user);
    for (size_t i = 0; result == 0 && i < count; i++) {
        const struct interaction *event = made[i].event;
        if (i == 0 || !same_request(event, made[i - 1].event))
            result = open_request(joining, event->timestamp_ms, event->user_id, NULL, err);
        if (result == 0 && !has_candidate(joining, event->item_id))
            result = add_row(joining, event->item_id, event->request_id, err);
    }
    free(made);
    return result;
}

static int take_request(struct joining *joining, const struct score_request *request, struct error *err)
{
    if (request->user_id.size == 0 || request->candidate_count == 0)
        return 0;
    int result = open_request(joining, request->timestamp_ms, request->user_id, request, err);
    for (size_t i = 0; result == 0 && i < request->candidate_count; i++)
        result = add_row(joining, request->candidates[i].item_id, request->request_id, err);
    return result;
}

/* Everything of one time: requests, then what answers them or earlier ones. */
static int take_time(struct joining *joining, size_t first, size_t end, struct error *err)
{
    int result = 0;
    if (joining->maker != MADE_OF_REQUESTS)
        result = make_requests(joining, first, end, err);
    for (size_t i = first; result == 0 && i < end; i++)
        if (joining->messages[i].topic == SOURCE_REQUESTS)
            result = take_request(joining, joining->messages[i].message, err);
    for (size_t i = first; result == 0 && i < end; i++)
        if (event_at(joining, i) != NULL)
            take_event(joining, event_at(joining, i));
    return result;
}

/* The end of the window without an answer is an answer, as far as the log reaches. */
static void expire(struct joining *joining)
{
    struct joined *joined = joining->joined;
    int64_t last_ms = joining->messages[joining->message_count - 1].timestamp_ms;
    int64_t window_ms = joining->settings->label_window_ms;
    if (joining->maker == MADE_OF_EDGES)
        return;
    for (size_t i = 0; i < joined->row_count; i++) {
        struct trajectory_row *row = &joined->rows[i];
        if (last_ms - row->timestamp_ms > window_ms && (joining->shown[i] || !joining->has_impressions))
            answer_row(row, 0, row->timestamp_ms + window_ms);
    }
}

static int join_timed(struct joining *joining, struct error *err)
{
    const struct source_message *messages = joining->messages;
    size_t end;
    for (size_t first = 0; first < joining->message_count; first = end) {
        for (end = first + 1; end < joining->message_count; end++)
            if (messages[end].timestamp_ms != messages[first].timestamp_ms)
                break;
        if (take_time(joining, first, end, err) != 0)
            return -1;
    }
    expire(joining);
    return 0;
}

/* The event of each user that comes first in an order shuffled by the seed. */
static int draw_targets(struct joining *joining, size_t **drawn, struct error *err)
{
    uint64_t *least = NULL;
    size_t capacity = 0, drawn_capacity = 0;
    int result = 0;
    for (size_t i = 0; i < joining->message_count; i++) {
        const struct interaction *event = event_at(joining, i);
        if (event == NULL || !event_is_edge((uint8_t)event->kind))
            continue;
        size_t known = joining->users.count;
        uint32_t user = table_add(&joining->users, event->user_id);
        if (user == TABLE_NONE || array_reserve(&least, &capacity, joining->users.count, sizeof *least) != 0 ||
            array_reserve(drawn, &drawn_capacity, joining->users.count, sizeof **drawn) != 0) {
            result = out_of_memory(err);
            break;
        }
        uint64_t hash = XXH3_64bits_withSeed(&joining->messages[i].offset, sizeof(int64_t), joining->settings->seed);
        if (user == known || hash < least[user]) {
            least[user] = hash;
            (*drawn)[user] = i;
        }
    }
    free(least);
    return result;
}

static int join_untimed(struct joining *joining, struct error *err)
{
    size_t *drawn = NULL;
    joining->joined->targets = calloc(joining->message_count + 1, sizeof *joining->joined->targets);
    int result = joining->joined->targets == NULL ? out_of_memory(err) : draw_targets(joining, &drawn, err);
    for (size_t user = 0; result == 0 && user < joining->users.count; user++) {
        const struct interaction *event = event_at(joining, drawn[user]);
        joining->joined->targets[drawn[user]] = true;
        result = open_request(joining, event->timestamp_ms + 1, event->user_id, NULL, err);
        if (result == 0)
            result = add_row(joining, event->item_id, (struct text){0}, err);
        if (result == 0)
            answer_row(&joining->joined->rows[joining->joined->row_count - 1],
                       label_of(joining->settings->graph, event), event->timestamp_ms + 1);
    }
    free(drawn);
    return result;
}

static void look(struct joining *joining)
{
    joining->maker = MADE_OF_EDGES;
    for (size_t i = 0; i < joining->message_count; i++) {
        const struct interaction *event = event_at(joining, i);
        joining->has_impressions = joining->has_impressions || (event != NULL && event->kind == INTERACTION_IMPRESSION);
        if (joining->messages[i].topic == SOURCE_REQUESTS)
            joining->maker = MADE_OF_REQUESTS;
    }
    if (joining->maker == MADE_OF_EDGES && joining->has_impressions)
        joining->maker = MADE_OF_IMPRESSIONS;
}

int join_requests(struct joined *joined, const struct source_message *messages, size_t count,
                  const struct join_settings *settings, struct error *err)
{
    *joined = (struct joined){0};
    struct joining joining = {.joined = joined, .settings = settings, .messages = messages, .message_count = count};
    look(&joining);
    int result = settings->untimed ? join_untimed(&joining, err) : join_timed(&joining, err);
    if (result == 0 && joined->row_count == 0)
        result = error_set(err, ERROR_BAD_INPUT,
                           "nothing can be asked of this log: it has no requests, no impressions and no ratings");
    joined->users = joining.users.count;
    joined->items = joining.items.count;
    table_free(&joining.users);
    table_free(&joining.items);
    table_free(&joining.request_ids);
    table_free(&joining.pairs);
    free(joining.pair_rows);
    free(joining.shown);
    if (result != 0)
        joined_free(joined);
    return result;
}

void joined_free(struct joined *joined)
{
    free(joined->requests);
    free(joined->rows);
    free(joined->item_ids);
    free(joined->targets);
    *joined = (struct joined){0};
}

/* The number's new one, given at its first appearance. */
static uint32_t renumber(uint32_t *numbers, uint32_t number, size_t *count)
{
    if (numbers[number] == TABLE_NONE)
        numbers[number] = (uint32_t)(*count)++;
    return numbers[number];
}

int joined_keep(struct joined *joined, bool (*keep)(void *context, const struct joined_request *request), void *context,
                struct error *err)
{
    uint32_t *users = malloc((joined->users + 1) * sizeof *users);
    uint32_t *items = malloc((joined->items + 1) * sizeof *items);
    size_t rows = 0, requests = 0;
    int result = users == NULL || items == NULL ? out_of_memory(err) : 0;
    if (result == 0) {
        memset(users, 0xff, (joined->users + 1) * sizeof *users);
        memset(items, 0xff, (joined->items + 1) * sizeof *items);
        joined->users = joined->items = 0;
    }
    for (size_t i = 0; result == 0 && i < joined->request_count; i++) {
        struct joined_request request = joined->requests[i];
        if (!keep(context, &request))
            continue;
        size_t first = request.first_row;
        request.first_row = rows;
        for (size_t r = first; r < first + request.row_count; r++, rows++) {
            joined->item_ids[rows] = joined->item_ids[r];
            joined->rows[rows] = joined->rows[r];
            joined->rows[rows].request = (uint32_t)requests;
            joined->rows[rows].user = renumber(users, joined->rows[r].user, &joined->users);
            joined->rows[rows].item = renumber(items, joined->rows[r].item, &joined->items);
        }
        joined->requests[requests++] = request;
    }
    joined->request_count = requests;
    joined->row_count = rows;
    free(users);
    free(items);
    return result;
}
