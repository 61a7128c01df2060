#include "graph/snapshot_check.h"

#include <stdlib.h>

#include "graph/grow.h"
#include "graph/records.h"

static int damaged(struct error *err, const char *what)
{
    return error_set(err, ERROR_FATAL, "a record is damaged: %s", what);
}

static struct text view(const uint8_t *bytes, size_t size)
{
    return (struct text){(const char *)bytes, size};
}

static bool has_user(const struct snapshot_check *check, uint32_t user)
{
    return user < check->user_count && check->users[user];
}

static int check_meta(struct text key, struct text value, struct error *err)
{
    if (!text_equal(key, text_of("format")) || value.size != 4)
        return damaged(err, "the store's description");
    if (bytes_get_32(value.data) != RECORD_FORMAT)
        return error_set(err, ERROR_FATAL,
                         "its records have format %u, this version reads %d: run the version that "
                         "wrote them",
                         bytes_get_32(value.data), RECORD_FORMAT);
    return 0;
}

static int check_id(struct snapshot_check *check, struct text key, struct text id, struct error *err)
{
    if (key.size != 5 || (key.data[0] != 'u' && key.data[0] != 'i') || !text_is_utf8(id))
        return damaged(err, "an id");
    bool user = key.data[0] == 'u';
    if (bytes_get_32(key.data + 1) != (user ? check->user_count : check->item_count))
        return damaged(err, "a gap in the numbers of users or items");
    if (!user) {
        check->item_count++;
        return id.size > 0 ? 0 : damaged(err, "an item without an id");
    }
    if (grow(&check->users, &check->user_capacity, check->user_count + 1, 1) != 0)
        return error_set(err, ERROR_FATAL, "out of memory for %zu users", check->user_count);
    check->users[check->user_count++] = id.size > 0;
    check->live_users += id.size > 0;
    return 0;
}

static int check_description(const struct snapshot_check *check, bool user, struct text key, struct text value,
                             struct error *err)
{
    if (key.size != 4)
        return damaged(err, "the key of a title or profile");
    uint32_t number = bytes_get_32(key.data);
    if (user ? !has_user(check, number) : number >= check->item_count)
        return damaged(err, user ? "a profile without its user" : "a title without its item");
    struct description *description = description_decode(value, err);
    free(description);
    return description == NULL ? -1 : 0;
}

static int check_ends(struct snapshot_check *check, const struct event *event, struct error *err)
{
    if (!has_user(check, event->user) || event->item >= check->item_count)
        return damaged(err, "an event without its user or item");
    if (event->timestamp_ms < 0 || event->label < EVENT_LABEL_NONE || event->label > EVENT_LABEL_YES)
        return damaged(err, "an event of an impossible time or label");
    if (event->sequence >= check->next_sequence)
        check->next_sequence = event->sequence + 1;
    if (event->timestamp_ms > check->newest_ms)
        check->newest_ms = event->timestamp_ms;
    return 0;
}

static int check_event(struct snapshot_check *check, struct text key, struct text value, struct error *err)
{
    struct event event;
    uint8_t key_again[EVENT_KEY_SIZE], value_again[EVENT_VALUE_SIZE];
    if (event_decode(key, value, &event, err) != 0 || check_ends(check, &event, err) != 0)
        return -1;
    event_encode(&event, key_again, value_again);
    check->event_records++;
    return text_equal(key, view(key_again, sizeof key_again)) ? 0 : damaged(err, "the key of an event");
}

/* The event that is the newest of its pair stands in the history of its user. */
static int find_event(struct snapshot_check *check, const struct event *event, struct error *err)
{
    uint8_t key[EVENT_KEY_SIZE], value[EVENT_VALUE_SIZE];
    bool found;
    event_encode(event, key, value);
    if (store_get(check->store, FAMILY_EDGES, view(key, sizeof key), &check->found, &found, err) != 0)
        return -1;
    if (!found || !text_equal(buffer_text(&check->found), view(value, sizeof value)))
        return damaged(err, "an edge whose event is not in the history");
    return 0;
}

static int check_pair(struct snapshot_check *check, struct text key, struct text value, struct error *err)
{
    struct event event;
    if (pair_decode(key, value, &event, err) != 0 || check_ends(check, &event, err) != 0)
        return -1;
    if (!event_is_edge(event.kind) && event.kind != INTERACTION_REMOVE)
        return damaged(err, "a pair whose newest event is neither an edge nor a removal");
    check->edges += event_is_edge(event.kind);
    return check->store == NULL ? 0 : find_event(check, &event, err);
}

static int check_counts(struct snapshot_check *check, struct text key, struct text value, struct error *err)
{
    if (key.size == HIDDEN_KEY_SIZE && key.data[0] == 'h')
        return value.size == 8 && has_user(check, bytes_get_32(key.data + 1))
                   ? 0
                   : damaged(err, "counts of a user who is not there");
    if (!text_equal(key, text_of("events")) || (value.size != COUNTS_SIZE && value.size != COUNTS_SIZE - 8))
        return damaged(err, "counts");
    check->counted = true;
    check->events = bytes_get_64(value.data);
    check->newest_event_ms = (int64_t)bytes_get_64(value.data + 8);
    return 0;
}

static int check_offset(struct text key, struct text value, struct error *err)
{
    bool fine =
        key.size > 5 && key.data[key.size - 5] == '\0' && (value.size == PLACE_SIZE || value.size == PLACE_SIZE - 8);
    return fine ? 0 : damaged(err, "the offset of a partition");
}

static int check_letter(struct text key, struct error *err)
{
    return key.size > 13 && key.data[key.size - 13] == '\0' ? 0 : damaged(err, "the place of a dead letter");
}

static int check_vector(const struct snapshot_check *check, struct text key, struct text value, struct error *err)
{
    if (key.size != VECTOR_KEY_SIZE || value.size == 0)
        return damaged(err, "the source of a vector");
    uint32_t number = bytes_get_32(key.data + 1);
    bool there = key.data[0] == 'u' ? number < check->user_count : key.data[0] == 'i' && number < check->item_count;
    return there ? 0 : damaged(err, "the source of a vector without its node");
}

int snapshot_check_record(struct snapshot_check *check, enum family family, struct text key, struct text value,
                          struct error *err)
{
    switch (family) {
    case FAMILY_META:
        return check_meta(key, value, err);
    case FAMILY_IDS:
        return check_id(check, key, value, err);
    case FAMILY_ITEMS:
    case FAMILY_USERS:
        return check_description(check, family == FAMILY_USERS, key, value, err);
    case FAMILY_EDGES:
        return check_event(check, key, value, err);
    case FAMILY_PAIRS:
        return check_pair(check, key, value, err);
    case FAMILY_COUNTS:
        return check_counts(check, key, value, err);
    case FAMILY_OFFSETS:
        return check_offset(key, value, err);
    case FAMILY_OUTBOX:
        return check_letter(key, err);
    case FAMILY_VECTORS:
        return check_vector(check, key, value, err);
    case FAMILY_DEFAULT:
    case FAMILY_COUNT:
        break;
    }
    return damaged(err, "it is in no family of ours");
}

int snapshot_check_end(const struct snapshot_check *check, struct error *err)
{
    if (!check->counted && check->event_records > 0)
        return damaged(err, "there are events and no counts");
    if (check->next_sequence > check->events || check->event_records > check->events ||
        (check->event_records > 0 && check->newest_ms > check->newest_event_ms))
        return error_set(err, ERROR_FATAL,
                         "counts and records disagree: %llu events counted, %llu there, the last is "
                         "number %llu",
                         (unsigned long long)check->events, (unsigned long long)check->event_records,
                         (unsigned long long)check->next_sequence);
    return 0;
}

void snapshot_check_free(struct snapshot_check *check)
{
    buffer_free(&check->found);
    free(check->users);
    *check = (struct snapshot_check){0};
}
