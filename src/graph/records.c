#include "graph/records.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t no_value_bits = 0x7ff8000000000000u;
static const uint32_t no_title = UINT32_MAX;

bool event_is_edge(uint8_t kind)
{
    return kind == INTERACTION_RATING || kind == INTERACTION_CLICK || kind == INTERACTION_LIKE ||
           kind == INTERACTION_DISLIKE || kind == INTERACTION_PURCHASE;
}

/* One bit pattern a value: an absent value is one NaN, and -0 is 0, so that equal events have equal keys. */
static void put_value(uint8_t out[8], double value)
{
    uint64_t bits = no_value_bits;
    double positive_zero = value + 0.0;
    if (!isnan(value))
        memcpy(&bits, &positive_zero, sizeof bits);
    bytes_put_64(out, bits);
}

static double get_value(const char *bytes)
{
    uint64_t bits = bytes_get_64(bytes);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void event_prefix(uint8_t out[EVENT_PREFIX_SIZE], char class, uint32_t user)
{
    out[0] = (uint8_t) class;
    bytes_put_32(out + 1, user);
}

void event_history_start(uint8_t out[EVENT_PREFIX_SIZE + 8], uint32_t user, int64_t before_ms)
{
    event_prefix(out, 'h', user);
    bytes_put_64(out + EVENT_PREFIX_SIZE, ~(uint64_t)(before_ms - 1));
}

void event_encode(const struct event *event, uint8_t key[EVENT_KEY_SIZE], uint8_t value[EVENT_VALUE_SIZE])
{
    event_prefix(key, event_is_edge(event->kind) ? 'h' : 'o', event->user);
    bytes_put_64(key + 5, ~(uint64_t)event->timestamp_ms);
    bytes_put_32(key + 13, event->item);
    key[17] = event->kind;
    put_value(key + 18, event->value);
    bytes_put_64(value, event->sequence);
    value[8] = (uint8_t)event->label;
}

int event_decode(struct text key, struct text value, struct event *event, struct error *err)
{
    if (key.size != EVENT_KEY_SIZE || value.size != EVENT_VALUE_SIZE)
        return error_set(err, ERROR_FATAL, "the store is damaged: an event of %zu + %zu bytes", key.size, value.size);
    *event = (struct event){
        .user = bytes_get_32(key.data + 1),
        .item = bytes_get_32(key.data + 13),
        .timestamp_ms = (int64_t)~bytes_get_64(key.data + 5),
        .sequence = bytes_get_64(value.data),
        .kind = (uint8_t)key.data[17],
        .label = (int8_t)value.data[8],
        .value = get_value(key.data + 18),
    };
    return 0;
}

void pair_key(uint8_t out[PAIR_KEY_SIZE], uint32_t user, uint32_t item)
{
    bytes_put_32(out, user);
    bytes_put_32(out + 4, item);
}

void pair_encode(const struct event *event, uint8_t value[PAIR_VALUE_SIZE])
{
    bytes_put_64(value, (uint64_t)event->timestamp_ms);
    bytes_put_64(value + 8, event->sequence);
    value[16] = event->kind;
    value[17] = (uint8_t)event->label;
    put_value(value + 18, event->value);
}

int pair_decode(struct text key, struct text value, struct event *event, struct error *err)
{
    if (key.size != PAIR_KEY_SIZE || value.size != PAIR_VALUE_SIZE)
        return error_set(err, ERROR_FATAL, "the store is damaged: a pair of %zu + %zu bytes", key.size, value.size);
    *event = (struct event){
        .user = bytes_get_32(key.data),
        .item = bytes_get_32(key.data + 4),
        .timestamp_ms = (int64_t)bytes_get_64(value.data),
        .sequence = bytes_get_64(value.data + 8),
        .kind = (uint8_t)value.data[16],
        .label = (int8_t)value.data[17],
        .value = get_value(value.data + 18),
    };
    return 0;
}

void hidden_key(uint8_t out[HIDDEN_KEY_SIZE], uint32_t user)
{
    event_prefix(out, 'h', user);
}

void vector_key(uint8_t out[VECTOR_KEY_SIZE], char kind, uint32_t node)
{
    event_prefix(out, kind, node);
}

void partition_key(struct buffer *out, const char *topic, int32_t partition)
{
    uint8_t number[4];
    bytes_put_32(number, (uint32_t)partition);
    buffer_append(out, topic, strlen(topic) + 1);
    buffer_append(out, number, sizeof number);
}

static void append_size(struct buffer *out, uint32_t size)
{
    uint8_t bytes[4];
    bytes_put_32(bytes, size);
    buffer_append(out, bytes, sizeof bytes);
}

static void append_sized(struct buffer *out, struct text text)
{
    append_size(out, (uint32_t)text.size);
    buffer_append_text(out, text);
}

void description_encode(struct buffer *out, struct text title, const struct attribute *attributes, size_t count)
{
    if (title.data == NULL)
        append_size(out, no_title);
    else
        append_sized(out, title);
    append_size(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        append_sized(out, attributes[i].name);
        append_sized(out, attributes[i].value);
    }
}

static bool take_size(struct text *rest, uint32_t *size)
{
    if (rest->size < 4)
        return false;
    *size = bytes_get_32(rest->data);
    *rest = (struct text){rest->data + 4, rest->size - 4};
    return true;
}

static bool take_sized(struct text *rest, struct text *text)
{
    uint32_t size;
    if (!take_size(rest, &size) || size > rest->size)
        return false;
    *text = (struct text){rest->data, size};
    *rest = (struct text){rest->data + size, rest->size - size};
    return true;
}

static bool take_title(struct text *rest, struct text *title)
{
    *title = (struct text){0};
    if (rest->size >= 4 && bytes_get_32(rest->data) == no_title) {
        *rest = (struct text){rest->data + 4, rest->size - 4};
        return true;
    }
    return take_sized(rest, title);
}

static bool take_attributes(struct text *rest, struct attribute *attributes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!take_sized(rest, &attributes[i].name) || !take_sized(rest, &attributes[i].value))
            return false;
    return rest->size == 0;
}

struct description *description_decode(struct text record, struct error *err)
{
    struct description *description = NULL;
    struct text title, rest = record;
    uint32_t count;
    if (!take_title(&rest, &title) || !take_size(&rest, &count) || count > rest.size / 8)
        goto damaged;

    size_t head = sizeof *description + count * sizeof(struct attribute);
    description = malloc(head + record.size);
    if (description == NULL) {
        error_set(err, ERROR_FATAL, "out of memory while reading a description");
        return NULL;
    }
    description->attributes = (struct attribute *)(description + 1);
    description->attribute_count = count;
    char *copy = (char *)description + head;
    memcpy(copy, record.data, record.size);

    rest = (struct text){copy, record.size};
    uint32_t count_again;
    if (take_title(&rest, &description->title) && take_size(&rest, &count_again) &&
        take_attributes(&rest, description->attributes, count))
        return description;
damaged:
    free(description);
    error_set(err, ERROR_FATAL, "the store is damaged: a description cannot be read");
    return NULL;
}
